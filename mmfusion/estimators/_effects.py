"""What an estimator with a structured part reports of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from mmfusion.inputs.parameters import check_choice
from mmfusion.model import Inference, Model
from mmfusion.model.confounding import Confounding
from mmfusion.model.likelihood_ratio import likelihood_ratio
from mmfusion.model.structured import Structured
from mmfusion.model.summary import Summary, summarize
from mmfusion.structured import Bands, contrast_table, effects_test, smooth_effect

__all__ = ["Effects"]


class Effects:
    """Effects of the structured part: tables, tests, smooth curves."""

    model_: Model
    inference_: Inference | None

    def _reported(self) -> Inference:
        check_is_fitted(self)
        if self.inference_ is None:
            raise AttributeError(
                "There are no structured effects: the estimator was fitted with structured=None."
            )
        return self.inference_

    def _structured_part(self) -> Structured:
        part = self.model_.structured
        assert isinstance(part, Structured)  # it has been asked for effects
        return part

    @property
    def effects_(self) -> pd.DataFrame:
        """Effects of the structured terms; ``effects_.attrs["estimand"]`` says which they are.

        ``effects_.attrs["reference"]`` is the level that the others of a factor are compared with:
        ``{"C(stage)": "I"}``. It is the first, or that of ``C(stage, ref="II")``.

        Those of the classical model of the formula alone, not adjusted for the modalities; given
        what the networks explain with ``inference="cross_fit"``, for the treatment of
        ``"double_ml"``, and with ``orthogonalization=None``. The former compare groups of subjects,
        whatever their modalities show: `contrast` does too. `predict` answers another question: two
        rows with the same modalities that differ in a column differ by what the networks leave of
        its effect, which is another number where they share something with the column.

        Indexed by term (with several predictors, by term and parameter): coef, exp(coef) where it
        is a ratio (``attrs["ratio"]``: "hazard ratio", "odds ratio", of more than two classes
        "relative risk ratio"), se, lower and upper of a 95 % interval (and exp of these), z, p;
        edf and chi2 of smooth terms; sd, the standard deviation, of random effects.

        With ``inference="cross_fit"`` the row "(deep)", of late fusion a row "(deep: rna)" a
        modality, of several parameters a row "(deep, loc)" each, has the coefficient of what the
        modalities say of rows that the networks did not see, beside the formula: 1 where they are
        right as they are, 0 where they add nothing. Its test asks whether they add anything.
        """
        reported = self._reported()
        table = reported.effects.copy()
        table.attrs["estimand"] = reported.estimand
        if reported.confounding is not None:
            table.attrs["warning"] = reported.confounding.warning
        table.attrs["ratio"] = reported.fit.ratio
        if reported.scale_note is not None:
            table.attrs["scale"] = reported.scale_note
        table.attrs["reference"] = reported.layout.references
        return table

    @property
    def confounding_(self) -> Confounding:
        """How far the effect of ``inference="double_ml"`` is to be believed.

        ``table`` holds how well the models of treatment and outcome predict rows that they did not
        see, what their residuals still share, and how strong a further confounder would have to be;
        ``warning`` says in words where the effect may be confounded still.
        """
        found = self._reported().confounding
        if found is None:
            raise AttributeError("There is no confounding_ without inference='double_ml'.")
        return found

    @property
    def covariance_(self) -> pd.DataFrame:
        """Covariance of the structured coefficients, as `inference` says."""
        reported = self._reported()
        names = list(reported.fit.names)
        return pd.DataFrame(reported.covariance.dense(), index=names, columns=names)

    @property
    def structured_weight_(self) -> float:
        """Share of the structured part in the predictor's variance over the training rows."""
        return float(self._reported().variances[0])

    @property
    def deep_share_(self) -> float:
        """Share of the deep part in the predictor's variance over the training rows.

        The structured part is what the reported coefficients of ``inference="model"`` make of the
        formula's columns, ``s = contrast(X, X[:1])["estimate"]``; the deep part what the whole
        predictor is beside it, of a Cox model ``d = predict(X) - s``. The share is ``var(d) /
        (var(s) + var(d))``; with several predictors a row, of the sums of their variances. The two
        are nearly uncorrelated with ``orthogonalization="post_hoc"``; elsewhere they may not be,
        and then their variances do not add up to the whole predictor's.
        """
        return float(self._reported().variances[1])

    def smooth_effect(
        self,
        term: str,
        grid: Any,
        level: float = 0.95,
        parameter: str | None = None,
        bands: Bands = "pointwise",
        unconditional: bool = True,
    ) -> pd.DataFrame:
        """Return the effect of a term on the predictor over a grid, with bands.

        Parameters
        ----------
        term : str
            As in ``effects_``: "s(age)".
        grid : array-like, shape (m,), or DataFrame
            Values of the term's column (of the time, for an effect that varies over it), or a table
            of all columns it reads.
        level : float, default=0.95
        parameter : str, optional
            Of several predictors (the classes but the first), the one whose effect it is.
        bands : {"pointwise", "simultaneous"}
            Whether the band holds each point with probability `level`, or all of them together.
        unconditional : bool, default=True
            Whether the errors hold that smoothing parameters are estimates, without which bands of
            curves cover too little; False takes them as known, as `effects_` does.

        Returns
        -------
        DataFrame, shape (m, 4)
            effect, se, lower, upper; indexed by the grid.

        Raises
        ------
        ValueError
            For an unknown term or parameter, or a grid that lacks a column of it.
        """
        reported = self._reported()
        known = reported.layout.parameters
        if (parameter is None and len(known) > 1) or parameter not in (None, *known):
            raise ValueError(f"The parameter= must be one of {list(known)}. Got {parameter!r}.")
        parameter = parameter or known[0]
        label = reported.layout.name(term, parameter)
        columns = reported.fit.term(label).variables
        if not isinstance(grid, pd.DataFrame):  # of a by= column its effect a unit is asked
            by = reported.layout.formula(parameter).term(term).by
            columns = tuple(name for name in columns if name != by)
        if isinstance(grid, pd.DataFrame):
            frame = grid
        elif len(columns) == 1:
            frame = pd.DataFrame({columns[0]: np.asarray(grid)})
        else:
            raise ValueError(
                f"The grid of {term!r} must be a DataFrame with the columns {list(columns)}."
            )
        basis = reported.layout.formula(parameter).transform_term(term, frame)
        table = smooth_effect(
            reported.fit,
            label,
            basis,
            level=level,
            covariance=reported.covariance,
            bands=bands,
            unconditional=unconditional,
        )
        one = len(columns) == 1
        table.index = pd.Index(frame[columns[0]], name=columns[0]) if one else frame.index
        return table

    def contrast(
        self,
        X: pd.DataFrame,
        reference: pd.DataFrame,
        level: float = 0.95,
        of: str = "effects",
    ) -> pd.DataFrame:
        """Compare profiles: the structured predictor of some rows less that of a reference.

        Parameters
        ----------
        X : DataFrame, shape (m, p)
            The columns of the formula suffice, for the reference too.
        reference : DataFrame, shape (1, p) or (m, p)
            One row for all, or one for each.
        level : float, default=0.95
        of : {"effects", "predictor"}
            "effects": by the coefficients that ``effects_`` reports. "predictor": by those that
            `predict` moves by where the columns change and the modalities do not, which are smaller
            where the networks carry something of the columns; they have no standard errors.

        Returns
        -------
        DataFrame, shape (m, 6), with F vectors of coefficients (m F, 6)
            estimate, exp(estimate) where it is a ratio, se, lower, upper, z, p;
            indexed as `X`, with several classes by row and parameter.

        Raises
        ------
        ValueError
            If `reference` has neither one row nor as many as `X`, or a column is missing.
        """
        reported = self._reported()
        check_choice("of", of, ("effects", "predictor"))
        if len(reference) not in (1, len(X)):
            raise ValueError(
                f"The reference must have one row or as many as X ({len(X)}). "
                f"Got {len(reference)} rows."
            )
        parameters = reported.layout.parameters
        of_rows, of_base = (reported.layout.profiles(table) for table in (X, reference))
        rows, base = of_rows.dense(), of_base.dense()
        none = np.zeros(len(reported.fit.coef))
        known = (of_rows.predict(none) - of_base.predict(none)).ravel()
        if len(reference) == 1:
            base = np.tile(base, (len(X), 1))
        index = X.index
        if len(parameters) > 1:
            index = pd.MultiIndex.from_product([X.index, parameters], names=[None, "parameter"])
        if of == "predictor":
            moved = (rows - base) @ self._structured_part().moves + known
            table = pd.DataFrame({"estimate": moved}, index=index)
        else:
            table = contrast_table(
                reported.fit, rows - base, level=level, covariance=reported.covariance, known=known
            ).set_axis(index)
        if reported.fit.ratio is not None:
            table.insert(1, "exp(estimate)", np.exp(table["estimate"]))
        return table

    def effects_test(
        self,
        terms: str | Sequence[str],
        method: str = "wald",
        X: pd.DataFrame | None = None,
        y: Any = None,
        sample_weight: Any = None,
    ) -> pd.Series:
        """Test that some terms have no effect, all together.

        Parameters
        ----------
        terms : str or sequence of str
            As in ``effects_``: one, or several. With several predictors, each stands for its
            effects on all of them.
        method : {"wald", "likelihood_ratio"}
            The likelihood ratio is not there where the covariance is not the likelihood's
            (``inference="double_ml"`` or "robust", ``cluster=``), nor beside cross-fitted networks.
        X, y, sample_weight : optional
            The training rows, as given to `fit`: a fitted model keeps none, and the likelihood
            ratio needs them.

        Returns
        -------
        Series
            statistic, df, p.
        """
        reported = self._reported()
        terms = [terms] if isinstance(terms, str) else terms
        layout = reported.layout
        names = [layout.name(t, parameter) for t in terms for parameter in layout.parameters]
        check_choice("method", method, ("wald", "likelihood_ratio"))
        if method == "wald":
            return effects_test(reported.fit, names, covariance=reported.covariance)
        if X is None or y is None:
            raise ValueError(
                "The likelihood ratio needs the training rows, which a fitted model does not keep: "
                "effects_test(terms, 'likelihood_ratio', X, y)."
            )
        table = self._frame(X)  # type: ignore[attr-defined]
        return likelihood_ratio(self, self.model_, reported, names, table, y, sample_weight)

    def plot_effects(self, term: str | None = None, ax: Any = None, **options: Any) -> Any:
        """Draw the forest plot of all coefficients, or the curve of one smooth term.

        Parameters
        ----------
        term : str, optional
            A smooth term as in ``effects_``.
        ax : matplotlib Axes, optional
        **options
            `grid` and `parameter`: see `mmfusion.interpret.plots.plot_effects`.

        Returns
        -------
        matplotlib Axes
        """
        from mmfusion.interpret.plots import plot_effects  # slow to import, and only some draw

        self._reported()
        return plot_effects(self, term, ax, **options)

    def summary(self) -> Summary:
        """Return what was fitted and the table of effects, to print or to show in a notebook.

        Returns
        -------
        Summary
            ``print`` shows text, a notebook HTML. Coefficients, their standard errors, 95 %
            intervals (and those of ``exp(coef)`` where it is a ratio) and tests; smooth and random
            terms in a table of their own. Where networks carry something of the columns, a further
            table has the classical coefficients beside those that predictions move by.
            ``effects_`` has the numbers unrounded. ``summary().to_latex()``, ``to_html()`` and
            ``to_csv()`` are the table of a paper: reference levels, rows and events of each level.
        """
        from mmfusion.interpret.tables import paper_table

        modalities = self.model_.deep.modalities
        read = {name: one.columns_ for name, one in modalities.items()}
        seen = {n: m.n_shown for n, m in modalities.items() if m.n_shown is not None}
        part, name = self._structured_part(), type(self).__name__
        found = summarize(self._reported(), part, name, read, seen)
        table = paper_table(self, found.title)
        said = ["; ".join(f"{k} {v}" for line in found.facts for k, v in line.items())]
        found.paper = replace(table, notes=[f"{said[0]}.", *found.notes, *table.notes[1:]])
        return found
