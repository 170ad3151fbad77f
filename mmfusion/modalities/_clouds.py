"""From what a cell holds to a cloud of points."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

__all__ = ["Cloud", "read_cloud"]

Cloud: TypeAlias = NDArray[np.float64]


def read_cloud(cell: Any) -> Cloud | None:
    """Return a cloud as an array of shape (k, d), None where the cell is missing.

    Parameters
    ----------
    cell : ndarray, Tensor, Path or missing

    Raises
    ------
    TypeError
        If the cell holds something else.
    ValueError
        If it is not of shape (k, d) with k >= 1 and d >= 2, or not of finite numbers; if a file is
        neither ``.npy`` nor ``.csv``, or damaged.
    OSError
        If a file cannot be read.
    """
    if isinstance(cell, Path):
        return _checked(_from_file(cell), f"the file {str(cell)!r}")
    if isinstance(cell, torch.Tensor):
        cell = cell.detach().cpu()
        cell = cell.float() if cell.dtype == torch.bfloat16 else cell  # unknown to NumPy
        cell = cell.numpy()
    if isinstance(cell, np.ndarray):
        return _checked(cell, "the cloud")
    text = isinstance(cell, str) and not cell.strip()
    if cell is None or text or (pd.api.types.is_scalar(cell) and pd.isna(cell)):
        return None
    raise TypeError(
        "a cell of points must hold an array or a tensor of shape (k, d) or the path of a .npy or "
        f".csv file, or be missing. Got {type(cell).__name__}"
    )


def _from_file(path: Path) -> NDArray[Any]:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return np.load(path, allow_pickle=False)
    if suffix == ".csv":
        # With names in the first line or without: only the cells can tell.
        table = pd.read_csv(path, header=None, dtype=object)
        if table.iloc[:1, 0].isna().any():  # else the index would be read as x
            raise ValueError(
                f"the file {str(path)!r} must hold coordinates alone. Got a first line that begins "
                "with an empty cell, as where pandas writes the index too: to_csv(..., index=False)"
            )
        numbers = table.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64)
        return numbers[1:] if np.isnan(numbers[:1]).all() else numbers
    raise ValueError(f"points are read from .npy and .csv files. Got {str(path)!r}")


def _checked(array: NDArray[Any], what: str) -> Cloud:
    if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] < 2:
        raise ValueError(
            f"{what} must have shape (k, d), a point a row, with at least 1 point of at least 2 "
            f"numbers. Got shape {array.shape}"
        )
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{what} must hold numbers. Got {array.dtype}")
    cloud = array.astype(np.float64)
    bad = ~(np.abs(cloud) <= np.finfo(np.float32).max).all(axis=1)
    if bad.any():
        point = int(np.flatnonzero(bad)[0])
        beyond = ", beyond float32" if np.isfinite(cloud[point]).all() else ""
        raise ValueError(
            f"{what} must hold finite numbers. Got {cloud[point].tolist()} in point {point}{beyond}"
        )
    return cloud
