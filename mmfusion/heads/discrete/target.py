"""The outcome on a grid of intervals, as tensors."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmfusion.heads.base import Target

__all__ = ["DiscreteTimeTarget"]


@dataclass
class DiscreteTimeTarget(Target):
    """A survival outcome and where it lies on the grid.

    Attributes
    ----------
    n_causes, n_intervals : int
        Of the grid.
    time, entry : Tensor of float64, shape (n,)
        As given; the entry is ``-inf`` where the row is observed from the start.
    event : Tensor of int64, shape (n,)
        As given: 0 for censored, else the position of the cause, from 1.
    cause : Tensor of int64, shape (n,)
        The same on the grid: an event beyond its end is censored there.
    interval : Tensor of int64, shape (n,)
        The interval of the event, from 0; -1 for a row that is censored on the grid.
    stop : Tensor of int64, shape (n,)
        The interval of the event, from 1; for a censored row the intervals that it survived.
        (PC-hazard: the intervals that end before the one which holds the time.)
    start : Tensor of int64, shape (n,)
        Intervals that end by the entry. (PC-hazard: before the one which holds it.)
    stop_share, start_share : Tensor of float64, shape (n,)
        PC-hazard: the share of that interval which lies before the time, and before the entry.
    known : Tensor of float64, shape (n, n_intervals), or None
        The exposure, once it was asked for.
    """

    n_causes: int
    n_intervals: int
    time: Tensor
    entry: Tensor
    event: Tensor
    cause: Tensor
    interval: Tensor
    stop: Tensor
    start: Tensor
    stop_share: Tensor
    start_share: Tensor
    known: Tensor | None = field(default=None, kw_only=True)

    derived = ("cause", "interval", "stop", "start", "stop_share", "start_share", "known")

    def exposure(self) -> Tensor:
        """Return the share of each interval that each row was at risk in, (n, n_intervals).

        It is not to be written to.
        """
        if self.known is None:
            self.known = self._exposure()
        return self.known

    def _exposure(self) -> Tensor:
        number = torch.arange(self.n_intervals, device=self.stop.device)
        stop, start = self.stop + self.stop_share, self.start + self.start_share
        exposure = (stop[:, None] - number).clamp_(0, 1)
        if bool((start > 0).any()):
            exposure -= (start[:, None] - number).clamp_(0, 1)
        return exposure

    def happened(self) -> Tensor:
        """Return whether each row had its event in each interval, shape (n, n_intervals)."""
        return self.interval[:, None] == torch.arange(self.n_intervals, device=self.stop.device)
