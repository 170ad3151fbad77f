"""Concordance indices against peers and against their O(n^2) definitions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines.utils import concordance_index as lifelines_index
from pycox.evaluation import EvalSurv
from sksurv.metrics import concordance_index_censored, concordance_index_ipcw

from mmfusion.metrics import (
    concordance_index,
    concordance_index_antolini,
    concordance_index_uno,
)
from mmfusion.metrics._ranks import count_below
from mmfusion.survival import check_survival, surv

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=60)


def tied(seed, smallest=4):
    """Draw times and risks with many ties, at least one pair comparable."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(smallest, 40))
    time = rng.integers(1, 8, n).astype(float)
    event = rng.random(n) < rng.uniform(0.2, 0.95)
    time[:2], event[0] = [1, 8], True
    return rng, time, event, rng.integers(0, 6, n).astype(float)


def harrell(time, event, risk, comparable_too=lambda i, j: True, weight=None):
    """Harrell's definition, pair by pair."""
    weight = np.ones(len(time)) if weight is None else weight
    concordant = comparable = 0.0
    for i in np.flatnonzero(event):
        for j in range(len(time)):
            later = time[i] < time[j] or (time[i] == time[j] and not event[j])
            if later and comparable_too(i, j):
                comparable += weight[i] * weight[j]
                concordant += (
                    weight[i] * weight[j] * ((risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j]))
                )
    return concordant / comparable if comparable else None


@quick
@given(seeds)
def test_harrell_as_peers_and_definition(seed):
    _, time, event, risk = tied(seed)
    mine = concordance_index(surv(time, event), risk)
    assert mine == pytest.approx(concordance_index_censored(event, time, risk)[0], abs=1e-10)
    assert mine == pytest.approx(lifelines_index(time, -risk, event), abs=1e-10)
    assert mine == pytest.approx(harrell(time, event, risk), abs=1e-10)


def test_harrell_at_scale():
    rng = np.random.default_rng(0)
    time = np.round(rng.exponential(size=3000), 2)
    event = rng.random(3000) < 0.6
    risk = np.round(rng.normal(size=3000) - time, 2)
    assert concordance_index((time, event), risk) == pytest.approx(
        lifelines_index(time, -risk, event), abs=1e-12
    )


@quick
@given(seeds)
def test_strata_entry_and_weights_follow_the_definition(seed):
    rng, time, event, risk = tied(seed)
    n = len(time)
    entry = np.minimum(rng.integers(-1, 7, n), time - 1).astype(float)
    strata = rng.choice(["a", "b"], n)
    weight = rng.integers(0, 4, n) * rng.choice([1.0, 0.3])
    rules = {
        "entry": lambda i, j: entry[j] < time[i],
        "strata": lambda i, j: strata[i] == strata[j],
        "all": lambda i, j: entry[j] < time[i] and strata[i] == strata[j],
    }
    for name, rule in rules.items():
        y = (time, event, entry) if name != "strata" else (time, event)
        groups = None if name == "entry" else strata
        for w in (None, weight):
            expected = harrell(time, event, risk, rule, w)
            if expected is None:
                with pytest.raises(ValueError, match="comparable pair"):
                    concordance_index(y, risk, strata=groups, sample_weight=w)
            else:
                mine = concordance_index(y, risk, strata=groups, sample_weight=w)
                assert mine == pytest.approx(expected, abs=1e-10)


@quick
@given(seeds)
def test_properties(seed):
    rng, time, event, risk = tied(seed)
    distinct = rng.permutation(len(time)).astype(float)
    y = surv(time, event)
    c = concordance_index(y, distinct)
    assert concordance_index(y, -distinct) == pytest.approx(1 - c, abs=1e-12)
    assert concordance_index(y, np.exp(distinct / 10)) == c
    assert concordance_index(y, np.zeros(len(time))) == 0.5
    order = rng.permutation(len(time))
    assert concordance_index(y[order], risk[order]) == concordance_index(y, risk)
    assert concordance_index(surv(time, event), -time - 0.5 * event) >= 0.5


def test_large_risks():
    y = surv([1, 2, 3, 4], [1, 1, 0, 1])
    assert concordance_index(y, [np.inf, 1e300, 5, -np.inf]) == 1.0
    near = [4e-12, 3e-12, 2e-12, 1e-12]  # scikit-survival calls these equal
    assert concordance_index(y, near) == 1.0


