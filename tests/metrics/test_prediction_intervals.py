"""Coverage, width, interval score and quantile score."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from mmfusion import surv
from mmfusion.metrics import (
    crps,
    interval_coverage,
    interval_score,
    interval_width,
    quantile_score,
)
from tests.helpers import Frozen


def test_by_hand() -> None:
    y, lower, upper = [1.0, 2.0, 3.0], [1.0, 0.0, 4.0], [2.0, 1.0, 6.0]
    assert interval_coverage(y, lower, upper) == pytest.approx(1 / 3)
    assert interval_width(lower, upper) == pytest.approx(4 / 3)
    assert_allclose(interval_score(y, lower, upper, level=0.5), [1, 1 + 4, 2 + 4])
    assert_allclose(quantile_score(y, [2.0, 0.0, 3.0], 0.25), [0.75, 0.5, 0])


def test_the_interval_score_is_that_of_its_two_quantiles() -> None:
    rng = np.random.default_rng(0)
    y, lower = rng.normal(size=(2, 50))
    upper = lower + rng.uniform(size=50)
    both = quantile_score(y, np.column_stack([lower, upper]), [0.1, 0.9]).sum(axis=1)
    assert_allclose(interval_score(y, lower, upper, level=0.8), both * 2 / 0.2)


def test_quantile_scores_of_many_levels_are_the_crps() -> None:
    rows = Frozen(stats.gamma, a=[2.0, 0.5], scale=[1.0, 3.0])
    levels = (np.arange(4000) + 0.5) / 4000
    quantiles = rows.quantile(np.tile(levels, (2, 1)))
    found = 2 * quantile_score([1.0, 6.0], quantiles, levels).mean(axis=1)
    assert_allclose(found, crps([1.0, 6.0], rows), rtol=1e-5)


def test_right_intervals_have_the_least_score() -> None:
    y = np.random.default_rng(1).normal(size=20_000)
    ones = np.ones(len(y))
    score = {z: interval_score(y, -z * ones, z * ones, 0.9).mean() for z in (1.4, 1.645, 1.9)}
    assert min(score, key=score.__getitem__) == 1.645


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"not be above those of upper|not above those of upper"):
        interval_coverage([1.0, 2.0], [0.0, 3.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="without censoring"):
        interval_coverage(surv([1.0, 2.0], [1, 0]), [0.0, 1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"shape \(2,\). Got \(1,\)"):
        interval_score([1.0, 2.0], [0.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="level parameter"):
        interval_score([1.0], [0.0], [1.0], level=1.0)
    with pytest.raises(ValueError, match=r"levels parameter.*\(0, 1\)"):
        quantile_score([1.0], [[1.0, 2.0]], [0.5, 1.0])
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        quantile_score([1.0], [1.0], [0.5, 0.9])
    with pytest.raises(ValueError, match="missing ones"):
        quantile_score([1.0], [np.nan], 0.5)
