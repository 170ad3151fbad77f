"""Incidence, scores and calibration of one of several causes against R: fixtures/causes.R."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from mmfusion.metrics import cause_calibration, cause_scores, net_benefit
from mmfusion.survival import cumulative_incidence, surv
from mmfusion.survival.incidence import incidence_bounds, incidence_influence
from mmfusion.survival.outcome import check_survival

R = json.loads((Path(__file__).parent / "fixtures" / "causes.json").read_text())
DATA = pd.DataFrame(R["data"])
Y = surv(DATA["time"], DATA["event"])
OUTCOME = check_survival(Y, allow_competing=True)
TIME = 5.0


@pytest.mark.parametrize("cause", [1, 2])
def test_incidence_and_its_standard_error(cause: int) -> None:
    curve = cumulative_incidence(DATA["time"], DATA["event"], cause)
    assert_allclose(curve(R["times"]), R["incidence"][str(cause)], rtol=1e-10)
    moved = incidence_influence(curve, OUTCOME, cause, R["times"])
    assert_allclose(np.sqrt((moved**2).sum(0)), R["se"][str(cause)], rtol=1e-8)
    lower, upper = incidence_bounds(curve, OUTCOME, cause, R["times"])
    assert ((lower < curve(R["times"])) & (curve(R["times"]) < upper)).all()


@pytest.mark.parametrize("cause", ["x", 0, 1.5, None, True])
def test_a_cause_is_a_whole_number(cause: object) -> None:
    with pytest.raises(ValueError, match="cause parameter must be a whole number from 1 on"):
        cumulative_incidence([1, 2, 3], [1, 2, 0], cause)
    assert cumulative_incidence([1, 2, 3], [1, 2, 0], 5)([3.0]) == 0  # a cause that no row has


def test_incidence_of_rows_that_enter_late() -> None:
    late = pd.DataFrame(R["late"])
    y = check_survival((late["time"], late["event"], late["entry"]), allow_competing=True)
    curve = cumulative_incidence(late["time"], late["event"], 1, late["entry"])
    assert_allclose(curve(R["times"]), R["late_incidence"], rtol=1e-10)
    moved = incidence_influence(curve, y, 1, R["times"])
    assert_allclose(np.sqrt((moved**2).sum(0)), R["late_se"], rtol=1e-8)


@pytest.mark.parametrize("cause", [1, 2])
def test_auc_brier_and_what_it_explains(cause: int) -> None:
    theirs = R[f"cause{cause}"]
    found = cause_scores(Y, theirs["predicted"], TIME, cause)
    factor = np.sqrt(len(Y) / (len(Y) - 1))  # of riskRegression's standard deviations
    assert_allclose(found.loc["auc", "score"], theirs["auc"]["AUC"], rtol=1e-10)
    assert_allclose(found.loc["auc", "se"] * factor, theirs["auc"]["se"], rtol=1e-6)
    brier = pd.DataFrame(theirs["brier"]).set_index("model")
    assert_allclose(found.loc["brier", "score"], brier.loc["m", "Brier"], rtol=1e-10)
    assert_allclose(found.loc["brier", "se"] * factor, brier.loc["m", "se"], rtol=1e-6)
    assert_allclose(found.loc["scaled_brier", "score"], brier.loc["m", "IPA"], rtol=1e-8)


@pytest.mark.parametrize("cause", [1, 2])
def test_calibration_is_the_weighted_regression(cause: int) -> None:
    theirs = R[f"cause{cause}"]
    found = cause_calibration(Y, theirs["predicted"], TIME, cause)
    assert_allclose(found.table.loc["slope", "score"], theirs["slope"], rtol=1e-6)
    assert_allclose(found.table.loc["intercept", "score"], theirs["intercept"], rtol=1e-5)
    observed = cumulative_incidence(DATA["time"], DATA["event"], cause)(TIME)
    assert_allclose(found.table.loc["O/E", "score"], observed / np.mean(theirs["predicted"]))
    assert found.groups["n"].sum() == len(Y)
    assert found.groups["predicted"].is_monotonic_increasing


@pytest.mark.parametrize("name", ["slope", "auc", "harrell"])
def test_standard_errors_are_those_of_the_jackknife(name: str) -> None:
    rows, p = np.arange(len(Y)), np.array(R["cause1"]["predicted"])
    measure = cause_calibration if name == "slope" else cause_scores

    def value(some: np.ndarray) -> pd.Series:
        found = measure(Y[some], p[some], TIME)
        return getattr(found, "table", found).loc[name]

    left_out = np.array([value(np.delete(rows, row))["score"] for row in rows])
    n = len(rows)
    jackknife = np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum())
    assert_allclose(value(rows)["se"], jackknife, rtol=0.04)


def test_concordance_counts_who_had_another_event_as_never() -> None:
    p = np.array(R["cause1"]["predicted"])
    time, event = DATA["time"].to_numpy(), DATA["event"].to_numpy()
    pairs = [
        (p[i] > p[j]) + 0.5 * (p[i] == p[j])
        for i in np.flatnonzero(event == 1)
        for j in range(len(p))
        if time[j] > time[i] or event[j] == 2 or (time[j] == time[i] and event[j] == 0)
        if i != j
    ]
    assert_allclose(cause_scores(Y, p, TIME).loc["harrell", "score"], np.mean(pairs), rtol=1e-12)


def test_net_benefit_of_a_cause_takes_its_incidence() -> None:
    p = np.array(R["cause1"]["predicted"])
    found = net_benefit(Y, p, [0.2], time=TIME, cause=1).loc[0.2]
    acts = p >= 0.2
    share = float(cumulative_incidence(DATA["time"][acts], DATA["event"][acts], 1)(TIME))
    assert_allclose(found["model"], acts.mean() * (share - (1 - share) * 0.25))
    everyone = R["incidence"]["1"][2]
    assert_allclose(found["all"], everyone - (1 - everyone) * 0.25)
    with pytest.raises(ValueError, match="cause parameter is of a survival outcome"):
        net_benefit([0, 1], [0.1, 0.2], cause=1)


def test_what_is_no_incidence_is_refused() -> None:
    p = np.array(R["cause1"]["predicted"])
    with pytest.raises(ValueError, match=r"cause parameter must be one of \[1, 2\].*Got 3"):
        cause_scores(Y, p, TIME, 3)
    with pytest.raises(ValueError, match="time parameter must lie between the first event"):
        cause_scores(Y, p, 1e3)
    with pytest.raises(ValueError, match=r"shape \(205,\). Got \(204,\)"):
        cause_calibration(Y, p[1:], TIME)
