"""One contract over every family of distributions."""

from __future__ import annotations

from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import integrate, special, stats
from torch.nn.functional import softplus

from mmfusion.heads.distribution import DistributionHead
from mmfusion.heads.families import FAMILIES, Distribution, Family, check_family
from mmfusion.heads.families.ordinal import Ordinal
from mmfusion.heads.families.slopes import gamma_slopes

#: Some parameters of each family, on their own scale.
CASES: dict[str, list[tuple[float, ...]]] = {
    "normal": [(3.0, 0.5), (-1.0, 20.0)],
    "student_t": [(3.0, 0.5, 1.5), (0.0, 2.0, 30.0)],
    "logistic": [(3.0, 0.5), (-1.0, 2.0)],
    "gumbel": [(3.0, 0.5), (-1.0, 2.0)],
    "log_normal": [(0.5, 0.3), (1.0, 1.0)],
    "log_logistic": [(0.5, 0.3), (1.0, 0.8)],
    "weibull": [(0.5, 0.3), (1.0, 1.4)],
    "exponential": [(0.2,), (7.0,)],
    "gamma": [(2.0, 0.1), (5.0, 0.9), (1.0, 2.0)],
    "inverse_gaussian": [(2.0, 0.1), (1.0, 1.5)],
    "beta": [(0.3, 10.0), (0.9, 4.0), (0.4, 1.2)],
    "poisson": [(0.3,), (30.0,)],
    "negative_binomial": [(2.0, 0.5), (30.0, 0.05)],
    "zero_inflated_poisson": [(2.0, 0.3), (8.0, 0.01)],
    "zero_inflated_negative_binomial": [(2.0, 0.5, 0.3), (8.0, 0.1, 0.05)],
    "bernoulli": [(0.3,), (0.99,)],
    "ordinal": [(-1.0, 0.0, 2.0), (0.0, 0.1, 0.2)],
}
EVERY = [(name, theta) for name, cases in CASES.items() for theta in cases]


def family_of(name: str) -> Family:
    return Ordinal([0.0, 1.0, 2.0, 3.0]) if name == "ordinal" else check_family(name)


def frozen(name: str, theta: tuple[float, ...], n: int = 1) -> Distribution:
    family = family_of(name)
    values = zip(family.parameters, theta, strict=True)
    return Distribution(family, {key: np.full(n, value) for key, value in values})


def whole_numbers(found: Distribution) -> np.ndarray:
    low, high = found.support
    return np.arange(low, (high if np.isfinite(high) else 600.0) + 1)


def test_every_family_has_a_case() -> None:
    assert list(CASES) == list(FAMILIES)


@pytest.mark.filterwarnings("ignore::scipy.integrate.IntegrationWarning")
@pytest.mark.parametrize(("name", "theta"), EVERY)
def test_the_density_integrates_to_one_and_has_the_moments(
    name: str, theta: tuple[float, ...]
) -> None:
    found = frozen(name, theta)
    mean, variance = found.mean[0], found.std[0] ** 2
    if found.discrete:
        y = whole_numbers(found)[None]
        chance = found.pdf(y)
        total, first = chance.sum(), (chance * y).sum()
        second = (chance * (y - first) ** 2).sum()
    else:
        # Over the probabilities, which are no tails: y = quantile(p), dy = dp / pdf.
        def moment(power: int) -> float:
            ends = found.quantile(
                [1e-10, 1e-5, 0.01, 0.1, 0.5, 0.9, 0.99, 0.9999, 1 - 1e-6, 1 - 1e-8, 1 - 1e-10]
            )[0]
            parts = [
                integrate.quad(lambda y: found.pdf([y])[0] * (y - mean) ** power, a, b, limit=200)[
                    0
                ]
                for a, b in pairwise(ends)
            ]
            return float(np.sum(parts))

        total = moment(0)
        first = mean if not np.isfinite(mean) else mean + moment(1)
        second = moment(2)
    assert_allclose(total, 1.0, atol=2e-5)
    if np.isfinite(variance):
        assert_allclose(first, mean, rtol=1e-4, atol=1e-9)
        assert_allclose(second, variance, rtol=2e-3)


