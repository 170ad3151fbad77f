"""Scores of whole predictive distributions, and of their intervals."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from mmfusion.interpret.report.evidence import Evidence
from mmfusion.metrics import crps, log_score
from mmfusion.metrics.score import Score

__all__ = ["distribution_scores"]

#: Of the prediction intervals that are judged.
LEVEL = 0.9
#: Name, what it says, and on which scale its own interval is symmetric.
SCORES: tuple[tuple[str, str, Literal["identity", "logit", "log"]], ...] = (
    ("CRPS", "mean error of the whole distribution, in the unit of the outcome; 0 is best", "log"),
    ("log score", "mean log density at the outcome; higher is better", "identity"),
    (f"coverage of {LEVEL:.0%} intervals", f"share of outcomes inside; {LEVEL} is right", "logit"),
    (
        f"width of {LEVEL:.0%} intervals",
        "mean, in the unit of the outcome; where coverage is right, narrower is better",
        "log",
    ),
)


def distribution_scores(found: Evidence) -> list[tuple[str, pd.Series, str]]:
    """Return each score of predicted distributions: its name, score with interval, what it says.

    None where the model predicts no distribution of a number, or predictions were given.
    """
    predicts = found.task == "regression" and hasattr(found.model, "predict_distribution")
    if not predicts or not found.parts:
        return []
    each = np.empty((len(found), len(SCORES)))
    for model, rows in found.parts:
        each[rows] = _of_rows(model, found.X.iloc[rows], found.y[rows])
    made = []
    for values, (name, says, scale) in zip(each.T, SCORES, strict=True):
        mean = float(values.mean())
        with np.errstate(invalid="ignore"):  # an outcome that was impossible: -inf
            score = Score(mean, (values - mean) / len(values), scale)
            row = dict(zip(["score", "se", "lower", "upper"], score.interval(), strict=True))
        made.append((name, pd.Series(row), says))
    return made


def _of_rows(model: Any, X: pd.DataFrame, y: np.ndarray) -> np.ndarray:
    """Return what each row adds to each score, shape (n, 4)."""
    distribution = model.predict_distribution(X)
    lower, upper = model.predict_interval(X, LEVEL).to_numpy(np.float64).T
    of_interval = [(lower <= y) & (y <= upper), upper - lower]
    return np.column_stack([crps(y, distribution), log_score(y, distribution), *of_interval])
