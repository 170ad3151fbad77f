"""Curves without covariates against lifelines, scikit-survival and their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter, NelsonAalenFitter
from lifelines.statistics import multivariate_logrank_test
from sksurv.nonparametric import kaplan_meier_estimator

from mmfusion.survival import (
    StepFunction,
    censoring_distribution,
    kaplan_meier,
    log_rank_test,
    median_follow_up,
    nelson_aalen,
)

seeds = st.integers(0, 2**32 - 1)
quick = settings(max_examples=60)


def tied(seed, entry=False):
    """Draw times with many ties; entries stand between the times, see test_entry_at_an_exit."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 40))
    time = rng.integers(1, 9, n).astype(float)
    event = rng.random(n) < rng.uniform(0.2, 0.9)
    event[0] = True
    if not entry:
        return time, event
    return time, event, np.floor(rng.uniform(0, time)) - 0.5


def test_step_function_is_right_continuous_and_constant_outside():
    step = StepFunction([1.0, 3.0], [0.5, 0.25], initial=2.0)
    np.testing.assert_array_equal(step([0.9, 1.0, 2.0, 3.0, 100.0]), [2.0, 0.5, 0.5, 0.25, 0.25])
    np.testing.assert_array_equal(step.left([1.0, 1.1, 3.0]), [2.0, 0.5, 0.5])
    assert step.domain_ == (1.0, 3.0)
    assert step(np.ones((2, 3))).shape == (2, 3)
    assert np.isnan(step(np.nan))
    assert "2 steps on [1, 3]" in repr(step)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1.0, 1.0], [1, 1], "strictly increasing"),
        ([1.0], [1, 1], "the same length"),
        ([], [], "non-empty"),
    ],
)
def test_step_function_refuses(x, y, message):
    with pytest.raises(ValueError, match=message):
        StepFunction(x, y)


@quick
@given(seeds)
def test_kaplan_meier_as_lifelines(seed):
    time, event = tied(seed)
    weight = np.random.default_rng(seed).integers(1, 4, len(time))
    for w in (None, weight):
        mine = kaplan_meier(time, event, weight=w)
        theirs = KaplanMeierFitter().fit(time, event, weights=w)
        curve = theirs.survival_function_["KM_estimate"].loc[mine.x].to_numpy()
        np.testing.assert_allclose(mine.y, curve, atol=1e-12)
        lower, upper = mine.confidence_interval()
        above = mine.y > 1e-12  # at zero lifelines writes 0, here the interval is unknown
        bounds = theirs.confidence_interval_.loc[mine.x].to_numpy()
        np.testing.assert_allclose(lower[above], bounds[above, 0], atol=1e-10)
        np.testing.assert_allclose(upper[above], bounds[above, 1], atol=1e-10)
        assert np.isnan(lower[mine.y == 0]).all()


@quick
@given(seeds)
def test_delayed_entry_as_lifelines(seed):
    time, event, entry = tied(seed, entry=True)
    # Rows observed throughout: lifelines refuses risk sets that all have the event early on.
    time = np.append(time, [9.0] * 9)
    event, entry = np.append(event, [False] * 9), np.append(entry, [-0.5] * 9)
    mine = kaplan_meier(time, event, entry)
    theirs = KaplanMeierFitter().fit(time, event, entry=entry).survival_function_["KM_estimate"]
    np.testing.assert_allclose(mine.y, theirs.loc[mine.x].to_numpy(), atol=1e-12)


@quick
@given(seeds)
def test_weight_two_is_two_rows(seed):
    time, event, entry = tied(seed, entry=True)
    weight = np.random.default_rng(seed).integers(1, 4, len(time))
    twice = [np.repeat(part, weight) for part in (time, event, entry)]
    for estimate in (kaplan_meier, nelson_aalen, censoring_distribution):
        one, other = estimate(time, event, entry, weight), estimate(*twice)
        np.testing.assert_allclose(one.y, other.y, atol=1e-12)
        np.testing.assert_array_equal(one.at_risk, other.at_risk)


def risk_set(t, time, entry):
    return (entry < t) & (time >= t)


