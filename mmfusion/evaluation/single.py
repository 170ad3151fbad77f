"""A model of one modality, for a cohort in which some rows lack it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils.metaestimators import available_if

from mmfusion.inputs.times import as_times
from mmfusion.metrics.scorers import curves_at, risk_of
from mmfusion.modalities.base import Modality
from mmfusion.survival import check_survival, kaplan_meier

__all__ = ["SingleModality"]


def _has(method: str) -> Any:
    return available_if(lambda self: hasattr(getattr(self, "estimator_", self.estimator), method))


class SingleModality(MetaEstimatorMixin, BaseEstimator):
    """Fits a model on the rows that have its modality, and predicts the others without it.

    A row that lacks the modality gets what a study would have to give it: one constant, the mean
    prediction of the training rows that have it (a risk, a number), the Kaplan-Meier curve of all
    training rows, or their shares of each class and the largest class.

    Parameters
    ----------
    estimator : estimator
        Of this modality alone.
    modality : Modality
        Says which rows have it.
    task : {"survival", "classification", "regression"}
    """

    def __init__(self, estimator: Any, modality: Modality, task: str = "survival") -> None:
        self.estimator = estimator
        self.modality = modality
        self.task = task

    def fit(self, X: pd.DataFrame, y: Any) -> Self:
        """Fit on the rows that have the modality; `y` is an array."""
        self.modality_: Any = clone(self.modality)
        self.modality_.fit(X)
        present = self.modality_.present(X)
        self.estimator_ = clone(self.estimator).fit(X[present], y[present])
        if self.task == "classification":
            self.classes_, counts = np.unique(y, return_counts=True)
            self._shares = counts / counts.sum()
            self._constant: Any = self.classes_[counts.argmax()]
        else:
            self._constant = float(np.mean(self._known(X[present])))
        if self.task == "survival":
            outcome = check_survival(y)
            entry = outcome.entry if outcome.delayed else None
            self._curve = kaplan_meier(outcome.time, outcome.event, entry)
        return self

    @property
    def interrupted_(self) -> bool:
        """Whether Ctrl-C ended the training of the estimator."""
        return getattr(self.estimator_, "interrupted_", False)

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Return predictions, of survival risks; the constant where the modality is lacking."""
        present = self.modality_.present(X)
        kind = self.classes_.dtype if self.task == "classification" else np.float64
        values = np.full(len(X), self._constant, dtype=kind)
        if present.any():
            values[present] = self._known(X[present])
        return values

    def _known(self, X: pd.DataFrame) -> np.ndarray:
        """Return the estimator's predictions, of survival its risks."""
        if self.task == "survival":
            return np.asarray(risk_of(self.estimator_, X))
        return np.asarray(self.estimator_.predict(X))

    @_has("predict_proba")
    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Return class probabilities, the training shares where the modality is lacking."""
        present = self.modality_.present(X)
        values = np.tile(self._shares, (len(X), 1))
        if present.any():
            # A class that no row with the modality has is unknown to the estimator.
            values[present] = 0.0
            at = np.searchsorted(self.classes_, self.estimator_.classes_)
            values[np.ix_(present, at)] = self.estimator_.predict_proba(X[present])
        return values

    @_has("predict_survival_function")
    def predict_survival_function(
        self, X: pd.DataFrame, times: Sequence[float] | np.ndarray
    ) -> pd.DataFrame:
        """Return survival curves, Kaplan-Meier's where the modality is lacking."""
        present = self.modality_.present(X)
        grid = as_times("times", times)
        values = np.tile(self._curve(grid), (len(X), 1))
        if present.any():
            values[present] = curves_at(self.estimator_, X[present], grid)
        return pd.DataFrame(values, index=X.index, columns=pd.Index(grid, name="time"))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = self.estimator.__sklearn_tags__()
        tags.estimator_type = inner.estimator_type
        tags.classifier_tags = inner.classifier_tags
        tags.regressor_tags = inner.regressor_tags
        return tags
