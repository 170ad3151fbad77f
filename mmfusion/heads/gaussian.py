"""Numbers: the Gaussian likelihood with a constant scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_array, column_or_1d
from torch import Tensor

from mmfusion.heads.base import Head, Monitor, Target
from mmfusion.heads.missing import refuse_missing
from mmfusion.heads.weights import check_weights

__all__ = ["GaussianHead", "GaussianTarget"]


@dataclass
class GaussianTarget(Target):
    """Numbers, standardised by the training outcome.

    Attributes
    ----------
    value : Tensor of float64, shape (n,)
    """

    value: Tensor


class GaussianHead(Head):
    """Least squares: half the weighted mean squared error of the standardised outcome.

    Attributes
    ----------
    center_, spread_ : float
        Weighted mean and standard deviation of the training outcome; predictors are on the
        standardised scale.
    scale_ : float
        Residual standard deviation of the training rows, in units of y.
    """

    predictors = ("mean",)
    has_scale = True

    @property
    def units(self) -> tuple[float, float]:
        return self.center_, self.spread_

    def fit_outcome(
        self, y: Any, sample_weight: np.ndarray | None = None, index: Any = None, **context: Any
    ) -> GaussianTarget:
        """Learn location and spread of `y` and return it standardised.

        Parameters
        ----------
        y : array-like, shape (n,)
        sample_weight : array-like, shape (n,), optional
        index : sequence, optional
            Labels of the rows for error messages.

        Raises
        ------
        ValueError
            If `y` is not a finite number a row.
        """
        values = self._check(y, index)
        weight = check_weights(sample_weight, len(values)).numpy()
        self.center_ = float(np.average(values, weights=weight))
        self.spread_ = float(np.sqrt(np.average((values - self.center_) ** 2, weights=weight)))
        if not self.spread_ > 0:  # a constant outcome: every spread is right
            self.spread_ = 1.0
        return self.encode(y, sample_weight, index)

    @staticmethod
    def _check(y: Any, index: Any) -> np.ndarray:
        refuse_missing(y, index)
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        return column_or_1d(y, warn=True)

    def encode(
        self, y: Any, sample_weight: np.ndarray | None = None, index: Any = None, **context: Any
    ) -> GaussianTarget:
        values = (self._check(y, index) - self.center_) / self.spread_
        return GaussianTarget(check_weights(sample_weight, len(values)), torch.from_numpy(values))

    def loss(self, eta: Tensor, target: GaussianTarget) -> Tensor:  # type: ignore[override]
        each = 0.5 * (target.value - eta[:, 0].double()) ** 2
        return (each * target.weight).sum() / target.weight.sum().clamp_min(1e-300)

    def stratify(self, target: GaussianTarget) -> np.ndarray:  # type: ignore[override]
        # Fifths of the outcome, so that a validation part has its share of both tails.
        value = target.value.cpu().numpy()
        return np.searchsorted(np.quantile(value, [0.2, 0.4, 0.6, 0.8]), value)

    def monitor(self, eta: Tensor, target: GaussianTarget) -> Monitor:  # type: ignore[override]
        error = ((target.value - eta[:, 0]) ** 2 * target.weight).sum()
        mean = (target.value * target.weight).sum() / target.weight.sum()
        total = ((target.value - mean) ** 2 * target.weight).sum()
        return Monitor("r2", float(1 - error / total) if total > 0 else float("nan"), True)

    def finish(self, eta: Tensor, target: GaussianTarget) -> None:  # type: ignore[override]
        self.scale_ = float(torch.sqrt(2 * self.loss(eta, target))) * self.spread_

    def mean(self, eta: np.ndarray) -> np.ndarray:
        """Return the predicted mean in units of y, shape (n,)."""
        return eta[:, 0] * self.spread_ + self.center_

    def state(self) -> dict[str, np.ndarray]:
        return {
            "center": np.array(self.center_),
            "spread": np.array(self.spread_),
            "scale": np.array(self.scale_),
        }

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.center_ = float(state["center"])
        self.spread_ = float(state["spread"])
        self.scale_ = float(state["scale"])