@pytest.mark.parametrize(("name", "theta"), EVERY)
def test_cdf_survival_and_quantile_are_inverse(name: str, theta: tuple[float, ...]) -> None:
    found = frozen(name, theta)
    p = np.array([[1e-6, 0.003, 0.1, 0.37, 0.5, 0.77, 0.99, 0.9999]])
    y = found.quantile(p)
    assert (np.diff(y[0]) >= 0).all()
    assert_allclose(found.cdf(y) + found.sf(y), 1.0, rtol=1e-9)
    if found.discrete:
        assert (found.cdf(y) >= p - 1e-12).all()
        below = np.nextafter(y, -np.inf)
        assert (found.cdf(below) < p + 1e-12).all()
        numbers = whole_numbers(found)[None, :60]
        assert_allclose(found.cdf(numbers)[0], np.cumsum(found.pdf(numbers)[0]), atol=1e-12)
    else:
        assert_allclose(found.cdf(y), p, rtol=1e-8)
        # The density is the slope of the distribution function.
        at, h = y[:, 2:6], 1e-5 * (y[:, 5:6] - y[:, 2:3])
        slope = (found.cdf(at + h) - found.cdf(at - h)) / (2 * h)
        assert_allclose(found.pdf(at), slope, rtol=1e-6)
    assert_allclose(found.median, found.quantile(0.5))
    assert_allclose(np.exp(found.logpdf(y)), found.pdf(y))


@pytest.mark.parametrize(("name", "theta"), EVERY)
def test_beyond_the_support(name: str, theta: tuple[float, ...]) -> None:
    found = frozen(name, theta)
    low, high = found.support
    for y, cdf in ((low - 1, 0.0), (high + 1, 1.0)):
        if np.isfinite(y):
            assert found.pdf(y)[0] == 0
            assert (found.cdf(y)[0], found.sf(y)[0]) == (cdf, 1 - cdf)
    assert np.isnan(found.pdf(np.nan)[0])
    assert_allclose(found.quantile([0.0, 1.0])[0], [low, high])
    if found.discrete:
        assert found.pdf(0.5)[0] == 0
        assert_allclose(found.cdf(0.5), found.cdf(0.0))


@pytest.mark.parametrize(("name", "theta"), EVERY)
def test_draws_have_the_distribution(name: str, theta: tuple[float, ...]) -> None:
    found = frozen(name, theta, n=2000)
    draws = found.sample(random_state=0)
    assert draws.shape == (2000,)
    assert_allclose(draws, found.sample(random_state=0))
    if found.discrete:
        values, counts = np.unique(draws, return_counts=True)
        assert set(values) <= set(whole_numbers(found))
        often = values[counts > 20]
        chance = found.pdf(np.tile(often, (2000, 1)))[0]
        assert (
            stats.chisquare(
                np.append(counts[counts > 20], 1e-9 + counts[counts <= 20].sum()),
                2000 * np.append(chance, 1 - chance.sum() + 1e-12),
                sum_check=False,
            ).pvalue
            > 1e-3
        )
    else:
        assert stats.kstest(found.cdf(draws), "uniform").pvalue > 1e-3
    assert found.take(slice(0, 3)).sample(5, random_state=1).shape == (3, 5)


def edge_values(found: Distribution) -> list[float]:
    """Return values at the edge of the support and in its middle."""
    low, high = found.support
    if found.discrete:
        return [low, low + 1, high if np.isfinite(high) else 500.0]
    ends = [1e-100, 1e-12] if low == 0 else [-1e12]
    ends += [1 - 1e-16, 0.5] if high == 1 else [1e12, 1.3]
    return ends


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("what", ["log_prob", "log_cdf", "log_sf"])
def test_derivatives_are_finite_at_edges_and_far_predictors(name: str, what: str) -> None:
    family = family_of(name)
    found = frozen(name, CASES[name][0])
    k = len(family.parameters)
    corners = [np.zeros(k)]
    for place in range(k):
        for size in (-50.0, 50.0):
            far = np.zeros(k)
            far[place] = size
            corners.append(far)
    if name == "ordinal":  # thresholds keep their order
        corners = [np.array([-1, 0, 1.0]) + shift for shift in (-50.0, 0.0, 50.0)]
    y = edge_values(found)
    eta = torch.tensor(np.repeat(corners, len(y), axis=0), requires_grad=True)
    at = torch.tensor(np.tile(y, len(corners)))
    value = getattr(family, what)(at, *family.theta(eta, 1.0))
    if found.discrete and what == "log_sf":
        at_top = at >= found.support[1]
        assert torch.isinf(value[at_top]).all()
        value = value[~at_top]
    assert torch.isfinite(value).all()
    (gradient,) = torch.autograd.grad(value.sum(), eta, create_graph=True)
    assert torch.isfinite(gradient).all()
    for column in gradient.unbind(1):
        if column.requires_grad:
            (second,) = torch.autograd.grad(column.sum(), eta, retain_graph=True)
            assert torch.isfinite(second).all()
    for row in range(len(at)) if not found.discrete or what == "log_prob" else ():
        known = eta.detach()[row : row + 1]
        if family.moves(known, 1.0):
            closed = family.slopes(what, at[row : row + 1], *family.theta(known, 1.0))
            for numbers in [*closed[0], *chain(*closed[1])] if closed else ():
                assert torch.isfinite(numbers).all()


