"""The continuous ranked probability score of predictive distributions and of samples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mmfusion.metrics._observed import Observed, at, check_exact
from mmfusion.metrics._quadrature import inside, rule

__all__ = ["crps", "crps_sample"]

#: Values at which a distribution is asked at once.
CHUNK = 1_000_000
#: Counts that spread over more values than these are as good as continuous.
LONGEST = 10_000
#: Probability of each tail of a lattice that is left out: its square adds nothing.
TAIL = 1e-10


def crps(y: Any, distribution: Any) -> np.ndarray:
    """Return each row's continuous ranked probability score; lower is better.

    ``integral of (F(x) - 1[x >= y])**2 dx`` (Matheson & Winkler 1976; Gneiting & Raftery 2007, JASA
    102:359-378): the mean absolute error of a whole distribution, in units of y. A distribution
    that has a method ``crps`` (a closed form) is asked; that of a count is summed over its values;
    else the integral is taken over probabilities, as that of the loss of quantiles (Laio & Tamea
    2007), by a double exponential rule to about ten digits (three, of counts that spread over more
    than 10,000 values).

    Of a row known to lie in ``(l, u]`` only, the integral leaves that interval out, for one
    censored on the right all beyond ``l`` (the survival CRPS, Avati et al. 2020, UAI). It rests on
    no model of the censoring, but is not proper: it may prefer a wrong distribution (Rindt et al.
    2022, AISTATS). Beside it read `log_score`, which is.

    Parameters
    ----------
    y : array-like of float, shape (n,), or survival outcome of n rows
    distribution : predictive distribution of n rows
        What ``predict_distribution`` returns, or any object with its methods.

    Returns
    -------
    ndarray of float64, shape (n,)
        The score of a model is their mean.

    Raises
    ------
    ValueError
        Missing or infinite outcomes, as `check_survival`, or another number of rows; entry times.
    """
    observed = Observed.read(y, distribution)
    late = at(distribution, "cdf", observed.entry) > 0
    if late.any():
        raise ValueError(
            "The CRPS is not defined for delayed entry. Got entry times that outcomes might have "
            f"been below in {late.sum()} rows; log_score respects them."
        )
    if observed.exact.all() and hasattr(distribution, "crps"):
        return at(distribution, "crps", observed.lower)
    if getattr(distribution, "discrete", False):
        return _summed(observed, distribution)
    return _continuous(observed, distribution)


def crps_sample(y: Any, samples: Any, *, fair: bool = False) -> np.ndarray:
    """Return each row's CRPS of a sample from its predictive distribution; lower is better.

    ``mean |x - y| - mean |x - x'| / 2`` over the sample (Gneiting & Raftery 2007, eq. 21).

    Parameters
    ----------
    y : array-like of float, shape (n,)
    samples : array-like of float, shape (n, m)
    fair : bool, default=False
        Whether pairs of a draw with itself are left out, so that the score estimates that of the
        distribution which was drawn from (Ferro 2014, Q. J. R. Meteorol. Soc. 140:1917-1923);
        else it is that of the sample itself.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    ValueError
        Outcomes that are missing or censored, samples of another shape or not finite, a single draw
        where `fair` is.

    Examples
    --------
    >>> from mmfusion.metrics import crps_sample
    >>> crps_sample([1.0, 2.0], [[0.0, 1.0, 2.0], [2.0, 2.0, 2.0]]).round(4)
    array([0.2222, 0.    ])
    """
    values = check_exact(y, "The CRPS of samples")
    drawn = np.asarray(samples, dtype=np.float64)
    if drawn.ndim != 2 or len(drawn) != len(values) or drawn.shape[1] < 1 + fair:
        raise ValueError(
            f"The samples parameter must have shape ({len(values)}, m), with m of at least "
            f"{1 + fair}. Got {drawn.shape}."
        )
    if not np.isfinite(drawn).all():
        rows = np.flatnonzero(~np.isfinite(drawn).all(axis=1))[:5].tolist()
        raise ValueError(f"The samples parameter must be finite. Got others in rows {rows}.")
    m = drawn.shape[1]
    ordered = np.sort(drawn, axis=1)
    # Each gap between neighbours lies between j draws and the m - j others.
    pairs = (np.arange(m) * 2.0 - m + 1) * ordered
    spread = pairs.sum(axis=1) / (m * (m - 1 if fair else m))
    distance: np.ndarray = np.abs(drawn - values[:, None]).mean(axis=1)
    return distance - spread


def _continuous(observed: Observed, distribution: Any) -> np.ndarray:
    score = np.zeros(len(observed))
    for bound, side in ((observed.lower, "below"), (observed.upper, "above")):
        known = np.isfinite(bound)
        score += known * _integrated(distribution, np.where(known, bound, 0.0), side)
    return score


def _integrated(distribution: Any, y: np.ndarray, side: str) -> np.ndarray:
    """Return the integral of F**2 below `y`, or that of (1 - F)**2 above it.

    By parts they are ``2 * integral of p (y - Q(p)) dp`` up to F(y), and
    ``2 * integral of (1 - p) (Q(p) - y) dp`` from there on: whatever the scale, and also where
    tails are heavy, the rule's nodes lie where the integrand is.
    """
    reach = at(distribution, "cdf" if side == "below" else "sf", y)  # length of the interval
    share, _, weight = rule()
    total = np.zeros(len(y))
    for nodes in _steps(len(share), len(y)):
        depth = reach[:, None] * share[nodes]  # from the end that lies in the tail
        p = inside(depth if side == "below" else 1 - depth)
        distance = np.abs(at(distribution, "quantile", p) - y[:, None])
        total += np.where(depth > 0, depth * distance, 0.0) @ weight[nodes]
    return 2 * reach * total


def _summed(observed: Observed, distribution: Any) -> np.ndarray:
    """Return the score of counts: F is constant from each whole number to the next."""
    n = len(observed)
    ends = np.tile([TAIL, 1 - TAIL], (n, 1))
    low, high = np.floor(at(distribution, "quantile", ends)).T
    length = high - low + 1
    long = length > LONGEST
    known = ~np.isinf(observed.upper)
    seen = np.where(known, observed.upper, 0.0)
    # Beyond these F is 0 or 1, and the square 1 as long as it is on the wrong side.
    score = np.maximum(observed.lower - (high + 1), 0) + known * np.maximum(low - seen, 0)
    for steps in _steps(0 if long.all() else int(length[~long].max()), n):
        k = low[:, None] + steps
        within = k <= high[:, None]
        left = np.clip(observed.lower[:, None] - k, 0, 1) * within
        right = np.clip(k + 1 - seen[:, None], 0, 1) * within * known[:, None]
        below, above = at(distribution, "cdf", k), at(distribution, "sf", k)
        score += (left * below**2 + right * above**2).sum(axis=1)
    return np.where(long, _continuous(observed, distribution), score) if long.any() else score


def _steps(longest: int, n: int) -> Iterator[np.ndarray]:
    """Yield 0, 1, ..., `longest` - 1 in pieces of which `n` rows fit in memory."""
    size = max(1, CHUNK // n)
    for start in range(0, longest, size):
        yield np.arange(start, min(start + size, longest))
