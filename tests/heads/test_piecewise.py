"""The piecewise exponential head against models of expanded rows and closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize_scalar

from mmfusion.heads import CoxHead, PiecewiseExponentialHead
from mmfusion.structured import Likelihood, fit_structured
from mmfusion.structured.blocks import Block
from mmfusion.structured.design import Design
from mmfusion.structured.rows import Dense
from mmfusion.survival import surv

CUTS = [0.4, 1.0, 2.0, 3.5]


def outcome(n: int = 80, n_causes: int = 1, seed: int = 0) -> Any:
    """Return an outcome with delayed entry; the last events lie beyond the last cut."""
    rng = np.random.default_rng(seed)
    time = rng.exponential(1.5, n) + 0.05
    entry = np.where(rng.random(n) < 0.4, rng.random(n) * time, -np.inf)
    return surv(time, rng.integers(0, n_causes + 1, n), entry)


def expanded(y: Any, cuts: np.ndarray) -> pd.DataFrame:
    """Return a row a subject and interval in which it is at risk, as pammtools' as_ped."""
    rows = []
    for i, (event, time, entry) in enumerate(zip(y["event"], y["time"], y["entry"], strict=True)):
        for j in range(len(cuts) - 1):
            exposure = min(time, cuts[j + 1]) - max(entry, cuts[j])
            if exposure > 0:
                here = cuts[j] < time <= cuts[j + 1]
                rows.append((i, j, exposure, int(event) * here))
    return pd.DataFrame(rows, columns=["row", "interval", "exposure", "event"])


def shared_design(x: np.ndarray, n_intervals: int) -> Design:
    """Return a constant an interval, and one effect of each column of x on all of them."""
    p = n_intervals + x.shape[1]
    ones = Block(Dense(np.ones((len(x), 1))), np.eye(n_intervals), np.arange(n_intervals)[:, None])
    effects = Block(Dense(x), np.ones((n_intervals, 1)), np.arange(n_intervals, p)[None])
    return Design(len(x), n_intervals, p, (ones, effects))


def test_the_likelihood_is_that_of_counts_on_expanded_rows() -> None:
    y, rng = outcome(), np.random.default_rng(1)
    weight = rng.random(len(y))
    head = PiecewiseExponentialHead(cuts=CUTS)
    target = head.fit_outcome(y, weight)
    eta = torch.from_numpy(rng.normal(size=(len(y), len(CUTS))))
    table = expanded(y, head.cuts_)
    offset = np.log(table["exposure"])
    own = eta.numpy()[table["row"], table["interval"]]
    counts = sm.families.Poisson()
    theirs = np.sum(
        weight[table["row"]]
        * (counts.loglike_obs(table["event"], np.exp(own + offset)) - table["event"] * offset)
    )
    assert_allclose(-float(head.loss(eta, target)) * weight.sum(), theirs, rtol=1e-12)
    gradient, curvature = head.derivatives(eta, target)
    mean = np.zeros(eta.shape)
    mean[table["row"], table["interval"]] = np.exp(own + offset)
    assert_allclose(curvature * weight.sum(), mean * weight[:, None], rtol=1e-12)
    events = np.zeros(eta.shape)
    events[table["row"], table["interval"]] = table["event"]
    assert_allclose(gradient * weight.sum(), (mean - events) * weight[:, None], atol=1e-13)


def test_a_fit_is_the_poisson_regression_with_offset() -> None:
    y, rng = outcome(200), np.random.default_rng(1)
    x = rng.normal(size=(200, 2))
    head = PiecewiseExponentialHead(cuts=CUTS)
    likelihood = Likelihood(head, head.fit_outcome(y))
    fit = fit_structured(likelihood, shared_design(x, len(CUTS)))
    table = expanded(y, head.cuts_)
    design = np.column_stack([np.eye(len(CUTS))[table["interval"]], x[table["row"]]])
    offset = np.log(table["exposure"])
    theirs = sm.GLM(table["event"], design, family=sm.families.Poisson(), offset=offset).fit(
        tol=1e-14
    )
    assert_allclose(fit.coef, theirs.params, atol=1e-8)
    assert_allclose(fit.covariance.dense(), theirs.cov_params(), rtol=1e-7)
    constant = float((table["event"] * offset).sum())
    assert_allclose(fit.log_likelihood, theirs.llf - constant, rtol=1e-10)


