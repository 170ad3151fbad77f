"""Median, mean and spread of each column of a table with missing values."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmfusion.inputs.rounding import rounding_of

__all__ = ["Moments", "column_moments"]

#: Columns sorted at a time: bounds the copies that a wide table costs.
_CHUNK = 256


class Moments(NamedTuple):
    """Statistics of each column, float64, NaN for a column without a value."""

    median: NDArray[np.float64]
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]  #: with n (not n - 1) in the denominator; 0 or rounding if constant
    constant: NDArray[np.bool_]  #: one value up to rounding, or none


def column_moments(
    values: NDArray[Any], tail: float = 0.0, rounding: ArrayLike | None = None
) -> Moments:
    """Return the moments of each column over its values that are not NaN.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
    tail : float in [0, 0.5)
        The share of values at each end that mean and sd take as no further out than the first
        value inside it: winsorised moments (Tukey, 1962). Rounded up, so that one outlier is
        caught in any number of rows. A column whose values are all one but for the tails (a rare
        mutation) has nothing left to measure then: its plain moments are returned.
    rounding : float or array-like of shape (n_columns,), optional
        A column whose range is at most this share of its largest size is constant; by default
        what the dtype of `values` says (`mmfusion.inputs.rounding`).

    Returns
    -------
    Moments
    """
    n_rows, n_columns = values.shape
    out = np.full((3, n_columns), np.nan)
    constant = np.ones(n_columns, dtype=bool)
    share = np.broadcast_to(rounding_of(values.dtype) if rounding is None else rounding, n_columns)
    for start in range(0, n_columns if n_rows else 0, _CHUNK):
        block = np.sort(values[:, start : start + _CHUNK].T, axis=1)  # NaN last
        counts = n_rows - np.isnan(block).sum(axis=1)
        some = counts > 0
        if not some.any():
            continue
        block, counts = block[some].astype(np.float64), counts[some]
        pick = np.arange(len(block))
        median = (block[pick, (counts - 1) // 2] + block[pick, counts // 2]) / 2
        lowest, highest = block[:, 0].copy(), block[pick, counts - 1]
        cut = np.ceil(tail * (counts - 1)).astype(int)
        low, high = block[pick, cut], block[pick, counts - 1 - cut]
        columns = start + np.flatnonzero(some)
        size = share[columns] * np.maximum(np.abs(lowest), np.abs(highest))
        degenerate = high - low <= share[columns] * np.maximum(np.abs(low), np.abs(high))
        low, high = np.where(degenerate, lowest, low), np.where(degenerate, highest, high)
        # Sums start from a value of the column itself: exact for constant columns, and no
        # cancellation where the mean is large beside the spread.
        moved = np.subtract(block, low[:, None], out=block)
        np.clip(moved, 0.0, (high - low)[:, None], out=moved)
        beyond = np.arange(n_rows) >= counts[:, None] if counts.min() < n_rows else None
        if beyond is not None:
            moved[beyond] = 0.0
        shift = moved.sum(axis=1) / counts
        moved -= shift[:, None]
        if beyond is not None:
            moved[beyond] = 0.0
        out[0, columns] = median
        out[1, columns] = low + shift
        out[2, columns] = np.sqrt(np.einsum("ij,ij->i", moved, moved) / counts)
        # A spread that no number can hold (its square is 0) divides nothing either.
        constant[columns] = (highest - lowest <= size) | ~(out[2, columns] > 0)
    return Moments(out[0], out[1], out[2], constant)
