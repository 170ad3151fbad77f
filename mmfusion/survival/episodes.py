"""Whether rows with entry times look like several episodes of one subject."""

from __future__ import annotations

import numpy as np

__all__ = ["episode_share"]

#: So many rows must be matched by their times alone, in any order.
MATCHED = 0.95


def episode_share(time: np.ndarray, entry: np.ndarray) -> float:
    """Return the share of the rows that start late which start where another row ends.

    In start-stop data a subject's further rows do; where the table is sorted by subject, each
    starts where the row above it ends. Rows that stand in another order are matched one to one by
    their times instead; times that only happen to agree (whole days) match less often.

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
    starts, counts = np.unique(entry[late], return_counts=True)
    ends, available = np.unique(time, return_counts=True)
    place = np.searchsorted(ends, starts).clip(max=len(ends) - 1)
    found = np.where(ends[place] == starts, np.minimum(counts, available[place]), 0).sum()
    matched = float(found / late.sum())
    return max(in_order, matched if matched > MATCHED else 0.0)
