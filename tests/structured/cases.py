"""Small outcomes with a known truth, and their likelihoods."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmfusion.heads import CategoricalHead, CoxHead, GaussianHead
from mmfusion.structured import Block, Dense, Design, Likelihood, TermColumns

FAMILIES = ("cox", "gaussian", "logistic")


def covariates(n: int = 150, p: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, p))


def likelihood(
    family: str, eta: np.ndarray, seed: int = 1, weight: np.ndarray | None = None
) -> Likelihood:
    """Draw an outcome with these predictors."""
    rng = np.random.default_rng(seed)
    head: Any
    if family == "cox":
        time = np.ceil(5 * rng.exponential(np.exp(-eta)))
        head = CoxHead()
        return Likelihood(head, head.fit_outcome((time, rng.random(len(eta)) < 0.7), weight))
    if family == "gaussian":
        head = GaussianHead()
        y = 100 + 20 * (eta + 0.5 * rng.normal(size=len(eta)))
        return Likelihood(head, head.fit_outcome(y, weight))
    head = CategoricalHead()
    y = rng.random(len(eta)) < 1 / (1 + np.exp(-eta))
    return Likelihood(head, head.fit_outcome(y.astype(int), weight))


def with_intercept(family: str, design: np.ndarray) -> np.ndarray:
    return design if family == "cox" else np.column_stack([np.ones(len(design)), design])


def differences(k: int, order: int) -> np.ndarray:
    """Return a difference penalty (k, k)."""
    matrix = np.diff(np.eye(k), order, axis=0)
    return matrix.T @ matrix


def wiggly(
    family: str, k: int = 8, seed: int = 3, n: int = 200, **options: Any
) -> tuple[Likelihood, np.ndarray, list[TermColumns]]:
    """Return a likelihood, a design of triangular hats and its smooth term, beside one covariate.

    The hats leave out one of their number: their sum is a constant.
    """
    rng = np.random.default_rng(seed)
    x, z = rng.uniform(0, 1, n), rng.normal(size=n)
    hats = np.maximum(1 - np.abs(x[:, None] * k - np.arange(k + 1)), 0)
    hats = hats - hats.mean(0)
    eta = 1.5 * np.sin(5 * x) + 0.4 * z
    design = with_intercept(family, np.column_stack([z, hats[:, 1:]]))
    first = design.shape[1] - k
    penalty = differences(k + 1, 2)[1:, 1:]
    term = TermColumns("s(x)", slice(first, first + k), "smooth", penalties=(penalty,), **options)
    return likelihood(family, eta, seed + 100), design, [term]


def expanded(design: np.ndarray, contrasts: np.ndarray, baseline: int = 0) -> Design:
    """Return a formula's design (n, p) as that of K predictors.

    Coefficients are those of each parameter in turn, behind a constant a predictor.

    Parameters
    ----------
    design : ndarray, shape (n, p)
    contrasts : ndarray, shape (K, F)
        What the F coefficient vectors move.
    baseline : int
        K, or 0 for no constants beside the design's.
    """
    (n, p), (k, f) = design.shape, contrasts.shape
    columns = baseline + np.arange(f * p).reshape(f, p)
    blocks = [Block(Dense(np.asarray(design, dtype=np.float64)), contrasts, columns)]
    if baseline:
        ones = Dense(np.ones((n, 1)))
        blocks.insert(0, Block(ones, np.eye(k), np.arange(k)[:, None]))
    return Design(n, k, baseline + f * p, tuple(blocks))
