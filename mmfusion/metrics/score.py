"""A score with what each row contributes to it: its interval, and differences of scores."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import pandas as pd
from scipy import stats

from mmfusion.inputs.labels import check_labels

__all__ = ["Score", "ScoreInterval"]


class ScoreInterval(NamedTuple):
    """What `Score.interval` returns."""

    score: float
    standard_error: float
    lower: float
    upper: float


@dataclass(frozen=True, eq=False)
class Score:
    """A score of predictions and the influence of each row on it.

    The influence of a row is the derivative of the score in the weight of the row (infinitesimal
    jackknife: Jaeckel 1972; Efron 1982). Their squares add up to the variance of the score over
    cohorts, the model taken as it is. Scores of two models on the same rows subtract, influence by
    influence: the variance of the difference then allows for what the two have in common.

    Attributes
    ----------
    value : float
    rows : ndarray of float64, shape (n,)
        Influences; they add up to 0.
    scale : {"identity", "logit", "log", "log complement"}
        Where the interval is symmetric: "logit" of shares, "log" of positive scores, "log
        complement", ``log(1 - score)``, of explained shares.
    """

    value: float
    rows: np.ndarray
    scale: Literal["identity", "logit", "log", "log complement"] = "identity"

    def __float__(self) -> float:
        return float(self.value)

    def __sub__(self, other: Self) -> Score:
        if len(self.rows) != len(other.rows):
            raise ValueError(
                "Scores must be of the same rows to be subtracted. "
                f"Got {len(self.rows)} and {len(other.rows)} rows."
            )
        return Score(self.value - other.value, self.rows - other.rows)

    def standard_error(self, cluster: Any = None) -> float:
        """Return the standard error; see `interval`."""
        return self._error(cluster)[0]

    def p_value(self, cluster: Any = None) -> float:
        """Return the two-sided p-value of a score (a difference) of 0; NaN without an error."""
        error, degrees = self._error(cluster)
        if not error > 0:
            return float("nan")
        return float(2 * stats.t.sf(abs(self.value) / error, degrees))

    def interval(self, level: float = 0.95, cluster: Any = None) -> ScoreInterval:
        """Return the score with its standard error and interval.

        Parameters
        ----------
        level : float, default=0.95
        cluster : array-like, shape (n,), optional
            Rows of one label (a patient's visits, a hospital) are summed first; the variance gets
            the factor ``G / (G - 1)``, G the number of labels.

        Returns
        -------
        ScoreInterval
            Named tuple: score, standard_error, lower, upper. The bounds are NaN where the score
            stands at the end of its range, or no row moves it: nothing is then known of its spread.

        Raises
        ------
        ValueError
            A level outside (0, 1); missing labels, another number of them, or one label only.

        Notes
        -----
        Quantiles are those of t with the degrees of freedom of the variance ``sum u^2``,
        ``2 (sum u^2)^2 / (sum u^4 - (sum u^2)^2 / n)`` (Satterthwaite 1946), at most n - 1 (G - 1):
        few rows that decide, as events among many censored, leave few.
        """
        if not 0 < level < 1:
            raise ValueError(f"The level parameter must be between 0 and 1. Got {level!r}.")
        error, degrees = self._error(cluster)
        reach = float(stats.t.ppf((1 + level) / 2, degrees)) * error
        value = float(self.value)
        nothing = ScoreInterval(value, error, float("nan"), float("nan"))
        if not error > 0:
            return nothing
        if self.scale == "identity":
            return ScoreInterval(value, error, value - reach, value + reach)
        if self.scale == "logit":
            if not 0 < value < 1:
                return nothing
            middle, reach = np.log(value / (1 - value)), reach / (value * (1 - value))
            lower, upper = (1 / (1 + np.exp(-(middle + side * reach))) for side in (-1, 1))
            return ScoreInterval(value, error, float(lower), float(upper))
        positive = value if self.scale == "log" else 1 - value
        if not positive > 0:
            return nothing
        low, high = positive * np.exp(-reach / positive), positive * np.exp(reach / positive)
        if self.scale == "log complement":
            low, high = 1 - high, 1 - low
        return ScoreInterval(value, error, float(low), float(high))

    def _error(self, cluster: Any) -> tuple[float, float]:
        """Return the standard error and the degrees of freedom of its reference."""
        sums, factor = self.rows, 1.0
        if cluster is not None:
            code = pd.factorize(check_labels(cluster, len(self.rows), "cluster"))[0]
            sums = np.bincount(code, weights=self.rows)
            if len(sums) < 2:
                raise ValueError("The cluster parameter must have two labels or more. Got one.")
            factor = len(sums) / (len(sums) - 1)
        # Rows without influence, as those that were not scored, tell nothing of the spread.
        square, n = float(sums @ sums), max(int(np.count_nonzero(sums)), 2)
        spread = float(np.sum(sums**4)) - square**2 / n
        degrees = n - 1.0
        if spread > 0:
            degrees = min(degrees, 2 * square**2 / spread)
        return float(np.sqrt(square * factor)), degrees

    @classmethod
    def combine(cls, scores: Iterable[Self], weights: np.ndarray) -> Self:
        """Return the sum of scores of the same rows times known weights, on the first's scale."""
        scores = list(scores)
        value = float(sum(w * s.value for s, w in zip(scores, weights, strict=True)))
        rows = np.sum([w * s.rows for s, w in zip(scores, weights, strict=True)], axis=0)
        return cls(value, rows, scores[0].scale)

    def share_of(self, reference: Self) -> Score:
        """Return ``1 - score / reference``: what share of the reference's error is explained."""
        ratio = self.value / reference.value
        rows = (ratio * reference.rows - self.rows) / reference.value
        return Score(1 - ratio, rows, "log complement")
