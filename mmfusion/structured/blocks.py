"""Blocks of a design, and what two of them have in common under a curvature."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mmfusion.structured.rows import Dense, Indicator, RowFactor, weighted_products

__all__ = ["Block", "Given", "cross_product", "levels_product", "row_pieces"]

Array = NDArray[np.float64]
Places = NDArray[np.intp]
Pairs = tuple[Places, Places]

#: Numbers in a temporary array of one piece of rows: 2 MB.
PIECE = 1 << 18


@dataclass(frozen=True, eq=False)
class Block:
    """Columns of the rows times a basis of the predictors.

    ``eta_ik += sum_ab rows_ia basis_kb beta[columns[b, a]]``.

    Attributes
    ----------
    rows : RowFactor
        With n rows and r columns.
    basis : ndarray, shape (K, f)
    columns : ndarray of int, shape (f, r)
        Where its coefficients stand in the whole vector; -1 for one that is left out.
    """

    rows: RowFactor
    basis: Array
    columns: Places

    def predict(self, coef: Array) -> Array:
        """Return what coefficients (f, r) add to the predictors, shape (n, K)."""
        if self._basis_first:
            return self.rows.times(coef.T @ self.basis.T)
        return self.rows.times(coef.T) @ self.basis.T

    def pull(self, values: Array) -> Array:
        """Return the transposed block times values (n, K), shape (f, r)."""
        if self._basis_first:
            return (self.rows.sums(values) @ self.basis).T
        return self.rows.sums(values @ self.basis).T

    @property
    def _basis_first(self) -> bool:
        """Whether coefficients times the basis are fewer products than rows times the basis."""
        (k, f), r = self.basis.shape, self.rows.size
        return r * k <= f * (r + k)

    def each(self, values: Array) -> Array:
        """Return each row's part of `pull`, shape (n, f, r)."""
        return (values @ self.basis)[:, :, None] * self.rows.dense()[:, None, :]

    def scaled(self, center: Array, size: Array) -> Block:
        """Return it with columns less a center over a size, (r,) each; an indicator as it is."""
        if isinstance(self.rows, Indicator):
            return self
        n, r = len(self.rows), self.rows.size
        values = np.empty((n, r))
        for rows in row_pieces(n, r):
            np.subtract(self.rows.values[rows], center, out=values[rows])
            values[rows] /= size
        return replace(self, rows=Dense(values))

    def nonzero(self) -> NDArray[np.bool_]:
        """Return whether any row has a value other than 0 for each coefficient, shape (f, r)."""
        return np.asarray(self.basis.any(0))[:, None] & self.rows.nonzero()

    @property
    def numbers(self) -> Array:
        """What it holds beside codes of levels; the columns are the last axis."""
        return self.rows.values if isinstance(self.rows, Dense) else np.zeros((0, self.rows.size))

    def take(self, rows: slice | Places) -> Block:
        return replace(self, rows=self.rows.take(rows))


@dataclass(frozen=True, eq=False)
class Given:
    """Predictors that are given, each with one coefficient: no columns of the row, and no basis.

    ``eta_ik += sum_a values_ika beta[columns[0, a]]``.

    Attributes
    ----------
    values : ndarray, shape (n, K, r)
    columns : ndarray of int, shape (1, r)
    """

    values: Array
    columns: Places

    def predict(self, coef: Array) -> Array:
        return self.values @ coef[0]

    def pull(self, values: Array) -> Array:
        return np.einsum("nkr,nk->r", self.values, values)[None]

    def each(self, values: Array) -> Array:
        return np.einsum("nkr,nk->nr", self.values, values)[:, None]

    def scaled(self, center: Array, size: Array) -> Given:
        return replace(self, values=(self.values - center) / size)

    def nonzero(self) -> NDArray[np.bool_]:
        return np.asarray(self.values.any((0, 1)))[None]

    @property
    def numbers(self) -> Array:
        return self.values

    def take(self, rows: slice | Places) -> Given:
        return replace(self, values=self.values[rows])


