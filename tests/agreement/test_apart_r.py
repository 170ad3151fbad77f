"""Smooths of a column with one value far from all others, against R's mgcv.

fixtures/apart.R and its output. Splines between the value and the others have next to no rows: the
penalty alone says what they are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from mmfusion.estimators import FusionCox, FusionRegressor
from mmfusion.survival import surv

R = json.loads((Path(__file__).parent / "fixtures" / "apart.json").read_text())


def table(apart: float) -> pd.DataFrame:
    frame = pd.DataFrame({name: R[name] for name in "xz"})
    frame.loc[6, "x"] = apart
    return frame


@pytest.mark.parametrize("wanted", R["fits"], ids=lambda fit: f"{fit['bs']}, {fit['apart']}")
def test_curve_and_degrees_of_freedom(wanted: dict[str, Any]) -> None:
    model = FusionRegressor({}, structured=f"z + s(x, bs={wanted['bs']!r})")
    model.fit(table(wanted["apart"]), np.array(R["y"]))
    assert model.effects_.loc["s(x)", "edf"] == pytest.approx(wanted["edf"], rel=1e-4)
    assert model.effects_.loc["z", "coef"] == pytest.approx(wanted["z"], abs=1e-5)
    rows = pd.DataFrame({"x": R["at"], "z": 0.0})
    assert_allclose(model.predict(rows), wanted["fit"], atol=1e-4)


@pytest.mark.parametrize("apart", [3.0, 30.0, 1e4])
@pytest.mark.parametrize("formula", ["s(x)", "s(x, k=20) + z", "s(x) + s(z)"])
def test_every_basis_is_fitted(formula: str, apart: float) -> None:
    frame, y = table(apart), np.array(R["y"])
    model = FusionRegressor({}, structured=formula).fit(frame, y)
    assert np.isfinite(model.predict(frame)).all()
    survival = surv(np.exp(y), np.arange(len(y)) % 3 > 0)
    assert np.isfinite(FusionCox({}, structured=formula).fit(frame, survival).predict(frame)).all()
