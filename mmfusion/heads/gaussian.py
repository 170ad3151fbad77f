"""Numbers: the Gaussian likelihood with a constant scale."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils.validation import check_array, column_or_1d
from torch import Tensor

from mmfusion.heads.base import Head, Monitor, Target
from mmfusion.heads.grid import Basis, Grid
from mmfusion.heads.missing import refuse_missing
from mmfusion.heads.weights import check_weights
from mmfusion.inputs.rounding import nothing_but_rounding

__all__ = ["GaussianHead", "GaussianTarget"]


@dataclass
class GaussianTarget(Target):
    """Numbers.

    Attributes
    ----------
    value : Tensor of float64, shape (n,)
        In units of y.
    """

    value: Tensor


class GaussianHead(Head[GaussianTarget]):
    """Least squares: half the weighted mean squared error, divided by the outcome's variance.

    The predictor is the mean in units of y.

    Attributes
    ----------
    center_, spread_ : float
        Weighted mean and standard deviation of the training outcome, in units of y: where the
        predictor starts, and how far an output of 1 of a network moves it.
    scale_ : float
        Residual standard deviation of the training rows, in units of y.
    """

    has_dispersion = True
    partial = "linear"
    marginal = "mean"

    @property
    def grid(self) -> Grid:
        """One predictor, the mean."""
        return Grid(("mean",))

    @property
    def parameters(self) -> Basis:
        """The mean."""
        return Basis.identity(self.grid.names)

    @property
    def constants(self) -> Basis:
        """The mean of a row whose columns are all 0."""
        return self.parameters

    @property
    def deep_basis(self) -> Basis:
        """One output of a network, in standard deviations of y."""
        return Basis(self.grid.names, np.array([[self.spread_]]))

    @property
    def dispersion_unit(self) -> float:
        return self.spread_**2

    def fit_outcome(
        self, y: Any, sample_weight: np.ndarray | None = None, index: Any = None, **context: Any
    ) -> GaussianTarget:
        """Learn location and spread of `y` and return it as tensors.

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
        target = self.encode(y, sample_weight, index)
        self._learn(target)
        return target

    def _learn(self, target: GaussianTarget) -> None:
        values, weight = target.value.cpu().numpy(), target.weight.cpu().numpy()
        self.center_ = float(np.average(values, weights=weight))
        self.spread_ = float(np.sqrt(np.average((values - self.center_) ** 2, weights=weight)))
        if nothing_but_rounding(self.spread_, np.abs(values).max()):  # every spread is right
            self.spread_ = 1.0

    def relearn(self, target: GaussianTarget) -> Self:
        head = copy.copy(self)
        head._learn(target)
        return head

    @staticmethod
    def _check(y: Any, index: Any) -> np.ndarray:
        refuse_missing(y, index)
        y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        return column_or_1d(y, warn=True)

    def encode(
        self, y: Any, sample_weight: np.ndarray | None = None, index: Any = None, **context: Any
    ) -> GaussianTarget:
        values = self._check(y, index)
        return GaussianTarget(check_weights(sample_weight, len(values)), torch.from_numpy(values))

    def initial(self, target: GaussianTarget) -> Tensor:
        return target.mean(target.value)[None]

    def loss(self, eta: Tensor, target: GaussianTarget) -> Tensor:
        residual = (target.value - eta[:, 0].double()) / self.spread_
        return target.mean(0.5 * residual**2)

    def gradient(self, eta: Tensor, target: GaussianTarget) -> Tensor:
        residual = target.value - eta.detach()[:, 0].double()
        return (-target.shares * residual / self.dispersion_unit)[:, None]

    def derivatives(self, eta: Tensor, target: GaussianTarget) -> tuple[Tensor, Tensor]:
        return self.gradient(eta, target), target.shares[:, None] / self.dispersion_unit

    def enough(self, target: GaussianTarget, n_coefficients: int) -> bool:
        varies = len(target.value.unique()) > 1
        return varies and super().enough(target, n_coefficients)

    def stratify(self, target: GaussianTarget) -> np.ndarray:
        # Fifths of the outcome, so that a validation part has its share of both tails.
        value = target.value.cpu().numpy()
        return np.searchsorted(np.quantile(value, [0.2, 0.4, 0.6, 0.8]), value)

    def monitor(self, eta: Tensor, target: GaussianTarget) -> Monitor:
        value = target.value
        error = ((value - eta[:, 0]) ** 2 * target.weight).sum()
        mean = (value * target.weight).sum() / target.weight.sum()
        total = ((value - mean) ** 2 * target.weight).sum()
        return Monitor("r2", float(1 - error / total) if total > 0 else float("nan"), True)

    def finish(self, eta: Tensor, target: GaussianTarget) -> None:
        self.scale_ = float(torch.sqrt(2 * self.loss(eta, target))) * self.spread_

    def mean(self, eta: np.ndarray) -> np.ndarray:
        """Return the predicted mean in units of y, shape (n,)."""
        return eta[:, 0]

    def response(self, target: GaussianTarget) -> np.ndarray:
        return target.value.cpu().numpy()

    def expectation(self, eta: np.ndarray) -> np.ndarray:
        return self.mean(eta)

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
