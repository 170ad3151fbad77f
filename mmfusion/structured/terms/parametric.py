"""Parametric terms: products of factors of the table and of the grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, product
from typing import Any, Self

import formulaic.parser.types as parsed
import numpy as np
import pandas as pd
from formulaic import ModelSpec, SimpleFormula
from formulaic.materializers.types import ScopedTerm

from mmfusion.structured._parse import ParsedFormula
from mmfusion.structured._table import FormulaRows, Training
from mmfusion.structured.rows import Dense
from mmfusion.structured.terms.base import Array, Product, Term, product_of_columns
from mmfusion.structured.terms.factors import (
    CONSTANT,
    Coding,
    Expression,
    Factor,
    Number,
    factor_from_state,
)

__all__ = ["ParametricTerm"]

LITERAL = parsed.Factor.EvalMethod.LITERAL


@dataclass(frozen=True, eq=False)
class FactorProduct:
    """All products of a column of each factor, those of the first factor varying first.

    Attributes
    ----------
    factors : tuple of Factor
        None for the intercept.
    on_grid : tuple of bool
        Which of them are functions of the grid.
    scale : float
        Of a number in the formula, such as ``2:x``.
    """

    factors: tuple[Factor, ...] = ()
    on_grid: tuple[bool, ...] = ()
    scale: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns: "sex[m]:dose"."""
        return _joined([factor.names for factor in self.factors]) or ("Intercept",)

    def evaluate(self, rows: FormulaRows, points: FormulaRows) -> Product:
        """Return the columns as a product of the table's and the grid's."""
        of_rows = self._side(rows, grid=False)
        basis = self._side(points, grid=True)
        sizes = [len(factor.names) for factor in self.factors]
        places = np.arange(np.prod(sizes, dtype=int)).reshape(sizes, order="F")
        grid_first = np.argsort([not on_grid for on_grid in self.on_grid], kind="stable")
        places = places.transpose(grid_first).reshape((basis.shape[1], of_rows.shape[1]), order="F")
        if self.scale != 1.0:
            of_rows = self.scale * of_rows
        return Product(Dense(of_rows), basis if any(self.on_grid) else None, places)

    def _side(self, cells: FormulaRows, *, grid: bool) -> Array:
        """Return the products of the factors of one side; where it has none, ones."""
        pairs = zip(self.factors, self.on_grid, strict=True)
        mine = [factor for factor, on_grid in pairs if on_grid is grid]
        columns = np.ones((cells.n, 1))
        for factor in mine:
            own = factor.columns(cells)
            columns = own if factor is mine[0] else product_of_columns(own, columns)
        return columns


@dataclass(frozen=True, eq=False)
class ParametricTerm(Term):
    """A term without penalty: the sum of some products of factors, mostly of one.

    Several where R's rules for factors ask for them: ``a:b`` alone also holds what ``b`` would.
    """

    label: str
    variables: tuple[str, ...]
    coordinates: tuple[str, ...]
    parts: tuple[FactorProduct, ...]

    by = None
    penalties = ()
    sp = None
    df = None
    by_coefficient = True
    tested = True

    @classmethod
    def fit(
        cls, formula: ParsedFormula, training: Training, *, intercept: bool
    ) -> list[ParametricTerm]:
        """Return the parametric terms of a formula.

        They are fitted together, since how a factor is coded depends on the terms before.

        Parameters
        ----------
        formula : ParsedFormula
        training : Training
        intercept : bool
            False if the model's constant is elsewhere (in a baseline hazard): factors are coded as
            beside an intercept, whose column is then left out.

        Raises
        ------
        ValueError
            If a factor cannot be evaluated, or is not finite in some row.
        """
        fitter = _Fitter(formula, training)
        beside = [] if intercept else [CONSTANT]
        if training.baseline:
            beside += fitter.of_grid()
        own = [*([CONSTANT] if intercept and formula.intercept else []), *formula.parametric]
        structure = fitter.structure([*beside, *own])
        return [fitter.fit(term, products) for term, products in structure if term in own]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(chain.from_iterable(part.names for part in self.parts))

    def products(self, rows: FormulaRows, points: FormulaRows) -> tuple[Product, ...]:
        starts = accumulate((len(part.names) for part in self.parts), initial=0)
        pairs = zip((part.evaluate(rows, points) for part in self.parts), starts, strict=False)
        return tuple(replace(made, places=made.places + start) for made, start in pairs)

    def state(self) -> dict[str, Any]:
        parts = [
            {**vars(part), "factors": [factor.state() for factor in part.factors]}
            for part in self.parts
        ]
        return {**vars(self), "parts": parts}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        parts = tuple(
            FactorProduct(**{**part, "factors": tuple(map(factor_from_state, part["factors"]))})
            for part in state["parts"]
        )
        return cls(**{**state, "parts": parts})


