"""Random intercepts: re()."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Self

import numpy as np

from mmfusion.structured._options import SmoothSpec
from mmfusion.structured._table import FormulaRows, Training
from mmfusion.structured.rows import Indicator
from mmfusion.structured.terms.base import Array, Product, Term, check_df

__all__ = ["RandomIntercept"]


@dataclass(frozen=True, eq=False)
class RandomIntercept(Term):
    """A random intercept: a column a level of the training rows, identity penalty.

    A level that was not in the training rows has a row of zeros: its effect is the mean, zero.
    """

    label: str
    variables: tuple[str, ...]
    levels: tuple[Hashable, ...]
    penalties: tuple[Array, ...]
    sp: tuple[float, ...] | None = None
    df: float | None = None

    coordinates = ()
    by = None
    by_coefficient = False
    tested = False

    @classmethod
    def fit(cls, spec: SmoothSpec, training: Training) -> list[Self]:
        """Return the term over the levels of the training rows."""
        (name,) = spec.variables
        if name in training.grid:
            raise ValueError(
                f"The term {spec.label} must name a column of the table. {name!r} is a coordinate "
                f"of the predictors: write s({name}) for a smooth effect, C({name}) for a constant "
                "a value."
            )
        levels = training.table.columns.levels[name]
        check_df(spec.label, spec.df, 0, len(levels))
        identity = np.ones(len(levels))
        return [cls(spec.label, spec.variables, levels, (identity,), spec.sp, spec.df)]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"{self.label}[{level}]" for level in self.levels)

    def products(self, rows: FormulaRows, points: FormulaRows) -> tuple[Product, ...]:
        size = len(self.levels)
        indicator = Indicator(rows.codes[self.variables[0]], size)
        return (Product(indicator, None, np.arange(size)[None]),)
