"""Scores of the families' own distributions against samples from them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from mmfusion.heads.families import FAMILIES, Distribution, check_family
from mmfusion.metrics import crps, crps_sample, pit

#: By link: parameters of a middling size.
SIZES = {"identity": (-1.0, 2.0), "log": (0.4, 2.5), "logit": (0.2, 0.8)}


def drawn(name: str, n: int) -> Distribution:
    rng = np.random.default_rng(1)
    family = check_family(name)
    if name == "ordinal":
        family = family.learn(np.arange(4) % 4)
    middling = SIZES | ({"log": (0.2, 0.4)} if name == "log_logistic" else {})  # it has a variance
    sizes = {key: rng.uniform(*middling[link], n) for key, link in family.parameters.items()}
    if name == "ordinal":
        sizes = dict(zip(sizes, np.sort(list(sizes.values()), axis=0), strict=True))
    return Distribution(family, sizes)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_crps_and_pit_of_each_family(name: str) -> None:
    n = 200
    distribution = drawn(name, n)
    y = distribution.sample(random_state=2)
    found = crps(y, distribution)
    samples = distribution.sample(300, random_state=3)
    apart = crps_sample(y, samples, fair=True) - found
    assert np.isfinite(found).all()
    assert abs(np.median(apart / found)) < 0.03
    assert abs(apart.mean()) < 4 * apart.std() / np.sqrt(n)
    assert stats.kstest(pit(y, distribution, random_state=4), "uniform").pvalue > 0.01


class Plain:
    """A distribution of which no closed score is known."""

    def __init__(self, known: Distribution) -> None:
        self.cdf, self.sf, self.quantile = known.cdf, known.sf, known.quantile
        self.discrete = known.discrete


def test_closed_scores_are_the_integrals() -> None:
    closed = [name for name in FAMILIES if hasattr(drawn(name, 1), "crps")]
    assert len(closed) == 9
    for name in closed:
        distribution = drawn(name, 60)
        y = distribution.sample(random_state=2)
        y[::3] *= 8.0 if distribution.support[1] == np.inf else 0.1
        y[::7] /= 50.0
        if distribution.discrete:
            y = np.floor(y)
        assert_allclose(
            crps(y, distribution), crps(y, Plain(distribution)), rtol=1e-7, err_msg=name
        )
    beta = drawn("beta", 2)
    assert_allclose(crps([-1.0, 1.5], beta), crps([-1.0, 1.5], Plain(beta)), rtol=1e-7)


def test_quantiles_of_the_beta_have_no_gaps() -> None:
    found = Distribution(
        check_family("beta"), {"mean": np.array([0.774376]), "precision": np.array([1.334215])}
    )
    p = np.logspace(-300, -0.01, 3000)
    quantiles = found.quantile(p)[0]
    assert (np.diff(quantiles) > 0).all()
    np.testing.assert_allclose(found.cdf(quantiles[None])[0], p, rtol=1e-6)


def test_levels_are_scored_by_their_names() -> None:
    names = ["low", "middle", "high"]
    y = pd.Categorical(names, categories=names, ordered=True)
    family = check_family("ordinal").learn(y)
    thresholds = dict(zip(family.parameters, (-1.0, 1.0), strict=True))
    found = Distribution(family, {name: np.full(3, value) for name, value in thresholds.items()})
    np.testing.assert_allclose(crps(y, found), crps(np.arange(3.0), found))
    assert (np.diff(pit(y, found, random_state=0)) > 0).all()