@pytest.mark.parametrize("n_causes", [1, 3])
def test_derivatives_are_those_of_the_loss(n_causes: int) -> None:
    y = outcome(20, n_causes)
    head = PiecewiseExponentialHead(cuts=CUTS)
    target = head.fit_outcome(y)
    eta = torch.from_numpy(np.random.default_rng(2).normal(size=(20, len(CUTS) * n_causes)))
    leaf = eta.clone().requires_grad_()
    (by_autograd,) = torch.autograd.grad(head.loss(leaf, target), leaf, create_graph=True)
    gradient, curvature = head.derivatives(eta, target)
    assert_allclose(gradient, by_autograd.detach(), atol=1e-14)
    assert_allclose(head.gradient(eta, target), gradient)
    (second,) = torch.autograd.grad(by_autograd.sum(), leaf)
    assert_allclose(curvature, second, atol=1e-14)


def test_huge_predictors_of_intervals_without_exposure_say_nothing() -> None:
    head = PiecewiseExponentialHead(cuts=[1.0, 2.0])
    target = head.fit_outcome(([0.5, 2.0], [True, True]))
    eta = torch.tensor([[0.0, 1000.0], [0.0, 0.0]])
    assert torch.isfinite(head.loss(eta, target))
    assert all(torch.isfinite(part).all() for part in head.derivatives(eta, target))


def test_exposures_are_the_overlap_and_sum_to_the_time_at_risk() -> None:
    y = outcome(300)
    head = PiecewiseExponentialHead(cuts=[0.3, 0.7, 1.0, 20.0])
    target = head.fit_outcome(y)
    exposure = target.exposure().numpy()
    table = expanded(y, head.cuts_)
    assert_allclose(exposure[table["row"], table["interval"]], table["exposure"], rtol=1e-12)
    assert np.count_nonzero(exposure) == len(table)
    assert_allclose(exposure.sum(1), y["time"] - y["entry"].clip(0), rtol=1e-12)


def test_one_interval_is_exponential_regression() -> None:
    y = surv([1.0, 2.0, 4.0, 0.5], [1, 0, 1, 1])
    head = PiecewiseExponentialHead(n_intervals=1)
    target = head.fit_outcome(y)
    assert_array_equal(head.cuts_, [0, 4])
    rate = 3 / 7.5
    assert_allclose(head.initial(target), np.log(rate))
    fit = fit_structured(Likelihood(head, target), np.ones((4, 1)))
    assert_allclose(fit.coef, np.log(rate))
    assert_allclose(fit.log_likelihood, 3 * np.log(rate) - 3)
    group = np.column_stack([np.ones(4), [0, 0, 1, 1]])
    two = fit_structured(Likelihood(head, target), group)
    assert_allclose(two.coef, [np.log(1 / 3), np.log((2 / 4.5) / (1 / 3))])
    assert_allclose(two.covariance.diagonal(), [1.0, 1 + 1 / 2])
    assert_allclose(head.survival(fit.coef[None], [2.0]), np.exp(-2 * rate))
    assert_allclose(head.quantile(fit.coef[None], 0.5), np.log(2) / rate)
    assert_allclose(
        head.restricted_mean(fit.coef[None], 3.0), (1 - np.exp(-3 * rate)) / rate, rtol=1e-12
    )


def test_splitting_an_interval_with_a_shared_level_changes_nothing() -> None:
    y = outcome()
    coarse, fine = (PiecewiseExponentialHead(cuts=cuts) for cuts in ([1.0, 3.5], [1.0, 1.7, 3.5]))
    eta = torch.from_numpy(np.random.default_rng(3).normal(size=(len(y), 2)))
    split = eta[:, [0, 1, 1]]
    first, second = coarse.fit_outcome(y), fine.fit_outcome(y)
    assert_allclose(coarse.loss(eta, first), fine.loss(split, second), rtol=1e-14)
    times = [0.2, 1.0, 1.3, 2.0, 3.5]
    for curve in ("survival", "cumulative_hazard", "hazard"):
        assert_allclose(
            getattr(coarse, curve)(eta, times), getattr(fine, curve)(split, times), rtol=1e-12
        )
    for what, given in (("quantile", 0.3), ("restricted_mean", 2.2)):
        assert_allclose(
            getattr(coarse, what)(eta, given), getattr(fine, what)(split, given), rtol=1e-12
        )


