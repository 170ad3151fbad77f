"""Loss, gradient and curvature of the Cox likelihood against the textbook sums over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfusion.heads.cox import (
    CoxPlan,
    cox_gradient,
    cox_hessian_diagonal,
    cox_hessian_vector,
    cox_information,
    cox_loss,
    plan,
    risk_sets,
)
from tests.heads.cox_reference import Cohort, cohorts, draw, hessian, negative_log_likelihood

TIES = ["efron", "breslow"]

# Each of these cohorts takes another way through the sums.
SETTINGS = {
    "plain": {"n_times": 1000},
    "ties": {},
    "weights": {"weighted": True},
    "strata": {"n_strata": 3},
    "many strata": {"n_strata": 100},
    "late entry": {"delayed": True},
    "everything": {"weighted": True, "n_strata": 3, "delayed": True},
}


def log_hazards(n: int, scale: float, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.uniform(-scale, scale, n))


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


def plan_of(cohort: Cohort) -> CoxPlan:
    return CoxPlan.from_outcome(*cohort.parts())


@pytest.fixture(params=["pairs", "tree"])
def sums(request, monkeypatch) -> None:
    """Run a test once with sums over all pairs, as in small batches, and once with the tree."""
    if request.param == "tree":
        monkeypatch.setattr(risk_sets, "DENSE", 0)


def compare(cohort: Cohort, eta: torch.Tensor, ties: str) -> None:
    eta = eta.requires_grad_()
    loss = cox_loss(eta, plan_of(cohort), ties)
    (gradient,) = torch.autograd.grad(loss, eta)
    if cohort.total() == 0:
        assert loss.item() == 0
        assert not gradient.any()
        return
    wanted = negative_log_likelihood(eta, cohort, ties)
    (wanted_gradient,) = torch.autograd.grad(wanted, eta)
    # On the scale of a loss per event; gradients are sums of terms of the size of event weights.
    assert abs(loss.item() - wanted.item()) <= 1e-10 * max(1.0, abs(wanted.item()))
    scale = float(cohort.weight[cohort.event].max() / cohort.total())
    assert float((gradient - wanted_gradient).abs().max()) <= 1e-10 * scale


@pytest.mark.parametrize("dense", [risk_sets.DENSE, 0], ids=["pairs", "tree"])
@settings(max_examples=60)
@given(
    cohort=cohorts(),
    scale=st.sampled_from([1.0, 10.0, 300.0]),
    seed=st.integers(0, 1000),
    ties=st.sampled_from(TIES),
)
def test_loss_and_gradient_equal_the_reference(dense, cohort, scale, seed, ties):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(risk_sets, "DENSE", dense)
        compare(cohort, log_hazards(len(cohort.time), scale, seed), ties)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize("setting", SETTINGS)
def test_loss_and_gradient_of_each_way_through_the_sums(setting, scale, ties):
    cohort = draw(1, 80, **SETTINGS[setting])
    compare(cohort, log_hazards(80, scale), ties)


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.usefixtures("sums")
def test_extreme_log_hazards_are_finite_and_right(setting, ties):
    cohort = draw(2, 40, **SETTINGS[setting])
    eta = log_hazards(40, 1e4)
    loss = cox_loss(eta, plan_of(cohort), ties)
    gradient = cox_gradient(eta, plan_of(cohort), ties)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    torch.testing.assert_close(
        loss, negative_log_likelihood(eta, cohort, ties), rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.usefixtures("sums")
def test_curvature_equals_autograd_of_the_reference(setting, ties):
    cohort = draw(3, 30, **SETTINGS[setting])
    eta = log_hazards(30, 2.0)
    wanted = hessian(eta, cohort, ties)
    planned = plan_of(cohort)
    vectors = torch.randn(30, 3, dtype=torch.float64)
    design = vectors + 100.0  # a large constant must not cost digits

    assert relative(cox_hessian_vector(eta, planned, vectors, ties), wanted @ vectors) < 1e-12
    assert relative(cox_hessian_diagonal(eta, planned, ties), wanted.diagonal()) < 1e-12
    information = cox_information(eta, planned, design, ties)
    assert relative(information, vectors.T @ wanted @ vectors) < 1e-10
    assert float(torch.linalg.eigvalsh(information).min()) > 0


@pytest.mark.parametrize("ties", TIES)
def test_double_backward_is_the_hessian_product(ties):
    cohort = draw(4, 25, weighted=True)
    eta = log_hazards(25, 1.0).requires_grad_()
    vector = torch.randn(25, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(cox_loss(eta, plan_of(cohort), ties), eta, create_graph=True)
    (product,) = torch.autograd.grad(gradient @ vector, eta)
    assert relative(product, hessian(eta.detach(), cohort, ties) @ vector) < 1e-12
    assert torch.autograd.gradcheck(lambda x: cox_loss(x, plan_of(cohort), ties), eta)
    assert torch.autograd.gradgradcheck(lambda x: cox_loss(x, plan_of(cohort), ties), eta)


def test_curvature_far_from_zero_keeps_its_digits():
    cohort = draw(5, 30, weighted=True, delayed=True)
    eta = log_hazards(30, 2.0)
    eta[0] = -800.0  # the prefix of exp would underflow: logs throughout
    wanted = hessian(eta, cohort, "efron")
    vectors = torch.randn(30, 2, dtype=torch.float64)
    assert relative(cox_hessian_vector(eta, plan_of(cohort), vectors), wanted @ vectors) < 1e-11


def test_hessian_products_in_pieces_are_the_same(monkeypatch):
    from mmfusion.heads.cox import loss

    cohort = draw(6, 40)
    eta, vectors = log_hazards(40, 1.0), torch.randn(40, 5, dtype=torch.float64)
    whole = cox_hessian_vector(eta, plan_of(cohort), vectors)
    monkeypatch.setattr(loss, "CHUNK", 1)
    torch.testing.assert_close(cox_hessian_vector(eta, plan_of(cohort), vectors), whole)


def test_sum_and_mean_differ_by_the_weight_of_events():
    cohort = draw(7, 30, weighted=True)
    eta, planned, total = log_hazards(30, 1.0), plan_of(cohort), cohort.total()
    design = torch.randn(30, 2, dtype=torch.float64)
    for function in (cox_loss, cox_gradient, cox_hessian_diagonal):
        torch.testing.assert_close(
            function(eta, planned, reduction="sum"), total * function(eta, planned)
        )
    torch.testing.assert_close(
        cox_information(eta, planned, design, reduction="sum"),
        total * cox_information(eta, planned, design),
    )


# Invariants T3 to T6 of the method


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("delayed", [False, True])
def test_a_constant_per_stratum_is_of_no_consequence(delayed, ties):
    cohort = draw(8, 60, n_strata=3, weighted=True, delayed=delayed)
    eta, planned = log_hazards(60, 2.0), plan_of(cohort)
    shift = torch.tensor([5.0, -3.0, 0.5]).double()[cohort.stratum]
    torch.testing.assert_close(cox_loss(eta + shift, planned, ties), cox_loss(eta, planned, ties))
    gradient = cox_gradient(eta, planned, ties)
    for stratum in range(3):
        assert abs(float(gradient[cohort.stratum == stratum].sum())) < 1e-14


def test_integer_weights_repeat_rows_under_breslow_only():
    cohort = draw(9, 30, share=0.8)
    cohort.weight = torch.randint(1, 4, (30,)).double()
    rows = torch.arange(30).repeat_interleave(cohort.weight.long())
    repeated = cohort.take(rows)
    repeated.weight = torch.ones(len(rows), dtype=torch.float64)
    eta = log_hazards(30, 2.0)

    def both(ties: str) -> tuple[float, float]:
        return (
            cox_loss(eta, plan_of(cohort), ties).item(),
            cox_loss(eta[rows], plan_of(repeated), ties).item(),
        )

    weighted, duplicated = both("breslow")
    assert weighted == pytest.approx(duplicated, rel=1e-12)
    weighted, duplicated = both("efron")
    assert abs(weighted - duplicated) > 1e-3


@pytest.mark.parametrize("ties", TIES)
def test_a_row_of_weight_zero_is_as_absent(ties):
    cohort = draw(10, 40, share=0.8)
    cohort.weight[::4] = 0.0
    kept = cohort.weight.nonzero()[:, 0]
    eta = log_hazards(40, 2.0)
    eta[0] = 700.0
    torch.testing.assert_close(
        cox_loss(eta, plan_of(cohort), ties),
        cox_loss(eta[kept], plan_of(cohort.take(kept)), ties),
        rtol=1e-12,
        atol=0,
    )


@pytest.mark.parametrize("ties", TIES)
def test_entry_before_everything_is_no_entry(ties):
    cohort = draw(11, 40)
    eta = log_hazards(40, 2.0)
    without = cox_loss(eta, CoxPlan.from_outcome(cohort.time, cohort.event), ties)
    for entry in (-torch.inf, -1.0):
        cohort.entry = torch.full((40,), entry, dtype=torch.float64)
        assert cox_loss(eta, plan_of(cohort), ties) == without


@pytest.mark.parametrize("setting", SETTINGS)
def test_row_order_is_of_no_consequence(setting):
    cohort = draw(12, 60, **SETTINGS[setting])
    eta = log_hazards(60, 3.0)
    gradient = cox_gradient(eta, plan_of(cohort))
    for seed in range(5):
        rows = torch.from_numpy(np.random.default_rng(seed).permutation(60))
        planned = plan_of(cohort.take(rows))
        torch.testing.assert_close(
            cox_loss(eta[rows], planned), cox_loss(eta, plan_of(cohort)), rtol=1e-13, atol=0
        )
        torch.testing.assert_close(
            cox_gradient(eta[rows], planned), gradient[rows], rtol=0, atol=1e-15
        )


def test_prefix_sums_tree_and_pairs_agree(monkeypatch):
    cohort = draw(13, 300, n_times=60, n_strata=4, weighted=True)
    eta = log_hazards(300, 3.0)
    found = []
    for dense, most_strata in [(1 << 30, 64), (1 << 30, 0), (0, 0)]:
        monkeypatch.setattr(risk_sets, "DENSE", dense)
        monkeypatch.setattr(plan, "MAX_SPLIT_STRATA", most_strata)
        planned = plan_of(cohort)
        assert planned.nested == (most_strata > 0)
        found.append((cox_loss(eta, planned), cox_gradient(eta, planned)))
    for loss, gradient in found[1:]:
        torch.testing.assert_close(loss, found[0][0], rtol=1e-13, atol=0)
        torch.testing.assert_close(gradient, found[0][1], rtol=0, atol=1e-15)


def test_single_precision_in_single_precision_out_double_inside():
    cohort = draw(14, 50)
    eta = log_hazards(50, 300.0).float().requires_grad_()
    loss = cox_loss(eta, plan_of(cohort))
    loss.backward()
    assert loss.dtype == torch.float64
    assert eta.grad.dtype == torch.float32
    wanted = negative_log_likelihood(eta.detach().double(), cohort, "efron")
    torch.testing.assert_close(loss.detach(), wanted, rtol=1e-12, atol=0)
    assert cox_gradient(eta, plan_of(cohort)).dtype == torch.float64
    half = eta.detach().bfloat16().requires_grad_()
    cox_loss(half, plan_of(cohort)).backward()
    assert half.grad.isfinite().all()


def test_a_column_of_predictors_keeps_its_shape():
    cohort = draw(15, 20)
    eta = log_hazards(20, 1.0)
    column = eta[:, None].clone().requires_grad_()
    cox_loss(column, plan_of(cohort)).backward()
    assert column.grad.shape == (20, 1)
    torch.testing.assert_close(column.grad[:, 0], cox_gradient(eta, plan_of(cohort)))
    assert cox_gradient(column, plan_of(cohort)).shape == (20, 1)


def test_many_tied_deaths_take_little_memory():
    n = 40_000
    time = torch.cat([torch.zeros(n // 2), torch.arange(1, n // 2 + 1)]).double()
    event = torch.ones(n, dtype=torch.bool)
    planned = CoxPlan.from_outcome(time, event)
    eta = torch.zeros(n, dtype=torch.float64, requires_grad=True)
    with torch.profiler.profile(profile_memory=True) as profile:
        cox_loss(eta, planned).backward()
    allocated = sum(max(e.self_cpu_memory_usage, 0) for e in profile.key_averages())
    assert allocated < 20e6  # all that was ever allocated, so the peak is less still
    # At eta = 0 the deaths at time 0 have the denominators n, n - 1, ..., n / 2 + 1, the others
    # n / 2, ..., 1: the log of n! over n.
    loss = cox_loss(eta, planned).item()
    assert loss == pytest.approx(float(torch.lgamma(torch.tensor(n + 1.0).double())) / n, rel=1e-13)


def test_bad_input_is_refused():
    planned = CoxPlan.from_outcome(torch.arange(3.0), torch.ones(3))
    eta = torch.zeros(3)
    with pytest.raises(ValueError, match=r"eta parameter must have shape \(3,\).*Got \(4,\)"):
        cox_loss(torch.zeros(4), planned)
    with pytest.raises(ValueError, match=r"Got \(3, 2\)"):
        cox_gradient(torch.zeros(3, 2), planned)
    with pytest.raises(ValueError, match=r"ties parameter must be 'efron' or 'breslow'. Got 'no'"):
        cox_loss(eta, planned, ties="no")
    with pytest.raises(ValueError, match="reduction parameter must be 'mean' or 'sum'"):
        cox_loss(eta, planned, reduction="none")
    with pytest.raises(ValueError, match="at least one row"):
        CoxPlan.from_outcome(torch.zeros(0), torch.zeros(0))
    with pytest.raises(ValueError, match=r"entry parameter must have shape \(3,\)"):
        CoxPlan.from_outcome(torch.arange(3.0), torch.ones(3), entry=torch.zeros(2))


def test_nan_does_not_hide():
    for delayed in (False, True):
        cohort = draw(16, 20, delayed=delayed)
        eta = log_hazards(20, 1.0)
        eta[cohort.event.nonzero()[0]] = torch.nan
        assert cox_loss(eta, plan_of(cohort)).isnan()


@pytest.mark.gpu
def test_loss_and_gradient_on_the_gpu():
    for setting in SETTINGS.values():
        cohort = draw(17, 80, **setting)
        eta = log_hazards(80, 3.0)
        planned = CoxPlan.from_outcome(*(part.cuda() for part in cohort.parts()))
        torch.testing.assert_close(
            cox_loss(eta.cuda(), planned).cpu(), cox_loss(eta, plan_of(cohort)), rtol=1e-12, atol=0
        )
        torch.testing.assert_close(
            cox_gradient(eta.cuda(), planned).cpu(),
            cox_gradient(eta, plan_of(cohort)),
            rtol=0,
            atol=1e-14,
        )
