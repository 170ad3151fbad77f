"""What a model of survival times predicts beside their distribution."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.metaestimators import available_if

from mmfusion.heads.distribution.restricted import restricted_mean
from mmfusion.inputs.parameters import check_number
from mmfusion.inputs.times import check_clock

from ._survival import check_times

__all__ = ["LifetimePredictions"]


def _of_survival(model: Any) -> bool:
    """Whether the outcome that was fitted was one of survival."""
    if not hasattr(model, "model_") or not model.model_.head.survival_:
        raise AttributeError(
            f"{type(model).__name__} has it after fit with a survival outcome y, as "
            "mmfusion.surv(time, event) makes one."
        )
    return True


class LifetimePredictions:
    """Curves of time to event; there where `fit` was given a survival outcome.

    The family has them for all times: nothing is NaN beyond the follow-up of the training rows,
    where they are the family's word alone.
    """

    predict_distribution: Callable[..., Any]
    _head: Any
    _predictors: Callable[..., Any]
    _distribution: Callable[..., Any]

    @available_if(_of_survival)
    def predict_survival_function(
        self,
        X: pd.DataFrame | np.ndarray,
        times: Sequence[float] | np.ndarray | None = None,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> pd.DataFrame:
        """Return the survival probability of each row at each time.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        times : array-like, shape (m,), optional
            By default up to 100 of the times of the training rows.
        modalities, exclude : list of str, optional
            As in `predict`.

        Returns
        -------
        DataFrame, shape (n, m)
            A row a subject, a column a time.
        """
        return self._of_times(lambda d, y: d.sf(y), X, times, modalities, exclude)

    @available_if(_of_survival)
    def predict_cumulative_hazard_function(
        self,
        X: pd.DataFrame | np.ndarray,
        times: Sequence[float] | np.ndarray | None = None,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> pd.DataFrame:
        """Return the cumulative hazard of each row at each time: minus the log of survival.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        times : array-like, shape (m,), optional
        modalities, exclude : list of str, optional
            As in `predict_survival_function`.

        Returns
        -------
        DataFrame, shape (n, m)
        """
        return self._of_times(lambda d, y: -d.logsf(y) + 0.0, X, times, modalities, exclude)

    @available_if(_of_survival)
    def predict_hazard(
        self,
        X: pd.DataFrame | np.ndarray,
        times: Sequence[float] | np.ndarray | None = None,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> pd.DataFrame:
        """Return the hazard of each row at each time: the density over the survival probability.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        times : array-like, shape (m,), optional
        modalities, exclude : list of str, optional
            As in `predict_survival_function`.

        Returns
        -------
        DataFrame, shape (n, m)
        """

        def hazard(found: Any, y: np.ndarray) -> np.ndarray:
            return np.exp(found.logpdf(y) - found.logsf(y))

        return self._of_times(hazard, X, times, modalities, exclude)

    def _of_times(
        self, f: Callable[..., np.ndarray], X: Any, times: Any, modalities: Any, exclude: Any
    ) -> pd.DataFrame:
        frame, eta = self._predictors(X, modalities, exclude)
        times = self._head.times_ if times is None else check_times(times)
        found = self._distribution(eta)
        values = f(found, np.broadcast_to(times, (len(found), len(times))))
        return pd.DataFrame(values, index=frame.index, columns=pd.Index(times, name="time"))

    @available_if(_of_survival)
    def predict_median(
        self,
        X: pd.DataFrame | np.ndarray,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> np.ndarray:
        """Return the median survival time of each row.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        modalities, exclude : list of str, optional
            As in `predict`.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        found = self.predict_distribution(X, modalities=modalities, exclude=exclude)
        median: np.ndarray = found.median
        return median

    @available_if(_of_survival)
    def predict_restricted_mean(
        self,
        X: pd.DataFrame | np.ndarray,
        horizon: float,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> np.ndarray:
        """Return the mean survival time of each row up to `horizon`: the area under its curve.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        horizon : float
        modalities, exclude : list of str, optional
            As in `predict`.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        check_clock("horizon", horizon)
        check_number("horizon", horizon, 0, open_ends="low and high")
        eta = self._predictors(X, modalities, exclude)[1]
        return restricted_mean(self._distribution(eta), float(horizon))

    @available_if(_of_survival)
    def predict_risk(
        self,
        X: pd.DataFrame | np.ndarray,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> np.ndarray:
        """Return the risk score of each row, higher is worse: minus its median survival time.

        `predict` is the mean, higher is better: concordance and its like are of this.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        modalities, exclude : list of str, optional
            As in `predict`.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        return -self.predict_median(X, modalities=modalities, exclude=exclude)
