"""Brier scores against scikit-survival, pycox and a loop over rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sksurv.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from pycox.evaluation import EvalSurv
from scipy.integrate import simpson

from mmfusion.metrics import brier_score, integrated_brier_score
from mmfusion.survival import kaplan_meier, surv

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=50)
GRID = np.array([1.0, 2.0, 3.5, 5.0, 6.0])
CONVENTIONS = ("mmfusion", "sksurv", "pycox")


def tied(seed):
    """Draw training and test rows with many ties, observed beyond the grid, and curves."""
    rng = np.random.default_rng(seed)
    outcomes = []
    for _ in range(2):
        n = int(rng.integers(4, 40))
        time = rng.integers(1, 9, n).astype(float)
        event = rng.random(n) < rng.uniform(0.2, 0.95)
        time[:2], event[:2] = [1, 9], [True, True]
        outcomes.append((time, event))
    survival = 1 - np.cumsum(rng.integers(0, 4, (n, len(GRID))), axis=1) / (4 * len(GRID))
    return *outcomes, survival


def censoring(time, event, events_first):
    """G as a function, looped."""

    def g(t, before=False):
        value = 1.0
        for x in np.unique(time):
            if x > t or (before and x == t):
                break
            at_risk = (time >= x).sum() - (events_first * (event & (time == x)).sum())
            if at_risk:
                value *= 1 - (~event & (time == x)).sum() / at_risk
        return value

    return g


def looped(train, test, survival, convention):
    g = censoring(*train, events_first=convention != "pycox")
    scores = []
    for k, t in enumerate(GRID):
        total = weights = 0.0
        for i, (time, event) in enumerate(zip(*test, strict=True)):
            if time > t:
                weight, error = 1 / g(t), (1 - survival[i, k]) ** 2
            elif event:
                weight, error = 1 / g(time, before=convention != "sksurv"), survival[i, k] ** 2
            else:
                continue
            total, weights = total + weight * error, weights + weight
        scores.append(total / (weights if convention == "pycox" else len(survival)))
    return scores


@quick
@given(seeds)
def test_every_convention_follows_its_definition(seed):
    train, test, survival = tied(seed)
    for convention in CONVENTIONS:
        mine = brier_score(train, test, survival, GRID, convention)
        np.testing.assert_allclose(mine, looped(train, test, survival, convention), atol=1e-10)


@quick
@given(seeds)
def test_as_scikit_survival(seed):
    train, test, survival = tied(seed)
    train, test = surv(*train), surv(*test)
    _, theirs = sksurv.metrics.brier_score(train, test, survival, GRID)
    mine = brier_score(train, test, survival, GRID, "sksurv")
    np.testing.assert_allclose(mine, theirs, atol=1e-10)
    assert integrated_brier_score(train, test, survival, GRID, "sksurv") == pytest.approx(
        sksurv.metrics.integrated_brier_score(train, test, survival, GRID), abs=1e-10
    )


@quick
@given(seeds)
def test_as_pycox(seed):
    """pycox's own integral calls scipy.integrate.simps, which SciPy 1.14 removed."""
    _, test, survival = tied(seed)
    frame = pd.DataFrame(survival, columns=GRID)
    theirs = EvalSurv(frame.T, test[0], test[1].astype(int), censor_surv="km").brier_score(GRID)
    mine = brier_score(test, test, frame, convention="pycox")
    np.testing.assert_allclose(mine, theirs, atol=1e-10)
    integral = simpson(theirs.to_numpy(), x=GRID) / (GRID[-1] - GRID[0])
    mine = integrated_brier_score(test, test, frame, convention="pycox")
    assert mine == pytest.approx(integral, abs=1e-10)


@quick
@given(seeds)
def test_weights_add_up(seed):
    """Where everyone scores an error of one, G(T-) with events first gives exactly one."""
    _, test, _ = tied(seed)
    wrong = (test[0][:, None] <= GRID).astype(float)
    np.testing.assert_allclose(brier_score(test, test, wrong, GRID), 1.0, atol=1e-12)


def test_without_censoring_it_is_the_squared_error():
    rng = np.random.default_rng(0)
    time = rng.exponential(size=50)
    y = surv(time, np.ones(50))
    grid = np.linspace(0.1, 5.0, 30)
    survival = np.exp(-np.outer(rng.uniform(0.5, 2, 50), grid))
    error = ((survival - (time[:, None] > grid)) ** 2).mean(axis=0)
    for convention in CONVENTIONS:
        np.testing.assert_allclose(brier_score(y, y, survival, grid, convention), error)
    integral = np.trapezoid(error, grid) / (grid[-1] - grid[0])
    assert integrated_brier_score(y, y, survival, grid) == pytest.approx(integral)


