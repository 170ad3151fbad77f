"""Wald statistics: of linear contrasts, and of whole smooth terms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

__all__ = ["WaldTest", "contrast_test", "smooth_test"]


@dataclass(frozen=True)
class WaldTest:
    """A Wald test.

    Attributes
    ----------
    statistic : float
        Chi-square: the quadratic form itself, also where its reference is an F distribution.
    df : float
    p : float
    """

    statistic: float
    df: float
    p: float


def contrast_test(coef: np.ndarray, covariance: np.ndarray, df_residual: float) -> WaldTest:
    """Test that all of some coefficients (or contrasts of them) are 0.

    ``b' V^-1 b`` against chi-square, or divided by its rank against F where a residual variance
    was estimated. Contrasts that are redundant count once.

    Parameters
    ----------
    coef : ndarray, shape (k,)
    covariance : ndarray, shape (k, k)
    df_residual : float
        Infinite where no residual variance was estimated.
    """
    values, vectors = _eigen(covariance)
    statistic = float(np.sum(np.square(vectors.T @ coef) / values))
    rank = len(values)
    return WaldTest(statistic, float(rank), _tail(statistic, rank, df_residual))


def smooth_test(
    coef: np.ndarray,
    covariance: np.ndarray,
    information: np.ndarray,
    rank: float,
    df_residual: float,
) -> WaldTest:
    r"""Test that a smooth function is 0 (Wood 2013, Biometrika 100:221-228).

    With the function's values f at the rows, weighted by the information of each row as in R's
    mgcv, and their Bayesian covariance ``V = U D U'``, the statistic is ``f' V^- f``, where the
    pseudo-inverse has the rank ``r = k + nu`` of the reference degrees of freedom, which is no
    integer: the first ``k - 1`` eigenvectors count in full, and the next two with

    .. math:: B = \Lambda^{-1/2} \begin{pmatrix} 1 & \rho \\ \rho & \nu \end{pmatrix}
        \Lambda^{-1/2}, \quad \rho = \sqrt{\nu (1 - \nu) / 2},

    with their eigenvalues in :math:`\Lambda`. It has the distribution of ``chi2(k - 1) + a chi2(1)
    + b chi2(1)``, a and b the eigenvalues ``(nu + 1 +- sqrt(1 - nu^2)) / 2`` of that matrix. The
    sign of an eigenvector is arbitrary, so statistic and p-value are averages over both signs of
    rho. Where a residual variance was estimated, the p-value is averaged over its chi-square
    distribution. It ignores that the smoothing parameter was estimated, so p-values just below
    0.05 are somewhat too small.

    Parameters
    ----------
    coef : ndarray, shape (k,)
    covariance : ndarray, shape (k, k)
    information : ndarray, shape (k, k)
        ``X'HX`` of the term's columns: ``f = R b`` with ``R'R`` this.
    rank : float
        The term's reference degrees of freedom, ``tr(2 F - F F)``.
    df_residual : float
    """
    squared, axes = _eigen(information)
    if not len(squared):  # the rows say nothing of it: a fit that ran away
        return WaldTest(float("nan"), float("nan"), float("nan"))
    root = np.sqrt(squared)[:, None] * axes.T
    values, vectors = _eigen(root @ covariance @ root.T)
    along = vectors.T @ (root @ coef)
    squares = np.square(along) / values
    rank = min(max(rank, 1.0), float(len(values)))
    whole = int(np.floor(rank))
    nu = rank - whole
    if nu < 1e-6 or whole == len(values):
        statistic = float(squares[:whole].sum())
        return WaldTest(statistic, rank, _tail(statistic, whole, df_residual))
    full = float(squares[: whole - 1].sum())
    first, second = along[whole - 1 : whole + 1] / np.sqrt(values[whole - 1 : whole + 1])
    rho = np.sqrt(nu * (1 - nu) / 2)
    middle = full + first**2 + nu * second**2
    root_nu = np.sqrt(1 - nu**2)
    weights = np.array([(nu + 1 + root_nu) / 2, (nu + 1 - root_nu) / 2])
    statistics = [middle + sign * 2 * rho * first * second for sign in (1, -1)]
    p = np.mean([_mixture_tail(t, whole - 1, weights, df_residual) for t in statistics])
    return WaldTest(float(np.mean(statistics)), rank, float(p))


def _eigen(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues that are not rounding, largest first, and their vectors."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    keep = values > 1e-12 * max(values[-1], 0.0)
    return values[keep][::-1], vectors[:, keep][:, ::-1]


def _tail(statistic: float, rank: int, df_residual: float) -> float:
    if rank == 0:
        return float("nan")
    if np.isfinite(df_residual):
        return float(stats.f.sf(statistic / rank, rank, df_residual))
    return float(stats.chi2.sf(statistic, rank))


def _mixture_tail(statistic: float, whole: int, weights: np.ndarray, df_residual: float) -> float:
    """Return P(chi2(whole) + a chi2(1) + b chi2(1) > statistic S), S = chi2(df) / df or 1.

    The two last are ``g(t) E`` with ``g = a cos^2 t + b sin^2 t``, t uniform and E exponential with
    mean 2. What is left are means of positive, smooth functions: over t, over the first part (the
    square of a quadrature's node times its range) and over normal scores of S.
    """
    thresholds = np.array([statistic])
    share = np.ones(1)
    if np.isfinite(df_residual):
        nodes, share = _legendre(200)
        normal = 16 * nodes - 8
        share = 16 * share * stats.norm.pdf(normal)
        thresholds = statistic * stats.chi2.ppf(stats.norm.cdf(normal), df_residual) / df_residual
    angle = np.pi * (np.arange(64) + 0.5) / 64
    g = weights[0] * np.cos(angle) ** 2 + weights[1] * np.sin(angle) ** 2
    thresholds, g = thresholds[:, None], g[None, :]
    if whole == 0:
        tail = np.exp(-thresholds / (2 * g)).mean(1)
        return float(share @ tail)
    tail = stats.chi2.sf(thresholds[:, 0], whole)
    nodes, widths = _legendre(100)
    first = thresholds * nodes**2  # a row a threshold, a column a node
    density = widths * stats.chi2.pdf(first, whole) * 2 * thresholds * nodes
    rest = np.exp(-(thresholds - first)[:, :, None] / (2 * g)).mean(2)
    return float(share @ (tail + (density * rest).sum(1)))


@cache
def _legendre(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of Gauss and Legendre on (0, 1)."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return (nodes + 1) / 2, weights / 2
