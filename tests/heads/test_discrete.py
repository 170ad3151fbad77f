"""The discrete-time head against loops in NumPy, Kaplan-Meier curves and pycox."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pycox.models import DeepHit, LogisticHazard, PCHazard
from pycox.models import loss as pycox
from pycox.models.data import pair_rank_mat
from pycox.models.pmf import PMF
from pycox.preprocessing.discretization import DiscretizeUnknownC, Duration2Idx
from pycox.preprocessing.discretization import make_cuts as pycox_cuts
from pycox.preprocessing.label_transforms import LabTransDiscreteTime, LabTransPCHazard
from scipy.integrate import quad
from scipy.special import expit, softmax
from torch import nn

from mmfusion.heads.discrete import (
    LOSSES,
    DiscreteTimeHead,
    check_cuts,
    make_cuts,
)
from mmfusion.model.pool_rows import average
from mmfusion.survival import Survival, check_survival, kaplan_meier, surv

CUTS = np.array([0.0, 1.0, 2.5, 4.0, 7.0])
J = len(CUTS) - 1
LIKELIHOODS = [loss for loss in LOSSES if loss != "deephit"]
KINDS = ("constant_density", "constant_hazard")


def outcome(
    n: int = 80, *, on_grid: bool = False, delayed: bool = False, causes: int = 1, seed: int = 0
) -> np.ndarray:
    """Return times from 0 to beyond the last cut, some of them at cuts."""
    rng = np.random.default_rng(seed)
    time = rng.uniform(0.01, 8.0, n)
    at_cut = rng.random(n) < (1.0 if on_grid else 0.3)
    time = np.where(at_cut, rng.choice(CUTS[1:], n), time)
    event = rng.integers(0, causes + 1, n)
    entry = None
    if delayed:
        entry = time * rng.uniform(-0.5, 0.95, n)
        if on_grid:
            entry = CUTS[np.searchsorted(CUTS, time) - 1] * rng.integers(0, 2, n)
        entry = np.where(entry > 0, entry, -np.inf)
    return surv(time, event, entry)


def fitted(loss: Any = "logistic_hazard", y: Any = None, weight: Any = None, **params: Any) -> Any:
    head = DiscreteTimeHead(loss, **{"cuts": CUTS, **params})
    return head, head.fit_outcome(outcome() if y is None else y, weight)


def logits(target: Any, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(target), width, dtype=torch.float64, generator=generator)


class Same(nn.Module):
    """A network for pycox's models that returns its input."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


# --- the grid ------------------------------------------------------------------------------------


def test_labels_are_those_of_pycox() -> None:
    y = outcome(300)
    _, target = fitted(y=y)
    index, event = LabTransDiscreteTime(CUTS).transform(y["time"], y["event"].astype(float))
    np.testing.assert_array_equal(target.stop, index)
    np.testing.assert_array_equal(target.cause > 0, event)
    _, target = fitted("pc_hazard", y=y)
    theirs = LabTransPCHazard(J)
    theirs.cuts, theirs._dtype = CUTS, "float64"  # given cuts, its constructor forgets the rest
    theirs.duc = DiscretizeUnknownC(CUTS, right_censor=True, censor_side="right")
    theirs.di = Duration2Idx(CUTS)
    index, event, share = theirs.transform(y["time"], y["event"].astype(float))
    np.testing.assert_array_equal(target.stop, index)
    np.testing.assert_array_equal(target.cause > 0, event)
    within = y["time"] <= CUTS[-1]  # beyond the grid pycox counts time that has no hazard
    np.testing.assert_allclose(target.stop_share[within], share[within], atol=1e-6)
    assert (target.stop_share[~within] == 1).all()


def test_an_event_at_time_zero_lies_in_the_first_interval() -> None:
    for loss in LOSSES:
        head, target = fitted(loss, surv([0.0, 0.5, 7.0], [1, 0, 1]))
        assert target.cause.tolist() == [1, 0, 1]
        assert int(target.stop[0]) == (0 if loss == "pc_hazard" else 1)
        assert np.isfinite(float(head.loss(logits(target, J), target)))


