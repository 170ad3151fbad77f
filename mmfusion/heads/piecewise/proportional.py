"""The piecewise exponential likelihood of proportional hazards, without a number an interval."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mmfusion.heads.piecewise.likelihood import PiecewiseExponentialTarget

__all__ = ["ProportionalHazards"]

Array = NDArray[np.float64]

#: No part of a log-hazard is larger: the hazard would be infinite.
LARGEST = 350.0


class ProportionalHazards:
    r"""Log-hazards ``a_i + b_j`` of row i in interval j: the likelihood in a and b.

    .. math:: \ell = \sum_i w_i \{e^{a_i} (H(t_i) - H(s_i)) - \delta_i (a_i + b_{j(i)})\}

    with H the cumulative hazard of ``exp(b)``, which is linear in each interval, and rows at risk
    over ``(s_i, t_i]``. It costs n + J numbers in the place of n J: what an interval has of the
    rows at risk is a sum over those that leave it or enter in it, and over those that go on.

    Parameters
    ----------
    target : PiecewiseExponentialTarget
        Of one cause, without events in intervals of time.
    cuts : ndarray, shape (J + 1,)
    """

    def __init__(self, target: PiecewiseExponentialTarget, cuts: Array) -> None:
        self.weight = target.weight.numpy()
        self.width = np.diff(cuts)
        self.events = self.weight * (target.interval.numpy() >= 0)
        self.at = target.interval.numpy().clip(min=0)
        self.by_interval = np.bincount(self.at, self.events, len(self.width))
        entry = target.entry.numpy()
        self.ends = [_Ends(target.time.numpy(), cuts)]
        if (entry > cuts[0]).any():
            self.ends.append(_Ends(entry, cuts))

    def value(self, a: Array, b: Array) -> float:
        """Return the negative log-likelihood."""
        rates, hazard = self._rates(a), _exp(b)
        seen = self.events @ a + self.by_interval @ b
        return float(rates @ self._cumulative(hazard) - seen)

    def derivatives(self, a: Array, b: Array) -> tuple[Array, Array, Array, Array]:
        """Return the gradients in a (n,) and b (J,), and the curvatures of each by itself."""
        rates, hazard = self._rates(a), _exp(b)
        of_rows = rates * self._cumulative(hazard)
        of_intervals = hazard * self._at_risk(rates[:, None])[:, 0]
        return of_rows - self.events, of_intervals - self.by_interval, of_rows, of_intervals

    def across(self, a: Array, b: Array, columns: Array) -> Array:
        """Return the curvature between columns over the rows (n, p) and each interval, (J, p)."""
        return _exp(b)[:, None] * self._at_risk(self._rates(a)[:, None] * columns)

    def along(self, a: Array, b: Array, move: Array) -> Array:
        """Return the curvatures of each row times what its intervals move by, (n,)."""
        return self._rates(a) * self._cumulative(_exp(b) * move)

    def _rates(self, a: Array) -> Array:
        return self.weight * _exp(a)

    def _cumulative(self, hazard: Array) -> Array:
        """Return each row's cumulative hazard of a = 0 over its time at risk, (n,)."""
        until = np.concatenate([[0.0], np.cumsum(hazard * self.width)])
        each = [until[ends.interval] + hazard[ends.interval] * ends.inside for ends in self.ends]
        return each[0] if len(each) == 1 else each[0] - each[1]

    def _at_risk(self, values: Array) -> Array:
        """Return the sums of values (n, p) over the time at risk in each interval, (J, p)."""
        each = [ends.sums(values, self.width) for ends in self.ends]
        return each[0] if len(each) == 1 else each[0] - each[1]


class _Ends:
    """Where times lie: their intervals, and how far inside."""

    def __init__(self, times: Array, cuts: Array) -> None:
        times = times.clip(cuts[0], cuts[-1])
        n, size = len(times), len(cuts) - 1
        self.interval = (np.searchsorted(cuts, times, side="left") - 1).clip(min=0)
        self.inside = times - cuts[self.interval]
        rows = np.arange(n + 1)
        whole = sparse.csc_array((np.ones(n), self.interval, rows), shape=(size, n))
        part = sparse.csc_array((self.inside, self.interval, rows), shape=(size, n))
        self.whole, self.part = whole.tocsr(), part.tocsr()

    def sums(self, values: Array, width: Array) -> Array:
        """Return the sums of values (n, p) times the length of each interval until the time."""
        ending = self.whole @ values
        later = np.cumsum(ending[::-1], axis=0)[::-1] - ending
        return np.asarray(self.part @ values + width[:, None] * later)


def _exp(values: Array) -> Array:
    return np.asarray(np.exp(np.minimum(values, LARGEST)))
