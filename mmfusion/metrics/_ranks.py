"""Counting, for many ranges of an array at once, the elements below a bound."""

from __future__ import annotations

import numpy as np

__all__ = ["count_below"]


def count_below(
    rank: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    bound: np.ndarray,
    weight: np.ndarray | None = None,
) -> np.ndarray:
    """Return ``sum(weight[k] for k in range(start, stop) if rank[k] < bound)`` of each query.

    A wavelet matrix (Claude, Navarro, Ordonez 2015, Information Systems 47:15-32): level by level,
    from the highest bit of the ranks down, the array is split into zeros before ones, and the
    ranges follow. All queries go down together, so a level is a handful of array operations.

    Parameters
    ----------
    rank : ndarray of integer, shape (n,)
        Not negative.
    start, stop : ndarray of integer, shape (m,)
        Ranges within [0, n].
    bound : ndarray of integer, shape (m,)
    weight : ndarray of float64, shape (n,), optional
        Ones by default.

    Returns
    -------
    ndarray of int64 (float64 with weights), shape (m,)

    Notes
    -----
    O((n + m) log(rank.max())) time, O(n + m) memory.
    """
    rank, bound = rank.astype(np.int32), bound.astype(np.int32)
    start, stop = start.astype(np.intp), stop.astype(np.intp)
    n = len(rank)
    total = np.zeros(len(bound), dtype=np.int64 if weight is None else np.float64)
    zeros_before = np.zeros(n + 1, dtype=np.intp)
    largest = max(int(rank.max(initial=0)), int(bound.max(initial=0)))
    for bit in range(largest.bit_length() - 1, -1, -1):
        is_one = (rank >> bit & 1).astype(bool)
        np.cumsum(~is_one, out=zeros_before[1:])
        n_zeros = zeros_before[-1]
        low, high = zeros_before[start], zeros_before[stop]
        goes_up = (bound >> bit & 1).astype(bool)
        if weight is None:
            total += np.where(goes_up, high - low, 0)
        else:
            mass = np.concatenate([[0.0], np.cumsum(np.where(is_one, 0.0, weight))])
            total += np.where(goes_up, mass[stop] - mass[start], 0.0)
            weight = np.concatenate([weight[~is_one], weight[is_one]])
        start = np.where(goes_up, n_zeros + start - low, low)
        stop = np.where(goes_up, n_zeros + stop - high, high)
        rank = np.concatenate([rank[~is_one], rank[is_one]])
    return total
