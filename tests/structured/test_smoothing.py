"""Smoothing parameters: the maximum of the criterion, fixed values, degrees of freedom."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.interpolate import BSpline
from scipy.optimize import minimize

from mmfusion.heads import GaussianHead
from mmfusion.structured import Design, Likelihood, TermColumns, fit_structured
from mmfusion.structured.penalty import Penalties
from mmfusion.structured.smoothing import Problem, _descend, _direction, fit_reml
from tests.structured.cases import FAMILIES, differences, wiggly
from tests.structured.cases import likelihood as draw


def problem_of(family: str, penalties: list[np.ndarray] | None = None) -> Problem:
    likelihood, design, (term,) = wiggly(family)
    matrices = list(term.penalties) if penalties is None else penalties
    blocks = Penalties(design.shape[1], [("s(x)", term.columns, matrices)])
    offset = np.zeros((len(design), 1))
    return Problem(likelihood, Design.dense_of(design), blocks, offset, 50, 1e-9)


def criterion(problem: Problem, log_sp: np.ndarray) -> float:
    sp = np.exp(log_sp)
    return problem.criterion(problem.fit(sp, np.zeros(problem.penalties.p)), sp)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_slope_is_that_of_the_criterion(family: str) -> None:
    problem = problem_of(family, [differences(8, 2), np.eye(8)])
    at = np.array([0.3, -1.0])
    fit = problem.fit(np.exp(at), np.zeros(problem.penalties.p))
    slope, update = _direction(problem, fit, np.exp(at))
    axes = 1e-3 * np.eye(2)
    wanted = [(criterion(problem, at + a) - criterion(problem, at - a)) / 2e-3 for a in axes]
    assert_allclose(slope, wanted, rtol=1e-4, atol=1e-6)
    assert (slope * update <= 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_reml_is_the_maximum(family: str) -> None:
    likelihood, design, terms = wiggly(family)
    fit = fit_structured(likelihood, design, terms)
    problem = problem_of(family)
    best = minimize(lambda r: criterion(problem, r), [0.0], method="Nelder-Mead", tol=1e-9)
    assert fit.converged
    assert np.log(fit.sp["s(x)"]) == pytest.approx(best.x, abs=1e-3)
    assert 1.2 < fit.term_edf("s(x)") < 7


def test_the_scale_is_the_reml_estimate() -> None:
    # Minimised over the scale too, as mixed models are.
    likelihood, design, terms = wiggly("gaussian")
    fit = fit_structured(likelihood, design, terms)
    value = likelihood.value(design @ fit.coef) + 0.5 * fit.coef @ fit.penalty @ fit.coef
    unpenalised = design.shape[1] - np.linalg.matrix_rank(terms[0].penalties[0])
    assert fit.scale == pytest.approx(2 * value / (len(design) - unpenalised), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fixed_smoothing_parameter_is_kept(family: str) -> None:
    likelihood, design, (term,) = wiggly(family, sp=(0.7,))
    fit = fit_structured(likelihood, design, [term])
    assert fit.sp == {"s(x)": (0.7,)}
    slope = design.T @ likelihood.gradient(design @ fit.coef)[:, 0]
    slope[term.columns] += 0.7 * term.penalties[0] @ fit.coef[term.columns]
    assert (
        np.abs(slope).max() < 1e-6 * np.abs(design.T @ likelihood.gradient(0 * design[:, 0])).max()
    )


@pytest.mark.parametrize("sp", [None, (0.7,)])
@pytest.mark.parametrize("family", FAMILIES)
def test_covariances_and_degrees_of_freedom_are_their_definitions(family: str, sp: tuple) -> None:
    likelihood, design, terms = wiggly(family, sp=sp)
    fit = fit_structured(likelihood, design, terms)
    information = likelihood.information(design @ fit.coef, design).dense()
    bread = np.linalg.inv(information + fit.penalty)
    assert_allclose(fit.information, information, rtol=1e-6, atol=1e-6 * np.abs(information).max())
    assert_allclose(fit.covariance, bread * fit.scale, rtol=1e-5, atol=1e-9 * fit.scale)
    sampling = bread @ information @ bread * fit.scale
    assert_allclose(fit.frequentist_covariance, sampling, rtol=1e-5, atol=1e-9 * fit.scale)
    hat = bread @ information
    assert_allclose(fit.edf, np.diag(hat), rtol=1e-6)
    assert_allclose(fit.edf_alternative, np.diag(2 * hat - hat @ hat), rtol=1e-6)


def test_no_penalty_is_the_plain_fit() -> None:
    likelihood, design, (term,) = wiggly("logistic", sp=(0.0,))
    plain = fit_structured(likelihood, design)
    for options in ({"sp": (0.0,)}, {"sp": None, "df": 8.0}):
        term = TermColumns("s(x)", term.columns, "smooth", penalties=term.penalties, **options)
        fit = fit_structured(likelihood, design, [term])
        assert_allclose(fit.coef, plain.coef, rtol=1e-8)
        assert fit.term_edf("s(x)") == pytest.approx(8)


@pytest.mark.parametrize("df", [2.0, 3.5, 7.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_degrees_of_freedom_are_met(family: str, df: float) -> None:
    likelihood, design, terms = wiggly(family, df=df)
    fit = fit_structured(likelihood, design, terms)
    assert fit.converged
    assert fit.term_edf("s(x)") == pytest.approx(df, abs=1e-5)


def test_fewer_degrees_of_freedom_are_a_larger_penalty() -> None:
    penalties = []
    for df in (2.0, 3.0, 5.0, 7.5):
        likelihood, design, terms = wiggly("cox", df=df)
        penalties.append(fit_structured(likelihood, design, terms).sp["s(x)"][0])
    assert (np.diff(penalties) < 0).all()


@pytest.mark.parametrize(("df", "message"), [(9.0, "at most 8"), (0.5, "cannot be reached")])
def test_degrees_of_freedom_out_of_reach_are_said(df: float, message: str) -> None:
    likelihood, design, terms = wiggly("cox", df=df)
    with pytest.raises(ValueError, match=message):
        fit_structured(likelihood, design, terms)


@pytest.mark.parametrize("sp", [(1.0, 2.0), (-1.0,)])
def test_bad_smoothing_parameters_are_said(sp: tuple) -> None:
    likelihood, design, terms = wiggly("cox", sp=sp)
    with pytest.raises(ValueError, match=r"The sp of 's\(x\)' must"):
        fit_structured(likelihood, design, terms)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_straight_line_is_found_and_the_penalty_stays_finite(family: str) -> None:
    _, design, (term,) = wiggly(family, n=300, k=6, seed=11)
    straight = 0.3 * design[:, term.columns] @ np.linspace(1, 6, 6)
    fit = fit_structured(draw(family, straight, seed=5), design, [term])
    assert fit.converged
    assert np.isfinite(fit.sp["s(x)"]).all()
    assert fit.term_edf("s(x)") < 2.5


def test_a_column_in_the_unpenalised_part_of_a_smooth_is_named() -> None:
    likelihood, design, (term,) = wiggly("cox")
    line = design[:, term.columns] @ np.linspace(1, 8, 8)
    doubled = np.column_stack([line, design[:, 1:]])
    # The first column of the design was a covariate: now the smooth's own straight line.
    with pytest.raises(ValueError, match=r"'s\(x\)' without penalty is in 'x'"):
        fit_structured(likelihood, doubled, [term], names=["x", *(f"s{j}" for j in range(8))])


def test_fixed_and_free_terms_together() -> None:
    likelihood, design, (term,) = wiggly("gaussian", k=6)
    rng = np.random.default_rng(0)
    design = np.column_stack([design, rng.normal(size=(len(design), 12))])
    p = design.shape[1]
    noise = [
        TermColumns("re(a)", slice(p - 12, p - 8), "random", penalties=(np.eye(4),), df=1.5),
        TermColumns("re(b)", slice(p - 8, p - 4), "random", penalties=(np.eye(4),), sp=(3.0,)),
        TermColumns("re(c)", slice(p - 4, p), "random", penalties=(np.eye(4),)),
    ]
    fit = fit_structured(likelihood, design, [term, *noise])
    assert fit.converged
    assert fit.term_edf("re(a)") == pytest.approx(1.5, abs=1e-4)
    assert fit.sp["re(b)"] == (3.0,)
    again = fit_structured(
        likelihood,
        design,
        [
            TermColumns(t.label, t.columns, t.kind, penalties=t.penalties, sp=fit.sp[t.label])
            for t in fit.terms
        ],
    )
    assert_allclose(again.coef, fit.coef, atol=1e-6 * np.abs(fit.coef).max())


def test_the_determinant_and_its_derivatives() -> None:
    a, b = differences(5, 1), differences(5, 2)
    penalties = Penalties(9, [("x", slice(1, 6), [a, b]), ("z", slice(6, 9), [np.eye(3)])])
    sp = np.array([0.3, 2.0, 5.0])
    values = np.linalg.eigvalsh(penalties.matrix(sp))
    assert penalties.rank == 7
    assert penalties.log_det(sp) == pytest.approx(np.log(values[values > 1e-8]).sum())
    axes = 1e-5 * np.eye(3)
    slope = [
        (penalties.log_det(sp * np.exp(a)) - penalties.log_det(sp * np.exp(-a))) / 2e-5
        for a in axes
    ]
    assert_allclose(penalties.shares(sp), slope, rtol=1e-6)
    m = np.random.default_rng(0).normal(size=(9, 9))
    whole = [np.trace(m @ penalties.matrix(e)) for e in np.eye(3)]
    assert_allclose(penalties.traces(m), whole)
    assert_allclose(penalties.applied(m[0]).T @ sp, penalties.matrix(sp) @ m[0])


def test_a_term_that_ends_on_its_straight_line_starts_once_more() -> None:
    """A line does not see a wave: beyond some smoothness the criterion falls towards the line."""
    x = np.linspace(0, 1, 80)
    rng = np.random.default_rng(0)
    head = GaussianHead()
    y = 0.7 * np.sin(10 * np.pi * x) + 0.3 * rng.normal(size=len(x))
    basis = np.column_stack([np.ones_like(x), BSpline.design_matrix(
        x, np.r_[[0.0] * 3, np.linspace(0, 1, 22), [1.0] * 3], 3
    ).toarray()[:, 1:]])  # fmt: skip
    own = slice(1, basis.shape[1])
    penalties = Penalties(basis.shape[1], [("s(x)", own, [differences(basis.shape[1] - 1, 2)])])
    problem = Problem(
        Likelihood(head, head.fit_outcome(y)), Design.dense_of(basis), penalties,
        np.zeros((len(x), 1)), 50, 1e-9,
    )  # fmt: skip
    start, free, coef = np.array([1e8]), np.array([True]), np.zeros(basis.shape[1])
    line = _descend(problem, start, free, coef, None, 200, 1e-5)
    found = fit_reml(problem, start, free, coef)
    assert line.sp[0] > 1e7
    assert found.sp[0] < 1e3
    assert problem.criterion(found.fit, found.sp) < problem.criterion(line.fit, line.sp) - 1
    from_below = fit_reml(problem, np.array([1e-3]), free, coef)
    assert_allclose(found.sp, from_below.sp, rtol=1e-3)
