"""What a fitted model is given and asked on the rows it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer

from mmfusion.evaluation.outcomes import for_fit
from mmfusion.inputs.parameters import check_choice
from mmfusion.metrics import (
    Score,
    crps,
    evaluation_times,
    log_score,
    make_survival_scorer,
    plain,
    scores_with_influence,
)
from mmfusion.metrics.scorers import _within, curves_at

__all__ = ["DEFAULTS", "METRICS", "Metric", "TestFold", "resolve_scoring"]


@dataclass(eq=False)
class TestFold:
    """A fitted model and the rows it has not seen: what a metric of `compare` takes.

    Attributes
    ----------
    model : estimator
        Fitted on the training rows.
    X : DataFrame or ndarray
        The test rows.
    y, y_train : Survival, or ndarray of labels or numbers
        The outcomes of the test rows and of the training rows.
    strata : ndarray, shape (n_test,), or None
        Where pairs are compared within strata only, each test row's stratum.
    """

    __test__ = False  # no test class of pytest's

    model: Any
    X: Any
    y: Any
    y_train: Any
    strata: np.ndarray | None = None

    @cached_property
    def prediction(self) -> np.ndarray:
        """What ``model.predict`` returns, shape (n_test,)."""
        return np.asarray(self.model.predict(self.X))

    @cached_property
    def risk(self) -> np.ndarray:
        """The risk that a survival model gives, as float64; higher is worse."""
        model, seen = _within(self.model, self.X)
        if hasattr(model, "predict_risk"):  # `predict` is a time
            return np.asarray(model.predict_risk(seen), dtype=np.float64)
        return np.asarray(self.prediction, dtype=np.float64)

    @cached_property
    def times(self) -> np.ndarray:
        """Where curves are scored: `mmfusion.metrics.evaluation_times` of the training rows."""
        return evaluation_times(self.y_train)

    def survival(self, times: np.ndarray) -> np.ndarray | None:
        """Return survival probabilities, shape (n_test, n_times); None for a model without curves.

        As `mmfusion.metrics.scorers.curves_at` reads them; Pipelines and searches of scikit-learn's
        hide their model's curves.
        """
        model, seen = _within(self.model, self.X)
        if not hasattr(model, "predict_survival_function"):
            return None
        return np.asarray(curves_at(model, seen, times), dtype=np.float64)


#: A `Score`, which knows each row's influence, brings an interval with it.
Metric = Callable[[TestFold], float | Score]


def harrell(fold: TestFold) -> Score:
    """Return Harrell's C of the test rows, of pairs within a stratum where there are strata."""
    return scores_with_influence("harrell", fold.y, fold.risk, strata=fold.strata)["harrell"]


def integrated_brier(fold: TestFold) -> float | Score:
    """Return the integrated Brier score; NaN without curves, or under delayed entry."""
    if fold.y.delayed or fold.y_train.delayed:
        return float("nan")
    curves = fold.survival(fold.times)
    if curves is None:
        return float("nan")
    settings = {"times": fold.times, "y_train": fold.y_train}
    return scores_with_influence("ibs", fold.y, curves, **settings)["ibs"]


def accuracy(fold: TestFold) -> Score:
    """Return the share of test rows whose class is predicted."""
    return plain.accuracy(fold.y, fold.prediction)


def cross_entropy(fold: TestFold) -> float | Score:
    """Return the mean negative log probability of the class; NaN without probabilities."""
    if not hasattr(fold.model, "predict_proba"):
        return float("nan")
    probabilities = np.asarray(fold.model.predict_proba(fold.X))
    return plain.log_loss(fold.y, probabilities, fold.model.classes_)


def r2(fold: TestFold) -> Score:
    """Return the share of the variance of the test rows that is explained."""
    return plain.r2(fold.y, fold.prediction)


def rmse(fold: TestFold) -> Score:
    """Return the root mean squared error, in the unit of the outcome."""
    return plain.rmse(fold.y, fold.risk)


METRICS: Mapping[str, Metric] = {"c": harrell, "ibs": integrated_brier}
#: What each kind of model is scored by where nothing else is asked for.
DEFAULTS: Mapping[str, Mapping[str, Metric]] = {
    "survival": METRICS,
    "classification": {"accuracy": accuracy, "log_loss": cross_entropy},
    "regression": {"r2": r2, "rmse": rmse},
}
#: More names for survival; risks of different strata cannot be compared by the first two.
OF_RISK = ("uno", "auc")
MORE = (*OF_RISK, "antolini")


