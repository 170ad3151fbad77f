"""Fits on designs of blocks: against the matrix written out, against autograd, and their memory."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from mmfusion.heads import CategoricalHead, CoxHead, DiscreteTimeHead, GaussianHead
from mmfusion.heads.base import Head, Target
from mmfusion.heads.grid import Basis, Grid
from mmfusion.structured import (
    Block,
    Dense,
    Design,
    Given,
    Indicator,
    Likelihood,
    StructuredFit,
    TermColumns,
    effects_table,
    effects_test,
    fit_identified,
    fit_structured,
    project,
    robust_covariance,
)
from mmfusion.structured import likelihood as likelihood_module
from mmfusion.survival import surv
from tests.structured.cases import expanded

ONE = np.ones((1, 1))


def same_fit(ours: StructuredFit, theirs: StructuredFit, rtol: float = 1e-6) -> None:
    assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, rel=rtol / 100)
    for name in ("coef", "edf"):
        wanted = getattr(theirs, name)
        assert_allclose(getattr(ours, name), wanted, rtol=rtol, atol=rtol * np.abs(wanted).max())
    for name in ("covariance", "information", "penalty"):
        wanted = getattr(theirs, name).dense()
        assert_allclose(getattr(ours, name), wanted, rtol=rtol, atol=rtol * np.abs(wanted).max())


def several_classes(n: int = 200, seed: int = 0) -> tuple[Likelihood, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    y = (x[:, 0] + rng.normal(size=n) > 0.5).astype(int) + (x[:, 1] + rng.normal(size=n) > 0)
    head = CategoricalHead()
    return Likelihood(head, head.fit_outcome(y)), np.column_stack([np.ones(n), 50 + 3 * x])


def hazards(n: int = 300, n_intervals: int = 6, seed: int = 0) -> tuple[Likelihood, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    time_, limit = rng.exponential(np.exp(-x[:, 0])), rng.exponential(2, size=n)
    head = DiscreteTimeHead("logistic_hazard", n_intervals=n_intervals)
    target = head.fit_outcome(surv(np.minimum(time_, limit), time_ <= limit))
    return Likelihood(head, target), 1000 + x


def test_classes_are_fitted_as_by_the_matrix() -> None:
    likelihood, x = several_classes()
    design = expanded(x, np.eye(3)[:, 1:])
    fit = fit_structured(likelihood, design)
    same_fit(fit, fit_structured(likelihood, design.dense()))
    assert_allclose(
        robust_covariance(fit, likelihood, design),
        robust_covariance(fit, likelihood, design.dense()),
    )


def test_hazards_are_fitted_as_by_the_matrix() -> None:
    """The baseline takes up the shift of the columns, which lie far from 0."""
    likelihood, x = hazards()
    k = likelihood.shape[1]
    design = expanded(x, np.ones((k, 1)), k)
    fit = fit_structured(likelihood, design)
    centred = fit_structured(likelihood, expanded(x - 1000, np.ones((k, 1)), k).dense())
    assert fit.converged
    assert_allclose(fit.coef[k:], centred.coef[k:], rtol=1e-8)
    assert_allclose(fit.coef[:k] + 1000 * fit.coef[k:].sum(), centred.coef[:k], rtol=1e-6)
    assert_allclose(fit.covariance[k:, k:], centred.covariance[k:, k:], rtol=1e-8)


def test_a_given_predictor_has_one_coefficient() -> None:
    likelihood, x = hazards()
    k = likelihood.shape[1]
    deep = np.random.default_rng(1).normal(size=(len(x), k))
    plain = expanded(x, np.ones((k, 1)), k)
    p = plain.n_columns
    blocks = (*plain.blocks, Given(deep[:, :, None], np.array([[p]])))
    design = Design(len(x), k, p + 1, blocks)
    fit = fit_structured(likelihood, design)
    beside = fit_structured(likelihood, plain, offset=deep * fit.coef[-1])
    assert_allclose(beside.coef, fit.coef[:-1], rtol=1e-6)
    moved = fit_structured(likelihood, design, offset=deep)
    assert moved.coef[-1] == pytest.approx(fit.coef[-1] - 1, rel=1e-6)


def test_the_projection_is_that_on_the_matrix() -> None:
    likelihood, x = several_classes()
    design = expanded(x, np.eye(3)[:, 1:])
    rng = np.random.default_rng(2)
    eta, deep = rng.normal(size=(2, len(x), 3))
    found = project(likelihood, eta, design, deep)
    again = project(likelihood, eta.ravel(), design.dense(), deep.ravel())
    assert_allclose(design.predict(found), design.predict(again), atol=1e-6)


def test_information_in_pieces_of_rows_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for likelihood, x in (hazards(), several_classes()):
        k = likelihood.shape[1]
        design = expanded(x - x.mean(0), np.eye(k))
        eta = np.random.default_rng(3).normal(size=likelihood.shape)
        whole = likelihood.information(eta, design).dense()
        for piece in (1, 40, 600):
            monkeypatch.setattr(likelihood_module, "PIECE", piece)
            assert_allclose(likelihood.information(eta, design), whole, rtol=1e-10, atol=1e-9)
        monkeypatch.undo()


def test_a_fit_starts_where_the_head_says() -> None:
    for likelihood, x in (hazards(), several_classes()):
        k = likelihood.shape[1]
        constants = np.ones((len(x), 1))
        free = np.eye(k)[:, 1:] if likelihood.initial.sum() == pytest.approx(0) else np.eye(k)
        fit = fit_structured(likelihood, expanded(constants, free))
        assert fit.n_iter <= 1  # the model with constants alone is where it starts
        wanted = likelihood.initial
        found = fit.coef @ free.T
        if free.shape[1] < k:
            found, wanted = found - found.mean(), wanted - wanted.mean()
        assert_allclose(found, wanted, atol=0.05)


# Random effects


def random_effects(family: str, n: int = 240, r: int = 12, seed: int = 0) -> Any:
    """Return a likelihood, the design with indicators, and its terms."""
    rng = np.random.default_rng(seed)
    x, codes = rng.normal(size=(n, 2)), rng.integers(0, r - 1, n)  # a level has no row
    eta = 0.5 * x[:, 0] + rng.normal(size=r)[codes]
    head: Any
    if family == "cox":
        head = CoxHead()
        target = head.fit_outcome((rng.exponential(np.exp(-eta)), rng.random(n) < 0.8))
    elif family == "gaussian":
        head = GaussianHead()
        target = head.fit_outcome(50 + 10 * (eta + 0.7 * rng.normal(size=n)))
    else:
        noise = rng.logistic(size=n)
        levels = [0.0] if family == "logistic" else [-0.7, 0.7]
        head = CategoricalHead()
        target = head.fit_outcome(np.digitize(eta + noise, levels))
    contrasts = np.eye(3)[:, 1:] if family == "classes" else ONE
    k, f = contrasts.shape
    fixed = x if family == "cox" else np.column_stack([np.ones(n), x])
    w = fixed.shape[1]
    width = w + r
    columns = np.arange(f * width).reshape(f, width)
    blocks = (
        Block(Dense(fixed), contrasts, columns[:, :w]),
        Block(Indicator(codes, r), contrasts, columns[:, w:]),
    )
    terms = [
        TermColumns(f"re {b}", slice(b * width + w, (b + 1) * width), "random", (np.ones(r),))
        for b in range(f)
    ]
    return Likelihood(head, target), Design(n, k, f * width, blocks), terms


families = pytest.mark.parametrize("family", ["gaussian", "logistic", "classes", "cox"])


@families
@pytest.mark.parametrize("options", [{}, {"sp": (2.0,)}, {"df": 4.0}])
def test_random_effects_are_fitted_as_by_the_matrix(family: str, options: dict) -> None:
    likelihood, design, terms = random_effects(family)
    terms = [replace(term, **options) for term in terms]
    full = [replace(term, penalties=(np.eye(len(term.penalties[0])),)) for term in terms]
    fit = fit_structured(likelihood, design, terms)
    wanted = fit_structured(likelihood, design.dense(), full)
    assert fit.converged
    assert fit.bread.layout.split == (family != "cox")
    for label in fit.sp:
        assert fit.sp[label] == pytest.approx(wanted.sp[label], rel=1e-4)
    same_fit(fit, wanted, rtol=1e-5)
    assert fit.scale == pytest.approx(wanted.scale, rel=1e-7)
    assert fit.aic == pytest.approx(wanted.aic, rel=1e-7)
    assert_allclose(fit.edf_alternative, wanted.edf_alternative, rtol=1e-4, atol=1e-6)
    assert_allclose(
        fit.frequentist_covariance,
        wanted.frequentist_covariance,
        atol=1e-5 * np.abs(wanted.frequentist_covariance).max(),
    )
    pd.testing.assert_frame_equal(effects_table(fit), effects_table(wanted), rtol=1e-4, atol=1e-6)
    cluster = np.arange(design.n_rows) // 4
    robust = robust_covariance(fit, likelihood, design, cluster=cluster)
    again = robust_covariance(wanted, likelihood, design.dense(), cluster=cluster)
    assert_allclose(robust, again, atol=1e-5 * np.abs(again).max())


@families
def test_a_fit_is_saved_by_its_blocks(family: str) -> None:
    likelihood, design, terms = random_effects(family)
    fit = fit_structured(likelihood, design, terms)
    again = StructuredFit.from_state(fit.state(), terms)
    assert effects_table(again).equals(effects_table(fit))
    assert_allclose(again.covariance, fit.covariance)
    for value in fit.state()["bread"].values() if family != "cox" else []:
        assert np.size(value) < len(fit.coef) ** 2 / 2


@families
def test_what_no_row_has_is_held_beside_random_effects(family: str) -> None:
    likelihood, design, terms = random_effects(family)
    first, second = design.blocks
    fixed = Dense(np.column_stack([first.rows.values, np.zeros(design.n_rows)]))
    f = len(first.columns)
    more = design.n_columns + np.arange(f)[:, None]
    blocks = (replace(first, rows=fixed, columns=np.hstack([first.columns, more])), second)
    wider = replace(design, n_columns=design.n_columns + f, blocks=blocks)
    names = [f"x{j}" for j in range(wider.n_columns)]
    fit, held = fit_identified(
        likelihood, wider, terms, None, names, np.ones(len(names), dtype=bool)
    )
    assert np.flatnonzero(held).tolist() == more.ravel().tolist()
    same_fit(
        replace(
            fit,
            coef=fit.coef[:-f],
            bread=fit.bread[:-f, :-f],
            information=fit.information[:-f, :-f],
            penalty=fit.penalty[:-f, :-f],
        ),
        fit_structured(likelihood, design, terms),
    )
    assert not fit.bread[-f:, :].any()
    assert_allclose(fit.edf[-f:], 0)


@families
def test_likelihood_ratios_drop_coefficients_of_blocks(family: str) -> None:
    likelihood, design, terms = random_effects(family)
    names = [f"x{j}" for j in range(design.n_columns)]
    fit = fit_structured(likelihood, design, terms, names=names)
    full = [replace(t, penalties=(np.eye(len(t.penalties[0])),)) for t in terms]
    wanted = fit_structured(likelihood, design.dense(), full, names=names)
    for method in ("wald", "likelihood_ratio"):
        found = effects_test(fit, ["x1"], likelihood, design, method=method)
        theirs = effects_test(wanted, ["x1"], likelihood, design.dense(), method=method)
        assert_allclose(found, theirs, rtol=1e-4)


# Two parameters with formulas of their own


@dataclass
class Numbers(Target):
    value: Tensor


class LocationScale(Head[Numbers]):
    """A Gaussian whose mean and log standard deviation are predictors; derivatives by autograd."""

    grid = Grid(("location", "scale"))
    parameters = constants = deep_basis = Basis(("location", "scale"), np.eye(2))

    def fit_outcome(self, y: Any, sample_weight: Any = None, **context: Any) -> Numbers:
        return Numbers(torch.ones(len(y), dtype=torch.float64), torch.as_tensor(y))

    encode = fit_outcome

    def initial(self, target: Numbers) -> Tensor:
        return torch.stack([target.value.mean(), target.value.std().log()])

    def loss(self, eta: Tensor, target: Numbers) -> Tensor:
        residual = (target.value - eta[:, 0]) * torch.exp(-eta[:, 1])
        return (eta[:, 1] + 0.5 * residual.square()).mean()


def location_and_scale(n: int = 400) -> tuple[Likelihood, Design, Tensor]:
    rng = np.random.default_rng(0)
    a, b, codes = rng.normal(size=(n, 3)), 3 + rng.normal(size=(n, 2)), rng.integers(-1, 4, n)
    mean = 5 + a[:, 0] - a[:, 1]
    y = mean + rng.normal(size=n) * np.exp(-1 + 0.3 * b[:, 0])
    one = np.ones((n, 1))
    blocks = (
        Block(Dense(np.hstack([one, a])), np.eye(2)[:, :1], np.arange(4)[None]),
        Block(Dense(np.hstack([one, b])), np.eye(2)[:, 1:], 4 + np.arange(3)[None]),
        Block(Indicator(codes, 4), np.eye(2), 7 + np.arange(8).reshape(2, 4)),
    )
    head = LocationScale()
    return Likelihood(head, head.fit_outcome(y)), Design(n, 2, 15, blocks), torch.as_tensor(y)


def test_information_across_parameters_is_autograds() -> None:
    likelihood, design, y = location_and_scale()
    matrix = torch.as_tensor(design.dense().reshape(-1, 2, 15))

    def value(coef: Tensor) -> Tensor:
        eta = matrix @ coef
        residual = (y - eta[:, 0]) * torch.exp(-eta[:, 1])
        return (eta[:, 1] + 0.5 * residual.square()).sum()

    coef = torch.linspace(-0.3, 0.5, 15, dtype=torch.float64)
    eta = design.predict(coef.numpy())
    hessian = torch.autograd.functional.hessian(value, coef)
    assert hessian[:4, 4:7].abs().max() > 1
    assert_allclose(likelihood.information(eta, design), hessian, rtol=1e-10, atol=1e-8)
    gradient = torch.autograd.functional.jacobian(value, coef)
    assert_allclose(design.pull(likelihood.gradient(eta)), gradient, rtol=1e-10, atol=1e-8)
    assert_allclose(likelihood.scores(eta, design).sum(0), gradient, rtol=1e-10, atol=1e-8)


def test_two_parameters_with_formulas_of_their_own_are_fitted() -> None:
    likelihood, design, _ = location_and_scale()
    terms = [TermColumns("re", slice(7, 15), "random", (np.ones(8),), sp=(1.0,))]
    fit = fit_structured(likelihood, design, terms)
    assert fit.converged
    slope = design.pull(likelihood.gradient(design.predict(fit.coef)))
    slope[7:] += fit.coef[7:]
    assert np.abs(slope).max() < 1e-6
    full = [replace(terms[0], penalties=(np.eye(8),))]
    same_fit(fit, fit_structured(likelihood, design.dense(), full))
    assert_allclose(fit.coef[[1, 2, 5]], [1, -1, 0.3], atol=0.2)


# Memory


def test_ten_thousand_levels_take_no_dense_matrix() -> None:
    n, r = 50_000, 10_000
    rng = np.random.default_rng(0)
    x, codes = rng.normal(size=(n, 3)), rng.integers(0, r, n)
    y = 1 + x @ [1.0, 2, 3] + 0.7 * rng.normal(size=r)[codes] + rng.normal(size=n)
    head = GaussianHead()
    likelihood = Likelihood(head, head.fit_outcome(y))
    blocks = (
        Block(Dense(np.column_stack([np.ones(n), x])), ONE, np.arange(4)[None]),
        Block(Indicator(codes, r), ONE, 4 + np.arange(r)[None]),
    )
    term = TermColumns("re(site)", slice(4, 4 + r), "random", (np.ones(r),))
    tracemalloc.start()
    started = time.process_time()
    fit = fit_structured(likelihood, Design(n, 1, 4 + r, blocks), [term])
    effects_table(fit)
    seconds = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # one matrix of the levels alone is 800 MB
    assert seconds < 20
    assert fit.converged
    assert fit.scale == pytest.approx(1, abs=0.03)
    assert fit.scale / fit.sp["re(site)"][0] == pytest.approx(0.49, abs=0.03)


def test_many_intervals_take_no_dense_matrix() -> None:
    likelihood, x = hazards(2_000, 100)
    k = likelihood.shape[1]
    names = [f"x{j}" for j in range(k + 3)]
    may = np.arange(k + 3) < k
    tracemalloc.start()
    fit, _ = fit_identified(likelihood, expanded(x, np.ones((k, 1)), k), (), None, names, may)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6  # the design alone would have 165 MB
    assert np.abs(fit.coef[k:] - [1, 0, 0]).max() < 0.15
