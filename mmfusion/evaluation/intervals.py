"""Intervals of differences over folds whose training rows overlap."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

__all__ = ["CorrectedInterval", "corrected_interval"]


class CorrectedInterval(NamedTuple):
    """What `corrected_interval` returns."""

    difference: float
    standard_error: float
    lower: float
    upper: float
    p_value: float


def corrected_interval(
    differences: Any, test_share: float, level: float = 0.95
) -> CorrectedInterval:
    """Return the mean of paired differences over folds with its corrected resampled t interval.

    Training sets of folds overlap, so that their differences d_1, ..., d_J are not independent and
    the usual standard error is too small. Nadeau & Bengio (2003, Machine Learning 52:239-281)
    replace its 1/J::

        mean(d) ± t_{J-1, (1+level)/2} sqrt((1/J + n_test / n_train) s^2),
        s^2 = sum((d_j - mean(d))^2) / (J - 1)

    Parameters
    ----------
    differences : array-like of float, shape (J,)
        Of two models' scores, a fold each.
    test_share : float
        n_test / n_train: 1 / (K - 1) for K folds.
    level : float, default=0.95

    Returns
    -------
    CorrectedInterval
        Named tuple: difference, standard_error, lower, upper, p_value (two-sided, of no
        difference). NaN where a difference is NaN.

    Raises
    ------
    ValueError
        Fewer than two differences, a share that is not positive, a level outside (0, 1).

    Examples
    --------
    >>> from mmfusion.evaluation import corrected_interval
    >>> interval = corrected_interval([0.02, 0.04, 0.03, 0.01, 0.05], test_share=0.25)
    >>> [round(value, 4) for value in interval]
    [0.03, 0.0106, 0.0006, 0.0594, 0.0474]
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or len(d) < 2:
        raise ValueError(
            "The differences parameter must hold at least two folds' differences. "
            f"Got shape {d.shape}."
        )
    if not test_share > 0:
        raise ValueError(f"The test_share parameter must be positive. Got {test_share!r}.")
    if not 0 < level < 1:
        raise ValueError(f"The level parameter must be between 0 and 1. Got {level!r}.")
    mean = float(d.mean())
    error = float(np.sqrt((1 / len(d) + test_share) * d.var(ddof=1)))
    half_width = float(stats.t.ppf((1 + level) / 2, len(d) - 1)) * error
    with np.errstate(divide="ignore", invalid="ignore"):  # folds that all agree have no spread
        p_value = float(2 * stats.t.sf(np.abs(np.float64(mean) / error), len(d) - 1))
    return CorrectedInterval(mean, error, mean - half_width, mean + half_width, p_value)
