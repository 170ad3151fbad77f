"""The sandwich of few rows and few clusters: sums, unbiasedness, the jackknife it approximates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose

from mmfusion.heads import CategoricalHead, CoxHead, GaussianHead
from mmfusion.structured import (
    FewClusters,
    Likelihood,
    Symmetric,
    effects_test,
    fit_structured,
    robust_covariance,
    small_sample_sandwich,
)

N = 60
RNG = np.random.default_rng(2)
X = RNG.normal(size=(N, 2))
CLUSTER = RNG.integers(0, 8, N)
LATENT = 0.7 * X[:, 0] + RNG.normal(size=8)[CLUSTER] * 0.5
OUTCOMES: dict[str, Any] = {
    "linear": LATENT + RNG.normal(size=N),
    "logistic": (LATENT + RNG.logistic(size=N) > 0).astype(int),
    "three classes": np.clip((LATENT + RNG.logistic(size=N)).round(), -1, 1).astype(int),
    "cox": (
        RNG.exponential(np.exp(-LATENT)).round(1) + 0.1,
        RNG.random(N) < 0.75,
        np.where(RNG.random(N) < 0.3, 0.05, -np.inf),
    ),
}


def problem(name: str, rows: Any = slice(None)) -> tuple[Likelihood, np.ndarray]:
    heads: dict[str, Any] = {"linear": GaussianHead(), "cox": CoxHead()}
    head = heads.get(name, CategoricalHead())
    y = OUTCOMES[name]
    y = tuple(part[rows] for part in y) if isinstance(y, tuple) else y[rows]
    likelihood = Likelihood(head, head.fit_outcome(y))
    x = X[rows] if name == "cox" else np.column_stack([np.ones(len(X[rows])), X[rows]])
    k = likelihood.shape[1]
    return likelihood, np.kron(x, np.eye(k)[:, 1:] if k > 1 else np.ones((1, 1)))


@pytest.mark.parametrize("name", OUTCOMES)
def test_shares_add_up_to_the_information(name: str) -> None:
    likelihood, x = problem(name)
    fit = fit_structured(likelihood, x)
    from mmfusion.structured import as_design

    design = as_design(x, likelihood.shape[1])
    shares = likelihood.informations(design.predict(fit.coef), design, CLUSTER)
    assert shares.shape == (8, len(fit.coef), len(fit.coef))
    assert_allclose(shares.sum(0), np.asarray(fit.information), atol=1e-8)
    assert min(np.linalg.eigvalsh(share).min() for share in shares) > -1e-9


def test_hc3_as_statsmodels() -> None:
    likelihood, x = problem("linear")
    fit = fit_structured(likelihood, x)
    theirs = sm.OLS(OUTCOMES["linear"], x).fit(cov_type="HC3")
    assert_allclose(small_sample_sandwich(fit, likelihood, x), theirs.cov_params(), rtol=1e-9)


@pytest.mark.parametrize("name", OUTCOMES)
def test_hc3_is_near_the_jackknife(name: str) -> None:
    """Leaving out each row in turn; the plain sandwich is further from it."""
    likelihood, x = problem(name)
    fit = fit_structured(likelihood, x)
    moved = []
    for row in range(N):
        without, design = problem(name, np.delete(np.arange(N), row))
        moved.append(fit_structured(without, design).coef - fit.coef)
    jackknife = np.sqrt(np.square(moved).sum(0))
    corrected = np.sqrt(small_sample_sandwich(fit, likelihood, x).diagonal())
    plain = np.sqrt(np.diag(robust_covariance(fit, likelihood, x)))
    # A row that leaves a Cox model changes the risk sets of the others too.
    assert_allclose(corrected, jackknife, rtol=0.12 if name == "cox" else 0.05)
    assert (np.abs(corrected / jackknife - 1) < np.abs(plain / jackknife - 1)).all()


@pytest.mark.parametrize("name", OUTCOMES)
def test_cr2_is_unbiased_where_the_model_is_right(name: str) -> None:
    """With scores that vary as the model says, its mean is the model's covariance."""
    likelihood, x = problem(name)
    fit = fit_structured(likelihood, x)
    found = small_sample_sandwich(fit, likelihood, x, cluster=CLUSTER)
    assert isinstance(found, FewClusters)
    bread, root = np.asarray(fit.bread), found.root
    assert_allclose(root @ root.T, bread, atol=1e-10)
    mean = np.zeros_like(bread)
    for share in found.informations:
        values, vectors = np.linalg.eigh(root.T @ share @ root)
        adjust = root @ (vectors / np.sqrt(1 - values)) @ vectors.T @ root.T
        mean += adjust @ (share - share @ bread @ share) @ adjust.T
    assert_allclose(mean, bread, atol=1e-9)
    degrees = found.degrees(np.eye(len(fit.coef)))
    assert ((degrees > 1) & (degrees < 8)).all()


