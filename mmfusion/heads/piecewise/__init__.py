"""Hazards that are constant within intervals: piecewise exponential models."""

from __future__ import annotations

from mmfusion.heads.piecewise.head import PiecewiseExponentialHead
from mmfusion.heads.piecewise.likelihood import PiecewiseExponentialTarget

__all__ = ["PiecewiseExponentialHead", "PiecewiseExponentialTarget"]
