"""Exact fits without smooth terms: against statsmodels, and what cannot be fitted."""

from __future__ import annotations

import pickle
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose
from sklearn.exceptions import ConvergenceWarning

from mmfusion.heads import CategoricalHead, CoxHead, DistributionHead, GaussianHead
from mmfusion.heads.families import check_family
from mmfusion.structured import (
    CollinearityError,
    Likelihood,
    SeparationWarning,
    TermColumns,
    effects_table,
    fit_structured,
    near,
    robust_covariance,
)
from mmfusion.structured.symmetric import Symmetric
from tests.structured.cases import FAMILIES, covariates, likelihood, with_intercept


def gaussian(y: np.ndarray, weight: np.ndarray | None = None) -> Likelihood:
    head = GaussianHead()
    return Likelihood(head, head.fit_outcome(y, weight))


def logistic(y: np.ndarray, weight: np.ndarray | None = None) -> Likelihood:
    head = CategoricalHead()
    return Likelihood(head, head.fit_outcome(y, weight))


def cox(time: np.ndarray, event: np.ndarray) -> Likelihood:
    head = CoxHead()
    return Likelihood(head, head.fit_outcome((time, event)))


@pytest.mark.parametrize("weighted", [False, True])
def test_gaussian_is_statsmodels_least_squares(weighted: bool) -> None:
    x = sm.add_constant(covariates(80))
    rng = np.random.default_rng(4)
    y = 1e4 + 300 * (x @ [1.0, 2, -1, 0] + rng.normal(size=80))
    weight = rng.uniform(0.2, 3, 80) if weighted else np.ones(80)
    fit = fit_structured(gaussian(y, weight), x)
    theirs = sm.WLS(y, x, weights=weight).fit()
    table = effects_table(fit, level=0.9)
    assert_allclose(fit.coef, theirs.params, rtol=1e-6)
    assert_allclose(table["se"], theirs.bse, rtol=1e-5)
    assert_allclose(table[["lower", "upper"]], theirs.conf_int(alpha=0.1), rtol=1e-5)
    assert_allclose(table["z"], theirs.tvalues, rtol=1e-5)
    assert_allclose(table["p"], theirs.pvalues, rtol=1e-4)
    assert fit.scale == pytest.approx(theirs.scale)
    assert fit.log_likelihood == pytest.approx(theirs.llf)
    assert fit.df_residual == pytest.approx(76)
    assert fit.aic == pytest.approx(theirs.aic + 2)  # theirs does not count the scale
    assert "exp(coef)" not in table


@pytest.mark.parametrize("weighted", [False, True])
def test_logistic_is_statsmodels_glm(weighted: bool) -> None:
    x = sm.add_constant(covariates(200))
    rng = np.random.default_rng(5)
    y = (rng.random(200) < 1 / (1 + np.exp(-x @ [-0.5, 1, 0, 2]))).astype(int)
    weight = rng.integers(1, 4, 200).astype(float) if weighted else np.ones(200)
    fit = fit_structured(logistic(y, weight), x)
    theirs = sm.GLM(y, x, sm.families.Binomial(), freq_weights=weight).fit(tol=1e-14)
    table = effects_table(fit)
    assert_allclose(fit.coef, theirs.params, rtol=1e-6)
    assert_allclose(table["se"], theirs.bse, rtol=1e-5)
    assert_allclose(table["p"], theirs.pvalues, rtol=1e-4)
    assert_allclose(table["exp(coef)"], np.exp(theirs.params), rtol=1e-6)
    assert fit.log_likelihood == pytest.approx(theirs.llf)
    assert fit.aic == pytest.approx(theirs.aic)


