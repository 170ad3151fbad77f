"""Survival times of the simulated cohorts: Weibull, proportional hazards, a known truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from mmfusion.inputs.times import as_times
from mmfusion.survival import surv

__all__ = ["SCALE", "SHAPE", "WeibullTimes", "WeibullTruth", "draw_times"]

#: Weibull baseline: ``S_0(t) = exp(-(t / SCALE) ** SHAPE)``, time in months.
SHAPE, SCALE = 1.5, 60.0


@dataclass(frozen=True, eq=False)
class WeibullTruth:
    """What is true of a simulated cohort, before any modality goes missing.

    Attributes
    ----------
    log_hazard : DataFrame, shape (n, k)
        The parts of each patient's log hazard ratio, and their sum, "total".
    coefficients : Series
        Log hazard ratio of each term; an absent term has none.
    event_time : ndarray of float64, shape (n,)
        Time of the event in months, known here even where it is censored in the target.
    shape, scale : float
        Of the Weibull baseline ``S_0(t) = exp(-(t / scale) ** shape)``.
    censoring_rate : float
        Of the exponential censoring time, a month; 0 without censoring.
    """

    log_hazard: pd.DataFrame
    coefficients: pd.Series
    event_time: np.ndarray
    shape: float
    scale: float
    censoring_rate: float

    def cumulative_hazard_function(self, times: np.ndarray) -> pd.DataFrame:
        """Return the true cumulative hazard: a row a patient, a column a time (months)."""
        grid = np.atleast_1d(as_times("times", times))
        baseline = (grid / self.scale) ** self.shape
        hazard = np.exp(self.log_hazard["total"].to_numpy())[:, None] * baseline
        return pd.DataFrame(hazard, index=self.log_hazard.index, columns=grid)

    def survival_function(self, times: np.ndarray) -> pd.DataFrame:
        """Return the true survival probability: a row a patient, a column a time (months)."""
        return (-self.cumulative_hazard_function(times)).apply(np.exp)


class WeibullTimes(NamedTuple):
    """Drawn times: the outcome, the event times behind it, the rate of censoring a month."""

    target: np.ndarray
    event_time: np.ndarray
    censoring_rate: float


def draw_times(
    log_hazard: np.ndarray,
    censoring: float,
    time_rng: np.random.Generator,
    censoring_rng: np.random.Generator,
) -> WeibullTimes:
    """Draw survival times with these log hazard ratios (n,), and independent censoring.

    Parameters
    ----------
    log_hazard : ndarray of float64, shape (n,)
    censoring : float in [0, 1)
        Expected share of censored patients.
    time_rng, censoring_rng : Generator
        A stream each, so that event times do not change with the censoring.
    """
    n = len(log_hazard)
    # -log of a uniform number is exponential: the cumulative hazard at the time of the event.
    scale = SCALE * np.exp(-log_hazard / SHAPE)
    event_time = scale * time_rng.exponential(size=n) ** (1 / SHAPE)
    rate = _censoring_rate(scale, censoring)
    limit = censoring_rng.exponential(size=n) / rate if rate > 0 else np.full(n, np.inf)
    return WeibullTimes(surv(np.minimum(event_time, limit), event_time <= limit), event_time, rate)


def _censoring_rate(scale: np.ndarray, share: float) -> float:
    """Return the rate of exponential censoring with which `share` of the patients is censored.

    Expected over event times: those drawn do not enter, so that censoring stays independent.
    """
    if share == 0:
        return 0.0
    quantiles = (np.arange(200) + 0.5) / 200
    times = scale[:, None] * (-np.log(quantiles)) ** (1 / SHAPE)
    typical = float(np.log(1 / np.median(times)))
    log_rate = brentq(
        lambda value: float(-np.expm1(-np.exp(value) * times).mean()) - share,
        typical - 25,
        typical + 25,
    )
    return float(np.exp(log_rate))
