"""Curves of a whole study had all its rows been in one arm: predicted curves, augmented."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmfusion.survival.curves import kaplan_meier
from mmfusion.survival.outcome import Survival

__all__ = ["ArmCurves", "area", "augmented_curves", "own_curves"]

#: Values of curves that are worked on at once.
BLOCK = 2**18


@dataclass(frozen=True, eq=False)
class ArmCurves:
    """Curves of rows on a grid of event times.

    Attributes
    ----------
    survival : ndarray of float64, shape (n, k)
    incidence : ndarray of float64, shape (n_causes, n, k)
        Cumulative incidence of each cause; of one cause ``1 - survival``.
    restricted_mean : ndarray of float64, shape (n,)
        Area under `survival` up to the horizon.
    """

    survival: np.ndarray
    incidence: np.ndarray
    restricted_mean: np.ndarray

    def columns(self) -> np.ndarray:
        """Return all of them side by side: survival, each incidence, restricted mean."""
        return np.column_stack([self.survival, *self.incidence, self.restricted_mean])


def area(survival: np.ndarray, grid: np.ndarray, horizon: float) -> np.ndarray:
    """Return the area under step functions that jump on a grid, up to a horizon, shape (n,).

    Parameters
    ----------
    survival : ndarray, shape (n, k)
    grid : ndarray, shape (k,)
        Ascending, none beyond the horizon.
    horizon : float
    """
    return grid[0] + survival @ np.diff(grid, append=horizon)


def augmented_curves(
    survival: np.ndarray,
    incidence: np.ndarray,
    outcome: Survival,
    grid: np.ndarray,
    horizon: float,
    inverse_chance: np.ndarray,
    censoring: np.ndarray,
    keep: np.ndarray | slice = slice(None),
) -> ArmCurves:
    r"""Return values of rows whose mean is an arm's curve, whatever the predicted curves are.

    With predicted hazards :math:`h_i(k)` of row i at the grid's k-th time,
    :math:`dM_i(k) = 1\{T_i = t_k, D_i\} - 1\{T_i \ge t_k\} h_i(k)` and G the censoring curve,

    .. math:: c_i(k) = (1 - h_i(k)) c_i(k - 1) + dM_i(k) / G(t_k-), \quad
        \phi_i(t_k) = S_i(t_k) - 1\{A_i = a\} c_i(k) / \pi_a.

    Their mean has the arm's survival as its expectation for any curves of other rows, if the chance
    of the arm and G are right; if the curves are right, for any of these (Robins & Rotnitzky 1992;
    Hubbard, van der Laan & Robins 2000, eq. 2.4; Zhang & Schaubel 2012, Biometrics 68:999-1009;
    Westling et al. 2023). With the arm's own Kaplan-Meier curve and share it *is* that curve. Of
    cause j, with :math:`e_i(k) = e_i(k-1) + dM_{ij}(k)/G(t_k-) - h_{ij}(k) c_i(k-1)`, it is
    :math:`F_{ij}(t_k) + 1\{A_i = a\} e_i(k) / \pi_a`: nothing is divided by a small survival.

    Parameters
    ----------
    survival : ndarray, shape (n, k) or (1, k)
        Of each row in this arm, at the grid.
    incidence : ndarray, shape (n_causes, n, k) or (n_causes, 1, k)
        Of each cause; with one cause ``1 - survival``.
    outcome : Survival
        Of n rows; `event` is a cause, 0 for none, or bool.
    grid : ndarray, shape (k,)
        All distinct event times up to the horizon, ascending; one or more.
    horizon : float
    inverse_chance : ndarray, shape (n,)
        One over the chance of this arm for the rows in it, 0 for the others.
    censoring : ndarray, shape (k,) or (n, k)
        Probability, in this arm, of no censoring before each time of the grid.
    keep : ndarray of int or slice
        Places of the grid whose values are returned; the others are not kept in memory.

    Returns
    -------
    ArmCurves
    """
    n, n_causes = len(outcome), len(incidence)
    kept = np.arange(len(grid))[keep]
    values = np.empty((n, len(kept)))
    of_cause = np.empty((n_causes, n, len(kept)))
    mean = np.empty(n)
    event = np.asarray(outcome.event, dtype=np.int64)
    place = np.where(event > 0, np.searchsorted(grid, outcome.time), len(grid))
    leaves = np.searchsorted(grid, outcome.time, side="right")  # at risk at the grid's times before
    widths = np.diff(grid, append=horizon)
    size = max(1, BLOCK // len(grid))
    for first in range(0, n, size):
        rows = slice(first, min(first + size, n))
        curve = _over_time(survival, rows)
        at_risk = leaves[rows] > np.arange(len(grid))[:, None]
        chance = censoring[rows].T if censoring.ndim == 2 else censoring[:, None]
        hazard = _hazards(1 - curve, curve)
        c = _martingale(hazard, place[rows], event[rows] > 0, at_risk, chance)
        for k in range(1, len(grid)):
            c[k] += (1 - hazard[k]) * c[k - 1]
        now = curve - inverse_chance[rows] * c
        mean[rows] = grid[0] + widths @ now
        values[rows] = now[kept].T
        if n_causes == 1:
            of_cause[0, rows] = 1 - values[rows]
            continue
        earlier = np.concatenate([np.zeros_like(c[:1]), c[:-1]])
        for cause, own in enumerate(incidence):
            risk = _over_time(own, rows)
            of_hazard = _hazards(risk, curve)
            of = event[rows] == cause + 1
            e = _martingale(of_hazard, place[rows], of, at_risk, chance)
            e = np.cumsum(e - of_hazard * earlier, axis=0)
            of_cause[cause, rows] = (risk + inverse_chance[rows] * e)[kept].T
    return ArmCurves(values, of_cause, mean)


def _over_time(curves: np.ndarray, rows: slice) -> np.ndarray:
    """Return curves of some rows with time in the first axis; of one curve that of all rows."""
    return np.ascontiguousarray((curves if len(curves) == 1 else curves[rows]).T)


def _hazards(incidence: np.ndarray, survival: np.ndarray) -> np.ndarray:
    """Return the jumps of an incidence over the survival before them, 0 where nobody survives."""
    before = np.concatenate([np.ones_like(survival[:1]), survival[:-1]])
    jumps = np.diff(incidence, axis=0, prepend=0.0)
    return np.divide(jumps, before, out=np.zeros_like(jumps), where=before > 0)


def _martingale(
    hazard: np.ndarray,
    place: np.ndarray,
    event: np.ndarray,
    at_risk: np.ndarray,
    chance: np.ndarray,
) -> np.ndarray:
    """Return events less what hazards expect, over the chance of no censoring, (k, n)."""
    jumps = -(at_risk * hazard)
    happened = np.flatnonzero(event & (place < len(jumps)))
    jumps[place[happened], happened] += 1
    return jumps / chance


def own_curves(
    outcome: Survival, grid: np.ndarray, n_causes: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return an arm's own curves on a grid: Kaplan-Meier and Aalen-Johansen.

    Parameters
    ----------
    outcome : Survival
        Of the rows of the arm, all at risk from the start; `event` is a cause or bool.
    grid : ndarray, shape (k,)
        Event times of all arms, ascending.
    n_causes : int

    Returns
    -------
    survival : ndarray, shape (1, k)
    incidence : ndarray, shape (n_causes, 1, k)
        (Aalen & Johansen 1978, Scand. J. Stat. 5:141-150.)
    """
    survival = kaplan_meier(outcome.time, outcome.event > 0)(grid)
    before = np.concatenate([[1.0], survival[:-1]])
    at_risk = len(outcome) - np.searchsorted(np.sort(outcome.time), grid)
    jumps = np.zeros((n_causes, len(grid)))
    seen = (outcome.event > 0) & (outcome.time <= grid[-1])
    causes = np.asarray(outcome.event, dtype=np.int64)[seen] - 1
    np.add.at(jumps, (causes, np.searchsorted(grid, outcome.time[seen])), 1.0)
    jumps *= before / np.maximum(at_risk, 1)
    return survival[None], np.cumsum(jumps, axis=1)[:, None]
