"""The columns a formula reads: numbers, and factors with the levels of the training rows."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmfusion.inputs.columns import (
    column_kind,
    column_positions,
    numeric_matrix,
    warn_of_text,
)
from mmfusion.inputs.messages import shorten
from mmfusion.inputs.table import require_frame

__all__ = ["FormulaColumns", "FormulaRows", "Side", "Training", "check_table"]


@dataclass(frozen=True, eq=False)
class FormulaRows:
    """The cells of some rows that a formula needs.

    Attributes
    ----------
    index : Index
    numbers : dict of str to ndarray of float64, shape (n,)
    codes : dict of str to ndarray of int, shape (n,)
        Places in the column's levels; -1 for a level that was not in the training rows.
    unit : str
        What has a cell: a row of a table, or a predictor of the grid.
    """

    index: pd.Index
    numbers: dict[str, NDArray[np.float64]]
    codes: dict[str, NDArray[np.intp]]
    unit: str = "row"

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.index)


@dataclass(frozen=True, eq=False)
class FormulaColumns:
    """Which columns are read as numbers, and which as factors, fixed on the training rows.

    Attributes
    ----------
    numbers : tuple of str
    levels : dict of str to tuple
        The levels of each factor: in the order of its categories, or sorted.
    fixed : tuple of str
        Factors with fixed effects, for which an unseen level is an error.
    """

    numbers: tuple[str, ...]
    levels: dict[str, tuple[Hashable, ...]]
    fixed: tuple[str, ...]

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame,
        *,
        numbers: Iterable[str],
        factors: Iterable[str],
        random: Iterable[str],
        either: Iterable[str],
    ) -> Self:
        """Learn the levels of the training rows.

        Parameters
        ----------
        frame : DataFrame
        numbers, factors, random : iterables of str
            Columns that a term reads as numbers, as fixed factors, as random factors.
        either : iterable of str
            Columns whose values say whether they are numbers or factors.

        Raises
        ------
        ValueError
            If a column is not in the table, is missing in some row, holds something other than
            its term needs, or is a factor of one level.
        """
        names = dict.fromkeys([*numbers, *factors, *random, *either])
        numeric, fixed = dict.fromkeys(numbers), dict.fromkeys(factors)
        factors_named = set(fixed)
        columns = _cells(frame, list(names))
        for name in either:
            # A column of missing values alone is told as missing, not as the wrong kind.
            factor = column_kind(columns[name]) == "categorical"
            (fixed if factor else numeric)[name] = None
            if factor and name not in factors_named:
                warn_of_text(columns[name])
        factor_columns = {name: columns[name] for name in dict.fromkeys([*fixed, *random])}
        _check_missing(factor_columns)
        levels = {name: _levels(column) for name, column in factor_columns.items()}
        return cls(tuple(numeric), levels, tuple(fixed))

    def __contains__(self, name: object) -> bool:
        return name in self.numbers or name in self.levels

    def is_factor(self, name: str) -> bool:
        """Return whether a column's fixed effects are those of a factor."""
        return name in self.fixed and name not in self.numbers

    def read(self, frame: pd.DataFrame, names: Iterable[str] | None = None) -> FormulaRows:
        """Return the cells of some rows.

        Parameters
        ----------
        frame : DataFrame
        names : iterable of str, optional
            The columns to read; all by default.

        Raises
        ------
        ValueError
            If a column is not in the table, is missing in some row, is no longer numeric, or a
            factor with fixed effects holds a level that was not in the training rows.
        """
        wanted = {*self.numbers, *self.levels} if names is None else set(names)
        numeric = [name for name in self.numbers if name in wanted]
        factors = [name for name in self.levels if name in wanted]
        check_table(frame)
        column_positions(frame, list(dict.fromkeys([*numeric, *factors])))
        columns = _cells(frame, factors)
        _check_missing(columns)
        matrix = numeric_matrix(frame, numeric) if numeric else np.empty((len(frame), 0))
        holes = np.flatnonzero(np.isnan(matrix).any(axis=0))
        # As read: pandas does not call an Arrow column's NaN missing.
        _check_missing({numeric[at]: pd.Series(matrix[:, at], frame.index) for at in holes})
        return FormulaRows(
            frame.index,
            {name: matrix[:, place] for place, name in enumerate(numeric)},
            {name: self._codes(name, columns[name]) for name in factors},
        )

    def _codes(self, name: str, column: pd.Series) -> NDArray[np.intp]:
        known = self.levels[name]
        codes = pd.Index(known, dtype=object).get_indexer(pd.Index(column, dtype=object))
        unseen = column[codes < 0]
        if name in self.fixed and len(unseen):
            raise ValueError(
                f"Column {name!r} holds {shorten(unseen.iloc[:1])} in row "
                f"{shorten(unseen.index[:1])}, a level that was not in the training rows: it has "
                f"no effect to predict with. Known levels: {shorten(known, 10)}."
            )
        return codes


@dataclass(frozen=True, eq=False)
class Side:
    """What a formula reads of the table, or of the grid of a head's predictors.

    Attributes
    ----------
    columns : FormulaColumns
    rows : FormulaRows
        Of the training rows, or of the grid's points.
    """

    columns: FormulaColumns
    rows: FormulaRows

    def __contains__(self, name: object) -> bool:
        return name in self.columns


class Training(NamedTuple):
    """What the terms of a formula are fitted to; no name is on both sides.

    Attributes
    ----------
    table, grid : Side
    baseline : bool
        Whether the model has every function of the grid alone beside the formula.
    """

    table: Side
    grid: Side
    baseline: bool

    def side(self, name: str) -> Side:
        """Return the side that has a variable."""
        return self.grid if name in self.grid else self.table

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return the values of a variable, of the training rows or of the grid's points."""
        return self.side(name).rows.numbers[name]


def check_table(frame: Any) -> None:
    """Raise unless a formula can read a table."""
    require_frame(frame, "A formula")
    if len(frame) == 0:
        raise ValueError("The table must have a row at least. Got none.")


def _cells(frame: Any, names: Sequence[str]) -> dict[str, pd.Series]:
    check_table(frame)
    positions = column_positions(frame, names)
    return {name: frame.iloc[:, position] for name, position in zip(names, positions, strict=True)}


def _check_missing(columns: Mapping[str, pd.Series]) -> None:
    for name, column in columns.items():
        missing = column.index[column.isna().to_numpy(bool)]
        if len(missing):
            rows = "row" if len(missing) == 1 else "rows"
            raise ValueError(
                f"Column {name!r} of the formula is missing in {len(missing)} {rows}: "
                f"{shorten(missing)}. Structured effects are not imputed: fill the column or leave "
                "these rows out."
            )


def _levels(column: pd.Series) -> tuple[Hashable, ...]:
    """Return the levels that occur, as plain Python objects."""
    column_kind(column)  # dates and objects are told by name
    found = [v.item() if isinstance(v, np.generic) else v for v in column.unique()]
    if len(found) < 2:
        raise ValueError(
            f"Column {column.name!r} is a factor of one level in the training rows, "
            f"{shorten(found)}: it has no effect to estimate. Leave it out of the formula."
        )
    if isinstance(column.dtype, pd.CategoricalDtype):
        there = set(found)
        return tuple(level for level in column.cat.categories.tolist() if level in there)
    return tuple(sorted(found))