def test_the_sandwich_is_statsmodels() -> None:
    x = sm.add_constant(covariates(150, 2))
    rng = np.random.default_rng(6)
    groups = rng.integers(0, 20, 150)
    y = x @ [1.0, 2, 3] + rng.normal(size=150) * (1 + np.abs(x[:, 1])) + groups / 10
    problem = gaussian(y)
    fit = fit_structured(problem, x)
    white = sm.OLS(y, x).fit(cov_type="HC0")
    grouped = sm.OLS(y, x).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    assert_allclose(robust_covariance(fit, problem, x), white.cov_params(), rtol=1e-6)
    assert_allclose(
        robust_covariance(fit, problem, x, cluster=groups.astype(str)),
        grouped.cov_params(),
        rtol=1e-6,
    )
    y = (y > 1).astype(int)
    problem = logistic(y)
    fit = fit_structured(problem, x)
    white = sm.GLM(y, x, sm.families.Binomial()).fit(cov_type="HC0", tol=1e-14)
    assert_allclose(robust_covariance(fit, problem, x), white.cov_params(), rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_offset_is_a_part_of_the_predictor(family: str) -> None:
    design = with_intercept(family, covariates())
    problem = likelihood(family, design @ np.arange(design.shape[1]) / 5)
    whole = fit_structured(problem, design)
    rest = fit_structured(problem, design[:, :-1], offset=design[:, -1] * whole.coef[-1])
    assert_allclose(rest.coef, whole.coef[:-1], rtol=1e-6)
    assert rest.log_likelihood == pytest.approx(whole.log_likelihood, rel=1e-10)


@pytest.mark.parametrize("family", FAMILIES)
def test_units_of_the_columns_cost_no_digits(family: str) -> None:
    x = covariates()
    year = 2000 + 4 * x[:, :1]
    design = with_intercept(family, np.column_stack([x[:, 1:], 1e6 * year, (year - 2000) ** 2]))
    raw = with_intercept(family, np.column_stack([x[:, 1:], 1e6 * year, year**2]))
    problem = likelihood(family, x.sum(1))
    fit, awkward = fit_structured(problem, design), fit_structured(problem, raw)
    # Same span: same likelihood, same effect of what is the same, curvature included.
    assert awkward.log_likelihood == pytest.approx(fit.log_likelihood, rel=1e-10)
    assert awkward.coef[-1] == pytest.approx(fit.coef[-1], rel=1e-6)
    assert awkward.covariance[-1, -1] == pytest.approx(fit.covariance[-1, -1], rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_design_without_columns_is_the_null_model(family: str) -> None:
    problem = likelihood(family, np.zeros(150))
    fit = fit_structured(problem, np.empty((150, 0)))
    assert fit.converged
    assert fit.coef.shape == (0,)
    assert fit.log_likelihood == pytest.approx(problem.log_likelihood(problem.value(np.zeros(150))))
    assert len(effects_table(fit)) == 0


def test_a_fit_can_be_pickled() -> None:
    design = covariates()
    fit = fit_structured(likelihood("cox", design[:, 0]), design, names=["a", "b", "c"])
    again = pickle.loads(pickle.dumps(fit))
    assert effects_table(again).equals(effects_table(fit))
    error = CollinearityError("text", ("a",))
    assert pickle.loads(pickle.dumps(error)).columns == ("a",)


# What cannot be fitted


@pytest.mark.parametrize("family", FAMILIES)
def test_redundant_columns_are_named(family: str) -> None:
    x = covariates()
    problem = likelihood(family, x[:, 0])
    design = np.column_stack([with_intercept(family, x), x[:, 0], x[:, 1] - 3 * x[:, 2]])
    names = [*(["one"] if family != "cox" else []), "a", "b", "c", "again", "mix"]
    with pytest.raises(CollinearityError, match="redundant columns") as caught:
        fit_structured(problem, design, names=names)
    assert caught.value.columns == ("again", "mix")
    assert "'again' is a linear combination of 'a';" in str(caught.value)
    assert "'mix' is a linear combination of 'b', 'c'." in str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_constant_columns_are_named(family: str) -> None:
    design = np.column_stack([with_intercept(family, covariates()), np.full(150, 7.0)])
    with pytest.raises(ValueError, match=r"constant columns: 'site' \(always 7\)"):
        fit_structured(
            likelihood(family, design[:, 1]),
            design,
            names=[*(f"x{j}" for j in range(design.shape[1] - 1)), "site"],
        )


def test_a_column_constant_in_each_stratum_is_named() -> None:
    rng = np.random.default_rng(0)
    strata = np.repeat([0, 1], 50)
    head = CoxHead()
    target = head.fit_outcome((rng.exponential(size=100), np.ones(100, bool)), strata=strata)
    design = np.column_stack([rng.normal(size=100), strata])
    with pytest.raises(CollinearityError, match="'sex' does not vary among the rows"):
        fit_structured(Likelihood(head, target), design, names=["age", "sex"])


@pytest.mark.parametrize("family", FAMILIES)
def test_more_columns_than_rows_are_an_error_without_penalty(family: str) -> None:
    design = with_intercept(family, covariates(12, 15))
    with pytest.raises(CollinearityError, match=r"1[56] coefficients for 12 rows"):
        fit_structured(likelihood(family, design[:, 1]), design)


def test_a_residual_variance_needs_a_degree_of_freedom() -> None:
    design = with_intercept("gaussian", covariates(12, 11))
    y = np.random.default_rng(0).normal(size=12)
    with pytest.raises(ValueError, match=r"variance. Got 12 coefficients .* for 12 rows"):
        fit_structured(gaussian(y), design)
    with pytest.raises(ValueError, match=r"Got 11 coefficients .* for 11 rows"):
        fit_structured(gaussian(y, np.arange(12.0)), design[:, :11])  # one row counts nothing
    assert fit_structured(gaussian(y), design[:, :11]).df_residual == pytest.approx(1)
    fit_structured(logistic(y > 0), design[:, :1])
    ridge = TermColumns("re(site)", slice(1, 12), "random", penalties=(np.eye(11),), sp=(1.0,))
    penalised = fit_structured(gaussian(y), design, [ridge])
    assert 0 < penalised.df_residual < 12
    assert 0 < penalised.scale < np.var(y)
    loose = replace(ridge, sp=(0.0,))
    with pytest.raises(ValueError, match="Got 12 coefficients"):
        fit_structured(gaussian(y), design, [loose])


def test_more_columns_than_rows_are_fitted_with_a_penalty() -> None:
    design = covariates(40, 60)
    term = TermColumns("re(site)", slice(0, 60), "random", penalties=(np.eye(60),), sp=(2.0,))
    problem = likelihood("cox", design[:, 0])
    fit = fit_structured(problem, design, [term])
    slope = design.T @ problem.gradient(design @ fit.coef)[:, 0] + 2 * fit.coef
    assert np.abs(slope).max() < 1e-7


def test_perfect_separation_is_named_and_the_rest_is_fitted() -> None:
    x = covariates(100, 2)
    y = (np.random.default_rng(0).random(100) < 0.5).astype(int)
    never = np.zeros(100)
    never[:10], y[:10] = 1, 0
    design = sm.add_constant(np.column_stack([x, never]))
    with pytest.warns(SeparationWarning, match="coefficients of stage4 go to infinity"):
        fit = fit_structured(logistic(y), design, names=["one", "age", "dose", "stage4"])
    assert fit.runaway == ("stage4",)
    assert not fit.converged
    # As the column takes its rows out of the fit, so does leaving them out.
    theirs = sm.Logit(y[10:], design[10:, :3]).fit(disp=0, tol=1e-12)
    assert_allclose(fit.coef[:3], theirs.params, rtol=1e-4)
    assert fit.log_likelihood == pytest.approx(theirs.llf, rel=1e-4)
    row = effects_table(fit).loc["stage4"]
    assert row["coef"] == -np.inf
    assert row["exp(coef)"] == 0
    assert np.isnan([row["se"], row["p"], row["lower"]]).all()


def test_a_separating_combination_names_its_columns() -> None:
    x = covariates(60, 3)
    y = (x[:, 0] - 2 * x[:, 1] > 0).astype(int)
    with pytest.warns(SeparationWarning):
        fit = fit_structured(logistic(y), sm.add_constant(x), names=["one", "a", "b", "c"])
    assert {"a", "b"} <= set(fit.runaway)


@pytest.mark.parametrize("direction", [1, -1])
def test_a_monotone_cox_likelihood_is_named(direction: int) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=80)
    time, event = rng.exponential(np.exp(-x)), rng.random(80) < 0.6
    group = np.where(event, rng.integers(0, 2, 80), 0) * direction  # censored rows are all 0
    group = np.where(event, direction, 0) * (rng.random(80) < 0.5)
    time = np.where(group != 0, time / 100, time + 1)  # and the group dies first
    with pytest.warns(SeparationWarning, match="of group go to infinity"):
        fit = fit_structured(cox(time, event), np.column_stack([x, group]), names=["x", "group"])
    assert np.sign(fit.coef[1]) == direction
    assert np.isfinite(fit.coef).all()


def test_one_event_alone() -> None:
    time, event = np.arange(1.0, 21), np.zeros(20, dtype=bool)
    event[0] = True
    x = np.random.default_rng(1).normal(size=20)
    x[0] = np.median(x)
    fit = fit_structured(cox(time, event), x[:, None])
    assert fit.converged
    shares = np.exp(x * fit.coef[0])
    assert (shares * x).sum() / shares.sum() == pytest.approx(x[0], abs=1e-8)
    x[0] = x.max() + 1
    with pytest.warns(SeparationWarning):
        fit_structured(cox(time, event), x[:, None])


@pytest.mark.parametrize("scale", [3.0, 8.0])
def test_large_but_finite_coefficients_are_not_taken_for_infinite(scale: float) -> None:
    x = covariates(400, 1)
    rng = np.random.default_rng(9)
    y = (rng.random(400) < 1 / (1 + np.exp(-scale * x[:, 0]))).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fit_structured(logistic(y), sm.add_constant(x))
        weak = fit_structured(logistic(y), sm.add_constant(x * 1e-6))
    assert fit.converged
    assert weak.coef[1] == pytest.approx(1e6 * fit.coef[1], rel=1e-6)


def test_a_step_that_raises_the_objective_is_halved() -> None:
    # A start far out: the full Newton step of a logistic likelihood diverges from there.
    x = covariates(100, 1)
    y = (x[:, 0] + np.random.default_rng(9).normal(size=100) > 0).astype(int)
    problem = logistic(y)
    far = fit_structured(problem, x, offset=10 * np.sign(x[:, 0] - 0.3))
    assert far.converged
    assert abs(x[:, 0] @ problem.gradient(x[:, 0] * far.coef[0] + 10 * np.sign(x[:, 0] - 0.3))) < (
        1e-6
    )


def test_a_perfect_gaussian_fit_converges() -> None:
    x = sm.add_constant(covariates(50))
    fit = fit_structured(gaussian(x @ [5.0, 1, 2, 3]), x)
    assert fit.converged
    assert_allclose(fit.coef, [5, 1, 2, 3], rtol=1e-10)
    assert fit.scale < 1e-20


def test_too_few_iterations_are_said() -> None:
    x = covariates()
    with pytest.warns(ConvergenceWarning, match=r"did not converge .* last step moved x0 most"):
        fit = fit_structured(likelihood("cox", 2 * x[:, 0]), x, max_iter=1)
    assert not fit.converged


class Overflows(Likelihood):
    """A likelihood of which the derivatives are no numbers beyond a predictor of 0.9."""

    initial = np.zeros(1)
    furthest = 0.0

    def derivatives(self, eta: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        self.furthest = max(self.furthest, float(eta.max()))
        gradient, information = super().derivatives(eta, *args, **kwargs)
        return gradient + (np.nan if eta.max() > 0.9 else 0.0), information


def test_a_step_to_where_derivatives_overflow_is_halved() -> None:
    head = DistributionHead(check_family("exponential"))
    y = np.array([0.25, 0.5, 0.75])  # a rate of 2, which the first step from 1 overshoots: e
    problem = Overflows(head, head.fit_outcome(y))
    fit = fit_structured(problem, np.ones((3, 1)))
    assert problem.furthest > 0.9
    assert fit.converged
    assert_allclose(fit.coef, np.log(2.0), rtol=1e-9)


def test_derivatives_that_overflow_at_the_start_name_the_column() -> None:
    class Nowhere(Likelihood):
        def derivatives(self, *args: Any, **kwargs: Any) -> Any:
            gradient, information = super().derivatives(*args, **kwargs)
            found = information.dense().copy()
            found[1, 1] = np.inf
            return gradient, Symmetric.of(found)

    x = sm.add_constant(covariates(50))
    head = DistributionHead(check_family("exponential"))
    problem = Nowhere(head, head.fit_outcome(np.arange(1.0, 51)))
    with pytest.raises(ValueError, match="where its fit starts, in the coefficients of a"):
        fit_structured(problem, x, names=["Intercept", "a", "b", "c"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"design": np.ones((3, 1))}, "design parameter must have shape"),
        ({"offset": np.ones(3)}, "offset parameter must have shape"),
        ({"names": ["a"]}, "names parameter must have 3 entries"),
        ({"design": np.full((150, 3), np.nan)}, r"finite numbers. Got nan at \(0, 0\)"),
    ],
)
def test_bad_input_is_named(change: dict, message: str) -> None:
    x = covariates()
    arguments = {"design": x, "offset": None, "names": None} | change
    with pytest.raises(ValueError, match=message):
        fit_structured(likelihood("cox", x[:, 0]), **arguments)


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        (np.zeros(3), "one label a row"),
        ([None] + ["a"] * 149, "a label for each row"),
        (np.zeros(150), "two labels or more"),
    ],
)
def test_bad_clusters_are_named(cluster: object, message: str) -> None:
    x = covariates()
    problem = likelihood("cox", x[:, 0])
    fit = fit_structured(problem, x)
    with pytest.raises(ValueError, match=message):
        robust_covariance(fit, problem, x, cluster=cluster)


def test_many_rows_start_at_the_fit_of_some_and_end_where_they_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    design = np.column_stack([np.ones(30_000), rng.normal(size=(30_000, 3))])
    y = rng.poisson(np.exp(design @ [0.5, 0.3, -0.2, 0.0]))
    head = DistributionHead(check_family("poisson"))
    likelihood = Likelihood(head, head.fit_outcome(y))
    quick = fit_structured(likelihood, design)
    monkeypatch.setattr(near, "MANY", 10**9)
    slow = fit_structured(likelihood, design)
    assert quick.n_iter < slow.n_iter
    assert_allclose(quick.coef, slow.coef, rtol=1e-9, atol=1e-12)
    assert_allclose(quick.bread.dense(), slow.bread.dense(), rtol=1e-8, atol=1e-16)
