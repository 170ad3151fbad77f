"""Discrete time: hazards or masses of intervals, and curves between their bounds."""

from __future__ import annotations

from mmfusion.heads.discrete.curves import Interpolation
from mmfusion.heads.discrete.grid import Scheme, check_cuts, make_cuts
from mmfusion.heads.discrete.head import DiscreteTimeHead
from mmfusion.heads.discrete.likelihood import DiscreteLikelihood
from mmfusion.heads.discrete.registry import LIKELIHOODS, LOSSES, DiscreteLoss
from mmfusion.heads.discrete.target import DiscreteTimeTarget

__all__ = [
    "LIKELIHOODS",
    "LOSSES",
    "DiscreteLikelihood",
    "DiscreteLoss",
    "DiscreteTimeHead",
    "DiscreteTimeTarget",
    "Interpolation",
    "Scheme",
    "check_cuts",
    "make_cuts",
]
