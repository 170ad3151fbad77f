from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import Polynomial

from mmfusion.structured.splines import BSplineBasis, CubicBasis, SplineBasis
from mmfusion.structured.terms.smooth import sum_to_zero

RNG = np.random.default_rng(0)
X = np.sort(RNG.gamma(2.0, 3.0, 120))
EVEN = np.linspace(X[0], X[-1], 200)  # data under every basis function


def bases() -> list[SplineBasis]:
    return [
        BSplineBasis.evenly(X, 10),
        BSplineBasis.evenly(X, 7, degree=1),
        BSplineBasis.evenly(X, 8, degree=2),
        CubicBasis.at_quantiles(X, 3),
        CubicBasis.at_quantiles(X, 10),
    ]


@pytest.mark.parametrize("basis", bases())
@given(x=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20))
@settings(max_examples=30)
def test_the_basis_sums_to_one_everywhere(basis: SplineBasis, x: list[float]) -> None:
    # A constant lies in the span of both bases, with all coefficients 1.
    at = np.array(x)
    np.testing.assert_allclose(basis.evaluate(at).sum(axis=1), 1.0, atol=1e-9)
    assert basis.evaluate(at).shape == (len(at), basis.size)


@pytest.mark.parametrize("basis", bases())
def test_a_straight_line_is_in_the_span_beyond_the_knots_too(basis: SplineBasis) -> None:
    coefficients = np.linalg.lstsq(basis.evaluate(EVEN), 2.0 - 3.0 * EVEN, rcond=None)[0]
    far = np.array([-50.0, basis.lower, X.mean(), basis.upper, 400.0])
    np.testing.assert_allclose(basis.evaluate(far) @ coefficients, 2.0 - 3.0 * far, rtol=1e-8)


@pytest.mark.parametrize("basis", bases())
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_the_continuation_keeps_value_and_slope(basis: SplineBasis, side: float) -> None:
    end = basis.upper if side > 0 else basis.lower
    step = 1e-6 * (basis.upper - basis.lower)
    value, out, further, back = basis.evaluate(end + side * step * np.array([0.0, 1.0, 2.0, -1.0]))
    np.testing.assert_allclose(further - out, out - value, atol=1e-12)  # straight
    np.testing.assert_allclose(out - value, value - back, atol=1e-9)  # the slope inside


def test_natural_splines_have_no_curvature_at_the_ends() -> None:
    basis = CubicBasis.at_quantiles(X, 8)
    h = 1e-3
    for end, side in ((basis.lower, 1.0), (basis.upper, -1.0)):
        values = basis.evaluate(end + side * h * np.arange(4))
        second = (2 * values[0] - 5 * values[1] + 4 * values[2] - values[3]) / h**2
        np.testing.assert_allclose(second, 0.0, atol=1e-3)


def test_the_cubic_penalty_is_the_integrated_squared_second_derivative() -> None:
    basis = CubicBasis.at_quantiles(X, 6)
    coefficients = RNG.normal(size=6)
    integral = 0.0
    for low, high in zip(basis.knots[:-1], basis.knots[1:], strict=True):
        at = np.linspace(low, high, 4)
        piece = Polynomial.fit(at, basis.evaluate(at) @ coefficients, 3)
        square = (piece.deriv(2) ** 2).integ()
        integral += square(high) - square(low)
    quadratic = coefficients @ basis.curvature_penalty() @ coefficients
    assert quadratic == pytest.approx(integral, rel=1e-9)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_difference_penalty_leaves_polynomials_alone(order: int) -> None:
    basis = BSplineBasis.evenly(X, 10)
    penalty = basis.difference_penalty(order)
    assert np.linalg.matrix_rank(penalty) == 10 - order
    for power in range(order):
        polynomial = np.linalg.lstsq(basis.evaluate(EVEN), (EVEN / 5) ** power, rcond=None)[0]
        assert polynomial @ penalty @ polynomial == pytest.approx(0.0, abs=1e-9)
    beyond = np.linalg.lstsq(basis.evaluate(EVEN), (EVEN / 5) ** order, rcond=None)[0]
    assert beyond @ penalty @ beyond > 1e-3


def test_cubic_knots_stand_at_quantiles_of_distinct_values() -> None:
    tied = np.repeat([0.0, 1.0, 2.0, 10.0], [50, 1, 1, 1])
    np.testing.assert_allclose(CubicBasis.at_quantiles(tied, 4).knots, [0.0, 1.0, 2.0, 10.0])


@given(seed=st.integers(0, 1000), columns=st.integers(2, 8))
@settings(max_examples=30)
def test_the_constraint_is_an_orthonormal_basis_of_what_sums_to_zero(
    seed: int, columns: int
) -> None:
    design = np.random.default_rng(seed).normal(1.0, 2.0, (30, columns))
    Z = sum_to_zero(design)
    assert Z.shape == (columns, columns - 1)
    np.testing.assert_allclose(Z.T @ Z, np.eye(columns - 1), atol=1e-12)
    np.testing.assert_allclose((design @ Z).sum(axis=0), 0.0, atol=1e-10)
