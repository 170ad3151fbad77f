"""Monotone P-splines against R: mgcv's penalised constrained least squares (pcls).

fixtures/monotone.R and its output: rows with weights, a linear effect beside the smooth.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from mmfusion.estimators import FusionRegressor

R = json.loads((Path(__file__).parent / "fixtures" / "monotone.json").read_text())


@pytest.mark.parametrize("wanted", R["fits"], ids=lambda fit: f"{fit['sign']}, {fit['sp']}")
def test_coefficients_and_curve(wanted: dict[str, Any]) -> None:
    frame = pd.DataFrame({name: R[name] for name in "xz"})
    direction = "up" if wanted["sign"] > 0 else "down"
    # R's smooth sums to zero over the rows, each once; so does ours.
    model = FusionRegressor({}, structured=f"z + s(x, monotone={direction!r}, sp={wanted['sp']})")
    model.fit(frame, R["y"], sample_weight=np.array(R["w"], dtype=float))
    assert_allclose(model.effects_["coef"].dropna(), wanted["coef"], atol=1e-7)
    assert_allclose(model.smooth_effect("s(x)", R["grid"])["effect"], wanted["effect"], atol=1e-7)
    assert len(model.inference_.fit.active) == wanted["level"]