class _Fitter:
    """The parsed terms of a formula, and what they are fitted to."""

    def __init__(self, formula: ParsedFormula, training: Training) -> None:
        self._training = training
        self._reads = formula.parametric
        self._factors = {f.expr: f for term in formula.parametric for f in term.factors}
        self._levels_of: dict[str, str] = {}
        for read in self._reads.values():
            for expr, names in read.items():
                name = names[0] if names else ""
                if name in formula.factors or training.side(name).columns.is_factor(name):
                    self._levels_of[expr] = name

    def of_grid(self) -> list[parsed.Term]:
        """Return the products of the grid's factors in terms that the table's factors are in."""
        grid = self._training.grid
        found = []
        for term, reads in self._reads.items():
            factors = [f for f in term.factors if any(name in grid for name in reads[f.expr])]
            found.append(parsed.Term(factors))
        return [term for term in dict.fromkeys(found) if term.factors]

    def structure(
        self, terms: Sequence[parsed.Term]
    ) -> Iterator[tuple[parsed.Term, Sequence[ScopedTerm]]]:
        """Yield each term with the products that it is the sum of.

        Which of them has a factor's full coding is R's rule (formulaic's), and depends on nothing
        but what has levels: it is asked of a table with a column a factor of a term.
        """
        if not terms:
            return
        cells = {
            expr: pd.Categorical(["a", "b"]) if expr in self._levels_of else [0.0, 1.0]
            for expr in self._factors
        }
        stand_ins = [
            parsed.Term(
                f if f.eval_method is LITERAL else parsed.Factor(f.expr, eval_method="lookup")
                for f in term.factors
            )
            for term in terms
        ]
        spec = ModelSpec(formula=SimpleFormula(stand_ins), output="numpy")
        made = spec.get_model_matrix(pd.DataFrame(cells, index=range(2)))
        for encoded in made.model_spec.structure:
            yield encoded.term, encoded.scoped_terms

    def fit(self, term: parsed.Term, products: Sequence[ScopedTerm]) -> ParametricTerm:
        """Return a fitted term."""
        grid = self._training.grid
        reads = self._reads.get(term, {})
        variables = tuple(dict.fromkeys(chain.from_iterable(reads.values())))
        parts = []
        for scoped in products:
            factors = [(f.factor.expr, f.reduced) for f in scoped.factors]
            made = [self._factor(expr, reads[expr], reduced=reduced) for expr, reduced in factors]
            on_grid = [any(name in grid for name in reads[expr]) for expr, _ in factors]
            parts.append(FactorProduct(tuple(made), tuple(on_grid), float(scoped.scale)))
        return ParametricTerm(
            label="Intercept" if term.degree == 0 else str(term),
            variables=variables,
            coordinates=tuple(name for name in variables if name in grid),
            parts=tuple(parts),
        )

    def _factor(self, expr: str, reads: tuple[str, ...], *, reduced: bool) -> Factor:
        side = self._training.side(reads[0] if reads else "")
        factor = self._factors[expr]
        if expr in self._levels_of:
            return Coding.fit(factor, self._levels_of[expr], side, reduced=reduced)
        if factor.eval_method is parsed.Factor.EvalMethod.LOOKUP:
            return Number((expr,))
        return Expression.fit(expr, side.rows)


def _joined(names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the names of all products, those of the first varying first; none of no factor."""
    if not names:
        return ()
    return tuple(":".join(reversed(some)) for some in product(*reversed(names)))