def test_cuts_at_all_event_times_are_breslows_cox_model() -> None:
    """Censored rows leave at the last event before them, as in Cox's risk sets."""
    y, rng = outcome(150, seed=4), np.random.default_rng(4)
    x = rng.normal(size=(150, 2))
    time, event = np.ceil(4 * y["time"]) / 4, y["event"]
    events = np.unique(time[event])
    back = np.searchsorted(events, time, side="right") - 1
    kept = event | (back >= 0)
    moved = np.where(event, time, events[back.clip(0)])[kept]
    x, event = x[kept], event[kept]
    head = PiecewiseExponentialHead(cuts=events)
    fit = fit_structured(
        Likelihood(head, head.fit_outcome((moved, event))), shared_design(x, len(events))
    )
    cox = CoxHead("breslow")
    theirs = fit_structured(Likelihood(cox, cox.fit_outcome((moved, event))), x)
    assert_allclose(fit.coef[-2:], theirs.coef, atol=1e-6)
    assert_allclose(fit.covariance.dense()[-2:, -2:], theirs.covariance.dense(), rtol=1e-5)
    risk = np.exp(x @ theirs.coef)
    jumps = [(event & (moved == t)).sum() / risk[moved >= t].sum() for t in events]
    assert_allclose(np.exp(fit.coef[:-2]) * np.diff(head.cuts_), jumps, rtol=1e-5)


# --- predictions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("n_causes", [1, 3])
def test_curves_are_the_integrals_of_the_hazard(n_causes: int) -> None:
    head = PiecewiseExponentialHead(cuts=CUTS)
    head.fit_outcome(outcome(200, n_causes))
    eta = np.random.default_rng(5).normal(size=(6, len(CUTS) * n_causes))
    edge = np.linspace(0, 3.5, 35_001)
    middle = (edge[1:] + edge[:-1]) / 2
    hazard = head.hazard(eta, middle)
    total = np.column_stack([np.zeros(6), np.cumsum(hazard * 1e-4, axis=1)])
    times = [0.0, 0.3, 0.4, 1.7, 3.5]
    at = np.searchsorted(edge, np.array(times) - 1e-9)
    assert_allclose(head.cumulative_hazard(eta, times), total[:, at], atol=1e-9)
    survival = np.exp(-total)
    assert_allclose(head.survival(eta, times), survival[:, at], atol=1e-9)
    for cause in head.causes_:
        density = head.hazard(eta, middle, int(cause)) * (survival[:, 1:] + survival[:, :-1]) / 2
        incidence = np.column_stack([np.zeros(6), np.cumsum(density * 1e-4, axis=1)])
        found = head.cumulative_incidence(eta, times, int(cause))
        assert_allclose(found, incidence[:, at], atol=1e-6)
    area = np.trapezoid(survival[:, :20_001], edge[:20_001])
    assert_allclose(head.restricted_mean(eta, 2.0), area, atol=1e-6)
    median = head.quantile(eta, 0.5)
    reached = np.isfinite(median)
    assert reached.any()
    assert_allclose(
        [head.survival(eta[[i]], [median[i]])[0, 0] for i in np.flatnonzero(reached)], 0.5
    )


def test_incidences_and_survival_sum_to_one_whatever_times_are_asked() -> None:
    head = PiecewiseExponentialHead(cuts=CUTS)
    head.fit_outcome(outcome(300, 3))
    eta = 2 * np.random.default_rng(6).normal(size=(50, len(CUTS) * 3))
    many, few = np.linspace(0, 5, 301), np.array([0.4, 0.9, 3.1])
    parts = {cause: head.cumulative_incidence(eta, many, cause) for cause in (1, 2, 3)}
    whole = sum(parts.values()) + head.survival(eta, many)
    assert_allclose(whole, 1.0, atol=1e-12)
    at = np.searchsorted(many, few)
    for cause, curve in parts.items():
        alone = head.cumulative_incidence(eta, many[at], cause)
        assert_array_equal(alone, curve[:, at])
        assert (np.diff(curve, axis=1) >= -1e-15).all()


