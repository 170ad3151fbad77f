"""Parametric terms: products of factors of the table and of the grid."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, chain, product
from typing import Any, Self

import formulaic.parser.types as parsed
import numpy as np
import pandas as pd
from formulaic import ModelSpec, SimpleFormula
from formulaic.materializers.types import ScopedTerm

from mmfusion.structured._algebra import ParsedFactor, ParsedTerm
from mmfusion.structured._parse import ParsedFormula
from mmfusion.structured._table import FormulaRows, Side, Training
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
        """Names of the columns: "sex[m]:dose", "2:dose"."""
        scale = [] if self.scale == 1.0 else [(f"{self.scale:.15g}",)]
        return _joined([*scale, *(factor.names for factor in self.factors)]) or ("Intercept",)

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
        cls,
        formula: ParsedFormula,
        training: Training,
        *,
        intercept: bool,
        quoted: Collection[int] = (),
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
        quoted : collection of int
            The places of those that show their columns' names in backticks.

        Raises
        ------
        ValueError
            If a factor cannot be evaluated, or is not finite in some row.
        """
        fitter = _Fitter(formula, training)
        beside = [] if intercept else [ParsedTerm()]
        if training.baseline:
            beside += fitter.of_grid()
        own = [*([ParsedTerm()] if intercept and formula.intercept else []), *formula.parametric]
        mine = {term.key for term in own}
        structure = fitter.structure([*beside, *own])
        kept = [(term, products) for term, products in structure if term.key in mine]
        return [
            fitter.fit(term, products, quote=place in quoted)
            for place, (term, products) in enumerate(kept)
        ]

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
        self._terms = formula.parametric
        factors = dict.fromkeys(chain.from_iterable(term.factors for term in self._terms))
        #: Formulaic knows a factor by this name alone.
        self._stand_ins = {factor: f"f{place}" for place, factor in enumerate(factors)}
        self._factors = dict(zip(self._stand_ins.values(), factors, strict=True))
        self._with_levels = {
            factor
            for factor in factors
            if factor.columns
            and (factor.function == "C" or self._side(factor).columns.is_factor(factor.columns[0]))
        }

    def _side(self, factor: ParsedFactor) -> Side:
        return self._training.side(factor.columns[0] if factor.columns else "")

    def _on_grid(self, factor: ParsedFactor) -> bool:
        return any(name in self._training.grid for name in factor.columns)

    def of_grid(self) -> list[ParsedTerm]:
        """Return the products of the grid's factors in terms that the table's factors are in."""
        found = [ParsedTerm(tuple(filter(self._on_grid, term.factors))) for term in self._terms]
        return [term for term in {term.key: term for term in found}.values() if term.factors]

    def structure(
        self, terms: Sequence[ParsedTerm]
    ) -> Iterator[tuple[ParsedTerm, Sequence[ScopedTerm]]]:
        """Yield each term with the products that it is the sum of.

        Which of them has a factor's full coding is R's rule (formulaic's), and depends on nothing
        but what has levels: it is asked of a table with a column a factor of a term.
        """
        if not terms:
            return
        names = [tuple(self._stand_ins[factor] for factor in term.factors) for term in terms]
        asked = {frozenset(own): term for own, term in zip(names, terms, strict=True)}
        with_levels = {self._stand_ins[factor] for factor in self._with_levels}
        leveled = tuple((name, name in with_levels) for name in self._factors)
        for found, scoped in _structure(tuple(names), leveled):
            yield asked[found], scoped

    def fit(
        self, term: ParsedTerm, products: Sequence[ScopedTerm], *, quote: bool
    ) -> ParametricTerm:
        """Return a fitted term; columns show in backticks if `quote`."""
        variables = tuple(dict.fromkeys(chain.from_iterable(f.columns for f in term.factors)))
        parts = []
        for scoped in products:
            factors = [(self._factors[f.factor.expr], f.reduced) for f in scoped.factors]
            made = [self._factor(f, reduced=reduced, quote=quote) for f, reduced in factors]
            on_grid = [self._on_grid(factor) for factor, _ in factors]
            parts.append(FactorProduct(tuple(made), tuple(on_grid), term.scale))
        return ParametricTerm(
            label=term.shown(quote=quote) or "Intercept",
            variables=variables,
            coordinates=tuple(name for name in variables if name in self._training.grid),
            parts=tuple(parts),
        )

    def _factor(self, factor: ParsedFactor, *, reduced: bool, quote: bool) -> Factor:
        side, text = self._side(factor), factor.shown(quote=quote)
        if factor in self._with_levels:
            return Coding.fit(factor, text, side, reduced=reduced)
        if factor.sort == "column":
            return Number((text,), factor.columns[0] if quote else None)
        return Expression.fit(text, side.rows)


@lru_cache(maxsize=64)
def _structure(
    terms: tuple[tuple[str, ...], ...], leveled: tuple[tuple[str, bool], ...]
) -> list[tuple[frozenset[str], Sequence[ScopedTerm]]]:
    """Return the products of each term, of factors of some names that have levels or have none."""
    cells = {name: pd.Categorical(["a", "b"]) if has else [0.0, 1.0] for name, has in leveled}
    made_of = [
        parsed.Term(parsed.Factor(name, eval_method="lookup") for name in term)
        if term
        else CONSTANT
        for term in terms
    ]
    spec = ModelSpec(formula=SimpleFormula(made_of), output="numpy")
    made = spec.get_model_matrix(pd.DataFrame(cells, index=range(2)))
    return [
        (
            frozenset(f.expr for f in encoded.term.factors) if encoded.term.degree else frozenset(),
            encoded.scoped_terms,
        )
        for encoded in made.model_spec.structure
    ]


def _joined(names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the names of all products, those of the first varying first; none of no factor."""
    if not names:
        return ()
    return tuple(":".join(reversed(some)) for some in product(*reversed(names)))
