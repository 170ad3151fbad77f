"""Bands around curves: for each point by itself, or for all of them together."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

__all__ = ["BANDS", "Bands", "band", "critical_value", "root_of"]

Array = NDArray[np.float64]
Bands = Literal["pointwise", "simultaneous"]
BANDS: tuple[Bands, ...] = ("pointwise", "simultaneous")

#: Curves drawn for a simultaneous band: its coverage is then off by .002 at most (one sigma).
DRAWS = 10_000


def root_of(covariance: Array) -> Array:
    """Return L with ``L L'`` a covariance (p, p), which may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(values.clip(min=0.0)), dtype=np.float64)


def critical_value(root: Array, level: float, bands: Bands) -> float:
    """Return how many standard errors a band reaches to each side.

    A simultaneous one holds the whole curve with probability `level`: the quantile of the largest
    standardised deviation over its points, of curves drawn from the posterior with the same seed
    always (Ruppert, Wand & Carroll 2003, section 6.5; Marra & Wood 2012).

    Parameters
    ----------
    root : ndarray, shape (m, r)
        ``root root'`` is the covariance of the curve's points.
    level : float
    bands : {"pointwise", "simultaneous"}

    Raises
    ------
    ValueError
        For a level outside (0, 1), or other bands.
    """
    if not 0 < level < 1:
        raise ValueError(f"The level parameter must lie between 0 and 1, exclusive. Got {level!r}.")
    if bands not in BANDS:
        raise ValueError(f"The bands parameter must be one of {BANDS}. Got {bands!r}.")
    pointwise = float(stats.norm.ppf(0.5 + level / 2))
    if bands == "pointwise":
        return pointwise
    se = np.linalg.norm(root, axis=1)
    unit = root[se > 0] / se[se > 0, None]
    if not len(unit):
        return pointwise
    half = np.linalg.qr(unit.T, mode="r")  # of the rank of the curve
    draws = np.random.default_rng(0).standard_normal((DRAWS, len(half)))
    return float(np.quantile(np.abs(draws @ half).max(1), level))


def band(estimate: Array, root: Array, level: float, bands: Bands, name: str) -> pd.DataFrame:
    """Return a curve with its band: `name`, se, lower, upper, a row a point.

    Parameters
    ----------
    estimate : ndarray, shape (m,)
    root, level, bands
        As in `critical_value`.
    name : str
        Of the estimate's column.
    """
    width = critical_value(root, level, bands)
    se = np.linalg.norm(root, axis=1)
    columns = (estimate, se, estimate - width * se, estimate + width * se)
    return pd.DataFrame(dict(zip((name, "se", "lower", "upper"), columns, strict=True)))