def test_hazards_beyond_the_grid_are_unknown() -> None:
    head = PiecewiseExponentialHead(cuts=[1.0, 2.0])
    head.fit_outcome(([0.5, 2.0], [True, True]))
    found = head.hazard(np.log([[2.0, 3.0]]), [0.0, 1.0, 1.5, 2.0, 2.5])
    assert_allclose(found, [[2.0, 2.0, 3.0, 3.0, np.nan]])


# --- intervals -----------------------------------------------------------------------------------


def test_intervals_end_at_quantiles_of_the_events() -> None:
    y = outcome(400)
    y["entry"] = -np.inf
    head = PiecewiseExponentialHead(n_intervals=10)
    target = head.fit_outcome(y)
    events = y["time"][y["event"]]
    assert set(head.cuts_[1:]) <= set(events)
    assert head.cuts_[-1] == events.max()
    counts = np.histogram(events, head.cuts_)[0]
    assert counts.max() - counts.min() <= 2
    assert PiecewiseExponentialHead().fit_outcome(y).n_intervals == 50
    assert float(target.happened().sum()) == len(events)


def test_the_grid_starts_where_the_first_row_enters() -> None:
    y = surv([62.0, 55.0, 71.0, 66.0], [1, 1, 1, 0], [50.0, 51.0, 60.0, 61.0])
    head = PiecewiseExponentialHead(n_intervals=2)
    target = head.fit_outcome(y)
    assert head.cuts_[0] == 50
    assert_allclose(target.exposure().sum(1), [12, 4, 11, 5])
    eta = np.full((1, 2), np.log(0.1))
    assert_allclose(head.survival(eta, [0.0, 50.0, 60.0]), [[1, 1, np.exp(-1)]])
    assert_allclose(head.restricted_mean(eta, 60.0), 50 + (1 - np.exp(-1)) / 0.1)
    given = PiecewiseExponentialHead(cuts=[40, 60, 80])
    given.fit_outcome(y)
    assert_array_equal(given.cuts_, [40, 60, 80])
    early = given.encode(surv([30.0], [1]))  # before anyone was at risk
    assert float(given.loss(torch.zeros(1, 2), early)) == 0.0
    assert not given.events(early).any()


def test_delayed_entry_within_coarse_intervals_counts_from_the_entry() -> None:
    """pammtools refuses or miscounts it (its issue 237)."""
    y = surv([3.0, 5.0], [1, 1], [2.5, 1.0])
    target = PiecewiseExponentialHead(cuts=[4.0, 6.0]).fit_outcome(y)
    assert_allclose(target.exposure(), [[0.5, 0.0], [3.0, 1.0]])


@pytest.mark.parametrize(
    ("cuts", "kept", "merged"),
    [
        ([1, 2, 3, 4], [0, 1, 4], r"\(1, 2\], \(2, 3\]"),
        ([0.1, 1, 4], [0, 1, 4], r"\(0, 0.1\]"),
        ([1, 3.5, 3.8, 4.2], [0, 1, 3.5, 4.2], r"\(3.8, 4.2\]"),
    ],
)
def test_intervals_without_events_are_merged(cuts: Any, kept: Any, merged: str) -> None:
    y = surv([0.5, 0.7, 3.4, 3.6, 4.0], [1, 1, 0, 1, 0])
    if cuts[1] == 3.5:
        y["event"][2] = True
    head = PiecewiseExponentialHead(cuts=cuts)
    with pytest.warns(UserWarning, match=f"intervals {merged} have no events: they are merged"):
        head.fit_outcome(y)
    assert_array_equal(head.cuts_, kept)


