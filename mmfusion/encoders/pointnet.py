"""PointNet: layers shared by the points of a cloud, and the largest value over them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["PointNet"]


class PointNet(nn.Module):
    r"""A cloud of points -> one vector, whatever the points' order and number.

    .. math:: f(\{x_1, \dots, x_k\}) = \max_i h(A x_i)

    with dense layers h shared by the points, the largest value of each feature over them, and a
    matrix A predicted from the cloud by a small network of the same make (Qi, Su, Mo & Guibas 2017,
    CVPR, section 4.2). Layer normalisation of each point and not batch normalisation: a row's
    output does not depend on the rest of its batch. Points repeated change nothing.

    Parameters
    ----------
    n_channels : int
        Numbers of a point; the first three (or all, where there are fewer) are coordinates.
    hidden : sequence of int
        Widths of the layers h: linear, layer normalisation, SiLU.
    input_transform : bool
        Whether there is a matrix A. It starts as the identity.

    Examples
    --------
    >>> import torch
    >>> PointNet(3)(torch.randn(5, 100, 3)).shape
    torch.Size([5, 128])
    """

    def __init__(
        self, n_channels: int, hidden: Sequence[int] = (64, 64, 128), input_transform: bool = True
    ) -> None:
        super().__init__()
        self.transform = _InputTransform(min(n_channels, 3)) if input_transform else None
        self.layers = _shared_layers(n_channels, hidden)

    def forward(self, points: Tensor, there: Tensor | None = None) -> Tensor:
        """Return the vector of each cloud.

        Parameters
        ----------
        points : Tensor, shape (batch, p, n_channels)
        there : Tensor of bool, shape (batch, p), optional
            Which points belong to the cloud, one of each at least; by default all.

        Returns
        -------
        Tensor, shape (batch, hidden[-1])
        """
        if self.transform is not None:
            points = self.transform(points, there)
        return _largest(self.layers(points), there)


class _InputTransform(nn.Module):
    """Coordinates times a matrix predicted from the cloud; the identity at the start."""

    def __init__(self, n_coordinates: int) -> None:
        super().__init__()
        self.n_coordinates = n_coordinates
        self.layers = _shared_layers(n_coordinates, (32, 64))
        last = nn.Linear(32, n_coordinates**2)
        self.matrix = nn.Sequential(nn.Linear(64, 32), nn.SiLU(), last)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, points: Tensor, there: Tensor | None) -> Tensor:
        c = self.n_coordinates
        coordinates = points[:, :, :c]
        change = self.matrix(_largest(self.layers(coordinates), there)).view(-1, c, c)
        turned = coordinates + coordinates @ change.to(coordinates.dtype)
        return torch.cat([turned, points[:, :, c:]], dim=2)


def _shared_layers(n_inputs: int, widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(n_inputs, width), nn.LayerNorm(width), nn.SiLU()]
        n_inputs = width
    return nn.Sequential(*layers)


def _largest(features: Tensor, there: Tensor | None) -> Tensor:
    """Return the largest value of each feature over the points that are there, (batch, width)."""
    if there is not None:
        features = features.masked_fill(~there[:, :, None], -torch.inf)
    return features.amax(dim=1)
