"""Survival metrics as scorers for cross-validation and tuning."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.inputs.labels import check_order
from mmfusion.inputs.parameters import check_choice
from mmfusion.inputs.times import check_clock
from mmfusion.metrics._inputs import check_times
from mmfusion.metrics.auc import cumulative_dynamic_auc
from mmfusion.metrics.brier import integrated_brier_score
from mmfusion.metrics.concordance import (
    concordance_index,
    concordance_index_antolini,
    concordance_index_uno,
)
from mmfusion.survival import Survival, censoring_distribution, check_survival

__all__ = ["SurvivalScorer", "evaluation_times", "make_survival_scorer"]

METRICS = ("harrell", "uno", "antolini", "auc", "ibs")


def evaluation_times(y: Any, n_times: int = 50, min_uncensored: float = 0.05) -> np.ndarray:
    """Return equally spaced times at which a survival prediction can be judged.

    Parameters
    ----------
    y : outcome
    n_times : int, default 50
    min_uncensored : float, default 0.05
        The grid ends at the last event time with a probability above this of being uncensored:
        beyond it inverse weights are large and few rows decide.

    Returns
    -------
    ndarray of float64, shape (n_times,)
        From the first event time on.

    Raises
    ------
    ValueError
        As `check_survival`; `n_times` below 2; no two event times to span a grid.

    Examples
    --------
    >>> from mmfusion.metrics import evaluation_times
    >>> evaluation_times(([1, 2, 3, 4, 5], [1, 0, 1, 1, 0]), n_times=4)
    array([1., 2., 3., 4.])
    """
    outcome = check_survival(y)
    if n_times < 2:
        raise ValueError(f"The n_times parameter must be at least 2. Got {n_times!r}.")
    censoring = censoring_distribution(outcome.time, outcome.event, outcome.entry)
    usable = outcome.time[outcome.event & (censoring(outcome.time) > min_uncensored)]
    if not len(usable) or usable.min() == usable.max():
        raise ValueError(
            "The y parameter must have two event times with a probability above "
            f"{min_uncensored:g} of being uncensored. Got {np.unique(usable).tolist()}."
        )
    return np.linspace(usable.min(), usable.max(), n_times)


@dataclass(frozen=True, eq=False)
class SurvivalScorer:
    """A metric as ``scorer(estimator, X, y)``; higher is better. See `make_survival_scorer`.

    Attributes
    ----------
    metric : str
    times : ndarray or None
    tau : float or None
    y_train : Survival or None
    """

    metric: str
    times: np.ndarray | None = None
    tau: float | None = None
    y_train: Survival | None = None

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        """Score the predictions of a fitted estimator."""
        check_order(X=X, y=y)
        # The Brier score counts the living too: it is defined where nobody had an event.
        outcome = check_survival(y, require_events=self.metric != "ibs")
        train = outcome if self.y_train is None else self.y_train
        model, seen = _within(estimator, X)
        strata = _strata_of(model, seen)
        if self.metric == "harrell":
            return concordance_index(outcome, risk_of(model, seen), strata=strata)
        if strata is not None and self.metric in ("uno", "auc"):
            raise ValueError(
                "The metric parameter must be 'harrell', 'antolini' or 'ibs' for a model with "
                f"strata: risks of different strata cannot be compared. Got {self.metric!r}."
            )
        if self.metric == "uno":
            tau = evaluation_times(train)[-1] if self.tau is None else self.tau
            return concordance_index_uno(train, outcome, risk_of(model, seen), tau)
        if self.metric == "antolini":
            times = np.unique(outcome.time[outcome.event]) if self.times is None else self.times
            survival = curves_at(model, seen, times)
            return concordance_index_antolini(outcome, np.asarray(survival), times)
        times = evaluation_times(train) if self.times is None else self.times
        if self.metric == "auc":
            return cumulative_dynamic_auc(train, outcome, risk_of(model, seen), times).mean
        survival = np.asarray(curves_at(model, seen, times))
        return -integrated_brier_score(train, outcome, survival, times)


def make_survival_scorer(
    metric: str, *, times: Any = None, tau: float | None = None, y_train: Any = None
) -> SurvivalScorer:
    """Return a scorer for ``cross_validate``, ``GridSearchCV`` and the like.

    Parameters
    ----------
    metric : {"harrell", "uno", "antolini", "auc", "ibs"}
        "harrell", "uno" and "auc" (its mean over `times`) score ``estimator.predict(X)``,
        or ``predict_risk(X)`` where the model has it (higher is worse);
        "antolini" (ties "adjusted") and "ibs", the integrated Brier score, score
        ``estimator.predict_survival_function(X, times=...)``, also of a model at the end of a
        Pipeline or in a search. The Brier score is returned as its negative, so that higher is
        better everywhere; it alone is defined where none of the scored rows had an event.
    times : array-like of float, optional
        For "auc", "ibs" and "antolini". By default `evaluation_times` of `y_train`, and for
        "antolini" the event times of the rows that are scored. Give them where scores are to be
        compared between folds.
    tau : float, optional
        For "uno". By default the last of `evaluation_times`.
    y_train : outcome, optional
        The rows that tell the censoring for "uno", "auc" and "ibs"; by default the rows that are
        scored. scikit-learn shows a scorer only one fold, so pass the whole cohort's outcome where
        folds are small.

    Returns
    -------
    SurvivalScorer
        It can be pickled. For a model with strata (a parameter `strata` that names a column of
        ``X``; also at the end of a Pipeline or of a search), whose risks are comparable within a
        stratum only, "harrell" compares pairs within a stratum, as the model's own ``score`` does;
        "uno" and "auc" refuse it; curves are comparable across strata.

    Raises
    ------
    ValueError
        An unknown metric, or times that do not increase; when called, "uno" or "auc" of a model
        with strata.

    Examples
    --------
    >>> from mmfusion.metrics import make_survival_scorer
    >>> make_survival_scorer("ibs", times=[12, 36, 60]).metric
    'ibs'
    """
    check_choice("metric", metric, METRICS)
    if tau is not None:
        check_clock("tau", tau)
    return SurvivalScorer(
        metric,
        None if times is None else check_times(times),
        tau,
        None if y_train is None else check_survival(y_train, name="y_train", require_events=False),
    )


def risk_of(model: Any, X: Any) -> Any:
    """Return a model's risk scores, higher is worse: `predict` where that is one."""
    return getattr(model, "predict_risk", model.predict)(X)


