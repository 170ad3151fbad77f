"""Concordance: how often who fails earlier was predicted the higher risk."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from mmfusion.inputs.labels import check_labels, check_order
from mmfusion.inputs.parameters import check_choice
from mmfusion.inputs.times import check_clock
from mmfusion.inputs.weights import check_weights
from mmfusion.metrics._inputs import check_risk, check_survival_table
from mmfusion.metrics._pairs import Pairs, count_pairs
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
    stratum = np.zeros(n, dtype=np.intp) if strata is None else strata_codes(strata, n)
    if sample_weight is None:
        return _index(count_pairs(outcome, risk, stratum), 1.0)
    weight = check_weights(sample_weight, n)
    kept = np.flatnonzero(weight)  # so that a pair counts exactly if its weight does
    outcome, weight = outcome.take(kept), weight[kept]
    pairs = count_pairs(outcome, risk[kept], stratum[kept], weight)
    return _index(pairs, weight[pairs.row])


def concordance_index_uno(
    y_train: Any,
    y_test: Any,
    risk: Any,
    tau: float | None = None,
    convention: Literal["mmfusion", "sksurv"] = "mmfusion",
) -> float:
    """Uno's concordance index (Uno et al. 2011, Stat. Med. 30:1105-1117), free of the censoring.

    Harrell's pairs, each weighted by ``1 / G**2``, for events before `tau`. G is the Kaplan-Meier
    curve of the censoring of the *training* rows, events first among ties, as of the Brier score.

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
    convention : {"mmfusion", "sksurv"}, default "mmfusion"
        What weighs an event at ``T``: ``G(T-)``, as in R's survival, or ``G(T)``, as in
        scikit-survival.

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
    check_choice("convention", convention, ("mmfusion", "sksurv"))
    check_order(y_test=y_test, risk=risk)
    outcome = check_survival(y_test, name="y_test")
    refuse_delayed(outcome, "Uno's concordance index")
    n = len(outcome)
    pairs = count_pairs(outcome, check_risk(risk, n), np.zeros(n, dtype=np.intp))
    counts = counted_events(outcome, tau)[pairs.row]
    weight = np.zeros(len(counts))
    time = outcome.time[pairs.row][counts]
    weight[counts] = CensoringWeights(y_train).at_event(time, "tau", convention) ** 2
    return _index(pairs, weight)


def counted_events(y: Survival, tau: float | None) -> np.ndarray:
    """Return which rows have an event before `tau`; all events where it is None."""
    if tau is None:
        return y.event
    check_clock("tau", tau)
    return y.event & (y.time < snap(np.array([tau], dtype=np.float64), np.unique(y.time))[0])


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


def _index(pairs: Pairs, weight: Any) -> float:
    if not (pairs.n_met * weight).any():
        raise ValueError(NO_PAIRS)
    concordant = pairs.lower + 0.5 * pairs.equal
    return float(np.sum(weight * concordant) / np.sum(weight * pairs.comparable))


def strata_codes(strata: Any, n: int) -> np.ndarray:
    """Return the strata of n rows as numbers, int, shape (n,).

    Raises
    ------
    ValueError
        If there are more or fewer labels than rows, or one is missing.
    """
    return pd.factorize(check_labels(strata, n, "strata"))[0]
