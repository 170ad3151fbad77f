"""Scores of classes and numbers with the influence of each row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.metrics._inputs import check_probabilities
from mmfusion.metrics.auc import weighted_auc
from mmfusion.metrics.score import Score

__all__ = ["PLAIN", "accuracy", "log_loss", "plain_score", "r2", "rmse", "roc_auc"]


def accuracy(y: np.ndarray, predicted: np.ndarray) -> Score:
    """Return the share of rows whose class is predicted."""
    right = y == _column(y, predicted)
    return Score(float(right.mean()), (right - right.mean()) / len(y), "logit")


def log_loss(y: np.ndarray, probabilities: np.ndarray, classes: Any = None) -> Score:
    """Return the mean negative log probability of the class; `classes` names the columns."""
    classes = np.unique(y) if classes is None else np.asarray(classes)
    table = np.asarray(probabilities, dtype=np.float64)
    if table.shape == (len(y),) and len(classes) == 2:
        table = np.column_stack([1 - table, table])
    if table.shape != (len(y), len(classes)):
        raise ValueError(
            "The prediction parameter must hold the probability of each class, shape "
            f"{(len(y), len(classes))}. Got {table.shape}."
        )
    table = check_probabilities(table, "prediction")
    table = table / table.sum(axis=1, keepdims=True)
    column = np.searchsorted(classes, y).clip(max=len(classes) - 1)
    if (classes[column] != y).any():
        unknown = np.unique(y[classes[column] != y]).tolist()
        raise ValueError(f"The y parameter must hold known classes. Got {unknown[:5]} besides.")
    each = -np.log(np.maximum(table[np.arange(len(y)), column], np.finfo(np.float64).eps))
    return Score(float(each.mean()), (each - each.mean()) / len(y), "log")


def roc_auc(y: np.ndarray, risk: np.ndarray) -> Score:
    """Return the area under the ROC curve of two classes (DeLong et al. 1988)."""
    classes = np.unique(y)
    if len(classes) != 2:
        raise ValueError(f"The y parameter must hold two classes. Got {classes.tolist()[:5]}.")
    case = (y == classes[1]).astype(np.float64)
    auc, above, below = weighted_auc(_numbers(y, risk), case, case == 0)
    rows = case * (above - auc) / case.sum() + (1 - case) * (below - auc) / (1 - case).sum()
    return Score(auc, rows, "logit")


def r2(y: np.ndarray, predicted: np.ndarray) -> Score:
    """Return the share of the variance that is explained."""
    y = np.asarray(y, dtype=np.float64)
    error, spread = (y - _numbers(y, predicted)) ** 2, (y - y.mean()) ** 2
    if not spread.sum() > 0:
        raise ValueError("The y parameter must vary for a share of its variance. Got one value.")
    unexplained = error.sum() / spread.sum()
    rows = -(error - unexplained * spread) / spread.sum()
    return Score(float(1 - unexplained), rows, "log complement")


def rmse(y: np.ndarray, predicted: np.ndarray) -> Score:
    """Return the root mean squared error."""
    error = (np.asarray(y, dtype=np.float64) - _numbers(y, predicted)) ** 2
    root = float(np.sqrt(error.mean()))
    rows = (error - error.mean()) / (2 * root * len(error)) if root else np.zeros(len(error))
    return Score(root, rows, "log")


PLAIN: dict[str, Callable[..., Score]] = {
    "accuracy": accuracy,
    "log_loss": log_loss,
    "roc_auc": roc_auc,
    "r2": r2,
    "rmse": rmse,
}


def plain_score(metric: str, y: Any, prediction: Any) -> Score:
    """Return a score of `PLAIN` by its name.

    Where a table of probabilities has the classes of `y` as columns, these say which are known,
    some of which no row of `y` may have.
    """
    y = np.asarray(y)
    named = metric == "log_loss" and isinstance(prediction, pd.DataFrame)
    if named and set(np.unique(y)) <= set(prediction.columns):
        prediction = prediction[sorted(prediction.columns)]
        return log_loss(y, prediction.to_numpy(), prediction.columns)
    return PLAIN[metric](y, np.asarray(prediction))


def _column(y: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    if predicted.shape != y.shape:
        raise ValueError(
            f"The prediction parameter must have one value a row, shape {y.shape}. "
            f"Got {predicted.shape}."
        )
    return predicted


def _numbers(y: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    values = _column(y, predicted).astype(np.float64)
    if not np.isfinite(values).all():
        rows = np.flatnonzero(~np.isfinite(values))[:5].tolist()
        raise ValueError(f"The prediction parameter must be finite. Got others in rows {rows}.")
    return values
