"""The area under the time-dependent ROC curve."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from mmfusion.inputs.labels import check_order
from mmfusion.inputs.parameters import check_choice
from mmfusion.metrics._inputs import check_risk, check_times
from mmfusion.metrics._weights import CensoringWeights, refuse_delayed
from mmfusion.survival import check_survival, kaplan_meier
from mmfusion.survival.outcome import snap

__all__ = ["DynamicAUC", "cumulative_dynamic_auc"]


class DynamicAUC(NamedTuple):
    """What `cumulative_dynamic_auc` returns."""

    auc: np.ndarray
    mean: float


def cumulative_dynamic_auc(
    y_train: Any,
    y_test: Any,
    risk: Any,
    times: Any,
    convention: Literal["mmfusion", "sksurv"] = "mmfusion",
) -> DynamicAUC:
    """Cumulative/dynamic AUC (Uno et al. 2007, JASA 102:527-537; Hung & Chiang 2010).

    At time ``t`` the cases are the rows with an event by ``t``, each weighted by ``1 / G``, and the
    controls are the rows observed beyond ``t``: the probability that a case has the higher risk,
    ties counting 1/2. G is the censoring distribution of the training rows, events first among
    ties, as of the Brier score.

    Parameters
    ----------
    y_train : outcome
        The training rows, which tell the censoring.
    y_test : outcome, n rows
        The rows that were predicted.
    risk : array-like of float, shape (n,) or (n, k)
        Higher means an earlier event; a column a time where the risk changes over time.
    times : array-like of float, shape (k,)
        Increasing.
    convention : {"mmfusion", "sksurv"}, default "mmfusion"
        What weighs an event at ``T``: ``G(T-)``, or ``G(T)`` as in scikit-survival.

    Returns
    -------
    DynamicAUC
        Named tuple of ``auc``, shape (k,), and ``mean``, the average with the drops of the test
        rows' Kaplan-Meier curve between the times as weights (Lambert & Chevret 2016). The AUC is
        NaN, and left out of the mean, at a time that has no case or no control.

    Raises
    ------
    ValueError
        As `check_survival`; risk of another shape or NaN; delayed entry in `y_test`; no time with
        both cases and controls; a case where G is zero (the message says the largest usable time).

    Examples
    --------
    >>> from mmfusion.metrics import cumulative_dynamic_auc
    >>> y = ([1, 2, 3, 4], [1, 0, 1, 1])
    >>> cumulative_dynamic_auc(y, y, [0.9, 0.3, 0.1, 0.5], times=[1, 3]).auc
    array([1. , 0.4])
    """
    check_choice("convention", convention, ("mmfusion", "sksurv"))
    check_order(y_test=y_test, risk=risk)
    y = check_survival(y_test, name="y_test")
    refuse_delayed(y, "The cumulative/dynamic AUC")
    grid = snap(check_times(times), np.unique(y.time))
    risk = check_risk(risk, len(y), len(grid))
    case = y.event & (y.time <= grid[-1])
    weight = np.zeros(len(y))
    weight[case] = CensoringWeights(y_train).at_event(y.time[case], "times", convention)

    columns = risk.reshape(len(y), -1).T
    auc = np.full(len(grid), np.nan)
    for k, t in enumerate(grid):
        weights = np.where(y.time <= t, weight, 0.0)
        auc[k] = weighted_auc(columns[k if len(columns) > 1 else 0], weights, y.time > t)[0]
    defined = ~np.isnan(auc)
    if not defined.any():
        raise ValueError(
            "The times parameter must hold a time with an event by then and rows observed beyond. "
            f"Got times from {grid[0]:g} to {grid[-1]:g}, while the follow-up of y_test goes from "
            f"{y.time.min():g} to {y.time.max():g}."
        )
    survival = kaplan_meier(y.time, y.event)(grid[defined])
    drops = -np.diff(survival, prepend=1.0)
    return DynamicAUC(auc, float(auc[defined] @ drops / drops.sum()))


def weighted_auc(
    risk: np.ndarray, case: np.ndarray, control: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the probability that a case has a higher risk than a control, ties counting 1/2.

    Parameters
    ----------
    risk : ndarray, shape (n,)
    case : ndarray of float64, shape (n,)
        The weights of the cases, 0 for others.
    control : ndarray of bool, shape (n,)

    Returns
    -------
    auc : float
        NaN without cases or controls.
    above, below : ndarray of float64, shape (n,)
        Of each row, the share of controls that its risk exceeds and the share of the cases' weight
        that exceeds its risk, ties counting 1/2.
    """
    rank = np.unique(risk, return_inverse=True)[1]
    n_controls, weight = np.bincount(rank, weights=control), np.bincount(rank, weights=case)
    if not (n_controls.any() and weight.any()):
        return float("nan"), np.full(len(risk), np.nan), np.full(len(risk), np.nan)
    above = ((np.cumsum(n_controls) - 0.5 * n_controls) / n_controls.sum())[rank]
    below = 1 - ((np.cumsum(weight) - 0.5 * weight) / weight.sum())[rank]
    return float(case @ above / case.sum()), above, below
