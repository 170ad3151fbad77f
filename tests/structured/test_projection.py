"""What of a deep predictor is taken off, and what a refit beside the rest then finds."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose

from mmfusion.structured import fit_structured, project
from tests.structured.cases import FAMILIES, covariates, likelihood, with_intercept


def strong(design: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return a deep predictor that is correlated with the design, and much larger."""
    rng = np.random.default_rng(seed)
    return 2 * design[:, -1] + np.exp(design[:, -1]) + 2 * rng.normal(size=len(design))


def test_for_least_squares_it_is_the_regression_on_the_design() -> None:
    design = sm.add_constant(covariates())
    deep = strong(design)
    problem = likelihood("gaussian", design[:, 1])
    found = project(problem, np.zeros(150), design, deep)
    assert_allclose(found, sm.OLS(deep, design).fit().params, rtol=1e-8)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_left_is_orthogonal_in_the_mean_metric(family: str) -> None:
    design = with_intercept(family, covariates())
    problem = likelihood(family, design[:, -1])
    eta, deep = 0.3 * design[:, -1], strong(design)
    rest = deep - design @ project(problem, eta, design, deep)
    # The mean Hessian by the midpoint rule, in many small steps.
    steps = (np.arange(400) + 0.5) / 400
    both = np.column_stack([design, rest])
    joint = np.mean([problem.information(eta + t * rest, both) for t in steps], axis=0)
    length = np.sqrt(np.diag(joint)[:-1] * joint[-1, -1])
    assert np.abs(joint[:-1, -1] / length).max() < 1e-4
    exact = design.T @ (problem.gradient(eta + rest) - problem.gradient(eta))
    assert np.abs(exact / length).max() < 1e-8


@pytest.mark.parametrize("family", FAMILIES)
def test_a_refit_beside_what_is_left_finds_the_structured_model_again(family: str) -> None:
    design = with_intercept(family, covariates())
    problem = likelihood(family, design[:, -1])
    alone = fit_structured(problem, design)
    deep = strong(design)
    found = project(problem, design @ alone.coef, design, deep)
    beside = fit_structured(problem, design, offset=deep - design @ found)
    assert_allclose(beside.coef, alone.coef, rtol=1e-6, atol=1e-7)
    # The metric at one end of the way does not have this property.
    errors = np.sqrt(np.diag(alone.covariance))
    for end in (design @ alone.coef, design @ alone.coef + deep):
        joint = problem.information(end, np.column_stack([design, deep]))
        other = np.linalg.solve(joint[:-1, :-1], joint[:-1, -1])
        far = fit_structured(problem, design, offset=deep - design @ other)
        moved = np.abs((far.coef - alone.coef) / errors).max()
        assert (moved < 1e-6) if family == "gaussian" else (moved > 0.5)


def test_collinear_columns_do_no_harm() -> None:
    x = covariates()
    design = np.column_stack([x, x[:, 0] - x[:, 1]])
    problem = likelihood("cox", x[:, 0])
    deep = strong(x)
    full = project(problem, 0.2 * x[:, 0], x, deep)
    more = project(problem, 0.2 * x[:, 0], design, deep)
    assert_allclose(design @ more, x @ full, atol=1e-6)
