"""Predicted survival with its errors, and dfbeta, against R's survival: fixtures/survfit.R."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from numpy.testing import assert_allclose

from mmfusion.estimators import FusionCox

R = json.loads((Path(__file__).parent / "fixtures" / "survfit.json").read_text())
OUTCOME = pd.DataFrame(R["data"])
DATA = OUTCOME[["age", "sex", "ecog"]].astype({"age": float})
NEW = pd.DataFrame(R["new"]).astype({"age": float})
Y = (OUTCOME["time"], OUTCOME["event"])


@pytest.fixture(params=R["fits"], ids=lambda fit: fit["ties"] + "-strata" * fit["strata"])
def theirs(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


@pytest.fixture
def model(theirs: dict[str, Any]) -> FusionCox:
    formula = "age + ecog" + ("" if theirs["strata"] else " + sex")
    strata = "sex" if theirs["strata"] else None
    return FusionCox({}, structured=formula, strata=strata, ties=theirs["ties"]).fit(DATA, Y)


def test_survival_with_its_errors(model: FusionCox, theirs: dict[str, Any]) -> None:
    found = model.survival_interval(NEW, R["times"], DATA, Y)
    assert found.index.tolist() == [(row, time) for row in range(3) for time in R["times"]]
    for row, curve in enumerate(theirs["curves"]):
        for name, values in curve.items():
            assert_allclose(found.loc[row, name], values, rtol=1e-7, err_msg=name)


@pytest.mark.parametrize("kind", ["score", "dfbeta"])
def test_residuals(model: FusionCox, theirs: dict[str, Any], kind: str) -> None:
    found = model.residuals(DATA, Y, kind)
    assert_allclose(found, theirs[kind], rtol=1e-6, atol=1e-9)
    if kind == "dfbeta" and not theirs["strata"]:
        without = FusionCox({}, structured="age + ecog + sex", ties=theirs["ties"])
        kept = DATA.index != 5
        left = without.fit(DATA[kept], (Y[0][kept], Y[1][kept])).effects_["coef"]
        assert_allclose(model.effects_["coef"] - left, found.loc[5], rtol=0.25, atol=1e-4)


def test_median_follow_up(model: FusionCox) -> None:
    assert R["follow_up"] == 25
    assert "median follow-up 25" in str(model.summary())