def test_perfect_and_reversed():
    y = surv([1, 2, 3], [1, 1, 1])
    assert concordance_index(y, [3, 2, 1]) == 1.0
    assert concordance_index(y, [1, 2, 3]) == 0.0


@quick
@given(seeds)
def test_uno_as_scikit_survival(seed):
    _, time, event, risk = tied(seed)
    rng = np.random.default_rng(seed + 1)
    train_time = np.append(rng.integers(1, 8, 30), 9).astype(float)
    train_event = np.append(rng.random(30) < 0.5, True)  # G stays above zero
    train, test = surv(train_time, train_event), surv(time, event)
    for tau in (None, 5.0, 6.5):
        theirs = concordance_index_ipcw(train, test, risk, tau=tau)[0]
        own = concordance_index_uno(train, test, risk, tau, "sksurv")
        assert own == pytest.approx(theirs, abs=1e-10)


@quick
@given(seeds)
def test_uno_is_harrell_without_censoring(seed):
    _, time, event, risk = tied(seed)
    train = (time, np.ones(len(time)))
    assert concordance_index_uno(train, (time, event), risk) == pytest.approx(
        concordance_index((time, event), risk), abs=1e-12
    )


def test_uno_needs_no_follow_up_as_long_in_training():
    """scikit-survival refuses test times beyond the training rows'; G stays where it was."""
    train, test = surv([1, 2, 3], [0, 1, 1]), surv([1, 5, 9], [1, 1, 0])
    assert concordance_index_uno(train, test, [3, 2, 1]) == 1.0


def test_uno_names_the_usable_time():
    train, test = surv([1, 2, 3], [1, 1, 0]), surv([1, 3, 4], [1, 1, 0])
    with pytest.raises(ValueError, match=r"zero at time 3, .*largest usable time is 2: choose tau"):
        concordance_index_uno(train, test, [3, 2, 1], convention="sksurv")
    assert concordance_index_uno(train, test, [3, 2, 1], tau=3, convention="sksurv") == 1.0
    # Just before time 3 there is someone left.
    assert concordance_index_uno(train, test, [3, 2, 1]) == 1.0


def step_survival(rng, n, grid):
    """Draw curves with many equal values."""
    drops = rng.integers(0, 3, (n, len(grid))) / (2 * len(grid) + 1)
    return pd.DataFrame(1 - np.cumsum(drops, axis=1), columns=grid)


def antolini(time, event, s, method):
    """The three rules pair by pair; s[i, j] is the survival of j at the time of i."""
    score = comparable = 0.0
    for i in range(len(time)):
        for j in range(len(time)):
            if i == j:
                continue
            less, equal = s[i, j] > s[i, i], s[i, j] == s[i, i]
            both = time[i] == time[j] and event[i] and event[j]
            forward = event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j]))
            backward = event[j] and not event[i] and time[i] == time[j]
            if forward:
                comparable += 1
                score += less + (0.5 * equal if method != "strict" else 0)
            elif method == "adjusted" and both:
                comparable += 1
                score += 1.0 if equal else 0.5
            elif method == "adjusted" and backward:
                comparable += 1
                score += (s[i, i] > s[i, j]) + 0.5 * equal
    return score / comparable


@quick
@given(seeds)
def test_antolini_as_pycox_and_definition(seed):
    rng, time, event, _ = tied(seed)
    grid = np.array([0.0, 1.5, 2.0, 3.0, 4.5, 6.0])
    survival = step_survival(rng, len(time), grid)
    column = np.searchsorted(grid, time, side="right") - 1
    at_times = survival.to_numpy()[:, column].T
    theirs = EvalSurv(survival.T, time, event.astype(int))
    for mine, pycox in (("strict", "antolini"), ("adjusted", "adj_antolini"), ("harrell", None)):
        value = concordance_index_antolini((time, event), survival, method=mine)
        assert value == pytest.approx(antolini(time, event, at_times, mine), abs=1e-10)
        if pycox:
            assert value == pytest.approx(theirs.concordance_td(pycox), abs=1e-10)


@quick
@given(seeds)
def test_antolini_is_harrell_for_proportional_hazards(seed):
    _, time, event, risk = tied(seed)
    times = np.unique(time)
    survival = np.exp(-0.01 * np.outer(np.exp(risk), times))
    value = concordance_index_antolini((time, event), survival, times, method="harrell")
    assert value == pytest.approx(concordance_index((time, event), risk), abs=1e-12)


