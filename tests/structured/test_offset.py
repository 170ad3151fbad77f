"""A known part of the predictor, and reference levels of factors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from mmfusion import Genes, surv
from mmfusion.estimators import FusionClassifier, FusionCox, FusionDiscreteTime, FusionRegressor
from mmfusion.heads import CoxHead
from mmfusion.structured import Formula, Likelihood, fit_structured, robust_covariance

N = 300
RNG = np.random.default_rng(1)
X = pd.DataFrame(
    {
        "x": RNG.normal(size=N),
        "z": RNG.normal(size=N),
        "a b": RNG.uniform(1, 5, N),
        "g": RNG.choice(list("abc"), N),
        "k": RNG.integers(1, 4, N),
        **{f"gene{i}": RNG.normal(size=N) for i in range(3)},
    }
)
TIME = RNG.exponential(np.exp(-0.5 * X["x"] - 0.7 * X["z"]))
EVENT = RNG.random(N) < 0.8
Y = surv(TIME, EVENT)


def test_cox_with_an_offset_is_that_of_statsmodels() -> None:
    model = FusionCox(modalities={}, structured="x + offset(0.7 * z)").fit(X, Y)
    other = sm.PHReg(
        TIME, X[["x"]], status=EVENT.astype(int), offset=0.7 * X["z"], ties="efron"
    ).fit()
    assert model.effects_["coef"].item() == pytest.approx(other.params[0], rel=1e-6)
    assert model.effects_["se"].item() == pytest.approx(other.bse[0], rel=1e-6)
    assert model.inference_.fit.log_likelihood == pytest.approx(other.llf)
    moved = model.predict(X.assign(z=X["z"] + 1.0)) - model.predict(X)
    np.testing.assert_allclose(moved, 0.7)


def test_classes_and_numbers_with_an_offset() -> None:
    exposure = np.log(X["a b"])
    happens = RNG.random(N) < 1 / (1 + np.exp(-X["x"] - exposure))
    logistic = FusionClassifier(modalities={}, structured="x + offset(log(`a b`))").fit(X, happens)
    columns = sm.add_constant(X["x"])
    other = sm.GLM(happens, columns, family=sm.families.Binomial(), offset=exposure).fit(tol=1e-12)
    np.testing.assert_allclose(logistic.effects_["coef"], other.params, rtol=1e-6)
    np.testing.assert_allclose(logistic.predict_proba(X)[:, 1], other.fittedvalues, rtol=1e-6)
    y = 2 * X["x"] + X["z"] + RNG.normal(size=N)
    least = FusionRegressor(modalities={}, structured="x + offset(z)").fit(X, y)
    ols = sm.OLS(y - X["z"], columns).fit()
    np.testing.assert_allclose(least.effects_["coef"], ols.params)
    np.testing.assert_allclose(least.effects_["se"], ols.bse)
    np.testing.assert_allclose(least.predict(X), ols.fittedvalues + X["z"])


@pytest.mark.parametrize("orthogonalization", ["post_hoc", "two_stage", "online", None])
def test_an_offset_counts_once_beside_networks(orthogonalization: Any) -> None:
    model = FusionCox(
        {"rna": Genes("gene?")},
        structured="x + offset(z)",
        orthogonalization=orthogonalization,
        patience=None,
        epochs=3,
        random_state=0,
        device="cpu",
    ).fit(X, Y)
    for modalities in (None, []):
        moved = model.predict(X.assign(z=X["z"] + 2.0), modalities=modalities)
        np.testing.assert_allclose(moved - model.predict(X, modalities=modalities), 2.0, rtol=1e-6)


def test_an_offset_is_in_the_sandwich() -> None:
    model = FusionCox(modalities={}, structured="x + offset(0.7 * z)", inference="robust").fit(X, Y)
    head = CoxHead()
    likelihood = Likelihood(head, head.fit_outcome(Y))
    design, offset = X[["x"]].to_numpy(), 0.7 * X["z"].to_numpy()
    fit = fit_structured(likelihood, design, offset=offset)
    variance = robust_covariance(fit, likelihood, design, offset)
    assert model.effects_["se"].item() == pytest.approx(np.sqrt(variance.item()))


def test_an_offset_is_known_to_cross_fitting_contrasts_and_hazards(tmp_path: Path) -> None:
    genes = {"rna": Genes("gene?")}
    common: Any = {"epochs": 2, "random_state": 0, "device": "cpu"}
    crossed = FusionCox(
        genes, structured="x + offset(0.7 * z)", inference="cross_fit", **common
    ).fit(X, Y)
    assert crossed.effects_.loc["x", "coef"] == pytest.approx(0.5, abs=0.25)
    contrast = crossed.contrast(X[:2], X[2:3])
    alone = crossed.contrast(X[:2].assign(z=0.0), X[2:3].assign(z=0.0))
    difference = 0.7 * (X["z"][:2] - X["z"][2])
    np.testing.assert_allclose(contrast["estimate"] - alone["estimate"], difference)
    np.testing.assert_allclose(contrast["se"], alone["se"])
    hazards = FusionDiscreteTime(modalities={}, structured="x + offset(z)").fit(X, Y)
    hazards.save(tmp_path / "model")
    again = FusionDiscreteTime.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(X), hazards.predict(X))
    assert "offset(z)" in str(again.summary())
    assert not np.allclose(hazards.predict(X.assign(z=0.0)), hazards.predict(X))


def test_an_offset_alone_is_a_model() -> None:
    model = FusionCox(modalities={}, structured="offset(x)").fit(X, Y)
    np.testing.assert_allclose(np.diff(model.predict(X)), np.diff(X["x"]))
    with pytest.raises(ValueError, match="must have no offset"):
        FusionRegressor(
            {"r": Genes("gene?")}, structured="x + offset(z)", inference="double_ml", treatment="x"
        ).fit(X, TIME)
    with pytest.raises(ValueError, match=r"offset.*overflows float32"):
        FusionCox(modalities={}, structured="x + offset(exp(100 * `a b`))").fit(X, Y)
    known = FusionCox(modalities={}, structured="x + offset(z)").fit(X, Y)
    with pytest.raises(ValueError, match="Column 'z' of the formula is missing"):
        known.predict(X.assign(z=np.nan))


@pytest.mark.parametrize(
    ("term", "first", "reference"),
    [
        ("g", ["a", "b", "c"], "a"),
        ('C(g, ref="b")', ["b", "a", "c"], "b"),
        ("C(g, ref = 'c')", ["c", "a", "b"], "c"),
        ("C(k, ref=2)", [2, 1, 3], 2),
        ("C(k, ref='3')", [3, 1, 2], 3),
    ],
)
def test_a_reference_is_chosen_and_stands_beside_the_table(
    term: str, first: list[Any], reference: Any
) -> None:
    column = "k" if "k" in term else "g"
    model = FusionCox(modalities={}, structured=f"x + {term}").fit(X, Y)
    ordered = X.assign(**{column: pd.Categorical(X[column], categories=first)})
    other = FusionCox(modalities={}, structured=f"x + {column}").fit(ordered, Y)
    np.testing.assert_allclose(model.effects_["coef"], other.effects_["coef"])
    assert model.effects_.index.tolist() == ["x", *(f"{term}[T.{level}]" for level in first[1:])]
    assert model.effects_.attrs["reference"] == {term: reference}
    assert f"{term}: {reference}" in str(model.summary())
    np.testing.assert_allclose(np.diff(model.predict(X)), np.diff(other.predict(ordered)))


def test_sums_have_no_reference_and_products_have_theirs() -> None:
    assert Formula("C(g, contr.sum)").fit(X).references_ == {}
    formula = Formula('C(g, ref="b") * x').fit(X)
    assert formula.references_ == {'C(g, ref="b")': "b"}
    assert 'C(g, ref="b")[T.a]:x' in formula.names_
    columns = pd.DataFrame(formula.transform(X), columns=formula.names_)
    np.testing.assert_array_equal(columns['C(g, ref="b")[T.c]'], X["g"] == "c")
