"""Metrics of survival predictions and predictive distributions; each names its convention."""

from __future__ import annotations

from mmfusion.metrics.auc import DynamicAUC, cumulative_dynamic_auc
from mmfusion.metrics.brier import brier_score, integrated_brier_score
from mmfusion.metrics.calibration import DCalibration, d_calibration
from mmfusion.metrics.causes import CauseCalibration, cause_calibration, cause_scores
from mmfusion.metrics.concordance import (
    concordance_index,
    concordance_index_antolini,
    concordance_index_uno,
)
from mmfusion.metrics.conformal import ConformalIntervals
from mmfusion.metrics.crps import crps, crps_sample
from mmfusion.metrics.distribution_checks import quantile_reliability, rootogram, worm
from mmfusion.metrics.distribution_scorers import DistributionScorer, make_distribution_scorer
from mmfusion.metrics.intervals import score_interval, scores_with_influence
from mmfusion.metrics.named import get_scorer
from mmfusion.metrics.net_benefit import net_benefit
from mmfusion.metrics.prediction_intervals import (
    interval_coverage,
    interval_score,
    interval_width,
    quantile_score,
)
from mmfusion.metrics.predictive import log_score, pit, quantile_residuals
from mmfusion.metrics.recalibration import Recalibrated, Recalibration
from mmfusion.metrics.risk_calibration import Calibration, survival_calibration
from mmfusion.metrics.score import Score, ScoreInterval
from mmfusion.metrics.scorers import SurvivalScorer, evaluation_times, make_survival_scorer

__all__ = [
    "Calibration",
    "CauseCalibration",
    "ConformalIntervals",
    "DCalibration",
    "DistributionScorer",
    "DynamicAUC",
    "Recalibrated",
    "Recalibration",
    "Score",
    "ScoreInterval",
    "SurvivalScorer",
    "brier_score",
    "cause_calibration",
    "cause_scores",
    "concordance_index",
    "concordance_index_antolini",
    "concordance_index_uno",
    "crps",
    "crps_sample",
    "cumulative_dynamic_auc",
    "d_calibration",
    "evaluation_times",
    "get_scorer",
    "integrated_brier_score",
    "interval_coverage",
    "interval_score",
    "interval_width",
    "log_score",
    "make_distribution_scorer",
    "make_survival_scorer",
    "net_benefit",
    "pit",
    "quantile_reliability",
    "quantile_residuals",
    "quantile_score",
    "rootogram",
    "score_interval",
    "scores_with_influence",
    "survival_calibration",
    "worm",
]
