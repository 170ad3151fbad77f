"""Numbers from several modalities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import RegressorMixin

from mmfusion.heads import GaussianHead
from mmfusion.inputs.labels import check_order

from ._docs import documented
from .base import FusionEstimator

__all__ = ["FusionRegressor"]


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class FusionRegressor(RegressorMixin, FusionEstimator):
    """Least-squares regressor whose mean a multimodal network computes.

    Trained on the Gaussian likelihood with a constant scale; the outcome is standardised inside.

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
    scale_ : float
        Residual standard deviation of the training rows, in the unit of y.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from mmfusion.estimators import FusionRegressor
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = FusionRegressor(epochs=20, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.4
    True
    """

    treatment: str | None = None

    def _make_head(self) -> GaussianHead:
        return GaussianHead()

    def predict(
        self, X: pd.DataFrame | np.ndarray, *, modalities: Sequence[str] | None = None
    ) -> np.ndarray:
        """Return the mean of each row, in the unit of y.

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
        ndarray of float64, shape (n,)
        """
        eta = self._predictors(X, modalities)[1]
        return self._head.mean(eta)

    def score(
        self,
        X: pd.DataFrame | np.ndarray,
        y: Any,
        sample_weight: np.ndarray | None = None,
        *,
        modalities: Sequence[str] | None = None,
    ) -> float:
        """Return the coefficient of determination R squared.

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
        from sklearn.metrics import r2_score  # slow to import

        check_order(X=X, y=y, sample_weight=sample_weight)
        predicted = self.predict(X, modalities=modalities)
        return float(r2_score(y, predicted, sample_weight=sample_weight))

    @property
    def scale_(self) -> float:
        """Residual standard deviation of the training rows, in the unit of y."""
        return self._head.scale_
