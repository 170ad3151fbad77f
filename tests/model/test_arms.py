"""Comparisons of two arms: variances, scales, clusters, the guard, bands."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from mmfusion.model.arms import SCALES, Arms, Sampling, guard


def unadjusted(y: np.ndarray, treated: np.ndarray) -> np.ndarray:
    """Return values (2, n, 1) whose means are those of the arms."""
    found = []
    for mine in (~treated, treated):
        mean = y[mine].mean()
        found.append((mean + mine / mine.mean() * (y - mean))[:, None])
    return np.stack(found)


def draw(n: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    treated = rng.random(n) < 0.25
    return rng.normal(size=n) * (1 + treated) + 0.3 * treated, treated


def test_the_unadjusted_difference_has_welchs_variance() -> None:
    y, treated = draw()
    sampling = Sampling(treated, None)
    found = Arms(unadjusted(y, treated)[None], sampling).contrast(SCALES["difference"])
    assert found.estimate[0] == pytest.approx(y[treated].mean() - y[~treated].mean(), abs=1e-12)
    welch = stats.ttest_ind(y[treated], y[~treated], equal_var=False)
    assert found.estimate[0] / found.se[0] == pytest.approx(welch.statistic, rel=1e-10)
    assert sampling.df == len(y) - 2


@pytest.mark.parametrize("scale", ["ratio", "odds ratio"])
def test_ratios_of_risks_have_the_textbook_variance(scale: str) -> None:
    rng = np.random.default_rng(1)
    treated = rng.random(400) < 0.5
    y = (rng.random(400) < 0.3 + 0.2 * treated).astype(float)
    found = Arms(unadjusted(y, treated)[None], Sampling(treated, None)).contrast(SCALES[scale])
    table = [(y[rows].sum(), rows.sum()) for rows in (~treated, treated)]
    (a, n0), (b, n1) = table
    if scale == "ratio":
        wanted, variance = np.log(b / n1 / (a / n0)), 1 / a - 1 / n0 + 1 / b - 1 / n1
    else:
        wanted = np.log(b * (n0 - a) / (a * (n1 - b)))
        variance = 1 / a + 1 / (n0 - a) + 1 / b + 1 / (n1 - b)
    assert found.estimate[0] == pytest.approx(wanted, abs=1e-12)
    assert found.se[0] == pytest.approx(np.sqrt(variance), rel=0.004)


def test_whole_clusters_that_were_treated_are_compared_as_their_totals() -> None:
    rng = np.random.default_rng(2)
    cluster = np.repeat(np.arange(12), 10)
    treated = cluster >= 6
    y = rng.normal(size=120) + rng.normal(size=12)[cluster]
    sampling = Sampling(treated, cluster)
    found = Arms(unadjusted(y, treated)[None], sampling).contrast(SCALES["difference"])
    means = np.array([y[cluster == g].mean() for g in range(12)])
    welch = stats.ttest_ind(means[6:], means[:6], equal_var=True)
    assert found.estimate[0] / found.se[0] == pytest.approx(welch.statistic, rel=1e-10)
    assert sampling.df == 10
    within = Sampling(rng.random(120) < 0.5, cluster)
    assert within.df == 11


def test_a_mean_beyond_a_scale_has_no_comparison() -> None:
    y, treated = draw()
    y -= 10
    found = Arms(unadjusted(y, treated)[None], Sampling(treated, None)).contrast(SCALES["ratio"])
    assert np.isnan(found.estimate[0])
    assert np.isnan(found.se[0])


def test_splits_are_averaged_and_their_spread_is_added() -> None:
    y, treated = draw()
    first, second = unadjusted(y, treated), unadjusted(y, treated)
    second = second + np.array([0.0, 0.4])[:, None, None]
    both = Arms(np.stack([first, second]), Sampling(treated, None))
    one = Arms(first[None], Sampling(treated, None)).contrast(SCALES["difference"])
    found = both.contrast(SCALES["difference"])
    assert found.estimate[0] == pytest.approx(one.estimate[0] + 0.2)
    assert found.se[0] ** 2 == pytest.approx(one.se[0] ** 2 + 0.04)


def test_the_guard_keeps_what_narrows_and_drops_what_widens() -> None:
    rng = np.random.default_rng(3)
    n = 2000
    treated = rng.random(n) < 0.5
    x = rng.normal(size=n)
    y = x + rng.normal(size=n)
    sampling = Sampling(treated, None)
    plain = unadjusted(y, treated)

    def augmented(mean: np.ndarray) -> np.ndarray:
        arms = ((~treated) / (1 - treated.mean()), treated / treated.mean())
        return np.stack([(mean + weight * (y - mean))[:, None] for weight in arms])

    def se(values: np.ndarray) -> float:
        return float(Arms(values[None], sampling).contrast(SCALES["difference"]).se[0])

    good, bad, over = augmented(x), augmented(4 * rng.normal(size=n)), augmented(5 * x)
    assert se(bad) > 2 * se(plain)
    assert se(guard(bad, plain, sampling)) <= se(plain) * (1 + 1e-9)
    assert se(guard(good, plain, sampling)) == pytest.approx(se(good), rel=0.01)
    assert se(over) > se(plain)  # five times too much
    assert se(guard(over, plain, sampling)) == pytest.approx(se(good), rel=0.01)
    assert_allclose(guard(plain, plain, sampling), plain)
    assert_allclose(guard(plain + 1e-17, plain, sampling), plain, atol=1e-12)


def test_bands_are_wider_than_pointwise_and_cover_together() -> None:
    rng = np.random.default_rng(4)
    treated = np.arange(100) < 50
    covered = []
    for seed in range(300):
        steps = rng.normal(size=(2, 100, 20)).cumsum(-1)
        weights = np.stack([~treated, treated])[:, :, None] / 0.5
        arms = Arms((weights * steps)[None], Sampling(treated, None))
        errors = arms.errors()
        spans = arms.critical(errors, 0.95, seed)
        assert (spans > 1.96 - 1e-9).all()
        inside = np.abs(arms.means[1] - arms.means[0]) <= spans[2] * errors[2]
        covered.append(inside.all())
    assert 0.9 < np.mean(covered) < 0.985
