"""The grid of intervals, and where an outcome lies on it."""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

import numpy as np

from mmfusion.inputs.times import check_clock
from mmfusion.survival import Survival, kaplan_meier

__all__ = [
    "Places",
    "Scheme",
    "check_cuts",
    "end_with",
    "last_times",
    "make_cuts",
    "place",
    "place_exactly",
]

Scheme = Literal["quantiles", "equidistant"]
#: Rounding of a Kaplan-Meier curve: two that are closer are one.
TOLERANCE = 1e-12


def check_cuts(cuts: Any) -> np.ndarray:
    """Return the bounds of the intervals, from 0 on, shape (n_intervals + 1,).

    Parameters
    ----------
    cuts : array-like of float
        Strictly increasing; a leading 0 may be left out.

    Raises
    ------
    ValueError
        If they are not finite, not increasing, negative or none is above 0.
    TypeError
        If they are dates or durations.

    Examples
    --------
    >>> check_cuts([12.0, 24.0])
    array([ 0., 12., 24.])
    """
    check_clock("cuts", cuts)
    try:
        bounds = np.asarray(cuts, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"The cuts parameter must hold numbers. Got {cuts!r}.") from None
    if bounds.ndim != 1 or not len(bounds) or not np.isfinite(bounds).all():
        raise ValueError(
            f"The cuts parameter must be a sequence of finite times, or None. Got {cuts!r}."
        )
    if bounds[0] != 0:
        bounds = np.concatenate([[0.0], bounds])
    if len(bounds) < 2 or not (np.diff(bounds) > 0).all():
        raise ValueError(
            "The cuts parameter must be strictly increasing, not negative, with a time above 0. "
            f"Got {cuts!r}."
        )
    return bounds


def make_cuts(
    outcome: Survival, n_intervals: int, scheme: Scheme, weight: np.ndarray | None = None
) -> np.ndarray:
    """Return bounds of at most `n_intervals` intervals from 0 to the last event.

    Beyond the last event there is nothing to learn, and a curve stays where it is, as the
    Kaplan-Meier curve does. (pycox's grids end at the last time, censored or not.)

    Parameters
    ----------
    outcome : Survival
        The training rows.
    n_intervals : int
    scheme : {"quantiles", "equidistant"}
        ``"quantiles"``: the Kaplan-Meier curve falls by as much in each interval (Kvamme &
        Borgan 2021, Lifetime Data Analysis 27:710-736), fewer where event times tie.
        ``"equidistant"``: intervals of one length.
    weight : ndarray, shape (n,), optional

    Raises
    ------
    ValueError
        If no event lies after time 0.
    """
    seen = (outcome.event > 0) & (outcome.time > 0)
    if weight is not None:
        seen = seen & (weight > 0)
    if not seen.any():
        raise ValueError("The y parameter must have an event after time 0. Got none.")
    last = outcome.time[seen].max()
    if scheme == "equidistant":
        return np.linspace(0.0, last, n_intervals + 1)
    curve = kaplan_meier(outcome.time, outcome.event > 0, outcome.entry, weight)
    jumps = (curve.events > 0) & (curve.x > 0)
    fall = 1.0 - curve.y[jumps]
    wanted = fall[-1] * np.arange(1, n_intervals) / n_intervals
    ends = curve.x[jumps][np.searchsorted(fall, wanted - TOLERANCE)]
    # With delayed entry the curve may reach zero before the last event.
    return np.concatenate([[0.0], np.unique(np.append(ends, last))])


class Places(NamedTuple):
    """Where outcomes lie on the grid, each of shape (n,); see `DiscreteTimeTarget`."""

    interval: np.ndarray
    stop: np.ndarray
    start: np.ndarray
    stop_share: np.ndarray
    start_share: np.ndarray


def place(outcome: Survival, cuts: np.ndarray, *, from_middle: bool = False) -> Places:
    """Place outcomes in whole intervals.

    Interval j is ``(cuts[j - 1], cuts[j]]``, the first with time 0 in it: events are rounded up
    and censorings down, as pycox's ``LabTransDiscreteTime`` does (Kvamme & Borgan 2021).

    Parameters
    ----------
    outcome : Survival
        Without events beyond the last cut.
    cuts : ndarray, shape (n_intervals + 1,)
    from_middle : bool
        A censored row survived its interval if it was seen past the middle (Gensheimer &
        Narasimhan 2019, PeerJ 7:e6257).
    """
    event = outcome.event > 0
    holds = np.searchsorted(cuts[1:], outcome.time, side="left")
    bounds = 0.5 * (cuts[1:] + cuts[:-1]) if from_middle else cuts[1:]
    survived = np.searchsorted(bounds, outcome.time, side="right")
    nothing = np.zeros(len(outcome))
    return Places(
        np.where(event, holds, -1),
        np.where(event, holds + 1, survived),
        np.searchsorted(cuts[1:], outcome.entry, side="right"),
        nothing,
        nothing,
    )


def place_exactly(outcome: Survival, cuts: np.ndarray) -> Places:
    """Place outcomes within intervals: by the share of an interval before the time.

    Times before the first cut (no delayed entry) and beyond the last lie at the ends of the grid.
    """

    def within(time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        time = np.clip(time, cuts[0], cuts[-1])
        holds = np.searchsorted(cuts[1:], time, side="left")
        return holds, (time - cuts[holds]) / (cuts[holds + 1] - cuts[holds])

    stop, stop_share = within(outcome.time)
    start, start_share = within(outcome.entry)
    interval = np.where(outcome.event > 0, stop, -1)
    return Places(interval, stop, start, stop_share, start_share)


def end_with(cuts: np.ndarray, last: float) -> np.ndarray:
    """Return bounds that end with the follow-up: what lies beyond it nobody was seen in.

    Warns
    -----
    UserWarning
        Where they reach beyond it.
    """
    if cuts[-1] <= last or cuts[0] >= last:
        return cuts
    warnings.warn(
        f"The cuts reach beyond the last time of the data: the last interval ends there, at "
        f"{last:g}, not at {cuts[-1]:g}, and nothing is predicted beyond.",
        UserWarning,
        stacklevel=2,
    )
    return np.append(cuts[cuts < last], last)


def last_times(outcome: Survival) -> np.ndarray:
    """Return the last time of each row: of an event in an interval the end of it, shape (n,)."""
    upper = outcome.time if outcome.upper is None else outcome.upper
    return np.where(outcome.between, upper, outcome.time)
