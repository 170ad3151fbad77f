"""The piecewise exponential likelihood of proportional hazards, without a number an interval."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["ProportionalHazards"]

Array = NDArray[np.float64]
Places = NDArray[np.int64]

#: No part of a log-hazard is larger: the hazard would be infinite.
LARGEST = 350.0

#: Less of the time at risk than this is what rounding leaves of a difference.
ROUNDING = 1e-12


class ProportionalHazards:
    r"""Log-hazards ``a_i + b_j`` of row i in interval j: the likelihood in a and b.

    .. math:: \ell = \sum_i w_i \{e^{a_i} (H(t_i) - H(s_i)) - \delta_i (a_i + b_{j(i)})\}

    with H the cumulative hazard of ``exp(b)``, which is linear in each interval, and rows at risk
    over ``(s_i, t_i]``. It costs n + J numbers in the place of n J: what an interval has of the
    rows at risk is a sum over those that leave it or enter in it, and over those that go on.

    Parameters
    ----------
    weight, time, entry : ndarray, shape (n,)
    stop, start : ndarray of int, shape (n,)
        The intervals that time and entry lie in.
    interval : ndarray of int, shape (n,)
        That of the event; -1 of a row without one.
    cuts : ndarray, shape (J + 1,)
    """

    def __init__(
        self,
        weight: Array,
        time: Array,
        entry: Array,
        stop: Places,
        start: Places,
        interval: Places,
        cuts: Array,
    ) -> None:
        self.weight = weight
        self.width = np.diff(cuts)
        self.events = weight * (interval >= 0)
        self.by_interval = np.bincount(interval + 1, weight, len(cuts))[1:]
        self.ends = [_Ends(time, stop, cuts)]
        if (entry > cuts[0]).any():
            self.ends.append(_Ends(entry, start, cuts))
        self._known: _Rates | None = None

    def value(self, a: Array, b: Array) -> float:
        """Return the negative log-likelihood."""
        seen = self.events @ a + self.by_interval @ b
        return float(self._at(a, b).of_rows.sum() - seen)

    def derivatives(self, a: Array, b: Array) -> tuple[Array, Array, Array, Array]:
        """Return the gradients in a (n,) and b (J,), and the curvatures of each by itself."""
        at = self._at(a, b)
        of_intervals = at.hazard * self._at_risk(at.rates[:, None])[:, 0]
        return at.of_rows - self.events, of_intervals - self.by_interval, at.of_rows, of_intervals

    def across(self, a: Array, b: Array, columns: Array) -> Array:
        """Return the curvature between columns over the rows (n, p) and each interval, (J, p)."""
        at = self._at(a, b)
        return at.hazard[:, None] * self._at_risk(at.rates[:, None] * columns)

    def along(self, a: Array, b: Array, move: Array) -> Array:
        """Return the curvatures of each row times what its intervals move by, (n,)."""
        at = self._at(a, b)
        return at.rates * self._cumulative(at.hazard * move)

    def exposure(self) -> Array:
        """Return the time at risk in each interval, summed with the weights, (J,)."""
        until, *since = (ends.sums(self.weight[:, None], self.width)[:, 0] for ends in self.ends)
        found = until - since[0] if since else until
        return np.where(found > ROUNDING * until, found, 0.0)

    def _at(self, a: Array, b: Array) -> _Rates:
        """Return what follows from a and b; of the same arrays as the last time, what it was."""
        if self._known is None or self._known.a is not a or self._known.b is not b:
            rates, hazard = self.weight * _exp(a), _exp(b)
            self._known = _Rates(a, b, rates, hazard, rates * self._cumulative(hazard))
        return self._known

    def _cumulative(self, hazard: Array) -> Array:
        """Return each row's cumulative hazard of a = 0 over its time at risk, (n,)."""
        until = np.concatenate([[0.0], np.cumsum(hazard * self.width)])
        each = [until[ends.interval] + hazard[ends.interval] * ends.inside for ends in self.ends]
        return each[0] if len(each) == 1 else each[0] - each[1]

    def _at_risk(self, values: Array) -> Array:
        """Return the sums of values (n, p) over the time at risk in each interval, (J, p)."""
        each = [ends.sums(values, self.width) for ends in self.ends]
        return each[0] if len(each) == 1 else each[0] - each[1]


class _Rates(NamedTuple):
    """What a and b lead to: each row's rate, the hazards, each row's cumulative hazard."""

    a: Array
    b: Array
    rates: Array
    hazard: Array
    of_rows: Array


class _Ends:
    """Where times lie: their intervals, and how far inside."""

    def __init__(self, times: Array, interval: Places, cuts: Array) -> None:
        n, size, self.interval = len(times), len(cuts) - 1, interval
        self.inside = times.clip(cuts[0], cuts[-1]) - cuts[interval]
        # Each row stands once in the sums over an interval, and once in those of the time inside.
        places = np.column_stack([interval, interval + size]).ravel()
        values = np.column_stack([np.ones(n), self.inside]).ravel()
        rows = np.arange(0, 2 * n + 1, 2)
        self.both = sparse.csc_array((values, places, rows), shape=(2 * size, n))

    def sums(self, values: Array, width: Array) -> Array:
        """Return the sums of values (n, p) times the length of each interval until the time."""
        ending, inside = np.split(self.both @ values, 2)
        later = np.cumsum(ending[::-1], axis=0)[::-1] - ending
        return np.asarray(inside + width[:, None] * later)


def _exp(values: Array) -> Array:
    return np.asarray(np.exp(np.minimum(values, LARGEST)))
