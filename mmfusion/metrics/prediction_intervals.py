"""Judging of prediction intervals and quantiles: coverage, width, interval and quantile scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmfusion.inputs.labels import check_order
from mmfusion.inputs.parameters import check_number
from mmfusion.metrics._observed import check_exact

__all__ = [
    "check_bounds",
    "check_intervals",
    "interval_coverage",
    "interval_score",
    "interval_width",
    "quantile_score",
]


def interval_coverage(y: Any, lower: Any, upper: Any) -> float:
    """Return the share of outcomes in ``[lower, upper]``.

    A share near the level says little alone: intervals that are too wide for some rows and too
    narrow for others may have it. Beside it read `interval_width` and `interval_score`.

    Parameters
    ----------
    y : array-like of float, shape (n,)
    lower, upper : array-like of float, shape (n,)

    Returns
    -------
    float

    Raises
    ------
    ValueError
        Missing or censored outcomes (of those `quantile_reliability` tells how often a quantile is
        undercut), bounds of another shape, missing ones, a lower bound above the upper.

    Examples
    --------
    >>> from mmfusion.metrics import interval_coverage
    >>> interval_coverage([1.0, 2.0, 3.0, 4.0], [0, 0, 0, 0], [2, 2, 2, 4])
    0.75
    """
    values, low, high = check_intervals(y, lower, upper)
    return float(((low <= values) & (values <= high)).mean())


def interval_width(lower: Any, upper: Any) -> float:
    """Return the mean width of intervals.

    Parameters
    ----------
    lower, upper : array-like of float, shape (n,)

    Returns
    -------
    float
        In units of y; infinite where an interval is.

    Raises
    ------
    ValueError
        As `interval_coverage`.
    """
    low, high = check_bounds(lower, upper, np.size(lower))
    return float((high - low).mean())


def interval_score(y: Any, lower: Any, upper: Any, level: float = 0.9) -> np.ndarray:
    """Return each row's interval score; lower is better (Winkler 1972, JASA 67:187-191).

    The width, and ``2 / (1 - level)`` times the distance of an outcome outside. Least, in the mean,
    for the central interval of the level of the right distribution.

    Parameters
    ----------
    y : array-like of float, shape (n,)
    lower, upper : array-like of float, shape (n,)
    level : float, default=0.9
        That the intervals claim.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    ValueError
        As `interval_coverage`; a level outside (0, 1).

    Examples
    --------
    >>> from mmfusion.metrics import interval_score
    >>> interval_score([1.0, 5.0], [0, 0], [2, 2], level=0.8)
    array([ 2., 32.])
    """
    check_number("level", level, 0, 1, open_ends="low and high")
    values, low, high = check_intervals(y, lower, upper)
    outside = np.maximum(low - values, 0) + np.maximum(values - high, 0)
    return np.asarray(high - low + 2 / (1 - level) * outside)


def quantile_score(y: Any, quantiles: Any, levels: Any) -> np.ndarray:
    """Return the loss of predicted quantiles; lower is better (Koenker & Bassett 1978).

    ``level`` times the distance of an outcome above its quantile, ``1 - level`` times that of one
    below ("pinball"). Twice its mean over many equally spaced levels is the CRPS, also of a model
    that predicts quantiles alone.

    Parameters
    ----------
    y : array-like of float, shape (n,)
    quantiles : array-like of float, shape (n,) or (n, m)
    levels : float, or array-like of shape (m,)
        Each in (0, 1).

    Returns
    -------
    ndarray of float64, of the shape of `quantiles`

    Raises
    ------
    ValueError
        Missing or censored outcomes, quantiles of another shape or missing, levels outside (0, 1).

    Examples
    --------
    >>> from mmfusion.metrics import quantile_score
    >>> quantile_score([1.0, 5.0], [[0.0, 2.0], [0.0, 2.0]], [0.1, 0.9]).round(2)
    array([[0.1, 0.1],
           [0.5, 2.7]])
    """
    check_order(y=y, quantiles=quantiles)
    values = check_exact(y, "The quantile score")
    levels = np.asarray(levels, dtype=np.float64)
    if levels.ndim > 1 or not ((levels > 0) & (levels < 1)).all():
        raise ValueError(f"The levels parameter must hold numbers in (0, 1). Got {levels}.")
    table = np.asarray(quantiles, dtype=np.float64)
    if table.shape != (len(values), *levels.shape) or np.isnan(table).any():
        raise ValueError(
            f"The quantiles parameter must hold numbers of shape {(len(values), *levels.shape)}. "
            f"Got {'missing ones' if np.isnan(table).any() else table.shape}."
        )
    error = (values[:, None] if levels.ndim else values) - table
    return np.asarray(np.maximum(levels * error, (levels - 1) * error))


def check_intervals(y: Any, lower: Any, upper: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return outcomes and the bounds of their intervals as float64."""
    check_order(y=y, lower=lower, upper=upper)
    values = check_exact(y, "The judging of intervals")
    return values, *check_bounds(lower, upper, len(values))


def check_bounds(lower: Any, upper: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of `n` intervals as float64; refuse missing and crossing ones."""
    low, high = (np.asarray(bound, dtype=np.float64) for bound in (lower, upper))
    if low.shape != (n,) or high.shape != (n,):
        raise ValueError(
            f"The lower and upper parameters must have one value a row, shape ({n},). "
            f"Got {low.shape} and {high.shape}."
        )
    wrong = np.flatnonzero(~(low <= high))  # True for NaN
    if len(wrong):
        raise ValueError(
            "The lower parameter must hold numbers that are not above those of upper. Got "
            f"{low[wrong[0]]:g} and {high[wrong[0]]:g} in rows {wrong[:5].tolist()}."
        )
    return low, high
