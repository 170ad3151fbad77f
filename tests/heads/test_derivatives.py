"""Closed first and second derivatives of every head, against autograd and identities."""

from __future__ import annotations

from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfusion.heads import CategoricalHead, CoxHead, DiscreteTimeHead, GaussianHead
from mmfusion.heads.base import Head, Target
from mmfusion.heads.discrete import LOSSES
from mmfusion.heads.discrete.softplus import log_softplus, log_softplus_derivatives, softplus
from mmfusion.survival import surv

CUTS = [1.0, 2.5, 4.0, 7.0]
DISCRETE = [loss for loss in LOSSES if loss != "deephit"]
CLOSED = ["gaussian", "binary", "classes", *DISCRETE, "one interval"]
DIAGONAL = ["gaussian", "binary", "logistic_hazard", "multisurv", "pc_hazard", "one interval"]


def survival_outcome(n: int, causes: int, seed: int) -> np.ndarray:
    """Return times to beyond the last cut, half of them with delayed entry."""
    rng = np.random.default_rng(seed)
    time = np.where(rng.random(n) < 0.3, rng.choice(CUTS, n), rng.uniform(0.01, 8.0, n))
    event = rng.integers(0, causes + 1, n)
    event[:causes], time[:causes] = np.arange(1, causes + 1), 0.7
    entry = time * rng.uniform(-0.9, 0.9, n)
    return surv(time, event, np.where(entry > 0, entry, -np.inf))


