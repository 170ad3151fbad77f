"""The logistic hazard of an interval (Nnet-survival), and MultiSurv's way of counting it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmfusion.heads.discrete.grid import Places, place
from mmfusion.heads.discrete.likelihood import DiscreteLikelihood
from mmfusion.heads.discrete.softplus import softplus
from mmfusion.heads.discrete.target import DiscreteTimeTarget
from mmfusion.survival import Survival

__all__ = ["LogisticHazard", "MultiSurv"]


class LogisticHazard(DiscreteLikelihood):
    r"""Hazards ``h_j = sigmoid(eta_j)`` of the intervals j from the entry to the last one seen.

    .. math:: \ell = -\sum_{j = a + 1}^{s} y_j \log h_j + (1 - y_j) \log(1 - h_j)

    where y_j is 1 in the interval of an event (Brown 1975; Gensheimer & Narasimhan 2019, PeerJ
    7:e6257, eq. 3; Kvamme & Borgan 2021, eq. 10).
    """

    kind = "hazard"
    shares_effects = True
    ratio = "odds ratio"

    def losses(self, eta: Tensor, target: DiscreteTimeTarget) -> Tensor:
        each = softplus(eta)
        exposure = target.exposure()
        survived = (each * exposure if each.requires_grad else each.mul_(exposure)).sum(1)
        event = target.interval >= 0  # whose last interval was not survived
        at = target.interval.clamp_min(0)[:, None]
        return survived - torch.where(event, eta.gather(1, at)[:, 0], 0.0)

    def derivatives(self, eta: Tensor, target: DiscreteTimeTarget) -> tuple[Tensor, Tensor]:
        hazard = torch.sigmoid(eta)
        first = target.exposure() * hazard
        second = hazard.neg_().add_(1).mul_(first)
        rows = (target.interval >= 0).nonzero()[:, 0]
        at = rows, target.interval[rows]
        first[at] = -torch.sigmoid(-eta[at])
        return first, second


class MultiSurv(LogisticHazard):
    """The same sum (Vale-Silva & Rohr 2021), over an interval more where a row was seen past half.

    A censored row has survived the interval of its censoring if it was seen past the middle.
    """

    def place(self, outcome: Survival, cuts: np.ndarray) -> Places:
        return place(outcome, cuts, from_middle=True)
