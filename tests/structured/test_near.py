"""A start at the fit of some rows changes no estimate, also where they lack a level."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose

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
