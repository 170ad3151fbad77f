"""What every survival estimator predicts from its head's curves."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from mmfusion.inputs.labels import check_order
from mmfusion.inputs.parameters import check_number
from mmfusion.inputs.times import as_times, check_clock
from mmfusion.metrics import concordance_index
from mmfusion.model.roles import role_column
from mmfusion.survival import check_survival
from mmfusion.survival.outcome import snap

__all__ = ["SurvivalPredictions", "check_times"]


class SurvivalPredictions:
    """Curves, quantiles, restricted means and the score; mixed into the survival estimators.

    The head has ``risk``, ``survival``, ``cumulative_hazard``, ``quantile`` and
    ``restricted_mean``, each a function of the predictors and of the columns of the table that the
    head reads (`_context_columns`).
    """

    @abstractmethod
    def _default_times(self) -> np.ndarray:
        """Return the times of curves for which no times are asked."""

    def _curve_context(self, frame: pd.DataFrame) -> dict[str, Any]:
        """Return what else of the table the head's curves need (strata)."""
        columns = self._context_columns()  # type: ignore[attr-defined]
        return {name: role_column(frame, name, column) for name, column in columns.items()}

    def predict_survival_function(
        self,
        X: pd.DataFrame | np.ndarray,
        times: Sequence[float] | np.ndarray | None = None,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        extrapolate: bool = False,
    ) -> pd.DataFrame:
        """Return the survival probability of each row at each time.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        times : array-like, shape (m,), optional
            In the unit of the outcome. By default where the model's curves bend: of `FusionCox` all
            distinct event times of the training rows, of `FusionDiscreteTime` and `FusionPAMM` the
            bounds of the intervals. For many rows, give the times you need.
        modalities, exclude : list of str, optional
            As in `predict`.
        extrapolate : bool, default=False
            Beyond the follow-up of the training rows (of the row's stratum) nothing is estimated:
            predictions there are NaN, with a warning. True keeps the curve at its last value.

        Returns
        -------
        DataFrame, shape (n, m)
            A row a subject (the index of `X`), a column a time.
        """
        return self._curves("survival", X, times, modalities, exclude, extrapolate)

    def predict_cumulative_hazard_function(
        self,
        X: pd.DataFrame | np.ndarray,
        times: Sequence[float] | np.ndarray | None = None,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        extrapolate: bool = False,
    ) -> pd.DataFrame:
        """Return the cumulative hazard of each row at each time.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        times : array-like, shape (m,), optional
            As in `predict_survival_function`.
        modalities, exclude, extrapolate
            As in `predict_survival_function`.

        Returns
        -------
        DataFrame, shape (n, m)
        """
        return self._curves("cumulative_hazard", X, times, modalities, exclude, extrapolate)

    def _curves(
        self,
        curve: str,
        X: Any,
        times: Any,
        modalities: Any,
        exclude: Any,
        extrapolate: bool,
        **options: Any,
    ) -> pd.DataFrame:
        check_is_fitted(self)
        times = self._default_times() if times is None else check_times(times)
        frame, values = self._of_heads(curve, X, times, modalities, exclude, **options)
        if not extrapolate:
            last = self._follow_up(frame)
            values = self._blank(values, snap(times, np.unique(last)) > last[:, None], last)
        return pd.DataFrame(values, index=frame.index, columns=pd.Index(times, name="time"))

    def _follow_up(self, frame: pd.DataFrame) -> np.ndarray:
        """Return when the follow-up of the training rows ended, in the stratum of each row."""
        head: Any = self._head  # type: ignore[attr-defined]
        last: np.ndarray = head.follow_up(len(frame), **self._curve_context(frame))
        return last

    def _of_heads(
        self, what: str, X: Any, given: Any, modalities: Any, exclude: Any = (), **options: Any
    ) -> tuple[pd.DataFrame, np.ndarray]:
        """Return the checked table, and what its rows' heads predict.

        A row without a modality has the classical model's, whose baseline is another.
        """
        frame, eta, absent = self._predicted(X, modalities, exclude)  # type: ignore[attr-defined]
        model: Any = self.model_  # type: ignore[attr-defined]
        context = self._curve_context(frame)
        values: np.ndarray = getattr(model.head, what)(eta, given, **options, **context)
        if absent.any():
            own = {name: c if c is None else c[absent] for name, c in context.items()}
            values[absent] = getattr(model.alone, what)(eta[absent], given, **options, **own)
        return frame, values

    @staticmethod
    def _blank(values: np.ndarray, beyond: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Return values that are NaN beyond the follow-up, and warn where any is."""
        if not beyond.any():
            return values
        ends = np.unique(last)
        where = f"{ends[0]:g}" if len(ends) == 1 else f"{ends[0]:g} to {ends[-1]:g}, as the stratum"
        count = int(beyond.reshape(len(values), -1).any(axis=1).sum())
        warnings.warn(
            f"{count} of {len(values)} rows have predictions beyond the follow-up of the training "
            f"rows, which ends at {where}: they are NaN. extrapolate=True keeps curves at their "
            "last value.",
            UserWarning,
            stacklevel=4,
        )
        return np.where(beyond, np.nan, values)

    def predict_median(
        self,
        X: pd.DataFrame | np.ndarray,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        extrapolate: bool = False,
    ) -> np.ndarray:
        """Return the median survival time of each row; NaN where its curve stays above one half.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        modalities, exclude : list of str, optional
            As in `predict`.
        extrapolate : bool, default=False
            As in `predict_quantile`.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        return self.predict_quantile(
            X, 0.5, modalities=modalities, exclude=exclude, extrapolate=extrapolate
        )

    def predict_quantile(
        self,
        X: pd.DataFrame | np.ndarray,
        q: float,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        extrapolate: bool = False,
    ) -> np.ndarray:
        """Return the time by which a share `q` of subjects like this one have the event.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        q : float
            In (0, 1): the smallest time t with ``S(t) <= 1 - q``, an event time in `FusionCox`.
        modalities, exclude : list of str, optional
            As in `predict`.
        extrapolate : bool, default=False
            Whether a quantile beyond the follow-up of the training rows is inf, not NaN with a
            warning.

        Returns
        -------
        ndarray of float64, shape (n,)
            NaN where the curve does not fall that far within the follow-up of the training rows.
        """
        check_number("q", q, 0, 1, open_ends="low and high")
        return self._times("quantile", X, q, modalities, exclude, extrapolate)

    def predict_restricted_mean(
        self,
        X: pd.DataFrame | np.ndarray,
        horizon: float,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        extrapolate: bool = False,
    ) -> np.ndarray:
        """Return the mean survival time of each row up to `horizon`: the area under its curve.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        horizon : float
            In the unit of the outcome.
        modalities, exclude, extrapolate
            As in `predict_survival_function`.

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        check_clock("horizon", horizon)
        check_number("horizon", horizon, 0, open_ends="low and high")
        return self._times("restricted_mean", X, horizon, modalities, exclude, extrapolate)

    def _times(
        self, what: str, X: Any, given: float, modalities: Any, exclude: Any, extrapolate: bool
    ) -> np.ndarray:
        frame, values = self._of_heads(what, X, given, modalities, exclude)
        if extrapolate:
            return values
        last = self._follow_up(frame)
        reached = np.array([given], np.float64) if what == "restricted_mean" else values
        return self._blank(values, snap(reached, np.unique(last)) > last, last)

    def score(
        self,
        X: pd.DataFrame | np.ndarray,
        y: Any,
        sample_weight: np.ndarray | None = None,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> float:
        """Return Harrell's concordance index; with strata, of pairs within a stratum.

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
        check_order(X=X, y=y, sample_weight=sample_weight)
        frame, eta = self._predictors(X, modalities, exclude)  # type: ignore[attr-defined]
        risk = self._head.risk(eta)  # type: ignore[attr-defined]
        return self._concordance(frame, y, risk, sample_weight)

    def _concordance(self, X: Any, y: Any, risk: np.ndarray, sample_weight: Any) -> float:
        """Return `score` of risks, which may be those of an average."""
        outcome = check_survival(y, index=getattr(X, "index", None), n_rows=len(X))
        strata = self._curve_context(X).get("strata")
        return concordance_index(outcome, risk, strata=strata, sample_weight=sample_weight)


def check_times(times: Any) -> np.ndarray:
    """Return times of curves as an array, or raise unless they are finite, none negative."""
    times = np.atleast_1d(as_times("times", times))
    if times.ndim != 1 or not len(times) or not np.isfinite(times).all() or (times < 0).any():
        raise ValueError(
            "The times parameter must hold finite times, none negative. Got "
            f"{np.array2string(times, threshold=5)}."
        )
    return times
