"""Models compared on the same folds, a classical baseline to compare with, and figures."""

from __future__ import annotations

from mmfusion.evaluation.adapters import FunctionModel, LifelinesModel, PycoxModel
from mmfusion.evaluation.baseline import CoxRidge
from mmfusion.evaluation.bootstrap import BootstrapScore, bootstrap_score
from mmfusion.evaluation.calibration_plot import plot_calibration
from mmfusion.evaluation.comparison import Comparison
from mmfusion.evaluation.distribution_plots import (
    plot_pit,
    plot_quantile_reliability,
    plot_rootogram,
    plot_worm,
)
from mmfusion.evaluation.features import TableFeatures
from mmfusion.evaluation.folds import survival_stratified_folds
from mmfusion.evaluation.fusion import compare_fusion
from mmfusion.evaluation.intervals import CorrectedInterval, corrected_interval
from mmfusion.evaluation.paired import compare
from mmfusion.evaluation.plots import (
    plot_comparison,
    plot_differences,
    plot_risk_groups,
    plot_survival_curves,
)
from mmfusion.evaluation.scoring import TestFold
from mmfusion.evaluation.splitters import CalendarSplit, LeaveOneSiteOut, SurvivalKFold

__all__ = [
    "BootstrapScore",
    "CalendarSplit",
    "Comparison",
    "CorrectedInterval",
    "CoxRidge",
    "FunctionModel",
    "LeaveOneSiteOut",
    "LifelinesModel",
    "PycoxModel",
    "SurvivalKFold",
    "TableFeatures",
    "TestFold",
    "bootstrap_score",
    "compare",
    "compare_fusion",
    "corrected_interval",
    "plot_calibration",
    "plot_comparison",
    "plot_differences",
    "plot_pit",
    "plot_quantile_reliability",
    "plot_risk_groups",
    "plot_rootogram",
    "plot_survival_curves",
    "plot_worm",
    "survival_stratified_folds",
]
