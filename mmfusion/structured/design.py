"""The design as an operator: row columns times a basis of the predictors, block by block."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations_with_replacement, product
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmfusion.structured.blocks import Block, Given, cross_product, levels_product
from mmfusion.structured.rows import Dense, weighted_products
from mmfusion.structured.symmetric import Apart, Symmetric

__all__ = ["Design", "as_design"]

Array = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Design:
    """The linear map from coefficients to the predictors of all rows, never written out.

    With blocks of row columns R and bases C the products are ``X b = sum R B C'``, ``X'v = R' (v
    C)`` and, under a diagonal curvature W (n, K), ``X'WX = (R o R)' W (C o C')`` with o the
    row-wise Kronecker product (Currie, Durban & Eilers 2006, JRSS B 68:259-280), the cheaper side
    first, in pieces of rows.

    Attributes
    ----------
    n_rows, n_predictors, n_columns : int
        n, K and p.
    blocks : sequence of Block or Given
        Blocks that share a coefficient share all of them.
    apart : int or None
        The block with an indicator whose own part of the information is kept block diagonal.
    known : ndarray, shape (n, K), or None
        A known part of the predictors, which `predict` adds: the map is then affine.
    """

    n_rows: int
    n_predictors: int
    n_columns: int
    blocks: tuple[Block | Given, ...]
    apart: int | None = None
    known: Array | None = None

    @classmethod
    def dense_of(cls, matrix: ArrayLike, n_predictors: int = 1) -> Self:
        """Return a matrix (n K, p), a row's predictors together, as a design."""
        values = np.ascontiguousarray(matrix, dtype=np.float64)
        n, p = len(values) // n_predictors, values.shape[1]
        columns = np.arange(p)[None]
        if p == 0:
            return cls(n, n_predictors, 0, ())
        if n_predictors == 1:
            return cls(n, 1, p, (Block(Dense(values), np.ones((1, 1)), columns),))
        return cls(n, n_predictors, p, (Given(values.reshape(n, -1, p), columns),))

    @cached_property
    def layout(self) -> Apart:
        """Which coefficients are apart."""
        if self.apart is None:
            return Apart.whole(self.n_columns)
        return Apart(self.n_columns, self.blocks[self.apart].columns.T)

    @property
    def shape(self) -> tuple[int, int]:
        """That of `dense`: n K, p."""
        return self.n_rows * self.n_predictors, self.n_columns

    def predict(self, coef: Array) -> Array:
        """Return the predictors of coefficients (p,), shape (n, K)."""
        result = None if self.known is None else self.known.copy()
        padded = np.append(coef, 0.0)  # -1, a coefficient left out, is its last
        for block in self.blocks:
            own = padded[block.columns]
            if own.any():  # where a fit starts most are 0
                part = block.predict(own)
                result = part if result is None else np.add(result, part, out=result)
        return np.zeros((self.n_rows, self.n_predictors)) if result is None else result

    def predicted(self, coef: Array) -> Array:
        """Return `predict`, not to be written to: what was asked for last is not worked out again.

        A fit asks for the predictors of its coefficients several times.
        """
        known, found = self.__dict__.get("_last", (None, None))
        if known is None or not np.array_equal(known, coef):
            found = self.predict(coef)
            self.__dict__["_last"] = coef.copy(), found
        return np.asarray(found)

    def pull(self, values: Array) -> Array:
        """Return ``X'v`` of values (n, K), shape (p,)."""
        result = np.zeros(self.n_columns + 1)
        for block in self.blocks:
            result[block.columns] += block.pull(values)
        return result[:-1]

    def scores(self, gradient: Array) -> Array:
        """Return each row's own ``X_i' g_i`` of a gradient (n, K), shape (n, p)."""
        if len(self.blocks) == 1:
            columns = self.blocks[0].columns.ravel()
            each = self.blocks[0].each(gradient).reshape(self.n_rows, -1)
            if np.array_equal(np.sort(columns), np.arange(self.n_columns)):
                in_order = np.array_equal(columns, np.arange(self.n_columns))
                return each if in_order else each[:, np.argsort(columns)]
        result = np.zeros((self.n_rows, self.n_columns + 1))
        for block in self.blocks:
            result[:, block.columns] += block.each(gradient)
        return result[:, :-1]

    def dense(self) -> Array:
        """Return the matrix, shape (n K, p): a row's predictors together."""
        return self._dense

    @cached_property
    def _dense(self) -> Array:
        match self.blocks:
            case [Block(rows=rows, basis=basis, columns=columns)] if self.n_predictors == 1:
                if (basis == 1).all() and np.array_equal(columns[0], np.arange(self.n_columns)):
                    return rows.dense()
        unit = np.eye(self.n_predictors)
        each = [self.scores(np.tile(row, (self.n_rows, 1))) for row in unit]
        return np.stack(each, axis=1).reshape(self.shape)

    def take(self, rows: slice | Places) -> Design:
        """Return the design of some rows; of a slice without a copy."""
        blocks = tuple(block.take(rows) for block in self.blocks)
        known = None if self.known is None else self.known[rows]
        n_rows = len(np.arange(self.n_rows)[rows])
        return replace(self, n_rows=n_rows, blocks=blocks, known=known)

    @property
    def linear(self) -> Design:
        """The design without the known part of the predictors."""
        return self if self.known is None else replace(self, known=None)

    def keep(self, columns: Places) -> Design:
        """Return the design of some coefficients, ascending, the others left out."""
        place = np.full(self.n_columns + 1, -1)
        place[columns] = np.arange(len(columns))
        blocks = [replace(block, columns=place[block.columns]) for block in self.blocks]
        left = tuple(block for block in blocks if (block.columns >= 0).any())
        return replace(self, n_columns=len(columns), blocks=left, apart=None)

    def nonzero(self) -> NDArray[np.bool_]:
        """Return whether any row has a value other than 0 for each coefficient, shape (p,)."""
        result = np.zeros(self.n_columns + 1, dtype=bool)
        for block in self.blocks:
            result[block.columns] |= block.nonzero()
        return result[:-1]

    def cross(self, curvature: Array) -> Symmetric:
        """Return ``X'WX``, shape (p, p).

        Parameters
        ----------
        curvature : ndarray, shape (n, K) where it is diagonal, else (n, K, K)
            Symmetric in each row.
        """
        layout, result = self.layout, Symmetric.zeros(self.layout)
        # A row and a column more take what belongs to coefficients that are left out.
        width = len(layout.first) + 1
        place = np.full(self.n_columns + 1, width - 1)
        place[layout.first] = np.arange(width - 1)
        first, side = np.zeros((width, width)), np.zeros((*layout.apart.shape, width))
        for g, h in combinations_with_replacement(range(len(self.blocks)), 2):
            if self.apart in (g, h):
                h = g + h - self.apart  # the other one; an indicator comes first
                g = self.apart
            left, right = self.blocks[g], self.blocks[h]
            if g == h == self.apart:
                assert isinstance(left, Block)
                result.last[:] = levels_product(left, curvature)
                continue
            product = cross_product(left, right, curvature)
            down, across = place[left.columns.ravel()], place[right.columns.ravel()]
            if g == self.apart:
                f, r = left.columns.shape
                side[:, :, across] += product.reshape(f, r, -1).transpose(1, 0, 2)
                continue
            product = product.reshape(len(down), len(across))
            first[np.ix_(down, across)] += product
            if g != h:
                first[np.ix_(across, down)] += product.T
        result.first[:], result.side[:] = first[:-1, :-1], side[:, :, :-1]
        return result

    def cross_alike(self, weight: Array, curvature: Array) -> Array:
        """Return ``X'WX`` of rows that have one curvature (K, K), times a weight (n, 1)."""
        result = np.zeros((self.n_columns + 1,) * 2)
        for left, right in product(self.blocks, repeat=2):
            if isinstance(left, Given) or isinstance(right, Given):
                return np.asarray(self.cross(weight[:, :, None] * curvature))
            rows = weighted_products(left.rows, right.rows, weight)[0]
            both = np.kron(left.basis.T @ curvature @ right.basis, rows)
            result[np.ix_(left.columns.ravel(), right.columns.ravel())] += both
        return result[:-1, :-1]


def as_design(design: Design | ArrayLike, n_predictors: int) -> Design:
    """Return a design as it is, a matrix (n K, p) as one."""
    return design if isinstance(design, Design) else Design.dense_of(design, n_predictors)
