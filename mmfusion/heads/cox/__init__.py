"""The Cox model: partial likelihood, baseline hazard and predictions."""

from __future__ import annotations

from mmfusion.heads.cox.baseline import Baseline
from mmfusion.heads.cox.head import CoxHead, CoxTarget
from mmfusion.heads.cox.information import cox_information
from mmfusion.heads.cox.loss import (
    TiesMethod,
    cox_gradient,
    cox_hessian_diagonal,
    cox_hessian_vector,
    cox_log_hazard,
    cox_loss,
)
from mmfusion.heads.cox.plan import CoxPlan
from mmfusion.heads.cox.proportional_hazards import proportional_hazards_test
from mmfusion.heads.cox.residuals import (
    cox_deviance_residuals,
    cox_martingale_residuals,
    cox_scaled_schoenfeld_residuals,
    cox_schoenfeld_residuals,
    cox_score_residuals,
)

__all__ = [
    "Baseline",
    "CoxHead",
    "CoxPlan",
    "CoxTarget",
    "TiesMethod",
    "cox_deviance_residuals",
    "cox_gradient",
    "cox_hessian_diagonal",
    "cox_hessian_vector",
    "cox_information",
    "cox_log_hazard",
    "cox_loss",
    "cox_martingale_residuals",
    "cox_scaled_schoenfeld_residuals",
    "cox_schoenfeld_residuals",
    "cox_score_residuals",
    "proportional_hazards_test",
]
