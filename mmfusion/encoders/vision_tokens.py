"""Images as tokens: one a place of the feature map, or a patch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmfusion.encoders.base import TokenEncoder
from mmfusion.encoders.own import run_on_zeros
from mmfusion.encoders.vision import VisionEncoder

__all__ = ["VisionTokenEncoder", "token_shape"]


def token_shape(backbone: Any, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return how many tokens a backbone makes of an image, and how wide; None if it makes none.

    Parameters
    ----------
    backbone : torch.nn.Module
        Makes some if its ``forward_features`` returns feature maps (k, channels, height, width)
        or tokens (k, length, channels), as timm's models do.
    shape : (channels, height, width)
        Of an image.
    """
    if not hasattr(backbone, "forward_features"):
        return None
    found = run_on_zeros(backbone, shape, backbone.forward_features)
    if not isinstance(found, Tensor) or found.ndim not in (3, 4):
        return None
    _, length, width = _as_tokens(backbone, found).shape
    return length, width


def _as_tokens(backbone: Any, maps: Tensor) -> Tensor:
    if maps.ndim == 3:
        return maps
    if str(getattr(backbone, "output_fmt", "NCHW")).endswith("NHWC"):  # timm's Swin and others
        return maps.flatten(1, 2)
    return maps.flatten(2).transpose(1, 2)


class VisionTokenEncoder(TokenEncoder, VisionEncoder):
    """A trained backbone's features before they are pooled, projected, each with its place.

    The images of a row are one set of tokens.

    Parameters
    ----------
    backbone, n_channels, size, width, **options
        See `VisionEncoder`.

    Raises
    ------
    ValueError
        If the backbone makes no tokens (see `token_shape`).
    """

    def __init__(
        self,
        backbone: nn.Module,
        n_channels: int,
        size: tuple[int, int],
        width: int,
        **options: Any,
    ) -> None:
        super().__init__(backbone, n_channels, size, width, **options)
        shape = token_shape(backbone, (n_channels, *size))
        if shape is None:
            raise ValueError(f"The encoder {type(backbone).__name__} makes no tokens of an image.")
        length, n_features = shape
        self._make_projection(n_features)
        self.position = nn.Parameter(torch.randn(length, width) * 0.02)
        self.feature_width = width

    def _backbone_output(self, images: Tensor) -> Tensor:
        return _as_tokens(self.backbone, self.backbone.forward_features(images))  # type: ignore[operator]

    def features(self, pixels: Tensor, owner: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return self.pool(*self.tokens(pixels, owner))

    def tokens(  # type: ignore[override]
        self, pixels: Tensor, owner: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the tokens of the rows' images; see `VisionEncoder.features` for the inputs."""
        assert self.projection is not None
        values = self.projection(self._run(self._normalise(pixels))) + self.position
        if owner is None:
            return values, None
        counts = torch.bincount(owner)
        within = torch.arange(len(owner), device=owner.device) - (counts.cumsum(0) - counts)[owner]
        shape = (len(counts), int(counts.max()), len(self.position))
        bags = values.new_zeros(*shape, values.shape[2])
        bags[owner, within] = values
        there = torch.zeros(shape, dtype=torch.bool, device=owner.device)
        there[owner, within] = True
        return bags.flatten(1, 2), there.flatten(1)

    def project(self, features: Tensor) -> Tensor:
        return features

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [*super().parameter_groups(), {"params": [self.position]}]