#: Which functions have derivatives in closed form.
CLOSED = {
    **dict.fromkeys(
        ["normal", "logistic", "gumbel", "log_normal", "log_logistic", "weibull", "exponential"],
        ("log_prob", "log_cdf", "log_sf"),
    ),
    **dict.fromkeys(
        ["gamma", "inverse_gaussian", "beta", "poisson", "negative_binomial", "bernoulli"],
        ("log_prob",),
    ),
}


@pytest.mark.parametrize(("name", "theta"), EVERY)
@pytest.mark.parametrize("what", ["log_prob", "log_cdf", "log_sf"])
def test_derivatives_are_those_of_the_function(
    name: str, theta: tuple[float, ...], what: str
) -> None:
    family, found = family_of(name), frozen(name, theta)
    values = found.quantile([[0.02, 0.3, 0.6, 0.95]])[0]
    if found.discrete and what == "log_sf":
        values = values[values < found.support[1]]
    y = torch.tensor(values)
    start = family.eta(theta, 1.0)

    def f(eta: torch.Tensor) -> torch.Tensor:
        return getattr(family, what)(y, *family.theta(eta.expand(len(y), -1), 1.0)).sum()

    gradient = torch.autograd.functional.jacobian(f, start)
    second = torch.autograd.functional.hessian(f, start)
    for place in range(len(start)):
        h = 1e-5
        move = torch.zeros_like(start)
        move[place] = h
        with torch.no_grad():
            slope = (f(start + move) - f(start - move)) / (2 * h)
        ahead = torch.autograd.functional.jacobian(f, start + move)
        behind = torch.autograd.functional.jacobian(f, start - move)
        assert_allclose(gradient[place], slope, rtol=1e-5, atol=1e-6)
        assert_allclose(second[place], (ahead - behind) / (2 * h), rtol=1e-4, atol=1e-4)
    closed = family.slopes(what, y, *family.theta(start.expand(len(y), -1), 1.0))
    assert (closed is not None) == (what in CLOSED.get(name, ()))
    if closed is not None:
        for i, (own, row) in enumerate(zip(*closed, strict=True)):
            assert_allclose(own.sum(), gradient[i], rtol=1e-10, atol=1e-11)
            for j, mixed in enumerate(row):
                # torch's own trigamma function has nine digits
                assert_allclose(mixed.expand(len(y)).sum(), second[i, j], rtol=1e-8, atol=1e-10)


def test_derivatives_of_the_log_gamma_function_are_exact() -> None:
    x = np.concatenate([np.geomspace(1e-6, 1e8, 500), np.linspace(0.1, 30, 300)]).reshape(400, 2)
    first, second = gamma_slopes(torch.from_numpy(x))
    assert_allclose(first, special.digamma(x), rtol=1e-13, atol=1e-14)
    assert_allclose(second, special.polygamma(1, x), rtol=1e-14)


SCIPY: dict[str, Any] = {
    "normal": lambda loc, scale: stats.norm(loc, scale),
    "student_t": lambda loc, scale, df: stats.t(df, loc, scale),
    "logistic": lambda loc, scale: stats.logistic(loc, scale),
    "gumbel": lambda loc, scale: stats.gumbel_r(loc, scale),
    "log_normal": lambda loc, scale: stats.lognorm(scale, scale=np.exp(loc)),
    "log_logistic": lambda loc, scale: stats.fisk(1 / scale, scale=np.exp(loc)),
    "weibull": lambda loc, scale: stats.weibull_min(1 / scale, scale=np.exp(loc)),
    "exponential": lambda rate: stats.expon(scale=1 / rate),
    "gamma": lambda mean, phi: stats.gamma(1 / phi, scale=mean * phi),
    "inverse_gaussian": lambda mean, phi: stats.invgauss(mean * phi, scale=1 / phi),
    "beta": lambda mean, size: stats.beta(mean * size, (1 - mean) * size),
    "poisson": lambda rate: stats.poisson(rate),
    "negative_binomial": lambda rate, phi: stats.nbinom(1 / phi, 1 / (1 + phi * rate)),
    "bernoulli": lambda chance: stats.bernoulli(chance),
}


