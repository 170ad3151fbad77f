"""The Cox head: outcomes, batches, baselines, predictions, what it saves, what it refuses."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch

from mmfusion.heads import CoxHead, CoxTarget
from mmfusion.heads.cox import CoxPlan, cox_gradient, cox_loss, plan
from mmfusion.metrics import concordance_index
from mmfusion.survival import Survival
from tests.heads.cox_reference import Cohort, baseline, draw, negative_log_likelihood

TIES = ["efron", "breslow"]


def outcome(cohort: Cohort) -> Survival:
    return Survival(cohort.time.numpy(), cohort.event.numpy(), cohort.entry.numpy())


def fitted(
    cohort: Cohort, eta: np.ndarray, ties: str = "efron", strata: bool = False
) -> tuple[CoxHead, CoxTarget]:
    head = CoxHead(ties)
    labels = cohort.stratum.numpy() if strata else None
    target = head.fit_outcome(outcome(cohort), cohort.weight.numpy(), strata=labels)
    head.finish(torch.from_numpy(eta)[:, None], target)
    return head, target


def log_hazards(n: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, scale, n)


# Outcome and loss


def test_loss_and_gradient_are_those_of_the_likelihood():
    cohort = draw(0, 40, weighted=True, delayed=True, n_strata=3)
    head = CoxHead("breslow")
    target = head.fit_outcome(outcome(cohort), cohort.weight.numpy(), strata=cohort.stratum.numpy())
    eta = torch.from_numpy(log_hazards(40))[:, None].requires_grad_()
    wanted = negative_log_likelihood(eta[:, 0], cohort, "breslow")
    torch.testing.assert_close(head.loss(eta, target), wanted)
    (gradient,) = torch.autograd.grad(wanted, eta)
    torch.testing.assert_close(head.gradient(eta, target), gradient)
    design = torch.randn(40, 2, dtype=torch.float64)
    information = torch.autograd.functional.hessian(
        lambda beta: negative_log_likelihood(eta.detach()[:, 0] + design @ beta, cohort, "breslow"),
        torch.zeros(2, dtype=torch.float64),
    )
    torch.testing.assert_close(head.information(eta, target, design), information)


def test_the_plan_is_made_once_and_belongs_to_its_rows():
    cohort = draw(1, 30)
    target = CoxHead().fit_outcome(outcome(cohort))
    assert target.plan is target.plan
    part = target.take(torch.arange(10))
    assert len(part.plan) == 10
    assert target.to(torch.device("meta"))._plan is None
    assert target.to(torch.device("cpu")) is target
    assert len(target.plan) == 30


def test_stratify_labels_events_and_few_strata():
    cohort = draw(2, 40, n_strata=3)
    target = (head := CoxHead()).fit_outcome(outcome(cohort))
    np.testing.assert_array_equal(head.stratify(target), cohort.event.numpy())
    target = (head := CoxHead()).fit_outcome(outcome(cohort), strata=cohort.stratum.numpy())
    np.testing.assert_array_equal(
        head.stratify(target), cohort.event.numpy() + 2 * cohort.stratum.numpy()
    )
    target = (head := CoxHead()).fit_outcome(outcome(cohort), strata=np.arange(40))
    np.testing.assert_array_equal(head.stratify(target), cohort.event.numpy())


def test_monitor_is_harrells_c_within_strata():
    cohort = draw(3, 60, n_strata=2, weighted=True)
    eta = log_hazards(60)
    for strata in (None, cohort.stratum.numpy()):
        head = CoxHead()
        target = head.fit_outcome(outcome(cohort), cohort.weight.numpy(), strata=strata)
        monitor = head.monitor(torch.from_numpy(eta)[:, None], target)
        assert monitor.higher_is_better
        assert monitor.value == concordance_index(
            outcome(cohort), eta, strata=strata, sample_weight=cohort.weight.numpy()
        )
    censored = head.encode(([1.0, 2.0], [0, 0]), strata=[0, 1])
    assert head.monitor(torch.zeros(2, 1), censored) is None
    assert not head.informative(censored)


# Batches


@pytest.mark.parametrize(
    "setting",
    [
        {"n_times": 1000},
        {},
        {"weighted": True, "share": 0.1},
        {"n_strata": 3},
        {"n_strata": 100},
        {"delayed": True, "n_strata": 3, "weighted": True},
    ],
    ids=["plain", "ties", "weights, few events", "strata", "many strata", "everything"],
)
def test_planned_batches_are_the_batches_planned_alone(setting):
    cohort = draw(4, 200, **setting)
    head = CoxHead()
    strata = cohort.stratum.numpy() if "n_strata" in setting else None
    target = head.fit_outcome(outcome(cohort), cohort.weight.numpy(), strata=strata)
    order = torch.randperm(200)
    rows = order.split([17, 16, 17, 1, 16, 90, 43])
    eta = torch.from_numpy(log_hazards(200))
    seen = []
    batches = list(head.batches(target, rows))
    assert len(batches) == len(rows)
    for chosen, (ordered, batch) in zip(rows, batches, strict=True):
        assert sorted(ordered.tolist()) == sorted(chosen.tolist())
        seen += ordered.tolist()
        assert batch._plan is not None
        assert batch.plan.order is None
        for ties in TIES:
            alone = CoxPlan.from_outcome(*cohort.take(chosen).parts())
            torch.testing.assert_close(
                cox_loss(eta[ordered], batch.plan, ties),
                cox_loss(eta[chosen], alone, ties),
                rtol=1e-13,
                atol=0,
            )
            gradient = torch.zeros(200, dtype=torch.float64)
            gradient[ordered] = cox_gradient(eta[ordered], batch.plan, ties)
            torch.testing.assert_close(gradient[chosen], cox_gradient(eta[chosen], alone, ties))
        again = CoxTarget(batch.weight, batch.time, batch.event, batch.entry, batch.stratum)
        torch.testing.assert_close(
            head.loss(eta[ordered], batch), head.loss(eta[ordered], again), rtol=1e-13, atol=0
        )
    assert sorted(seen) == list(range(200))


def test_batches_of_rows_already_in_plan_order():
    time = torch.arange(20, 0, -1).double().numpy()
    head = CoxHead()
    target = head.fit_outcome((time, np.ones(20)))
    assert target.plan.order is None
    (ordered, batch), _ = head.batches(target, torch.randperm(20).split(10))
    assert ordered.tolist() == sorted(ordered.tolist())
    eta = torch.randn(20, dtype=torch.float64)
    torch.testing.assert_close(
        head.loss(eta[ordered], batch), head.loss(eta[ordered], target.take(ordered))
    )


def test_a_batch_may_be_split_into_more_strata_than_prefix_sums_serve(monkeypatch):
    monkeypatch.setattr(plan, "MAX_SPLIT_STRATA", 2)
    cohort = draw(5, 60, n_strata=5)
    head = CoxHead()
    target = head.fit_outcome(outcome(cohort), strata=cohort.stratum.numpy())
    eta = torch.randn(60, dtype=torch.float64)
    for ordered, batch in head.batches(target, torch.randperm(60).split(20)):
        wanted = negative_log_likelihood(eta[ordered], cohort.take(ordered), "efron")
        torch.testing.assert_close(head.loss(eta[ordered], batch), wanted)


# Baseline and predictions


def reference_hazard(
    cohort: Cohort, eta: np.ndarray, ties: str, times: np.ndarray, stratum: int
) -> np.ndarray:
    """Return the cumulative hazard at `times` of a row with eta = 0."""
    jumps = [
        (time, np.exp(log_jump))
        for block, time, log_jump in baseline(torch.from_numpy(eta), cohort, ties)
        if block == stratum
    ]
    return np.array([sum(jump for time, jump in jumps if time <= t) for t in times])


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize(
    "setting",
    [{}, {"weighted": True}, {"delayed": True}, {"n_strata": 3, "weighted": True, "delayed": True}],
    ids=["ties", "weights", "late entry", "everything"],
)
def test_cumulative_hazard_against_brute_force(setting, ties):
    cohort = draw(6, 60, **setting)
    eta = log_hazards(60)
    strata = "n_strata" in setting
    head, _ = fitted(cohort, eta, ties, strata)
    times = np.array([3.0, -1.0, 0.0, 100.0, 2.5])
    new = np.array([-1.0, 0.3, 2.0])
    for stratum in range(3 if strata else 1):
        wanted = np.exp(new)[:, None] * reference_hazard(cohort, eta, ties, times, stratum)
        labels = [stratum] * 3 if strata else None
        found = head.cumulative_hazard(new[:, None], times, labels)
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
        np.testing.assert_allclose(head.survival(new, times, labels), np.exp(-wanted), rtol=1e-12)
    if strata:  # rows of several strata at once, in any order
        labels = np.array([2, 0, 1, 0])
        mixed = head.cumulative_hazard(np.zeros(4), times, labels)
        for row, label in enumerate(labels):
            np.testing.assert_array_equal(
                mixed[row], head.cumulative_hazard([0.0], times, [label])[0]
            )


def test_default_times_are_the_event_times_and_curves_are_steps():
    head, _ = fitted(draw(7, 50), log_hazards(50))
    events = head.event_times_
    assert head.survival([0.0]).shape == (1, len(events))
    np.testing.assert_array_equal(head.survival([0.0]), head.survival([0.0], events))
    np.testing.assert_array_equal(
        head.survival([0.0], events + 0.5)[0], head.survival([0.0], events)[0]
    )
    assert head.survival([0.0], [-5.0])[0, 0] == 1.0
    assert head.survival([0.0], [1e9])[0, 0] == head.survival([0.0])[0, -1]


def test_quantile_is_the_first_time_the_curve_is_low_enough():
    head, _ = fitted(draw(8, 50, share=0.5), log_hazards(50))
    eta = np.linspace(-4.0, 4.0, 25)
    shares = [0.1, 0.5, 0.9]
    found = head.quantile(eta, shares)
    curves, times = head.survival(eta), head.event_times_
    for row in range(len(eta)):
        for column, share in enumerate(shares):
            low = np.flatnonzero(curves[row] <= 1 - share)
            assert found[row, column] == (times[low[0]] if len(low) else np.inf)
    np.testing.assert_array_equal(head.quantile(eta, 0.5), found[:, 1])
    assert np.isinf(found).any()
    assert np.isfinite(found).any()


def test_restricted_mean_is_the_area_under_the_curve():
    cohort = draw(9, 60, n_strata=2)
    head, _ = fitted(cohort, log_hazards(60), strata=True)
    eta, labels = np.array([-1.0, 0.0, 1.5]), [1, 0, 1]
    for horizon in (0.5, 4.0, 6.3, 20.0):
        grid = np.linspace(0.0, horizon, 200_001)[:-1] + horizon / 400_000
        area = head.survival(eta, grid, labels).mean(axis=1) * horizon
        np.testing.assert_allclose(head.restricted_mean(eta, horizon, labels), area, rtol=1e-4)


def test_the_centre_of_eta_is_of_no_consequence():
    cohort, eta = draw(10, 50), log_hazards(50)
    head, _ = fitted(cohort, eta)
    moved, _ = fitted(cohort, eta + 300.0)
    np.testing.assert_allclose(moved.survival(eta + 300.0), head.survival(eta), rtol=1e-11)
    np.testing.assert_allclose(head.risk(eta).mean(), 0.0, atol=1e-15)


def test_a_time_of_zero_is_kept():
    head = CoxHead("breslow")
    target = head.fit_outcome(([0.0, 0.0, 1.0, 2.0], [1, 0, 1, 0]))
    eta = torch.zeros(4, 1)
    assert head.loss(eta, target).item() == pytest.approx((np.log(4) + np.log(2)) / 2)
    head.finish(eta, target)
    np.testing.assert_allclose(head.cumulative_hazard([0.0], [0.0, 1.0]), [[0.25, 0.75]])
    assert head.quantile([3.0], 0.5) == 0.0


def test_a_stratum_without_events_has_no_hazard():
    head = CoxHead()
    target = head.fit_outcome(([1.0, 2.0, 3.0, 4.0], [1, 0, 1, 0]), strata=list("abab"))
    head.finish(torch.zeros(4, 1), target)
    np.testing.assert_array_equal(head.survival([0.0], [9.0], ["b"]), [[1.0]])
    assert head.survival([0.0], [9.0], ["a"])[0, 0] < 0.5
    assert head.quantile([0.0], 0.5, ["b"]) == np.inf
    assert head.restricted_mean([0.0], 7.0, ["b"]) == 7.0


def test_curves_of_many_rows_need_no_more_than_the_result():
    head, _ = fitted(draw(11, 3000, n_times=100_000), log_hazards(3000))
    eta, times = log_hazards(50_000), np.arange(10.0)
    tracemalloc.start()
    curves = head.survival(eta, times)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert curves.shape == (50_000, 10)
    assert peak < curves.nbytes + 10e6  # all event times would take 700 MB


# State


@pytest.mark.parametrize(
    "labels", [None, ["a", "b", "c"], [3, 1, 7], [0.5, 1.5, 2.5], [True, False]]
)
def test_state_goes_through_plain_arrays(labels, tmp_path):
    cohort = draw(12, 50)
    head = CoxHead()
    strata = None if labels is None else np.resize(np.array(labels), 50)
    target = head.fit_outcome(outcome(cohort), strata=strata)
    head.finish(torch.from_numpy(log_hazards(50)), target)
    np.savez(tmp_path / "state.npz", allow_pickle=False, **head.state())
    with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
        again = CoxHead()
        again.load_state(dict(state))
    eta = log_hazards(50, seed=1)
    np.testing.assert_array_equal(
        head.survival(eta, strata=strata), again.survival(eta, strata=strata)
    )
    np.testing.assert_array_equal(head.risk(eta), again.risk(eta))


# What is refused


def test_strata_are_checked():
    y = ([1.0, 2.0, 3.0, 4.0], [1, 1, 0, 0])
    head = CoxHead()
    with pytest.raises(ValueError, match=r"no missing labels. Got.* rows 'r1', 'r3'"):
        head.fit_outcome(
            y, strata=pd.Series(["a", None, "b", np.nan], index=["r0", "r1", "r2", "r3"])
        )
    with pytest.raises(ValueError, match=r"no missing labels. Got.* rows 'q'"):
        head.fit_outcome(y, strata=[1.0, np.nan, 2.0, 1.0], index=list("pqrs"))
    with pytest.raises(ValueError, match=r"one label for each of the 4 rows. Got shape \(3,\)"):
        head.fit_outcome(y, strata=[1, 2, 3])
    with pytest.raises(TypeError, match=r"all text or all numbers. Got 'int', 'str'"):
        head.fit_outcome(y, strata=np.array([1, "a", 2, "b"], dtype=object))
    head.fit_outcome(y, strata=["a", "b", "a", "b"])
    with pytest.raises(ValueError, match=r"seen at fit: 'a', 'b'. Got 'c'"):
        head.encode(y, strata=["a", "c", "a", "b"])
    with pytest.raises(ValueError, match=r"must be given, one label a row.*2 strata"):
        head.encode(y)
    head.fit_outcome(y, strata=pd.Series([2, 1, 2, 1], dtype=object))
    assert head.encode(y, strata=pd.Categorical([1, 1, 2, 2])).stratum.tolist() == [0, 0, 1, 1]
    head.fit_outcome(y)
    with pytest.raises(ValueError, match="must be None: the model was fitted without strata"):
        head.encode(y, strata=["a", "b", "a", "b"])


def test_outcomes_are_checked():
    head = CoxHead()
    with pytest.raises(ValueError, match="at least one event"):
        head.fit_outcome(([1.0, 2.0], [0, 0]))
    with pytest.raises(ValueError, match=r"at least one event a weight above 0. Got 0 for all 1"):
        head.fit_outcome(([1.0, 2.0], [1, 0]), sample_weight=[0.0, 1.0])
    with pytest.raises(ValueError, match=r"must not be negative. Got row 'b' \(-2\)"):
        head.fit_outcome(([1.0, -2.0], [1, 0]), index=["a", "b"])
    with pytest.raises(ValueError, match="ties parameter must be 'efron' or 'breslow'"):
        CoxHead(ties="exact")


def test_arguments_of_predictions_are_checked():
    head, _ = fitted(draw(13, 20), log_hazards(20))
    for q in (0.0, 1.0, -1.0, [0.5, 2.0], np.nan):
        with pytest.raises(ValueError, match="q parameter must lie between 0 and 1"):
            head.quantile([0.0], q)
    for horizon in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="horizon parameter must be a finite number above 0"):
            head.restricted_mean([0.0], horizon)
    for times in ([np.nan], [[1.0]], 3.0):
        with pytest.raises(ValueError, match="times parameter must be one-dimensional"):
            head.survival([0.0], times)
    with pytest.raises(ValueError, match=r"shape \(n,\) or \(n, 1\). Got \(1, 2\)"):
        head.survival([[0.0, 1.0]])


def test_batches_without_events_are_warned_of() -> None:
    head = CoxHead()
    target = head.fit_outcome((np.arange(1.0, 9.0), [True] + [False] * 7))
    halves = torch.arange(8).split(4)
    with pytest.warns(UserWarning, match="1 events are dealt over 2 batches"):
        parts = [part for _, part in head.batches(target, halves)]
    eta = torch.zeros(4, 1, requires_grad=True)
    loss = sum(head.loss(eta, part) for part in parts)
    loss.backward()
    assert torch.isfinite(eta.grad).all()
