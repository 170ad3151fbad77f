"""Weights that are no counts of rows: standard errors that do not take them for rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from lifelines import CoxPHFitter

from mmfusion import Genes, surv
from mmfusion.estimators import FusionClassifier, FusionCox, FusionDiscreteTime, FusionRegressor

N = 400
RNG = np.random.default_rng(1)
X = pd.DataFrame({"x": RNG.normal(size=N), "gene0": RNG.normal(size=N)})
X["arm"] = (RNG.random(N) < 1 / (1 + np.exp(-X["x"]))).astype(float)
PROPENSITY = 1 / (1 + np.exp(-X["x"]))
WEIGHT = np.where(X["arm"] == 1, 1 / PROPENSITY, 1 / (1 - PROPENSITY))
TIME = RNG.exponential(np.exp(-0.5 * X["arm"] - 0.8 * X["x"]))
EVENT = RNG.random(N) < 0.8
Y = surv(TIME, EVENT)


def of(kind: Any) -> Any:
    return {FusionClassifier: EVENT, FusionRegressor: TIME}.get(kind, Y)


def table(kind: Any, weight: Any, **changes: Any) -> pd.DataFrame:
    model = kind(modalities={}, structured="arm", **changes).fit(X, of(kind), sample_weight=weight)
    return model.effects_


def test_a_cox_model_has_lifelines_robust_errors() -> None:
    frame = X[["arm"]].assign(time=TIME, event=EVENT, w=WEIGHT)
    other = CoxPHFitter().fit(frame, "time", "event", weights_col="w", robust=True)
    found = table(FusionCox, WEIGHT)
    assert found["coef"].item() == pytest.approx(other.params_.item(), rel=1e-4)
    assert found["se"].item() == pytest.approx(other.standard_errors_.item(), rel=1e-3)


def test_classes_and_numbers_have_statsmodels_robust_errors() -> None:
    columns = sm.add_constant(X["arm"])
    binomial = sm.families.Binomial()
    logistic = sm.GLM(EVENT, columns, family=binomial, var_weights=WEIGHT)
    np.testing.assert_allclose(
        table(FusionClassifier, WEIGHT)["se"],
        logistic.fit(cov_type="HC0", tol=1e-12).bse,
        rtol=1e-6,
    )
    least = sm.WLS(TIME, columns, weights=WEIGHT).fit(cov_type="HC0")
    np.testing.assert_allclose(table(FusionRegressor, WEIGHT)["se"], least.bse, rtol=1e-6)


@pytest.mark.parametrize("kind", [FusionCox, FusionDiscreteTime, FusionClassifier, FusionRegressor])
def test_their_scale_does_not_matter_and_counts_are_counts(kind: Any) -> None:
    expected = table(kind, WEIGHT, inference="robust")["se"]
    for weight in (WEIGHT, WEIGHT / WEIGHT.sum(), 10 * WEIGHT):
        np.testing.assert_allclose(table(kind, weight)["se"], expected, rtol=1e-5)
    counts = np.arange(N) % 3
    model = kind(modalities={}, structured="arm").fit(X, of(kind), sample_weight=counts)
    assert not model.inference_.weighted
    assert "no counts" not in str(model.summary())
    if kind is FusionRegressor:  # whose residual variance knows no counts, as in R's lm
        return
    rows = np.repeat(np.arange(N), counts)
    twice = kind(modalities={}, structured="arm").fit(X.iloc[rows], of(kind)[rows])
    if kind is FusionCox:  # copies are ties, which Efron takes apart
        return
    np.testing.assert_allclose(model.effects_["se"], twice.effects_["se"], rtol=1e-5)


@pytest.mark.parametrize("inference", ["model", "robust", "cross_fit"])
def test_the_summary_says_so_and_a_likelihood_ratio_is_refused(
    inference: str, tmp_path: Path
) -> None:
    genes = {"rna": Genes(["gene0"])} if inference == "cross_fit" else {}
    model = FusionCox(
        genes, structured="arm", inference=inference, epochs=2, random_state=0, device="cpu"
    ).fit(X, Y, sample_weight=WEIGHT)
    model.save(tmp_path / "model")
    for one in (model, FusionCox.load(tmp_path / "model")):
        assert "the weights are no counts of rows" in one.summary().notes[0]
        assert "sandwich" in one.summary().notes[0]
        with pytest.raises(ValueError, match="weights that are no counts"):
            one.effects_test("arm", "likelihood_ratio", X, Y, WEIGHT)
