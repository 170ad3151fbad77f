"""What the exact fit needs of a likelihood, and how a head gives it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

__all__ = ["HeadLikelihood", "Likelihood"]


class Likelihood(Protocol):
    """A negative log-likelihood in the predictor, in float64 NumPy.

    With K predictors a row, `eta` has the n K values of all rows, predictors fastest, and a design
    has n K rows.

    Attributes
    ----------
    size : int
        Length of `eta`.
    n_rows : int
        Rows with a weight above 0.
    has_intercept : bool
        Whether a constant in eta changes the likelihood: in a Cox model it does not.
    has_scale : bool
        Whether there is a residual variance; `value` is then that of variance 1, half a weighted
        sum of squares.
    ratio : str or None
        What exp(coefficient) is called.
    """

    size: int
    n_rows: int
    has_intercept: bool
    has_scale: bool
    ratio: str | None

    def value(self, eta: np.ndarray) -> float:
        """Return the negative log-likelihood of all rows."""

    def gradient(self, eta: np.ndarray) -> np.ndarray:
        """Return its gradient in eta, shape (size,)."""

    def information(self, eta: np.ndarray, design: np.ndarray) -> np.ndarray:
        """Return ``design' H design``, shape (p, p), with the Hessian H in eta."""

    def scores(self, eta: np.ndarray, design: np.ndarray) -> np.ndarray:
        """Return each row's share of the gradient in the coefficients, shape (n, p)."""

    def log_likelihood(self, eta: np.ndarray) -> float:
        """Return the log-likelihood, at its largest over the scale where there is one."""


class HeadLikelihood:
    """The likelihood of a head at an outcome, with predictors in the units of the outcome.

    A head that standardises its outcome (Gaussian) sees ``to_head(eta)``; coefficients, offsets
    and standard errors are in units of y.

    Parameters
    ----------
    head : mmfusion.heads.Head
        Its likelihood; rooms do not import each other, so it is known by its methods alone.
    target : mmfusion.heads.Target
        The outcome it encoded.

    Examples
    --------
    >>> import numpy as np
    >>> from mmfusion.heads import CategoricalHead
    >>> from mmfusion.structured import HeadLikelihood, fit_structured
    >>> head = CategoricalHead()
    >>> target = head.fit_outcome(["no", "no", "yes", "no", "yes", "yes"])
    >>> design = np.column_stack([np.ones(6), [0.0, 0, 0, 1, 1, 1]])
    >>> fit = fit_structured(HeadLikelihood(head, target), design)
    >>> fit.coef.round(4)  # log odds 1/2, log odds ratio 4
    array([-0.6931,  1.3863])
    """

    def __init__(self, head: Any, target: Any) -> None:
        self._head, self._target = head, target
        self._total = head.total(target)
        self._center, self._spread = head.units
        self._n_predictors = len(head.predictors)
        self.size = len(target) * self._n_predictors
        self.n_rows = int((target.weight > 0).sum())
        self.has_intercept: bool = head.has_intercept
        self.has_scale: bool = head.has_scale
        self.ratio: str | None = head.ratio

    def to_head(self, eta: np.ndarray) -> Tensor:
        """Return predictors in units of y as the head takes them, shape (n, K)."""
        scaled = (np.asarray(eta, dtype=np.float64) - self._center) / self._spread
        return torch.from_numpy(scaled.reshape(-1, self._n_predictors))

    def _design(self, design: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(design, dtype=np.float64))
        if self._n_predictors == 1:
            return tensor
        return tensor.view(-1, self._n_predictors, tensor.shape[1])

    def value(self, eta: np.ndarray) -> float:
        return float(self._head.loss(self.to_head(eta), self._target)) * (
            self._total * self._spread**2
        )

    def gradient(self, eta: np.ndarray) -> np.ndarray:
        gradient = self._head.gradient(self.to_head(eta), self._target)
        return gradient.numpy().reshape(-1) * (self._total * self._spread)

    def information(self, eta: np.ndarray, design: np.ndarray) -> np.ndarray:
        information = self._head.information(self.to_head(eta), self._target, self._design(design))
        return information.numpy() * self._total

    def scores(self, eta: np.ndarray, design: np.ndarray) -> np.ndarray:
        scores = self._head.scores(self.to_head(eta), self._target, self._design(design))
        return scores.numpy() * (self._total * self._spread)

    def log_likelihood(self, eta: np.ndarray) -> float:
        value = self.value(eta)
        if not self.has_scale:
            return -value
        weight = self._target.weight.numpy()
        variance = 2 * value / self.n_rows
        logs = np.log(weight[weight > 0]).sum()
        return float(0.5 * logs - 0.5 * self.n_rows * (np.log(2 * np.pi * variance) + 1))
