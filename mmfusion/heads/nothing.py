"""The head of networks that learn without an outcome."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmfusion.heads.base import Head, Target
from mmfusion.heads.grid import Basis, Grid

__all__ = ["NoOutcomeHead"]


class NoOutcomeHead(Head[Target]):
    """The likelihood of no outcome: nothing to learn from."""

    @property
    def grid(self) -> Grid:
        """One predictor, which is never used."""
        return Grid(("none",))

    @property
    def parameters(self) -> Basis:
        """Nothing: there is no formula."""
        return self.deep_basis.take(())

    @property
    def constants(self) -> Basis:
        """Nothing."""
        return self.parameters

    @property
    def deep_basis(self) -> Basis:
        """The one output that a network has."""
        return Basis.identity(self.grid.names)

    def fit_outcome(
        self, y: Any, sample_weight: np.ndarray | None = None, **context: Any
    ) -> Target:
        return Target(torch.ones(len(y), dtype=torch.float64))

    def encode(self, y: Any, sample_weight: np.ndarray | None = None, **context: Any) -> Target:
        return self.fit_outcome(y)

    def loss(self, eta: Tensor, target: Target) -> Tensor:
        return eta.double().sum() * 0.0
