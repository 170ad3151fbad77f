"""What a term is over the rows of a table: columns of numbers, or the indicator of a level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Block", "Dense", "Design", "Indicator", "RowFactor"]


@dataclass(frozen=True, eq=False)
class Dense:
    """Columns of numbers.

    Attributes
    ----------
    values : ndarray of float64, shape (n, r)
    """

    values: NDArray[np.float64]

    def dense(self) -> NDArray[np.float64]:
        """Return the columns, shape (n, r)."""
        return self.values


@dataclass(frozen=True, eq=False)
class Indicator:
    """A column a level, 1 in the rows of that level: kept as each row's level.

    Attributes
    ----------
    codes : ndarray of int, shape (n,)
        The column that is 1; -1 for a row of zeros.
    size : int
        Number of columns.
    """

    codes: NDArray[np.intp]
    size: int

    def dense(self) -> NDArray[np.float64]:
        """Return the columns, shape (n, r)."""
        return (self.codes[:, None] == np.arange(self.size)).astype(np.float64)


RowFactor = Dense | Indicator


@dataclass(frozen=True, eq=False)
class Block:
    """A part of a design: row columns times a basis over the predictors.

    Attributes
    ----------
    rows : Dense or Indicator
        With r columns.
    basis : ndarray, shape (K, f)
    columns : ndarray of int, shape (f, r)
        The coefficient of each pair.
    """

    rows: RowFactor
    basis: NDArray[np.float64]
    columns: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Design:
    """The blocks of a design of n rows with K predictors each, and its number of coefficients."""

    n_rows: int
    n_predictors: int
    n_columns: int
    blocks: tuple[Block, ...]
