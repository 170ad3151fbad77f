"""What stands beside the networks of a model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch

__all__ = ["Beside"]


@dataclass(frozen=True, eq=False)
class Beside:
    """What stands beside the networks: their predictor is added to it.

    Attributes
    ----------
    source : callable
        It gives `offset`, for which nothing without networks asks.
    judged_offset : Tensor of float64, shape (m, K), or None
        Those of the judging rows.
    complete : bool
        Whether the offset is a fitted model: the networks have no constant, and may add nothing.
    shared : bool
        Whether only a share of the networks' predictor is kept beside it.
    design, judged_design : Tensor or None
        The formula's columns of the subjects, where the networks read them.
    of_folds : tuple of Tensor, each of shape (n, K)
        The offset of all rows in each fold of the study, from a fit without the fold.
    """

    source: Callable[[], torch.Tensor]
    judged_offset: torch.Tensor | None = None
    complete: bool = False
    shared: bool = False
    design: torch.Tensor | None = None
    judged_design: torch.Tensor | None = None
    of_folds: tuple[torch.Tensor, ...] = ()

    @functools.cached_property
    def offset(self) -> torch.Tensor:
        """Predictors of all rows, (n, K), float64: the classical model's, or a constant."""
        return self.source()
