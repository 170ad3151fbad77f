"""Points: a point cloud of each row, such as the surface of an organ."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from mmfusion.inputs.columns import column_positions
from mmfusion.inputs.parameters import check_choice, check_hidden, is_count, is_number
from mmfusion.inputs.rounding import nothing_but_rounding
from mmfusion.inputs.table import require_frame
from mmfusion.modalities._clouds import Cloud, read_cloud
from mmfusion.modalities._moments import column_moments
from mmfusion.modalities.base import Modality, ModalityData

__all__ = ["Points", "PointsData"]

#: Columns of a cloud that are coordinates; those after them are features of the points.
_COORDINATES = 3


class PointsData(ModalityData):
    """A cloud of points of each row, padded to the largest.

    Parameters
    ----------
    points : Tensor of float32, shape (n_rows, p, d)
        What stands behind a row's points is never read.
    counts : Tensor of int64, shape (n_rows,)
        Points of each row; 0 where there is no cloud.
    """

    def __init__(self, points: Tensor, counts: Tensor) -> None:
        self.points = points
        self.counts = counts
        self.present = counts > 0
        self._full = bool((~self.present | (counts == points.shape[1])).all())

    def inputs(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return points (k, p, d) and, where clouds differ in size, which are there (k, p)."""
        if self._full:
            return (self.points[rows],)
        places = torch.arange(self.points.shape[1], device=rows.device)
        return self.points[rows], places < self.counts[rows, None]

    def take(self, rows: Tensor) -> Self:
        return type(self)(self.points[rows], self.counts[rows])

    def to(self, device: torch.device) -> Self:
        return type(self)(self.points.to(device), self.counts.to(device))


