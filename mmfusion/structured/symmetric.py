"""Symmetric matrices over all coefficients, of which some columns may be a block diagonal apart."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Apart", "Inverse", "Symmetric"]

Array = NDArray[np.float64]
Matrix = Any  # an array or a sparse one


@dataclass(frozen=True, eq=False)
class Apart:
    """Which coefficients are apart: the levels of a large random effect.

    A row of the table has one level, so that no information is between two levels: the matrix over
    them is block diagonal, a block a level.

    Attributes
    ----------
    size : int
        Number of coefficients p.
    apart : ndarray of int, shape (r, f)
        Positions of the f coefficients of each of r levels.
    """

    size: int
    apart: NDArray[np.intp]

    @classmethod
    def whole(cls, size: int) -> Self:
        """Return the layout with no coefficient apart."""
        return cls(size, np.empty((0, 1), dtype=np.intp))

    @cached_property
    def first(self) -> NDArray[np.intp]:
        """Positions of the others, ascending, shape (a,)."""
        return np.setdiff1d(np.arange(self.size), self.apart)

    @property
    def split(self) -> bool:
        """Whether some coefficients are apart."""
        return len(self.apart) > 0


@dataclass(frozen=True, eq=False)
class Symmetric:
    """A symmetric (p, p) matrix ``[[A, B'], [B, D]]`` with a block diagonal D.

    Where no coefficient is apart it is A. NumPy reads it as an array, in full.

    Attributes
    ----------
    layout : Apart
    first : ndarray, shape (a, a)
        A.
    side : ndarray, shape (r, f, a)
        B.
    last : ndarray, shape (r, f, f)
        The blocks of D.
    """

    layout: Apart
    first: Array
    side: Array
    last: Array

    __array_ufunc__ = None  # so that `ndarray @ Symmetric` is asked of this class

    @classmethod
    def zeros(cls, layout: Apart) -> Self:
        """Return a matrix of zeros."""
        (r, f), a = layout.apart.shape, len(layout.first)
        return cls(layout, np.zeros((a, a)), np.zeros((r, f, a)), np.zeros((r, f, f)))

    @classmethod
    def of(cls, matrix: Any) -> Symmetric:
        """Return a matrix as it is, an array with no coefficient apart."""
        if isinstance(matrix, Symmetric):
            return matrix
        first = np.asarray(matrix, dtype=np.float64)
        none = np.zeros((0, 1, len(first)))
        return Symmetric(Apart.whole(len(first)), first, none, np.zeros((0, 1, 1)))

    @classmethod
    def from_state(cls, state: Any) -> Symmetric:
        """Return the matrix that `state` described."""
        if not isinstance(state, dict):
            return Symmetric.of(state)
        blocks = set(state) - {"size", "apart"}
        kinds: list[type[Symmetric]] = [Symmetric, *Symmetric.__subclasses__()]
        kind = next(k for k in kinds if {f.name for f in fields(k)} - {"layout"} == blocks)
        layout = Apart(int(state["size"]), state["apart"])
        return kind(layout, **{k: v for k, v in state.items() if k not in ("size", "apart")})

    def state(self) -> Array | dict[str, Any]:
        """Return it as saving writes it: in full, or as its blocks where some are apart."""
        if not self.layout.split:
            return self.first
        blocks = {k: v for k, v in vars(self).items() if k != "layout"}
        return {"size": self.layout.size, "apart": self.layout.apart, **blocks}

    def __len__(self) -> int:
        return self.layout.size

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), len(self)

    def is_finite(self) -> bool:
        """Return whether all of it are finite numbers."""
        return all(bool(np.isfinite(part).all()) for part in (self.first, self.side, self.last))

    def _map(self, other: Symmetric, sign: float) -> Symmetric:
        return Symmetric(
            self.layout,
            self.first + sign * other.first,
            self.side + sign * other.side,
            self.last + sign * other.last,
        )

    def __add__(self, other: Any) -> Symmetric:
        return self._map(Symmetric.of(other), 1.0)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Symmetric:
        return self._map(Symmetric.of(other), -1.0)

    def __mul__(self, factor: float) -> Symmetric:
        return Symmetric(self.layout, self.first * factor, self.side * factor, self.last * factor)

    __rmul__ = __mul__

    def __matmul__(self, right: Any) -> Array:
        """Return the matrix times a vector (p,) or a matrix (p, t)."""
        right = np.asarray(right, dtype=np.float64)
        if not self.layout.split:
            return self.first @ right
        top, levels = right[self.layout.first], right[self.layout.apart]
        result = np.empty(right.shape)
        result[self.layout.first] = self.first @ top + np.tensordot(
            self.side, levels, ((0, 1),) * 2
        )
        result[self.layout.apart] = self.side @ top + _each(self.last, levels)
        return result

    def __rmatmul__(self, left: Any) -> Array:
        return (self @ np.asarray(left, dtype=np.float64).T).T

    def __getitem__(self, key: Any) -> Any:
        """Return a part by rows and columns: slices, single ones, or both from ``np.ix_``."""
        if not self.layout.split:
            return self.first[key]
        rows, columns = (np.arange(len(self))[part] for part in key)
        unit = np.zeros((len(self), np.size(columns)))
        unit[np.ravel(columns), np.arange(np.size(columns))] = 1.0
        found = (self @ unit)[np.ravel(rows)]
        shape = [np.size(part) for part in (rows, columns) if np.ndim(part)]
        return found.reshape(shape)[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self.dense() if dtype is None else self.dense().astype(dtype)

    def dense(self) -> Array:
        """Return the matrix in full, shape (p, p)."""
        return self.first if not self.layout.split else self @ np.eye(len(self))

    def diagonal(self) -> Array:
        """Return the diagonal, shape (p,)."""
        return self._placed(np.diag(self.first), np.diagonal(self.last, axis1=1, axis2=2))

    def product_diagonal(self, other: Symmetric) -> Array:
        """Return the diagonal of this matrix times another, block diagonal apart, shape (p,)."""
        crossed = self.side * other.side
        return self._placed(
            (self.first * other.first).sum(1) + crossed.sum((0, 1)),
            crossed.sum(2) + (self.last * other.last).sum(2),
        )

    def _placed(self, first: Array, apart: Array) -> Array:
        result = np.empty(len(self))
        result[self.layout.first], result[self.layout.apart] = first, apart
        return result

    def leading(self, count: int) -> Symmetric:
        """Return the matrix of the first `count` coefficients, none of them apart."""
        return Symmetric.of(self[:count, :count])

    def degrees(self, contrasts: Array) -> Array:
        """Return the degrees of freedom of contrasts (m, p) of which it is the covariance, (m,).

        Infinite: of a covariance that is as good as known.
        """
        return np.full(len(contrasts), np.inf)

    def mapped(self, right: Matrix, back: Matrix) -> Symmetric:
        """Return ``right' M right``, with a matrix (a, a) of what is not apart, and its inverse."""
        first = right.T @ self.first @ right
        return Symmetric(self.layout, first, _sides(self.side, right), self.last)

    def padded(self, kept: NDArray[np.intp], size: int) -> Symmetric:
        """Return a larger matrix that has this one at the rows and columns `kept`, 0 elsewhere."""
        layout = Apart(size, kept[self.layout.apart])
        return Symmetric(layout, *self._padded(layout, kept), self.last)

    def _padded(self, layout: Apart, kept: NDArray[np.intp]) -> tuple[Array, Array]:
        places = np.searchsorted(layout.first, kept[self.layout.first])
        first = np.zeros((len(layout.first),) * 2)
        first[np.ix_(places, places)] = self.first
        return first, _spread(self.side, places, len(layout.first))


@dataclass(frozen=True, eq=False)
class Inverse(Symmetric):
    """The inverse of a `Symmetric`: ``[I; -G] S^-1 [I, -G'] + [0, 0; 0, D^-1]``.

    With ``G = D^-1 B`` and the Schur complement ``S = A - B' G``. The blocks that `Symmetric` has
    are its own at the same places; between two levels it is not 0.

    Attributes
    ----------
    slopes : ndarray, shape (r, f, a)
        G.
    own : ndarray, shape (r, f, f)
        The blocks of ``D^-1``.
    """

    slopes: Array
    own: Array

    @classmethod
    def from_schur(cls, layout: Apart, first: Array, slopes: Array, own: Array) -> Self:
        """Return it from ``S^-1``, G and ``D^-1``."""
        side = -slopes @ first
        last = own - side @ slopes.transpose(0, 2, 1)
        return cls(layout, first, side, last, slopes, own)

    def __matmul__(self, right: Any) -> Array:
        right = np.asarray(right, dtype=np.float64)
        if not self.layout.split:
            return self.first @ right
        top, levels = right[self.layout.first], right[self.layout.apart]
        result = np.empty(right.shape)
        inner = self.first @ (top - np.tensordot(self.slopes, levels, ((0, 1),) * 2))
        result[self.layout.first] = inner
        result[self.layout.apart] = _each(self.own, levels) - self.slopes @ inner
        return result

    def __mul__(self, factor: float) -> Inverse:
        return self.from_schur(self.layout, self.first * factor, self.slopes, self.own * factor)

    __rmul__ = __mul__

    def mapped(self, right: Matrix, back: Matrix) -> Inverse:
        first = right.T @ self.first @ right
        return self.from_schur(self.layout, first, _sides(self.slopes, back.T), self.own)

    def padded(self, kept: NDArray[np.intp], size: int) -> Inverse:
        layout = Apart(size, kept[self.layout.apart])
        places = np.searchsorted(layout.first, kept[self.layout.first])
        slopes = _spread(self.slopes, places, len(layout.first))
        return self.from_schur(layout, self._padded(layout, kept)[0], slopes, self.own)


def _sides(side: Array, right: Matrix) -> Array:
    """Return each level's side (f, a) times a matrix (a, a)."""
    r, f, a = side.shape
    return np.asarray(side.reshape(r * f, a) @ right).reshape(side.shape)


def _each(blocks: Array, levels: Array) -> Array:
    """Return each level's block (f, f) times its vector (f,) or matrix (f, t)."""
    if levels.ndim == 2:
        return (blocks @ levels[:, :, None])[:, :, 0]
    return blocks @ levels


def _spread(side: Array, places: NDArray[np.intp], width: int) -> Array:
    result = np.zeros((*side.shape[:2], width))
    result[:, :, places] = side
    return result
