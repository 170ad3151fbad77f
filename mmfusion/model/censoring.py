"""The chance of not being censored, in each of two arms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from mmfusion.heads.cox import CoxHead
from mmfusion.model.structured import fit_formulas
from mmfusion.structured import Layout
from mmfusion.survival import Survival, censoring_distribution

__all__ = ["LEAST", "censoring_curves", "last_time"]

#: A row counts at most for this many: beyond the time from which on fewer are uncensored, no curve
#: of the arm is known.
LEAST = 0.05


def last_time(outcome: Survival) -> float:
    """Return up to when the share that is not censored before a time is at least `LEAST`."""
    curve = censoring_distribution(outcome.time, outcome.event)
    gone = np.flatnonzero(curve.y < LEAST)
    return float(curve.x[gone[0]]) if len(gone) else np.inf


def censoring_curves(
    how: str, table: pd.DataFrame, outcome: Survival, treated: np.ndarray, grid: np.ndarray
) -> list[np.ndarray]:
    """Return the probability of no censoring before each time, in the control and the treated arm.

    Parameters
    ----------
    how : str
        "km", or the formula of a Cox model of the time to censoring in each arm.
    table : DataFrame, n rows
    outcome : Survival
        Of n rows.
    treated : ndarray of bool, shape (n,)
    grid : ndarray, shape (k,)

    Returns
    -------
    list of two ndarrays, shape (k,) or (n, k)

    Raises
    ------
    ValueError
        As the formula.
    """
    arms = [~treated, treated]
    if how == "km":
        own = (outcome.take(rows) for rows in arms)
        return [censoring_distribution(one.time, one.event).left(grid) for one in own]
    return [_cox(how, table, outcome, rows, grid) for rows in arms]


def _cox(
    formula: str, table: pd.DataFrame, outcome: Survival, rows: np.ndarray, grid: np.ndarray
) -> np.ndarray:
    """Return the curves of all rows, had they been in an arm, (n, k)."""
    # Among ties events come first: a partial likelihood sees the order of times alone, so that
    # twice the rank, and one more for a censoring, puts whoever has an event out of its risk set.
    known, rank = np.unique(outcome.time, return_inverse=True)
    censored = ~(outcome.event > 0)
    place = 2.0 * rank + censored
    if not censored[rows].any():
        return np.ones(len(grid))
    head = CoxHead()
    target = head.fit_outcome((place[rows], censored[rows]))
    layout = Layout(formula).fit(table, head)
    design = layout.transform(table)
    chosen = np.flatnonzero(rows)
    fit = fit_formulas(layout, head, target, design.take(chosen), may_hold=True)
    eta = design.predict(fit.coef)
    head.finish(torch.from_numpy(eta[chosen]), target)
    before = 2.0 * np.searchsorted(known, grid) - 0.5
    return np.maximum(head.survival(eta, before), LEAST)
