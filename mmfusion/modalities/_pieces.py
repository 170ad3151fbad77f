"""Numbers in pieces: columns in which a line is a piecewise linear curve of the number."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["in_pieces", "piece_edges", "piece_labels"]


def piece_edges(
    values: NDArray[np.float64], n_pieces: NDArray[np.int64]
) -> list[NDArray[np.float64]]:
    """Return the ends of each column's pieces: its distinct quantiles at equal steps.

    Parameters
    ----------
    values : ndarray of float64, shape (n, p)
        NaN where missing.
    n_pieces : ndarray of int, shape (p,)
        1 leaves a column as it is.

    Returns
    -------
    list of p ndarrays of float64
        Ascending; empty of a column that is not cut, since it has fewer than three such quantiles.

    Examples
    --------
    >>> piece_edges(np.array([[1.0, 0.0], [2.0, 1.0], [4.0, 1.0]]), np.array([2, 2]))
    [array([1., 2., 4.]), array([], dtype=float64)]
    """
    edges = []
    for column, n in zip(values.T, n_pieces, strict=True):
        ends = np.zeros(0)
        if n > 1:
            there = column[~np.isnan(column)]
            ends = np.unique(np.quantile(there, np.linspace(0, 1, n + 1)))
        edges.append(ends if len(ends) > 2 else np.zeros(0))
    return edges


def in_pieces(
    values: NDArray[np.float64], edges: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return a column a piece: 0 below it, 1 above it, and a line from 0 to 1 within.

    Equation 1 of Gorishniy, Rubachev & Babenko (2022), but level beyond the first and the last
    edge, so that no number is far from those of the training rows.

    Parameters
    ----------
    values : ndarray of float64, shape (n, p)
        Without NaN.
    edges : sequence of p ndarrays
        As of `piece_edges`; columns that are not cut are returned as they are.

    Examples
    --------
    >>> in_pieces(np.array([[1.0], [3.0], [9.0]]), [np.array([1.0, 2.0, 4.0])])
    array([[0. , 0. ],
           [1. , 0.5],
           [1. , 1. ]])
    """
    if not any(map(len, edges)):
        return values
    columns = []
    for column, ends in zip(values.T[..., None], edges, strict=True):
        cut = len(ends) > 0
        columns.append(np.clip((column - ends[:-1]) / np.diff(ends), 0, 1) if cut else column)
    return np.hstack(columns)


def piece_labels(columns: Sequence[Hashable], edges: Sequence[NDArray[np.float64]]) -> list[str]:
    """Return names of what `in_pieces` returns.

    Examples
    --------
    >>> piece_labels(["age", "sex"], [np.array([40.0, 55.0, 81.0]), np.zeros(0)])
    ['age 40 to 55', 'age 55 to 81', 'sex']
    """
    names: list[str] = []
    for label, edge in zip(columns, edges, strict=True):
        pieces = [f"{label} {low:.6g} to {high:.6g}" for low, high in pairwise(edge)]
        names += pieces or [str(label)]
    return names
