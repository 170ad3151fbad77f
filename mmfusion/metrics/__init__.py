"""Metrics of survival predictions; each names the convention it follows."""

from __future__ import annotations

from mmfusion.metrics.auc import DynamicAUC, cumulative_dynamic_auc
from mmfusion.metrics.brier import brier_score, integrated_brier_score
from mmfusion.metrics.calibration import DCalibration, d_calibration
from mmfusion.metrics.concordance import (
    concordance_index,
    concordance_index_antolini,
    concordance_index_uno,
)
from mmfusion.metrics.intervals import score_interval, scores_with_influence
from mmfusion.metrics.net_benefit import net_benefit
from mmfusion.metrics.risk_calibration import Calibration, survival_calibration
from mmfusion.metrics.score import Score, ScoreInterval
from mmfusion.metrics.scorers import SurvivalScorer, evaluation_times, make_survival_scorer

__all__ = [
    "Calibration",
    "DCalibration",
    "DynamicAUC",
    "Score",
    "ScoreInterval",
    "SurvivalScorer",
    "brier_score",
    "concordance_index",
    "concordance_index_antolini",
    "concordance_index_uno",
    "cumulative_dynamic_auc",
    "d_calibration",
    "evaluation_times",
    "integrated_brier_score",
    "make_survival_scorer",
    "net_benefit",
    "score_interval",
    "scores_with_influence",
    "survival_calibration",
]
