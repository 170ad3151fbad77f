"""What a search is led by: scorers by name, and which of them are objectives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmfusion.evaluation.outcomes import Outcome, any_event
from mmfusion.inputs.parameters import check_choice
from mmfusion.metrics import evaluation_times, get_scorer, make_survival_scorer
from mmfusion.metrics.named import OF_DISTRIBUTIONS
from mmfusion.survival import Survival, check_survival

__all__ = ["TIME", "check_objectives", "check_scoring"]

#: Survival metrics by name; "c" is Harrell's, as in `mmfusion.evaluation`.
NAMES = {"c": "harrell", **{name: name for name in ("harrell", "uno", "antolini", "auc", "ibs")}}
#: The objective that is no score: seconds of a fit.
TIME = "fit_time"


def own_score(estimator: Any, X: Any, y: Any, **params: Any) -> float:
    """Return the estimator's own score."""
    return float(estimator.score(X, y, **params))


@dataclass(frozen=True, eq=False)
class OfSurvival:
    """A metric of survival by name; of competing causes any event counts.

    Attributes
    ----------
    metric : str
    times : ndarray or None
    y_train : Survival
        The rows that tell the censoring: all that the search is given, the same in each fold.
    """

    metric: str
    times: np.ndarray | None
    y_train: Survival

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        """Score a fitted estimator; higher is better."""
        outcome = any_event(check_survival(y, allow_competing=True, allow_intervals=True))
        settings: dict[str, Any] = {"times": self.times, "y_train": self.y_train}
        if self.metric == "harrell":
            settings = {}
        elif self.metric in ("uno", "antolini"):
            settings.pop("times")
        return make_survival_scorer(self.metric, **settings)(estimator, X, outcome)


def check_scoring(scoring: Any, outcome: Outcome) -> tuple[dict[str, Any], bool]:
    """Return the scorers by name, and whether they were given as several.

    Parameters
    ----------
    scoring : None, str, callable, sequence of str, or mapping of str to str or callable
    outcome : Survival, or ndarray of labels or numbers

    Raises
    ------
    ValueError
        An unknown name, or none.
    TypeError
        Something else.
    """
    if scoring is None:
        return {"score": own_score}, False
    if isinstance(scoring, str) or callable(scoring):
        return {"score": _scorer(scoring, outcome)}, False
    if isinstance(scoring, Iterable) and not isinstance(scoring, Mapping):
        scoring = {name: name for name in scoring}
    if not isinstance(scoring, Mapping) or not all(isinstance(name, str) for name in scoring):
        raise TypeError(
            "The scoring parameter must be None, a name, a scorer, a list of names, or a dict of "
            f"these by name. Got {scoring!r}."
        )
    if not scoring:
        raise ValueError("The scoring parameter must hold at least one score. Got none.")
    return {name: _scorer(each, outcome) for name, each in scoring.items()}, True


def _scorer(chosen: Any, outcome: Outcome) -> Any:
    if callable(chosen):
        return chosen
    if not isinstance(outcome, Survival) or chosen in OF_DISTRIBUTIONS:
        return get_scorer(chosen)
    check_choice("scoring", chosen, (*NAMES, *OF_DISTRIBUTIONS))
    train = any_event(outcome)
    times = evaluation_times(train) if chosen in ("auc", "ibs") else None
    return OfSurvival(NAMES[chosen], times, train)


def check_objectives(objectives: Any, refit: Any, scorers: Mapping[str, Any]) -> list[str]:
    """Return the names of what is optimised, scores or `TIME`.

    Raises
    ------
    ValueError
        An unknown name, one named twice, or none.
    TypeError
        Something else than a list of names.
    """
    if objectives is None:
        return [refit] if isinstance(refit, str) and refit in scorers else list(scorers)
    if isinstance(objectives, str) or not isinstance(objectives, Iterable):
        raise TypeError(
            f"The objectives parameter must be None or a list of names. Got {objectives!r}."
        )
    chosen = list(objectives)
    for name in chosen:
        check_choice("objectives", name, (*scorers, TIME))
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"The objectives parameter must name one objective or more, each once. Got {chosen!r}."
        )
    return chosen
