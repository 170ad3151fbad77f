"""Formula: a design matrix, its terms and penalties, fixed on the training rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmfusion.structured._options import SmoothSpec
from mmfusion.structured._overlap import check_overlap
from mmfusion.structured._parse import parse_formula
from mmfusion.structured._table import FormulaColumns, FormulaRows
from mmfusion.structured.columns import TermColumns
from mmfusion.structured.parametric import parametric_design, warn_outside
from mmfusion.structured.smooths import RandomIntercept, Smooth

__all__ = ["Formula"]


class Formula:
    """The structured part's design: a formula, with knots, levels and contrasts fixed at fit.

    Parameters
    ----------
    formula : str
        The right-hand side of a model: columns (numbers, or factors coded against their first
        level), ``C(column)``, ``C(column, contr.sum)``, interactions ``a:b`` and ``a*b``,
        ``poly(x, 2)``, ``bs(x, df=5)``, ``log(x)``, ``I(x / 10)``; and the terms of Notes. Names
        that are no Python names stand in backticks.

    Attributes
    ----------
    intercept : bool
        Whether the design has a column of ones.
    names_ : tuple of str
        Name of each column: "age", "C(stage)[T.2]", "s(age).1", "re(site)[A]".
    terms_ : tuple of TermColumns
        Parametric terms first (main effects before interactions), then the others in the
        formula's order; their `columns` tile the design.
    columns_ : tuple of str
        The columns of the table that are read.

    Notes
    -----
    ``s(x, k=10, bs="ps", m=(2, 2), by=None, sp=None, df=None)``
        Penalised spline. ``bs="ps"``: `k` B-splines on evenly spaced knots, ``m`` their degree
        less one and the order of the difference penalty (Eilers & Marx 1996). ``bs="cr"``: cubic
        regression spline with `k` knots at quantiles of the distinct values, penalty on the
        integrated squared second derivative (Wood 2017, section 5.3.1).
    ``s(x, by=z)``
        Numeric `z`: the effect of `z` varies smoothly with `x`; its basis holds `z` itself, so
        leave that out of the formula. Factor `z` (text or categories): a smooth for each level;
        put `z` into the formula too, for the level's mean.
    ``te(x, z, k=5, bs="cr", ...)``
        Tensor product of marginal splines with a penalty a direction (Wood 2017, section 5.6).
        It holds the smooth main effects.
    ``ti(x, z, k=5, bs="cr", ...)``
        Its interaction alone: each margin sums to zero before the product, so that
        ``s(x) + s(z) + ti(x, z)`` splits a surface into main effects and what is beyond them.
    ``re(site)``
        Random intercepts: a column a level, identity penalty.

    ``sp=`` fixes the smoothing parameter (a tuple for several penalties), ``df=`` the effective
    degrees of freedom. Knots, penalties and their scale are those of R's mgcv, so its ``sp``
    mean the same here. A smooth sums to zero over the training rows, but for a numeric ``by``,
    which has no constraint, and ``ti``, whose margins do. Two smooths that hold the same effect,
    such as ``te(x, z) + s(x)``, are an error.

    At prediction an unseen level of a fixed effect is an error; an unseen level of ``re`` has
    effect zero; ``s``, ``te``, ``ti`` and ``bs`` go on as straight lines beyond the training
    range, with a warning. Missing cells are an error, at fit and at prediction.

    Examples
    --------
    >>> import pandas as pd
    >>> patients = pd.DataFrame(
    ...     {
    ...         "age": [40.0, 52.0, 61.0, 70.0, 48.0, 66.0],
    ...         "stage": ["I", "II", "III", "I", "II", "III"],
    ...     }
    ... )
    >>> formula = Formula("s(age, k=5) + C(stage)").fit(patients)
    >>> formula.names_
    ('Intercept', 'C(stage)[T.II]', 'C(stage)[T.III]', 's(age).1', 's(age).2', 's(age).3',
     's(age).4')
    >>> [(term.label, term.kind, len(term.penalties)) for term in formula.terms_]
    [('Intercept', 'parametric', 0), ('C(stage)', 'parametric', 0), ('s(age)', 'smooth', 1)]
    >>> design = formula.transform(patients)
    >>> abs(design[:, 3:].sum(axis=0)).max().round(12)
    np.float64(0.0)
    """

    intercept: bool
    names_: tuple[str, ...]
    terms_: tuple[TermColumns, ...]
    columns_: tuple[str, ...]

    def __init__(self, formula: str) -> None:
        self.formula = formula

    def fit(self, frame: pd.DataFrame, *, intercept: bool = True) -> Self:
        """Fix knots, levels, contrasts and constraints on the training rows.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)
        intercept : bool, default=True
            Whether the model has an intercept column. False for a Cox model, whose constant is in
            the baseline hazard: factors are then coded as beside an intercept all the same.

        Returns
        -------
        Formula

        Raises
        ------
        ValueError
            If the formula does not parse or holds what is not allowed, a column is not in the
            table, holds the wrong kind of value or is missing in some row, a factor has one
            level, a smooth's variable has too few distinct values for its basis, or two smooths
            hold the same effect.
        """
        self.fit_transform(frame, intercept=intercept)
        return self

    def fit_transform(self, frame: pd.DataFrame, *, intercept: bool = True) -> NDArray[np.float64]:
        """Fit, and return the design of the training rows: `fit` and `transform` in one."""
        if not isinstance(self.formula, str):
            raise TypeError(f"A formula must be text. Got {type(self.formula).__name__}.")
        parsed = parse_formula(self.formula)
        smooths = [spec for spec in parsed.smooths if spec.function != "re"]
        self._table = FormulaColumns.fit(
            frame,
            numbers=[
                *sorted(parsed.numbers),
                *(name for spec in smooths for name in spec.variables),
            ],
            factors=sorted(parsed.factors),
            random=[spec.variables[0] for spec in parsed.smooths if spec.function == "re"],
            either=[*sorted(parsed.bare), *(spec.by for spec in smooths if spec.by)],
        )
        rows = self._table.read(frame)
        check_overlap(smooths, factors={s.by for s in smooths if s.by and self._is_factor(s.by)})
        self._constant = bool(intercept)
        parametric = parametric_design(parsed, rows, self._table, intercept=self._constant)
        self._transforms = parametric.state
        self._smooths: dict[str, Smooth | RandomIntercept] = {}
        names = list(parametric.names)
        terms: list[TermColumns] = []
        blocks = [parametric.matrix]
        start = 0
        for label, width, variables in parametric.terms:
            terms.append(
                TermColumns(label, slice(start, start + width), "parametric", variables=variables)
            )
            start += width
        for spec in parsed.smooths:
            for smooth in self._fit_smooth(spec, rows):
                self._smooths[smooth.label] = smooth
                terms.append(_smooth_term(smooth, spec, start))
                names += smooth.names
                blocks.append(self._smooth_design(smooth, rows))
                start += len(smooth.names)
        self.intercept = "Intercept" in names
        self.names_ = tuple(names)
        self.terms_ = tuple(terms)
        self.columns_ = tuple(dict.fromkeys([*self._table.numbers, *self._table.levels]))
        return np.concatenate(blocks, axis=1)

    def transform(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return the design of some rows.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)
            With the columns seen at fit; others are not read.

        Returns
        -------
        ndarray of float64, shape (n_rows, len(names_))
            Finite.

        Raises
        ------
        ValueError
            If a column is not in the table, is missing in some row or of another kind than at
            fit, a fixed effect has an unseen level, or a term is not finite.
        """
        self._check_fitted()
        rows = self._table.read(frame)
        parametric = parametric_design(
            parse_formula(self.formula),
            rows,
            self._table,
            intercept=self._constant,
            state=self._transforms,
        )
        self._warn_outside(rows, list(self._smooths.values()))
        parts = [self._smooth_design(smooth, rows) for smooth in self._smooths.values()]
        return np.concatenate([parametric.matrix, *parts], axis=1)

    def transform_term(self, label: str, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return the columns of one smooth or random term, from a table with its columns alone.

        Parameters
        ----------
        label : str
            The label of a term of kind "smooth" or "random".
        frame : DataFrame of shape (n_rows, n_columns)
            With the term's variables. Its ``by`` column may be left out: then the effect is that
            of ``by = 1``, or of the smooth's own level.

        Returns
        -------
        ndarray of float64, shape (n_rows, k)

        Raises
        ------
        ValueError
            If the formula has no such term, or as in `transform`.
        """
        self._check_fitted()
        smooth = self._smooths.get(label)
        if smooth is None:
            known = ", ".join(repr(name) for name in self._smooths) or "none"
            raise ValueError(
                f"The formula has no smooth or random term {label!r}. It has: {known}."
            )
        if isinstance(smooth, RandomIntercept):
            return self._smooth_design(smooth, self._table.read(frame, [smooth.variable]))
        by = [smooth.by] if smooth.by is not None and smooth.by in frame else []
        rows = self._table.read(frame, [*smooth.variables, *by])
        self._warn_outside(rows, [smooth])
        return self._smooth_design(smooth, rows)

    def state(self) -> dict[str, Any]:
        """Return the fitted formula as plain Python and NumPy objects."""
        self._check_fitted()
        return {
            "formula": self.formula,
            "constant": self._constant,
            "intercept": self.intercept,
            "names": list(self.names_),
            "columns": list(self.columns_),
            "table": dict(vars(self._table)),
            "transforms": self._transforms,
            "smooths": [
                {"label": label, "random": isinstance(smooth, RandomIntercept), **_fields(smooth)}
                for label, smooth in self._smooths.items()
            ],
            "terms": [
                {**vars(term), "columns": [term.columns.start, term.columns.stop]}
                for term in self.terms_
            ],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild what `state` returned; nothing in it is executed."""
        self = cls(state["formula"])
        parse_formula(self.formula)
        self._constant = state["constant"]
        self.intercept = state["intercept"]
        self.names_ = tuple(state["names"])
        self.columns_ = tuple(state["columns"])
        self._table = FormulaColumns(**state["table"])
        self._transforms = state["transforms"]
        self._smooths = {}
        for entry in state["smooths"]:
            fields = {key: value for key, value in entry.items() if key != "random"}
            made = RandomIntercept(**fields) if entry["random"] else Smooth.from_state(fields)
            self._smooths[entry["label"]] = made
        self.terms_ = tuple(
            TermColumns(**{**term, "columns": slice(*term["columns"])}) for term in state["terms"]
        )
        return self

    def _check_fitted(self) -> None:
        if not hasattr(self, "terms_"):
            raise ValueError("This Formula is not fitted: call fit on the training rows first.")

    def _fit_smooth(self, spec: SmoothSpec, rows: FormulaRows) -> list[Smooth | RandomIntercept]:
        """Return the fitted smooths of a term: one, or one a level of its factor `by`."""
        if spec.function == "re":
            return [
                RandomIntercept(
                    spec.label, spec.variables[0], self._table.levels[spec.variables[0]]
                )
            ]
        for name, k in zip(spec.variables, spec.k, strict=True):
            _check_distinct(spec, name, k, rows.numbers[name])
        if spec.by is None:
            return [Smooth.fit(spec, rows.numbers)]
        if self._is_factor(spec.by):
            return [
                Smooth.fit(spec, rows.numbers, level=level) for level in self._table.levels[spec.by]
            ]
        if np.ptp(rows.numbers[spec.by]) == 0:
            raise ValueError(
                f"Column {spec.by!r}, by= of {spec.label}, is constant in the training rows."
            )
        return [Smooth.fit(spec, rows.numbers)]

    def _is_factor(self, name: str) -> bool:
        return name in self._table.fixed and name not in self._table.numbers

    def _smooth_design(
        self, smooth: Smooth | RandomIntercept, rows: FormulaRows
    ) -> NDArray[np.float64]:
        if isinstance(smooth, RandomIntercept):
            return smooth.design(rows.codes[smooth.variable])
        by: NDArray[np.float64] | None = None
        if smooth.level is None:
            by = rows.numbers.get(smooth.by) if smooth.by is not None else None
        elif smooth.by in rows.codes:
            place = self._table.levels[smooth.by].index(smooth.level)
            by = (rows.codes[smooth.by] == place).astype(np.float64)
        return smooth.design(rows.numbers, by)

    def _warn_outside(self, rows: FormulaRows, smooths: list[Smooth | RandomIntercept]) -> None:
        """Warn once a column of values beyond the range of its smooths."""
        ranges: dict[str, tuple[float, float]] = {}
        for smooth in smooths:
            if isinstance(smooth, Smooth):
                for name, basis in zip(smooth.variables, smooth.bases, strict=True):
                    low, high = ranges.get(name, (-np.inf, np.inf))
                    ranges[name] = max(low, basis.lower), min(high, basis.upper)
        for name, (low, high) in ranges.items():
            x = rows.numbers[name]
            warn_outside(name, low, high, int(((x < low) | (x > high)).sum()))


def _fields(smooth: Smooth | RandomIntercept) -> dict[str, Any]:
    return smooth.state() if isinstance(smooth, Smooth) else dict(vars(smooth))


def _smooth_term(smooth: Smooth | RandomIntercept, spec: SmoothSpec, start: int) -> TermColumns:
    size = len(smooth.names)
    if isinstance(smooth, RandomIntercept):
        null = 0
        variables: tuple[str, ...] = (smooth.variable,)
    else:
        null = smooth.null_dimension
        variables = (*smooth.variables, *([smooth.by] if smooth.by is not None else []))
    if spec.df is not None and not null < spec.df <= size:
        raise ValueError(
            f"The df option of {smooth.label} must be above {null}, the part without penalty, and "
            f"at most {size}, the number of its columns. Got {spec.df:g}."
        )
    kind: Any = "random" if spec.function == "re" else "smooth"
    return TermColumns(
        smooth.label,
        slice(start, start + size),
        kind,
        penalties=smooth.penalties,
        sp=spec.sp,
        df=spec.df,
        variables=variables,
    )


def _check_distinct(spec: SmoothSpec, name: str, k: int, x: NDArray[np.float64]) -> None:
    """Raise ValueError unless a variable has the distinct values its basis needs."""
    distinct = len(np.unique(x))
    needed = k if spec.bs == "cr" else spec.m[1] + 1
    if distinct < max(needed, 2):
        has = "is constant" if distinct == 1 else f"has {distinct} distinct values"
        raise ValueError(
            f"Column {name!r} {has} in the training rows; {spec.label} with bs={spec.bs!r} needs "
            f"at least {max(needed, 2)}. Lower k, or use C({name}) or {name} itself."
        )
