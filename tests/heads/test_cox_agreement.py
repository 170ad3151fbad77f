"""Newton's method on our gradient and information, against other people's fitters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter
from sksurv.linear_model import CoxPHSurvivalAnalysis
from statsmodels.duration.hazard_regression import PHReg

from mmfusion.heads import CoxHead
from mmfusion.heads.cox import CoxPlan, cox_gradient, cox_information, cox_loss

N = 300


def table(seed: int = 0, *, ties: bool = True) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": rng.normal(size=N), "dose": rng.integers(0, 3, N) / 1.0})
    time = rng.exponential(np.exp(-0.7 * frame["age"] + 0.3 * frame["dose"]))
    censoring = rng.exponential(2.0, N)
    frame["time"] = np.minimum(time, censoring)
    if ties:
        frame["time"] = np.ceil(10 * frame["time"]) / 10
    frame["event"] = time <= censoring
    frame["entry"] = np.where(rng.random(N) < 0.5, frame["time"] * rng.random(N), 0.0)
    if ties:
        frame["entry"] = np.floor(10 * frame["entry"] * 0.99) / 10
    frame["entry"] = np.minimum(frame["entry"], frame["time"] * 0.99)
    frame["site"] = rng.integers(0, 3, N)
    frame["weight"] = rng.integers(1, 4, N).astype(float)
    return frame


def newton(frame: pd.DataFrame, ties: str, *parts: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Return coefficients, their standard errors and the log partial likelihood."""
    names = {"weights": "weight", "entry": "entry", "strata": "site"}
    weight, entry, stratum = (
        torch.from_numpy(frame[column].to_numpy()) if part in parts else None
        for part, column in names.items()
    )
    plan = CoxPlan.from_outcome(
        torch.from_numpy(frame["time"].to_numpy()),
        torch.from_numpy(frame["event"].to_numpy()),
        weight,
        entry,
        stratum,
    )
    design = torch.from_numpy(frame[["age", "dose"]].to_numpy())
    beta = torch.zeros(2, dtype=torch.float64)
    for _ in range(20):
        eta = design @ beta
        information = cox_information(eta, plan, design, ties, "sum")
        step = torch.linalg.solve(information, design.T @ cox_gradient(eta, plan, ties, "sum"))
        beta = beta - step
    assert float(step.abs().max()) < 1e-12
    errors = torch.linalg.inv(information).diagonal().sqrt()
    return beta.numpy(), errors.numpy(), -cox_loss(design @ beta, plan, ties, "sum").item()


@pytest.mark.parametrize(
    "parts", [(), ("entry",), ("strata",), ("weights",), ("entry", "strata")], ids=str
)
def test_efron_equals_lifelines(parts):
    frame = table()
    options = {"entry": ("entry_col", "entry"), "weights": ("weights_col", "weight")}
    used = dict(options[part] for part in parts if part in options)
    strata = {"strata": "site"} if "strata" in parts else {}
    columns = ["age", "dose", "time", "event", *used.values(), *strata.values()]
    theirs = CoxPHFitter().fit(
        frame[columns], "time", "event", fit_options={"precision": 1e-12}, **used, **strata
    )
    beta, errors, log_likelihood = newton(frame, "efron", *parts)
    np.testing.assert_allclose(beta, theirs.params_, rtol=1e-6)
    np.testing.assert_allclose(errors, theirs.standard_errors_, rtol=1e-5)
    assert log_likelihood == pytest.approx(theirs.log_likelihood_, rel=1e-8)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("parts", [(), ("entry",), ("strata",), ("entry", "strata")], ids=str)
def test_both_methods_for_ties_equal_statsmodels(ties, parts):
    frame = table(1)
    model = PHReg(
        frame["time"],
        frame[["age", "dose"]],
        status=frame["event"].astype(int),
        ties=ties,
        # Its risk set at t has those who enter at t, ours and lifelines' has not.
        entry=frame["entry"] + 5e-4 if "entry" in parts else None,
        strata=frame["site"] if "strata" in parts else None,
    )
    beta, _, log_likelihood = newton(frame, ties, *parts)
    theirs = model.fit(disp=0)
    np.testing.assert_allclose(beta, theirs.params, rtol=1e-6)
    assert log_likelihood == pytest.approx(theirs.llf, rel=1e-10)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_coefficients_equal_scikit_survival(ties):
    frame = table(2)
    y = np.array(
        list(zip(frame["event"], frame["time"], strict=True)),
        dtype=[("event", bool), ("time", float)],
    )
    theirs = CoxPHSurvivalAnalysis(ties=ties, tol=1e-14).fit(frame[["age", "dose"]], y)
    np.testing.assert_allclose(newton(frame, ties)[0], theirs.coef_, rtol=1e-6)
    if ties == "breslow":
        eta = frame[["age", "dose"]].to_numpy() @ theirs.coef_
        head = CoxHead(ties)
        head.finish(torch.from_numpy(eta), head.fit_outcome(y))
        curves = theirs.predict_survival_function(frame[["age", "dose"]][:5], return_array=True)
        np.testing.assert_allclose(head.survival(eta[:5], theirs.unique_times_), curves, rtol=1e-10)


@pytest.mark.parametrize("strata", [False, True])
def test_breslow_baseline_equals_lifelines(strata):
    frame = table(3)
    columns = (
        ["age", "dose", "time", "event", "site"] if strata else ["age", "dose", "time", "event"]
    )
    theirs = CoxPHFitter().fit(frame[columns], "time", "event", strata="site" if strata else None)
    eta = frame[["age", "dose"]].to_numpy() @ theirs.params_.to_numpy()
    labels = frame["site"].to_numpy() if strata else None
    head = CoxHead("breslow")
    target = head.fit_outcome((frame["time"], frame["event"]), strata=labels)
    head.finish(torch.from_numpy(eta), target)
    times = np.quantile(frame["time"], [0.1, 0.4, 0.8])
    times = np.sort(np.append(head.event_times_[[2, 7]], np.ceil(times * 10) / 10))
    # It returns the rows stratum by stratum, a column each.
    wanted = theirs.predict_cumulative_hazard(frame[:20], times=times)[frame.index[:20]].T
    found = head.cumulative_hazard(eta[:20], times, None if labels is None else labels[:20])
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
