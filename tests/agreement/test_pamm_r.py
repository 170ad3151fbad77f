"""Piecewise-exponential additive models against R's pammtools and mgcv, the same cuts and bases.

fixtures/pamm.R and its output: linear, smooth and time-varying effects, a stratified baseline, a
surface over a covariate and time, a frailty of recurrent events, start-stop rows, delayed entry,
and competing risks with an effect that both causes share.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mmfusion.estimators import FusionPAMM
from mmfusion.survival import surv

R = json.loads((Path(__file__).parent / "fixtures" / "pamm.json").read_text())
NAMES = [fit["name"] for fit in R["fits"]]

#: R's name of a coefficient, and ours.
COEFFICIENTS = {
    "metastasesyes": "C(metastases)[T.yes]",
    "complications:log(tend)": "complications:log(end)",
    "treatrIFN-g": "C(treat)[T.rIFN-g]",
    "transplant1": "C(transplant)[T.1]",
    "sexM": "C(sex)[T.M]",
    "factor(k)1:s1": ("C(sex)[T.M]", "cause_1"),
    "factor(k)2:s1": ("C(sex)[T.M]", "cause_2"),
    "hgb": ("hgb", "shared"),
}
BY_CAUSE = "C(sex) + s(end) + s(age)"
CAUSES = {"cause_1": BY_CAUSE, "cause_2": BY_CAUSE, "shared": "hgb"}


@functools.cache
def fitted(name: str) -> tuple[FusionPAMM, dict[str, Any]]:
    wanted = R["fits"][NAMES.index(name)]
    frame = pd.DataFrame(R["data"][wanted["data"]])
    time = frame["time"] if "time" in frame else frame["stop"]
    event = frame["event"] if "event" in frame else frame["cause"]
    outcome = surv(time, event, frame.get("start"))
    model = FusionPAMM(
        {},
        structured=wanted["formula"] or CAUSES,
        cuts=wanted["cuts"],
        id="id" if "id" in frame else None,
    )
    return model.fit(covariates(frame), outcome), wanted


def covariates(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table without its outcome."""
    outcome = ["time", "start", "stop", "event", "cause"]
    return frame.drop(columns=outcome, errors="ignore")


def curves(wanted: dict[str, Any]) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the profiles that R predicts, and the times."""
    return covariates(pd.DataFrame(wanted["profiles"])), np.array(wanted["cuts"][1:])


models = pytest.mark.parametrize("name", NAMES)


@models
def test_coefficients_and_degrees_of_freedom(name: str) -> None:
    model, wanted = fitted(name)
    assert_allclose(model.cuts_, wanted["cuts"])
    compared = 0
    theirs = wanted["coef"] if isinstance(wanted["coef"], dict) else {}
    for label, coef in theirs.items():
        ours = COEFFICIENTS.get(label, label)
        if label in ("(Intercept)", "factor(k)2", "factor(sex)male"):
            continue  # they depend on where smooths are centred
        row, se = model.effects_.loc[ours], wanted["se"][label]
        assert abs(row["coef"] - coef) < 1e-3 * se
        assert_allclose(row["se"], se, rtol=1e-4)
        compared += 1
    assert compared >= {"varying": 0, "smooth": 1, "strata": 2, "surface": 1}.get(name, 1)
    edf = model.effects_["edf"].dropna().to_numpy()
    order = [0, 2, 1, 3] if name == "causes" else range(len(edf))  # R's are by term, ours by cause
    assert_allclose(edf[list(order)], np.atleast_1d(wanted["edf"]), rtol=1e-3)


@models
def test_predictors_and_their_errors(name: str) -> None:
    model, wanted = fitted(name)
    profiles, times = curves(wanted)
    shape = (3, -1, len(times))
    link, se = (np.reshape(wanted[part], shape) for part in ("link", "link_se"))
    for place, cause in enumerate(model.causes_):
        found = model.predict_band(profiles, times, "hazard", int(cause), unconditional=False)
        hazard = found["hazard"].to_numpy().reshape(3, -1)
        known = times <= model.model_.head.last_  # beyond, nothing is predicted
        assert_allclose(np.log(hazard)[:, known], link[:, place][:, known], atol=1e-4)
        error = (found["se"] / found["hazard"]).to_numpy().reshape(3, -1)
        assert_allclose(error[:, known], se[:, place][:, known], rtol=1e-4)


@models
def test_survival_and_its_bands(name: str) -> None:
    model, wanted = fitted(name)
    profiles, times = curves(wanted)
    known = times <= model.model_.head.last_
    survival = np.array(wanted["survival"])[:, known]
    times = times[known]
    assert_allclose(model.predict_survival_function(profiles, times), survival, atol=1e-5)
    band = model.predict_band(profiles, times, unconditional=False)
    found = band["se"].to_numpy().reshape(3, -1)
    assert_allclose(found, np.array(wanted["survival_se"])[:, known], rtol=1e-4)
    lower = (band["survival"] - 1.959964 * band["se"]).clip(0, 1)
    assert_allclose(band["lower"], lower, atol=1e-6)


def test_cumulative_incidences() -> None:
    model, wanted = fitted("causes")
    profiles, times = curves(wanted)
    assert_array_equal(model.causes_, [1, 2])
    for place, cause in enumerate((1, 2)):
        found = model.predict_cumulative_incidence_function(profiles, times, cause)
        assert_allclose(found, np.array(wanted["incidence"])[:, place], atol=1e-5)


def test_one_interval_of_events_in_intervals_is_rs_survreg() -> None:
    wanted = R["intervals"]
    frame = pd.DataFrame(wanted["data"])
    frame["upper"] = pd.to_numeric(frame["upper"], errors="coerce")
    model = FusionPAMM({}, structured="x", n_intervals=1)
    model.fit(frame[["x"]], frame[["lower", "upper"]])
    assert_allclose(model.effects_["coef"], wanted["coef"], atol=1e-5)
    assert_allclose(model.effects_["se"], wanted["se"], rtol=1e-5)
    assert_allclose(model.inference_.fit.log_likelihood, wanted["loglik"], rtol=1e-8)
    # Steps and smooths are the same likelihood, their curves those of the exponential or near it.
    smooth = FusionPAMM({}, structured="x", cuts=np.arange(0.5, 4.1, 0.5))
    smooth.fit(frame[["x"]], frame[["lower", "upper"]])
    assert_allclose(smooth.effects_.loc["x", "coef"], wanted["coef"][1], atol=0.12)
    curves = [m.predict_survival_function(frame[["x"]], [1.0, 3.0]) for m in (model, smooth)]
    assert_allclose(*curves, atol=0.1)
