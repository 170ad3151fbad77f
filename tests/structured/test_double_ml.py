"""Double machine learning from given nuisance functions: estimates, errors, orthogonality."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import expit, logit

from mmfusion.structured import PartialEffect, partially_linear, partially_logistic


def se(effect, cluster=None) -> float:
    return effect.covariance(np.empty((len(effect.influence), 0)), cluster)[0] ** 0.5


def test_linear_is_least_squares_of_the_residuals_with_its_sandwich() -> None:
    rng = np.random.default_rng(0)
    u, v, weight = rng.normal(size=(2, 90)), rng.normal(size=90), rng.uniform(0.5, 2, size=90)
    outcome = u[0] + 0.7 * v
    cluster = np.repeat(np.arange(30), 3)
    effect = partially_linear(outcome, v, weight)
    model = sm.WLS(outcome, v, weights=weight)
    theirs = model.fit(cov_type="HC0")
    assert effect.coef == pytest.approx(theirs.params[0], rel=1e-12)
    assert se(effect) == pytest.approx(theirs.bse[0], rel=1e-12)
    options = {"groups": cluster, "use_correction": False}
    theirs = model.fit(cov_type="cluster", cov_kwds=options)
    assert se(effect, cluster) == pytest.approx(theirs.bse[0], rel=1e-12)
    # The covariance with the mean, whose influence is known too.
    crossed = effect.covariance((u[1] / 90)[:, None])[1]
    assert crossed[0] == pytest.approx(float(np.sum(effect.influence * u[1] / 90)))


def test_logistic_without_covariates_is_the_log_odds_ratio() -> None:
    counts = {(1, 1): 60, (1, 0): 40, (0, 1): 30, (0, 0): 70}
    y, d = (np.repeat([cell[k] for cell in counts], list(counts.values())) for k in (0, 1))
    effect = partially_logistic(y == 1, np.full(200, y.mean()), d, np.full(200, d[y == 0].mean()))
    assert effect.coef == pytest.approx(np.log(60 * 70 / (40 * 30)), abs=1e-9)
    assert se(effect) == pytest.approx(np.sqrt(sum(1 / n for n in counts.values())), rel=0.05)


def draw(rng: np.random.Generator, n: int, binary: bool, theta: float = 0.6):
    """Return y, l(x), d, m(x) of a partially linear logistic model, the functions exact."""
    x = rng.normal(size=n)
    m, r = (expit(x) if binary else np.sin(x)), np.sin(1.5 * x) - 0.5
    # Given Y = 0 treatment is Bernoulli(m), or normal with variance 1; given Y = 1, by Bayes, its
    # odds are e^theta times as large, or its mean is larger by theta.
    moment = 1 - m + m * np.exp(theta) if binary else np.exp(theta * m + theta**2 / 2)
    chance = expit(r + np.log(moment))
    y = rng.uniform(size=n) < chance
    if binary:
        d = (rng.uniform(size=n) < np.where(y, expit(logit(m) + theta), m)).astype(float)
    else:
        d = m + theta * y + rng.normal(size=n)
    return y, chance, d, m, x


@pytest.mark.parametrize("binary", [True, False])
def test_logistic_covers_the_truth(binary: bool) -> None:
    rng = np.random.default_rng(1)
    z = []
    for _ in range(300):
        y, chance, d, m, _ = draw(rng, 400, binary)
        effect = partially_logistic(y, chance, d, m)
        z.append((effect.coef - 0.6) / se(effect))
    assert abs(np.mean(z)) < 0.25
    assert 0.92 <= np.mean(np.abs(z) < 1.96) <= 0.98


@pytest.mark.parametrize("binary", [True, False])
def test_logistic_forgives_errors_of_the_first_order(binary: bool) -> None:
    rng = np.random.default_rng(2)
    y, chance, d, m, x = draw(rng, 200_000, binary)
    exact = partially_logistic(y, chance, d, m)
    allowed = 5 * se(exact)
    wrong = expit(logit(chance) + 0.3 * x)
    assert abs(partially_logistic(y, wrong, d, m).coef - 0.6) < allowed
    shifted = expit(logit(m) + 0.3 * x) if binary else m + 0.1 * x
    assert abs(partially_logistic(y, chance, d, shifted).coef - 0.6) < allowed
    # Ignoring x is no small error.
    raw = partially_logistic(y, np.full(len(y), y.mean()), d, np.full(len(y), d[~y].mean()))
    assert abs(raw.coef - 0.6) > 2 * allowed


@pytest.mark.parametrize("binary", [True, False])
def test_logistic_knows_units_and_weights(binary: bool) -> None:
    y, chance, d, m, _ = draw(np.random.default_rng(3), 500, binary)
    effect = partially_logistic(y, chance, d, m)
    moved = partially_logistic(y, chance, 40 + 20 * d, 40 + 20 * m)
    assert moved.coef == pytest.approx(effect.coef / 20, rel=1e-6)
    assert se(moved) == pytest.approx(se(effect) / 20, rel=1e-6)
    twice = [np.concatenate([part, part[:100]]) for part in (y, chance, d, m)]
    weight = np.where(np.arange(500) < 100, 2.0, 1.0)
    weighted = partially_logistic(y, chance, d, m, weight)
    assert weighted.coef == pytest.approx(partially_logistic(*twice).coef, rel=1e-6)


def test_nothing_left_of_the_treatment() -> None:
    with pytest.raises(ValueError, match="determined by the other terms"):
        partially_linear(np.ones(4), np.zeros(4))
    y, half = np.array([True, True, False, False]), np.full(4, 0.5)
    with pytest.raises(ValueError, match="runs to infinity"):
        partially_logistic(y, half, np.array([1.0, 1, 0, 1]), half)


def test_splits_are_averaged_and_their_spread_counts() -> None:
    one, two = PartialEffect(1.0, np.array([0.3, -0.4])), PartialEffect(2.0, np.array([0.0, 0.1]))
    both = PartialEffect.mean([one, two])
    assert both.coef == 1.5
    variance, crossed = both.covariance(np.array([[1.0], [2.0]]))
    assert variance == pytest.approx((0.25 + 0.01) / 2 + 0.25)
    assert crossed[0] == pytest.approx(0.15 - 0.3)
    variance, _ = both.covariance(np.array([[1.0], [2.0]]), cluster=[0, 1])
    assert variance == pytest.approx(0.38)
