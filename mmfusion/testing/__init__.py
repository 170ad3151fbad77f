"""Checks that a survival estimator keeps scikit-learn's promises and its own."""

from mmfusion.testing.suite import (
    SurvivalCheck,
    check_survival_estimator,
    parametrize_survival_checks,
    survival_estimator_checks,
)

__all__ = [
    "SurvivalCheck",
    "check_survival_estimator",
    "parametrize_survival_checks",
    "survival_estimator_checks",
]
