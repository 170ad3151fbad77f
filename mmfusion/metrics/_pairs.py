"""Counting the comparable pairs of survival outcomes, and who wins them, in O(n log n)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mmfusion.metrics._ranks import count_below
from mmfusion.survival import Survival

__all__ = ["Pairs", "count_meetings", "count_pairs"]


class Pairs(NamedTuple):
    """What each event is compared with."""

    row: np.ndarray  # the events
    n_met: np.ndarray  # rows compared with each
    comparable: np.ndarray  # their weight
    lower: np.ndarray  # the weight of those with a lower risk
    equal: np.ndarray  # the weight of those with the same risk


def count_pairs(
    y: Survival, risk: np.ndarray, stratum: np.ndarray, weight: np.ndarray | None = None
) -> Pairs:
    """Return what each event is compared with.

    Rows stand in order of stratum and time, events before censorings at one time. The rows that
    event i meets are then a range: from behind the events tied with i to the end of the stratum.
    """
    moments, moment = np.unique(y.time, return_inverse=True)
    rank = np.unique(risk, return_inverse=True)[1]
    key = (stratum * len(moments) + moment) * 2 + ~y.event
    order = np.argsort(key, kind="stable")
    rows = order[y.event[order]]
    start = np.searchsorted(key[order], key[rows], side="right")
    stop = np.searchsorted(stratum[order], stratum[rows], side="right")
    met = _count_range(order, start, stop, rank, rows, weight)
    if not y.delayed:
        return met
    # Who enters at or after t_i leaves after t_i too: subtract these from the rows met.
    enters = np.searchsorted(moments, y.entry, side="right")  # exits up to the entry
    key = stratum * (len(moments) + 1) + enters
    order = np.argsort(key, kind="stable")
    late_from = stratum[rows] * (len(moments) + 1) + moment[rows] + 1
    start = np.searchsorted(key[order], late_from, side="left")
    late = _count_range(order, start, stop, rank, rows, weight)
    count, comparable, lower, equal = (a - b for a, b in zip(met[1:], late[1:], strict=True))
    return Pairs(rows, count, np.where(count > 0, comparable, 0), lower, equal)


def count_meetings(
    y: Survival, risk: np.ndarray, stratum: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, for each row, the weight of the events that are compared with it.

    The pairs of `count_pairs`, seen from who is observed beyond the event.

    Parameters
    ----------
    y, risk, stratum
        As of `count_pairs`.
    weight : ndarray of float64, shape (n,)
        Of each event; of a censored row it is not read.

    Returns
    -------
    comparable, higher, equal : ndarray of float64, shape (n,)
        All of them, those with a higher risk than the row, and those with the same.
    """
    moments, moment = np.unique(y.time, return_inverse=True)
    rank = np.unique(risk, return_inverse=True)[1]
    key = stratum * len(moments) + moment
    events = np.flatnonzero(y.event)
    order = events[np.argsort(key[events], kind="stable")]
    # Who has an event is met by earlier ones only, who is censored by those of the same time too.
    stop = np.where(
        y.event,
        np.searchsorted(key[order], key, side="left"),
        np.searchsorted(key[order], key, side="right"),
    )
    enters = np.searchsorted(moments, y.entry, side="right") if y.delayed else 0
    start = np.searchsorted(key[order], stratum * len(moments) + enters, side="left")
    met = _count_range(order, start, np.maximum(start, stop), rank, np.arange(len(y)), weight)
    return met.comparable, met.comparable - met.lower - met.equal, met.equal


def _count_range(
    order: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    rank: np.ndarray,
    rows: np.ndarray,
    weight: np.ndarray | None,
) -> Pairs:
    """Return what each of `rows` meets in its range of `order`."""
    ranked, bound = rank[order], rank[rows]
    count = stop - start
    weight = None if weight is None else weight[order]
    lower = count_below(ranked, start, stop, bound, weight)
    if weight is None:
        comparable = count
    else:
        mass = _cumulative(weight)
        comparable = mass[stop] - mass[start]
    if rank.max(initial=-1) + 1 == len(rank):  # all differ, and no row meets itself
        return Pairs(rows, count, comparable, lower, np.zeros_like(lower))
    # In order of rank, then position, the rows of one rank within a range stand together.
    n = len(order)
    by_rank = np.argsort(ranked, kind="stable")
    keys = ranked[by_rank] * (n + 1) + by_rank
    low = np.searchsorted(keys, bound * (n + 1) + start)
    high = np.searchsorted(keys, bound * (n + 1) + stop)
    if weight is None:
        return Pairs(rows, count, comparable, lower, high - low)
    mass = _cumulative(weight[by_rank])
    return Pairs(rows, count, comparable, lower, mass[high] - mass[low])


def _cumulative(weight: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(weight)])
