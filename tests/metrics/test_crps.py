"""CRPS against its definition: integrals, sums, tails, censoring."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, stats

from mmfusion import surv
from mmfusion.metrics import crps, crps_sample
from tests.helpers import Frozen

WEIBULL = Frozen(stats.weibull_min, c=[0.7, 1.5, 3.0], scale=[5.0, 1.0, 2.0])


def integral(cdf: Any, start: float, end: float, below: bool) -> float:
    """Return the integral of F**2 or (1 - F)**2 over values, piece by piece."""
    ends = [start, *(x for x in (0.1, 0.5, 1, 2, 5, 20, 100, 1e3, 1e5) if start < x < end), end]
    square = (lambda x: cdf(x) ** 2) if below else (lambda x: (1 - cdf(x)) ** 2)
    pieces = itertools.pairwise(ends)
    return sum(integrate.quad(square, a, b, epsabs=1e-11, limit=200)[0] for a, b in pieces)


@pytest.mark.parametrize(
    ("family", "parameters"),
    [
        (stats.weibull_min, {"c": 0.7, "scale": 5.0}),
        (stats.invgauss, {"mu": 0.8, "scale": 2.0}),
        (stats.fisk, {"c": 1.3, "scale": 1.0}),  # without a variance
        (stats.uniform, {"loc": 2.0, "scale": 3.0}),
    ],
)
@pytest.mark.parametrize("y", [0.01, 2.5, 40.0])
@pytest.mark.filterwarnings("ignore:The integral is probably divergent")  # but slowly convergent
def test_it_is_the_integral_over_values(family: Any, parameters: Any, y: float) -> None:
    frozen = family(**parameters)
    wanted = integral(frozen.cdf, 0, y, below=True) + integral(frozen.cdf, y, np.inf, below=False)
    assert_allclose(crps([y], Frozen(family, **parameters)), wanted, rtol=1e-7)


def test_far_outcomes_and_far_scales() -> None:
    normal = Frozen(stats.norm, loc=0.0, scale=[1.0, 1.0, 1e-6, 1e9])
    found = crps([60.0, -60.0, 0.0, 0.0], normal)
    at_zero = (np.sqrt(2) - 1) / np.sqrt(np.pi)
    wanted = [60 - 1 / np.sqrt(np.pi), 60 - 1 / np.sqrt(np.pi), at_zero * 1e-6, at_zero * 1e9]
    assert_allclose(found, wanted, rtol=1e-6)
    # Beyond the support: the distance to it comes on top.
    uniform = Frozen(stats.uniform, loc=[0.0, 0.0], scale=[1.0, 1.0])
    assert_allclose(crps([-2.0, 5.0], uniform), [2 + 1 / 3, 4 + 1 / 3], rtol=1e-9)


def test_counts_far_and_wide() -> None:
    rows = Frozen(stats.poisson, mu=[3.0, 3.0, 0.01])
    k = np.arange(400)
    cdf = stats.poisson(3).cdf(k)
    wanted = [((cdf - (k >= y)) ** 2).sum() for y in (0, 200)]
    assert_allclose(crps([0, 200], Frozen(stats.poisson, mu=[3.0, 3.0])), wanted, rtol=1e-12)
    assert crps([0, 0, 0], rows)[2] == pytest.approx(stats.poisson(0.01).sf(0) ** 2, rel=1e-4)
    # So wide that it is not summed: as good as the gamma variable it is close to.
    wide = Frozen(stats.nbinom, n=[2.0, 2.0], p=[1e-5, 0.5])
    gamma = Frozen(stats.gamma, a=2.0, scale=1e5)
    found = crps([150_000, 1], wide)
    assert_allclose(found[0], crps([150_000.5], gamma), rtol=1e-3)
    assert_allclose(found[1], crps([1], Frozen(stats.nbinom, n=2.0, p=0.5))[0], rtol=1e-12)


def test_outcomes_known_by_bounds_leave_their_interval_out() -> None:
    time, event, upper = [2.0, 0.5, 1.0], [1, 0, 1], [np.nan, np.nan, 3.0]
    found = crps(surv(time, event, upper=upper), WEIBULL)
    cdf = [stats.weibull_min(c, scale=s).cdf for c, s in zip([0.7, 1.5, 3], [5, 1, 2], strict=True)]
    wanted = [
        integral(cdf[0], 0, 2, below=True) + integral(cdf[0], 2, np.inf, below=False),
        integral(cdf[1], 0, 0.5, below=True),
        integral(cdf[2], 0, 1, below=True) + integral(cdf[2], 3, np.inf, below=False),
    ]
    assert_allclose(found, wanted, rtol=1e-7)
    limits = pd.DataFrame({"lower": [-np.inf, 0.5, 1], "upper": [2, np.inf, 3]})
    left = integral(cdf[0], 2, np.inf, below=False)
    assert_allclose(crps(limits, WEIBULL), [left, *wanted[1:]], rtol=1e-7)
    counts = Frozen(stats.poisson, mu=[3.0, 3.0])
    censored = crps(pd.DataFrame({"lower": [-np.inf, 2], "upper": [2, np.inf]}), counts)
    cdf3 = stats.poisson(3).cdf(np.arange(60))
    # Two or less, and two or more: ends belong to the limits of a count.
    assert_allclose(censored, [((1 - cdf3[2:]) ** 2).sum(), (cdf3[:2] ** 2).sum()], rtol=1e-9)


def test_a_closed_form_of_the_distribution_is_asked() -> None:
    class Own(Frozen):
        def crps(self, y: Any) -> Any:
            return np.full(len(y), 7.0)

    own = Own(stats.weibull_min, c=[0.7, 1.5, 3.0], scale=1.0)
    assert crps([1.0, 2.0, 3.0], own).tolist() == [7.0] * 3
    assert (crps(surv([1.0, 2.0, 3.0], [1, 0, 1]), own) != 7).all()  # it knows no censoring


def test_the_fair_score_of_samples_is_that_of_the_distribution() -> None:
    rng = np.random.default_rng(0)
    rows = Frozen(stats.norm, loc=np.zeros(4000), scale=1.0)
    y = rng.normal(size=4000)
    difference = crps_sample(y, rng.normal(size=(4000, 5)), fair=True) - crps(y, rows)
    assert abs(difference.mean()) < 3 * difference.std() / np.sqrt(4000)
    raw = crps_sample(y, rng.normal(size=(4000, 5))).mean()
    assert raw - crps(y, rows).mean() == pytest.approx(1 / (5 * np.sqrt(np.pi)), rel=0.2)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"row for each of the 2 outcomes.*Got 3 rows"):
        crps([1.0, 2.0], WEIBULL)
    with pytest.raises(ValueError, match=r"missing or infinite. Got some in rows \[?1"):
        crps([1.0, np.nan, 2.0], WEIBULL)
    with pytest.raises(ValueError, match=r"delayed entry.*in 1 rows"):
        crps(surv([1, 2, 3], [1, 0, 1], [0, 0, 2]), WEIBULL)
    assert np.isfinite(crps(surv([1, 2, 3], [1, 0, 1], [0, 0, 0]), WEIBULL)).all()
    with pytest.raises(ValueError, match=r"shape \(2, m\), with m of at least 2. Got \(2, 1\)"):
        crps_sample([1.0, 2.0], [[1.0], [2.0]], fair=True)
    with pytest.raises(ValueError, match=r"must be finite. Got others in rows"):
        crps_sample([1.0, 2.0], [[1.0], [np.nan]])
    with pytest.raises(ValueError, match=r"without censoring. Got 1 of 2"):
        crps_sample(surv([1.0, 2.0], [1, 0]), [[1.0], [2.0]])
    with pytest.raises(ValueError, match="limits in y"):
        crps(pd.DataFrame({"lower": [2.0, 1, 1], "upper": [1.0, 1, 1]}), WEIBULL)
