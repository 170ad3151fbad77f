"""D-calibration by hand, against a loop, and under its null hypothesis."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mmfusion.metrics import d_calibration
from mmfusion.survival import surv


def test_by_hand():
    """Three events at .95, .5, .1 and one censored at .6, in four bins."""
    y = surv([1, 2, 3, 4], [1, 1, 1, 0])
    statistic, p_value, proportions = d_calibration(y, [0.95, 0.5, 0.1, 0.6], n_bins=4)
    # .6 lies in [.5, .75): it leaves .1/.6 = 1/6 there and .25/.6 = 5/12 in each bin below.
    counts = np.array([1 + 5 / 12, 5 / 12, 1 + 1 / 6, 1])
    np.testing.assert_allclose(proportions, counts / 4)
    assert statistic == pytest.approx(((counts - 1) ** 2).sum())
    assert p_value == pytest.approx(stats.chi2.sf(statistic, 3))


def looped(event, s, n_bins):
    counts = np.zeros(n_bins)
    for e, value in zip(event, s, strict=True):
        k = max(b for b in range(n_bins) if b / n_bins <= value)
        if e:
            counts[k] += 1
        elif value == 0:
            counts[0] += 1
        else:
            counts[k] += (value - k / n_bins) / value
            for lower in range(k):
                counts[lower] += 1 / (n_bins * value)
    return counts


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_against_a_loop(seed, n_bins):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    event = rng.random(n) < 0.6
    event[0] = True
    s = rng.integers(0, 21, n) / 20  # zero, one and the edges are among them
    result = d_calibration(surv(np.arange(1, n + 1), event), s, n_bins)
    np.testing.assert_allclose(result.proportions, looped(event, s, n_bins) / n, atol=1e-12)
    assert result.proportions.sum() == pytest.approx(1.0)


def test_true_distributions_pass_and_false_ones_fail():
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(300):
        rate = rng.uniform(0.5, 2, 500)
        death, end = rng.exponential(1 / rate), rng.exponential(2, 500)
        y, s = surv(np.minimum(death, end), death <= end), np.exp(-rate * np.minimum(death, end))
        p_values.append(d_calibration(y, s).p_value)
    # Censored rows are spread evenly, so the test is conservative: it must not reject too often.
    assert np.mean(np.array(p_values) < 0.05) < 0.08
    assert d_calibration(y, s**3).p_value < 1e-6


def test_uniform_without_censoring():
    rng = np.random.default_rng(1)
    y = surv(np.ones(400), np.ones(400))
    p_values = [d_calibration(y, rng.random(400)).p_value for _ in range(400)]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("s", "n_bins", "message"),
    [
        ([0.5], 10, "one value for each of the 2 rows"),
        ([0.5, 1.5], 10, r"Got 1.5 in rows \[1\]"),
        ([0.5, np.nan], 10, r"Got nan in rows \[1\]"),
        ([0.5, 0.5], 1, "n_bins parameter"),
        ([0.5, 0.5], 2.5, "n_bins parameter"),
    ],
)
def test_bad_input(s, n_bins, message):
    with pytest.raises(ValueError, match=message):
        d_calibration(surv([1, 2], [1, 0]), s, n_bins)


def test_delayed_entry_is_refused():
    with pytest.raises(ValueError, match="D-calibration is not defined for delayed entry"):
        d_calibration(surv([1, 2], [1, 1], [0, 1]), [0.5, 0.5])
