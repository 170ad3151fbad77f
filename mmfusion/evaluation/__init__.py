"""Models compared on the same folds, a classical baseline to compare with, and figures."""

from __future__ import annotations

from mmfusion.evaluation.baseline import CoxRidge
from mmfusion.evaluation.bootstrap import BootstrapScore, bootstrap_score
from mmfusion.evaluation.calibration_plot import plot_calibration
from mmfusion.evaluation.comparison import Comparison
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

__all__ = [
    "BootstrapScore",
    "Comparison",
    "CorrectedInterval",
    "CoxRidge",
    "TableFeatures",
    "TestFold",
    "bootstrap_score",
    "compare",
    "compare_fusion",
    "corrected_interval",
    "plot_calibration",
    "plot_comparison",
    "plot_differences",
    "plot_risk_groups",
    "plot_survival_curves",
    "survival_stratified_folds",
]
