"""Scores of predictive distributions as scorers for cross-validation and tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mmfusion.inputs.labels import check_order
from mmfusion.inputs.parameters import check_choice, check_number
from mmfusion.metrics.crps import crps
from mmfusion.metrics.prediction_intervals import (
    interval_coverage,
    interval_score,
    interval_width,
)
from mmfusion.metrics.predictive import log_score
from mmfusion.metrics.scorers import _within

__all__ = ["DistributionScorer", "make_distribution_scorer"]

METRICS = ("log_score", "crps", "interval_score", "interval_coverage", "interval_width")


@dataclass(frozen=True)
class DistributionScorer:
    """A metric as ``scorer(estimator, X, y)``. See `make_distribution_scorer`.

    Attributes
    ----------
    metric : str
    level : float
    """

    metric: str
    level: float = 0.9

    def __call__(self, estimator: Any, X: Any, y: Any) -> float:
        """Score the predictions of a fitted estimator."""
        check_order(X=X, y=y)
        model, seen = _within(estimator, X)
        if self.metric == "log_score":
            return float(log_score(y, model.predict_distribution(seen)).mean())
        if self.metric == "crps":
            return -float(crps(y, model.predict_distribution(seen)).mean())
        lower, upper = np.asarray(model.predict_interval(seen, self.level), dtype=np.float64).T
        if self.metric == "interval_score":
            return -float(interval_score(y, lower, upper, self.level).mean())
        if self.metric == "interval_coverage":
            return interval_coverage(y, lower, upper)
        return -interval_width(lower, upper)


def make_distribution_scorer(metric: str, *, level: float = 0.9) -> DistributionScorer:
    """Return a scorer for ``cross_validate``, ``GridSearchCV`` and the like.

    Parameters
    ----------
    metric : {"log_score", "crps", "interval_score", "interval_coverage", "interval_width"}
        The first two score ``estimator.predict_distribution(X)``, the others
        ``estimator.predict_interval(X, level)``, lower and upper bounds as two columns; also of a
        model at the end of a Pipeline or in a search. CRPS, interval score and width are returned
        as their negatives, so that higher is better. Coverage is better near `level` and width says
        nothing without it: read the two beside each other, and choose models by another.
    level : float, default=0.9
        Of the intervals.

    Returns
    -------
    DistributionScorer
        It can be pickled.

    Raises
    ------
    ValueError
        An unknown metric, or a level outside (0, 1).

    Examples
    --------
    >>> from mmfusion.metrics import make_distribution_scorer
    >>> scoring = {name: make_distribution_scorer(name) for name in ("crps", "interval_coverage")}
    >>> scoring["crps"].metric
    'crps'
    """
    check_choice("metric", metric, METRICS)
    check_number("level", level, 0, 1, open_ends="low and high")
    return DistributionScorer(metric, float(level))
