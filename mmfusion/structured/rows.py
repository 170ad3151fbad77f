"""What a term is over the rows of a table: columns of numbers, or the indicator of a level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dense", "Indicator", "RowFactor"]


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