def test_bad_input_names_rows() -> None:
    y = pd.DataFrame({"time": [1.0, 3.0], "event": [1, 1]}, index=["ann", "bob"])
    with pytest.raises(ValueError, match=r"after 3, the last time, of row 'bob'.*\(9, 12\]"):
        PiecewiseExponentialHead(cuts=[9, 12]).fit_outcome(y, index=y.index)
    with pytest.raises(ValueError, match=r"must reach the first event, at 1"):
        PiecewiseExponentialHead(cuts=[0.5]).fit_outcome(y)
    head = PiecewiseExponentialHead(cuts=[2.0, 4.0])
    head.fit_outcome(y)
    with pytest.raises(ValueError, match=r"cause seen in training: \[1\]. Got row 'bob' \(2\)"):
        head.encode(y.assign(event=[0, 2]), index=y.index)
    with pytest.raises(ValueError, match=r"cause parameter must be one of \[1\]. Got 3"):
        head.hazard(np.zeros((1, 2)), [1.0], 3)
    with pytest.raises(ValueError, match=r"Entry times .* before .* Got row 'ann' \(1\)"):
        head.fit_outcome(y.assign(entry=[1.0, 0.0]), index=y.index)
    rows = surv([2.0, 4.0, 3.0], [0, 1, 1], [0.0, 1.5, 0.0])
    target = PiecewiseExponentialHead(cuts=[2.0, 4.0]).fit_outcome(rows)
    with pytest.raises(ValueError, match=r"Got rows 'a', 'b', on \(0, 2\] and \(1.5, 4\]"):
        head.check_subjects(target, np.array([0, 0, 1]), ["a", "b", "c"])
    head.check_subjects(target, np.array([0, 1, 2]), ["a", "b", "c"])


# --- what formulas and networks move -------------------------------------------------------------


def test_the_predictors_of_causes_and_their_bases() -> None:
    head = PiecewiseExponentialHead(cuts=[0.3, *CUTS], time_varying=True, shared=True)
    head.fit_outcome(outcome(300, 2))
    assert head.grid.names[5] == "cause_2_interval_1"
    assert head.parameters.names == ("cause_1", "cause_2", "shared")
    assert_array_equal(head.parameters.matrix.sum(0), [5, 5, 10])
    assert head.baseline == "s(t)"
    assert head.constants.names == ("cause_1", "cause_2")
    assert head.deep_groups == (0,) * 5 + (1,) * 5
    assert head.deep_basis.names[4] == "cause_2_power_0"
    powers = head.deep_basis.matrix[:5, :4]
    assert_allclose(np.square(powers).mean(0), 1.0)
    assert_allclose(powers[:, 0], 1.0)
    assert np.linalg.matrix_rank(powers) == 4
    steps = PiecewiseExponentialHead(cuts=CUTS, baseline=None)
    steps.fit_outcome(outcome(300, 2))
    assert steps.constants.names[4] == "cause_2 baseline (0, 0.4]"
    assert PiecewiseExponentialHead(cuts=CUTS).fit_outcome(outcome()).n_intervals == 4


def test_tiny_hazards_come_back_from_their_law() -> None:
    head = PiecewiseExponentialHead(cuts=CUTS)
    head.fit_outcome(outcome(100, 2))
    eta = np.random.default_rng(0).uniform(-50, -20, size=(5, 8))
    assert_allclose(head.from_law(head.law(eta)), eta, rtol=1e-12)
    assert_allclose(np.exp(head.law(eta)).sum(1), 1.0)


def test_state_is_what_predictions_need() -> None:
    head = PiecewiseExponentialHead(cuts=CUTS)
    head.fit_outcome(outcome(100, 2))
    again = PiecewiseExponentialHead()
    again.load_state(head.state())
    eta = np.random.default_rng(0).normal(size=(3, 8))
    assert_array_equal(again.survival(eta, [1.0]), head.survival(eta, [1.0]))
    assert_array_equal(again.parameters.matrix, head.parameters.matrix)


# --- events that lie in an interval of time ------------------------------------------------------


def visits(n: int = 60, seed: int = 0) -> Any:
    """Return an outcome of exact, censored and interval-censored rows, some with late entry."""
    rng = np.random.default_rng(seed)
    time = rng.uniform(0.05, 2.0, n)
    kind = rng.integers(0, 3, n)
    upper = np.where(kind == 2, time + rng.uniform(0.1, 1.4, n), np.nan)
    entry = np.where(rng.random(n) < 0.3, 0.5 * time, -np.inf)
    return surv(time, kind > 0, entry, upper=upper)