@pytest.mark.parametrize(("name", "theta"), [(n, t) for n, t in EVERY if n in SCIPY])
def test_the_functions_are_those_of_scipy(name: str, theta: tuple[float, ...]) -> None:
    found, known = frozen(name, theta), SCIPY[name](*theta)
    y = found.quantile([[1e-9, 1e-3, 0.1, 0.5, 0.9, 0.999, 1 - 1e-9]])
    y = y[:, y[0] < found.support[1] + found.discrete]
    log_prob = known.logpmf if found.discrete else known.logpdf
    assert_allclose(found.logpdf(y), log_prob(y), rtol=1e-8, atol=1e-8)
    assert_allclose(found.cdf(y), known.cdf(y), rtol=1e-7)
    assert_allclose(found.sf(y), known.sf(y), rtol=1e-5)
    mean, variance = known.stats("mv")
    if np.isfinite(mean):
        assert_allclose(found.mean, mean)
    if np.isfinite(variance):
        assert_allclose(found.std**2, variance)


@pytest.mark.parametrize("name", ["gamma", "beta", "negative_binomial", "student_t", "normal"])
def test_tails_go_on_where_probabilities_are_no_numbers(name: str) -> None:
    found = frozen(name, CASES[name][0])
    if name == "beta":
        y = np.array([[1e-150, 1e-120, 1e-60]])
    elif name == "negative_binomial":
        y = np.array([[6000.0, 3000.0, 1000.0]])
    else:
        y = {"gamma": 200.0, "student_t": -1e150, "normal": -100.0}[name] * np.array([[4, 2, 1.0]])
    tail = found.logsf if name in ("gamma", "negative_binomial") else found.logcdf
    values = tail(y)[0]
    assert np.isfinite(values).all()
    assert (np.diff(values) > 0).all()
    # The hazard is about the slope of the logarithm.
    middle = 0.5 * (y[:, :-1] + y[:, 1:])
    ahead, behind = tail(middle * (1 + 1e-4)), tail(middle * (1 - 1e-4))
    slope = np.abs(ahead - behind) / np.abs(2e-4 * middle)
    hazard = np.exp(found.logpdf(middle) - tail(middle))
    if name != "negative_binomial":
        assert_allclose(slope, hazard, rtol=0.05)


class Secant(Family):
    """A user's own family: the hyperbolic secant distribution."""

    parameters = {"loc": "identity", "scale": "log"}  # noqa: RUF012

    def log_prob(self, y: Any, loc: Any, scale: Any) -> Any:  # type: ignore[override]
        z = (y - loc) / scale
        return z - softplus(2 * z) + np.log(2 / np.pi) - scale.log()

    def log_cdf(self, y: Any, loc: Any, scale: Any) -> Any:  # type: ignore[override]
        z = ((y - loc) / scale).clamp(max=300)
        return np.log(2 / np.pi) + z.exp().atan().log()

    def mean(self, loc: Any, scale: Any) -> Any:  # type: ignore[override]
        return loc

    def variance(self, loc: Any, scale: Any) -> Any:  # type: ignore[override]
        return (np.pi * scale / 2) ** 2


def test_a_family_of_ones_own_has_quantiles_and_draws() -> None:
    found = Distribution(Secant(), {"loc": np.array([0.0, 5.0]), "scale": np.array([1.0, 1e4])})
    known = stats.hypsecant([0.0, 5.0], [1.0, 1e4])
    p = np.array([0.001, 0.3, 0.5, 0.9999])
    assert_allclose(found.quantile(p), known.ppf(p[:, None]).T, rtol=1e-8, atol=1e-8)
    assert_allclose(found.sf([1.0, 3.0]), known.sf([1.0, 3.0]))
    assert_allclose(found.std, known.std())
    assert found.sample(3, random_state=0).shape == (2, 3)


@pytest.mark.parametrize("family", [3, "gauss", None])
def test_an_unknown_family_is_refused(family: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="family parameter"):
        check_family(family)


@pytest.mark.parametrize("name", ["normal", "gamma", "negative_binomial", "beta"])
def test_the_expected_information_is_the_mean_of_the_observed_one(name: str) -> None:
    found = frozen(name, CASES[name][0], n=20_000)
    head = DistributionHead(found.family)
    target = head.fit_outcome(found.sample(random_state=0))
    eta = head.family.eta(CASES[name][0], head.unit_).expand(20_000, -1)
    observed = head.derivatives(eta, target)[1].sum(0)
    expected = head.expected(eta, target).sum(0)
    size = torch.sqrt(torch.outer(observed.diag(), observed.diag()))
    assert_allclose(expected / size, observed / size, atol=0.06)
