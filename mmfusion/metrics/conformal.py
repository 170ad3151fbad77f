"""Prediction intervals that hold their level on new rows, whatever the model."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from mmfusion.inputs.parameters import check_number
from mmfusion.metrics.prediction_intervals import check_bounds, check_intervals

__all__ = ["ConformalIntervals"]


@dataclass(frozen=True)
class ConformalIntervals:
    """Conformalised quantile regression (Romano, Patterson & Candes 2019, NeurIPS 32).

    Each bound of a prediction interval is moved outwards by the same margin, in units of y: of n
    rows that the model has not seen, the ``ceil((n + 1) level)``-th smallest
    ``max(lower - y, y - upper)``. A margin below zero moves them inwards.

    If these rows and a new one are exchangeable, the new outcome lies in its interval with a
    probability of at least `level`, and at most ``level + 1 / (n + 1)`` if no two rows tie,
    whatever the model. The probability is over both; that of one set of n rows varies about it as a
    Beta variable, with a standard deviation of about ``sqrt(level (1 - level) / n)``. It is no
    promise for each value of the columns: there the model has to be right.

    Attributes
    ----------
    level : float
    margin : float
    n : int
        The number of rows behind the margin.

    Examples
    --------
    >>> import numpy as np
    >>> from mmfusion.metrics import ConformalIntervals
    >>> y = np.arange(19.0)
    >>> conformal = ConformalIntervals.fit(y, np.full(19, 4.0), np.full(19, 14.0), level=0.8)
    >>> conformal.margin, conformal.apply([4.0], [14.0])
    (3.0, (array([1.]), array([17.])))
    """

    level: float
    margin: float
    n: int

    @classmethod
    def fit(cls, y: Any, lower: Any, upper: Any, level: float = 0.9) -> ConformalIntervals:
        """Find the margin.

        Parameters
        ----------
        y : array-like of float, shape (n,)
            Of rows that the model has not seen: not in training, nor in choosing the model.
        lower, upper : array-like of float, shape (n,)
            What the model predicts for them.
        level : float, default=0.9

        Returns
        -------
        ConformalIntervals

        Raises
        ------
        ValueError
            Missing or censored outcomes, bounds of another shape, missing or crossing; a level
            outside (0, 1); fewer rows than ``level / (1 - level)``, with which only the whole line
            would do.
        """
        check_number("level", level, 0, 1, open_ends="low and high")
        values, low, high = check_intervals(y, lower, upper)
        n = len(values)
        rank = whole((n + 1) * level)
        if rank > n:
            raise ValueError(
                f"Intervals of level {level:g} need at least {whole(level / (1 - level))} rows to "
                f"calibrate on. Got {n}."
            )
        distance = np.maximum(low - values, values - high)
        return cls(float(level), float(np.partition(distance, rank - 1)[rank - 1]), n)

    def apply(self, lower: Any, upper: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the bounds, moved by the margin; bounds that would cross meet in their middle.

        Parameters
        ----------
        lower, upper : array-like of float, shape (m,)
            What the same model predicts for other rows.

        Returns
        -------
        tuple of two ndarray of float64, shape (m,)
        """
        low, high = check_bounds(lower, upper, np.size(lower))
        low, high = low - self.margin, high + self.margin
        middle = (low + high) / 2
        return np.minimum(low, middle), np.maximum(high, middle)


def whole(value: float) -> int:
    """Return the least whole number that is not below `value`, but for rounding."""
    return ceil(value - 1e-9)
