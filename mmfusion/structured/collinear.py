"""Columns of a design that are combinations of others, found and named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr, solve_triangular

from mmfusion.structured.terms import Term

__all__ = ["collinear_combinations", "find_collinear", "unpenalised_design"]

#: A column is a combination of others if what they leave of it is shorter than this part of it.
_TOLERANCE = 1e-7


def collinear_combinations(
    X: NDArray[np.float64], names: Sequence[str], *, intercept: bool = False
) -> dict[str, tuple[str, ...]]:
    """Return each column that is a combination of earlier ones, with these.

    Parameters
    ----------
    X : ndarray of float64, shape (n, p)
        Finite. Its columns are scaled first, so their units do not matter.
    names : sequence of str, length p
    intercept : bool, default=False
        Whether the model has a constant that is no column of `X`, as a Cox model has in its
        baseline hazard: a constant column is then a combination of nothing.

    Returns
    -------
    dict of str to tuple of str
        In the order of the columns; without the columns named by its keys, the design has full
        column rank.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 1.0, 2.0], [2.0, 1.0, 3.0], [4.0, 1.0, 5.0]])
    >>> collinear_combinations(X, ["dose", "one", "dose_plus_one"])
    {'dose_plus_one': ('dose', 'one')}
    >>> collinear_combinations(X, ["dose", "one", "dose_plus_one"], intercept=True)
    {'one': (), 'dose_plus_one': ('dose',)}
    """
    size = np.linalg.norm(X, axis=0)
    centred = X - X.mean(axis=0) if intercept else X
    scaled = centred / np.where(size > 0, size, 1.0)
    triangle, pivots = qr(scaled, mode="r", pivoting=True)
    if _rank(triangle) == X.shape[1]:
        return {}
    # Which columns to name: those that add nothing to the ones before them, as R's lm has it. The
    # triangle holds all that is needed of the rows.
    rows = triangle[: X.shape[1]]
    columns = np.empty_like(rows)
    columns[:, pivots] = rows
    kept: list[int] = []
    q = np.empty((len(rows), 0))
    found: dict[str, tuple[str, ...]] = {}
    for place, name in enumerate(names):
        column = columns[:, place]
        rest = column - q @ (q.T @ column)
        rest = rest - q @ (q.T @ rest)  # twice is enough (Kahan, Parlett)
        length = np.linalg.norm(rest)
        if length > _TOLERANCE:
            kept.append(place)
            q = np.column_stack([q, rest / length])
            continue
        weights = solve_triangular(q.T @ columns[:, kept], q.T @ column) if kept else np.zeros(0)
        used = [j for j, weight in zip(kept, weights, strict=True) if abs(weight) > 1e-6]
        found[name] = tuple(names[j] for j in used)
    return found


def find_collinear(
    X: NDArray[np.float64], names: Sequence[str], *, intercept: bool = False
) -> list[str]:
    """Return the columns that are combinations of earlier ones; see `collinear_combinations`.

    Examples
    --------
    >>> import numpy as np
    >>> find_collinear(np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]]), ["a", "twice_a"])
    ['twice_a']
    """
    return list(collinear_combinations(X, names, intercept=intercept))


def unpenalised_design(
    X: NDArray[np.float64], names: Sequence[str], terms: Sequence[Term]
) -> tuple[NDArray[np.float64], list[str]]:
    """Return the part of a design that no penalty reaches, for `find_collinear`.

    A penalised fit has one solution if and only if this part has full column rank: "age" beside
    "s(age)" has not, whose straight line is unpenalised.

    Parameters
    ----------
    X : ndarray of float64, shape (n, p)
    names : sequence of str, length p
    terms : sequence of Term
        Their columns tile the design. A penalty whose smoothing parameter the formula fixes at 0
        does not count.

    Returns
    -------
    design : ndarray of float64, shape (n, q)
    names : list of str, length q
        The parametric columns' own, and "s(age) (unpenalised part)".
    """
    parts, labels = [np.empty((len(X), 0))], []
    for term in terms:
        block = X[:, term.columns]
        sp = term.sp or (1.0,) * len(term.penalties)
        active = [s for s, value in zip(term.penalties, sp, strict=True) if value > 0]
        if not active:
            parts.append(block)
            labels += list(names[term.columns])
            continue
        total = sum(penalty / np.linalg.norm(penalty) for penalty in active)
        values, vectors = np.linalg.eigh(total)
        null = vectors[:, values < 1e-9 * values[-1]]
        parts.append(block @ null)
        labels += [f"{term.label} (unpenalised part)"] * null.shape[1]
    return np.concatenate(parts, axis=1), labels


def _rank(triangle: NDArray[np.float64]) -> int:
    return int((np.abs(np.diag(triangle)) > _TOLERANCE).sum())
