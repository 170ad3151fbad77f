"""The intervals of a piecewise constant hazard: bounds from the data, and given ones checked."""

from __future__ import annotations

import warnings

import numpy as np

from mmfusion.heads.discrete.grid import Scheme, last_times
from mmfusion.inputs.messages import name_rows
from mmfusion.survival import Survival
from mmfusion.survival.outcome import snap

__all__ = ["given_cuts", "learned_cuts", "merge_empty"]


def learned_cuts(
    outcome: Survival, weight: np.ndarray, n_intervals: int, scheme: Scheme
) -> np.ndarray:
    """Return bounds of at most `n_intervals` intervals, up to the last event.

    They start where the first row enters, or at 0. With ``scheme="quantiles"`` they end at
    quantiles of the event times, so that each has events; ``"equidistant"`` ones may have none.

    Raises
    ------
    ValueError
        If no event lies after the start.
    """
    start = max(0.0, float(outcome.entry.min()))
    times = last_times(outcome)
    seen = (outcome.event > 0) & (weight > 0) & (times > start)
    if not seen.any():
        raise ValueError(f"The y parameter must have an event after time {start:g}. Got none.")
    times = times[seen]
    if scheme == "equidistant":
        return np.linspace(start, times.max(), n_intervals + 1)
    shares = np.arange(1, n_intervals + 1) / n_intervals
    ends = np.quantile(times, shares, method="inverted_cdf")
    return np.concatenate([[start], np.unique(ends)])


def given_cuts(cuts: np.ndarray, outcome: Survival, index: object) -> np.ndarray:
    """Return given bounds from the interval on in which the first row is at risk.

    Raises
    ------
    ValueError
        If no row is at risk in the last interval.
    """
    times = last_times(outcome)
    last = int(times.argmax())
    if cuts[-2] >= times[last]:
        raise ValueError(
            "The cuts parameter must lie within the data: no row is at risk after "
            f"{times[last]:g}, the last time, of row {name_rows(index, [last])}. Got an "
            f"interval ({cuts[-2]:g}, {cuts[-1]:g}]."
        )
    before = int(np.searchsorted(cuts, outcome.entry.min(), side="right"))
    return cuts[max(before - 1, 0) :]


def merge_empty(cuts: np.ndarray, outcome: Survival, weight: np.ndarray) -> np.ndarray:
    """Return the bounds, intervals without events merged with the next one, or the last before.

    Warns
    -----
    UserWarning
        Naming them.
    """
    known = (outcome.event > 0) & (weight > 0) & ~outcome.between
    time = snap(outcome.time[known], cuts)
    time = time[time <= cuts[-1]]
    holds = np.searchsorted(cuts[1:], time, side="left").clip(max=len(cuts) - 2)
    empty = np.bincount(holds, minlength=len(cuts) - 1) == 0
    if outcome.upper is not None:  # an event may lie in each interval that meets its own
        rows = outcome.between & (weight > 0)
        low, high = outcome.time[rows, None], outcome.upper[rows, None]
        empty &= ~((low < cuts[1:]) & (high > cuts[:-1])).any(0)
    if not empty.any() or empty.all():
        return cuts
    names = [f"({cuts[j]:g}, {cuts[j + 1]:g}]" for j in np.flatnonzero(empty)]
    warnings.warn(
        f"The intervals {', '.join(names)} have no events: they are merged with their neighbours.",
        UserWarning,
        stacklevel=2,
    )
    last = int(np.flatnonzero(~empty)[-1])  # the intervals after it join it
    inner = [cuts[j + 1] for j in range(last) if not empty[j]]
    return np.array([cuts[0], *inner, cuts[-1]])
