"""The outcome of a comparison: survival, classes or numbers, cut into folds in one way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier, is_regressor

from mmfusion.inputs.labels import check_order
from mmfusion.inputs.messages import name_rows
from mmfusion.inputs.parameters import check_choice
from mmfusion.survival import Survival, check_survival

__all__ = ["TASKS", "Outcome", "any_event", "check_outcome", "for_fit", "take", "task_of"]

TASKS = ("survival", "classification", "regression")

Outcome = Survival | np.ndarray


def check_outcome(y: Any, task: str, X: Any) -> Outcome:
    """Return the outcome of the rows of `X`: a Survival, an array of labels, or of float64.

    Raises
    ------
    ValueError
        An unknown task; another number of rows than `X`; missing or infinite values; whatever
        `check_survival` refuses.
    """
    check_choice("task", task, TASKS)
    check_order(X=X, y=y)
    if task == "survival":
        index = getattr(X, "index", None)
        outcome = check_survival(y, allow_competing=True, index=index, n_rows=len(X))
        return outcome if outcome.event.max() > 1 else any_event(outcome)
    values = np.asarray(y)
    if values.shape != (len(X),):
        raise ValueError(
            f"The y parameter must have one value for each of the {len(X)} rows of X. "
            f"Got shape {values.shape}, dtype {values.dtype}."
        )
    if task == "regression":
        try:
            values = values.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"The y parameter must hold numbers. Got dtype {values.dtype}."
            ) from error
    wrong = ~np.isfinite(values) if values.dtype.kind == "f" else pd.isna(values)
    if wrong.any():
        raise ValueError(
            "The y parameter must not be missing or infinite. Got some in rows "
            f"{name_rows(X if isinstance(X, pd.DataFrame) else None, wrong)}."
        )
    return values


def any_event(outcome: Any) -> Any:
    """Return a survival outcome in which any cause is the event; another outcome as it is."""
    if not isinstance(outcome, Survival):
        return outcome
    return Survival(outcome.time, outcome.event > 0, outcome.entry)


def take(outcome: Outcome, rows: np.ndarray) -> Outcome:
    """Return the outcome of these rows."""
    return outcome.take(rows) if isinstance(outcome, Survival) else outcome[rows]


def for_fit(outcome: Outcome) -> np.ndarray:
    """Return the outcome as an estimator's ``fit`` takes it."""
    return outcome.to_structured() if isinstance(outcome, Survival) else outcome


def task_of(estimator: Any, y: Any) -> str:
    """Return what the estimator predicts; the outcome tells where it says nothing."""
    if is_classifier(estimator):
        return "classification"
    if isinstance(y, Survival) or getattr(getattr(y, "dtype", None), "names", None):
        return "survival"  # also of a regressor, such as an accelerated failure time model
    numbers = np.ndim(y) == 1 and getattr(y, "dtype", None) is not None and y.dtype.kind in "iuf"
    curves = hasattr(estimator, "predict_survival_function")
    return "regression" if is_regressor(estimator) or (numbers and not curves) else "survival"
