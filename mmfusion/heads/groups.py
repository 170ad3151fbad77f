"""Groups of survival times, for losses that compare rows of like outcome."""

from __future__ import annotations

import numpy as np

__all__ = ["event_time_groups"]


def event_time_groups(time: np.ndarray, event: np.ndarray) -> np.ndarray:
    """Return the fourth of the event times, 0 to 3, in which each row had its event.

    A censored row that outlived the third quartile is in the last fourth; of one censored before
    it is not known in which it would be: -1.

    Parameters
    ----------
    time : ndarray of float64, shape (n,)
    event : ndarray of bool, shape (n,)

    Returns
    -------
    ndarray of int, shape (n,)

    Examples
    --------
    >>> import numpy as np
    >>> event_time_groups(np.array([1.0, 2, 3, 4, 2, 9]), np.array([1, 1, 1, 1, 0, 0], dtype=bool))
    array([ 0,  1,  2,  3, -1,  3])
    """
    if not event.any():
        return np.full(len(time), -1)
    quartiles = np.quantile(time[event], [0.25, 0.5, 0.75])
    censored = np.where(time >= quartiles[-1], 3, -1)
    return np.where(event, np.searchsorted(quartiles, time), censored)
