"""What the estimators of hazards in intervals predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from mmfusion.survival import Survival, check_survival

from ._survival import SurvivalPredictions

__all__ = ["IntervalPredictions"]


class IntervalPredictions(SurvivalPredictions):
    """Curves on a grid of intervals, of one cause or several."""

    @property
    def cuts_(self) -> np.ndarray:
        """Bounds of the intervals, from 0 on."""
        check_is_fitted(self)
        return self._head.cuts_  # type: ignore[attr-defined]

    @property
    def causes_(self) -> np.ndarray:
        """Causes of events, sorted."""
        check_is_fitted(self)
        return self._head.causes_  # type: ignore[attr-defined]

    def _default_times(self) -> np.ndarray:
        last = self._head.follow_up(1)  # type: ignore[attr-defined]
        return np.unique(np.minimum(self.cuts_, last))

    def predict(
        self,
        X: pd.DataFrame | np.ndarray,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> np.ndarray:
        """Return the risk score of each row: minus its mean event-free time within the grid.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        modalities : list of str, optional
            Predict from these alone: the others count as absent, and are not read; `X` may lack
            their columns. Empty only beside a formula, which is then asked alone.
        exclude : list of str, optional
            Terms of the formula that are left out, such as "re(site)".

        Returns
        -------
        ndarray of float64, shape (n,)
            Higher is worse; ``-predict_restricted_mean(X, cuts_[-1])``. With several causes it is
            the time until any of them.
        """
        eta = self._predictors(X, modalities, exclude)[1]  # type: ignore[attr-defined]
        return self._head.risk(eta)  # type: ignore[attr-defined]

    def predict_cumulative_incidence_function(
        self,
        X: pd.DataFrame | np.ndarray,
        times: Sequence[float] | np.ndarray | None = None,
        cause: int = 1,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        extrapolate: bool = False,
    ) -> pd.DataFrame:
        """Return the probability of an event of one cause until each time.

        Over all causes they sum to one minus `predict_survival_function`.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        times, modalities, exclude, extrapolate
            As in `predict_survival_function`.
        cause : int, default=1
            One of `causes_`.

        Returns
        -------
        DataFrame, shape (n, m)
        """
        return self._curves(
            "cumulative_incidence", X, times, modalities, exclude, extrapolate, cause=cause
        )

    def score(
        self,
        X: pd.DataFrame | np.ndarray,
        y: Any,
        sample_weight: np.ndarray | None = None,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> float:
        """Return Harrell's concordance index, with several causes of the time until any of them.

        An event that is known to lie in an interval counts in its middle.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        y : survival outcome of n subjects
        sample_weight : array-like, shape (n,), optional
        modalities, exclude : list of str, optional
            As in `predict`.

        Returns
        -------
        float
        """
        return super().score(X, y, sample_weight, modalities=modalities, exclude=exclude)

    def _concordance(self, X: Any, y: Any, risk: np.ndarray, sample_weight: Any) -> float:
        competing = self._head.likelihood.competing  # type: ignore[attr-defined]
        intervals = self._head.likelihood.intervals  # type: ignore[attr-defined]
        outcome = check_survival(y, allow_competing=competing, allow_intervals=intervals)
        outcome = outcome.at_middle()
        any_event = Survival(outcome.time, outcome.event > 0, outcome.entry)
        return super()._concordance(X, any_event, risk, sample_weight)
