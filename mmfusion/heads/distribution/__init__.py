"""Distributions: likelihoods of which every parameter has a predictor."""

from mmfusion.heads.distribution.head import DistributionHead
from mmfusion.heads.distribution.target import DistributionTarget

__all__ = ["DistributionHead", "DistributionTarget"]
