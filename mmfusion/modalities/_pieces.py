"""Numbers in pieces: columns in which a line is a piecewise linear curve of the number."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["in_pieces", "piece_edges", "piece_labels"]


def piece_edges(values: NDArray[np.float64], n_pieces: int | None) -> list[NDArray[np.float64]]:
    """Return the ends of each column's pieces: its distinct quantiles at equal steps.

    Parameters
    ----------
    values : ndarray of float64, shape (n, p)
        NaN where missing.
    n_pieces : int or None
        None cuts nothing.

    Returns
    -------
    list of p ndarrays of float64
        Ascending; empty of a column with fewer than three distinct quantiles, which is not cut.

    Examples
    --------
    >>> piece_edges(np.array([[1.0, 0.0], [2.0, 1.0], [4.0, 1.0]]), 2)
    [array([1., 2., 4.]), array([], dtype=float64)]
    """
    if n_pieces is None or not len(values):
        return [np.zeros(0)] * values.shape[1]
    steps = np.linspace(0, 1, n_pieces + 1)
    edges = [np.unique(np.quantile(column[~np.isnan(column)], steps)) for column in values.T]
    return [edge if len(edge) > 2 else np.zeros(0) for edge in edges]


def in_pieces(
    values: NDArray[np.float64],
    uncut: NDArray[np.float64],
    edges: Sequence[NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Return a column a piece: 0 below it, 1 above it, and a line from 0 to 1 within.

    Equation 1 of Gorishniy, Rubachev & Babenko (2022), but level beyond the first and the last
    edge, so that no number is far from those of the training rows.

    Parameters
    ----------
    values : ndarray of float64, shape (n, p)
        Without NaN.
    uncut : ndarray of float64, shape (n, p)
        What stands for the columns that are not cut.
    edges : sequence of p ndarrays
        As of `piece_edges`.

    Examples
    --------
    >>> numbers = np.array([[1.0], [3.0], [9.0]])
    >>> in_pieces(numbers, numbers, [np.array([1.0, 2.0, 4.0])])
    array([[0. , 0. ],
           [1. , 0.5],
           [1. , 1. ]])
    """
    if not any(map(len, edges)):
        return uncut
    columns = [
        np.clip((values[:, [j]] - edge[:-1]) / np.diff(edge), 0, 1) if len(edge) else uncut[:, [j]]
        for j, edge in enumerate(edges)
    ]
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
