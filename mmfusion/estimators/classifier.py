"""Classes from several modalities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import ClassifierMixin

from mmfusion.heads import CategoricalHead
from mmfusion.inputs.labels import check_order

from ._docs import documented
from .base import FusionEstimator

__all__ = ["FusionClassifier"]


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class FusionClassifier(ClassifierMixin, FusionEstimator):
    """Classifier whose logits a multimodal network computes.

    Trained on the categorical likelihood: logistic regression's where there are two classes.

    Parameters
    ----------
    {modalities, fusion, structured, linear, n_members, head, orthogonalization, inference, id,
    cluster, auxiliary, pretrained, pretrained_lr_scale, modality_dropout, epochs, batch_size,
    learning_rate, patience, validation_fraction, training, device, verbose, random_state,
    treatment}

    Attributes
    ----------
    {modalities_, linear_effects_, network_, history_, best_epoch_, interrupted_,
    fusion_weights_, effects_, covariance_, structured_weight_, deep_share_, n_features_in_,
    feature_names_in_}
    classes_ : ndarray, shape (n_classes,)

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from mmfusion.estimators import FusionClassifier
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> model = FusionClassifier(epochs=20, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.9
    True
    """

    treatment: str | None = None

    def _make_head(self) -> CategoricalHead:
        return CategoricalHead()

    def _expose(self) -> None:
        super()._expose()
        self.classes_ = self._head.classes_

    def predict_proba(
        self, X: pd.DataFrame | np.ndarray, *, modalities: Sequence[str] | None = None
    ) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        modalities : list of str, optional
            As in `predict`.

        Returns
        -------
        ndarray of float64, shape (n, n_classes)
            In the order of ``classes_``.
        """
        eta = self._predictors(X, modalities)[1]
        return self._head.probabilities(eta)

    def predict_log_proba(
        self, X: pd.DataFrame | np.ndarray, *, modalities: Sequence[str] | None = None
    ) -> np.ndarray:
        """Return the logarithm of `predict_proba`.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        modalities : list of str, optional
            As in `predict`.

        Returns
        -------
        ndarray of float64, shape (n, n_classes)
        """
        return np.log(self.predict_proba(X, modalities=modalities))

    def decision_function(
        self, X: pd.DataFrame | np.ndarray, *, modalities: Sequence[str] | None = None
    ) -> np.ndarray:
        """Return the logits: of two classes, the log-odds of the second.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        modalities : list of str, optional
            As in `predict`.

        Returns
        -------
        ndarray of float64, shape (n,) or (n, n_classes)
        """
        eta = self._predictors(X, modalities)[1]
        return eta[:, 0] if eta.shape[1] == 1 else eta

    def predict(
        self, X: pd.DataFrame | np.ndarray, *, modalities: Sequence[str] | None = None
    ) -> Any:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        modalities : list of str, optional
            Predict from these alone: the others count as absent, and are not read; `X` may lack
            their columns. Empty only beside a formula: the prediction of a row that has none, from
            the coefficients beside the networks. The classical model of the formula, which
            ``effects_`` reports, is another fit: that with ``modalities={}``.

        Returns
        -------
        ndarray, shape (n,)
        """
        probabilities = self.predict_proba(X, modalities=modalities)
        return self.classes_[probabilities.argmax(axis=1)]

    def score(
        self,
        X: pd.DataFrame | np.ndarray,
        y: Any,
        sample_weight: np.ndarray | None = None,
        *,
        modalities: Sequence[str] | None = None,
    ) -> float:
        """Return the share of rows whose class is predicted.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        y : array-like, shape (n,)
        sample_weight : array-like, shape (n,), optional
        modalities : list of str, optional
            As in `predict`.

        Returns
        -------
        float
        """
        from sklearn.metrics import accuracy_score  # slow to import

        check_order(X=X, y=y, sample_weight=sample_weight)
        predicted = self.predict(X, modalities=modalities)
        return float(accuracy_score(y, predicted, sample_weight=sample_weight))
