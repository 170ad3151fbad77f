"""The cumulative incidence of a cause beside others, without covariates."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from mmfusion.inputs.parameters import is_count
from mmfusion.inputs.times import as_times
from mmfusion.survival.curves import StepFunction, _risk_table
from mmfusion.survival.outcome import Survival, check_survival, snap

__all__ = [
    "CumulativeIncidence",
    "cumulative_incidence",
    "incidence_bounds",
    "incidence_influence",
]


class CumulativeIncidence(StepFunction):
    """The Aalen-Johansen estimate of a cause as a step function.

    Attributes
    ----------
    x, y : ndarray of float64, shape (k,)
        The distinct times of event or censoring, and the incidence from each on; zero before.
    at_risk, events, of_cause : ndarray of float64, shape (k,)
        Rows at risk just before each time, with an event of any cause at it, and of this one.
    """

    def __init__(
        self, x: np.ndarray, at_risk: np.ndarray, events: np.ndarray, of_cause: np.ndarray
    ) -> None:
        self.at_risk, self.events, self.of_cause = at_risk, events, of_cause
        hazard = np.divide(events, at_risk, out=np.zeros(len(x)), where=events > 0)
        #: What is left just before each time.
        self.before = np.concatenate([[1.0], np.cumprod(1.0 - hazard)])[:-1]
        own = np.divide(of_cause, at_risk, out=np.zeros(len(x)), where=of_cause > 0)
        super().__init__(x, np.cumsum(self.before * own), initial=0.0)


def cumulative_incidence(
    time: Any, event: Any, cause: int = 1, entry: Any = None
) -> CumulativeIncidence:
    """Estimate the probability of an event of a cause by each time, other causes competing.

    The estimate of Aalen & Johansen (1978, Scand. J. Stat. 5:141-150). 1 less the Kaplan-Meier
    curve of one cause, others censored, is larger: it is of a world without the others.

    Parameters
    ----------
    time, event, entry : array-like, shape (n,)
        As in `surv`; `event` is the cause, 0 is censored.
    cause : int, default=1
        1, 2, ...; of a cause that no row has the incidence is 0.

    Returns
    -------
    CumulativeIncidence

    Raises
    ------
    ValueError, TypeError
        A cause that is no whole number from 1 on; as `check_survival` (events are not required).

    Examples
    --------
    >>> from mmfusion.survival import cumulative_incidence
    >>> cumulative_incidence([1, 2, 3, 4], [1, 2, 1, 0])([1, 2, 3])
    array([0.25, 0.25, 0.5 ])
    """
    if not is_count(cause):
        raise ValueError(f"The cause parameter must be a whole number from 1 on. Got {cause!r}.")
    given = (time, event) if entry is None else (time, event, entry)
    y = check_survival(given, allow_competing=True, require_events=False, name="the outcome")
    times, events, censored, staying = _risk_table(y.time, y.event, y.entry, None)
    mine = y.event.astype(np.int64) == cause
    of_cause = np.bincount(np.searchsorted(times, y.time[mine]), minlength=len(times))
    return CumulativeIncidence(times, events + (censored + staying), events, of_cause)


def incidence_influence(
    curve: CumulativeIncidence, y: Survival, cause: int, times: Any
) -> np.ndarray:
    """Return what each row moves its own cumulative incidence by at each time, shape (n, m).

    The derivative in the weight of the row (infinitesimal jackknife, as R's ``survfit`` has it of
    several states): the root of the sum of squares is the standard error.

    Parameters
    ----------
    curve : CumulativeIncidence
        Of the rows.
    y : Survival, n rows
        `event` is the cause.
    cause : int
    times : array-like, shape (m,)
    """
    times = snap(as_times("times", times), curve.x)
    events, r = curve.events, curve.at_risk
    # Of what each cause takes from those at risk.
    own = curve.before * np.divide(curve.of_cause, r**2, out=0.0 * r, where=curve.of_cause > 0)
    left = r - events
    steps = np.concatenate([[0.0], np.cumsum(own)])
    leaves = np.searchsorted(curve.x, y.time)
    enters = np.searchsorted(curve.x, y.entry, side="right")
    kind = np.asarray(y.event, dtype=np.int64)
    found = np.empty((len(y), len(times)))
    for column, time in enumerate(times):
        until = int(np.searchsorted(curve.x, time, side="right"))
        last, first = np.minimum(leaves + 1, until), np.minimum(enters, until)
        inside = leaves < until
        place = np.where(inside, leaves, 0)
        moved = np.where(inside & (kind == cause), (curve.before / r)[place], 0.0)
        moved -= steps[last] - steps[first]
        # Of who is left for the cause later on: an event of any kind takes from all that follows.
        final = curve.y[until - 1] if until else 0.0
        later = np.where(np.arange(len(r)) < until, final - curve.y, 0.0)
        term = np.divide(later, left, out=np.zeros(len(r)), where=left > 0)
        hazard = np.divide(events * term, r, out=np.zeros(len(r)), where=events > 0)
        running = np.concatenate([[0.0], np.cumsum(hazard)])
        moved -= np.where(inside & (kind > 0), term[place], 0.0)
        moved += running[last] - running[first]
        found[:, column] = moved
    return found


def incidence_bounds(
    curve: CumulativeIncidence, y: Survival, cause: int, times: Any, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Return pointwise bounds on the scale of ``log(-log(1 - F))``, which keeps them in [0, 1]."""
    values = curve(times)
    error = np.sqrt((incidence_influence(curve, y, cause, times) ** 2).sum(axis=0))
    reach = stats.norm.ppf(0.5 + level / 2) * error
    inside = (values > 0) & (values < 1)
    survival = np.where(inside, 1 - values, 0.5)
    half = reach / (-np.log(survival) * survival)
    lower, upper = (1 - survival ** np.exp(side * half) for side in (-1, 1))
    return np.where(inside, lower, values), np.where(inside, upper, values)
