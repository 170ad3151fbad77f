"""Recalibration of predictive distributions, with and without censoring."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import integrate, stats

from mmfusion import surv
from mmfusion.metrics import Recalibration, crps, log_score, pit, quantile_reliability
from tests.helpers import Frozen


def draw(n: int, random_state: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(random_state)
    scale = np.exp(rng.normal(size=n))
    return scale, scale * rng.weibull(1.5, n)


def predicted(scale: np.ndarray) -> Frozen:
    """Wrong for all rows in the same way: too long and too narrow."""
    return Frozen(stats.weibull_min, c=np.full(len(scale), 2.5), scale=1.3 * scale)


def error(y: np.ndarray, distribution: object) -> float:
    found = quantile_reliability(y, distribution)["observed"]
    return float(np.abs(found - found.index).max())


def test_a_wrong_distribution_is_put_right_on_new_rows() -> None:
    scale, y = draw(3000, 0)
    right = Recalibration.fit(y, predicted(scale))
    new, y_new = draw(3000, 1)
    before, after = predicted(new), right(predicted(new))
    assert error(y_new, before) > 0.15
    assert error(y_new, after) < 0.04
    truth = Frozen(stats.weibull_min, c=np.full(3000, 1.5), scale=new)
    best, worse, better = (crps(y_new, d).mean() for d in (truth, before, after))
    assert best < better < 1.01 * best < worse
    best, worse, better = (log_score(y_new, d).mean() for d in (truth, before, after))
    assert worse < best - 0.1 < best - 0.05 < better < best


def test_under_censoring_it_finds_the_same_curve() -> None:
    scale, y = draw(6000, 0)
    free = Recalibration.fit(y, predicted(scale), pieces=20)
    censored = scale * np.random.default_rng(2).exponential(1.5, 6000)
    outcome = surv(np.minimum(y, censored), y <= censored)
    assert 0.3 < 1 - outcome["event"].mean() < 0.7
    found = Recalibration.fit(outcome, predicted(scale), pieces=20)
    grid = np.linspace(0.05, 0.9, 18)
    assert_allclose(np.interp(grid, found.u, found.g), np.interp(grid, free.u, free.g), atol=0.03)
    # As if every censoring were an event, the curve is another.
    naive = Recalibration.fit(outcome["time"], predicted(scale), pieces=20)
    assert np.abs(np.interp(grid, naive.u, naive.g) - np.interp(grid, free.u, free.g)).max() > 0.15
    new, y_new = draw(3000, 1)
    assert error(y_new, found(predicted(new))) < 0.04


def test_beyond_the_follow_up_the_curve_is_a_line() -> None:
    scale, y = draw(2000, 3)
    end = predicted(scale).quantile(np.full(2000, 0.6))
    found = Recalibration.fit(surv(np.minimum(y, end), y <= end), predicted(scale), pieces=20)
    assert found.u[-2] <= 0.6
    assert (found.u[-1], found.g[-1]) == (1, 1)
    assert found.g[-2] == pytest.approx(
        stats.weibull_min.cdf(1.3 * stats.weibull_min.ppf(0.6, 2.5), 1.5), abs=0.06
    )


def test_it_is_a_distribution() -> None:
    scale, y = draw(500, 4)
    right = Recalibration.fit(y, predicted(scale))(predicted(scale[:3]))
    p = np.tile([1e-4, 0.1, 0.5, 0.77, 0.999], (3, 1))
    assert_allclose(right.cdf(right.quantile(p)), p, rtol=1e-9)
    assert_allclose(right.sf(right.quantile(p)), 1 - p, rtol=1e-9)
    assert_allclose(right.median, right.quantile(p)[:, 2])
    one = Frozen(stats.weibull_min, c=[2.5], scale=1.3 * scale[:1])
    own = right.recalibration(one)
    ends = own.quantile(np.r_[1e-12, right.recalibration.g[1:-1], 1 - 1e-12][None])[0]

    def total(f) -> float:
        pieces = itertools.pairwise(ends)
        return sum(integrate.quad(f, a, b)[0] for a, b in pieces)

    def density(t: float) -> float:
        return float(own.pdf(np.array([t]))[0])

    assert total(density) == pytest.approx(1, abs=1e-6)
    mean = total(lambda t: t * density(t))
    assert own.mean[0] == pytest.approx(mean, rel=1e-5)
    assert own.std[0] == pytest.approx(
        np.sqrt(total(lambda t: (t - mean) ** 2 * density(t))), rel=1e-4
    )
    draws = own.sample(4000, random_state=0)
    assert draws.shape == (1, 4000)
    assert stats.kstest(draws[0], lambda t: own.cdf(t[None])[0]).pvalue > 0.01
    assert own.support == one.support
    heavy = right.recalibration(Frozen(stats.fisk, c=[0.9], scale=[1.0]))
    assert not np.isfinite(heavy.mean).any()


def test_right_predictions_stay_as_they_are() -> None:
    scale, y = draw(5000, 5)
    truth = Frozen(stats.weibull_min, c=np.full(5000, 1.5), scale=scale)
    found = Recalibration.fit(y, truth)
    assert np.abs(found.u - found.g).max() < 0.03
    assert stats.kstest(pit(y, found(truth)), "uniform").pvalue > 0.5


def test_ties_at_the_ends_and_what_is_refused() -> None:
    rows = Frozen(stats.uniform, loc=np.zeros(40), scale=1.0)
    y = np.r_[np.full(10, -1.0), np.full(10, 0.5), np.full(20, 2.0)]  # F is 0, .5 and 1
    found = Recalibration.fit(y, rows, pieces=4)
    assert_allclose(found.u, [0, 0.5, 1])
    assert_allclose(found.g, [0, 0.5, 1])
    with pytest.raises(ValueError, match=r"at least 10 outcomes.*Got 9"):
        Recalibration.fit(surv(np.arange(1.0, 41), np.arange(40) < 9), rows)
    with pytest.raises(ValueError, match="needs continuous"):
        Recalibration.fit([1, 2], Frozen(stats.poisson, mu=[1.0, 2.0]))
    with pytest.raises(ValueError, match="pieces"):
        Recalibration.fit(y, rows, pieces=0)
