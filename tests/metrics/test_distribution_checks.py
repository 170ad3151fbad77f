"""Worm plots, rootograms and the reliability of quantiles."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from mmfusion import surv
from mmfusion.metrics import quantile_reliability, rootogram, worm
from tests.helpers import Frozen


def test_worm_is_a_detrended_normal_plot() -> None:
    rng = np.random.default_rng(0)
    residuals = rng.normal(size=400)
    found = worm(residuals)
    p = stats.norm.cdf(found["theoretical"])
    assert_allclose(p, (np.arange(1, 401) - 0.5) / 400)
    assert_allclose(found["deviation"] + found["theoretical"], np.sort(residuals))
    # The bounds are where the points of other samples lie.
    others = np.sort(rng.normal(size=(1000, 400)), axis=1) - found["theoretical"].to_numpy()
    outside = np.abs(others) > found["upper"].to_numpy()
    assert outside.mean() == pytest.approx(0.05, abs=0.01)
    assert_allclose(found["lower"], -found["upper"])
    assert (worm(residuals + 1)["deviation"] > worm(residuals)["upper"]).mean() > 0.9


def test_worm_refuses() -> None:
    with pytest.raises(ValueError, match="1 of them missing"):
        worm([0.1, np.nan, 0.3])
    with pytest.raises(ValueError, match="at least two"):
        worm([0.1])


def test_rootogram_counts_and_expects() -> None:
    y, mu = np.array([0, 0, 1, 4]), np.array([0.5, 1.0, 2.0, 3.0])
    found = rootogram(y, Frozen(stats.poisson, mu=mu))
    assert found.index.tolist() == [0, 1, 2, 3, 4]
    assert found["observed"].tolist() == [2, 1, 0, 0, 1]
    wanted = [stats.poisson.pmf(k, mu).sum() for k in range(5)]
    assert_allclose(found["expected"], wanted)
    assert_allclose(found["bottom"], np.sqrt(wanted) - np.sqrt([2, 1, 0, 0, 1]))


def test_rootogram_refuses() -> None:
    counts = Frozen(stats.poisson, mu=[1.0, 1.0])
    with pytest.raises(ValueError, match="continuous"):
        rootogram([0, 1], Frozen(stats.norm, loc=[0.0, 0.0]))
    with pytest.raises(ValueError, match=r"whole numbers. Got 0.5 in rows \[1\]"):
        rootogram([0, 0.5], counts)
    with pytest.raises(ValueError, match="at most 10000 values"):
        rootogram([0, 100_000], counts)


def test_reliability_of_values_is_a_share_with_exact_bounds() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(size=300) * 1.6
    rows = Frozen(stats.norm, loc=np.zeros(300), scale=1.0)
    found = quantile_reliability(y, rows, [0.1, 0.5, 0.9])
    below = np.array([(y <= stats.norm.ppf(p)).sum() for p in (0.1, 0.5, 0.9)])
    assert_allclose(found["observed"], below / 300)
    for k, (_, row) in zip(below, found.iterrows(), strict=True):
        interval = stats.binomtest(k, 300).proportion_ci(0.95)
        assert_allclose([row["lower"], row["upper"]], [interval.low, interval.high])
    assert found.loc[0.1, "lower"] > 0.1  # too narrow
    assert found.loc[0.9, "upper"] < 0.9


def test_reliability_under_censoring_and_delayed_entry() -> None:
    rng = np.random.default_rng(4)
    time, censored = rng.weibull(1.4, 6000) * 2, rng.exponential(3, 6000)
    entry = rng.uniform(0, 1, 6000)
    seen = np.minimum(time, censored) > entry
    y = surv(np.minimum(time, censored)[seen], (time <= censored)[seen], entry[seen])
    n = int(seen.sum())
    levels = [0.2, 0.5, 0.8]
    right = quantile_reliability(y, Frozen(stats.weibull_min, c=np.full(n, 1.4), scale=2.0), levels)
    assert_allclose(right["observed"], levels, atol=0.03)
    assert ((right["lower"] < levels) & (right["upper"] > levels)).all()
    wrong = quantile_reliability(y, Frozen(stats.weibull_min, c=np.full(n, 1.4), scale=2.6), levels)
    truth = [
        stats.weibull_min.cdf(stats.weibull_min.ppf(p, 1.4, scale=2.6), 1.4, scale=2)
        for p in levels
    ]
    assert_allclose(wrong["observed"], truth, atol=0.03)
    # Follow-up that ends says nothing of what comes later.
    short = surv(np.minimum(time, 1.5), time <= 1.5)
    found = quantile_reliability(short, Frozen(stats.weibull_min, c=np.full(6000, 1.4), scale=2.0))
    end = stats.weibull_min.cdf(1.5, 1.4, scale=2)
    assert found["observed"].isna().tolist() == (found.index.to_numpy() > end).tolist()


def test_reliability_of_counts() -> None:
    rng = np.random.default_rng(5)
    mu = rng.uniform(0.3, 3, 4000)
    found = quantile_reliability(rng.poisson(mu), Frozen(stats.poisson, mu=mu))
    assert_allclose(found["observed"], found.index, atol=0.03)
    with pytest.raises(ValueError, match=r"levels parameter"):
        quantile_reliability([1], Frozen(stats.poisson, mu=[1.0]), [0.0])
