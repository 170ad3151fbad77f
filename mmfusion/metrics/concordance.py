"""Concordance: how often who fails earlier was predicted the higher risk."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from mmfusion.inputs.labels import check_labels, check_order
from mmfusion.inputs.times import check_clock
from mmfusion.inputs.weights import check_weights
from mmfusion.metrics._inputs import check_risk, check_survival_table
from mmfusion.metrics._ranks import count_below
from mmfusion.metrics._weights import CensoringWeights, refuse_delayed
from mmfusion.survival import Survival, check_survival
from mmfusion.survival.outcome import snap

__all__ = ["concordance_index", "concordance_index_antolini", "concordance_index_uno"]

#: Elements compared at once in Antolini's index, so that memory stays at some 20 MB.
CHUNK = 1 << 20


def concordance_index(y: Any, risk: Any, *, strata: Any = None, sample_weight: Any = None) -> float:
    """Harrell's concordance index (Harrell et al. 1982, JAMA 247:2543-2546), in O(n log n).

    A pair (i, j) is comparable if i has an event and either ``t_i < t_j``, or ``t_i == t_j`` and
    j is censored. It counts 1 if ``risk_i > risk_j`` and 1/2 if the risks are equal. Two events
    at one time are not comparable. lifelines and scikit-survival count the same (scikit-survival
    calls risks closer than 1e-8 equal; here only equal ones are).

    Parameters
    ----------
    y : outcome, n rows
        See `mmfusion.survival.check_survival`. With entry times a pair is comparable only if j
        was already observed at i's event: ``entry_j < t_i``.
    risk : array-like of float, shape (n,)
        Higher means an earlier event. (For predicted times pass their negative.)
    strata : array-like, shape (n,), optional
        Only pairs within a stratum are comparable.
    sample_weight : array-like of float, shape (n,), optional
        A pair weighs the product of its rows' weights.

    Returns
    -------
    float
        In [0, 1]; 0.5 for a constant risk.

    Raises
    ------
    ValueError
        As `check_survival`; a risk of another shape or with NaN; no comparable pair.

    Examples
    --------
    >>> from mmfusion.metrics import concordance_index
    >>> concordance_index(([1, 2, 3, 4], [1, 1, 0, 1]), [0.9, 0.3, 0.5, 0.1])
    0.8
    """
    check_order(y=y, risk=risk, strata=strata, sample_weight=sample_weight)
    outcome = check_survival(y)
    n = len(outcome)
    risk = check_risk(risk, n)
    stratum = np.zeros(n, dtype=np.intp) if strata is None else _codes(strata, n)
    if sample_weight is None:
        return _index(_count_pairs(outcome, risk, stratum), 1.0)
    weight = check_weights(sample_weight, n)
    kept = np.flatnonzero(weight)  # so that a pair counts exactly if its weight does
    outcome, weight = outcome.take(kept), weight[kept]
    pairs = _count_pairs(outcome, risk[kept], stratum[kept], weight)
    return _index(pairs, weight[pairs.row])


def concordance_index_uno(y_train: Any, y_test: Any, risk: Any, tau: float | None = None) -> float:
    """Uno's concordance index (Uno et al. 2011, Stat. Med. 30:1105-1117), free of the censoring.

    Harrell's pairs, each weighted by ``1 / G(t_i)**2``, for events before `tau`. As in
    scikit-survival G is the Kaplan-Meier curve of the censoring of the *training* rows, events
    first among ties, at ``t_i`` (not just before).

    Parameters
    ----------
    y_train : outcome
        The training rows, which tell the censoring.
    y_test : outcome, n rows
        The rows that were predicted.
    risk : array-like of float, shape (n,)
        Higher means an earlier event.
    tau : float, optional
        Only events before it count. Choose it where enough training rows are still observed.

    Returns
    -------
    float
        Equal to Harrell's index where no training row is censored.

    Raises
    ------
    ValueError
        As `concordance_index`; delayed entry in `y_test`; an event that counts where G is zero
        (the message says the largest `tau` that works).

    Examples
    --------
    >>> from mmfusion.metrics import concordance_index_uno
    >>> y = ([1, 2, 3, 4], [1, 0, 1, 1])
    >>> round(concordance_index_uno(y, y, [0.9, 0.3, 0.1, 0.5]), 4)
    0.5714
    """
    check_order(y_test=y_test, risk=risk)
    outcome = check_survival(y_test, name="y_test")
    refuse_delayed(outcome, "Uno's concordance index")
    n = len(outcome)
    pairs = _count_pairs(outcome, check_risk(risk, n), np.zeros(n, dtype=np.intp))
    if tau is not None:
        check_clock("tau", tau)
        tau = float(snap(np.array([tau], dtype=np.float64), np.unique(outcome.time))[0])
    time = outcome.time[pairs.row]
    weight = np.zeros(len(time))
    counts = np.ones(len(time), dtype=bool) if tau is None else time < tau
    weight[counts] = CensoringWeights(y_train).at(time[counts], use="tau") ** 2
    return _index(pairs, weight)


def concordance_index_antolini(
    y: Any,
    survival: Any,
    times: Any = None,
    *,
    method: Literal["adjusted", "strict", "harrell"] = "adjusted",
) -> float:
    """Antolini's time-dependent concordance (Antolini et al. 2005, Stat. Med. 24:3927-3944).

    At each event time ``t_i`` subject i should have the lower survival: ``S(t_i | x_i)`` against
    ``S(t_i | x_j)``. Unlike Harrell's index it takes curves that cross.

    Parameters
    ----------
    y : outcome, n rows
    survival : DataFrame or array of float, shape (n, k)
        Survival probabilities, a row a subject, a column a time. Between columns the curve is a
        right-continuous step; before the first column it is one.
    times : array-like of float, shape (k,), optional
        The time of each column; needed where `survival` is no DataFrame.
    method : {"adjusted", "strict", "harrell"}, default "adjusted"
        The rule for ties, of which three are in use:

        - ``"harrell"``: Harrell's pairs, 1/2 where the survivals are equal. Equals
          `concordance_index` for proportional hazards.
        - ``"adjusted"``: moreover, two rows at one time are compared in both orders if either has
          an event; two events score 1 if the survivals are equal and 1/2 otherwise (pycox's
          ``adj_antolini``, after Ishwaran et al. 2008, sec. 5.1).
        - ``"strict"``: Harrell's pairs, and equal survivals score nothing (pycox's
          ``antolini``). A constant prediction scores 0, not 1/2: for comparison only.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        As `check_survival`; survivals of another shape, outside [0, 1] or NaN; delayed entry;
        an unknown method; no comparable pair.

    Notes
    -----
    O(events x n) time in chunks of some 20 MB.
    """
    if method not in ("adjusted", "strict", "harrell"):
        raise ValueError(
            f"The method parameter must be 'adjusted', 'strict' or 'harrell'. Got {method!r}."
        )
    check_order(y=y, survival=survival)
    outcome = check_survival(y)
    refuse_delayed(outcome, "Antolini's concordance index")
    grid, table = check_survival_table(survival, times, len(outcome))
    grid = snap(grid, np.unique(outcome.time))
    order = np.lexsort((~outcome.event, outcome.time))  # events before censorings at one time
    time, event = outcome.time[order], outcome.event[order]
    # A first column of ones is the survival before the grid; a row a time is read faster.
    curves = np.vstack([np.ones(len(order)), table[order].T])
    column = np.searchsorted(grid, time, side="right")
    first = np.searchsorted(time, time, side="left")
    after = np.searchsorted(time, time, side="right")
    tied_events = np.add.reduceat(event, np.unique(first))[np.unique(first, return_inverse=True)[1]]
    score, comparable = 0.0, 0
    rows = np.flatnonzero(event)
    size = max(1, CHUNK // len(order))
    for chunk in np.array_split(rows, range(size, len(rows), size)):
        begin = first[chunk[0]]
        others = curves[column[chunk], begin:]
        own = curves[column[chunk], chunk][:, None]
        position = np.arange(begin, len(order))
        # Harrell's pairs: everyone behind the events tied with i.
        later = position >= (first + tied_events)[chunk][:, None]
        less, equal = (own < others) & later, (own == others) & later
        if method == "adjusted":
            # A tied censored row is met twice (as (i, j) and (j, i)), with the same score.
            twice = later & (position < after[chunk][:, None])
            tie = (position >= first[chunk][:, None]) & ~later & (position != chunk[:, None])
            score += (less & twice).sum() + 0.5 * (equal & twice).sum()
            score += 0.5 * tie.sum() + 0.5 * (tie & (own == others)).sum()
            comparable += int(twice.sum() + tie.sum())
        score += less.sum() + (0.0 if method == "strict" else 0.5 * equal.sum())
        comparable += int(later.sum())
    if not comparable:
        raise ValueError(NO_PAIRS)
    return float(score / comparable)


NO_PAIRS = (
    "The concordance index needs at least one comparable pair: a row observed beyond the event of "
    "another (in its stratum). Got none."
)


class _Pairs(NamedTuple):
    """What each event is compared with."""

    row: np.ndarray  # the events
    n_met: np.ndarray  # rows compared with each
    comparable: np.ndarray  # their weight
    lower: np.ndarray  # the weight of those with a lower risk
    equal: np.ndarray  # the weight of those with the same risk


def _index(pairs: _Pairs, weight: Any) -> float:
    if not (pairs.n_met * weight).any():
        raise ValueError(NO_PAIRS)
    concordant = pairs.lower + 0.5 * pairs.equal
    return float(np.sum(weight * concordant) / np.sum(weight * pairs.comparable))


def _count_pairs(
    y: Survival, risk: np.ndarray, stratum: np.ndarray, weight: np.ndarray | None = None
) -> _Pairs:
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
    return _Pairs(rows, count, np.where(count > 0, comparable, 0), lower, equal)


def _count_range(
    order: np.ndarray,
    start: np.ndarray,
    stop: np.ndarray,
    rank: np.ndarray,
    rows: np.ndarray,
    weight: np.ndarray | None,
) -> _Pairs:
    """Return what each of `rows` meets in its range of `order`."""
    n = len(order)
    ranked, bound = rank[order], rank[rows]
    # In order of rank, then position, the rows of one rank within a range stand together.
    by_rank = np.argsort(ranked, kind="stable")
    keys = ranked[by_rank] * (n + 1) + by_rank
    low = np.searchsorted(keys, bound * (n + 1) + start)
    high = np.searchsorted(keys, bound * (n + 1) + stop)
    count = stop - start
    if weight is None:
        return _Pairs(rows, count, count, count_below(ranked, start, stop, bound), high - low)
    weight = weight[order]
    mass, mass_by_rank = _cumulative(weight), _cumulative(weight[by_rank])
    comparable = mass[stop] - mass[start]
    lower = count_below(ranked, start, stop, bound, weight)
    return _Pairs(rows, count, comparable, lower, mass_by_rank[high] - mass_by_rank[low])


def _cumulative(weight: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(weight)])


def _codes(strata: Any, n: int) -> np.ndarray:
    return pd.factorize(check_labels(strata, n, "strata"))[0]
