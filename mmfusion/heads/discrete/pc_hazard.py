"""The hazard that is constant within each interval."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmfusion.heads.discrete.grid import Places, place_exactly
from mmfusion.heads.discrete.likelihood import DiscreteLikelihood
from mmfusion.heads.discrete.softplus import log_softplus, log_softplus_derivatives, softplus
from mmfusion.heads.discrete.target import DiscreteTimeTarget
from mmfusion.survival import Survival

__all__ = ["PCHazard"]


class PCHazard(DiscreteLikelihood):
    r"""Cumulative hazards ``lambda_j = softplus(eta_j)`` over the intervals j.

    .. math:: \ell = -\delta \log \lambda_s + \Lambda(t) - \Lambda(a)

    for an exit at t in interval s and an entry at a (Friedman 1982; Kvamme & Borgan 2021,
    eq. 17). The density is that of time in units of the interval.
    """

    kind = "hazard"
    shares_effects = True
    scale_note = (
        "Coefficients are on the softplus scale: an interval's cumulative hazard is log(1 + "
        "exp(predictor)), so that exp(coef) is a hazard ratio only where hazards are small."
    )
    interpolation = "constant_hazard"

    def place(self, outcome: Survival, cuts: np.ndarray) -> Places:
        return place_exactly(outcome, cuts)

    def hazard(self, rate: np.ndarray) -> np.ndarray:
        return -np.expm1(-rate)

    def losses(self, eta: Tensor, target: DiscreteTimeTarget) -> Tensor:
        expected = (target.exposure() * softplus(eta)).sum(1)
        own = eta.gather(1, target.interval.clamp_min(0)[:, None])[:, 0]
        return expected - torch.where(target.interval >= 0, log_softplus(own), 0.0)

    def derivatives(self, eta: Tensor, target: DiscreteTimeTarget) -> tuple[Tensor, Tensor]:
        gradient = target.exposure() * torch.sigmoid(eta)
        curvature = gradient * torch.sigmoid(-eta)
        rows = torch.nonzero(target.interval >= 0)[:, 0]
        at = (rows, target.interval[rows])
        first, second = log_softplus_derivatives(eta[at])
        gradient[at] -= first
        curvature[at] -= second
        return gradient, curvature
