"""Whether rows with entry times look like several episodes of one subject."""

from __future__ import annotations

import numpy as np

__all__ = ["episode_share"]

#: So many rows must be matched by their times alone, in any order.
MATCHED = 0.95
#: So many may be matched by chance: that of times moved by one step.
CHANCE = 0.5


def episode_share(time: np.ndarray, entry: np.ndarray) -> float:
    """Return the share of the rows that start late which start where another row ends.

    In start-stop data a subject's further rows do; where the table is sorted by subject, each
    starts where the row above it ends. Rows that stand in another order are matched one to one by
    their times instead. Days or weeks agree by chance too: what agrees as well when all starts are
    moved by the smallest step of the times is no sign of episodes.

    Parameters
    ----------
    time, entry : ndarray of float64, shape (n,)
        A row is observed on ``(entry, time]``; ``-inf`` where there is no entry time.

    Returns
    -------
    float
        0 where no row starts after time 0. Where all rows do (ages are the time scale), what their
        times have in common says nothing: then only the order of the rows is looked at.

    Examples
    --------
    >>> import numpy as np
    >>> episode_share(np.array([2.0, 5.0, 3.0, 4.0]), np.array([0.0, 2.0, 0.0, 3.0]))
    1.0
    """
    late = entry > 0
    if not late.any():
        return 0.0
    above = np.concatenate([[False], entry[1:] == time[:-1]])
    in_order = float(above[late].mean())
    if late.all():
        return in_order
    ends = np.unique(time)
    step = np.diff(ends).min(initial=np.inf)
    matched, by_chance = (_matched(entry[late] + move, time) for move in (0.0, step))
    return max(in_order, matched if matched > MATCHED and by_chance < CHANCE else 0.0)


def _matched(starts: np.ndarray, ends: np.ndarray) -> float:
    """Return the share of the starts that have an end of their own at the same time."""
    values, counts = np.unique(starts, return_counts=True)
    known, available = np.unique(ends, return_counts=True)
    place = np.searchsorted(known, values).clip(max=len(known) - 1)
    both = np.where(known[place] == values, np.minimum(counts, available[place]), 0)
    return float(both.sum() / len(starts))
