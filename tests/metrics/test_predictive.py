"""Log scores, probability integral transforms and quantile residuals."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.testing import assert_allclose
from scipy import stats

from mmfusion import surv
from mmfusion.metrics import log_score, pit, quantile_residuals
from tests.helpers import Frozen


def test_log_score_of_values_and_bounds() -> None:
    rows = Frozen(stats.weibull_min, c=np.full(4, 1.5), scale=2.0)
    one = stats.weibull_min(1.5, scale=2.0)
    y = surv([1.0, 2.0, 1.0, 3.0], [1, 0, 1, 1], [0, 0.5, 0, 1], upper=[np.nan, np.nan, 4, np.nan])
    wanted = [
        one.logpdf(1),
        one.logsf(2) - one.logsf(0.5),
        np.log(one.cdf(4) - one.cdf(1)),
        one.logpdf(3) - one.logsf(1),
    ]
    assert_allclose(log_score(y, rows), wanted, rtol=1e-12)
    limits = pd.DataFrame({"lower": [-np.inf, 1.0, 1.0, 3.0], "upper": [2.0, 1.0, 4.0, np.inf]})
    wanted = [one.logcdf(2), one.logpdf(1), wanted[2], one.logsf(3)]
    assert_allclose(log_score(limits, rows), wanted, rtol=1e-12)


def test_bounds_of_a_row_that_entered_late_begin_at_its_entry() -> None:
    one, rows = stats.expon(), Frozen(stats.expon, scale=np.ones(2))
    limits = pd.DataFrame({"lower": [-np.inf, 0.5], "upper": 2.0, "entry": [1.0, 0.2]})
    wanted = [
        np.log((one.cdf(2) - one.cdf(1)) / one.sf(1)),
        np.log((one.cdf(2) - one.cdf(0.5)) / one.sf(0.2)),
    ]
    assert_allclose(log_score(limits, rows), wanted, rtol=1e-12)
    found = np.array([pit(limits, rows, random_state=seed) for seed in range(200)])
    ends = [0, one.cdf(1)], [one.cdf(0.3), one.cdf(1.8)]  # given entry, time starts there
    for draws, (low, high) in zip(found.T, ends, strict=True):
        assert stats.kstest(draws, stats.uniform(low, high - low).cdf).pvalue > 0.01


def test_log_score_of_bounds_in_the_far_tail_is_finite() -> None:
    rows = Frozen(stats.norm, loc=[0.0, 0.0], scale=1.0)
    limits = pd.DataFrame({"lower": [20.0, -21.0], "upper": [21.0, -20.0]})
    assert_allclose(log_score(limits, rows), stats.norm.logsf(20), rtol=1e-9)


def test_log_score_of_counts() -> None:
    rows = Frozen(stats.poisson, mu=np.full(3, 2.5))
    assert_allclose(log_score([0, 2, 7], rows), stats.poisson(2.5).logpmf([0, 2, 7]))
    both_ends = pd.DataFrame({"lower": [2.0, -np.inf, 3], "upper": [4.0, 1, 3]})
    pmf = stats.poisson(2.5).pmf
    wanted = [pmf([2, 3, 4]).sum(), pmf([0, 1]).sum(), pmf(3)]
    assert_allclose(np.exp(log_score(both_ends, rows)), wanted)


def uniform(values: np.ndarray) -> float:
    return stats.kstest(values, "uniform").pvalue


def test_pit_of_right_predictions_is_uniform_and_of_wrong_ones_not() -> None:
    rng = np.random.default_rng(1)
    mu, size = rng.uniform(0.2, 8, 3000), 1.5
    y = rng.negative_binomial(size, size / (size + mu))
    right = Frozen(stats.nbinom, n=size, p=size / (size + mu))
    assert uniform(pit(y, right, random_state=0)) > 0.01
    assert uniform(pit(y, Frozen(stats.poisson, mu=mu), random_state=0)) < 1e-6
    # Censored rows draw from what is left, those that entered late are seen given that.
    time, censored, entry = (
        rng.weibull(1.4, 3000) * 2,
        rng.exponential(3, 3000),
        rng.uniform(0, 1, 3000),
    )
    seen = np.minimum(time, censored) > entry
    outcome = surv(np.minimum(time, censored)[seen], (time <= censored)[seen], entry[seen])
    rows = Frozen(stats.weibull_min, c=np.full(seen.sum(), 1.4), scale=2.0)
    assert uniform(pit(outcome, rows, random_state=0)) > 0.01
    wrong = Frozen(stats.weibull_min, c=np.full(seen.sum(), 1.4), scale=2.4)
    assert uniform(pit(outcome, wrong, random_state=0)) < 1e-4
    late = surv(outcome["time"], outcome["event"])  # entry times forgotten
    assert uniform(pit(late, rows, random_state=0)) < 1e-4


def test_pit_is_the_distribution_function_and_draws_are_reproducible() -> None:
    rows = Frozen(stats.norm, loc=[0.0, 1.0], scale=[1.0, 3.0])
    assert_allclose(pit([0.3, -2.0], rows), rows.cdf(np.array([0.3, -2.0])))
    counts = Frozen(stats.poisson, mu=[3.0, 3.0])
    first = pit([0, 4], counts, random_state=3)
    assert_allclose(first, pit([0, 4], counts, random_state=3))
    pmf, cdf = stats.poisson(3).pmf, stats.poisson(3).cdf
    assert 0 < first[0] < pmf(0)
    assert cdf(3) < first[1] < cdf(4)


def test_quantile_residuals_are_normal_and_exact_far_out() -> None:
    rows = Frozen(stats.norm, loc=[1.0, 1.0, 1.0], scale=2.0)
    assert_allclose(quantile_residuals([1, 61, -59], rows), [0, 30, -30], rtol=1e-10)
    rng = np.random.default_rng(2)
    mu = rng.uniform(1, 5, 2000)
    found = quantile_residuals(rng.poisson(mu), Frozen(stats.poisson, mu=mu), random_state=0)
    assert stats.kstest(found, "norm").pvalue > 0.01
    # A residual after late entry is that of the distribution given entry, also in its tail.
    late = surv([35.0], [1], [30.0])
    one = Frozen(stats.expon, scale=1.0)
    assert_allclose(quantile_residuals(late, one), stats.norm.isf(np.exp(-5)), rtol=1e-9)
