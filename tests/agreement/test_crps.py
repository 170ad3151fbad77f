"""CRPS, interval and quantile scores against scoringrules and properscoring: fixtures/crps.py."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from mmfusion.metrics import crps, crps_sample, interval_score, quantile_score
from tests.helpers import Frozen

FOUND: dict[str, Any] = json.loads((Path(__file__).parent / "fixtures" / "crps.json").read_text())


@pytest.mark.parametrize("name", sorted(FOUND["families"]))
def test_crps_of_a_family_is_its_closed_form(name: str) -> None:
    case = FOUND["families"][name]
    distribution = Frozen(getattr(stats, name), **case["parameters"])
    assert_allclose(crps(case["y"], distribution), case["crps"], rtol=1e-8, atol=1e-10)


def test_crps_of_samples() -> None:
    case = FOUND["sample"]
    assert_allclose(crps_sample(case["y"], case["samples"]), case["crps"], rtol=1e-12)
    assert_allclose(crps_sample(case["y"], case["samples"], fair=True), case["fair"], rtol=1e-10)


def test_interval_and_quantile_scores() -> None:
    case = FOUND["interval"]
    found = interval_score(case["y"], case["lower"], case["upper"], case["level"])
    assert_allclose(found, case["score"], rtol=1e-12)
    middle = np.mean([case["lower"], case["upper"]], axis=0)
    assert_allclose(quantile_score(case["y"], middle, 0.7), case["pinball"], rtol=1e-12)
