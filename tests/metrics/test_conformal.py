"""Conformal intervals: the margin, its finite-sample level, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from mmfusion.metrics import ConformalIntervals, interval_coverage


@pytest.mark.parametrize(("n", "level"), [(9, 0.9), (19, 0.9), (57, 0.8), (99, 0.95)])
def test_the_level_is_exact_in_finite_samples(n: int, level: float) -> None:
    """Where (n + 1) level is whole, a new outcome is covered with exactly that probability."""
    rng = np.random.default_rng(n)
    covered = []
    for _ in range(4000):
        y = rng.standard_t(3, size=n + 1)
        zero = np.zeros(n + 1)  # a poor model: the same interval for all
        conformal = ConformalIntervals.fit(y[:n], zero[:n], zero[:n] + 0.5, level)
        low, high = conformal.apply(zero[n:], zero[n:] + 0.5)
        covered.append(interval_coverage(y[n:], low, high))
    exact = np.ceil((n + 1) * level - 1e-9) / (n + 1)
    assert abs(np.mean(covered) - exact) < 3 * np.sqrt(exact * (1 - exact) / 4000)


def test_coverage_of_one_calibration_is_a_beta_variable() -> None:
    """Given the calibration rows, coverage is Beta(k, n + 1 - k) with k the rank."""
    rng = np.random.default_rng(0)
    n, level = 200, 0.9
    rank = int(np.ceil((n + 1) * level))
    zero = np.zeros(n)
    margins = [
        ConformalIntervals.fit(rng.normal(size=n), zero, zero, level).margin for _ in range(500)
    ]
    coverage = 2 * stats.norm.cdf(margins) - 1
    assert stats.kstest(coverage, stats.beta(rank, n + 1 - rank).cdf).pvalue > 0.01


def test_intervals_shrink_too_and_never_cross() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(size=999)
    wide = np.full(999, 5.0)
    conformal = ConformalIntervals.fit(y, -wide, wide, 0.9)
    assert_allclose(conformal.margin, np.sort(np.abs(y))[899] - 5)
    low, high = conformal.apply([-5.0, 0.0], [5.0, 1.0])
    assert low[0] == pytest.approx(-1.645, abs=0.15)
    assert low[1] == high[1] == 0.5


def test_too_few_rows_are_refused() -> None:
    nine = np.arange(9.0)
    assert ConformalIntervals.fit(nine, nine, nine, 0.9).n == 9
    with pytest.raises(ValueError, match=r"level 0.9 need at least 9 rows.*Got 8"):
        ConformalIntervals.fit(nine[1:], nine[1:], nine[1:], 0.9)
    with pytest.raises(ValueError, match=r"level 0.95 need at least 19 rows.*Got 9"):
        ConformalIntervals.fit(nine, nine, nine, 0.95)
    with pytest.raises(ValueError, match="not above those of upper"):
        ConformalIntervals.fit(nine, nine + 1, nine, 0.9)