def test_the_kaplan_meier_curve_falls_by_as_much_in_each_interval() -> None:
    rng = np.random.default_rng(1)
    time, event = rng.exponential(size=200), rng.random(200) < 0.6
    event[time.argmax()] = True
    cuts = make_cuts(check_survival((time, event)), 8, "quantiles")
    curve = kaplan_meier(time, event)
    wanted = 1 - np.arange(1, 9) / 8
    assert (curve(cuts[1:]) <= wanted + 1e-9).all()
    assert (curve.left(cuts[1:]) > wanted + 1e-9).all()
    # pycox takes the last time before the curve crosses, at most one event earlier.
    theirs = pycox_cuts(9, "quantiles", time, event)
    events = np.sort(time[event])
    gap = np.searchsorted(events, cuts, "right") - np.searchsorted(events, theirs, "right")
    assert set(gap) <= {0, 1}
    even = make_cuts(check_survival((time, event)), 8, "equidistant")
    np.testing.assert_allclose(even, pycox_cuts(9, "equidistant", time, event))


def test_cuts_end_at_the_last_event_and_weights_are_repeated_rows() -> None:
    y = check_survival(outcome(60, delayed=True))
    weight = np.random.default_rng(0).integers(0, 4, 60)
    repeated = y.take(np.repeat(np.arange(60), weight))
    for scheme in ("quantiles", "equidistant"):
        cuts = make_cuts(y, 6, scheme, weight.astype(float))
        np.testing.assert_allclose(cuts, make_cuts(repeated, 6, scheme))
        assert cuts[-1] == repeated.time[repeated.event > 0].max()
        assert (np.diff(cuts) > 0).all()


