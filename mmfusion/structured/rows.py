"""What a block of a design has a row a row of the table: numbers, or the code of a level."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["Dense", "Indicator", "RowFactor", "weighted_products"]

Array = NDArray[np.float64]

#: Matrices of at most so many columns are multiplied in pieces of so many rows.
NARROW, PIECE = 64, 512


@dataclass(frozen=True, eq=False)
class Dense:
    """Numbers.

    Attributes
    ----------
    values : ndarray of float64, shape (n, r)
    """

    values: Array

    def __len__(self) -> int:
        return len(self.values)

    @property
    def size(self) -> int:
        """Number of columns."""
        return self.values.shape[1]

    def times(self, right: Array) -> Array:
        """Return the columns times a matrix (r, t), shape (n, t)."""
        return self.values @ right

    def sums(self, right: Array) -> Array:
        """Return the transposed columns times a matrix (n, t), shape (r, t)."""
        (n, r), t = self.values.shape, right.shape[1]
        if max(r, t) > NARROW or n < 2 * PIECE:
            return self.values.T @ right
        # Of two narrow matrices one long product takes twice as long as many short ones.
        pieces = n // PIECE
        whole = pieces * PIECE
        left = self.values[:whole].reshape(pieces, PIECE, r).transpose(0, 2, 1)
        found = (left @ right[:whole].reshape(pieces, PIECE, t)).sum(axis=0)
        return found + self.values[whole:].T @ right[whole:]

    def take(self, rows: slice | NDArray[np.intp]) -> Dense:
        """Return some rows; of a slice no copy is made."""
        return Dense(self.values[rows])

    def dense(self) -> Array:
        """Return the columns, shape (n, r)."""
        return self.values

    def nonzero(self) -> NDArray[np.bool_]:
        """Return whether a column has a value other than 0, shape (r,)."""
        return np.asarray(self.values.any(axis=0))


@dataclass(frozen=True, eq=False)
class Indicator:
    """Columns of which a row has a 1 in one, or in none.

    Attributes
    ----------
    codes : ndarray of int, shape (n,)
        The column that has the 1; -1 for none.
    size : int
        Number of columns.
    """

    codes: NDArray[np.intp]
    size: int

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def _sparse(self) -> sparse.csr_array:
        has = self.codes >= 0
        starts = np.concatenate([[0], np.cumsum(has)])
        data = np.ones(starts[-1])
        return sparse.csr_array((data, self.codes[has], starts), shape=(len(self), self.size))

    def times(self, right: Array) -> Array:
        """Return the columns times a matrix (r, t), shape (n, t)."""
        return np.vstack([right, np.zeros(right.shape[1])])[self.codes]

    def sums(self, right: Array) -> Array:
        """Return the transposed columns times a matrix (n, t), shape (r, t)."""
        return self._sparse.T @ right

    def take(self, rows: slice | NDArray[np.intp]) -> Indicator:
        """Return some rows."""
        return Indicator(self.codes[rows], self.size)

    def dense(self) -> Array:
        """Return the columns, shape (n, r)."""
        return (self.codes[:, None] == np.arange(self.size)).astype(np.float64)

    def nonzero(self) -> NDArray[np.bool_]:
        """Return whether a column has a value other than 0, shape (r,)."""
        return np.bincount(self.codes + 1, minlength=self.size + 1)[1:] > 0


RowFactor = Dense | Indicator


def weighted_products(left: RowFactor, right: RowFactor, weights: Array) -> Array:
    """Return ``left' diag(w) right`` for each column w of some weights.

    Parameters
    ----------
    left, right : RowFactor
        With n rows, r and s columns.
    weights : ndarray, shape (n, q)

    Returns
    -------
    ndarray, shape (q, r, s)
    """
    q = weights.shape[1]
    if isinstance(left, Indicator) and isinstance(right, Indicator):
        has = (left.codes >= 0) & (right.codes >= 0)
        pairs = left.codes[has] * right.size + right.codes[has]
        cells = left.size * right.size
        counts = [np.bincount(pairs, weights[has, j], cells) for j in range(q)]
        return np.reshape(counts, (q, left.size, right.size))
    # The smaller side is multiplied out; an indicator never is.
    if isinstance(right, Indicator) or (isinstance(left, Dense) and left.size < right.size):
        return weighted_products(right, left, weights).transpose(0, 2, 1)
    weights = np.ascontiguousarray(weights)  # else what follows is copied
    expanded = weights[:, :, None] * right.dense()[:, None, :]
    product = left.sums(expanded.reshape(len(weights), q * right.size))
    return product.reshape(left.size, q, right.size).transpose(1, 0, 2)