def test_antolini_of_a_constant_prediction():
    time, event = np.array([1, 2, 3, 4.0, 5]), np.array([1, 1, 0, 1, 0])
    survival = pd.DataFrame(np.tile([0.8, 0.5], (5, 1)), columns=[1.0, 3.0])
    for method, expected in (("adjusted", 0.5), ("harrell", 0.5), ("strict", 0.0)):
        assert concordance_index_antolini((time, event), survival, method=method) == expected


def test_antolini_in_chunks(monkeypatch):
    rng, time, event, _ = tied(5, smallest=30)
    survival = step_survival(rng, len(time), np.arange(8.0))
    whole = [
        concordance_index_antolini((time, event), survival, method=method)
        for method in ("adjusted", "strict", "harrell")
    ]
    monkeypatch.setattr("mmfusion.metrics.concordance.CHUNK", 100)
    parts = [
        concordance_index_antolini((time, event), survival, method=method)
        for method in ("adjusted", "strict", "harrell")
    ]
    assert parts == whole


def test_antolini_before_the_grid_survival_is_one():
    y = ([1.0, 2.0], [1, 1])
    assert concordance_index_antolini(y, [[0.1], [0.9]], [1.5], method="harrell") == 0.5


@quick
@given(seeds)
def test_count_below_follows_its_definition(seed):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 50, 2)
    rank = rng.integers(0, rng.integers(1, 20), n)
    start, stop = np.sort(rng.integers(0, n + 1, (2, m)), axis=0)
    bound = rng.integers(0, rank.max() + 1, m)
    weight = rng.random(n)
    ranges = [slice(a, b) for a, b in zip(start, stop, strict=True)]
    expected = [(rank[r] < q).sum() for r, q in zip(ranges, bound, strict=True)]
    np.testing.assert_array_equal(count_below(rank, start, stop, bound), expected)
    weighted = [weight[r] @ (rank[r] < q) for r, q in zip(ranges, bound, strict=True)]
    np.testing.assert_allclose(count_below(rank, start, stop, bound, weight), weighted, atol=1e-12)


Y = surv([1.0, 2.0, 3.0], [1, 1, 0])
ENTRY = surv([1.0, 2.0, 3.0], [1, 1, 0], [0.0, 1.5, 0.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: concordance_index(Y, [1, 2]), r"shape \(3,\). Got \(2,\)"),
        (lambda: concordance_index(Y, [1, np.nan, 2]), r"NaN in rows \[1\]"),
        (lambda: concordance_index(([1, 2], [0, 1]), [1, 2]), "comparable pair"),
        (lambda: concordance_index(([1, 2], [0, 0]), [1, 2]), "at least one event"),
        (lambda: concordance_index(Y, [1, 2, 3], strata=["a"]), "strata parameter"),
        (lambda: concordance_index(Y, [1, 2, 3], strata=["a", None, "a"]), "Got some in rows 1"),
        (lambda: concordance_index(Y, [1, 2, 3], sample_weight=[1, 2]), "sample_weight parameter"),
        (lambda: concordance_index(Y, [1, 2, 3], sample_weight=[1, -2, 1]), "none negative"),
        (lambda: concordance_index_uno(Y, ENTRY, [1, 2, 3]), "not defined for delayed entry"),
        (lambda: concordance_index_uno(Y, Y, [1, 2, 3], tau=0.5), "comparable pair"),
        (lambda: concordance_index_antolini(Y, np.ones((3, 1))), "times parameter must be given"),
        (lambda: concordance_index_antolini(Y, np.ones((3, 2)), [1.0]), r"shape \(3, 1\). Got"),
        (lambda: concordance_index_antolini(Y, np.full((3, 1), 1.2), [1.0]), r"\[0, 1\]. Got 1.2"),
        (lambda: concordance_index_antolini(Y, np.ones((3, 2)), [2, 1]), "strictly increasing"),
        (lambda: concordance_index_antolini(Y, np.ones((3, 1)), [1], method="x"), "Got 'x'"),
        (lambda: concordance_index_antolini(ENTRY, np.ones((3, 1)), [1]), "delayed entry"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_checked_outcomes_are_taken():
    assert concordance_index(check_survival(Y), [3, 2, 1]) == 1.0
