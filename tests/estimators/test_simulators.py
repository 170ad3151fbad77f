"""What fusion finds where the truth is known: an interaction of modalities, and a sum of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.utils import Bunch

from mmfusion import Tabular
from mmfusion.datasets import make_additive, make_interaction
from mmfusion.estimators import FusionCox
from mmfusion.fusion import JointFusion, LateFusion
from mmfusion.metrics import concordance_index

pytestmark = pytest.mark.usefixtures("one_network")


def c_index(train: Bunch, test: Bunch, fusion: Any, seed: int = 0) -> float:
    tables = {name: Tabular(columns) for name, columns in train.columns.items()}
    model = FusionCox(tables, fusion, epochs=60, device="cpu", random_state=seed)
    return model.fit(train.frame, train.target).score(test.frame, test.target)


@pytest.fixture(scope="module")
def interaction() -> tuple[Bunch, Bunch]:
    return make_interaction(1000, random_state=0), make_interaction(1000, random_state=1)


MULTIPLY = ["product", "bilinear", "low_rank_bilinear", "attention", "transformer"]


@pytest.mark.slow
@pytest.mark.parametrize("operator", MULTIPLY)
def test_an_interaction_is_found(operator: str, interaction: tuple[Bunch, Bunch]) -> None:
    """Linear predictors after fusion: what multiplies is the operator."""
    truth = concordance_index(interaction[1].target, interaction[1].log_hazard)
    found = c_index(*interaction, JointFusion(operator, hidden=()))
    assert 0.75 < found < truth + 0.01


@pytest.mark.slow
@pytest.mark.parametrize("fusion", [JointFusion("concat", hidden=()), LateFusion()], ids=str)
def test_a_sum_of_modalities_cannot_find_it(fusion: Any, interaction: tuple[Bunch, Bunch]) -> None:
    assert c_index(*interaction, fusion) < 0.60


@pytest.mark.slow
def test_late_fusion_is_as_good_where_modalities_add_up() -> None:
    """The paired difference to joint fusion over cohorts is small, and both are near the truth."""
    test = make_additive(2000, random_state=100)
    truth = concordance_index(test.target, test.log_hazard)
    late, joint = [], []
    for seed in range(5):
        train = make_additive(600, random_state=seed)
        late.append(c_index(train, test, LateFusion(), seed))
        joint.append(c_index(train, test, JointFusion("concat"), seed))
    difference = np.array(late) - np.array(joint)
    assert abs(difference.mean()) < 0.01
    assert truth - np.mean(late) < 0.02
    assert truth - np.mean(joint) < 0.02
