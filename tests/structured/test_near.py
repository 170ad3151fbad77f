"""A start at the fit of some rows changes no estimate, also where they lack a level."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose

from mmfusion.estimators import FusionDistribution
from mmfusion.heads import CategoricalHead
from mmfusion.structured import Likelihood, fit_structured

N = 40_000


@pytest.mark.parametrize("rare", [(8, 12_346, 40, 33_335, 222), (0, 9, 41, 33_335, 12_347)])
def test_a_level_of_five_rows_among_many(rare: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    design = np.column_stack([np.ones(N), rng.normal(size=N), np.zeros(N)])
    design[list(rare), 2] = 1
    outcome = rng.random(N) < 1 / (1 + np.exp(-design[:, 1]))
    outcome[list(rare)] = [True, False, True, False, True]
    head = CategoricalHead()
    fit = fit_structured(Likelihood(head, head.fit_outcome(outcome)), design)
    theirs = sm.Logit(outcome.astype(float), design).fit(disp=0, tol=1e-12)
    assert_allclose(fit.coef, theirs.params, atol=1e-8)
    assert_allclose(np.sqrt(fit.covariance.diagonal()), theirs.bse, rtol=1e-6)


def test_a_level_of_ten_rows_with_a_scale_of_its_own() -> None:
    """The fit of some rows is far from that of the ten, whose scale a step makes exp(9)."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame({"rare": np.zeros(N)})
    frame.loc[rng.choice(N, rng.integers(2, 14), replace=False), "rare"] = 1.0
    frame["x"] = rng.normal(size=N)
    time = np.exp(frame["x"] + rng.gumbel(size=N))
    formulas = {"loc": "x + rare", "scale": "rare"}
    model = FusionDistribution({}, structured=formulas, family="weibull").fit(frame, time)
    effects = model.effects_
    loc, rare = (effects.xs(name, level=1)["coef"] for name in formulas)
    scale = np.exp(rare["Intercept"] + rare["rare"] * frame["rare"])
    where = loc["Intercept"] + loc["x"] * frame["x"] + loc["rare"] * frame["rare"]
    z = (np.log(time) - where) / scale
    one = pd.Series(1.0, frame.index)
    slopes = (np.exp(z) - 1) / scale, z * (np.exp(z) - 1) - 1  # in loc and log scale
    for column in (one, frame["x"], frame["rare"]):
        assert abs(slopes[0] @ column) < 1e-6
    for column in (one, frame["rare"]):
        assert abs(slopes[1] @ column) < 1e-6
