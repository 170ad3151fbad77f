"""What a formula reads of the table and of the grid, which is which, and where it cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import chain

import numpy as np
import pandas as pd

from mmfusion.structured._options import TIME
from mmfusion.structured._parse import ParsedFormula, columns_read, expression_columns
from mmfusion.structured._table import FormulaColumns, FormulaRows, Side
from mmfusion.structured.baseline import effects_of_grid
from mmfusion.structured.terms import Term
from mmfusion.structured.terms.bsplines import warn_outside

__all__ = ["check_beside_baseline", "check_names", "read_side", "warn_beyond"]


def check_names(
    parsed: ParsedFormula, text: str, frame: pd.DataFrame, points: pd.DataFrame
) -> None:
    """Raise ValueError unless each factor reads the table or the grid, and it is clear which."""
    for expression in parsed.offsets:
        shared = [name for name in expression_columns(expression)[1] if name in points]
        if shared:
            raise ValueError(
                f"offset({expression}) in the formula {text!r} reads the coordinate {shared[0]!r} "
                "of the predictors: an offset reads columns of the table alone."
            )
    for term in parsed.parametric:
        for factor in term.factors:
            names = factor.columns
            on_grid = [name for name in names if name in points]
            if 0 < len(on_grid) < len(names):
                (column, *_), (coordinate, *_) = sorted(set(names) - set(on_grid)), on_grid
                raise ValueError(
                    f"{factor.text!r} in the formula {text!r} reads the column {column!r} and the "
                    f"coordinate {coordinate!r} of the predictors together. Multiply a function of "
                    f"each, as in {column}:{coordinate} or {column}:log({coordinate}), or write "
                    f"te({column}, {coordinate})."
                )
    for name in columns_read(text):
        if len(points.columns) and name not in points and name not in frame:
            known = [*points.columns, *frame.columns]
            nearest = get_close_matches(name, map(str, known), 1, cutoff=0.0)
            raise ValueError(
                f"The formula {text!r} reads {name!r}, which is neither a column of the table nor "
                f"one of the coordinates {list(points.columns)} of the outcome's predictors. "
                f"Nearest to {name!r}: {nearest[0]!r}."
            )
        if name in points and name in frame:
            raise ValueError(
                f"The formula {text!r} reads {name!r}: a column of the table, but also a "
                "coordinate of the outcome's predictors, whose name it is. Give the column "
                "another name, or leave it out of the table."
            )
    for spec in parsed.smooths:
        if spec.function == "tv" and TIME not in points and TIME not in frame:
            raise ValueError(
                f"The term {spec.label} is an effect that varies over the time {TIME!r}, which "
                "neither the predictors of the outcome have (those of hazards in intervals do) "
                "nor the table."
            )
        apart = not any(name in points for name in spec.variables)
        if spec.function == "s" and len(spec.variables) > 1 and apart:
            raise ValueError(
                f"The term {spec.label} must name one column before its options, or one and a "
                "coordinate of the predictors. A smooth surface is te(x, z)."
            )


def check_beside_baseline(parsed: ParsedFormula, points: pd.DataFrame) -> None:
    """Raise ValueError if a term holds a function of the grid alone."""
    alone = effects_of_grid(parsed, points.columns.tolist())
    if alone:
        raise ValueError(
            f"The term {alone[0]} holds an effect of the predictors' coordinates alone, which the "
            "baseline has: a constant for each of them. Leave it out, or leave the interaction "
            "alone: x:t, C(g):t, ti(x, t), tv(x)."
        )


def read_side(parsed: ParsedFormula, frame: pd.DataFrame, mine: Callable[[str], bool]) -> Side:
    """Return what a formula reads of the table or of the grid, and the cells there."""
    smooths = [spec for spec in parsed.smooths if spec.function != "re"]
    random = [spec.variables[0] for spec in parsed.smooths if spec.function == "re"]
    variables = chain.from_iterable(spec.variables for spec in smooths)
    by = [spec.by for spec in smooths if spec.by is not None]
    columns = FormulaColumns.fit(
        frame,
        numbers=list(filter(mine, [*sorted(parsed.numbers), *variables])),
        factors=list(filter(mine, sorted(parsed.factors))),
        random=list(filter(mine, random)),
        either=list(filter(mine, [*sorted(parsed.bare), *by])),
    )
    return Side(columns, columns.read(frame))


def warn_beyond(terms: Sequence[Term], rows: FormulaRows) -> None:
    """Warn once a variable of values beyond the range of its smooths."""
    ranges: dict[str, tuple[float, float]] = {}
    for term in terms:
        for name, (lower, upper) in term.ranges.items():
            low, high = ranges.get(name, (-np.inf, np.inf))
            ranges[name] = max(low, lower), min(high, upper)
    for name, (low, high) in ranges.items():
        x = rows.numbers.get(name, np.empty(0))
        warn_outside(name, low, high, int(((x < low) | (x > high)).sum()))