def test_equal_clusters_of_a_mean_have_one_degree_less_than_there_are() -> None:
    head = GaussianHead()
    likelihood = Likelihood(head, head.fit_outcome(OUTCOMES["linear"]))
    ones, equal = np.ones((N, 1)), np.arange(N) % 10
    fit = fit_structured(likelihood, ones)
    found = small_sample_sandwich(fit, likelihood, ones, cluster=equal)
    assert_allclose(found.degrees(np.eye(1)), 9)
    # The variance of the mean of ten means.
    means = [OUTCOMES["linear"][equal == g].mean() for g in range(10)]
    assert_allclose(found.diagonal(), np.var(means, ddof=1) / 10)


def test_many_rows_and_many_clusters_have_the_plain_sandwich() -> None:
    likelihood, x = problem("linear")
    fit = fit_structured(likelihood, x)
    many = small_sample_sandwich(fit, likelihood, x, cluster=np.arange(N) % 50)
    assert_allclose(many, robust_covariance(fit, likelihood, x, cluster=np.arange(N) % 50))
    assert np.isinf(many.degrees(np.eye(3))).all()
    head = GaussianHead()
    often = Likelihood(head, head.fit_outcome(np.tile(OUTCOMES["linear"], 5)))
    whole = np.tile(x, (5, 1))
    fit = fit_structured(often, whole)
    assert_allclose(small_sample_sandwich(fit, often, whole), robust_covariance(fit, often, whole))


def test_a_cluster_that_alone_determines_a_coefficient() -> None:
    """Its scores along it are zero: it adds nothing, and nothing is infinite."""
    likelihood, x = problem("linear")
    x = np.column_stack([x, CLUSTER == 3])
    fit = fit_structured(likelihood, x)
    found = small_sample_sandwich(fit, likelihood, x, cluster=CLUSTER)
    assert np.isfinite(np.asarray(found)).all()
    assert np.isfinite(found.degrees(np.eye(4))).all()


def test_tests_of_several_coefficients_use_the_least_degrees() -> None:
    likelihood, x = problem("linear")
    fit = fit_structured(likelihood, x, names=["1", "a", "b"])
    found = small_sample_sandwich(fit, likelihood, x, cluster=CLUSTER)
    one = effects_test(fit, ["a"], covariance=found)
    from scipy import stats

    t = fit.coef[1] / np.sqrt(found.diagonal()[1])
    assert one["p"] == pytest.approx(2 * stats.t.sf(abs(t), found.degrees(np.eye(3))[1]))
    both = effects_test(fit, ["a", "b"], covariance=found)
    among = np.asarray(found)[1:, 1:]
    directions = np.column_stack([np.zeros(2), np.linalg.eigh(among)[1].T])
    least = found.degrees(directions).min()
    assert both["p"] == pytest.approx(stats.f.sf(both["statistic"] / 2, 2, least))


def test_it_is_saved_with_its_degrees() -> None:
    likelihood, x = problem("linear")
    fit = fit_structured(likelihood, x)
    found = small_sample_sandwich(fit, likelihood, x, cluster=CLUSTER)
    again = Symmetric.from_state(found.state())
    assert isinstance(again, FewClusters)
    assert_allclose(again, found)
    assert_allclose(again.degrees(np.eye(3)), found.degrees(np.eye(3)))
    assert type(Symmetric.from_state(fit.covariance.state())) is Symmetric
    part = found.leading(2)
    assert_allclose(part.degrees(np.eye(2)), found.degrees(np.eye(3))[:2])
