"""Tables of effects, smooth curves, tests of terms."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose
from scipy import stats

from mmfusion.structured import (
    TermColumns,
    contrast_table,
    effects_table,
    effects_test,
    fit_structured,
    robust_covariance,
    smooth_effect,
)
from mmfusion.structured.wald import _mixture_tail, contrast_test, smooth_test
from tests.structured.cases import FAMILIES, covariates, likelihood, wiggly, with_intercept

NAMES = ["one", "a", "b", "c"]
TERMS = [
    TermColumns("one", slice(0, 1), "parametric"),
    TermColumns("a", slice(1, 2), "parametric"),
    TermColumns("bc", slice(2, 4), "parametric"),
]


def logistic_model():
    design = with_intercept("logistic", covariates(300))
    problem = likelihood("logistic", design @ [0.0, 0.5, 0.3, 0.0])
    return problem, design, fit_structured(problem, design, TERMS, names=NAMES)


def test_columns_and_index() -> None:
    _, _, fit = logistic_model()
    table = effects_table(fit)
    columns = ["coef", "exp(coef)", "se", "lower", "upper", "exp(lower)", "exp(upper)", "z", "p"]
    assert list(table.columns) == columns
    assert (table["exp(upper)"] == np.exp(table["upper"])).all()
    assert list(table.index) == NAMES
    assert table.index.name == "term"
    with pytest.raises(ValueError, match="level parameter"):
        effects_table(fit, level=95)


def test_another_covariance_changes_intervals_and_not_estimates() -> None:
    problem, design, fit = logistic_model()
    covariance = robust_covariance(fit, problem, design)
    model, robust = effects_table(fit), effects_table(fit, covariance=covariance)
    assert_allclose(robust["se"], np.sqrt(np.diag(covariance)))
    assert (robust["coef"] == model["coef"]).all()
    assert (robust["se"] != model["se"]).all()


def test_wald_and_likelihood_ratio_are_statsmodels() -> None:
    problem, design, fit = logistic_model()
    y = problem._target.code.numpy()
    whole = sm.Logit(y, design).fit(disp=0, tol=1e-12)
    part = sm.Logit(y, design[:, :2]).fit(disp=0, tol=1e-12)
    wald = effects_test(fit, ["bc"], problem, design)
    theirs = whole.wald_test(np.eye(4)[2:], scalar=True, use_f=False)
    assert_allclose(wald, [theirs.statistic, 2, theirs.pvalue], rtol=1e-5)
    ratio = effects_test(fit, ["b", "c"], problem, design, method="likelihood_ratio")
    statistic = 2 * (whole.llf - part.llf)
    assert_allclose(ratio, [statistic, 2, stats.chi2.sf(statistic, 2)], rtol=1e-6)


def test_a_gaussian_wald_test_is_an_f_test() -> None:
    design = with_intercept("gaussian", covariates(60))
    problem = likelihood("gaussian", design @ [0.0, 0.5, 0.1, 0.0])
    fit = fit_structured(problem, design, TERMS)
    y = problem._target.value.numpy()
    theirs = sm.OLS(y, design).fit().f_test(np.eye(4)[2:])
    test = effects_test(fit, ["bc"], problem, design)
    assert test["p"] == pytest.approx(theirs.pvalue, rel=1e-6)
    assert test["statistic"] / 2 == pytest.approx(theirs.fvalue, rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_contrasts_are_statsmodels_and_invariant_to_coding(family: str) -> None:
    design = with_intercept(family, covariates(100))
    problem = likelihood(family, design.sum(1) / 4)
    fit = fit_structured(problem, design)
    wanted = np.zeros((1, design.shape[1]))
    wanted[0, -2:] = 1, -1
    table = contrast_table(fit, wanted, index=["b - c"])
    recoded = design.copy()
    recoded[:, -1] += recoded[:, -2]  # b x + c z = (b - c) x + c (x + z)
    other = effects_table(fit_structured(problem, recoded)).iloc[-2]
    assert_allclose(
        table.loc["b - c"], other[["coef", "se", "lower", "upper", "z", "p"]], rtol=1e-6
    )
    with pytest.raises(ValueError, match="contrasts parameter must have shape"):
        contrast_table(fit, wanted[0])


def test_tests_of_unknown_or_unsuitable_terms_are_refused() -> None:
    problem, design, terms = wiggly("cox")
    random = TermColumns("re(x)", terms[0].columns, "random", penalties=terms[0].penalties)
    fit = fit_structured(problem, design, terms, names=["z", *(f"s{j}" for j in range(8))])
    for labels, message in (
        (["age"], "No term or coefficient 'age'"),
        ([], "must name a term"),
        (["s(x)"], "in the table of effects"),
    ):
        with pytest.raises(ValueError, match=message):
            effects_test(fit, labels, problem, design)
    with pytest.raises(ValueError, match="method parameter"):
        effects_test(fit, ["z"], problem, design, method="score")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="random effect"):
        effects_test(fit_structured(problem, design, [random]), ["re(x)"])


def test_a_likelihood_ratio_test_drops_a_smooth_term_or_stays_beside_it() -> None:
    problem, design, terms = wiggly("cox")
    fit = fit_structured(problem, design, terms, names=["z", *(f"s{j}" for j in range(8))])
    null = fit_structured(problem, design[:, :1])
    test = effects_test(fit, ["s(x)"], problem, design, method="likelihood_ratio")
    assert test["statistic"] == pytest.approx(2 * (fit.log_likelihood - null.log_likelihood))
    assert test["df"] == pytest.approx(fit.term_edf("s(x)"))
    beside = effects_test(fit, ["z"], problem, design, method="likelihood_ratio")
    wald = effects_test(fit, ["z"], problem, design)
    assert beside["df"] == pytest.approx(1, abs=0.1)
    assert beside["statistic"] == pytest.approx(wald["statistic"], rel=0.2)
    everything = effects_test(fit, ["z", "s(x)"], problem, design, method="likelihood_ratio")
    assert everything["statistic"] > test["statistic"]


def test_smooth_rows_of_the_table() -> None:
    problem, design, terms = wiggly("cox")
    fit = fit_structured(problem, design, terms)
    table = effects_table(fit)
    assert list(table.index) == ["x0", "s(x)"]
    assert table.loc["s(x)", "edf"] == pytest.approx(fit.term_edf("s(x)"))
    assert table.loc["s(x)", "p"] < 1e-6
    assert np.isnan(table.loc["s(x)", "coef"])


def test_smooth_effects_have_the_definition_of_their_bands() -> None:
    problem, design, terms = wiggly("cox")
    fit = fit_structured(problem, design, terms)
    basis = design[:5, terms[0].columns]
    table = smooth_effect(fit, "s(x)", basis, level=0.8)
    own = terms[0].columns
    se = [np.sqrt(row @ fit.covariance[own, own] @ row) for row in basis]
    assert_allclose(table["effect"], basis @ fit.coef[own])
    assert_allclose(table["se"], se)
    assert_allclose(table["upper"] - table["lower"], 2 * stats.norm.ppf(0.9) * np.array(se))
    with pytest.raises(ValueError, match=r"basis of 's\(x\)' must have shape \(m, 8\)"):
        smooth_effect(fit, "s(x)", design)
    with pytest.raises(ValueError, match="No term"):
        smooth_effect(fit, "s(z)", basis)


# The distribution of the smooth test


@pytest.mark.parametrize("nu", [0.2, 0.7])
@pytest.mark.parametrize("whole", [0, 1, 4])
@pytest.mark.parametrize("df", [np.inf, 30.0])
def test_the_mixture_has_its_distribution(nu: float, whole: int, df: float) -> None:
    rng = np.random.default_rng(0)
    root = np.sqrt(1 - nu**2)
    weights = np.array([nu + 1 + root, nu + 1 - root]) / 2
    draws = np.square(rng.normal(size=(200_000, 2))) @ weights
    if whole:
        draws += rng.chisquare(whole, 200_000)
    if np.isfinite(df):
        draws /= rng.chisquare(df, 200_000) / df
    for quantile in (0.5, 0.95, 0.99):
        t = float(np.quantile(draws, quantile))
        p = _mixture_tail(t, whole, weights, df)
        assert p == pytest.approx(1 - quantile, rel=0.05)


@pytest.mark.parametrize("df", [np.inf, 25.0])
def test_the_mixture_is_chi_square_or_f_where_weights_are_equal(df: float) -> None:
    for whole, t in ((0, 3.0), (3, 9.0), (9, 40.0)):
        rank = whole + 2
        wanted = stats.f.sf(t / rank, rank, df) if np.isfinite(df) else stats.chi2.sf(t, rank)
        assert _mixture_tail(t, whole, np.ones(2), df) == pytest.approx(wanted, rel=1e-4)


def test_an_integer_rank_is_the_truncated_quadratic_form() -> None:
    rng = np.random.default_rng(0)
    coef, x = rng.normal(size=5), rng.normal(size=(50, 5))
    covariance = np.diag([1.0, 2, 3, 4, 5])
    full = smooth_test(coef, covariance, x.T @ x, 5.0, np.inf)
    plain = contrast_test(coef, covariance, np.inf)
    assert full.statistic == pytest.approx(plain.statistic)
    assert full.p == pytest.approx(plain.p)
    values, vectors = np.linalg.eigh(x @ covariance @ x.T)
    along = (vectors[:, -3:].T @ x @ coef) ** 2 / values[-3:]
    part = smooth_test(coef, covariance, x.T @ x, 3.0, np.inf)
    assert part.statistic == pytest.approx(along.sum())
    assert part.p == pytest.approx(stats.chi2.sf(along.sum(), 3))


def test_a_redundant_contrast_counts_once() -> None:
    doubled = np.ones((2, 2))
    test = contrast_test(np.array([1.5, 1.5]), doubled, np.inf)
    assert (test.df, test.statistic) == (1, pytest.approx(2.25))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_smooth_test_keeps_its_level(family: str) -> None:
    from tests.structured import cases

    p = []
    for seed in range(80):
        _, design, terms = wiggly(family, seed=seed, n=150)
        problem = cases.likelihood(family, np.zeros(150), seed=seed + 1000)
        p.append(effects_table(fit_structured(problem, design, terms)).loc["s(x)", "p"])
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.11
