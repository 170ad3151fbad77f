"""A head's likelihood in the units of the outcome, and the curvature every head has."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from numpy.testing import assert_allclose

from mmfusion.heads import CategoricalHead, CoxHead, GaussianHead
from mmfusion.structured import Likelihood, fit_structured
from tests.structured.cases import FAMILIES, covariates, likelihood, with_intercept


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_derivatives_are_those_of_the_value(family: str, weighted: bool) -> None:
    design = with_intercept(family, covariates(40))
    beta = np.full(design.shape[1], 0.3)
    weight = np.random.default_rng(0).uniform(0.5, 2, 40) if weighted else None
    problem = likelihood(family, design @ beta, weight=weight)
    eta = design @ beta

    def value(step: np.ndarray) -> float:
        return problem.value(eta + design @ step)

    axes = 1e-4 * np.eye(len(beta))
    slope = [(value(a) - value(-a)) / 2e-4 for a in axes]
    assert_allclose(design.T @ problem.gradient(eta)[:, 0], slope, rtol=1e-6, atol=1e-5)
    assert_allclose(problem.scores(eta, design).sum(0), slope, rtol=1e-6, atol=1e-5)
    bend = np.column_stack(
        [
            design.T
            @ (problem.gradient(eta + design @ a) - problem.gradient(eta - design @ a))[:, 0]
            for a in axes
        ]
    )
    assert_allclose(problem.information(eta, design), bend / 2e-4, rtol=1e-5, atol=1e-5)


def test_the_gaussian_value_is_half_the_sum_of_squares_in_units_of_y() -> None:
    y = np.array([3.0, 8.0, 100.0, 41.0])
    weight = np.array([1.0, 2.0, 0.0, 0.5])
    head = GaussianHead()
    problem = Likelihood(head, head.fit_outcome(y, weight))
    eta = np.array([1.0, 9.0, 50.0, 40.0])
    assert problem.value(eta) == pytest.approx(0.5 * (weight * (y - eta) ** 2).sum())
    assert_allclose(problem.gradient(eta)[:, 0], weight * (eta - y))
    assert problem.n_rows == 3


def test_three_classes_are_statsmodels_mnlogit() -> None:
    x = covariates(200, 2)
    rng = np.random.default_rng(0)
    y = (x[:, 0] + rng.normal(size=200) > 0.5).astype(int) + (x[:, 1] + rng.normal(size=200) > 0)
    head = CategoricalHead()
    problem = Likelihood(head, head.fit_outcome(y))
    one = np.column_stack([np.ones(200), x])
    # Predictors fastest; the first class is the reference, without columns.
    design = np.zeros((200, 3, 6))
    design[:, 1, :3] = design[:, 2, 3:] = one
    fit = fit_structured(problem, design.reshape(600, 6))
    theirs = sm.MNLogit(y, one).fit(disp=0, tol=1e-12)
    assert_allclose(fit.coef, theirs.params.T.ravel(), rtol=1e-6)
    assert_allclose(np.sqrt(np.diag(fit.covariance)), theirs.bse.T.ravel(), rtol=1e-5)
    assert fit.log_likelihood == pytest.approx(theirs.llf, rel=1e-10)
    assert problem.scores(design.reshape(600, 6) @ fit.coef, design.reshape(600, 6)).shape == (
        200,
        6,
    )


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("delayed", [False, True])
def test_cox_scores_are_the_gradient_row_by_row(ties: str, delayed: bool) -> None:
    rng = np.random.default_rng(2)
    time, event = np.ceil(4 * rng.exponential(size=60)), rng.random(60) < 0.6
    entry = np.where(rng.random(60) < 0.5, time - 1, 0.0) if delayed else np.zeros(60)
    weight = rng.choice([0.0, 1.0, 2.5], 60)
    strata = rng.integers(0, 2, 60)
    head = CoxHead(ties=ties)  # type: ignore[arg-type]
    target = head.fit_outcome((time, event, entry), weight, strata)
    design, eta = torch.randn(60, 2).double(), torch.randn(60, 1).double()
    scores = head.scores(eta, target, design)
    assert_allclose(scores.sum(0), design.T @ head.gradient(eta, target)[:, 0], atol=1e-12)
    assert float(scores[weight == 0].abs().max()) == 0.0