def survival_score(fold: TestFold, metric: str) -> float | Score:
    """Return a metric of `make_survival_scorer`, weights and times from the training rows."""
    settings: dict[str, Any] = {"y_train": fold.y_train}
    if fold.strata is not None and metric in OF_RISK:
        raise ValueError(
            f"The scoring parameter must be 'c', 'ibs' or 'antolini' where there are strata: risks "
            f"of different strata cannot be compared. Got {metric!r}."
        )
    if metric == "uno":
        tau = fold.times[-1]
        return scores_with_influence("uno", fold.y, fold.risk, tau=tau, **settings)["uno"]
    if metric == "auc":
        settings["times"] = fold.times
        return scores_with_influence("auc", fold.y, fold.risk, **settings)["mean"]
    times = np.unique(fold.y.time[fold.y.event])
    if fold.survival(times) is None:
        return float("nan")
    scorer = make_survival_scorer(metric, times=times, y_train=fold.y_train)
    model = getattr(fold.model, "best_estimator_", fold.model)
    return scorer(model, fold.X, fold.y)


#: Scores of models that predict whole distributions, and where their intervals are symmetric.
OF_DISTRIBUTIONS: Mapping[str, tuple[Callable[..., np.ndarray], Any]] = {
    "log_score": (log_score, "identity"),
    "crps": (crps, "log"),
}


def distribution_score(fold: TestFold, metric: str) -> float | Score:
    """Return the mean log score or CRPS; NaN of a model that predicts no distributions."""
    predict = getattr(fold.model, "predict_distribution", None)
    if predict is None:
        return float("nan")
    score, scale = OF_DISTRIBUTIONS[metric]
    each = score(fold.y, predict(fold.X))
    return Score(float(each.mean()), (each - each.mean()) / len(each), scale)


def score_with(fold: TestFold, scorer: Any) -> float:
    """Return the score of a scorer of scikit-learn's form, ``scorer(estimator, X, y)``."""
    return float(scorer(fold.model, fold.X, for_fit(fold.y)))


def resolve_scoring(scoring: Any, task: str) -> Mapping[str, Metric]:
    """Return the metrics that a ``scoring=`` parameter means.

    Parameters
    ----------
    scoring : None, str, callable, sequence of str, or mapping of str to str or callable
        Names are those of `DEFAULTS`; for survival also "uno", "auc" and "antolini"; of models with
        ``predict_distribution`` "log_score" and "crps"; else those of scikit-learn's scorers. A
        callable is a scorer: ``scorer(estimator, X, y)``.
    task : {"survival", "classification", "regression"}

    Raises
    ------
    ValueError, TypeError
        An unknown name (they are listed), none, or something else.
    """
    if scoring is None:
        return DEFAULTS[task]
    if isinstance(scoring, str):
        scoring = {scoring: scoring}
    elif callable(scoring):
        scoring = {"score": scoring}
    elif isinstance(scoring, Iterable) and not isinstance(scoring, Mapping):
        scoring = {name: name for name in scoring}
    if not isinstance(scoring, Mapping) or not all(isinstance(name, str) for name in scoring):
        raise TypeError(
            "The scoring parameter must be None, a name, a scorer, a list of names, or a dict of "
            f"these by name. Got {scoring!r}."
        )
    if not scoring:
        raise ValueError("The scoring parameter must hold at least one score. Got none.")
    return {label: _metric(chosen, task) for label, chosen in scoring.items()}


def _metric(chosen: Any, task: str) -> Metric:
    if callable(chosen):
        return partial(score_with, scorer=chosen)
    if chosen in DEFAULTS[task]:
        return DEFAULTS[task][chosen]
    if chosen in OF_DISTRIBUTIONS and task != "classification":
        return partial(distribution_score, metric=chosen)
    if task == "survival":
        check_choice("scoring", chosen, (*DEFAULTS[task], *MORE, *OF_DISTRIBUTIONS))
        return partial(survival_score, metric=chosen)
    try:
        return partial(score_with, scorer=get_scorer(chosen))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"The scoring parameter must be one of {tuple(DEFAULTS[task])} or a scorer of "
            f"scikit-learn's. Got {chosen!r}."
        ) from error
