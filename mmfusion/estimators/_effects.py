"""What an estimator with a structured part reports of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from mmfusion.structured import effects_test, smooth_effect

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

        Indexed by term: coef, exp(coef) where it is a hazard or odds ratio, se, lower and upper of
        a 95 % interval, z, p; edf and chi2 of smooth terms.
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

    def smooth_effect(self, term: str, grid: Any, level: float = 0.95) -> pd.DataFrame:
        """Return the effect of a term on the predictor over a grid, with pointwise bands.

        Parameters
        ----------
        term : str
            As in ``effects_``: "s(age)".
        grid : array-like, shape (m,), or DataFrame
            Values of the term's column, or a table of all columns it reads.
        level : float, default=0.95

        Returns
        -------
        DataFrame, shape (m, 4)
            effect, se, lower, upper; indexed by the grid.

        Raises
        ------
        ValueError
            For an unknown term, or a grid that lacks a column of it.
        """
        part = self._part()
        columns = part.reported.term(term).variables
        if isinstance(grid, pd.DataFrame):
            frame = grid
        elif len(columns) == 1:
            frame = pd.DataFrame({columns[0]: np.asarray(grid)})
        else:
            raise ValueError(
                f"The grid of {term!r} must be a DataFrame with the columns {list(columns)}."
            )
        basis = part.formula.transform_term(term, frame)
        table = smooth_effect(part.reported, term, basis, level=level, covariance=part.covariance)
        one = len(columns) == 1
        table.index = pd.Index(frame[columns[0]], name=columns[0]) if one else frame.index
        return table

    def effects_test(self, terms: Sequence[str], method: str = "wald") -> pd.Series:
        """Test that some terms have no effect, all together.

        Parameters
        ----------
        terms : sequence of str
        method : {"wald", "likelihood_ratio"}
            The likelihood ratio needs the training rows: it is not there after `load`. Nor is it
            there with ``inference="double_ml"``, whose estimate has no likelihood.

        Returns
        -------
        Series
            statistic, df, p.
        """
        part = self._part()
        if not hasattr(part, "_fitted_to"):
            raise ValueError("A loaded estimator has no training rows to test with; refit it.")
        if method == "likelihood_ratio" and self.inference == "double_ml":  # type: ignore[attr-defined]
            raise ValueError(
                "The method parameter must be 'wald' with inference='double_ml', whose estimate "
                "has no likelihood. Got 'likelihood_ratio'."
            )
        likelihood, design, offset = part._fitted_to
        return effects_test(
            part.reported,
            likelihood,
            design,
            terms,
            offset,
            method=method,  # type: ignore[arg-type]
            covariance=part.covariance,
        )

    def summary(self) -> str:
        """Return the table of effects as text, with what was fitted above it.

        In a notebook, ``effects_`` renders as HTML.
        """
        part = self._part()
        fit = part.reported
        lines = [
            f"{type(self).__name__}: {part.formula.formula}",
            f"rows {fit.n_rows}   log-likelihood {fit.log_likelihood:.2f}   "
            f"edf {fit.edf.sum():.2f}   AIC {fit.aic:.2f}",
            f"inference {self.inference}   "  # type: ignore[attr-defined]
            f"orthogonalization {part.orthogonalization}   "
            f"deep share of the predictor's variance {part.shares[1]:.2f}",
            "",
            part.effects.to_string(float_format=lambda value: f"{value:.4g}", na_rep=""),
        ]
        return "\n".join(lines)
