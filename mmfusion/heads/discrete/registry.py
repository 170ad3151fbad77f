"""The discrete-time likelihoods by name."""

from __future__ import annotations

from typing import Literal, get_args

from mmfusion.heads.discrete.deephit import DeepHit
from mmfusion.heads.discrete.likelihood import DiscreteLikelihood
from mmfusion.heads.discrete.logistic_hazard import LogisticHazard, MultiSurv
from mmfusion.heads.discrete.mass import PMF
from mmfusion.heads.discrete.mtlr import MTLR
from mmfusion.heads.discrete.pc_hazard import PCHazard

__all__ = ["LIKELIHOODS", "LOSSES", "DiscreteLoss"]

DiscreteLoss = Literal["logistic_hazard", "pmf", "deephit", "mtlr", "pc_hazard", "multisurv"]
LOSSES: tuple[DiscreteLoss, ...] = get_args(DiscreteLoss)
LIKELIHOODS: dict[DiscreteLoss, type[DiscreteLikelihood]] = {
    "logistic_hazard": LogisticHazard,
    "pmf": PMF,
    "deephit": DeepHit,
    "mtlr": MTLR,
    "pc_hazard": PCHazard,
    "multisurv": MultiSurv,
}
