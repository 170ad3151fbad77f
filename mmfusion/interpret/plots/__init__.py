"""Figures, a function each: they take `ax=` and return the Axes.

What `mmfusion.evaluation` draws (risk groups, survival curves, calibration, comparisons) stands
here too.
"""

from __future__ import annotations

from mmfusion.evaluation.calibration_plot import plot_calibration
from mmfusion.evaluation.incidence_plot import plot_incidence
from mmfusion.evaluation.plots import plot_risk_groups, plot_survival_curves
from mmfusion.interpret.plots.attributions import (
    plot_attribution_bars,
    plot_attribution_image,
    plot_attribution_over_time,
    plot_shapley,
    plot_volcano,
)
from mmfusion.interpret.plots.decision import plot_decision
from mmfusion.interpret.plots.effects import plot_forest, plot_smooth, plot_surface
from mmfusion.interpret.plots.residuals import plot_schoenfeld
from mmfusion.interpret.plots.scores import plot_auc, plot_brier
from mmfusion.interpret.plots.terms import plot_effects
from mmfusion.interpret.plots.training import plot_learning_curves

__all__ = [
    "plot_attribution_bars",
    "plot_attribution_image",
    "plot_attribution_over_time",
    "plot_auc",
    "plot_brier",
    "plot_calibration",
    "plot_decision",
    "plot_effects",
    "plot_forest",
    "plot_incidence",
    "plot_learning_curves",
    "plot_risk_groups",
    "plot_schoenfeld",
    "plot_shapley",
    "plot_smooth",
    "plot_surface",
    "plot_survival_curves",
    "plot_volcano",
]
