"""Median, mean and spread of each column of a table with missing values."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Moments", "column_moments"]

#: Columns sorted at a time: bounds the copies that a wide table costs.
_CHUNK = 256


class Moments(NamedTuple):
    """Statistics of each column, float64, NaN for a column without a value."""

    median: NDArray[np.float64]
    mean: NDArray[np.float64]
    sd: NDArray[np.float64]  #: with n (not n - 1) in the denominator; exactly 0 if constant
    constant: NDArray[np.bool_]  #: one distinct value, or none


def column_moments(values: NDArray[Any], tail: float = 0.0) -> Moments:
    """Return the moments of each column over its values that are not NaN.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_columns)
    tail : float in [0, 0.5)
        The share of values at each end that mean and sd take as no further out than the first
        value inside it: winsorised moments (Tukey, 1962). Rounded up, so that one outlier is
        caught in any number of rows. A column whose values are all one but for the tails (a rare
        mutation) has nothing left to measure then: its plain moments are returned.

    Returns
    -------
    Moments
    """
    n_rows, n_columns = values.shape
    out = np.full((3, n_columns), np.nan)
    constant = np.ones(n_columns, dtype=bool)
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
        degenerate = low >= high
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
        columns = start + np.flatnonzero(some)
        out[0, columns] = median
        out[1, columns] = low + shift
        out[2, columns] = np.sqrt(np.einsum("ij,ij->i", moved, moved) / counts)
        constant[columns] = lowest == highest
    return Moments(out[0], out[1], out[2], constant)
