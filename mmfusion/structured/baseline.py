"""Effects of the predictors' coordinates alone: what a baseline holds."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from mmfusion.inputs.columns import column_kind
from mmfusion.structured._parse import ParsedFormula, parse_formula

__all__ = ["effects_of_grid", "with_baseline"]


def effects_of_grid(
    parsed: ParsedFormula, points: Collection[str], factors: Collection[str] = ()
) -> list[str]:
    """Return the terms that hold a function of the grid's coordinates alone.

    Parameters
    ----------
    parsed : ParsedFormula
    points : collection of str
        Names of the coordinates.
    factors : collection of str
        The ``by`` columns whose levels have a smooth each, which add up to one without ``by``.
    """
    alone = [
        str(term)
        for term in parsed.parametric
        if all(name in points for factor in term.factors for name in factor.columns)
    ]
    for spec in parsed.smooths:
        on_grid = [name in points for name in spec.variables]
        multiplied = spec.by is not None and spec.by not in points and spec.by not in factors
        if not multiplied and (all(on_grid) or (any(on_grid) and spec.function != "ti")):
            alone.append(spec.label)
    return alone


def with_baseline(text: str, baseline: str, frame: pd.DataFrame, points: Collection[str]) -> str:
    """Return a formula with the baseline before it, unless it has a function of the grid itself.

    Parameters
    ----------
    text, baseline : str
    frame : DataFrame
        The table: whether a ``by`` is a factor.
    points : collection of str
        Names of the coordinates.
    """
    parsed = parse_formula(text)
    by = {spec.by for spec in parsed.smooths if spec.by is not None and spec.by in frame}
    factors = {name for name in by if column_kind(frame[name]) == "categorical"}
    return text if effects_of_grid(parsed, points, factors) else f"{baseline} + {text}"
