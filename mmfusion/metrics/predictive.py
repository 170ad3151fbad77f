"""Where outcomes lie in their predictive distributions: log score, PIT, quantile residuals."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri

from mmfusion.metrics._observed import Observed, at
from mmfusion.survival import KaplanMeier, kaplan_meier

__all__ = ["log_score", "pit", "pit_curve", "quantile_residuals"]


def log_score(y: Any, distribution: Any) -> np.ndarray:
    """Return each row's log density at its outcome; higher is better (Good 1952).

    A count or class has the log of its probability. A row that is known to lie in ``(l, u]`` has
    the log of ``F(u) - F(l)``, one that is censored at ``l`` of ``1 - F(l)``; a row that was seen
    only because its outcome is above an entry ``a`` is judged given that: ``log(1 - F(a))`` is
    taken off. This is strictly proper under censoring that tells nothing (Rindt et al. 2022,
    AISTATS), while scores of the censored time as if it were the event are not.

    Parameters
    ----------
    y : array-like of float, shape (n,), or survival outcome of n rows
        Or a DataFrame with the columns ``lower`` and ``upper`` (perhaps ``entry``): equal where the
        value is known, infinite where there is no limit.
    distribution : predictive distribution of n rows
        What ``predict_distribution`` returns, or any object with its methods.

    Returns
    -------
    ndarray of float64, shape (n,)
        The score of a model is their mean. -inf where the outcome was impossible.

    Raises
    ------
    ValueError
        Missing or infinite outcomes, as `check_survival`, or another number of rows.
    """
    observed = Observed.read(y, distribution)
    exact = observed.exact
    with np.errstate(divide="ignore"):
        score = at(distribution, "logpdf", np.where(exact, observed.lower, 0.0))
        if not exact.all():
            above = _log_survival(distribution, observed.lower)
            between = np.log(_mass(distribution, observed))
            score = np.where(exact, score, np.where(np.isinf(observed.upper), above, between))
        if observed.delayed.any():
            seen = _log_survival(distribution, observed.entry)
            score = score - np.where(observed.delayed, seen, 0.0)
    return score


def pit(y: Any, distribution: Any, random_state: Any = None) -> np.ndarray:
    """Return the probability integral transform of each row, uniform if predictions are right.

    ``F(y)`` of a continuous outcome (Dawid 1984). Of a count, and of an outcome that is known by
    bounds only, a draw from the uniform distribution between F just below and F at it: uniform too
    (Smith 1985; Czado, Gneiting & Held 2009, Biometrics 65:1254-1261). A row with an entry time is
    transformed given that its outcome is above it.

    Parameters
    ----------
    y : array-like of float, shape (n,), or survival outcome of n rows
    distribution : predictive distribution of n rows
    random_state : int, Generator or None, default=None
        Of the draws.

    Returns
    -------
    ndarray of float64, shape (n,)
        In [0, 1]. Rows far below 1/2 have outcomes below what was predicted.

    Raises
    ------
    ValueError
        As `log_score`.
    """
    return _transform(Observed.read(y, distribution), distribution, random_state)[0]


def quantile_residuals(y: Any, distribution: Any, random_state: Any = None) -> np.ndarray:
    """Return normal residuals of any family (Dunn & Smyth 1996, J. Comput. Graph. Stat. 5:236-244).

    The normal quantile of `pit`, which is computed by the survival function above the median: an
    outcome far beyond what was predicted has a large residual, not an infinite one.

    Parameters
    ----------
    y : array-like of float, shape (n,), or survival outcome of n rows
    distribution : predictive distribution of n rows
    random_state : int, Generator or None, default=None
        Of the draws for counts and for outcomes known by bounds.

    Returns
    -------
    ndarray of float64, shape (n,)
        Standard normal if the predictions are right.

    Raises
    ------
    ValueError
        As `log_score`.
    """
    below, above = _transform(Observed.read(y, distribution), distribution, random_state)
    return np.where(below < 0.5, ndtri(below), -ndtri(above))


class PIT(NamedTuple):
    """What `pit_curve` returns: the curve, and how many rows are behind it."""

    curve: KaplanMeier
    n: int
    n_exact: int


def pit_curve(y: Any, distribution: Any, random_state: Any = None) -> PIT:
    """Return the Kaplan-Meier curve of the probability integral transforms.

    A row that is censored on the right is censored at its F, and a row with an entry time is at
    risk from its F on, so that nothing is drawn for them. Right predictions have the curve
    ``1 - u``. It rests on one assumption: given where it enters, a row's transform says nothing of
    where it is censored.

    Parameters
    ----------
    y : array-like of float, shape (n,), or survival outcome of n rows
    distribution : predictive distribution of n rows
    random_state : int, Generator or None, default=None
        Of the draws for counts and for outcomes in an interval.

    Returns
    -------
    PIT
    """
    observed = Observed.read(y, distribution)
    censored = np.isinf(observed.upper)
    entry = np.where(observed.delayed, at(distribution, "cdf", observed.entry), 0.0)
    drawn = _between(observed, distribution, random_state)[0]
    u = np.where(censored, at(distribution, "cdf", observed.lower), drawn)
    late = observed.delayed.any()
    # Who enters where it leaves, to rounding, tells nothing.
    known = entry < u if late else np.ones(len(u), dtype=bool)
    curve = kaplan_meier(u[known], ~censored[known], entry[known] if late else None)
    return PIT(curve, int(known.sum()), int((known & ~censored).sum()))


def _transform(
    observed: Observed, distribution: Any, random_state: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return the transforms and 1 minus them, each exact where it is small."""
    below, above = _between(observed, distribution, random_state)
    if observed.delayed.any():
        seen = np.where(observed.delayed, at(distribution, "sf", observed.entry), 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            above = np.where(seen > 0, above / seen, 0.5)
        below = np.where(observed.delayed, 1 - above, below)
    return np.clip(below, 0, 1), np.clip(above, 0, 1)


def _between(
    observed: Observed, distribution: Any, random_state: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Return F at each outcome, drawn where there are bounds only or a jump, and 1 - F."""
    high = _both(distribution, observed.upper)
    discrete = bool(getattr(distribution, "discrete", False))
    if not discrete and observed.exact.all():
        return high
    before = np.nextafter(observed.lower, -np.inf)
    start = np.where(discrete & observed.exact, before, observed.lower)
    low = _both(distribution, start)
    share = np.random.default_rng(random_state).uniform(size=len(observed))
    drawn = [a + share * (b - a) for a, b in zip(low, high, strict=True)]
    return drawn[0], drawn[1]


def _mass(distribution: Any, observed: Observed) -> np.ndarray:
    """Return the probability of the bounds, by the tail in which it is exact."""
    (low, above), (high, beyond) = (
        _both(distribution, bound) for bound in (observed.lower, observed.upper)
    )
    return np.maximum(np.maximum(high - low, above - beyond), 0.0)


def _both(distribution: Any, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return F and 1 - F."""
    return at(distribution, "cdf", values), at(distribution, "sf", values)


def _log_survival(distribution: Any, values: np.ndarray) -> np.ndarray:
    """Return log(1 - F), by the distribution's own logarithm where it has one."""
    if hasattr(distribution, "logsf"):
        return at(distribution, "logsf", values)
    with np.errstate(divide="ignore"):
        return np.log(at(distribution, "sf", values))
