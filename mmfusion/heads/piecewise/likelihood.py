"""The likelihood of a hazard that is constant within each interval, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mmfusion.heads.discrete.grid import Places, place_exactly
from mmfusion.heads.discrete.likelihood import DiscreteLikelihood
from mmfusion.heads.discrete.target import DiscreteTimeTarget
from mmfusion.heads.piecewise.proportional import ProportionalHazards
from mmfusion.survival import Survival

__all__ = ["PiecewiseExponential", "PiecewiseExponentialTarget", "overlap"]

#: No log-hazard is larger: the exponential would be infinite.
LARGEST = 709.0


@dataclass
class PiecewiseExponentialTarget(DiscreteTimeTarget):
    """A survival outcome on a grid of intervals, with the times at risk in them.

    Attributes
    ----------
    cuts : ndarray, shape (n_intervals + 1,)
        Bounds of the intervals.
    between : Tensor of float64, shape (n, n_intervals) or (n, 0)
        Where the event is known to lie in an interval of time: its overlap with each interval of
        the grid, 0 of other rows. Without columns where there is no such row.
    """

    cuts: np.ndarray
    between: Tensor

    def _exposure(self) -> Tensor:
        """Return the time at risk: the overlap of (entry, time] and each interval."""
        return overlap(self.entry, self.time, self.cuts)

    @cached_property
    def in_sums(self) -> ProportionalHazards:
        """The likelihood of proportional hazards, without a number a row and interval."""
        weight, time, entry = (x.cpu().numpy() for x in (self.weight, self.time, self.entry))
        stop, start, event = (x.cpu().numpy() for x in (self.stop, self.start, self.interval))
        return ProportionalHazards(weight, time, entry, stop, start, event, self.cuts)


def overlap(entry: Tensor, time: Tensor, cuts: np.ndarray) -> Tensor:
    """Return the overlap of (entry, time] and each interval, shape (n, n_intervals)."""
    bounds = torch.from_numpy(cuts).to(time.device)
    until = torch.minimum(time[:, None], bounds[1:])
    return until.sub_(torch.maximum(entry[:, None], bounds[:-1])).clamp_min_(0.0)


class PiecewiseExponential(DiscreteLikelihood):
    r"""Hazards ``exp(eta_kj)`` of cause k in interval j.

    .. math:: \ell = -\delta \eta_{ks} + \sum_{kj} \Delta_j e^{\eta_{kj}}

    for an exit from cause k in interval s, with the time at risk :math:`\Delta_j` in each interval
    (Friedman 1982, Ann. Stat. 10:101-113). It is that of counts with the offset log exposure, a row
    an interval (Bender, Groll & Scheipl 2018, eq. 3), up to the sum of these offsets over the
    events: no row is written out. An event that is known to lie in ``(L, R]`` only has
    ``log(S(L) - S(R))`` instead.
    """

    kind = "hazard"
    shares_effects = True
    competing = True
    intervals = True
    interpolation = "constant_hazard"
    ratio = "hazard ratio"

    def place(self, outcome: Survival, cuts: np.ndarray) -> Places:
        return place_exactly(outcome, cuts)

    def losses(self, eta: Tensor, target: PiecewiseExponentialTarget) -> Tensor:  # type: ignore[override]
        expected = self._expected(eta, target).sum(1)
        own = eta.gather(1, self._event_at(target)[:, None])[:, 0]
        losses = expected - torch.where(target.interval >= 0, own, 0.0)
        if target.between.shape[1]:
            rows = torch.nonzero(target.between.sum(1))[:, 0]
            fall = (eta[rows].clamp_max(LARGEST).exp() * target.between[rows]).sum(1)
            # S(L) - S(R) is S(L) times the chance of an event until R.
            return losses.index_add(0, rows, -torch.log(-torch.expm1(-fall)))
        return losses

    def derivatives(
        self,
        eta: Tensor,
        target: PiecewiseExponentialTarget,  # type: ignore[override]
    ) -> tuple[Tensor, Tensor]:
        curvature = self._expected(eta, target)
        gradient = curvature.clone()
        rows = torch.nonzero(target.interval >= 0)[:, 0]
        gradient[rows, self._event_at(target)[rows]] -= 1.0
        if target.between.shape[1]:
            return self._with_intervals(eta, target, gradient, curvature)
        return gradient, curvature

    def _with_intervals(
        self, eta: Tensor, target: PiecewiseExponentialTarget, gradient: Tensor, curvature: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Add what events in intervals say: their curvature ties the intervals to each other.

        With v the cumulative hazards over (L, R] and D their sum, ``log(1 - exp(-D))`` has the
        gradient ``g v``, ``g = 1 / (exp(D) - 1)``, and the second derivatives ``g diag(v) - (g +
        g^2) v v'``.
        """
        rows = torch.nonzero(target.between.sum(1))[:, 0]
        parts = eta[rows].clamp_max(LARGEST).exp() * target.between[rows]
        chance = 1.0 / torch.expm1(parts.sum(1, keepdim=True))
        gradient[rows] -= chance * parts
        curvature[rows] -= chance * parts
        full = torch.diag_embed(curvature)
        full[rows] += (chance + chance**2)[:, :, None] * parts[:, :, None] * parts[:, None, :]
        return gradient, full

    def _expected(self, eta: Tensor, target: PiecewiseExponentialTarget) -> Tensor:
        """Return the cumulative hazard over the time at risk in each interval, (n, K)."""
        hazard = eta.clamp_max(LARGEST).exp()  # no product of 0 and infinity
        if target.n_causes == 1:
            return hazard * target.exposure()
        by_cause = hazard.unflatten(1, (target.n_causes, -1))
        return (by_cause * target.exposure()[:, None]).flatten(1)

    def _event_at(self, target: PiecewiseExponentialTarget) -> Tensor:
        """Return the predictor of each row's event, shape (n,); 0 for a row without one."""
        return (target.n_intervals * (target.cause - 1) + target.interval).clamp_min(0)
