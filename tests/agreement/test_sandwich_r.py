"""HC3 and CR2 against R's sandwich and clubSandwich: fixtures/sandwich.R and its output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mmfusion.heads import CategoricalHead, GaussianHead
from mmfusion.structured import (
    FewClusters,
    Likelihood,
    contrast_table,
    effects_table,
    fit_structured,
    small_sample_sandwich,
)

R = json.loads((Path(__file__).parent / "fixtures" / "sandwich.json").read_text())
DATA = {name: np.array(column) for name, column in R["data"].items()}
DESIGN = np.column_stack([np.ones(len(DATA["x"])), DATA["x"], DATA["z"], DATA["arm"]])


def fitted(name: str) -> tuple[Any, Likelihood]:
    head: Any = GaussianHead() if name == "linear" else CategoricalHead()
    likelihood = Likelihood(head, head.fit_outcome(DATA["y" if name == "linear" else "b"]))
    return fit_structured(likelihood, DESIGN), likelihood


@pytest.mark.parametrize("name", ["linear", "logistic"])
def test_hc3(name: str) -> None:
    fit, likelihood = fitted(name)
    assert_allclose(fit.coef, R["fits"][name]["coef"], rtol=1e-8)
    covariance = small_sample_sandwich(fit, likelihood, DESIGN)
    assert_allclose(np.sqrt(covariance.diagonal()), R["fits"][name]["hc3"], rtol=1e-9)


# Of two classes clubSandwich takes a root of the same matrix in another metric, the errors' own
# instead of the standardised: both give the model's covariance on average.
@pytest.mark.parametrize(("name", "rtol"), [("linear", 1e-10), ("logistic", 0.015)])
def test_cr2_with_satterthwaite_s_degrees_of_freedom(name: str, rtol: float) -> None:
    fit, likelihood = fitted(name)
    theirs = R["fits"][name]
    covariance = small_sample_sandwich(fit, likelihood, DESIGN, cluster=DATA["cluster"])
    assert isinstance(covariance, FewClusters)
    table = effects_table(fit, covariance=covariance)
    assert_allclose(table["se"], theirs["cr2"], rtol=rtol)
    assert_allclose(table["df"], theirs["df"], rtol=max(rtol / 10, 1e-8))
    row = contrast_table(fit, np.array([[0, 1, -1, 0.5]]), covariance=covariance)
    assert_allclose(row["se"], theirs["contrast_se"], rtol=rtol)
    df = covariance.degrees(np.array([[0, 1, -1, 0.5]]))
    assert_allclose(df, theirs["contrast_df"], rtol=max(rtol / 10, 1e-8))
