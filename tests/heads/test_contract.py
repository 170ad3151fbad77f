"""What every head promises: its grid and bases, what an outcome tells, laws, parts of the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from mmfusion.heads import (
    CategoricalHead,
    CoxHead,
    DiscreteTimeHead,
    GaussianHead,
    PiecewiseExponentialHead,
)
from mmfusion.heads.discrete import LIKELIHOODS, LOSSES
from mmfusion.heads.nothing import NoOutcomeHead
from mmfusion.model.pool_rows import average
from mmfusion.survival import surv

CUTS = [1.0, 2.5, 4.0]
N = 60


def head_and_outcome(kind: str, seed: int = 0) -> tuple[Any, Any, Any]:
    """Return an unfitted head, an outcome and weights, two of which are 0."""
    rng = np.random.default_rng(seed)
    weight = rng.random(N)
    weight[:2] = 0.0
    if kind == "gaussian":
        return GaussianHead(), 100 + 20 * rng.normal(size=N), weight
    if kind in ("binary", "classes"):
        n_classes = 2 if kind == "binary" else 3
        return CategoricalHead(), np.array(["a", "b", "c"])[np.arange(N) % n_classes], weight
    time = rng.uniform(0.1, 5.0, N)
    entry = np.where(rng.random(N) < 0.4, 0.5 * time, -np.inf)
    if kind == "cox":
        return CoxHead(), surv(time, rng.random(N) < 0.6, entry), weight
    if kind == "pamm":
        cuts = [1.0, 2.0, 2.5, 4.0]
        return PiecewiseExponentialHead(cuts=cuts), surv(time, rng.random(N) < 0.6, entry), weight
    event = 2 * (np.arange(N) % 3) if kind == "deephit" else rng.random(N) < 0.6
    return DiscreteTimeHead(kind, cuts=CUTS), surv(time, event, entry), weight  # type: ignore[arg-type]


def fitted(kind: str, seed: int = 0) -> tuple[Any, Any]:
    head, y, weight = head_and_outcome(kind, seed)
    return head, head.fit_outcome(y, weight)


KINDS = ["gaussian", "binary", "classes", "cox", "pamm", *LOSSES]


@pytest.mark.parametrize("kind", KINDS)
def test_bases_move_the_predictors_of_the_grid(kind: str) -> None:
    head, _ = fitted(kind)
    k = len(head.grid)
    for basis in (head.parameters, head.constants, head.deep_basis, head.stack_constants):
        assert basis.matrix.shape == (k, len(basis))
    for values in head.grid.coordinates.values():
        assert values.shape == (k,)
        assert values.dtype == np.float64
    assert len(head.deep_groups) == k
    unit = head.dispersion_unit**0.5  # an output of 1 is a standard deviation of numbers
    wanted = np.ones((k, 1)) if kind == "pamm" else unit * np.eye(k)
    assert_array_equal(head.deep_basis.matrix, wanted)
    # Constants are free: no two of them, nor one and the stack's, say the same.
    for basis in (head.constants, head.stack_constants):
        assert np.linalg.matrix_rank(basis.matrix) == len(basis)


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_added_to_all_predictors_says_nothing_where_the_head_says_so(kind: str) -> None:
    head, target = fitted(kind)
    eta = torch.randn(N, len(head.grid), dtype=torch.float64)
    eta_shifted = eta + torch.randn(N, 1, dtype=torch.float64)
    same = bool(torch.isclose(head.loss(eta, target), head.loss(eta_shifted, target)))
    assert same is head.shift_invariant


def test_the_bases_by_name() -> None:
    cox, _ = fitted("cox")
    assert cox.grid.names == ("log_hazard",)
    assert len(cox.constants) == len(cox.stack_constants) == 0
    classes, _ = fitted("classes")
    assert classes.grid.names == ("logit[a]", "logit[b]", "logit[c]")
    assert classes.parameters.names == classes.constants.names == ("b", "c")
    assert_array_equal(classes.parameters.matrix, np.eye(3)[:, 1:])
    binary, _ = fitted("binary")
    assert binary.grid.names == binary.parameters.names == ("logit[b]",)
    hazards, _ = fitted("logistic_hazard")
    assert hazards.parameters.names == ("hazard",)
    assert_array_equal(hazards.parameters.matrix, np.ones((3, 1)))
    assert hazards.constants.names[1] == "baseline (1, 2.5]"
    masses, _ = fitted("pmf")
    assert masses.parameters.names == masses.constants.names == masses.grid.names
    nothing = NoOutcomeHead()
    assert len(nothing.parameters) == len(nothing.constants) == 0
    assert (fitted("gaussian")[0].has_dispersion, binary.has_dispersion) == (True, False)


def test_the_grid_says_where_intervals_lie() -> None:
    head, _ = fitted("pc_hazard")
    where = head.grid.coordinates
    assert_allclose(where["start"], [0, 1, 2.5])
    assert_allclose(where["end"], [1, 2.5, 4])
    assert_allclose(where["t"], [0.5, 1.75, 3.25])
    assert "cause" not in where
    head, _ = fitted("deephit")
    where = head.grid.coordinates
    assert_array_equal(where["cause"], [2, 2, 2, 4, 4, 4])
    assert_allclose(where["t"], np.tile([0.5, 1.75, 3.25], 2))
    assert head.grid.names[3] == "cause_4_interval_1"


# --- what an outcome tells -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_events_and_entries(kind: str) -> None:
    _, y, weight = head_and_outcome(kind)
    head, target = fitted(kind)
    if kind in ("gaussian", "binary", "classes"):
        assert head.events(target) is None
        assert head.n_events(target) is None
        assert not head.has_entry(target)
        return
    seen = y["event"] > 0
    if kind != "cox":
        seen &= y["time"] <= CUTS[-1]
    assert_array_equal(head.events(target), seen)
    assert head.n_events(target) == ((y["event"] > 0) & (weight > 0)).sum()
    assert head.has_entry(target)
    on_time = head.encode(surv(y["time"], y["event"]))
    assert not head.has_entry(on_time)


def test_what_training_rows_may_not_be_without() -> None:
    _, y, weight = head_and_outcome("classes")
    head, target = fitted("classes")
    required = head.required(target)
    assert list(required) == ["class 'a'", "class 'b'", "class 'c'"]
    assert_array_equal(required["class 'b'"], y == "b")
    head, target = fitted("gaussian")
    assert head.required(target) == {}
    head, target = fitted("cox")
    required = head.required(target)
    assert list(required) == ["event"]
    assert_array_equal(required["event"], head.events(target).numpy() & (weight > 0))
    _, y, _ = head_and_outcome("deephit")
    head, target = fitted("deephit")
    required = head.required(target)
    assert list(required) == ["cause 2", "cause 4", "event"]
    assert_array_equal(required["cause 4"], y["event"] == 4)
    head, target = fitted("pmf")
    assert list(head.required(target)) == ["event"]


@pytest.mark.parametrize("kind", KINDS)
def test_enough_rows_or_events_for_so_many_coefficients(kind: str) -> None:
    head, y, _ = head_and_outcome(kind)
    target = head.fit_outcome(y)
    known = N if head.events(target) is None else int(head.events(target).sum())
    assert head.enough(target, known // 5)
    assert not head.enough(target, known // 5 + 1)
    assert not head.enough(target.take(torch.arange(0)), 0)
    alike = torch.nonzero(target.value == target.value[0])[:, 0] if kind == "gaussian" else None
    if kind in ("binary", "classes"):
        alike = torch.nonzero(target.code == 0)[:, 0]
    if alike is not None:  # numbers that are all the same, and classes that no row has
        assert not head.enough(target.take(alike.repeat(20)), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_for_some_of_its_rows_learns_only_what_is_theirs(kind: str) -> None:
    head, target = fitted(kind)
    before = {name: np.copy(value) for name, value in vars(head).items() if name.endswith("_")}
    rows = torch.arange(10, 40)
    part = target.take(rows)
    again = head.relearn(part)
    assert type(again) is type(head)
    for name, value in before.items():
        assert_array_equal(getattr(head, name), value)  # the head itself is as it was
    assert again.grid.names == head.grid.names
    if kind != "gaussian":
        eta = torch.randn(30, len(head.grid), dtype=torch.float64)
        assert float(again.loss(eta, part)) == float(head.loss(eta, part))
        return
    _, y, weight = head_and_outcome(kind)
    anew = GaussianHead()
    outcome = anew.fit_outcome(y[10:40], weight[10:40])
    assert (again.center_, again.spread_) == (anew.center_, anew.spread_) != (head.center_, 1.0)
    eta = torch.randn(30, 1, dtype=torch.float64)
    assert float(again.loss(eta, part)) == float(anew.loss(eta, outcome))


# --- laws, which late fusion averages ------------------------------------------------------------


@pytest.mark.parametrize("size", [1.0, 30.0])
@pytest.mark.parametrize("kind", KINDS)
def test_predictors_come_back_from_their_law(kind: str, size: float) -> None:
    head, _ = fitted(kind)
    size = min(size, 3.0) if kind == "pamm" else size  # nothing is left behind hazards of exp(30)
    eta = size * np.random.default_rng(1).normal(size=(7, 2, len(head.grid)))
    law = head.law(eta)
    assert law.shape[:2] == (7, 2)
    again = head.from_law(law)
    if head.shift_invariant:
        eta = eta - eta.mean(-1, keepdims=True)
        again = again - again.mean(-1, keepdims=True)
    assert_allclose(again, eta, rtol=1e-9, atol=1e-9)
    if head.law_is_log:
        assert_allclose(np.exp(law).sum(-1), 1.0)
    else:
        assert_array_equal(law, eta)


@pytest.mark.parametrize("kind", ["binary", "classes"])
def test_the_mean_law_of_classes_is_the_mean_probability(kind: str) -> None:
    head, _ = fitted(kind)
    etas = np.random.default_rng(2).normal(size=(9, 3, len(head.grid)))
    weights = np.array([0.5, 0.3, 0.2]) * np.ones((9, 1))
    wanted = sum(w * head.probabilities(etas[:, m]) for m, w in enumerate((0.5, 0.3, 0.2)))
    assert_allclose(head.probabilities(average(head, etas, weights)), wanted, rtol=1e-12)
    assert_allclose(np.exp(head.law(etas[:, 0])), head.probabilities(etas[:, 0]), rtol=1e-12)
    far = average(head, np.full((1, 2, len(head.grid)), 800.0), np.ones((1, 2)))
    assert np.isfinite(far).all()


def test_every_name_of_a_discrete_loss_has_its_likelihood() -> None:
    assert tuple(LIKELIHOODS) == LOSSES
    with_formula = [name for name, kind in LIKELIHOODS.items() if kind.shares_effects]
    assert with_formula == ["logistic_hazard", "pc_hazard", "multisurv"]
    assert [name for name, kind in LIKELIHOODS.items() if kind.competing] == ["deephit"]
