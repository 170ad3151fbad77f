"""Predictors that are a number of the row plus one of the predictor: fits without n x K arrays.

Where hazards are proportional, ``eta_ik = a_i + b_k``, a head may know its likelihood in the n + K
numbers a and b. Design and likelihood then stand for these: a column of n + K predictors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmfusion.structured.blocks import Block
from mmfusion.structured.design import Design
from mmfusion.structured.likelihood import Likelihood
from mmfusion.structured.rows import Dense
from mmfusion.structured.symmetric import Symmetric

__all__ = ["separated"]

#: Rows that show that columns vary, where they do.
SOME = 100

Array = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False, kw_only=True)
class SeparatedDesign(Design):
    """The columns of a, over the rows, and those of b, over the predictors.

    Attributes
    ----------
    table : ndarray, shape (n, r)
    grid : ndarray, shape (K, f)
    of_table, of_grid : ndarray of int, shape (r,), (f,)
        Their coefficients.
    """

    table: Array
    grid: Array
    of_table: Places
    of_grid: Places

    def predict(self, coef: Array) -> Array:
        parts = self.table @ coef[self.of_table], self.grid @ coef[self.of_grid]
        return np.concatenate(parts)[:, None]

    def pull(self, values: Array) -> Array:
        a, b = np.split(values[:, 0], [len(self.table)])
        result = np.zeros(self.n_columns)
        result[self.of_table] = a @ self.table
        result[self.of_grid] = b @ self.grid
        return result


class SeparatedLikelihood(Likelihood):
    """The likelihood in a and b, one below the other.

    Parameters
    ----------
    whole : Likelihood
    parts : object
        What the head gives: its ``value``, ``derivatives``, ``across`` and ``along``. Curvatures
        are those of counts: they grow by themselves times what a predictor does.
    """

    def __init__(self, whole: Likelihood, parts: Any) -> None:
        self.parts = parts
        self.n = whole.shape[0]
        self._last: tuple[Array, Array, Array] | None = None
        self.shape = sum(whole.shape), 1
        self.n_rows = whole.n_rows
        self.multinomial = self.has_scale = self.shift_invariant = False
        self.has_intercept = whole.has_intercept
        self.ratio = whole.ratio

    @property
    def interacts(self) -> bool:
        return False

    @property
    def expects(self) -> bool:
        return False

    def _split(self, eta: Array) -> tuple[Array, Array]:
        """Return a and b: the same arrays as before of the same predictors, for `parts` to know."""
        if self._last is None or self._last[0] is not eta:
            self._last = eta, eta[: self.n, 0], eta[self.n :, 0]
        return self._last[1:]

    def value(self, eta: Array) -> float:
        return float(self.parts.value(*self._split(eta)))

    def gradient(self, eta: Array) -> Array:
        a, b, *_ = self.parts.derivatives(*self._split(eta))
        return np.concatenate([a, b])[:, None]

    def information(
        self, eta: Array, design: Design | Array, *, definite: bool = False
    ) -> Symmetric:
        assert isinstance(design, SeparatedDesign)
        return self.derivatives(eta, design)[1]

    def derivatives(
        self, eta: Array, design: Design, *, definite: bool = False
    ) -> tuple[Array, Symmetric]:
        assert isinstance(design, SeparatedDesign)
        a, b = self._split(eta)
        slope_a, slope_b, curve_a, curve_b = self.parts.derivatives(a, b)
        result = np.zeros((design.n_columns, design.n_columns))
        table, grid = design.table, design.grid
        rows = Dense(table)
        weighted = rows.sums(table * curve_a[:, None])
        result[np.ix_(design.of_table, design.of_table)] = weighted
        result[np.ix_(design.of_grid, design.of_grid)] = (grid * curve_b[:, None]).T @ grid
        across = self.parts.across(a, b, table).T @ grid
        result[np.ix_(design.of_table, design.of_grid)] = across
        result[np.ix_(design.of_grid, design.of_table)] = across.T
        return np.concatenate([slope_a, slope_b])[:, None], Symmetric.of(result)

    def trace_slopes(
        self, eta: Array, moves: Sequence[Array], design: Design, matrix: Symmetric
    ) -> Array:
        """Return the slopes in closed form: the curvature changes by itself times the move.

        With W the curvature of the n x K predictors and h = diag(X M X'), a slope is the sum of
        ``W h`` times the move.
        """
        assert isinstance(design, SeparatedDesign)
        a, b = self._split(eta)
        table, grid, inverse = design.table, design.grid, matrix.dense()
        (aa, ab), (_, bb) = [
            [inverse[np.ix_(one, other)] for other in (design.of_table, design.of_grid)]
            for one in (design.of_table, design.of_grid)
        ]
        of_rows = ((table @ aa) * table).sum(1)
        of_grid = ((grid @ bb) * grid).sum(1)
        crossed = 2 * grid @ ab.T  # h is of_rows + of_grid + table @ crossed'
        _, _, curve_a, curve_b = self.parts.derivatives(a, b)
        across = self.parts.across(a, b, table)
        slopes = np.zeros(len(moves))
        for j, move in enumerate(moves):
            da, db = self._split(move)
            rows = curve_a * da + self.parts.along(a, b, db)
            moved = self.parts.across(a, b, np.column_stack([da, da[:, None] * table]))
            grids = moved[:, 0] + curve_b * db
            both = moved[:, 1:] + across * db[:, None]
            slopes[j] = of_rows @ rows + of_grid @ grids + np.vdot(crossed, both)
        return slopes


def separated(
    likelihood: Likelihood, design: Design, offset: Array
) -> tuple[Likelihood, Design, Array] | None:
    """Return likelihood, design and offset of a and b; None where predictors are no such sum.

    Parameters
    ----------
    likelihood : Likelihood
    design : Design
    offset : ndarray, shape (n, K)
    """
    k = design.n_predictors
    if k == 1 or design.apart is not None or (offset != offset[:, :1]).any():
        return None
    columns: list[list[Array]] = [[], []]
    places: list[list[int]] = [[], []]
    for block in design.blocks:
        if not (isinstance(block, Block) and isinstance(block.rows, Dense)):
            return None
        values, (of_basis, of_rows) = block.rows.values, np.nonzero(block.columns >= 0)
        same = (block.basis == block.basis[:1]).all(axis=0)[of_basis]
        if same.any():
            chosen, size = of_rows[same], block.basis[0, of_basis[same]]
            whole = np.array_equal(chosen, np.arange(values.shape[1])) and (size == 1).all()
            columns[0].append(values if whole else values[:, chosen] * size)
        if not same.all():
            chosen = of_rows[~same]
            read = np.unique(chosen)
            if any((some[:, read] != values[0, read]).any() for some in (values[:SOME], values)):
                return None
            columns[1].append(block.basis[:, of_basis[~same]] * values[0, chosen])
        for number, mine in enumerate((same, ~same)):
            places[number] += block.columns[of_basis[mine], of_rows[mine]].tolist()
    if len(set(places[0] + places[1])) < len(places[0]) + len(places[1]):
        return None  # a coefficient of two columns
    parts = likelihood.parts_of_sums()
    if parts is None:
        return None
    n = design.n_rows
    sums = SeparatedDesign(
        n_rows=n + k,
        n_predictors=1,
        n_columns=design.n_columns,
        blocks=(),
        table=_beside(columns[0], n),
        grid=_beside(columns[1], k),
        of_table=np.array(places[0], dtype=np.intp),
        of_grid=np.array(places[1], dtype=np.intp),
    )
    shift = np.concatenate([offset[:, 0], np.zeros(k)])[:, None]
    return SeparatedLikelihood(likelihood, parts), sums, shift


def _beside(columns: list[Array], n: int) -> Array:
    if len(columns) == 1:
        return columns[0]
    return np.hstack(columns) if columns else np.zeros((n, 0))