def problem(kind: str, n: int = 40, seed: int = 0) -> tuple[Any, Any]:
    """Return a head and an outcome with weights, some of them 0."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(0, 4, n) * rng.random(n)
    weight[:4] = 1.0
    head: Any
    if kind == "gaussian":
        head, y = GaussianHead(), 100 + 20 * rng.normal(size=n)
    elif kind in ("binary", "classes"):
        head, n_classes = CategoricalHead(), 2 if kind == "binary" else 4
        y = np.append(np.arange(n_classes), rng.integers(0, n_classes, n - n_classes))
    elif kind == "one interval":
        head, y = DiscreteTimeHead("pmf", cuts=[5.0]), survival_outcome(n, 1, seed)
    else:
        head = DiscreteTimeHead(kind, cuts=CUTS)  # type: ignore[arg-type]
        y = survival_outcome(n, 1, seed)
    return head, head.fit_outcome(y, weight)


def predictors(head: Head, target: Target, size: float = 1.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = len(target), len(head.grid)
    return size * torch.randn(*shape, dtype=torch.float64, generator=generator)


def full(curvature: torch.Tensor) -> torch.Tensor:
    return curvature if curvature.ndim == 3 else torch.diag_embed(curvature)


@pytest.mark.parametrize("size", [1.0, 3.0])
@pytest.mark.parametrize("kind", CLOSED)
def test_derivatives_are_those_of_the_loss(kind: str, size: float) -> None:
    head, target = problem(kind)
    eta = predictors(head, target, size).requires_grad_()
    (gradient,) = torch.autograd.grad(head.loss(eta, target), eta)
    first, second = head.derivatives(eta, target)
    assert not first.requires_grad
    assert not second.requires_grad
    torch.testing.assert_close(first, gradient, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(head.gradient(eta, target), first, rtol=1e-14, atol=1e-16)
    n, k = eta.shape
    assert second.shape == ((n, k) if kind in DIAGONAL else (n, k, k))
    reference = torch.autograd.functional.hessian(lambda x: head.loss(x, target), eta.detach())
    own = reference[torch.arange(n), :, torch.arange(n)]
    torch.testing.assert_close(full(second), own, rtol=1e-10, atol=1e-12)
    assert float(reference.abs().sum() - own.abs().sum()) < 1e-12  # no row sees another


@pytest.mark.parametrize("kind", CLOSED)
def test_derivatives_by_autograd_are_the_same(kind: str) -> None:
    """A head without a closed form has the base class's."""
    head, target = problem(kind)
    eta = predictors(head, target)
    for mine, theirs in zip(
        head.derivatives(eta, target), Head.derivatives(head, eta, target), strict=True
    ):
        if theirs.ndim > mine.ndim:
            assert float((theirs - full(mine)).abs().max()) < 1e-12
        else:
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_the_likelihood_of_causes_has_closed_derivatives_too() -> None:
    head = DiscreteTimeHead("deephit", cuts=CUTS, alpha=1.0)
    target = head.fit_outcome(survival_outcome(30, 2, 0))
    eta = predictors(head, target).requires_grad_()
    losses = head.likelihood.losses(eta, target)
    (gradient,) = torch.autograd.grad(losses.sum(), eta)
    first, second = head.likelihood.derivatives(eta.detach(), target)
    torch.testing.assert_close(first, gradient, rtol=1e-10, atol=1e-12)
    reference = torch.autograd.functional.hessian(
        lambda x: head.likelihood.losses(x, target).sum(), eta.detach()
    )
    own = reference[torch.arange(30), :, torch.arange(30)]
    torch.testing.assert_close(second, own, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("head", [CoxHead(), DiscreteTimeHead("deephit", cuts=CUTS)])
def test_rows_that_interact_have_no_second_derivatives_of_their_own(head: Any) -> None:
    target = head.fit_outcome(survival_outcome(20, 1, 0))
    eta = predictors(head, target).requires_grad_()
    (gradient,) = torch.autograd.grad(head.loss(eta, target), eta)
    torch.testing.assert_close(head.gradient(eta, target), gradient)
    with pytest.raises(TypeError, match="no second derivatives of single rows, which interact"):
        head.derivatives(eta, target)


@pytest.mark.parametrize("size", [300.0, 1e4])
@pytest.mark.parametrize("kind", CLOSED)
def test_extreme_predictors_have_finite_derivatives(kind: str, size: float) -> None:
    head, target = problem(kind)
    eta = size * torch.sign(predictors(head, target))
    first, second = head.derivatives(eta, target)
    assert torch.isfinite(first).all()
    assert torch.isfinite(second).all()
    assert torch.isfinite(head.loss(eta, target))
    if kind in ("logistic_hazard", "multisurv", "pc_hazard", "binary"):
        assert (second >= 0).all()
    # The loss is so flat, or so straight, there that a step of 1 changes it by the gradient.
    step = torch.ones_like(eta)
    change = head.loss(eta + step, target) - head.loss(eta, target)
    if kind not in ("gaussian", "mtlr"):  # a quadratic; sums of predictors, which may be 0
        assert float(change) == pytest.approx(float((first * step).sum()), rel=1e-2, abs=1e-9)


@pytest.mark.parametrize("kind", CLOSED)
def test_information_and_scores_are_those_of_the_coefficients(kind: str) -> None:
    head, target = problem(kind)
    n, k = len(target), len(head.grid)
    generator = torch.Generator().manual_seed(3)
    design = torch.randn(n, k, 3, dtype=torch.float64, generator=generator)
    start = predictors(head, target)

    def loss(beta: torch.Tensor) -> torch.Tensor:
        return head.loss(start + design @ beta, target)

    zero = torch.zeros(3, dtype=torch.float64)
    if k == 1:
        given, autograd = design[:, 0], torch.autograd.functional
        found = head.information(start, target, given)
        torch.testing.assert_close(found, autograd.hessian(loss, zero))
        total = head.scores(start, target, given).sum(0)
        torch.testing.assert_close(total, autograd.jacobian(loss, zero))
    values = design[:, 0]
    relevance = head.relevance(start, target, values)
    centred = values - values.mean(0)
    wanted = torch.zeros(3, dtype=torch.float64)
    for j in range(k):
        scores = head.gradient(start, target)[:, j, None] * centred
        wanted += scores.sum(0) ** 2 / (scores**2).sum(0)
    torch.testing.assert_close(relevance, wanted)


@pytest.mark.parametrize("kind", CLOSED)
def test_rows_without_weight_say_nothing(kind: str) -> None:
    head, target = problem(kind)
    first, second = head.derivatives(predictors(head, target), target)
    nothing = target.weight == 0
    assert nothing.any()
    assert (first[nothing] == 0).all()
    assert (second[nothing] == 0).all()


@pytest.mark.parametrize("loss", DISCRETE)
def test_an_interval_without_rows_at_risk_has_no_curvature(loss: Any) -> None:
    head = DiscreteTimeHead(loss, cuts=[1.0, 2.0, 3.0, 4.0])
    target = head.fit_outcome(surv([3.5, 3.7, 3.9], [1, 1, 0], [1.2, 2.5, 2.0]))
    first, second = head.derivatives(predictors(head, target), target)
    assert (first[:, 0] == 0).all()
    assert (full(second)[:, 0, 0] == 0).all()
    if loss != "mtlr":  # its first predictor is in the mass of the first interval alone
        assert (full(second)[1, :1] == 0).all()


def test_the_curvature_of_logits_and_masses_has_the_rank_of_what_is_known() -> None:
    head, target = problem("classes")
    second = head.derivatives(predictors(head, target), target)[1]
    assert float(second.sum(2).abs().max()) < 1e-16  # a number added to all logits says nothing
    assert float(torch.linalg.eigvalsh(second).min()) > -1e-16


@settings(max_examples=60, deadline=None)
@given(st.floats(-700, 700))
def test_the_softplus_and_its_logarithm_are_exact(x: float) -> None:
    eta = torch.tensor(x, dtype=torch.float64)
    with mpmath.workdps(700):
        u = mpmath.exp(mpmath.mpf(x))
        exact = mpmath.log(1 + u)
        first = u / (1 + u) / exact
        second = first * (1 / (1 + u) - first)
        wanted = [float(value) for value in (exact, mpmath.log(exact), first, second)]
    assert float(softplus(eta)) == pytest.approx(wanted[0], rel=1e-14, abs=1e-300)
    assert float(log_softplus(eta)) == pytest.approx(wanted[1], rel=1e-14, abs=1e-14)
    mine = log_softplus_derivatives(eta)
    assert float(mine[0]) == pytest.approx(wanted[2], rel=1e-13)
    assert float(mine[1]) == pytest.approx(wanted[3], rel=1e-9, abs=1e-300)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(CLOSED), st.integers(0, 1000), st.floats(0.1, 5.0))
def test_newtons_model_of_a_row_is_the_losss(kind: str, seed: int, size: float) -> None:
    """Loss at eta + h less its quadratic model falls with the third power of h."""
    head, target = problem(kind, n=12, seed=seed)
    eta = predictors(head, target, size, seed)
    step = predictors(head, target, 1.0, seed + 1)
    first, second = head.derivatives(eta, target)
    slope = float((first * step).sum())
    bend = float(torch.einsum("nk,nkl,nl->", step, full(second), step))
    errors = []
    for h in (1e-2, 1e-3):
        change = float(head.loss(eta + h * step, target) - head.loss(eta, target))
        errors.append(abs(change - h * slope - h * h * bend / 2))
    assert errors[1] <= 2e-2 * errors[0] + 1e-12 * (1 + size**2)