@quick
@given(seeds)
def test_curves_follow_their_definitions(seed):
    time, event, entry = tied(seed, entry=True)
    entry = np.ceil(entry) - (np.random.default_rng(seed).random(len(time)) < 0.5)
    entry = np.minimum(entry, time - 1)  # now entries fall on exit times too
    survival = hazard = free = 1.0
    hazard = greenwood = aalen = 0.0
    km, na = kaplan_meier(time, event, entry), nelson_aalen(time, event, entry)
    g = censoring_distribution(time, event, entry)
    for k, t in enumerate(np.unique(time)):
        r = risk_set(t, time, entry).sum()
        d, c = (event & (time == t)).sum(), (~event & (time == t)).sum()
        survival *= 1 - d / r
        hazard += d / r
        aalen += d / r**2
        if d:
            greenwood += d / (r * (r - d)) if r > d else np.inf
        if c:
            free *= 1 - c / (r - d)  # the events have left
        assert km.at_risk[k] == r
        assert km(t) == pytest.approx(survival, abs=1e-12)
        assert na(t) == pytest.approx(hazard, abs=1e-12)
        assert na.variance[k] == pytest.approx(aalen, abs=1e-12)
        assert g(t) == pytest.approx(free, abs=1e-12)
        if survival > 1e-12:
            assert km.variance[k] == pytest.approx(survival**2 * greenwood, abs=1e-12)
        else:
            assert np.isnan(km.variance[k])


def test_entry_at_an_exit():
    """A row is at risk on (entry, time]: R's and the Cox model's rule; lifelines takes [entry."""
    mine = kaplan_meier([1.0, 2.0, 3.0], [1, 1, 1], entry=[0.0, 0.0, 1.0])
    np.testing.assert_array_equal(mine.at_risk, [2, 2, 1])


@quick
@given(seeds)
def test_nelson_aalen_as_lifelines(seed):
    time, event = tied(seed)
    theirs = NelsonAalenFitter(nelson_aalen_smoothing=False).fit(time, event)
    mine = nelson_aalen(time, event)
    curve = theirs.cumulative_hazard_["NA_estimate"].loc[mine.x].to_numpy()
    np.testing.assert_allclose(mine.y, curve, atol=1e-12)
    assert mine(0.0) == 0.0


@quick
@given(seeds)
def test_censoring_as_scikit_survival(seed):
    time, event = tied(seed)
    x, y = kaplan_meier_estimator(event, time, reverse=True)
    mine = censoring_distribution(time, event)
    np.testing.assert_array_equal(mine.x, x)
    np.testing.assert_allclose(mine.y, y, atol=1e-12)


@settings(max_examples=200)
@given(seeds)
def test_curves_of_fractional_weights_stay_in_bounds(seed):
    time, event, entry = tied(seed, entry=True)
    rng = np.random.default_rng(seed)
    # Sums of these differ by their order.
    weight = rng.choice([0.1, 0.7, 0.1 + 0.7, 0.1 + 0.2, 1 / 3, 1e-9, 0.0], len(time))
    weight[0] = 1.0
    for start in (None, entry):
        for estimate in (kaplan_meier, censoring_distribution):
            curve = estimate(time, event, start, weight)
            there = weight > 0
            began = -np.inf if start is None else entry
            ended = event if estimate is kaplan_meier else ~event
            # Before the censorings at a time come its events.
            gone = np.zeros(len(time), dtype=bool) if estimate is kaplan_meier else event
            for t, y, at_risk, events, spread in zip(
                curve.x, curve.y, curve.at_risk, curve.events, curve.greenwood, strict=True
            ):
                here = there & (began < t) & (time >= t) & ~(gone & (time == t))
                leaving = here & ended & (time == t)
                assert at_risk >= events
                if leaving.any() and leaving.sum() == here.sum():
                    assert at_risk == events
                    assert y == 0
                    assert spread == np.inf
            assert (curve.y >= 0).all()
            assert (curve.y <= 1).all()
            assert (np.diff(curve.y) <= 0).all()
            assert (np.diff(curve.greenwood[np.isfinite(curve.greenwood)]) >= 0).all()


