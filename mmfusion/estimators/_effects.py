"""What an estimator with a structured part reports of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from mmfusion.structured import contrast_table, effects_test, smooth_effect

from ._summary import Summary, summarize

if TYPE_CHECKING:
    from ._structured import StructuredPart

__all__ = ["Effects"]


class Effects:
    """Effects of the structured part: tables, tests, smooth curves."""

    _structured: StructuredPart | None

    def _part(self) -> StructuredPart:
        check_is_fitted(self)
        if self._structured is None:
            raise AttributeError(
                "There are no structured effects: the estimator was fitted with structured=None."
            )
        return self._structured

    @property
    def effects_(self) -> pd.DataFrame:
        """Effects of the structured terms given all else, the deep part included.

        Indexed by term (with several predictors, by term and parameter): coef, exp(coef) where it
        is a hazard or odds ratio, se, lower and upper of a 95 % interval (and exp of these), z, p;
        edf and chi2 of smooth terms.
        """
        return self._part().effects.copy()

    @property
    def covariance_(self) -> pd.DataFrame:
        """Covariance of the structured coefficients, as `inference` says."""
        part = self._part()
        names = list(part.reported.names)
        return pd.DataFrame(part.covariance, index=names, columns=names)

    @property
    def structured_weight_(self) -> float:
        """Share of the structured part in the predictor's variance over the training rows."""
        return float(self._part().shares[0])

    @property
    def deep_share_(self) -> float:
        """Share of the deep part in the predictor's variance over the training rows."""
        return float(self._part().shares[1])

    def smooth_effect(
        self, term: str, grid: Any, level: float = 0.95, parameter: str | None = None
    ) -> pd.DataFrame:
        """Return the effect of a term on the predictor over a grid, with pointwise bands.

        Parameters
        ----------
        term : str
            As in ``effects_``: "s(age)".
        grid : array-like, shape (m,), or DataFrame
            Values of the term's column, or a table of all columns it reads.
        level : float, default=0.95
        parameter : str, optional
            Of several predictors (the classes but the first), the one whose effect it is.

        Returns
        -------
        DataFrame, shape (m, 4)
            effect, se, lower, upper; indexed by the grid.

        Raises
        ------
        ValueError
            For an unknown term or parameter, or a grid that lacks a column of it.
        """
        part = self._part()
        known = part.expansion.parameters
        if (parameter is None and len(known) > 1) or parameter not in (None, *known):
            raise ValueError(f"The parameter= must be one of {list(known)}. Got {parameter!r}.")
        label = part.expansion.name(term, parameter or known[0])
        columns = part.reported.term(label).variables
        if isinstance(grid, pd.DataFrame):
            frame = grid
        elif len(columns) == 1:
            frame = pd.DataFrame({columns[0]: np.asarray(grid)})
        else:
            raise ValueError(
                f"The grid of {term!r} must be a DataFrame with the columns {list(columns)}."
            )
        basis = part.formula.transform_term(term, frame)
        table = smooth_effect(part.reported, label, basis, level=level, covariance=part.covariance)
        one = len(columns) == 1
        table.index = pd.Index(frame[columns[0]], name=columns[0]) if one else frame.index
        return table

    def contrast(
        self, X: pd.DataFrame, reference: pd.DataFrame, level: float = 0.95
    ) -> pd.DataFrame:
        """Compare profiles: the structured predictor of some rows less that of a reference.

        Parameters
        ----------
        X : DataFrame, shape (m, p)
            The columns of the formula suffice, for the reference too.
        reference : DataFrame, shape (1, p) or (m, p)
            One row for all, or one for each.
        level : float, default=0.95

        Returns
        -------
        DataFrame, shape (m, 6), with F vectors of coefficients (m F, 6)
            estimate, exp(estimate) where it is a hazard or odds ratio, se, lower, upper, z, p;
            indexed as `X`, with several classes by row and parameter.

        Raises
        ------
        ValueError
            If `reference` has neither one row nor as many as `X`, or a column is missing.
        """
        part = self._part()
        if len(reference) not in (1, len(X)):
            raise ValueError(
                f"The reference must have one row or as many as X ({len(X)}). "
                f"Got {len(reference)} rows."
            )
        parameters = part.expansion.parameters
        difference = part.formula.transform(X) - part.formula.transform(reference)
        rows = np.einsum("ij,fg->ifgj", difference, np.eye(len(parameters)))
        rows = rows.reshape(len(X) * len(parameters), -1)
        baseline = np.zeros((len(rows), len(part.expansion.baseline)))
        index = X.index
        if len(parameters) > 1:
            index = pd.MultiIndex.from_product([X.index, parameters], names=[None, "parameter"])
        table = contrast_table(
            part.reported,
            np.column_stack([baseline, rows]),
            level=level,
            covariance=part.covariance,
        ).set_axis(index)
        if part.reported.ratio is not None:
            table.insert(1, "exp(estimate)", np.exp(table["estimate"]))
        return table

    def effects_test(self, terms: str | Sequence[str], method: str = "wald") -> pd.Series:
        """Test that some terms have no effect, all together.

        Parameters
        ----------
        terms : str or sequence of str
            As in ``effects_``: one, or several. With several predictors, each stands for its
            effects on all of them.
        method : {"wald", "likelihood_ratio"}
            The likelihood ratio needs the training rows: it is not there after `load`. Nor is it
            there where the covariance is not the likelihood's (``inference="double_ml"`` or
            "robust", ``cluster=``).

        Returns
        -------
        Series
            statistic, df, p.
        """
        part = self._part()
        terms = [terms] if isinstance(terms, str) else terms
        names = [part.expansion.name(t, name) for t in terms for name in part.expansion.parameters]
        if method != "likelihood_ratio":
            return effects_test(
                part.reported,
                names,
                method=method,  # type: ignore[arg-type]
                covariance=part.covariance,
            )
        inference, cluster = self._inferred, self.cluster  # type: ignore[attr-defined]
        if inference in ("double_ml", "robust") or cluster is not None:
            raise ValueError(
                "The method parameter must be 'wald' with inference='double_ml' or 'robust' and "
                "with cluster=, whose covariance is not the likelihood's. Got 'likelihood_ratio'."
            )
        if not hasattr(part, "_tested"):
            raise ValueError("A loaded estimator has no training rows to test with; refit it.")
        fit, likelihood, design, offset = part._tested
        return effects_test(fit, names, likelihood, design, offset, method="likelihood_ratio")

    def summary(self) -> Summary:
        """Return what was fitted and the table of effects, to print or to show in a notebook.

        Returns
        -------
        Summary
            ``print`` shows text, a notebook HTML. Coefficients, their standard errors, 95 %
            intervals (and those of ``exp(coef)`` where it is a ratio) and tests; smooth and random
            terms in a table of their own. ``effects_`` has the numbers unrounded.
        """
        return summarize(
            self._part(),
            type(self).__name__,
            self._inferred,  # type: ignore[attr-defined]
            self.cluster,  # type: ignore[attr-defined]
        )
