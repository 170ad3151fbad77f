"""Exponential survival times of a known hazard, independently censored."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq

__all__ = ["draw_exponential_times"]


def draw_exponential_times(
    log_hazard: np.ndarray, censoring: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw event times of these log-hazards, and exponential censoring times that know nothing.

    Parameters
    ----------
    log_hazard : ndarray of float64, shape (n,)
    censoring : float in [0, 1)
        Expected share of censored rows: the mean of ``rate / (rate + hazard)``.
    rng : Generator

    Returns
    -------
    time : ndarray, shape (n,)
    event : ndarray of bool, shape (n,)
    event_time : ndarray, shape (n,)
        Of the censored too.
    """
    hazard = np.exp(log_hazard)
    event_time = rng.exponential(1 / hazard)
    limit = rng.exponential(size=len(hazard))
    if censoring == 0:
        return event_time, np.ones(len(hazard), dtype=bool), event_time
    low, high = np.log(hazard).min() - 40, np.log(hazard).max() + 40
    log_rate = brentq(
        lambda value: float(np.mean(1 / (1 + hazard * np.exp(-value)))) - censoring, low, high
    )
    limit /= np.exp(log_rate)
    return np.minimum(event_time, limit), event_time <= limit, event_time