def test_a_curve_of_rounded_sums_reaches_zero():
    weight = [0.7 + 0.1, 1.0, 0.1 + 0.1]
    curve = censoring_distribution([7, 7, 1], [0, 1, 0], [5, 4, 0], weight)
    assert curve.y.tolist() == [0.0, 0.0]
    assert curve.greenwood.tolist() == [np.inf, np.inf]
    alone = censoring_distribution([7, 7], [0, 1], weight=weight[:2])
    assert alone.y.tolist() == [0.0]
    assert alone.greenwood.tolist() == [np.inf]


def test_the_two_conventions_of_censoring():
    time, event = [1, 1, 2, 2, 3], np.array([1, 0, 1, 0, 1], bool)
    np.testing.assert_allclose(censoring_distribution(time, event)([1, 2]), [0.75, 0.375])
    np.testing.assert_allclose(kaplan_meier(time, ~event)([1, 2]), [0.8, 0.8 * 2 / 3])


def test_causes_all_end_the_time_at_risk_of_censoring():
    one = censoring_distribution([1, 2, 3, 4], [1, 0, 2, 0])
    np.testing.assert_array_equal(one.y, censoring_distribution([1, 2, 3, 4], [1, 0, 1, 0]).y)


def test_interval_at_times():
    curve = kaplan_meier([1, 2, 3, 4], [1, 1, 0, 0])
    lower, upper = curve.confidence_interval([0.5, 1.0, 1.5, 9.0], level=0.9)
    assert lower[0] == upper[0] == 1.0
    assert lower[1] == lower[2]
    assert (lower[1:] < curve([1.0, 1.5, 9.0])).all()
    assert (upper[1:] > curve([1.0, 1.5, 9.0])).all()
    wide, narrow = curve.confidence_interval(level=0.99), curve.confidence_interval(level=0.5)
    assert (wide[0] < narrow[0]).all()
    with pytest.raises(ValueError, match="level parameter"):
        curve.confidence_interval(level=95)


@quick
@given(seeds, st.integers(2, 4))
def test_log_rank_as_lifelines(seed, n_groups):
    time, event = tied(seed)
    group = np.random.default_rng(seed).integers(0, n_groups, len(time))
    group[:2] = [0, 1]
    codes = np.unique(group, return_inverse=True)[1]  # lifelines wants every group to be there
    theirs = multivariate_logrank_test(time, codes, event)
    if not np.isfinite(theirs.test_statistic) or abs(theirs.test_statistic) > 1e6:
        return  # lifelines inverts a singular matrix
    mine = log_rank_test(time, event, group.astype(str))
    assert mine.statistic == pytest.approx(theirs.test_statistic, abs=1e-8)
    assert mine.p_value == pytest.approx(theirs.p_value, abs=1e-8)
    assert mine.degrees_of_freedom == len(np.unique(group)) - 1


def test_median_follow_up_is_that_of_the_censorings():
    """Nobody censored early, though all others die early."""
    time = [1, 1, 2, 2, 3, 3, 8, 9, 10]
    assert median_follow_up(time, [1] * 6 + [0] * 3) == 9.0
    assert median_follow_up(time, [2] * 6 + [0] * 3) == 9.0
    assert median_follow_up([4, 5], [0, 0], weight=[1, 3]) == 5.0
    assert np.isnan(median_follow_up([1, 2, 3], [0, 1, 1]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kaplan_meier([-1.0], [1]), "Times in the outcome must not be negative"),
        (lambda: kaplan_meier([1.0], [1], weight=[1.0, 2.0]), "one value for each of the 1 rows"),
        (lambda: kaplan_meier([1.0], [1], weight=[-1.0]), "finite numbers, none negative"),
        (lambda: log_rank_test([1, 2], [1, 1], ["a", "a"]), r"two groups. Got \['a'\]"),
        (lambda: log_rank_test([1, 2], [1, 1], ["a"]), "one label for each of the 2 rows"),
        (
            lambda: log_rank_test([1, 2], [1, 1], [1.0, np.nan]),
            "no missing labels. Got some in rows 1",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