def test_ties_bias_only_the_other_conventions():
    """Monthly times: against the squared error on uncensored times, over many cohorts."""
    rng = np.random.default_rng(1)
    bias = dict.fromkeys(CONVENTIONS, 0.0)
    for _ in range(200):
        death = np.ceil(rng.exponential(4, 400))
        end = np.ceil(rng.exponential(4, 400))
        y = surv(np.minimum(death, end), death <= end)
        truth = np.mean((0.2 - (death > 3)) ** 2)
        for name in CONVENTIONS:
            score = brier_score(y, y, np.full((400, 1), 0.2), [3.0], name)[0]
            bias[name] += (score - truth) / 200
    assert abs(bias["mmfusion"]) < 0.2 * min(abs(bias["sksurv"]), abs(bias["pycox"]))


def test_times_beyond_the_follow_up_of_the_fold():
    """scikit-survival refuses them."""
    train = surv([1, 2, 3, 10, 20], [1, 1, 1, 0, 1])
    test = surv([2, 3, 4], [1, 1, 0])
    survival, grid = np.full((3, 3), 0.5), [1.0, 3.0, 15.0]
    with pytest.raises(ValueError, match="follow-up"):
        sksurv.metrics.brier_score(train, test, survival, grid)
    # At 15 the two events count, the row censored at 4 does not.
    np.testing.assert_allclose(brier_score(train, test, survival, grid), [0.25, 0.25, 0.5 / 3])


def test_a_time_without_weight_is_named():
    train, test = surv([1, 2, 3], [1, 1, 0]), surv([1, 3, 5], [1, 1, 0])
    with pytest.raises(ValueError, match=r"zero at time 4, .* usable time is 2: choose times"):
        brier_score(train, test, np.ones((3, 2)), [1.0, 4.0])
    with pytest.raises(ValueError, match="zero at time 3"):  # the event's own G(3)
        brier_score(train, test[:2], np.ones((2, 1)), [3.0], convention="sksurv")
    assert brier_score(train, test[:2], np.zeros((2, 1)), [3.0])[0] == 0.0  # G(3-) is positive
    with pytest.raises(ValueError, match="No time is usable"):
        brier_score(surv([1, 1], [0, 0]), test, np.ones((3, 1)), [4.0])


def test_kaplan_meier_is_the_reference():
    rng = np.random.default_rng(2)
    y = surv(rng.exponential(size=300), rng.random(300) < 0.6)
    grid = np.linspace(0.1, 1.0, 10)
    curve = np.tile(kaplan_meier(y["time"], y["event"])(grid), (300, 1))
    best = integrated_brier_score(y, y, curve, grid)
    assert best < integrated_brier_score(y, y, np.clip(curve + 0.1, 0, 1), grid)
    assert best < integrated_brier_score(y, y, np.full((300, 10), 0.5), grid)


Y = surv([1.0, 2.0, 3.0], [1, 1, 0])
HALF = np.full((3, 2), 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: brier_score(Y, Y, HALF), "times parameter must be given"),
        (lambda: brier_score(Y, Y, HALF, [1, 2, 3]), r"shape \(3, 3\). Got \(3, 2\)"),
        (lambda: brier_score(Y, Y, HALF * np.nan, [1, 2]), r"Got nan in rows \[0, 1, 2\]"),
        (lambda: brier_score(Y, Y, HALF, [1, np.inf]), "finite"),
        (lambda: brier_score(Y, Y, HALF, [-1, 2]), "not negative"),
        (lambda: brier_score(Y, Y, HALF, [1, 2], "other"), "Got 'other'"),
        (lambda: brier_score(Y, Y, pd.DataFrame(HALF, columns=[1, 2]), [1, 3]), "must equal"),
        (lambda: brier_score(Y, surv([1, 2, 3], [1, 1, 0], [0, 1, 0]), HALF, [1, 2]), "delayed"),
        (lambda: integrated_brier_score(Y, Y, HALF[:, :1], [1.0]), "at least two times"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_rounding_is_cut_off():
    a = brier_score(Y, Y, np.array([[-5e-8, 1 + 5e-8]] * 3), [1.0, 2.0])
    np.testing.assert_array_equal(a, brier_score(Y, Y, np.array([[0.0, 1.0]] * 3), [1.0, 2.0]))
