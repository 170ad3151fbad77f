"""The Brier score of survival probabilities, and its integral over time."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from scipy import integrate

from mmfusion.inputs.labels import check_order
from mmfusion.inputs.parameters import check_choice
from mmfusion.metrics._inputs import check_survival_table
from mmfusion.metrics._weights import CensoringWeights, refuse_delayed
from mmfusion.survival import Survival, check_survival
from mmfusion.survival.outcome import snap

__all__ = ["brier_score", "integrated_brier_score"]

Convention = Literal["mmfusion", "sksurv", "pycox"]


def brier_score(
    y_train: Any,
    y_test: Any,
    survival: Any,
    times: Any = None,
    convention: Convention = "mmfusion",
) -> np.ndarray:
    """Brier score at each time (Graf et al. 1999, Stat. Med. 18:2529-2545), weighted for censoring.

    The mean over test rows of ``S(t)**2 / G`` for who had an event by ``t`` and of
    ``(1 - S(t))**2 / G(t)`` for who is still observed after ``t``; who was censored by ``t``
    counts nothing. G is the probability of being uncensored.

    Parameters
    ----------
    y_train : outcome
        The training rows, which tell G.
    y_test : outcome, n rows
        The rows that were predicted. The times may lie beyond their follow-up.
    survival : DataFrame or array of float, shape (n, k)
        Survival probabilities, a row a subject, a column a time.
    times : array-like of float, shape (k,), optional
        The time of each column; needed where `survival` is no DataFrame.
    convention : {"mmfusion", "sksurv", "pycox"}, default "mmfusion"
        What weighs an event at ``T``:

        - ``"mmfusion"``: ``G(T-)``, tied events leave the risk set of censoring first. The weights
          then add up to n where y_train is y_test, and ties add no bias.
        - ``"sksurv"``: ``G(T)``, otherwise the same; what scikit-survival computes.
        - ``"pycox"``: ``G(T-)``, tied events stay in the risk set of censoring, and the sum is
          divided by the sum of weights. pycox takes G from the test rows: pass them twice.

    Returns
    -------
    ndarray of float64, shape (k,)
        0.25 for a prediction of 1/2 without censoring; lower is better.

    Raises
    ------
    ValueError
        As `check_survival`; survivals of another shape, outside [0, 1] or NaN; delayed entry in
        `y_test`; a time where a weight is needed and G is zero (the message says the largest
        usable one).

    Examples
    --------
    >>> from mmfusion.metrics import brier_score
    >>> y = ([1, 2, 3, 4], [1, 0, 1, 1])
    >>> brier_score(y, y, [[0.1, 0.0], [0.8, 0.7], [0.6, 0.4], [0.9, 0.8]], times=[1.5, 2.5])
    array([0.055, 0.15 ])
    """
    check_choice("convention", convention, ("mmfusion", "sksurv", "pycox"))
    check_order(y_test=y_test, survival=survival)
    y = check_survival(y_test, name="y_test", require_events=False)
    refuse_delayed(y, "The Brier score")
    grid, table = check_survival_table(survival, times, len(y))
    grid = snap(grid, np.unique(y.time))
    weights = CensoringWeights(y_train, events_first=convention != "pycox")
    weight = censored_weights(weights, y, grid, convention)
    scores = np.empty(len(grid))
    for k, t in enumerate(grid):
        error = (table[:, k] - (y.time > t)) ** 2
        total = weight[:, k].sum() if convention == "pycox" else len(y)
        scores[k] = weight[:, k] @ error / total if total else np.nan
    return scores


def censored_weights(
    weights: CensoringWeights, y: Survival, grid: np.ndarray, convention: str
) -> np.ndarray:
    """Return what each row weighs at each time, shape (n, k): 0 once it is censored."""
    # Only who has an event by the last time needs the weight of an event.
    counted = y.event & (y.time <= grid[-1])
    event_weight = np.zeros(len(y))
    event_weight[counted] = weights.at_event(y.time[counted], "times", convention)
    reached = grid < y.time.max()
    alive_weight = np.zeros(len(grid))
    alive_weight[reached] = weights.at(grid[reached], use="times")
    return np.where(y.time[:, None] > grid, alive_weight, event_weight[:, None])


def integrated_brier_score(
    y_train: Any,
    y_test: Any,
    survival: Any,
    times: Any = None,
    convention: Convention = "mmfusion",
) -> float:
    """Brier score averaged over the time from the first to the last column.

    Parameters and errors are those of `brier_score`; at least two times are needed.

    Returns
    -------
    float
        The integral over the times, divided by their span: by the trapezoidal rule, for
        ``convention="pycox"`` by Simpson's.

    Examples
    --------
    >>> from mmfusion.metrics import integrated_brier_score
    >>> y = ([1, 2, 3, 4], [1, 1, 1, 1])
    >>> integrated_brier_score(y, y, [[0.5, 0.5]] * 4, times=[1.5, 2.5])
    0.25
    """
    scores = brier_score(y_train, y_test, survival, times, convention)
    grid = np.asarray(survival.columns if times is None else times, dtype=np.float64)
    if len(scores) < 2:
        raise ValueError(
            f"The times parameter must hold at least two times to integrate over. Got {grid}."
        )
    integral = integrate.simpson if convention == "pycox" else integrate.trapezoid
    return float(integral(scores, x=grid) / (grid[-1] - grid[0]))