def curves_at(model: Any, X: Any, times: np.ndarray) -> Any:
    """Return a model's survival probabilities at times to be scored at, shape (n, k).

    Ours take the times, and stay at their last value beyond the follow-up of the training rows.
    scikit-survival's estimators return a function of time for each row, which stays at its ends
    here; others a DataFrame with a row a time.
    """
    predict = model.predict_survival_function
    known = signature(predict).parameters
    if "times" in known:
        return predict(X, times=times, **({"extrapolate": True} if "extrapolate" in known else {}))
    curves = predict(X)
    if isinstance(curves, pd.DataFrame):
        return steps_at(curves, times, len(X))
    if len(curves) != len(X) or not all(map(callable, curves)):
        raise TypeError(
            "predict_survival_function must take times=, or return a function of time for each "
            "row, or a DataFrame of times and rows. Got "
            f"{type(curves).__name__} of {type(model).__name__}."
        )
    return np.vstack([_values(curve, times) for curve in curves])


def _values(curve: Any, times: np.ndarray) -> np.ndarray:
    """Return a step function at some times: 1 before its domain, where it has one."""
    low, high = getattr(curve, "domain", (-np.inf, np.inf))
    return np.where(times < low, 1.0, curve(np.clip(times, low, high)))


def steps_at(curves: pd.DataFrame, times: np.ndarray, n_rows: int) -> np.ndarray:
    """Return step functions at some times, (n_rows, n_times), from a table with a row a time."""
    table = curves if curves.shape[1] == n_rows else curves.T
    known = np.asarray(table.index, dtype=np.float64)
    order = np.argsort(known)
    values = np.vstack([np.ones(table.shape[1]), table.to_numpy(np.float64)[order]])
    return values[np.searchsorted(known[order], times, side="right")].T


def _within(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Return the model in searches and pipelines, and the rows as it sees them.

    Neither a Pipeline nor a search passes on curves (or it does, without their times, where
    another library has added that to it).
    """
    from sklearn.pipeline import Pipeline  # slow to import

    while isinstance(estimator, Pipeline) or hasattr(estimator, "best_estimator_"):
        if not isinstance(estimator, Pipeline):
            estimator = estimator.best_estimator_
            continue
        if len(estimator) > 1:
            X = estimator[:-1].transform(X)
        estimator = estimator[-1]
    return estimator, X


def _strata_of(model: Any, X: Any) -> np.ndarray | None:
    """Return the stratum of each row, where the model has strata."""
    name = getattr(model, "strata", None)
    return None if name is None else np.asarray(pd.DataFrame(X)[name])
