"""Survival outcomes, step functions and the estimators without covariates."""

from __future__ import annotations

from mmfusion.survival.curves import (
    KaplanMeier,
    LogRank,
    NelsonAalen,
    StepFunction,
    censoring_distribution,
    kaplan_meier,
    log_rank_test,
    median_follow_up,
    nelson_aalen,
)
from mmfusion.survival.episodes import episode_share
from mmfusion.survival.incidence import CumulativeIncidence, cumulative_incidence
from mmfusion.survival.outcome import Survival, check_survival, surv

__all__ = [
    "CumulativeIncidence",
    "KaplanMeier",
    "LogRank",
    "NelsonAalen",
    "StepFunction",
    "Survival",
    "censoring_distribution",
    "check_survival",
    "cumulative_incidence",
    "episode_share",
    "kaplan_meier",
    "log_rank_test",
    "median_follow_up",
    "nelson_aalen",
    "surv",
]
