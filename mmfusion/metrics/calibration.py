"""Calibration of whole survival distributions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from mmfusion.inputs.labels import check_order
from mmfusion.metrics._inputs import check_probabilities
from mmfusion.metrics._weights import refuse_delayed
from mmfusion.survival import check_survival

__all__ = ["DCalibration", "d_calibration"]


class DCalibration(NamedTuple):
    """What `d_calibration` returns."""

    statistic: float
    p_value: float
    proportions: np.ndarray


def d_calibration(y: Any, survival_at_own_time: Any, n_bins: int = 10) -> DCalibration:
    """Test whether the predicted distributions are calibrated (Haider et al. 2020, JMLR 21:85).

    If they are, ``S_i(T_i)`` is uniform on [0, 1]. An event counts 1 in the bin of its survival
    probability. A row censored at probability ``c`` in the bin ``[a, b)`` counts
    ``(c - a) / c`` there and ``1 / (n_bins c)`` in each lower bin.

    Parameters
    ----------
    y : outcome, n rows
    survival_at_own_time : array-like of float, shape (n,)
        Each row's predicted probability to survive its own time of event or censoring.
    n_bins : int, default 10

    Returns
    -------
    DCalibration
        Named tuple of the chi-squared ``statistic``, the ``p_value`` (n_bins - 1 degrees of
        freedom; a small one speaks against calibration) and the ``proportions`` of rows in the
        bins ``[0, 1/n_bins), ..., [1 - 1/n_bins, 1]``.

    Raises
    ------
    ValueError
        As `check_survival`; probabilities of another shape, outside [0, 1] or NaN; fewer than two
        bins; delayed entry.

    Notes
    -----
    With heavy censoring the test has little power (a censored row is spread by the very
    distribution under test): report the statistic and the censoring with it.

    Examples
    --------
    >>> from mmfusion.metrics import d_calibration
    >>> y = ([1, 2, 3, 4], [1, 1, 1, 0])
    >>> d_calibration(y, [0.9, 0.6, 0.3, 0.8], n_bins=2).proportions
    array([0.40625, 0.59375])
    """
    check_order(y=y, survival_at_own_time=survival_at_own_time)
    outcome = check_survival(y)
    refuse_delayed(outcome, "D-calibration")
    if isinstance(n_bins, bool) or not isinstance(n_bins, (int, np.integer)) or n_bins < 2:
        raise ValueError(f"The n_bins parameter must be a whole number above 1. Got {n_bins!r}.")
    values = np.asarray(survival_at_own_time, dtype=np.float64)
    if values.shape != outcome.time.shape:
        raise ValueError(
            "The survival_at_own_time parameter must have one value for each of the "
            f"{len(outcome)} rows. Got shape {values.shape}."
        )
    values = check_probabilities(values, "survival_at_own_time")
    edges = np.arange(n_bins) / n_bins
    position = np.searchsorted(edges, values, side="right") - 1
    censored = ~outcome.event
    c, own = values[censored], position[censored]
    # What survives with probability zero lies in the lowest bin as a whole.
    in_own = np.divide(c - edges[own], c, out=np.ones_like(c), where=c > 0)
    in_lower = np.divide(1.0, n_bins * c, out=np.zeros_like(c), where=c > 0)
    counts = np.bincount(position[outcome.event], minlength=n_bins).astype(np.float64)
    counts += np.bincount(own, weights=in_own, minlength=n_bins)
    # A row in bin k reaches bins 0 .. k - 1: add from the top down.
    from_above = np.bincount(own, weights=in_lower, minlength=n_bins)
    counts += np.cumsum(from_above[::-1])[::-1] - from_above
    expected = len(outcome) / n_bins
    statistic = float(np.sum((counts - expected) ** 2) / expected)
    p_value = float(stats.chi2.sf(statistic, n_bins - 1))
    return DCalibration(statistic, p_value, counts / len(outcome))
