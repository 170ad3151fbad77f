"""What each column of a formula moves the predictors by, from a baseline to the row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from math import factorial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

__all__ = ["FormulaPath", "formula_path", "powerset", "shapley_weight"]


class FormulaPath(NamedTuple):
    """The structured predictor, from the baseline on.

    Attributes
    ----------
    columns : list of str
        J columns of the table.
    moves : ndarray, shape (n, J, K)
        What each moves the predictors of a row by.
    start : ndarray, shape (n, K)
        The predictors at the baseline.
    """

    columns: list[str]
    moves: np.ndarray
    start: np.ndarray


def powerset(names: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Return all subsets, the smaller first."""
    chosen = list(names)
    return [one for size in range(len(chosen) + 1) for one in combinations(chosen, size)]


def shapley_weight(size: int, n: int) -> float:
    """Return the share of orders in which one player follows just these `size` others of n."""
    return factorial(size) * factorial(n - size - 1) / factorial(n)


def formula_path(
    structured: Any, table: pd.DataFrame, baseline: Mapping[str, Any], *, alone: bool
) -> FormulaPath:
    """Return what each column of the formula moves the predictors by.

    A term of one column is that column's. What a term of several makes of their change is shared
    among them by their Shapley values: the mean, over the orders in which the columns leave the
    baseline, of what each adds.

    Parameters
    ----------
    structured : Structured
    table : DataFrame
    baseline : mapping of str to number or level
        A cell for each column of the formula.
    alone : bool
        Whether the rows are predicted by the formula alone.
    """
    layout, columns = structured.layout, list(structured.columns)
    coef = structured.classical if alone else structured.moves
    designs: dict[frozenset[str], Any] = {}

    def design(moved: Iterable[str]) -> Any:
        """Return the design in which some columns have left the baseline."""
        key = frozenset(moved)
        if key not in designs:
            mixed = table[columns].copy()
            for name in columns:
                if name not in key:
                    mixed[name] = pd.Series([baseline[name]] * len(table), index=table.index)
            designs[key] = layout.transform(mixed)
        return designs[key]

    groups: dict[tuple[str, ...], np.ndarray] = {}
    for term in layout.terms:
        names = tuple(name for name in columns if name in term.variables)
        mask = groups.setdefault(names, np.zeros(len(coef), dtype=bool))
        mask[term.columns] = True
    groups.pop((), None)
    first = design(())
    moves = np.zeros((len(table), len(columns), first.n_predictors))

    def share(names: tuple[str, ...], values: dict[tuple[str, ...], np.ndarray]) -> None:
        for name in names:
            for others in powerset(other for other in names if other != name):
                both = tuple(one for one in names if one in (*others, name))
                gain = values[both] - values[others]
                moves[:, columns.index(name)] += shapley_weight(len(others), len(names)) * gain

    for names, mask in groups.items():
        own = np.where(mask, coef, 0.0)
        share(names, {some: design(some).linear.predict(own) for some in powerset(names)})
    known = tuple(name for name in columns if name in layout.offset_columns)
    if known:
        share(known, {some: design(some).known for some in powerset(known)})
    nothing = np.zeros((len(table), first.n_predictors))
    start = structured.predictor_alone(first) if alone else structured.predictor(first, nothing)
    return FormulaPath(columns, moves, start)
