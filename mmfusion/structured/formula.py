"""Formula: a design matrix, its terms and penalties, fixed on the training rows."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmfusion.inputs.columns import refuse_overflow
from mmfusion.structured._overlap import check_overlap
from mmfusion.structured._parse import (
    expression_columns,
    parse_formula,
)
from mmfusion.structured._reading import check_beside_baseline, check_names, read_side, warn_beyond
from mmfusion.structured._table import FormulaColumns, FormulaRows, Training, check_table
from mmfusion.structured.columns import TermColumns
from mmfusion.structured.levels import LevelsOfFactor, levels_of, single
from mmfusion.structured.terms import Term, fit_terms, term_from_state, term_state
from mmfusion.structured.terms.factors import Coding, Expression, Factor, factor_from_state

__all__ = ["Formula"]


class Formula:
    """The structured part's design: a formula, with knots, levels and contrasts fixed at fit.

    Parameters
    ----------
    formula : str
        The right-hand side of a model: columns (numbers, or factors coded against their first
        level), ``C(column)``, ``C(column, ref="b")``, ``C(column, contr.sum)``, interactions
        ``a:b`` and ``a*b``, ``poly(x, 2)``, ``bs(x, df=5)``, ``log(x)``, ``I(x / 10)``; and the
        terms of Notes. Names that are no Python names stand in backticks.

    Attributes
    ----------
    terms : tuple of Term
        Parametric terms first (main effects before interactions), then the others in the
        formula's order.
    names_ : tuple of str
        Name of each coefficient: "age", "C(stage)[T.2]", "s(age).1", "re(site)[A]".
    offsets : tuple of Factor
        The known parts of the predictor.
    points : FormulaRows
        The coordinates of the grid that are read.
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
    ``s(x, monotone="up")``, ``s(x, monotone="down")``
        An effect that does not fall, or does not rise, also beyond the training range: the
        coefficients of the B-splines are fitted under these inequalities, which is the one optimum
        of a concave likelihood. Its smoothing parameter is that of the smooth without them, and so
        are its bands, so that they do not vanish where the effect is level; degrees of freedom and
        test are those of the coefficients that are left (given how many, the statistic is
        chi-square: Bartholomew 1961, JRSS B 23:239-281). Also with ``by=``, and of ``tv(x)``,
        whose effect is then monotone in time.
    ``te(x, z, k=5, bs="cr", ...)``
        Tensor product of marginal splines with a penalty a direction (Wood 2017, section 5.6).
        It holds the smooth main effects.
    ``ti(x, z, k=5, bs="cr", ...)``
        Its interaction alone: each margin sums to zero before the product, so that
        ``s(x) + s(z) + ti(x, z)`` splits a surface into main effects and what is beyond them.
    ``re(site)``
        Random intercepts: a column a level, identity penalty.
    ``tv(x)``
        An effect of `x` that varies smoothly over time: ``s(t, by=x)``.
    ``offset(log(x))``
        A known part of the predictor: its coefficient is 1, at fit and at prediction.

    Where the predictors of the outcome lie on a grid, such as hazards in intervals at the times
    "t", a term may read their coordinates beside the table's columns: ``x:t``, ``x:log(t)``,
    ``C(sex):t``, ``s(t)``, ``s(x, t)`` or ``te(x, t)``, ``ti(x, t)``, ``s(t, by=x)``, ``tv(x)``.
    One factor reads one of the two. Knots over the grid are placed on its points, each of which
    counts once, and a smooth over it sums to zero over the points (over rows and points, if it
    runs over both). Elsewhere "t" is a column of the table as any other.

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
    >>> [(term.label, len(term.penalties)) for term in formula.terms]
    [('Intercept', 0), ('C(stage)', 0), ('s(age)', 1)]
    >>> design = formula.transform(patients)
    >>> abs(design[:, 3:].sum(axis=0)).max().round(12)
    np.float64(0.0)
    """

    terms: tuple[Term, ...]
    offsets: tuple[Factor, ...]

    def __init__(self, formula: str) -> None:
        self.formula = formula

    def fit(
        self,
        frame: pd.DataFrame,
        grid: Any = None,
        *,
        intercept: bool = True,
        baseline: bool = False,
    ) -> Self:
        """Fix knots, levels, contrasts and constraints on the training rows and the grid.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)
        grid : Grid of the head's K predictors, optional
            Its `names` (length K) and `coordinates` (mapping of str to array of shape (K,)) are
            read. None is one predictor, which lies nowhere.
        intercept : bool, default=True
            Whether the model has an intercept column. False for a Cox model, whose constant is in
            the baseline hazard: factors are then coded as beside an intercept all the same.
        baseline : bool, default=False
            Whether the model has a constant for each predictor, which holds every function of the
            grid alone. Effects over the grid are then differences: of a factor ``C(g):t`` and
            ``s(t, by=g)`` leave out the first level.

        Returns
        -------
        Formula

        Raises
        ------
        ValueError
            If the formula does not parse or holds what is not allowed, a column is not in the
            table, holds the wrong kind of value or is missing in some row, a factor has one
            level, a smooth's variable has too few distinct values for its basis, two smooths
            hold the same effect, a name is both a column's and a coordinate's, one factor
            reads both a column and a coordinate, or a term holds what the baseline does.
        """
        self.learn(frame, grid, intercept=intercept, baseline=baseline)
        return self

    def learn(
        self,
        frame: pd.DataFrame,
        grid: Any = None,
        *,
        intercept: bool = True,
        baseline: bool = False,
    ) -> FormulaRows:
        """Do what `fit` does, and return the cells of the training rows, as `read` does."""
        if not isinstance(self.formula, str):
            raise TypeError(f"A formula must be text. Got {type(self.formula).__name__}.")
        check_table(frame)
        parsed = parse_formula(self.formula)
        names = [""] if grid is None else list(grid.names)
        points = pd.DataFrame({} if grid is None else dict(grid.coordinates), index=names)
        check_names(parsed, self.formula, frame, points)
        if baseline:
            check_beside_baseline(parsed, points)
        table = read_side(parsed, frame, lambda name: name not in points)
        on_grid = read_side(parsed, points, lambda name: name in points)
        self.points = replace(on_grid.rows, unit="predictor")
        training = Training(table, replace(on_grid, rows=self.points), baseline)
        smooths = [spec for spec in parsed.smooths if spec.function != "re"]
        by = {spec.by for spec in smooths if spec.by is not None}
        check_overlap(smooths, {name for name in by if training.side(name).columns.is_factor(name)})
        self.terms = fit_terms(parsed, training, intercept=intercept)
        self.offsets = tuple(Expression.fit(text, table.rows) for text in parsed.offsets)
        self._table, self._grid = table.columns, on_grid.columns
        return table.rows

    @property
    def names_(self) -> tuple[str, ...]:
        """Names of the coefficients, of one parameter."""
        return tuple(chain.from_iterable(term.names for term in self.terms))

    @property
    def columns_(self) -> tuple[str, ...]:
        """The columns of the table that are read."""
        return tuple(dict.fromkeys([*self._table.numbers, *self._table.levels]))

    @property
    def references_(self) -> dict[str, Any]:
        """The level that the others are compared with, of each factor that has one."""
        return {
            label: self._known_levels[coding.name][coding.reference]
            for label, coding in single(self.terms, Coding)
            if coding.reference is not None
        }

    def factors(self, rows: FormulaRows) -> list[LevelsOfFactor]:
        """Return the levels of each factor, and of each number that is 0 or 1, with their rows.

        Parameters
        ----------
        rows : FormulaRows
            As of `read`.

        Returns
        -------
        list of LevelsOfFactor
            Of factors whose coefficients are a level's each.
        """
        return levels_of(self.terms, rows, self._known_levels)

    @property
    def _known_levels(self) -> dict[str, tuple[Hashable, ...]]:
        return {**self._table.levels, **self._grid.levels}

    def typical(self, rows: FormulaRows) -> dict[str, Any]:
        """Return the mean of each column of numbers that is read, the commonest level of others."""
        found: dict[str, Any] = {name: float(v.mean()) for name, v in rows.numbers.items()}
        for name, codes in rows.codes.items():
            found[name] = self._table.levels[name][int(np.bincount(codes).argmax())]
        return found

    def offset_columns(self) -> tuple[str, ...]:
        """Return the columns of the table that the offsets read."""
        texts = [
            expression.text for expression in self.offsets if isinstance(expression, Expression)
        ]
        return tuple(dict.fromkeys(c for text in texts for c in expression_columns(text)[1]))

    def known(self, rows: FormulaRows) -> NDArray[np.float64]:
        """Return the sum of the offsets of some rows, shape (n,)."""
        parts = [expression.columns(rows)[:, 0] for expression in self.offsets]
        for expression, part in zip(self.offsets, parts, strict=True):
            refuse_overflow(part[:, None], expression.names, rows.index, "offset(): ")
        return np.sum(parts, axis=0) if parts else np.zeros(rows.n)

    def read(self, frame: pd.DataFrame) -> FormulaRows:
        """Return the cells of some rows that the terms need.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)
            With the columns seen at fit; others are not read.

        Raises
        ------
        ValueError
            If a column is not in the table, is missing in some row or of another kind than at
            fit, or a fixed effect has an unseen level.
        """
        self._check_fitted()
        rows = self._table.read(frame)
        warn_beyond(self.terms, rows)
        return rows

    def transform(self, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return the columns of the terms over some rows, one beside the other.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)

        Returns
        -------
        ndarray of float64, shape (n_rows, p)
            Finite. Without terms that read the grid, p is ``len(names_)``.

        Raises
        ------
        ValueError
            As `read`, or if a term is not finite.
        """
        rows = self.read(frame)
        parts = [p.rows.dense() for term in self.terms for p in term.products(rows, self.points)]
        return np.concatenate([np.empty((rows.n, 0)), *parts], axis=1)

    def transform_term(self, label: str, frame: pd.DataFrame) -> NDArray[np.float64]:
        """Return the columns of one smooth or random term, from a table with its columns alone.

        Parameters
        ----------
        label : str
            The label of a smooth or random term.
        frame : DataFrame of shape (n_rows, n_columns)
            With the term's variables, those of the grid included. Its ``by`` column may be left
            out: then the effect is that of ``by = 1``, or of the smooth's own level.

        Returns
        -------
        ndarray of float64, shape (n_rows, k)

        Raises
        ------
        ValueError
            If the formula has no such term, or as in `transform`.
        """
        term = self.term(label)
        names = [name for name in term.variables if name != term.by or name in frame]
        rows, points = (
            side.read(frame, [name for name in names if name in side])
            for side in (self._table, self._grid)
        )
        warn_beyond([term], rows)
        warn_beyond([term], points)
        return term.evaluate(rows, points)

    def term(self, label: str) -> Term:
        """Return a smooth or random term, or raise ValueError if the formula has none such."""
        self._check_fitted()
        terms = {term.label: term for term in self.terms if not term.by_coefficient}
        if label not in terms:
            known = ", ".join(repr(name) for name in terms) or "none"
            raise ValueError(
                f"The formula has no smooth or random term {label!r}. It has: {known}."
            )
        return terms[label]

    def state(self) -> dict[str, Any]:
        """Return the fitted formula as plain Python and NumPy objects."""
        self._check_fitted()
        return {
            "formula": self.formula,
            "terms": [term_state(term) for term in self.terms],
            "offsets": [expression.state() for expression in self.offsets],
            "table": dict(vars(self._table)),
            "grid": dict(vars(self._grid)),
            "points": {**vars(self.points), "index": self.points.index.tolist()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild what `state` returned; nothing in it is executed."""
        self = cls(state["formula"])
        parse_formula(self.formula)
        self.terms = tuple(map(term_from_state, state["terms"]))
        self.offsets = tuple(map(factor_from_state, state.get("offsets", ())))
        self._table = FormulaColumns(**state["table"])
        self._grid = FormulaColumns(**state["grid"])
        points = state["points"]
        self.points = FormulaRows(**{**points, "index": pd.Index(points["index"])})
        return self

    def _check_fitted(self) -> None:
        if not hasattr(self, "terms"):
            raise ValueError("This Formula is not fitted: call fit on the training rows first.")

    @property
    def intercept(self) -> bool:
        """Whether the design has a column of ones."""
        return any(term.label == "Intercept" and not term.variables for term in self.terms)

    @property
    def terms_(self) -> tuple[TermColumns, ...]:
        """The terms' columns in the design of `transform`; their penalties are whole matrices."""
        starts = np.cumsum([0, *(len(term.names) for term in self.terms)])
        return tuple(
            TermColumns(
                term.label,
                slice(int(start), int(start) + len(term.names)),
                "parametric" if term.by_coefficient else "smooth" if term.tested else "random",
                tuple(p if p.ndim == 2 else np.diag(p) for p in term.penalties),
                term.sp,
                term.df,
                term.variables,
                term.bounds,
            )
            for start, term in zip(starts[:-1], self.terms, strict=True)
        )

    def fit_transform(self, frame: pd.DataFrame, *, intercept: bool = True) -> NDArray[np.float64]:
        """Fit, and return the design of the training rows."""
        return self.fit(frame, intercept=intercept).transform(frame)
