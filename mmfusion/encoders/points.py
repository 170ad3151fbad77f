"""Encoders of point clouds: augmentation, a network of the points, a projection."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmfusion.encoders.base import Encoder
from mmfusion.encoders.lone import lone_row
from mmfusion.encoders.own import output_width

__all__ = ["PointsEncoder"]

#: Points of the clouds that a network is tried on.
_TRIED = 8


class PointsEncoder(Encoder):
    """Any backbone that maps points (batch, p, d) and a mask (batch, p) or None to (batch, f).

    Parameters
    ----------
    backbone : torch.nn.Module
    n_channels : int
        Numbers of a point, `d`; the first three (or all, where there are fewer) are coordinates.
    width : int or None
        Width of the embedding; None: features are the embedding, with no projection.
    rotate : bool
        Turn each cloud by a random rotation in training, uniform over all.
    jitter : float
        Standard deviation of noise on the coordinates in training.
    dropout : float
        After the projection.

    Raises
    ------
    TypeError, ValueError
        If the backbone cannot read such clouds or returns something else than (batch, f).
    """

    def __init__(
        self,
        backbone: nn.Module,
        n_channels: int,
        width: int | None,
        *,
        rotate: bool = False,
        jitter: float = 0.0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.feature_width = output_width(backbone, (_TRIED, n_channels))
        self.backbone = backbone
        self.n_coordinates = min(n_channels, 3)
        self.rotate = rotate
        self.jitter = jitter
        self.width = self.feature_width if width is None else width
        self.projection = nn.Sequential()
        if width is not None:
            self.projection.extend([nn.Linear(self.feature_width, width), nn.SiLU()])
            if dropout:
                self.projection.append(nn.Dropout(dropout))

    def features(self, points: Tensor, there: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """Return the features of the rows.

        Parameters
        ----------
        points : Tensor, shape (batch, p, d)
        there : Tensor of bool, shape (batch, p), optional
            Which points belong to the cloud; by default all.

        Returns
        -------
        Tensor, shape (batch, feature_width)
        """
        if self.training and (self.rotate or self.jitter):
            points = self._augmented(points)
        with lone_row(self.backbone, points):
            return self.backbone(points, there)

    def _augmented(self, points: Tensor) -> Tensor:
        coordinates, rest = points.split(
            [self.n_coordinates, points.shape[2] - self.n_coordinates], dim=2
        )
        if self.rotate:
            coordinates = coordinates @ _random_rotations(len(points), coordinates)
        if self.jitter:
            coordinates = coordinates + self.jitter * torch.randn_like(coordinates)
        return torch.cat([coordinates, rest], dim=2)

    def project(self, features: Tensor) -> Tensor:
        return self.projection(features)


def _random_rotations(n: int, like: Tensor) -> Tensor:
    """Return rotations (n, c, c), uniform: Q of a normal matrix's QR, signs fixed (Mezzadri 2007).

    A reflection among them loses it by the sign of its first column.
    """
    c = like.shape[2]
    normal = torch.randn(n, c, c, device=like.device, dtype=like.dtype)
    q, r = torch.linalg.qr(normal)
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None, :]
    flip = torch.ones_like(q[:, 0])
    flip[:, 0] = torch.linalg.det(q).sign()
    return q * flip[:, None, :]
