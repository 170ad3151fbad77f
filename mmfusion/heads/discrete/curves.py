"""Curves between the bounds of a grid, from the survival at the bounds, in the log domain.

Within an interval either the density is constant (the curve is a straight line) or the hazard is
(its logarithm is one); Kvamme & Borgan 2021, section 4. The latter is never above the former.
Beyond the last bound a curve stays where it is: a convention, no estimate.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

__all__ = ["Interpolation", "log_survival_at", "quantile", "restricted_mean", "split_fall"]

Interpolation = Literal["constant_density", "constant_hazard"]


def log_survival_at(
    knots: np.ndarray, cuts: np.ndarray, times: np.ndarray, kind: Interpolation
) -> np.ndarray:
    """Return log S at `times`, shape (n, n_times).

    Parameters
    ----------
    knots : ndarray, shape (n, n_intervals + 1)
        log S at `cuts`.
    cuts : ndarray, shape (n_intervals + 1,)
    times : ndarray, shape (n_times,)
    kind : {"constant_density", "constant_hazard"}
    """
    ends, share = _within(cuts, times)
    left, right = knots[:, ends - 1], knots[:, ends]
    if kind == "constant_hazard":
        return left + share * (right - left)
    with np.errstate(divide="ignore"):
        return np.minimum(np.logaddexp(np.log1p(-share) + left, np.log(share) + right), 0.0)


def split_fall(
    masses: np.ndarray, knots: np.ndarray, survival: np.ndarray, cuts: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Return cumulative incidences, shape (n, n_causes, n_times), which sum to 1 - S.

    Within an interval each cause has the same share of the fall of the curve.

    Parameters
    ----------
    masses : ndarray, shape (n, n_causes, n_intervals)
        Log-masses.
    knots, survival : ndarray, shapes (n, n_intervals + 1) and (n, n_times)
        log S at `cuts`, S at `times`.
    cuts, times : ndarray
    """
    ends, _ = _within(cuts, times)
    incidence = np.cumsum(np.exp(masses), axis=2)
    before = np.concatenate([np.zeros_like(incidence[:, :, :1]), incidence[:, :, :-1]], axis=2)
    shares = np.exp(masses - np.logaddexp.reduce(masses, axis=1, keepdims=True))
    fall = np.exp(knots[:, ends - 1]) - survival
    return before[:, :, ends - 1] + shares[:, :, ends - 1] * fall[:, None]


def quantile(knots: np.ndarray, cuts: np.ndarray, q: float, kind: Interpolation) -> np.ndarray:
    """Return the first time with ``S(t) <= 1 - q``, shape (n,); inf where there is none."""
    level = np.log1p(-q)
    reached = knots <= level
    ends = np.maximum(reached.argmax(axis=1), 1)
    rows = np.arange(len(knots))
    left, right = knots[rows, ends - 1], knots[rows, ends]
    if kind == "constant_density":
        left, right, level = np.exp(left), np.exp(right), 1.0 - q
    fall = np.where(left > right, left - right, 1.0)
    times = cuts[ends - 1] + (left - level) / fall * (cuts[ends] - cuts[ends - 1])
    return np.where(reached[:, -1], times, np.inf)


def restricted_mean(
    knots: np.ndarray, cuts: np.ndarray, horizon: float, kind: Interpolation
) -> np.ndarray:
    """Return the area under each curve up to `horizon`, exactly, shape (n,)."""
    edges = np.concatenate([[0.0], cuts[(cuts > 0) & (cuts < horizon)], [horizon]])
    logs = log_survival_at(knots, cuts, edges, kind)
    left, right = np.exp(logs[:, :-1]), np.exp(logs[:, 1:])
    if kind == "constant_density":
        means = 0.5 * (left + right)
    else:
        fall = logs[:, :-1] - logs[:, 1:]
        means = left * -np.expm1(-fall) / np.where(fall > 0, fall, 1.0)
        means = np.where(fall > 0, means, left)
    return means @ np.diff(edges)


def _within(cuts: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval that holds each time, from 1, and the share of it before that time."""
    ends = np.clip(np.searchsorted(cuts, times, side="left"), 1, len(cuts) - 1)
    share = (times - cuts[ends - 1]) / (cuts[ends] - cuts[ends - 1])
    return ends, np.clip(share, 0.0, 1.0)
