"""Scorers by name."""

from __future__ import annotations

from typing import Any

from mmfusion.inputs.messages import did_you_mean
from mmfusion.metrics.distribution_scorers import METRICS as OF_DISTRIBUTIONS
from mmfusion.metrics.distribution_scorers import make_distribution_scorer
from mmfusion.metrics.scorers import METRICS as OF_SURVIVAL
from mmfusion.metrics.scorers import make_survival_scorer

__all__ = ["get_scorer"]


def get_scorer(scoring: Any) -> Any:
    """Return a scorer, ``scorer(estimator, X, y)``, by its name; higher is better.

    Parameters
    ----------
    scoring : str or callable
        Of `make_survival_scorer`: "harrell" (or "c"), "uno", "antolini", "auc", "ibs". Of
        `make_distribution_scorer`: "log_score", "crps" and others. Else one of scikit-learn's. A
        callable is returned as it is.

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        An unknown name, with the nearest one.

    Examples
    --------
    >>> from mmfusion.metrics import get_scorer
    >>> get_scorer("ibs")
    SurvivalScorer(metric='ibs', times=None, tau=None, y_train=None)
    """
    if callable(scoring):
        return scoring
    if scoring == "c" or scoring in OF_SURVIVAL:
        return make_survival_scorer("harrell" if scoring == "c" else scoring)
    if scoring in OF_DISTRIBUTIONS:
        return make_distribution_scorer(scoring)
    from sklearn.metrics import get_scorer as others  # slow to import
    from sklearn.metrics import get_scorer_names

    if scoring in get_scorer_names():
        return others(scoring)
    own = ["c", *OF_SURVIVAL, *OF_DISTRIBUTIONS]
    near = did_you_mean(scoring, [*own, *get_scorer_names()])
    raise ValueError(
        f"The scoring parameter must be one of {own} or a scorer of scikit-learn's. "
        f"Got {scoring!r}.{near}"
    )
