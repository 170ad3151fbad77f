"""The sorts of terms that there are: how a formula makes them, and rebuilds saved ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmfusion.structured._parse import ParsedFormula
from mmfusion.structured._table import Training
from mmfusion.structured.terms.base import Term
from mmfusion.structured.terms.parametric import ParametricTerm
from mmfusion.structured.terms.random import RandomIntercept
from mmfusion.structured.terms.smooth import Smooth

__all__ = ["fit_terms", "term_from_state", "term_state"]

_SORTS: dict[str, type[Term]] = {
    "parametric": ParametricTerm,
    "smooth": Smooth,
    "random": RandomIntercept,
}
_OF_FUNCTION: dict[str, type[Smooth] | type[RandomIntercept]] = {
    **dict.fromkeys(("s", "te", "ti", "tv"), Smooth),
    "re": RandomIntercept,
}


def fit_terms(parsed: ParsedFormula, training: Training, *, intercept: bool) -> tuple[Term, ...]:
    """Return the fitted terms: parametric ones first, the others in the formula's order.

    Parameters
    ----------
    parsed : ParsedFormula
    training : Training
    intercept : bool
        False if the model's constant is elsewhere: see `ParametricTerm.fit`.

    Raises
    ------
    ValueError
        If a term cannot be evaluated, what it reads does not determine its basis, or two terms
        cannot be told apart by the names of their coefficients.
    """
    parametric = ParametricTerm.fit(parsed, training, intercept=intercept)
    others: list[Term] = []
    for spec in parsed.smooths:
        others += _OF_FUNCTION[spec.function].fit(spec, training)
    alike = _alike([*parametric, *others])
    if alike:
        parametric = ParametricTerm.fit(parsed, training, intercept=intercept, quoted=alike)
    terms = [*parametric, *others]
    still = _alike(terms)
    if still:
        raise ValueError(
            f"The term {terms[min(still)].label!r} has a coefficient of the same name as another "
            "term's: give a column or a level another name."
        )
    return tuple(terms)


def _alike(terms: Sequence[Term]) -> set[int]:
    """Return the places of the terms that share a shown name with another."""
    places: dict[str, set[int]] = {}
    for place, term in enumerate(terms):
        shown = term.names if term.by_coefficient else (term.label, *term.names)
        for name in shown:
            places.setdefault(name, set()).add(place)
    return set().union(*(some for some in places.values() if len(some) > 1))


def term_state(term: Term) -> dict[str, Any]:
    """Return a term as plain Python and NumPy objects."""
    (sort,) = (name for name, cls in _SORTS.items() if type(term) is cls)
    return {"sort": sort, **term.state()}


def term_from_state(state: Mapping[str, Any]) -> Term:
    """Rebuild what `term_state` returned; nothing in it is executed."""
    fields = {name: value for name, value in state.items() if name != "sort"}
    return _SORTS[state["sort"]].from_state(fields)
