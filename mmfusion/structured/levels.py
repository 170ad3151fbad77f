"""The levels of the factors in a formula, each with its coefficient."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmfusion.structured._table import FormulaRows
from mmfusion.structured.terms import Term
from mmfusion.structured.terms.factors import Coding, Factor, Number
from mmfusion.structured.terms.parametric import ParametricTerm

__all__ = ["LevelsOfFactor", "levels_of", "single"]

F = TypeVar("F", bound=Factor)

#: Rows that rule out most columns of numbers.
FEW = 100


class LevelsOfFactor(NamedTuple):
    """The levels of a factor with their coefficients, None of a reference, and those of some rows.

    Attributes
    ----------
    label : str
    codes : ndarray of int, shape (n,)
        The place of each row's level.
    levels : tuple of tuple of level and str or None
    """

    label: str
    codes: NDArray[np.intp]
    levels: tuple[tuple[Hashable, str | None], ...]


def levels_of(
    terms: Sequence[Term], rows: FormulaRows, known_levels: Mapping[str, tuple[Hashable, ...]]
) -> list[LevelsOfFactor]:
    """Return the levels of each factor, and of each number that is 0 or 1, with their rows.

    Parameters
    ----------
    terms : sequence of Term
    rows : FormulaRows
    known_levels : mapping of str to tuple
        Of each column that is a factor.
    """
    found = []
    for label, coding in single(terms, Coding):
        if coding.name in rows.codes and np.isin(coding.contrasts, (0, 1)).all():
            names = [
                next((n for n, on in zip(coding.names, row, strict=True) if on), None)
                for row in coding.contrasts
            ]
            if (coding.contrasts.sum(axis=1) <= 1).all():
                known = zip(known_levels[coding.name], names, strict=True)
                found.append(LevelsOfFactor(label, rows.codes[coding.name], tuple(known)))
    for label, number in single(terms, Number):
        values = rows.numbers.get(number.column or number.names[0])
        if values is None or not all(_zeros_and_ones(some) for some in (values[:FEW], values)):
            continue
        if 0 < values.sum() < len(values):
            levels = ((0, None), (1, number.names[0]))
            found.append(LevelsOfFactor(label, values.astype(np.intp), levels))
    return found


def _zeros_and_ones(values: NDArray[np.float64]) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def single(terms: Sequence[Term], kind: type[F]) -> list[tuple[str, F]]:
    """Return the terms that are one factor of a kind, by their labels."""
    return [
        (term.label, factor)
        for term in terms
        if isinstance(term, ParametricTerm) and len(term.parts) == 1
        for factor in term.parts[0].factors
        if isinstance(factor, kind) and len(term.parts[0].factors) == 1
    ]