def row_pieces(n: int, width: int) -> Iterator[slice]:
    """Yield pieces of n rows, of `PIECE` numbers where a row has `width`."""
    step = max(PIECE // max(width, 1), 1)
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def cross_product(left: Block | Given, right: Block | Given, curvature: Array) -> Array:
    """Return ``X'WZ`` of two blocks under a curvature (n, K) or (n, K, K), shape (f, r, g, s)."""
    if isinstance(left, Given):
        return _of_given(left, right, curvature)
    if isinstance(right, Given):
        return _of_given(right, left, curvature).transpose(2, 3, 0, 1)
    r, s = left.rows.size, right.rows.size
    bases, used = _paired(left, right, diagonal=curvature.ndim == 2)
    k, q = bases.shape
    # Of a diagonal curvature, predictors are summed before rows or after them.
    late = curvature.ndim == 2 and q * (k + r * s) > k * r * s
    total = np.zeros((k if late else q, r, s))
    for rows in row_pieces(len(left.rows), total.shape[0] * min(r, s) + k):
        weights = curvature[rows] if late else _summed(left, right, curvature[rows], bases, used)
        total += weighted_products(left.rows.take(rows), right.rows.take(rows), weights)
    if late:
        total = np.tensordot(bases.T, total, 1)
    result = np.zeros((left.basis.shape[1], right.basis.shape[1], r, s))
    result[used] = total
    return result.transpose(0, 2, 1, 3)


def levels_product(block: Block, curvature: Array) -> Array:
    """Return the blocks of ``X'WX`` that are not 0 where the rows are an indicator, (r, f, f)."""
    bases, used = _paired(block, block, diagonal=curvature.ndim == 2)
    f = block.basis.shape[1]
    result = np.zeros((block.rows.size, f, f))
    result[:, used[0], used[1]] = block.rows.sums(_summed(block, block, curvature, bases, used))
    return result


def _paired(left: Block, right: Block, *, diagonal: bool) -> tuple[Array, Pairs]:
    """Return the products (K, q) of the q pairs of bases that meet, and which these are."""
    meet = (left.basis != 0).astype(float).T @ (right.basis != 0)
    first, second = np.nonzero(meet if diagonal else np.ones(meet.shape))
    return left.basis[:, first] * right.basis[:, second], (first, second)


def _summed(left: Block, right: Block, curvature: Array, bases: Array, used: Pairs) -> Array:
    """Return the curvature summed over predictors for each pair of bases, shape (n, q)."""
    if curvature.ndim == 2:
        return curvature @ bases
    moved = [np.flatnonzero(left.basis[:, f]) for f in used[0]]
    by = [np.flatnonzero(right.basis[:, g]) for g in used[1]]
    if sum(len(a) * len(b) for a, b in zip(moved, by, strict=True)) <= 2 * len(moved):
        # Predictors of their own: what they have in common is there as it is.
        found = np.zeros((len(curvature), len(moved)))
        for at, (f, g) in enumerate(zip(*used, strict=True)):
            for k, h in product(moved[at], by[at]):
                found[:, at] += curvature[:, k, h] * (left.basis[k, f] * right.basis[h, g])
        return found
    return (left.basis.T @ (curvature @ right.basis))[:, used[0], used[1]]


def _of_given(left: Given, right: Block | Given, curvature: Array) -> Array:
    """Return ``X'WZ`` of given predictors and another block, shape (1, r, g, s)."""
    n, k, r = left.values.shape
    total: Array | float = 0.0
    own = right.values if isinstance(right, Given) else right.basis
    for rows in row_pieces(n, k * (r + own.shape[-1])):
        weights, values = curvature[rows], left.values[rows]
        base = own[rows] if isinstance(right, Given) else own
        weighted = weights[:, :, None] * base if weights.ndim == 2 else weights @ base
        if isinstance(right, Given):
            product = values.reshape(-1, r).T @ weighted.reshape(-1, own.shape[-1])
            total = total + product[None, :, None]
        else:
            summed = values.transpose(0, 2, 1) @ weighted  # (n, r, g)
            product = right.rows.take(rows).sums(summed.reshape(len(values), -1))
            total = total + product.reshape(-1, r, own.shape[-1]).transpose(1, 2, 0)[None]
    return np.asarray(total)
