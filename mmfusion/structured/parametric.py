"""The parametric terms of a formula: formulaic's design, with its state in plain objects."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from formulaic import ModelSpec, SimpleFormula
from formulaic.errors import FormulaicError
from formulaic.materializers.types import FactorValues
from formulaic.parser.types import Factor, Term
from formulaic.utils.stateful_transforms import stateful_transform
from numpy.typing import NDArray

from mmfusion.structured._parse import ParsedFormula
from mmfusion.structured._table import FormulaColumns, FormulaRows
from mmfusion.structured.splines import BSplineBasis

__all__ = ["ParametricDesign", "parametric_design", "warn_outside"]

Array = NDArray[np.float64]

_CONSTANT = Term([Factor("1", eval_method="literal")])


class ParametricDesign:
    """Columns of the parametric terms.

    Attributes
    ----------
    matrix : ndarray of float64, shape (n, p)
    names : list of str
        "Intercept", "age", "C(stage)[T.2]", "age:sex[T.m]".
    terms : list of (str, int, tuple of str)
        Label, number of columns and columns of the table of each term, in order.
    state : dict
        What the transforms (poly, bs, center, scale) fixed on the training rows.
    """

    def __init__(
        self,
        matrix: Array,
        names: list[str],
        terms: list[tuple[str, int, tuple[str, ...]]],
        state: dict[str, Any],
    ) -> None:
        self.matrix = matrix
        self.names = names
        self.terms = terms
        self.state = state


def parametric_design(
    parsed: ParsedFormula,
    rows: FormulaRows,
    columns: FormulaColumns,
    *,
    intercept: bool,
    state: Mapping[str, Any] | None = None,
) -> ParametricDesign:
    """Evaluate the parametric terms.

    Parameters
    ----------
    parsed : ParsedFormula
    rows : FormulaRows
    columns : FormulaColumns
    intercept : bool
        False if the model's constant is elsewhere (in a baseline hazard): factors are coded as
        beside an intercept, whose column is then left out.
    state : mapping, optional
        What the transforms fixed on the training rows; learnt from these rows by default.

    Raises
    ------
    ValueError
        If a term cannot be evaluated, or is not finite in some row.
    """
    terms = list(parsed.parametric)
    if not intercept or parsed.intercept:
        terms.insert(0, _CONSTANT)
    if not terms:
        return ParametricDesign(np.empty((rows.n, 0)), [], [], {})
    spec = ModelSpec(
        formula=SimpleFormula(terms),
        output="numpy",
        na_action="ignore",
        transform_state=copy.deepcopy(dict(state or {})),
    )
    context = {"bs": _bs, "sqrt": np.sqrt, "log1p": np.log1p}
    try:
        with np.errstate(all="ignore"):  # found and named below
            made = spec.get_model_matrix(_clean_frame(parsed, rows, columns), context=context)
    except FormulaicError as error:
        raise ValueError(f"The formula cannot be evaluated: {error}") from error
    matrix = np.asarray(made, dtype=np.float64)
    fitted = made.model_spec
    names, labels = list(fitted.column_names), []
    for term, _, its_names in fitted.structure:
        label = "Intercept" if term.degree == 0 else str(term)
        labels.append((label, len(its_names), parsed.parametric.get(term, ())))
    if not intercept:
        matrix, names, labels = matrix[:, 1:], names[1:], labels[1:]
    _check_finite(matrix, names, rows)
    return ParametricDesign(
        np.ascontiguousarray(matrix), names, labels, _plain(fitted.transform_state)
    )


def warn_outside(column: str, lower: float, upper: float, count: int) -> None:
    """Warn that values lie outside the range of a spline."""
    if count:
        warnings.warn(
            f"Column {column!r} has {count} value(s) outside [{lower:.6g}, {upper:.6g}], the range "
            "of the training rows: the smooth is continued there as a straight line.",
            stacklevel=2,
        )


def _clean_frame(parsed: ParsedFormula, rows: FormulaRows, columns: FormulaColumns) -> pd.DataFrame:
    """Return float64 columns and factors with the training levels: all that formulaic sees."""
    cells: dict[str, Any] = {}
    for name in sorted(parsed.bare | parsed.factors | parsed.numbers):
        if name in parsed.factors or (name in columns.fixed and name not in columns.numbers):
            levels = pd.Index(columns.levels[name], dtype=object)
            cells[name] = pd.Categorical.from_codes(rows.codes[name], categories=levels)
        else:
            cells[name] = rows.numbers[name]
    return pd.DataFrame(cells, index=pd.RangeIndex(rows.n), copy=False)


def _check_finite(matrix: Array, names: list[str], rows: FormulaRows) -> None:
    bad = ~np.isfinite(matrix)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"The column {names[column]!r} of the formula's design must be finite. "
            f"Got {matrix[row, column]} in row {rows.index[row]!r}."
        )


@stateful_transform
def _bs(
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
        _state.update(knots=_inner_and_outer_knots(values, df, knots, degree, include_intercept))
    basis = BSplineBasis(np.asarray(_state["knots"], dtype=np.float64), degree)
    outside = (values < basis.lower) | (values > basis.upper)
    warn_outside(str(getattr(x, "name", "x")), basis.lower, basis.upper, int(outside.sum()))
    design = basis.evaluate(values)[:, 0 if include_intercept else 1 :]
    return FactorValues(design, column_names=tuple(str(j + 1) for j in range(design.shape[1])))


def _inner_and_outer_knots(
    x: Array, df: int | None, knots: Any, degree: int, include_intercept: bool
) -> Array:
    """Return the knot sequence: inner knots at quantiles unless given, outer ones repeated."""
    inner = np.array([] if knots is None else knots, dtype=np.float64).reshape(-1)
    if (df is None) == (knots is None):
        raise ValueError("bs(x, ...) must have one of df= and knots=.")
    if df is not None:
        count = df - degree - bool(include_intercept)
        if count < 0:
            raise ValueError(f"df of bs(x, ...) must be at least {df - count}. Got {df}.")
        inner = np.quantile(x, np.linspace(0.0, 1.0, count + 2)[1:-1])
    if len(inner) and not (x.min() < inner.min() and inner.max() < x.max()):
        raise ValueError(f"The knots of bs(x, ...) must lie inside [{x.min()}, {x.max()}].")
    outer = degree + 1
    return np.concatenate([[x.min()] * outer, np.sort(inner), [x.max()] * outer])


def _plain(state: Any) -> Any:
    """Return a transform's state with NumPy scalars made Python numbers."""
    if isinstance(state, Mapping):
        return {key: _plain(value) for key, value in state.items()}
    return state.item() if isinstance(state, np.generic) else state
