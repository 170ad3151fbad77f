"""What figures of predictive distributions show: worm plot, rootogram, reliability of quantiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mmfusion.inputs.parameters import check_number
from mmfusion.metrics._observed import at, check_exact
from mmfusion.metrics.predictive import pit_curve

__all__ = ["quantile_reliability", "rootogram", "worm"]

#: Values of a rootogram asked at once, and the most bars it has.
CHUNK, MOST_BARS = 1_000_000, 10_000
LEVELS = np.arange(0.05, 0.951, 0.05).round(2)


def worm(residuals: Any, level: float = 0.95) -> pd.DataFrame:
    """Return a worm plot: a detrended normal QQ plot (van Buuren & Fredriks 2001, Stat. Med. 20).

    A worm above or below zero says that the location is wrong, a slope the scale, a parabola the
    skewness, an S the tails.

    Parameters
    ----------
    residuals : array-like of float, shape (n,)
        What `quantile_residuals` returns.
    level : float, default=0.95
        Of the pointwise bounds, between which the points of right predictions lie.

    Returns
    -------
    DataFrame, a row a residual in increasing order
        theoretical (normal quantile), deviation (residual minus that), lower, upper.

    Raises
    ------
    ValueError
        Fewer than two residuals, missing ones, or more than one dimension; a level outside (0, 1).
    """
    check_number("level", level, 0, 1, open_ends="low and high")
    ordered = np.sort(np.asarray(residuals, dtype=np.float64))
    if ordered.ndim != 1 or len(ordered) < 2 or np.isnan(ordered).any():
        raise ValueError(
            "The residuals parameter must hold at least two numbers in one dimension. "
            f"Got shape {ordered.shape}, {int(np.isnan(ordered).sum())} of them missing."
        )
    n = len(ordered)
    p = (np.arange(1, n + 1) - 0.5) / n
    z = stats.norm.ppf(p)
    bound = stats.norm.ppf((1 + level) / 2) * np.sqrt(p * (1 - p) / n) / stats.norm.pdf(z)
    columns = {"theoretical": z, "deviation": ordered - z, "lower": -bound, "upper": bound}
    return pd.DataFrame(columns)


def rootogram(y: Any, distribution: Any) -> pd.DataFrame:
    """Return how often each count was observed and expected (Kleiber & Zeileis 2016, Am. Stat. 70).

    Parameters
    ----------
    y : array-like of whole numbers, shape (n,)
    distribution : predictive distribution of n rows
        Of counts.

    Returns
    -------
    DataFrame, a row a value from the least to the greatest that was observed
        observed, expected (the sum of the rows' probabilities), and, for a hanging rootogram, whose
        bars hang from the root of what was expected, bottom: ``sqrt(expected) - sqrt(observed)``.

    Raises
    ------
    ValueError
        Outcomes that are missing, censored or not whole, or spread over more than 10,000 values; a
        distribution that is continuous.
    """
    values = check_exact(y, "A rootogram")
    if not getattr(distribution, "discrete", False):
        raise ValueError("A rootogram needs the distribution of a count. Got a continuous one.")
    wrong = np.flatnonzero(values != np.floor(values))
    if len(wrong):
        raise ValueError(
            f"The y parameter must hold whole numbers. Got {values[wrong[0]]:g} in rows "
            f"{wrong[:5].tolist()}."
        )
    first, last = min(0.0, values.min()), values.max()
    if last - first >= MOST_BARS:
        raise ValueError(
            f"The y parameter must spread over at most {MOST_BARS} values for a rootogram. "
            f"Got {first:g} to {last:g}."
        )
    k = np.arange(first, last + 1)
    observed = np.bincount((values - first).astype(int), minlength=len(k)).astype(np.float64)
    expected = np.empty(len(k))
    size = max(1, CHUNK // len(values))
    for start in range(0, len(k), size):
        some = np.tile(k[start : start + size], (len(values), 1))
        expected[start : start + size] = np.exp(at(distribution, "logpdf", some)).sum(axis=0)
    bottom = np.sqrt(expected) - np.sqrt(observed)
    columns = {"observed": observed, "expected": expected, "bottom": bottom}
    return pd.DataFrame(columns, index=pd.Index(k.astype(int), name="value"))


def quantile_reliability(
    y: Any, distribution: Any, levels: Any = LEVELS, *, level: float = 0.95, random_state: Any = 0
) -> pd.DataFrame:
    """Return how often outcomes lie below the quantiles that were predicted.

    The share is that of the transforms of `pit` below each level; of outcomes that are censored on
    the right, or were seen only beyond an entry time, 1 minus the Kaplan-Meier curve of the
    transforms, which rests on censoring that does not depend on them.

    Parameters
    ----------
    y : array-like of float, shape (n,), or survival outcome of n rows
    distribution : predictive distribution of n rows
    levels : array-like of float, shape (m,), default=0.05, 0.10, ..., 0.95
        Of the quantiles.
    level : float, default=0.95
        Of the pointwise intervals: Clopper & Pearson's, and by Greenwood's formula on the scale of
        log(-log) under censoring.
    random_state : int, Generator or None, default=0
        Of the draws for counts and for outcomes in an interval.

    Returns
    -------
    DataFrame, index level
        observed, lower, upper; NaN beyond what was followed up.

    Raises
    ------
    ValueError
        As `log_score`; levels outside (0, 1).
    """
    check_number("level", level, 0, 1, open_ends="low and high")
    asked = np.asarray(levels, dtype=np.float64)
    if asked.ndim != 1 or not ((asked > 0) & (asked < 1)).all():
        raise ValueError(f"The levels parameter must hold numbers in (0, 1). Got {asked}.")
    curve, n, n_exact = pit_curve(y, distribution, random_state)
    observed = 1 - curve(asked)
    if n_exact == n and not (curve.at_risk[0] < n):
        below = np.round(observed * n)
        lower = np.where(below > 0, stats.beta.ppf((1 - level) / 2, below, n - below + 1), 0.0)
        upper = np.where(below < n, stats.beta.ppf((1 + level) / 2, below + 1, n - below), 1.0)
    else:
        upper, lower = (1 - bound for bound in curve.confidence_interval(asked, level))
        beyond = (asked > curve.x[-1]) & (curve.y[-1] > 0)
        observed, lower, upper = (np.where(beyond, np.nan, v) for v in (observed, lower, upper))
    columns = {"observed": observed, "lower": lower, "upper": upper}
    return pd.DataFrame(columns, index=pd.Index(asked, name="level"))
