"""The likelihood of a hazard that is constant within each interval, and its outcome."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmfusion.heads.discrete.grid import Places, place_exactly
from mmfusion.heads.discrete.likelihood import DiscreteLikelihood
from mmfusion.heads.discrete.target import DiscreteTimeTarget
from mmfusion.survival import Survival

__all__ = ["PiecewiseExponential", "PiecewiseExponentialTarget", "overlap"]

#: No log-hazard is larger: the exponential would be infinite.
LARGEST = 709.0


@dataclass
class PiecewiseExponentialTarget(DiscreteTimeTarget):
    """A survival outcome on a grid of intervals, with the times at risk in them.

    Attributes
    ----------
    at_risk : Tensor of float64, shape (n, n_intervals)
        The overlap of (entry, time] of each row and each interval.
    """

    at_risk: Tensor

    def exposure(self) -> Tensor:
        """Return the time at risk of each row in each interval, shape (n, n_intervals)."""
        return self.at_risk


def overlap(entry: Tensor, time: Tensor, cuts: np.ndarray) -> Tensor:
    """Return the overlap of (entry, time] and each interval, shape (n, n_intervals)."""
    bounds = torch.from_numpy(cuts)
    until = torch.minimum(time[:, None], bounds[1:])
    return until.sub_(torch.maximum(entry[:, None], bounds[:-1])).clamp_min_(0.0)


class PiecewiseExponential(DiscreteLikelihood):
    r"""Hazards ``exp(eta_kj)`` of cause k in interval j.

    .. math:: \ell = -\delta \eta_{ks} + \sum_{kj} \Delta_j e^{\eta_{kj}}

    for an exit from cause k in interval s, with the time at risk :math:`\Delta_j` in each interval
    (Friedman 1982, Ann. Stat. 10:101-113). It is that of counts with the offset log exposure, a row
    an interval (Bender, Groll & Scheipl 2018, eq. 3), up to the sum of these offsets over the
    events: no row is written out.
    """

    kind = "hazard"
    shares_effects = True
    competing = True
    interpolation = "constant_hazard"
    ratio = "hazard ratio"

    def place(self, outcome: Survival, cuts: np.ndarray) -> Places:
        return place_exactly(outcome, cuts)

    def losses(self, eta: Tensor, target: PiecewiseExponentialTarget) -> Tensor:  # type: ignore[override]
        expected = self._expected(eta, target).sum(1)
        own = eta.gather(1, self._event_at(target)[:, None])[:, 0]
        return expected - torch.where(target.interval >= 0, own, 0.0)

    def derivatives(
        self,
        eta: Tensor,
        target: PiecewiseExponentialTarget,  # type: ignore[override]
    ) -> tuple[Tensor, Tensor]:
        curvature = self._expected(eta, target)
        gradient = curvature.clone()
        rows = torch.nonzero(target.interval >= 0)[:, 0]
        gradient[rows, self._event_at(target)[rows]] -= 1.0
        return gradient, curvature

    def _expected(self, eta: Tensor, target: PiecewiseExponentialTarget) -> Tensor:
        """Return the cumulative hazard over the time at risk in each interval, (n, K)."""
        hazard = eta.clamp_max(LARGEST).exp()  # no product of 0 and infinity
        if target.n_causes == 1:
            return hazard * target.at_risk
        return (hazard.unflatten(1, (target.n_causes, -1)) * target.at_risk[:, None]).flatten(1)

    def _event_at(self, target: PiecewiseExponentialTarget) -> Tensor:
        """Return the predictor of each row's event, shape (n,); 0 for a row without one."""
        return (target.n_intervals * (target.cause - 1) + target.interval).clamp_min(0)
