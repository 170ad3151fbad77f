"""FusionCox, FusionDiscreteTime and FusionPAMM keep the promises of a survival estimator."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.base import BaseEstimator

from mmfusion.estimators import FusionCox, FusionDiscreteTime, FusionPAMM
from mmfusion.fusion import JointFusion
from mmfusion.modalities import Tabular
from mmfusion.testing import parametrize_survival_checks, survival_estimator_checks
from tests.estimators.test_sklearn import EXPECTED

#: A linear model on the whole risk set, and the default network with early stopping. The checks are
#: of the interface: that network has as many members as it takes by default, the others have one.
LINEAR = FusionCox(
    {"table": Tabular(encoder="raw")},
    JointFusion(hidden=()),
    n_members=1,
    epochs=30,
    batch_size=None,
    patience=None,
    learning_rate=0.05,
    device="cpu",
)
SMALL: dict[str, Any] = {"epochs": 15, "batch_size": 32, "patience": 5, "device": "cpu"}
DEEP = FusionCox(**SMALL)
#: A parametrisation each: hazards, masses with a ranking loss, hazards in continuous time.
DISCRETE = [
    FusionDiscreteTime(loss=loss, n_intervals=6, n_members=1, **SMALL)
    for loss in ("logistic_hazard", "deephit", "pc_hazard")
]
#: Columns that modalities name are looked up, in any order and among others.
BY_NAME = {"check_dataframe_column_names_consistency": "columns are found by their names"}
PAMM = FusionPAMM(n_intervals=8, n_members=1, **SMALL)


@pytest.mark.usefixtures("two_networks")
@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_survival_checks(
    [LINEAR, DEEP, *DISCRETE, PAMM],
    expected_failed_checks=lambda estimator: EXPECTED | (BY_NAME if estimator.modalities else {}),
)
def test_survival_estimator_checks(estimator: BaseEstimator, check: Any) -> None:
    check(estimator)


def test_no_check_is_missing() -> None:
    labels = [check.label for check in survival_estimator_checks(DEEP)]
    assert len(labels) == len(set(labels)) > 75