def test_tied_events_give_fewer_intervals() -> None:
    cuts = make_cuts(check_survival(([1, 1, 2, 2, 3], [1, 1, 1, 1, 0])), 10, "quantiles")
    np.testing.assert_array_equal(cuts, [0, 1, 2])


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        ([2.0, 1.0], "strictly increasing"),
        ([1.0, 1.0], "strictly increasing"),
        ([-1.0, 1.0], "strictly increasing"),
        ([0.0], "with a time above 0"),
        ([], "sequence of finite times"),
        ([1.0, np.inf], "sequence of finite times"),
        (5, "sequence of finite times"),
        ("years", "must hold numbers"),
    ],
)
def test_bad_cuts(cuts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_cuts(cuts)


# --- losses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("delayed", [False, True])
def test_the_logistic_hazard_is_a_product_of_bernoullis(delayed: bool) -> None:
    y = outcome(delayed=delayed)
    head, target = fitted(y=y)
    eta = logits(target, J)
    entry = y["entry"] if delayed else np.full(len(y), -np.inf)
    wanted = []
    for hazard, time, event, begin in zip(
        expit(eta.numpy()), y["time"], y["event"], entry, strict=True
    ):
        likelihood = 1.0
        for j in range(J):
            lower, upper = CUTS[j], CUTS[j + 1]
            if begin >= upper:
                continue
            if event and lower < time <= upper:
                likelihood *= hazard[j]
            elif time >= upper:
                likelihood *= 1 - hazard[j]
        wanted.append(-np.log(likelihood))
    np.testing.assert_allclose(head.likelihood.losses(eta, target), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("causes", [1, 3])
def test_masses_are_summed_over_what_may_have_happened(causes: int, delayed: bool) -> None:
    y = outcome(causes=causes, delayed=delayed)
    head, target = fitted("deephit", y, alpha=1.0)
    eta = logits(target, causes * J)
    entry = y["entry"] if delayed else np.full(len(y), -np.inf)
    wanted = []
    for row, time, event, begin in zip(eta.numpy(), y["time"], y["event"], entry, strict=True):
        mass = softmax(np.append(row, 0.0))
        grid, beyond = mass[:-1].reshape(causes, J), mass[-1]
        holds = int(np.searchsorted(CUTS, time)) - 1
        if event and time <= CUTS[-1]:
            seen = grid[int(event) - 1, holds]
        else:
            seen = beyond + grid[:, CUTS[1:] > time].sum()
        wanted.append(-np.log(seen / (beyond + grid[:, CUTS[1:] > begin].sum())))
    np.testing.assert_allclose(head.likelihood.losses(eta, target), wanted, rtol=1e-9)
    assert float(head.loss(eta, target)) == pytest.approx(np.mean(wanted))


@pytest.mark.parametrize("delayed", [False, True])
def test_pc_hazard_is_the_piecewise_exponential_likelihood(delayed: bool) -> None:
    y = outcome(delayed=delayed)
    head, target = fitted("pc_hazard", y)
    eta = logits(target, J)
    widths = np.diff(CUTS)
    rates = np.log1p(np.exp(eta.numpy())) / widths
    entry = y["entry"] if delayed else np.full(len(y), -np.inf)
    wanted = []
    for rate, time, event, begin in zip(rates, y["time"], y["event"], entry, strict=True):
        lived = np.clip(time, CUTS[:-1], CUTS[1:]) - np.clip(begin, CUTS[:-1], CUTS[1:])
        holds = int(np.searchsorted(CUTS, time)) - 1
        seen = event and time <= CUTS[-1]
        # The head's density is that of time in units of the interval.
        wanted.append(rate @ lived - (np.log(rate[holds] * widths[holds]) if seen else 0.0))
    np.testing.assert_allclose(head.likelihood.losses(eta, target), wanted, rtol=1e-6, atol=1e-9)


def test_multisurv_is_the_published_sum() -> None:
    """Vale-Silva & Rohr's two vectors a row; an event at a bound ends the interval here."""
    y = outcome()
    head, target = fitted("multisurv", y)
    eta = logits(target, J)
    survival = 1 - expit(eta.numpy())
    middle = 0.5 * (CUTS[1:] + CUTS[:-1])
    time, event = y["time"][:, None], y["event"][:, None].astype(bool)
    fail = event & (CUTS[:-1] < time) & (time <= CUTS[1:])
    credit = np.where(event, (time >= CUTS[1:]) & ~fail, time >= middle)
    terms = np.log(1 + credit * (survival - 1)) + np.log(1 - fail * survival)
    # Theirs is the mean over rows and both vectors, ours that over rows.
    assert float(head.loss(eta, target)) == pytest.approx(-terms.sum(1).mean(), rel=1e-9)


def test_multisurv_is_the_logistic_hazard_where_times_are_ends_of_intervals() -> None:
    y = outcome(on_grid=True)
    (one, first), (other, second) = fitted("multisurv", y), fitted("logistic_hazard", y)
    eta = logits(first, J)
    assert float(one.loss(eta, first)) == float(other.loss(eta, second))
    y = outcome()
    (one, first), (other, second) = fitted("multisurv", y), fitted("logistic_hazard", y)
    assert float(one.loss(eta, first)) > float(other.loss(eta, second))  # more credit, more terms


def padded(eta: torch.Tensor) -> torch.Tensor:
    """Return predictors with one before them, of an interval without events: pycox's time 0."""
    return torch.cat([torch.full_like(eta[..., :1], -1e3), eta], -1)


def pycox_losses(loss: str, eta: torch.Tensor, target: Any) -> torch.Tensor:
    """Return pycox's loss of each row, less that of a censoring at its entry."""
    event, stop, start = (target.cause > 0).double(), target.stop, target.start
    none = torch.zeros_like(event)
    if loss == "pc_hazard":
        nll = pycox.nll_pc_hazard_loss
        until_entry = nll(eta, start, none, target.start_share, "none")
        return nll(eta, stop, event, target.stop_share, "none") - until_entry
    if target.n_causes > 1:
        every = padded(eta.view(len(eta), target.n_causes, -1))
        nll, options = pycox.nll_pmf_cr, {"epsilon": 1e-300}
        return nll(every, stop, target.cause, "none", **options) - nll(
            every, start, torch.zeros_like(target.cause), "none", **options
        )
    eta = padded(eta)
    if loss == "mtlr":
        eta = eta.flip(1).cumsum(1).flip(1)
    if loss in ("logistic_hazard", "multisurv"):
        nll = pycox.nll_logistic_hazard
        return nll(eta, stop, event, "none") - nll(eta, start, none, "none")
    nll = pycox.nll_pmf
    return nll(eta, stop, event, "none", epsilon=0) - nll(eta, start, none, "none", epsilon=0)


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("loss", [*LOSSES, "competing"])
def test_losses_and_gradients_are_those_of_pycox(loss: Any, delayed: bool) -> None:
    competing = loss == "competing"
    loss = "deephit" if competing else loss
    head, target = fitted(loss, outcome(causes=2 if competing else 1, delayed=delayed))
    eta = logits(target, len(head.grid)).requires_grad_()
    theirs = pycox_losses(loss, eta, target)
    torch.testing.assert_close(head.likelihood.losses(eta, target), theirs, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(theirs.sum(), eta)
    mine, _ = head.likelihood.derivatives(eta.detach(), target)
    torch.testing.assert_close(mine, gradient, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("causes", [1, 2])
def test_the_ranking_loss_is_that_of_pycox_and_of_a_loop(causes: int) -> None:
    head, target = fitted("deephit", outcome(causes=causes), sigma=0.3)
    eta = logits(target, causes * J)
    mine = float(head.likelihood.ranking(eta, target))
    every = padded(eta.view(-1, causes, J)).float()
    pairs = torch.from_numpy(pair_rank_mat(target.stop.numpy(), (target.cause > 0).numpy()))
    if causes == 1:
        theirs = pycox.rank_loss_deephit_single(
            every[:, 0], target.stop, target.cause > 0, pairs, 0.3
        )
    else:
        theirs = pycox.rank_loss_deephit_cr(every, target.stop, target.cause, pairs, 0.3)
    assert mine == pytest.approx(float(theirs), rel=1e-5)
    total = float(head.loss(eta, target))
    likelihood = float(head.likelihood.losses(eta, target).mean())
    assert total == pytest.approx(0.2 * likelihood + 0.8 * mine)

    head, target = fitted("deephit", outcome(causes=causes, delayed=True), sigma=0.3)
    mass = softmax(np.column_stack([eta.numpy(), np.zeros(len(eta))]), axis=1)[:, :-1]
    incidence = mass.reshape(-1, causes, J).cumsum(2)
    stop, start, cause = target.stop.numpy(), target.start.numpy(), target.cause.numpy()
    wanted = 0.0
    for i, j in np.ndindex(len(eta), len(eta)):
        later = stop[j] > stop[i] or (stop[j] == stop[i] and cause[j] == 0)
        if cause[i] and later and start[j] < stop[i]:
            at = incidence[:, cause[i] - 1, stop[i] - 1]
            wanted += np.exp(-(at[i] - at[j]) / 0.3)
    mine = float(head.likelihood.ranking(eta, target))
    assert mine == pytest.approx(wanted / len(eta) ** 2)


def test_the_ranking_loss_is_lower_for_the_right_order() -> None:
    y = surv([0.5, 2.0, 3.0, 5.0], [1, 1, 1, 0])
    head, target = fitted("deephit", y)
    eta = torch.zeros(4, J, dtype=torch.float64)
    eta[:, 0] = torch.tensor([2.0, 1.0, 0.0, -1.0])
    losses = [
        float(head.likelihood.ranking(order, target)) for order in (eta, 0 * eta, eta.flip(0))
    ]
    assert losses == sorted(losses)
    assert losses[0] < losses[1]


def test_mtlr_is_a_pmf_of_its_sums() -> None:
    y = outcome(delayed=True)
    (mtlr, target), (pmf, _) = fitted("mtlr", y), fitted("pmf", y)
    eta = logits(target, J)
    sums = torch.stack([eta[:, j:].sum(1) for j in range(J)], 1)
    torch.testing.assert_close(mtlr.loss(eta, target), pmf.loss(sums, target))
    times = np.linspace(0, 8, 30)
    np.testing.assert_allclose(mtlr.survival(eta, times), pmf.survival(sums, times))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_and_curvature(loss: Any) -> None:
    causes = 2 if loss == "deephit" else 1
    head, target = fitted(loss, outcome(12, delayed=True, causes=causes))
    eta = logits(target, causes * J).requires_grad_()
    assert torch.autograd.gradcheck(lambda phi: head.loss(phi, target), eta)
    assert torch.autograd.gradgradcheck(lambda phi: head.loss(phi, target), eta)


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_are_repeated_rows(loss: Any) -> None:
    y = outcome(delayed=True, causes=2 if loss == "deephit" else 1)
    weight = np.random.default_rng(2).integers(0, 4, len(y))
    rows = np.repeat(np.arange(len(y)), weight)
    head, weighted = fitted(loss, y, weight.astype(float), cuts=None, n_intervals=6)
    again, repeated = fitted(loss, y[rows], cuts=None, n_intervals=6)
    np.testing.assert_allclose(head.cuts_, again.cuts_)
    eta = logits(weighted, len(head.grid))
    torch.testing.assert_close(head.loss(eta, weighted), again.loss(eta[rows], repeated))


@pytest.mark.parametrize("loss", LOSSES)
def test_extreme_predictors_have_finite_losses_and_gradients(loss: Any) -> None:
    head, target = fitted(loss, outcome(delayed=True))
    for size in (1e2, 1e4):
        eta = (size * logits(target, J)).requires_grad_()
        value = head.loss(eta, target)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(eta.grad).all()  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_on_a_gpu_are_those_on_the_cpu(loss: Any) -> None:
    head, target = fitted(loss, outcome(delayed=True, causes=2 if loss == "deephit" else 1))
    eta, device = logits(target, len(head.grid)), torch.device("cuda")
    there = head.loss(eta.to(device), target.to(device))
    torch.testing.assert_close(there.cpu(), head.loss(eta, target))
    assert head.monitor(eta.to(device), target.to(device)) == head.monitor(eta, target)


def test_an_improbable_censoring_still_has_a_gradient() -> None:
    """pycox's constant under the logarithm takes it away."""
    head, target = fitted("pmf", surv([5.0, 0.5], [0, 1]))
    eta = torch.tensor([[40.0, 0, 0, 0], [0.0, 0, 0, 0]], dtype=torch.float64, requires_grad=True)
    head.likelihood.losses(eta, target)[0].backward()
    assert float(eta.grad[0, 0]) == pytest.approx(1.0)  # type: ignore[index]
    eta.grad = None
    pycox.nll_pmf(padded(eta), target.stop, target.cause, "none")[0].backward()
    assert abs(float(eta.grad[0, 0])) < 1e-6  # type: ignore[index]


# --- the constant model --------------------------------------------------------------------------


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("loss", ["logistic_hazard", "pmf", "mtlr", "multisurv"])
def test_the_constant_model_is_the_kaplan_meier_curve_of_the_grid(loss: Any, delayed: bool) -> None:
    y = outcome(200, on_grid=True, delayed=delayed)
    head, target = fitted(loss, y)
    start = head.initial(target)[None]
    curve = kaplan_meier(y["time"], y["event"], y["entry"] if delayed else None)
    np.testing.assert_allclose(head.survival(start, CUTS)[0], curve(CUTS), rtol=1e-9)


@pytest.mark.parametrize("delayed", [False, True])
@pytest.mark.parametrize("loss", LIKELIHOODS)
def test_the_constant_model_maximises_the_likelihood(loss: Any, delayed: bool) -> None:
    y = outcome(200, delayed=delayed)
    weight = np.random.default_rng(3).uniform(0.1, 3.0, len(y))
    head, target = fitted(loss, y, weight)
    eta = head.initial(target).expand(len(target), -1)
    np.testing.assert_allclose(head.gradient(eta, target).sum(0), 0.0, atol=1e-9)


def test_the_constant_model_of_causes_is_aalen_and_johansens() -> None:
    y = outcome(200, causes=2)
    head, target = fitted("deephit", y, alpha=1.0)
    eta = head.initial(target).expand(len(target), -1)
    np.testing.assert_allclose(head.gradient(eta, target).sum(0), 0.0, atol=1e-9)


def test_the_constant_pc_hazard_is_events_over_exposure() -> None:
    y = outcome(200)
    head, target = fitted("pc_hazard", y)
    found = np.log1p(np.exp(head.initial(target).numpy())) / np.diff(CUTS)
    time, event = y["time"][:, None], y["event"][:, None]
    exposure = np.clip(time - CUTS[:-1], 0, np.diff(CUTS)).sum(0)
    events = (event & (time > CUTS[:-1]) & (time <= CUTS[1:])).sum(0)
    np.testing.assert_allclose(found, events / exposure)


def test_intervals_without_events_start_at_finite_logits() -> None:
    y = surv([0.5, 0.6, 6.0, 6.5], [1, 0, 1, 1])
    for loss in LOSSES:
        head, target = fitted(loss, y)
        start = head.initial(target)
        assert torch.isfinite(start).all()
        assert np.isfinite(float(head.loss(start.expand(4, -1), target)))


# --- predictions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("loss", LIKELIHOODS)
def test_curves_of_any_predictors_fall_from_one(loss: Any, kind: Any) -> None:
    if loss == "pc_hazard" and kind == "constant_density":
        with pytest.raises(ValueError, match="interpolation parameter must be 'constant_hazard'"):
            DiscreteTimeHead(loss, interpolation=kind)
        return
    times = np.linspace(0.0, 10.0, 101)
    for size in (1.0, 30.0, 1e4):
        head, target = fitted(loss, interpolation=kind)
        eta = size * logits(target, J).numpy()
        survival = head.survival(eta, times)
        assert (survival[:, 0] == 1).all()
        assert ((survival >= 0) & (survival <= 1)).all()
        assert (np.diff(survival, axis=1) <= 1e-12).all()
        assert (survival[:, times >= 7.0] == survival[:, -1:]).all()
        hazard = head.cumulative_hazard(eta, times)
        assert (hazard[:, 0] == 0).all()
        assert (np.diff(hazard, axis=1) >= -1e-12 - 1e-9 * hazard[:, 1:]).all()
        for q in (0.1, 0.5, 0.9):
            found = head.quantile(eta, q)
            assert (np.isfinite(found) == (survival[:, -1] <= 1 - q + 1e-12)).all()
            assert ((found > 0) & ((found <= 7) | np.isinf(found))).all()
        means = head.restricted_mean(eta, 9.0)
        assert ((means >= 0) & (means <= 9)).all()


def test_one_interval() -> None:
    for loss in LOSSES:
        head, target = fitted(loss, cuts=[7.0])
        eta = head.initial(target)[None]
        assert eta.shape == (1, 1)
        assert head.survival(eta, [0.0, 7.0, 9.0])[0, 0] == 1
        assert 0 < head.survival(eta, [7.0])[0, 0] < 1
        assert np.isfinite(float(head.loss(eta.expand(len(target), 1), target)))


def test_a_constant_hazard_lies_below_a_constant_density_and_meets_it_at_the_cuts() -> None:
    density, target = fitted("pmf", interpolation="constant_density")
    hazard, _ = fitted("pmf", interpolation="constant_hazard")
    eta = 2 * logits(target, J).numpy()
    np.testing.assert_allclose(density.survival(eta, CUTS), hazard.survival(eta, CUTS), rtol=1e-12)
    times = np.linspace(0.05, 6.95, 100)
    gap = density.survival(eta, times) - hazard.survival(eta, times)
    assert (gap >= -1e-15).all()
    assert gap.max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_quantiles_and_means_belong_to_the_curves(kind: Any) -> None:
    head, target = fitted("mtlr", interpolation=kind)
    eta = logits(target, J).numpy()[:20]
    for q in (0.2, 0.5):
        found = head.quantile(eta, q)
        for row, time in zip(eta, found, strict=True):
            if np.isfinite(time):
                assert head.survival(row[None], [time])[0, 0] == pytest.approx(1 - q)
    for horizon in (0.7, 3.3, 9.0):
        found = head.restricted_mean(eta, horizon)
        for row, mean in zip(eta[:5], found, strict=False):
            area, _ = quad(
                lambda t, row=row: head.survival(row[None], [t])[0, 0],
                0,
                horizon,
                points=CUTS[1:-1][CUTS[1:-1] < horizon],
            )
            assert mean == pytest.approx(area, rel=1e-6)
    np.testing.assert_array_equal(head.risk(eta), -head.restricted_mean(eta, 7.0))


@pytest.mark.parametrize("kind", KINDS)
def test_incidences_of_all_causes_and_survival_sum_to_one(kind: Any) -> None:
    head, target = fitted("deephit", outcome(causes=3), interpolation=kind)
    eta = logits(target, 3 * J).numpy()
    times = np.linspace(0, 9, 50)
    incidences = [head.cumulative_incidence(eta, times, cause) for cause in (1, 2, 3)]
    np.testing.assert_allclose(sum(incidences) + head.survival(eta, times), 1.0, atol=1e-12)
    for incidence in incidences:
        assert (incidence[:, 0] == 0).all()
        assert (np.diff(incidence, axis=1) >= -1e-12).all()
    mass = softmax(np.column_stack([eta, np.zeros(len(eta))]), axis=1)[:, :-1]
    wanted = mass.reshape(-1, 3, J).cumsum(2)
    np.testing.assert_allclose(head.cumulative_incidence(eta, CUTS[1:], 2), wanted[:, 1])
    with pytest.raises(ValueError, match=r"cause parameter must be one of \[1, 2, 3\]. Got 4"):
        head.cumulative_incidence(eta, times, 4)


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        ("logistic_hazard", "constant_density"),
        ("logistic_hazard", "constant_hazard"),
        ("pmf", "constant_density"),
        ("pc_hazard", "constant_hazard"),
    ],
)
def test_curves_are_those_of_pycoxs_models(loss: Any, kind: Any) -> None:
    head, target = fitted(loss, interpolation=kind)
    eta = logits(target, J)
    if loss == "pc_hazard":
        model = PCHazard(Same(), duration_index=CUTS, sub=10)
        theirs = model.predict_surv_df(eta.float())
    else:
        padded = torch.cat([torch.full((len(eta), 1), -50.0), eta], 1).float()
        model = {"pmf": PMF, "logistic_hazard": LogisticHazard}[loss](Same(), duration_index=CUTS)
        scheme = {"constant_density": "const_pdf", "constant_hazard": "const_hazard"}[kind]
        theirs = model.interpolate(10, scheme).predict_surv_df(padded)
    mine = head.survival(eta, theirs.index.to_numpy(dtype=float))
    np.testing.assert_allclose(mine, theirs.to_numpy().T, atol=2e-6)


def test_incidences_are_those_of_pycoxs_deephit() -> None:
    head, target = fitted("deephit", outcome(causes=2))
    eta = logits(target, 2 * J)
    theirs = DeepHit(Same()).predict_cif(eta.view(-1, 2, J).float()).numpy()
    for cause in (1, 2):
        mine = head.cumulative_incidence(eta, CUTS[1:], cause)
        np.testing.assert_allclose(mine, theirs[cause - 1].T, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_pooled_predictors_mean_the_mean_law(loss: Any) -> None:
    causes = 2 if loss == "deephit" else 1
    head, target = fitted(loss, outcome(causes=causes))
    etas = np.stack([3 * logits(target, causes * J, seed).numpy() for seed in (0, 1)], axis=1)
    present = np.ones((len(etas), 2), dtype=bool)
    pooled = average(head, etas, present)
    members = [head.survival(etas[:, member], CUTS) for member in (0, 1)]
    np.testing.assert_allclose(head.survival(pooled, CUTS), np.mean(members, axis=0), rtol=1e-9)
    first = [head.cumulative_incidence(etas[:, member], CUTS) for member in (0, 1)]
    np.testing.assert_allclose(
        head.cumulative_incidence(pooled, CUTS), np.mean(first, axis=0), rtol=1e-9, atol=1e-12
    )
    present[:, 1] = False
    etas[:, 1] = np.nan
    np.testing.assert_allclose(average(head, etas, present), etas[:, 0], rtol=1e-6, atol=1e-6)


def test_entries_within_the_first_interval_change_nothing_but_pc_hazard() -> None:
    y = outcome()
    late = surv(y["time"], y["event"], np.minimum(0.5, 0.9 * y["time"]))
    for loss in LOSSES:
        (head, target), (_, delayed) = fitted(loss, y), fitted(loss, late)
        eta = logits(target, J)
        same = float(head.loss(eta, target)) == float(head.loss(eta, delayed))
        assert same is (loss != "pc_hazard")


def test_the_score_beside_the_validation_loss() -> None:
    head, target = fitted()
    score = head.monitor(logits(target, J), target)
    assert (score.name, score.higher_is_better) == ("c_index", True)
    assert 0 < score.value < 1
    assert head.monitor(logits(target, J)[:1], target.take(torch.tensor([0]))) is None


def test_a_state_brings_the_grid_and_the_causes_back() -> None:
    head, target = fitted("deephit", outcome(causes=2), cuts=None, n_intervals=5)
    again = DiscreteTimeHead("deephit")
    again.load_state(head.state())
    assert again.grid.names == head.grid.names
    eta = logits(target, len(head.grid))
    np.testing.assert_array_equal(again.survival(eta, [1.0, 3.0]), head.survival(eta, [1.0, 3.0]))


# --- outcomes ------------------------------------------------------------------------------------


def test_outcomes_that_are_refused() -> None:
    with pytest.raises(ValueError, match="this model knows no competing causes"):
        fitted("pmf", outcome(causes=2))
    with pytest.raises(ValueError, match="must reach the first event, at 5"):
        fitted(y=surv([5.0, 6.0], [1, 1]), cuts=[1.0, 2.0])
    with pytest.raises(ValueError, match="must have an event after time 0"):
        fitted(y=surv([0.0, 6.0], [1, 0]), cuts=None)
    with pytest.raises(ValueError, match="at least one event a weight above 0"):
        fitted(y=surv([5.0, 6.0], [1, 0]), weight=[0.0, 1.0])
    head, _ = fitted("deephit", surv([1.0, 2.0, 3.0], [1, 3, 0]))
    assert head.causes_.tolist() == [1, 3]
    with pytest.raises(ValueError, match=r"a cause seen in training: \[1, 3\]. Got row 'b' \(2\)"):
        head.encode(surv([1.0, 2.0], [1, 2]), index=["a", "b"])
    assert head.encode(Survival(np.ones(2), np.array([3, 0]), np.full(2, -np.inf))).event[0] == 2
    assert not head.informative(head.encode(surv([1.0, 2.0], [0, 0])))
