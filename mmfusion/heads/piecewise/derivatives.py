"""How the curves of one row change with its log-hazards: what the delta method needs."""

from __future__ import annotations

from typing import Literal

import numpy as np

__all__ = ["CURVES", "Curve", "curve_and_derivatives"]

Curve = Literal["survival", "cumulative_hazard", "cumulative_incidence", "log_hazard"]
CURVES: tuple[Curve, ...] = ("survival", "cumulative_hazard", "cumulative_incidence", "log_hazard")


def curve_and_derivatives(
    hazards: np.ndarray, cuts: np.ndarray, times: np.ndarray, curve: Curve, cause: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return a curve (m,) and its derivatives in the log-hazards, (m, n_causes * n_intervals).

    Parameters
    ----------
    hazards : ndarray, shape (n_causes, n_intervals)
    cuts : ndarray, shape (n_intervals + 1,)
    times : ndarray, shape (m,)
    curve : {"survival", "cumulative_hazard", "cumulative_incidence", "log_hazard"}
    cause : int or None
        The place of a cause; None is all of them together (an incidence has one).
    """
    if curve == "log_hazard":
        return _log_hazard(hazards, cuts, times, cause)
    mine = slice(None) if cause is None else slice(cause, cause + 1)
    until = np.clip(times[:, None], cuts[:-1], cuts[1:]) - cuts[:-1]  # (m, J)
    total = hazards.sum(0)
    slope = np.zeros((len(times), *hazards.shape))
    if curve == "cumulative_hazard":
        slope[:, mine] = until[:, None] * hazards[mine]
        return until @ hazards[mine].sum(0), slope.reshape(len(times), -1)
    falls = until * total
    summed = np.cumsum(falls, axis=1)
    after = np.exp(-summed)
    if curve == "survival":
        slope[:] = -after[:, -1, None, None] * until[:, None] * hazards
        return after[:, -1], slope.reshape(len(times), -1)
    # The incidence is the sum over intervals of the cause's share times the fall of the survival.
    before = np.exp(falls - summed)
    drop = before * -np.expm1(-falls)
    share = hazards / np.where(total > 0, total, 1.0)
    own = share[cause]
    # A hazard in interval l lowers the survival from there on: before of l + 1, ..., after of l...
    later = np.cumsum((own * drop)[:, ::-1], axis=1)[:, ::-1] - own * drop
    slope[:] = hazards * until[:, None] * (own * after - later)[:, None]
    is_own = np.arange(len(hazards)) == cause
    slope += (own * drop)[:, None] * (is_own[:, None] - share)
    return (own * drop).sum(1), slope.reshape(len(times), -1)


def _log_hazard(
    hazards: np.ndarray, cuts: np.ndarray, times: np.ndarray, cause: int | None
) -> tuple[np.ndarray, np.ndarray]:
    inside = (times >= cuts[0]) & (times <= cuts[-1])
    holds = np.searchsorted(cuts[1:], times, side="left").clip(max=len(cuts) - 2)
    chosen = np.ones(len(hazards)) if cause is None else np.arange(len(hazards)) == cause
    of_causes = hazards * chosen[:, None]
    total = of_causes.sum(0)
    slope = np.zeros((len(times), *hazards.shape))
    slope[np.arange(len(times)), :, holds] = (of_causes / total)[:, holds].T
    value = np.where(inside, np.log(total[holds]), np.nan)
    return value, slope.reshape(len(times), -1)