def test_an_event_in_an_interval_has_the_fall_of_the_survival() -> None:
    y, head = visits(), PiecewiseExponentialHead(cuts=CUTS)
    target = head.fit_outcome(y)
    eta = torch.from_numpy(np.random.default_rng(1).normal(size=(60, 4)))
    wanted = 0.0
    for i, row in enumerate(y):
        one = eta[[i]]
        log_entry = -head.cumulative_hazard(one, [max(row["entry"], 0.0)])[0, 0]
        survival = head.survival(one, [row["time"], max(row["upper"], row["time"])])[0]
        if np.isfinite(row["upper"]):
            wanted += np.log(survival[0] - survival[1]) - log_entry
        else:
            wanted += np.log(survival[0]) - log_entry
            wanted += row["event"] * np.log(head.hazard(one, [row["time"]])[0, 0])
    assert_allclose(-float(head.loss(eta, target)) * 60, wanted, rtol=1e-10)
    leaf = eta.clone().requires_grad_()
    (by_autograd,) = torch.autograd.grad(head.loss(leaf, target), leaf, create_graph=True)
    gradient, curvature = head.derivatives(eta, target)
    assert_allclose(gradient, by_autograd.detach(), atol=1e-13)
    columns = [
        torch.autograd.grad(by_autograd[:, k].sum(), leaf, retain_graph=True)[0] for k in range(4)
    ]
    assert_allclose(curvature, torch.stack(columns, 1), atol=1e-13)


def test_one_interval_of_events_in_intervals_has_the_likelihood_of_exponential_times() -> None:
    y, head = visits(200), PiecewiseExponentialHead(n_intervals=1)
    target = head.fit_outcome(y)
    assert head.cuts_[-1] == np.nanmax(y["upper"])
    fit = fit_structured(Likelihood(head, target), np.ones((200, 1)))
    entry = y["entry"].clip(0)

    def loss(log_rate: float) -> float:
        rate = np.exp(log_rate)
        between = np.isfinite(y["upper"])
        exact = np.where(y["event"] & ~between, log_rate, 0.0) - rate * (y["time"] - entry)
        width = np.where(between, y["upper"] - y["time"], 1.0)
        chance = np.where(between, np.log(-np.expm1(-rate * width)), 0.0)
        return float(-(exact + chance).sum())

    best = minimize_scalar(loss, bounds=(-5, 5), method="bounded", options={"xatol": 1e-10})
    assert_allclose(fit.coef, best.x, atol=1e-7)
    assert_allclose(fit.log_likelihood, -best.fun, rtol=1e-12)


def test_outcomes_with_intervals_are_read_in_their_forms() -> None:
    y = surv([1.0, 2.0, 3.0], [1, 0, 1], upper=[1.5, np.inf, 3.0])
    assert y.dtype.names == ("event", "time", "upper")
    table = pd.DataFrame({"lower": [1.0, 2.0, 3.0], "upper": [1.5, np.inf, 3.0]})
    heads = [PiecewiseExponentialHead(cuts=[1.2, 4.0]) for _ in range(2)]
    first, second = (head.fit_outcome(given) for head, given in zip(heads, (y, table), strict=True))
    for name in ("time", "cause", "interval", "between"):
        assert_array_equal(getattr(first, name), getattr(second, name))
    assert_array_equal(first.exposure(), second.exposure())
    assert_allclose(first.between, [[0.2, 0.3], [0, 0], [0, 0]])
    assert_array_equal(first.interval, [-1, -1, 1])
    late = heads[0].encode(surv([3.5], [1], upper=[9.0]))  # ends beyond the grid: censored at 3.5
    assert not heads[0].events(late).any()
    assert not late.between.any()
    part = first.take(torch.tensor([1, 0]))
    assert_allclose(part.between[1], [0.2, 0.3])


def test_bad_intervals_name_rows() -> None:
    with pytest.raises(ValueError, match=r"must not lie before the time. Got row 0 \(0.5\)"):
        surv([1.0], [1], upper=[0.5])
    with pytest.raises(ValueError, match=r"those of events: a censored row has none. Got row 1"):
        surv([1.0, 1.0], [1, 0], upper=[2.0, 2.0])
    y = surv([1.0, 2.0], [1, 1], upper=[1.5, np.nan])
    with pytest.raises(ValueError, match=r"no interval censoring. Got an upper limit in row 0"):
        CoxHead().fit_outcome(y)
    causes = surv([1.0, 2.0, 3.0], [1, 2, 1], upper=[1.5, np.nan, np.nan])
    with pytest.raises(ValueError, match=r"must be of one cause. Got the causes \[1, 2\]"):
        PiecewiseExponentialHead(n_intervals=2).fit_outcome(causes)
