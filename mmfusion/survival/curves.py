"""Step functions, and the curves of survival analysis that need no covariates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from mmfusion.inputs.labels import check_labels, check_order
from mmfusion.inputs.times import as_times
from mmfusion.inputs.weights import check_weights
from mmfusion.survival.outcome import Survival, check_survival, snap

__all__ = [
    "KaplanMeier",
    "LogRank",
    "NelsonAalen",
    "StepFunction",
    "censoring_distribution",
    "follow_up_of",
    "kaplan_meier",
    "log_rank_test",
    "median_follow_up",
    "nelson_aalen",
]


class StepFunction:
    """A right-continuous step function.

    Parameters
    ----------
    x : array-like of float, shape (k,)
        Where it may jump, strictly increasing.
    y : array-like of float, shape (k,)
        Its value on ``[x[i], x[i + 1])``.
    initial : float, default 1.0
        Its value before ``x[0]``.

    Attributes
    ----------
    domain_ : tuple of float
        ``(x[0], x[-1])``: where data stand behind it. Below, it is `initial`; above, it stays at
        ``y[-1]``, which is a convention and no estimate.

    Raises
    ------
    ValueError
        `x` and `y` differ in shape, are empty or not one-dimensional, or `x` does not increase.
    TypeError
        Dates or durations in `x`, or asked for.

    Examples
    --------
    >>> from mmfusion.survival import StepFunction
    >>> curve = StepFunction([1.0, 2.0], [0.75, 0.5])
    >>> curve([0.0, 1.0, 1.5, 9.0])
    array([1.  , 0.75, 0.75, 0.5 ])
    >>> curve.left([1.0, 2.0])
    array([1.  , 0.75])
    """

    def __init__(self, x: Any, y: Any, initial: float = 1.0) -> None:
        self.x = as_times("x", x)
        self.y = np.asarray(y, dtype=np.float64)
        self.initial = float(initial)
        if self.x.ndim != 1 or self.x.shape != self.y.shape or not len(self.x):
            raise ValueError(
                "The x and y parameters must be non-empty, of one dimension and the same length. "
                f"Got shapes {self.x.shape} and {self.y.shape}."
            )
        if not (np.diff(self.x) > 0).all() or np.isnan(self.x[0]):
            raise ValueError("The x parameter must be strictly increasing.")

    @property
    def domain_(self) -> tuple[float, float]:
        return float(self.x[0]), float(self.x[-1])

    def __call__(self, t: Any) -> np.ndarray:
        """Return the values at `t` (any shape); NaN at NaN."""
        return self._at(self.y, t, "right", self.initial)

    def left(self, t: Any) -> np.ndarray:
        """Return the limits from the left at `t`: the values just before."""
        return self._at(self.y, t, "left", self.initial)

    def __repr__(self) -> str:
        low, high = self.domain_
        return f"{type(self).__name__}({len(self.x)} steps on [{low:g}, {high:g}])"

    def _at(self, values: np.ndarray, t: Any, side: Any, initial: float) -> np.ndarray:
        t = snap(as_times("t", t), self.x)
        padded = np.concatenate([[initial], values])
        return np.where(np.isnan(t), np.nan, padded[np.searchsorted(self.x, t, side=side)])


class KaplanMeier(StepFunction):
    """The product-limit estimate (Kaplan & Meier 1958, JASA 53:457-481) as a step function.

    Attributes
    ----------
    x : ndarray of float64, shape (k,)
        The distinct times of event or censoring.
    y : ndarray of float64, shape (k,)
        The survival function, from each time on.
    at_risk, events : ndarray of float64, shape (k,)
        Rows (or their weight) at risk just before, and with an event at, each time.
    greenwood : ndarray of float64, shape (k,)
        The cumulative sum of ``d / (r (r - d))``, infinite where the curve reaches zero.
    """

    def __init__(self, x: np.ndarray, at_risk: np.ndarray, events: np.ndarray) -> None:
        self.at_risk, self.events = at_risk, events
        jumps = events > 0
        hazard = np.divide(events, at_risk, out=np.zeros(len(x)), where=jumps)
        super().__init__(x, np.cumprod(1.0 - hazard))
        with np.errstate(divide="ignore"):
            terms = np.divide(events, at_risk * (at_risk - events), out=0.0 * x, where=jumps)
        self.greenwood = np.cumsum(terms)

    @property
    def variance(self) -> np.ndarray:
        """Greenwood's variance of the curve at `x` (Greenwood 1926); NaN where it is zero."""
        with np.errstate(invalid="ignore"):
            return self.y**2 * self.greenwood

    def confidence_interval(
        self, t: Any = None, level: float = 0.95
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return pointwise bounds on the scale of ``log(-log S)``, which keeps them in [0, 1].

        Parameters
        ----------
        t : array-like of float, optional
            Times; the curve's own `x` by default.
        level : float, default 0.95

        Returns
        -------
        lower, upper : ndarray of float64
            Kalbfleisch & Prentice 2002, eq. 1.13. Both are one before the first event, and NaN
            from where the curve is zero.
        """
        if not 0 < level < 1:
            raise ValueError(f"The level parameter must be between 0 and 1. Got {level!r}.")
        z = stats.norm.ppf(0.5 + level / 2)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            log_survival = np.log(self.y)
            half_width = z * np.sqrt(self.greenwood) / -log_survival
            lower = np.exp(log_survival * np.exp(half_width))
            upper = np.exp(log_survival * np.exp(-half_width))
        untouched, gone = self.y == 1.0, self.y == 0.0
        lower, upper = (
            np.where(untouched, 1.0, np.where(gone, np.nan, bound)) for bound in (lower, upper)
        )
        if t is None:
            return lower, upper
        return self._at(lower, t, "right", 1.0), self._at(upper, t, "right", 1.0)


class NelsonAalen(StepFunction):
    """The cumulative hazard (Nelson 1972; Aalen 1978, Ann. Stat. 6:701-726) as a step function.

    Attributes
    ----------
    x, y : ndarray of float64, shape (k,)
        The distinct times, and the cumulative sum of ``d / r`` from each on; zero before.
    at_risk, events : ndarray of float64, shape (k,)
    variance : ndarray of float64, shape (k,)
        The cumulative sum of ``d / r**2``.
    """

    def __init__(self, x: np.ndarray, at_risk: np.ndarray, events: np.ndarray) -> None:
        self.at_risk, self.events = at_risk, events
        hazard = np.divide(events, at_risk, out=np.zeros(len(x)), where=events > 0)
        super().__init__(x, np.cumsum(hazard), initial=0.0)
        self.variance = np.cumsum(np.divide(hazard, at_risk, out=0.0 * x, where=events > 0))


def kaplan_meier(time: Any, event: Any, entry: Any = None, weight: Any = None) -> KaplanMeier:
    """Estimate the survival function without covariates.

    Parameters
    ----------
    time, event, entry : array-like, shape (n,)
        As in `surv`. A row is at risk at ``t`` if ``entry < t <= time``; a row censored at the
        time of an event is still at risk at that event.
    weight : array-like of float, shape (n,), optional
        Case weights, not negative: a weight of 2 counts as two rows.

    Returns
    -------
    KaplanMeier
        A step function of time with its variance and confidence interval. With delayed entry a
        small early risk set may take the curve to zero, where it stays: check `at_risk`.

    Raises
    ------
    ValueError, TypeError
        As `check_survival` (events are not required), or a bad weight.

    Examples
    --------
    >>> from mmfusion.survival import kaplan_meier
    >>> curve = kaplan_meier([1, 2, 2, 3], [1, 1, 0, 0])
    >>> curve([0, 1, 2, 3])
    array([1.  , 0.75, 0.5 , 0.5 ])
    """
    times, events, censored, staying = _risk_table(time, event, entry, weight)
    return KaplanMeier(times, events + (censored + staying), events)


def nelson_aalen(time: Any, event: Any, entry: Any = None, weight: Any = None) -> NelsonAalen:
    """Estimate the cumulative hazard without covariates.

    Parameters, errors and the risk set are those of `kaplan_meier`.

    Returns
    -------
    NelsonAalen

    Examples
    --------
    >>> from mmfusion.survival import nelson_aalen
    >>> nelson_aalen([1, 2, 4, 4], [1, 1, 0, 1])([1, 4])
    array([0.25      , 1.08333333])
    """
    times, events, censored, staying = _risk_table(time, event, entry, weight)
    return NelsonAalen(times, events + (censored + staying), events)


def censoring_distribution(
    time: Any, event: Any, entry: Any = None, weight: Any = None
) -> KaplanMeier:
    """Estimate G(t), the probability of not being censored up to and including ``t``.

    Among ties the events come first: whoever has an event at ``t`` has left the risk set of the
    censorings at ``t``, because who dies at ``t`` could not have been censored at ``t`` before.
    With this rule inverse weights ``1 / G(T-)`` of events and ``1 / G(t)`` of those still alive
    add up to the number of rows at every ``t``. (A Kaplan-Meier curve of ``1 - event`` keeps the
    tied events at risk instead: for times 1, 1, 2, 2, 3 and events 1, 0, 1, 0, 1 it gives .8 and
    .533, not .75 and .375.)

    Parameters, errors and the risk set are those of `kaplan_meier`; an event of any cause ends
    the time at risk of being censored.

    Returns
    -------
    KaplanMeier
        Its `events` are the censorings.

    Examples
    --------
    >>> from mmfusion.survival import censoring_distribution
    >>> censoring_distribution([1, 1, 2, 2, 3], [1, 0, 1, 0, 1])([1, 2])
    array([0.75 , 0.375])
    """
    times, _, censored, staying = _risk_table(time, event, entry, weight)
    return KaplanMeier(times, censored + staying, censored)


def median_follow_up(time: Any, event: Any, entry: Any = None, weight: Any = None) -> float:
    """Return the median time at which rows would have been censored, had none had an event.

    The reverse Kaplan-Meier estimate (Schemper & Smith 1996, Control. Clin. Trials 17:343-346): the
    first time at which the Kaplan-Meier curve of ``1 - event`` is at most one half. Parameters and
    errors are those of `kaplan_meier`.

    Returns
    -------
    float
        NaN where the curve stays above one half.

    Examples
    --------
    >>> from mmfusion.survival import median_follow_up
    >>> median_follow_up([1, 2, 3, 4, 5], [1, 0, 1, 0, 0])
    4.0
    """
    given = (time, event) if entry is None else (time, event, entry)
    y = check_survival(given, allow_competing=True, require_events=False, name="the outcome")
    return follow_up_of(y, weight)


def follow_up_of(outcome: Survival, weight: Any = None) -> float:
    """Return `median_follow_up` of an outcome that has been checked."""
    outcome = replace(outcome, event=outcome.event == 0)
    times, events, censored, staying = _sums(outcome, weight)
    curve = KaplanMeier(times, events + (censored + staying), events)
    reached = np.flatnonzero(curve.y <= 0.5)
    return float(curve.x[reached[0]]) if len(reached) else float("nan")


class LogRank(NamedTuple):
    """What `log_rank_test` returns."""

    statistic: float
    p_value: float
    degrees_of_freedom: int


def log_rank_test(time: Any, event: Any, group: Any) -> LogRank:
    """Test whether groups share one survival function (Mantel 1966; Peto & Peto 1972).

    Parameters
    ----------
    time, event : array-like, shape (n,)
        As in `surv`.
    group : array-like, shape (n,)
        Labels of two or more groups.

    Returns
    -------
    LogRank
        Named tuple of ``statistic`` (chi-squared), ``p_value``, ``degrees_of_freedom``.

    Raises
    ------
    ValueError
        As `check_survival`; missing labels, another length, or fewer than two groups.

    Examples
    --------
    >>> from mmfusion.survival import log_rank_test
    >>> round(log_rank_test([1, 2, 3, 4, 5, 6], [1, 1, 1, 1, 0, 1], list("aabbab")).p_value, 4)
    0.586
    """
    check_order(time=time, event=event, group=group)
    y = check_survival((time, event), name="the outcome")
    codes, labels = pd.factorize(check_labels(group, len(y), "group"))
    if len(labels) < 2:
        raise ValueError(
            f"The group parameter must name at least two groups. Got {labels.tolist()}."
        )
    moments, moment = np.unique(y.time, return_inverse=True)
    shape = (len(moments), len(labels))
    # A row a time, a column a group: who leaves, who has an event, who is at risk.
    leaving, events = np.zeros(shape), np.zeros(shape)
    np.add.at(leaving, (moment, codes), 1.0)
    np.add.at(events, (moment, codes), y.event.astype(np.float64))
    at_risk = np.cumsum(leaving[::-1], axis=0)[::-1]
    d, r = events.sum(axis=1), at_risk.sum(axis=1)
    share = at_risk / r[:, None]
    excess = events.sum(axis=0) - d @ share
    # Given who is at risk and how many events there are, the counts are hypergeometric.
    spread = d * (r - d) / np.maximum(r - 1, 1)
    covariance = np.diag(spread @ share) - share.T @ (spread[:, None] * share)
    # The excesses add up to zero, so the last group tells nothing new.
    statistic = float(excess[:-1] @ np.linalg.pinv(covariance[:-1, :-1]) @ excess[:-1])
    degrees = len(labels) - 1
    return LogRank(statistic, float(stats.chi2.sf(statistic, degrees)), degrees)


def _risk_table(
    time: Any, event: Any, entry: Any, weight: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return distinct times, and the weight with an event, censored and at risk beyond each.

    These three add up to the weight at risk, and none is negative.
    """
    given = (time, event) if entry is None else (time, event, entry)
    check_order(time=time, event=event, weight=weight)
    y = check_survival(given, allow_competing=True, require_events=False, name="the outcome")
    return _sums(y, weight)


def _sums(y: Survival, weight: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return what `_risk_table` does, of an outcome that has been checked."""
    w = check_weights(weight, len(y), "weight")
    times, position = np.unique(y.time, return_inverse=True)
    k = len(times)
    seen = y.event > 0
    events = np.bincount(position, weights=w * seen, minlength=k)
    censored = np.bincount(position, weights=w * ~seen, minlength=k)
    staying = _after(events + censored)
    if y.delayed:
        # Who enters at or after times[i] leaves after it too, but is not yet at risk at it.
        not_yet = np.searchsorted(times, y.entry, side="right") - 1  # last i, times[i] <= entry
        late = not_yet >= 0
        entering = np.bincount(not_yet[late], weights=w[late], minlength=k)
        # Differences of sums of weights are rounded, those of numbers of rows are not.
        leave, enter = position[w > 0], not_yet[late & (w > 0)]
        n_staying = _after(np.bincount(leave, minlength=k)) - _from(np.bincount(enter, minlength=k))
        staying = np.where(n_staying > 0, np.maximum(staying - _from(entering), 0.0), 0.0)
    return times, events, censored, staying


def _from(weight: np.ndarray) -> np.ndarray:
    """Return the sum of the weights at each place and after it."""
    return np.cumsum(weight[::-1])[::-1]


def _after(weight: np.ndarray) -> np.ndarray:
    """Return the sum of the weights after each place."""
    return np.append(_from(weight)[1:], 0)
