"""The corrected resampled t interval against a hand computation and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mmfusion.evaluation import corrected_interval


def test_by_hand() -> None:
    # mean .03, s^2 = .00025; (1/5 + 1/4) s^2 = .0001125; t_{4, .975} = 2.776445 (tables).
    interval = corrected_interval([0.02, 0.04, 0.03, 0.01, 0.05], 0.25)
    error = math.sqrt(0.0001125)
    assert interval.difference == pytest.approx(0.03)
    assert interval.standard_error == pytest.approx(error, rel=1e-12)
    assert interval.lower == pytest.approx(0.03 - 2.776445105 * error, rel=1e-8)
    assert interval.upper == pytest.approx(0.03 + 2.776445105 * error, rel=1e-8)


def test_without_overlap_it_is_the_usual_t_test() -> None:
    d = np.random.default_rng(0).normal(0.2, 1.0, 15)
    usual = stats.ttest_1samp(d, 0.0)
    low, high = usual.confidence_interval(0.9)
    interval = corrected_interval(d, 1e-15, level=0.9)
    assert interval.p_value == pytest.approx(usual.pvalue, rel=1e-9)
    assert (interval.lower, interval.upper) == pytest.approx((low, high), rel=1e-9)


def test_the_correction_widens_by_its_factor() -> None:
    d = np.random.default_rng(1).normal(size=15)
    usual, corrected = corrected_interval(d, 1e-15), corrected_interval(d, 0.25)
    factor = math.sqrt((1 / 15 + 1 / 4) / (1 / 15))
    assert corrected.standard_error == pytest.approx(factor * usual.standard_error, rel=1e-9)


def test_a_missing_score_stays_missing() -> None:
    assert all(math.isnan(value) for value in corrected_interval([0.1, np.nan, 0.2], 0.5))


def test_no_spread() -> None:
    assert corrected_interval([0.5, 0.5], 0.25)[1:] == (0.0, 0.5, 0.5, 0.0)
    assert math.isnan(corrected_interval([0.0, 0.0], 0.25).p_value)


@pytest.mark.parametrize(
    ("differences", "share", "level", "message"),
    [
        ([0.1], 0.25, 0.95, "at least two folds"),
        ([[0.1, 0.2]], 0.25, 0.95, "Got shape"),
        ([0.1, 0.2], 0.0, 0.95, "test_share parameter must be positive"),
        ([0.1, 0.2], 0.25, 95, "level parameter must be between 0 and 1. Got 95"),
    ],
)
def test_bad_arguments(differences, share: float, level: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corrected_interval(differences, share, level)