@dataclass(eq=False, repr=False)
class Points(Modality):
    """A point cloud of each row: an organ's surface, a scanned tree, a molecule.

    A cell holds an array or tensor of shape (k, d), a point a row, or the path of a ``.npy`` file,
    or a ``.csv`` file (with or without a line of names), that holds one. Clouds may differ in `k`,
    not in `d`, which is at least 2. The first three columns are coordinates; columns after them
    are features of the points (a normal vector, a thickness) and are standardised over the points
    of the training rows. ``None``, NaN and empty text mean that there is no cloud.

    Parameters
    ----------
    column : label
    n_points : int, default=1024
        Larger clouds are cut to so many points, drawn at random, the same ones each time and
        whatever their order.
    normalize : {"center", "unit", None}, default="center"
        What of position and size is taken off each cloud. ``"center"``: its centroid is moved to
        0, and one scale makes the root mean square distance of the training rows' points from
        their centroids 1: shape and size are kept. ``"unit"``: each cloud is scaled to a root mean
        square distance of 1 by itself: shape alone. None: all clouds are moved and scaled as one
        by what the training rows have on average.
    encoder : "pointnet" or callable, default="pointnet"
        The network that reads it, see `mmfusion.encoders.PointNet`; or a function from `d` to a
        ``torch.nn.Module`` that maps points (batch, p, d) and, by default None, a mask (batch, p),
        False behind a cloud's points, to (batch, width). This and the parameters below are only
        kept here.
    hidden : tuple of int, default=(64, 64, 128)
        Widths of PointNet's layers, shared by the points; the last is that of the pooled cloud.
    input_transform : bool, default=True
        Whether PointNet first turns the coordinates by a matrix that it predicts from the cloud.
    rotate : bool, default=False
        Turn each cloud at random in training (features of points are left as they are). For
        clouds whose orientation means nothing; registered surfaces need none.
    jitter : float, default=0.0
        Standard deviation of noise on the coordinates in training, after normalisation.
    dropout : float, default=0.0
        After the projection to the embedding.
    root : path, optional
        The folder that relative paths start from; the working directory by default.

    Attributes
    ----------
    columns_ : list
    n_channels_ : int
        Numbers of a point, `d`.
    center_ : ndarray of float64, shape (min(d, 3),)
    scale_ : float
        What coordinates are divided by, where clouds are not scaled each.
    feature_mean_, feature_sd_ : ndarray of float64, shape (d - min(d, 3),)

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from mmfusion.modalities import Points
    >>> square = np.array([[0.0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]])
    >>> patients = pd.DataFrame({"organ": [square, None, square[:2] + 7]})
    >>> data = Points("organ").fit(patients).transform(patients)
    >>> data.points.shape, data.counts
    (torch.Size([3, 4, 3]), tensor([4, 0, 2]))
    """

    kind: ClassVar[str] = "points"

    column: Hashable
    _: KW_ONLY
    n_points: int = 1024
    normalize: str | None = "center"
    encoder: Any = "pointnet"
    hidden: Sequence[int] = (64, 64, 128)
    input_transform: bool = True
    rotate: bool = False
    jitter: float = 0.0
    dropout: float = 0.0
    root: str | Path | None = None

    def fit(self, frame: pd.DataFrame) -> Self:
        """Learn centre and scale from the training rows.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)

        Returns
        -------
        Points

        Raises
        ------
        ValueError
            If the column is not in the table, a cell holds no cloud (the row is named), clouds
            differ in their columns, no row has a cloud, or a parameter is not as it must be.
        """
        require_frame(frame, "A modality")
        self._check_parameters()
        clouds = self._read(frame, None)
        there = [cloud for cloud in clouds if cloud is not None]
        if not there:
            raise ValueError(
                f"Points needs a training row with a cloud: column {self.column!r} is missing in "
                f"all of the {len(frame)} rows."
            )
        self.columns_ = [self.column]
        self.n_channels_ = there[0].shape[1]
        coordinates = [cloud[:, :_COORDINATES] for cloud in there]
        self.center_ = np.mean([points.mean(axis=0) for points in coordinates], axis=0)
        mean_square = np.mean([_radius(self._moved(points)) ** 2 for points in coordinates])
        size = max(float(np.abs(points).max()) for points in coordinates)
        self.scale_ = _divisor(float(np.sqrt(mean_square)), size)
        moments = column_moments(np.concatenate([cloud[:, _COORDINATES:] for cloud in there]))
        self.feature_mean_ = moments.mean
        self.feature_sd_ = np.where(moments.constant, np.inf, moments.sd)
        return self

    def transform(self, frame: pd.DataFrame) -> PointsData:
        """Return the clouds of the rows, normalised, cut and padded.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)

        Returns
        -------
        PointsData

        Raises
        ------
        ValueError
            If the column is not in the table, a cell holds no cloud, or one with other columns
            than in the training rows (the row is named).
        """
        check_is_fitted(self, "columns_")
        require_frame(frame, "A modality")
        clouds = [
            None if cloud is None else _cut(self._normalized(cloud), int(self.n_points))
            for cloud in self._read(frame, self.n_channels_)
        ]
        counts = np.array([0 if cloud is None else len(cloud) for cloud in clouds], dtype=np.int64)
        most = int(counts.max(initial=1))
        points = np.zeros((len(clouds), most, self.n_channels_), dtype=np.float32)
        for row, cloud in enumerate(clouds):
            if cloud is not None:
                _refuse_overflow(cloud, self.column, frame.index[row])
                points[row, : len(cloud)] = cloud
        return PointsData(torch.from_numpy(points), torch.from_numpy(counts))

    def _check_parameters(self) -> None:
        check_choice("normalize", self.normalize, ("center", "unit", None), "Points")
        if not is_count(self.n_points):
            raise ValueError(
                f"The n_points parameter of Points must be a positive integer. "
                f"Got {self.n_points!r}."
            )
        check_hidden("Points", self.hidden, least=1)
        if not is_number(self.jitter) or not 0 <= float(self.jitter) < float("inf"):
            raise ValueError(
                f"The jitter parameter of Points must be a number, 0 or more. Got {self.jitter!r}."
            )

    def _read(self, frame: pd.DataFrame, n_channels: int | None) -> list[Cloud | None]:
        """Return the cloud of each row, of `n_channels` columns or as many as the first has."""
        position = column_positions(frame, [self.column])[0]
        root = Path() if self.root is None else Path(self.root)
        clouds: list[Cloud | None] = []
        first = "the training rows"
        for row, cell in zip(frame.index, frame.iloc[:, position].to_numpy(object), strict=True):
            try:
                cloud = read_cloud(root / cell if _is_path(cell) else cell)
            except Exception as error:  # broken files raise many types
                raise ValueError(f"Column {self.column!r}, row {row!r}: {error}.") from error
            clouds.append(cloud)
            if cloud is None:
                continue
            if n_channels is None:
                n_channels, first = cloud.shape[1], f"row {row!r}"
            if cloud.shape[1] != n_channels:
                raise ValueError(
                    f"Column {self.column!r}, row {row!r}: all clouds must have the same columns. "
                    f"Got {cloud.shape[1]}, and {n_channels} in {first}."
                )
        return clouds

    def _moved(self, points: Cloud) -> Cloud:
        return points - (self.center_ if self.normalize is None else points.mean(axis=0))

    def _normalized(self, cloud: Cloud) -> Cloud:
        points = self._moved(cloud[:, :_COORDINATES])
        scale = self.scale_
        if self.normalize == "unit":
            scale = _divisor(_radius(points), float(np.abs(cloud[:, :_COORDINATES]).max()))
        features = (cloud[:, _COORDINATES:] - self.feature_mean_) / self.feature_sd_
        return np.concatenate([points / scale, features], axis=1)


def _is_path(cell: Any) -> bool:
    return isinstance(cell, os.PathLike) or (isinstance(cell, str) and bool(cell.strip()))


def _radius(points: NDArray[np.float64]) -> float:
    """Return the root mean square distance from the origin."""
    return float(np.sqrt(np.square(points).sum(axis=1).mean()))


def _refuse_overflow(cloud: Cloud, column: Hashable, row: Any) -> None:
    """Raise ValueError where float32 does not hold a normalised cloud."""
    largest = float(np.abs(cloud).max())
    if not largest <= float(np.finfo(np.float32).max):
        raise ValueError(
            f"Column {column!r}, row {row!r}: the cloud overflows float32 once it is scaled as the "
            f"training rows. Got {largest:.3g}."
        )


def _divisor(radius: float, size: float) -> float:
    """Return what coordinates of that size are divided by: 1 where each cloud is one point."""
    return 1.0 if nothing_but_rounding(radius, size) else radius


def _cut(cloud: Cloud, n_points: int) -> Cloud:
    """Return `n_points` points of a larger cloud.

    Drawn at random and not evenly, so that regular grids leave no pattern, from the points in
    lexical order, so that the order in which they came does not matter.
    """
    if len(cloud) <= n_points:
        return cloud
    chosen = np.random.default_rng(0).choice(len(cloud), n_points, replace=False)
    return cloud[np.lexsort(cloud.T[::-1])[np.sort(chosen)]]
