"""What a discrete-time likelihood says of itself: each has a file of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from torch import Tensor

from mmfusion.heads.discrete.curves import Interpolation
from mmfusion.heads.discrete.grid import Places, place
from mmfusion.heads.discrete.masses import Kind
from mmfusion.heads.discrete.target import DiscreteTimeTarget
from mmfusion.survival import Survival

__all__ = ["DiscreteLikelihood"]


class DiscreteLikelihood(ABC):
    """The likelihood of an outcome on a grid of intervals, given survival until the entry.

    Losses and derivatives are those of rows, without their weights. Predictors are float64, of
    shape (n, n_causes * n_intervals), cause by cause.

    Parameters
    ----------
    **settings : float
        Those of every likelihood; each reads its own.
    """

    #: What the predictors are; see `mmfusion.heads.discrete.masses.log_masses`.
    kind: Kind
    #: What lies between the bounds of an interval, where the likelihood says so.
    interpolation: Interpolation | None = None
    #: Whether a formula has one effect for all intervals (Cox 1972, of grouped times).
    shares_effects: bool = False
    #: Whether it knows several causes of events.
    competing: bool = False
    #: Whether it knows events that lie in an interval of time.
    intervals: bool = False
    #: As `mmfusion.heads.Head.interacts`, `ratio` and `scale_note`.
    interacts: bool = False
    ratio: str | None = None
    scale_note: str | None = None

    def __init__(self, **settings: float) -> None:
        pass

    def place(self, outcome: Survival, cuts: np.ndarray) -> Places:
        """Return where outcomes lie on the grid; none has an event beyond the last cut."""
        return place(outcome, cuts)

    def hazard(self, rate: np.ndarray) -> np.ndarray:
        """Return the chance of an event in an interval of so many events an exposure."""
        return rate

    @abstractmethod
    def losses(self, eta: Tensor, target: DiscreteTimeTarget) -> Tensor:
        """Return minus the log-likelihood of each row, shape (n,), on the graph of `eta`."""

    def loss(self, eta: Tensor, target: DiscreteTimeTarget) -> Tensor:
        """Return the weighted mean of `losses`, and what else there is to minimise."""
        return target.mean(self.losses(eta, target))

    @abstractmethod
    def derivatives(self, eta: Tensor, target: DiscreteTimeTarget) -> tuple[Tensor, Tensor]:
        """Return the derivatives of `losses`, (n, K), and (n, K) or (n, K, K) second ones."""

    def gradient(self, eta: Tensor, target: DiscreteTimeTarget) -> Tensor:
        """Return the first derivatives alone, shape (n, K)."""
        return self.derivatives(eta, target)[0]
