"""Whole distributions from several modalities, each parameter with a formula and networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from mmfusion.heads import DistributionHead
from mmfusion.heads.families import Distribution, Family, check_family
from mmfusion.inputs.labels import check_order

from ._docs import documented
from .base import FusionEstimator

__all__ = ["FusionDistribution"]


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class FusionDistribution(RegressorMixin, FusionEstimator):
    """Distributional regression of formulas and multimodal networks."""

    family: str | Family = "normal"
    deep: str | Sequence[str] | None = None

    def _make_head(self) -> DistributionHead:
        deep = (self.deep,) if isinstance(self.deep, str) else self.deep
        return DistributionHead(check_family(self.family), deep)

    def _formulas(self) -> Mapping[str, str]:
        given = "1" if self.structured is None else self.structured
        if not isinstance(given, str):
            return given
        return {check_family(self.family).formulas(1.0).names[0]: given}

    def predict_distribution(
        self,
        X: pd.DataFrame | np.ndarray,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> Distribution:
        eta = self._predictors(X, modalities, exclude)[1]
        return self._head.distribution(eta)

    def predict(
        self,
        X: pd.DataFrame | np.ndarray,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> np.ndarray:
        return self.predict_distribution(X, modalities=modalities, exclude=exclude).mean

    def score(
        self,
        X: pd.DataFrame | np.ndarray,
        y: Any,
        sample_weight: np.ndarray | None = None,
        *,
        modalities: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
    ) -> float:
        check_is_fitted(self)
        check_order(X=X, y=y, sample_weight=sample_weight)
        table, eta = self._predictors(X, modalities, exclude)
        target = self._head.encode(y, sample_weight, index=table.index)
        scores = self._head.log_scores(eta, target)
        return float(np.average(scores, weights=target.weight.numpy()))
