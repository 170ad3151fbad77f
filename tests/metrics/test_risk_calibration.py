"""Calibration of risks by a time: influences against derivatives, intervals, edges."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from mmfusion.metrics import cause_calibration, survival_calibration
from mmfusion.metrics._cox import SmallCox
from mmfusion.survival import check_survival, kaplan_meier, surv


def cohort(
    n: int, seed: int, *, exaggerate: float = 1.0, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Outcome and predictions to survive time 1, perfect unless told otherwise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n) * 0.8
    death, lost = rng.exponential(np.exp(-x)), rng.exponential(2.5, n)
    survival = np.exp(-np.exp(exaggerate * x + shift))
    return surv(np.minimum(death, lost), death <= lost), survival


def derivative(of: Callable[[np.ndarray], np.ndarray], n: int) -> np.ndarray:
    step = 1e-4
    return np.array([(of(1 + d) - of(1 - d)) / (2 * step) for d in np.eye(n) * step])


@pytest.mark.parametrize("delayed", [False, True])
def test_influences_are_the_derivatives_in_the_weights(delayed: bool) -> None:
    """Without ties Efron's likelihood is Breslow's, which knows what a weight is."""
    rng = np.random.default_rng(4)
    n = 25
    x = rng.normal(size=(n, 2))
    time, event = rng.exponential(np.exp(-x[:, 0])), rng.random(n) < 0.7
    event[np.argmax(time)] = False
    entry = time * rng.uniform(-1, 0.9, n) if delayed else np.full(n, -np.inf)
    at_risk = (time >= time[:, None]) & (entry < time[:, None])  # of the row's time: the columns

    def fit(w: np.ndarray) -> np.ndarray:
        def loss(b: np.ndarray) -> float:
            eta = x @ b
            return -float(w[event] @ (eta - np.log(at_risk @ (w * np.exp(eta))))[event])

        def gradient(b: np.ndarray) -> np.ndarray:
            risk = w * np.exp(x @ b)
            mean = (at_risk @ (risk[:, None] * x)) / (at_risk @ risk)[:, None]
            return -w[event] @ (x - mean)[event]

        b = optimize.minimize(loss, np.zeros(2), jac=gradient, tol=1e-14, method="BFGS").x
        b = optimize.root(gradient, b, tol=1e-14).x
        hazard = (w / (at_risk @ (w * np.exp(x @ b))))[event].sum()
        return np.r_[np.log(hazard), b]

    found = SmallCox.fit(check_survival((time, event, entry) if delayed else (time, event)), x)
    np.testing.assert_allclose([found.log_hazard, *found.coef], fit(np.ones(n)), atol=1e-8)
    np.testing.assert_allclose(found.influence, derivative(fit, n), atol=2e-6)


def test_observed_by_expected_and_its_influences() -> None:
    y, survival = cohort(30, 0)
    score = survival_calibration(y, survival, 1.0).scores["O/E"]
    risk = 1 - survival

    def ratio(w: np.ndarray) -> np.ndarray:
        observed = 1 - kaplan_meier(y["time"], y["event"], weight=w)(1.0)
        return np.array([observed / (w @ risk / w.sum())])

    assert score.value == pytest.approx(ratio(np.ones(30))[0])
    np.testing.assert_allclose(score.rows[:, None], derivative(ratio, 30), atol=1e-7)


def test_a_right_and_a_wrong_model() -> None:
    right = survival_calibration(*cohort(4000, 1), 1.0)
    table = right.table
    for name, ideal in {"slope": 1, "intercept": 0, "O/E": 1, "ICI": 0, "E50": 0, "E90": 0}.items():
        assert table.loc[name, "lower"] <= ideal <= table.loc[name, "upper"], name
    assert table.loc["ICI", "score"] < 0.02
    inside = right.curve.query("0.1 < predicted < 0.9")
    assert (inside["lower"] < inside["predicted"]).mean() > 0.9
    assert (inside["upper"] > inside["predicted"]).mean() > 0.9

    y, survival = cohort(4000, 1, exaggerate=2.0, shift=0.5)
    wrong = survival_calibration(y, survival, 1.0)
    assert wrong.table.loc["slope", "score"] == pytest.approx(0.5, abs=0.03)
    assert wrong.table.loc["slope", "upper"] < 0.6
    assert wrong.table.loc["O/E", "upper"] < 1
    assert wrong.table.loc["intercept", "upper"] < 0
    assert wrong.table.loc["ICI", "lower"] > 0.05
    # Of a Cox model the observed risk is known: the curve finds it.
    often = wrong.curve[wrong.curve["predicted"].between(0.1, 0.95)]
    x = (np.log(-np.log(1 - often["predicted"])) - 0.5) / 2
    np.testing.assert_allclose(often["observed"], -np.expm1(-np.exp(x)), atol=0.04)


def test_clusters_and_other_inputs() -> None:
    y, survival = cohort(200, 2)
    twice = surv(np.repeat(y["time"], 2), np.repeat(y["event"], 2))
    labels = np.repeat(np.arange(200), 2)
    one = survival_calibration(y, survival, 1.0)
    two = survival_calibration(twice, np.repeat(survival, 2), 1.0, cluster=labels)
    # Ties weigh a little; the double rows do not.
    ratio = two.table["se"] / one.table["se"]
    assert ratio.loc[["slope", "intercept", "O/E"]].between(0.95, 1.05).all()
    assert ratio.loc[["ICI", "E50", "E90"]].between(0.9, 1.1).all()
    frame = pd.DataFrame({1.0: survival})
    pd.testing.assert_frame_equal(survival_calibration(y, frame).table, one.table)
    narrow = survival_calibration(y, survival, 1.0, level=0.5).table
    assert (narrow["upper"] - narrow["lower"] < one.table["upper"] - one.table["lower"]).all()


def test_constant_and_extreme_predictions() -> None:
    y, survival = cohort(200, 3)
    constant = survival_calibration(y, np.full(200, 0.4), 1.0)
    assert np.isnan(constant.table.loc["slope", "score"])
    observed = 1 - kaplan_meier(y["time"], y["event"])(1.0)
    assert constant.table.loc["O/E", "score"] == pytest.approx(observed / 0.6)
    # Breslow's hazard and the Kaplan-Meier curve are not quite the same.
    np.testing.assert_allclose(constant.curve["observed"], observed, atol=0.01)
    two = survival_calibration(y, np.where(survival < 0.5, 0.2, 0.8), 1.0)
    assert two.table.loc[["slope", "ICI"], "score"].notna().all()
    # Two deaths of the highest risk: no finite slope, and no interval of one (it had width 0).
    first = surv(np.arange(1.0, 21), np.arange(20) < 2)
    ranked = np.linspace(0.1, 0.9, 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = survival_calibration(first, ranked, 12).table
        assert table.loc[["slope", "ICI"]].isna().all(axis=None)
        assert table.loc["O/E"].notna().all()
        causes = surv(first["time"], 2 * first["event"].astype(int))
        assert np.isnan(cause_calibration(causes, 1 - ranked, 12, 2).table.loc["slope", "score"])
    edges = survival.copy()
    edges[0], edges[1] = 0.0, 1.0
    assert survival_calibration(y, edges, 1.0).table["score"].notna().all()


@pytest.mark.parametrize(
    ("survival", "time", "message"),
    [
        ([0.5, 0.5], 1.0, r"shape \(200, 1\). Got \(2, 1\)"),
        (np.ones((200, 2)) / 2, [1.0, 2.0], "of one time. Got 2"),
        (np.full(200, 0.5), 1e-9, "before the first event"),
        (np.full(200, 0.5), 1e9, "beyond the follow-up"),
        (np.full(200, 1.5), 1.0, "probabilities"),
        (np.full(200, 0.5), None, "times parameter must be given"),
    ],
)
def test_errors(survival: object, time: object, message: str) -> None:
    y, _ = cohort(200, 3)
    with pytest.raises(ValueError, match=message):
        survival_calibration(y, survival, time)  # type: ignore[arg-type]
