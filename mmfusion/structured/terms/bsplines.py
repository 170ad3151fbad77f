"""bs() of a formula: unpenalised B-splines, with the knots of the training rows."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from formulaic.materializers.types import FactorValues
from formulaic.utils.stateful_transforms import stateful_transform
from numpy.typing import NDArray

from mmfusion.inputs.rounding import is_constant
from mmfusion.structured.splines import BSplineBasis

__all__ = ["bs_of", "warn_outside"]

Array = NDArray[np.float64]


def warn_outside(column: str, lower: float, upper: float, count: int) -> None:
    """Warn that values lie outside the range of a spline."""
    if count:
        warnings.warn(
            f"Column {column!r} has {count} value(s) outside [{lower:.6g}, {upper:.6g}], the range "
            "of the training rows: the smooth is continued there as a straight line.",
            stacklevel=2,
        )


def bs_of(names: Mapping[str, str]) -> Any:
    """Return the function bs() of formulas over a table whose columns have internal names.

    Parameters
    ----------
    names : mapping of str to str
        The users' names, for warnings.
    """

    @stateful_transform
    def bs(
        x: Any,
        df: int | None = None,
        knots: Any = None,
        degree: int = 3,
        include_intercept: bool = False,
        _state: dict[str, Any] = {},  # noqa: B006 (formulaic hands over the state of this call)
    ) -> FactorValues:
        """Return unpenalised B-splines as R's bs does, but linear beyond the training range."""
        values = np.asarray(x, dtype=np.float64)
        if not _state:
            knots = _inner_and_outer_knots(values, df, knots, degree, include_intercept)
            _state.update(knots=knots)
        basis = BSplineBasis(np.asarray(_state["knots"], dtype=np.float64), degree)
        outside = (values < basis.lower) | (values > basis.upper)
        name = str(getattr(x, "name", "x"))
        warn_outside(names.get(name, name), basis.lower, basis.upper, int(outside.sum()))
        design = basis.evaluate(values)[:, 0 if include_intercept else 1 :]
        numbers = tuple(str(j + 1) for j in range(design.shape[1]))
        return FactorValues(design, column_names=numbers)

    return bs


def _inner_and_outer_knots(
    x: Array, df: int | None, knots: Any, degree: int, include_intercept: bool
) -> Array:
    """Return the knot sequence: inner knots at quantiles unless given, outer ones repeated."""
    inner = np.array([] if knots is None else knots, dtype=np.float64).reshape(-1)
    if (df is None) == (knots is None):
        raise ValueError("bs(x, ...) must have one of df= and knots=.")
    if is_constant(x):
        raise ValueError(f"The x of bs(x, ...) is constant in the training rows. Got {x.min():g}.")
    if df is not None:
        count = df - degree - bool(include_intercept)
        if count < 0:
            raise ValueError(f"df of bs(x, ...) must be at least {df - count}. Got {df}.")
        inner = np.quantile(x, np.linspace(0.0, 1.0, count + 2)[1:-1])
    if len(inner) and not (x.min() < inner.min() and inner.max() < x.max()):
        raise ValueError(f"The knots of bs(x, ...) must lie inside [{x.min()}, {x.max()}].")
    outer = degree + 1
    return np.concatenate([[x.min()] * outer, np.sort(inner), [x.max()] * outer])
