"""Distributional regressions against R: fixtures/families.R and its output.

Accelerated failure times of survreg with right, left and interval censoring, location-scale models
of mgcv with the same bases, negative binomial and ordered logit models of MASS.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from mmfusion.estimators import FusionDistribution
from mmfusion.survival import surv

R = json.loads((Path(__file__).parent / "fixtures" / "families.json").read_text())
AFT = {"weibull": "weibull", "lognormal": "log_normal", "loglogistic": "log_logistic"}


@functools.cache
def data(name: str) -> pd.DataFrame:
    frame = pd.DataFrame(R["data"][name])
    for column in {"lower", "upper"} & set(frame):
        frame[column] = frame[column].astype(float)
    return frame


def total(model: FusionDistribution, X: Any, y: Any) -> float:
    """Return the log-likelihood."""
    return model.score(X, y) * len(X)


@pytest.mark.parametrize("wanted", R["aft"], ids=lambda fit: f"{fit['data']}-{fit['dist']}")
def test_accelerated_failure_times_are_those_of_survreg(wanted: dict[str, Any]) -> None:
    frame = data(wanted["data"])
    if wanted["data"] == "lung":
        y: Any = surv(frame["time"], frame["event"])
    else:
        y = frame[["lower", "upper"]]
        assert np.isinf(y).any().all()
        assert (y["lower"] == y["upper"]).any()
    model = FusionDistribution({}, structured="age + sex + ecog", family=AFT[wanted["dist"]])
    effects = model.fit(frame, y).effects_
    assert_allclose(effects["coef"], wanted["coef"], rtol=1e-5, atol=1e-6)
    assert_allclose(effects["se"], wanted["se"], rtol=1e-4)
    some = frame[:20]
    assert_allclose(total(model, frame, y), wanted["loglik"], atol=1e-6)
    assert_allclose(model.predict_median(some), wanted["median"], rtol=1e-5)
    band = model.predict_band(some, 0.5)
    assert_allclose(band["value"], wanted["median"], rtol=1e-5)
    assert_allclose(band["se"], wanted["median_se"], rtol=1e-4)


def test_a_linear_location_and_scale_are_those_of_mgcv() -> None:
    wanted, lung = R["linear"], data("lung")
    model = FusionDistribution({}, structured={"loc": "sex + ecog", "scale": "sex"})
    effects = model.fit(lung, lung["age"]).effects_
    assert_allclose(effects["coef"], wanted["coef"], rtol=1e-5)
    assert_allclose(effects["se"], wanted["se"], rtol=1e-4)
    assert_allclose(total(model, lung, lung["age"]), wanted["loglik"], atol=1e-6)


def test_a_smooth_location_and_scale_are_those_of_mgcv() -> None:
    wanted, frame = R["smooth"], data("mcycle")
    formulas = {"loc": "s(times, k=15)", "scale": "s(times)"}
    model = FusionDistribution({}, structured=formulas).fit(frame, frame["accel"])
    edf = model.effects_["edf"].dropna()
    assert_allclose(edf, wanted["edf"], rtol=0.01)
    link = np.array(wanted["link"])
    loc, scale = (model.predict_band(frame, what, unconditional=False) for what in ("loc", "scale"))
    assert_allclose(loc["value"], link[:, 0], atol=2e-3 * np.ptp(link[:, 0]))
    assert_allclose(np.log(scale["value"]), link[:, 1], atol=0.01)
    errors = np.array(wanted["link_se"])
    assert_allclose(loc["se"], errors[:, 0], rtol=0.03)
    assert_allclose(scale["se"] / scale["value"], errors[:, 1], rtol=0.03)


def test_a_gamma_mean_and_dispersion_are_those_of_mgcv() -> None:
    wanted, lung = R["gamma"], data("lung")
    formulas = {"mean": "age + sex", "dispersion": "sex"}
    model = FusionDistribution({}, structured=formulas, family="gamma").fit(lung, lung["time"])
    effects = model.effects_
    assert_allclose(effects["coef"], wanted["coef"], rtol=1e-6)
    assert_allclose(effects["se"], wanted["se"], rtol=1e-6)
    assert_allclose(total(model, lung, lung["time"]), wanted["loglik"], atol=1e-5)


def test_negative_binomial_counts_are_those_of_mass() -> None:
    wanted, quine = R["counts"], data("quine")
    model = FusionDistribution({}, structured="C(Sex) + C(Age)", family="negative_binomial")
    effects = model.fit(quine, quine["Days"]).effects_
    assert_allclose(effects["coef"].iloc[:-1], wanted["coef"], rtol=1e-5)
    # R's are of the expected information with theta known, ours of the observed one.
    assert_allclose(effects["se"].iloc[:-1], wanted["se"], rtol=0.05)
    assert_allclose(np.exp(-effects["coef"].iloc[-1]), wanted["theta"], rtol=1e-5)
    assert_allclose(total(model, quine, quine["Days"]), wanted["loglik"], atol=1e-6)


def test_ordered_levels_are_those_of_mass() -> None:
    wanted, housing = R["ordered"], data("housing")
    y = pd.Categorical(housing["Sat"], ["Low", "Medium", "High"], ordered=True)
    formula = "C(Infl, ref='Low') + C(Cont, ref='Low')"
    model = FusionDistribution({}, structured=formula, family="ordinal").fit(housing, y)
    effects = model.effects_
    coefs = dict(effects["coef"])
    assert_allclose([coefs["threshold_1"], coefs["threshold_2"]], wanted["zeta"], atol=1e-5)
    order = ["C(Infl, ref='Low')[T.Medium]", "C(Infl, ref='Low')[T.High]"]
    order += ["C(Cont, ref='Low')[T.High]"]
    assert_allclose(effects["coef"].loc[order], wanted["coef"], atol=1e-5)
    names = [*order, "threshold_1", "threshold_2"]
    assert_allclose(effects["se"].loc[names], wanted["se"], rtol=1e-4)
    assert_allclose(total(model, housing, y), wanted["loglik"], atol=1e-6)
    assert model.classes_.tolist() == ["Low", "Medium", "High"]
