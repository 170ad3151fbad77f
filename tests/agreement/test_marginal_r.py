"""Two arms without adjustment, against R's survival: fixtures/marginal.R and its output."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmfusion.estimators import FusionCox
from mmfusion.survival import surv

R = json.loads((Path(__file__).parent / "fixtures" / "marginal.json").read_text())


@pytest.fixture(scope="module")
def found() -> pd.DataFrame:
    frame = pd.DataFrame({"arm": np.array(R["arm"], dtype=float)})
    y = surv(np.array(R["time"]), np.array(R["event"]))
    model = FusionCox({}, structured="arm", device="cpu", random_state=0)
    asked = {"treatment": "arm", "horizon": R["horizon"], "times": R["times"], "splits": 1}
    return model.marginal_effect(frame, y, **asked).table


def errors(se: list[float]) -> float:
    """Return the standard error of a difference, Greenwood's in each arm as a sample's is."""
    sizes = np.bincount(np.array(R["arm"], dtype=int))
    return float(np.sqrt(np.sum(np.square(se) * sizes / (sizes - 1))))


def test_survival(found: pd.DataFrame) -> None:
    for place, time in enumerate(R["times"]):
        control, treated = (arm[place] for arm in R["survival"])
        line = found.loc[("survival difference", time)]
        assert line["unadjusted"] == pytest.approx(treated - control, abs=1e-12)
        se = errors([arm[place] for arm in R["se"]])
        # Greenwood's variance of the last curve's ties differs by terms of the order 1 / n.
        assert line["unadjusted_se"] == pytest.approx(se, rel=0.01)


def test_restricted_means(found: pd.DataFrame) -> None:
    line = found.loc[("restricted mean difference", R["horizon"])]
    control, treated = R["area"]
    assert line["unadjusted"] == pytest.approx(treated - control, abs=1e-9)
    assert line["unadjusted_se"] == pytest.approx(errors(R["area_se"]), rel=0.02)
    ratio = found.loc[("restricted mean ratio", R["horizon"])]
    assert ratio["unadjusted"] == pytest.approx(treated / control, abs=1e-9)


def test_the_hazard_ratio(found: pd.DataFrame) -> None:
    line = found.loc["hazard ratio"].iloc[0]
    assert np.log(line["unadjusted"]) == pytest.approx(R["coef"], abs=1e-8)
    sizes = np.bincount(np.array(R["arm"], dtype=int))
    # Ours has the variance of a sample in each arm, R's that of the rows themselves.
    assert line["unadjusted_se"] == pytest.approx(R["coef_se"], rel=1 / sizes.min())
