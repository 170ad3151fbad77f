"""Heads: likelihoods, their gradients, and what their predictors mean."""

from mmfusion.heads.base import Head, Monitor, Target
from mmfusion.heads.categorical import CategoricalHead, CategoricalTarget
from mmfusion.heads.cox import CoxHead, CoxTarget
from mmfusion.heads.discrete import DiscreteTimeHead, DiscreteTimeTarget
from mmfusion.heads.distribution import DistributionHead, DistributionTarget
from mmfusion.heads.gaussian import GaussianHead, GaussianTarget
from mmfusion.heads.piecewise import PiecewiseExponentialHead, PiecewiseExponentialTarget

__all__ = [
    "CategoricalHead",
    "CategoricalTarget",
    "CoxHead",
    "CoxTarget",
    "DiscreteTimeHead",
    "DiscreteTimeTarget",
    "DistributionHead",
    "DistributionTarget",
    "GaussianHead",
    "GaussianTarget",
    "Head",
    "Monitor",
    "PiecewiseExponentialHead",
    "PiecewiseExponentialTarget",
    "Target",
]
