"""What the error of an estimated baseline hazard is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmfusion.heads.cox.denominators import Denominators
from mmfusion.heads.cox.plan import CoxPlan, TiesMethod

__all__ = ["HazardError"]


@dataclass(frozen=True, eq=False)
class HazardError:
    """Cumulative sums over the event times of a stratum, for a row with ``eta = 0``.

    Attributes
    ----------
    times : ndarray, shape (m,)
    hazard : ndarray, shape (m,)
        The cumulative hazard.
    variance : ndarray, shape (m,)
        Of it, the coefficients known: ``sum dN / S^2`` (Tsiatis 1981, Ann. Stat. 9:93-108), by
        Efron's method over the denominators of tied events.
    mean : ndarray, shape (m, p)
        ``sum xbar(t) dH(t)``: minus its derivative in the coefficients.
    """

    times: np.ndarray
    hazard: np.ndarray
    variance: np.ndarray
    mean: np.ndarray

    @classmethod
    def by_stratum(
        cls,
        eta: Tensor,
        plan: CoxPlan,
        design: Tensor,
        time: Tensor,
        stratum: Tensor,
        ties: TiesMethod = "efron",
    ) -> dict[int, HazardError]:
        """Return them for each stratum that has an event.

        Parameters
        ----------
        eta : Tensor, shape (n, 1)
        design : Tensor, shape (n, p)
        time, stratum : Tensor, shape (n,)
            Of the rows that `plan` was made of.
        """
        denominators = Denominators(eta.detach(), plan, ties)
        sets = denominators.sets
        rows = plan.last[1:].long()
        rows = rows if plan.order is None else plan.order[rows].long()
        slot = denominators.share[:, 0].exp() * plan.total
        means = denominators.means(plan.sort(design.double()))
        parts = torch.column_stack(
            [slot, slot * (-denominators.log_den[:, 0]).exp(), slot[:, None] * means]
        )
        blocks = torch.zeros(sets.n_blocks, parts.shape[1], dtype=torch.float64)
        jumps = blocks.index_add_(0, sets.block, parts).numpy()
        found = {}
        times, code = time[rows].numpy(), stratum[rows].numpy()
        for group in np.unique(code):
            mine = code == group
            total = np.cumsum(jumps[mine], axis=0)
            found[int(group)] = cls(times[mine], total[:, 0], total[:, 1], total[:, 2:])
        return found

    def of_log(
        self, times: np.ndarray, design: np.ndarray, covariance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the log of the cumulative hazard and the standard errors of rows' logs.

        Parameters
        ----------
        times : ndarray, shape (k,)
        design : ndarray, shape (n, p)
        covariance : ndarray, shape (p, p)

        Returns
        -------
        log_hazard : ndarray, shape (k,)
            Of a row with ``eta = 0``; -inf before the first event.
        error : ndarray, shape (n, k)
            Of ``log H(t | x)``, with that of the coefficients; NaN before the first event.
        """
        at = np.searchsorted(self.times, times, side="right") - 1
        hazard = np.where(at >= 0, self.hazard[at], 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.where(at >= 0, self.variance[at] / hazard**2, np.nan)
            centre = self.mean[at] / hazard[:, None]
            log_hazard = np.log(hazard)
        error = np.full((len(design), len(times)), np.nan)
        for k in np.flatnonzero(at >= 0):
            away = design - centre[k]
            square = np.einsum("ij,jk,ik->i", away, covariance, away)
            error[:, k] = np.sqrt(relative[k] + square)
        return log_hazard, error
