"""Wald statistics: of linear contrasts, and of whole smooth terms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.integrate import quad

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
    root: np.ndarray,
    rank: float,
    df_residual: float,
) -> WaldTest:
    r"""Test that a smooth function is 0 (Wood 2013, Biometrika 100:221-228).

    With the function's values f at the rows and their Bayesian covariance ``V = U D U'``, the
    statistic is ``f' V^- f``, where the pseudo-inverse has the rank ``r = k + nu`` of the
    reference degrees of freedom, which is no integer: the first ``k - 1`` eigenvectors count in
    full, and the next two with

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
    root : ndarray, shape (k, k) or (n, k)
        ``R`` with ``R'R = X'X`` for the term's columns X of the design.
    rank : float
        The term's reference degrees of freedom, ``tr(2 F - F F)``.
    df_residual : float
    """
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
    """Return P(chi2(whole) + sum weights chi2(1) > statistic S), S = chi2(df) / df or 1.

    Moved to one side, it is P(Q > 0) of a quadratic form Q in normal variables, by Imhof's
    inversion of its characteristic function (1961, Biometrika 48:419-426). A tail below 1e-10 is
    that of a chi-square with the same mean.
    """
    scales = np.concatenate([np.ones(1), weights])
    counts = np.concatenate([[float(whole)], np.ones(len(weights))])
    mean = float(counts @ scales)
    rough = (
        stats.f.sf(statistic / mean, mean, df_residual)
        if np.isfinite(df_residual)
        else stats.chi2.sf(statistic, mean)
    )
    if rough < 1e-10:
        return float(rough)
    threshold = statistic
    if np.isfinite(df_residual):
        scales = np.append(scales, -statistic / df_residual)
        counts = np.append(counts, df_residual)
        threshold = 0.0

    def integrand(u: float) -> float:
        theta = 0.5 * float(counts @ np.arctan(scales * u)) - 0.5 * threshold * u
        log_rho = 0.25 * float(counts @ np.log1p(np.square(scales * u)))
        return float(np.sin(theta) / u * np.exp(-log_rho))

    integral = quad(integrand, 0, np.inf, limit=500, epsabs=1e-12)[0]
    return float(np.clip(0.5 + integral / np.pi, 0.0, 1.0))
