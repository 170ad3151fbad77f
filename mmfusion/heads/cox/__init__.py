"""The Cox model: partial likelihood, baseline hazard and predictions."""

from __future__ import annotations

from mmfusion.heads.cox.baseline import Baseline
from mmfusion.heads.cox.head import CoxHead, CoxTarget
from mmfusion.heads.cox.loss import (
    TiesMethod,
    cox_gradient,
    cox_hessian_diagonal,
    cox_hessian_vector,
    cox_information,
    cox_log_hazard,
    cox_loss,
)
from mmfusion.heads.cox.plan import CoxPlan

__all__ = [
    "Baseline",
    "CoxHead",
    "CoxPlan",
    "CoxTarget",
    "TiesMethod",
    "cox_gradient",
    "cox_hessian_diagonal",
    "cox_hessian_vector",
    "cox_information",
    "cox_log_hazard",
    "cox_loss",
]
