"""Discrete time: hazards or masses of intervals, and curves between their bounds."""

from __future__ import annotations

from mmfusion.heads.discrete.curves import Interpolation
from mmfusion.heads.discrete.grid import Scheme, check_cuts, make_cuts
from mmfusion.heads.discrete.head import LOSSES, DiscreteLoss, DiscreteTimeHead
from mmfusion.heads.discrete.loss import deephit_rank_loss, nll_hazard, nll_mass, nll_pc_hazard
from mmfusion.heads.discrete.target import DiscreteTimeTarget

__all__ = [
    "LOSSES",
    "DiscreteLoss",
    "DiscreteTimeHead",
    "DiscreteTimeTarget",
    "Interpolation",
    "Scheme",
    "check_cuts",
    "deephit_rank_loss",
    "make_cuts",
    "nll_hazard",
    "nll_mass",
    "nll_pc_hazard",
]
