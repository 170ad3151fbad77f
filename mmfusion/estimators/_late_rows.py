"""What late fusion learns from: the members' predictors of rows that they did not see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar

from mmfusion.heads import DiscreteTimeHead
from mmfusion.heads.base import Head, Target
from mmfusion.heads.discrete.target import DiscreteTimeTarget
from mmfusion.structured import HeadLikelihood, TermColumns, fit_structured

__all__ = ["SLOPE", "LateRows", "stacked_columns"]

#: Penalty of a stack's coefficients: half of this times their squares, of a standardised outcome.
RIDGE = 1.0
#: Of fewer events (rows, where there is no censoring) a coefficient is not learned by itself.
ENOUGH = 5
#: The largest slope of standardised log-hazards.
SLOPE = 20.0


@dataclass(frozen=True)
class LateRows:
    """Predictors and outcome of the rows that a pool learns from."""

    etas: np.ndarray
    present: np.ndarray
    head: Head
    target: Target
    offset: torch.Tensor

    def having(self, members: np.ndarray) -> LateRows:
        """Return the rows that have all of these members, with no others."""
        rows = np.flatnonzero(self.present[:, members].all(1))
        at = torch.from_numpy(rows)
        present = np.broadcast_to(members, (len(rows), len(members)))
        return LateRows(self.etas[rows], present, self.head, self.target.take(at), self.offset[at])

    def enough(self, n_coefficients: int) -> bool:
        """Return whether these rows say enough to learn so many coefficients from."""
        if not len(self.target) or not self.head.informative(self.target):
            return False
        if isinstance(self.target, DiscreteTimeTarget):
            return int((self.target.cause > 0).sum()) >= ENOUGH * n_coefficients
        if self.head.has_intercept:  # a class that no row has would have no bound
            k = self.etas.shape[2]
            if len(np.unique(self.head.stratify(self.target))) < max(2, k):
                return False
        return self.head.total(self.target) >= ENOUGH * n_coefficients

    def loss(self, pooled: np.ndarray) -> float:
        return float(self.head.loss(self.offset + torch.from_numpy(pooled), self.target))

    def slope(self, pooled: np.ndarray, high: float = SLOPE) -> float:
        """Return what `pooled` is best multiplied by, not below 0."""
        found = minimize_scalar(
            lambda slope: self.loss(slope * pooled),
            bounds=(0.0, high),
            method="bounded",
            options={"xatol": 1e-6},
        )
        return float(found.x)

    def stack(self, members: np.ndarray) -> np.ndarray:
        """Return coefficients of all members (0 outside `members`) and K constants."""
        if isinstance(self.head, DiscreteTimeHead):
            return self._stack_of_intervals(members)
        n, m, k = self.etas.shape
        center, spread = self.head.units
        columns = stacked_columns(
            np.where(members[:, None], self.etas, 0.0), self.head
        )  # (n, m, K)
        varies = members & (np.ptp(columns, axis=0) > 0).any(1)
        used = int(varies.sum())
        design = [columns[:, varies].transpose(0, 2, 1).reshape(n * k, used) * spread]
        free = k if self.head.has_intercept else 0
        first = 1 if free > 1 else 0  # of K logits one is the others' reference
        design += [np.tile(np.eye(k)[:, first:free], (n, 1))]
        coef = np.zeros(m + k)
        matrix = np.hstack(design)
        if not matrix.shape[1]:
            return coef
        ridge = TermColumns(
            "stack", slice(0, used), "random", (np.eye(used),), sp=(RIDGE * spread**2,)
        )
        names = [f"member {j}" for j in range(used)]
        names += [f"constant {j}" for j in range(first, free)]
        fit = fit_structured(
            HeadLikelihood(self.head, self.target),
            matrix,
            (ridge,) if used else (),
            (self.offset.numpy() * spread + center).reshape(-1),
            names=names,
        )
        coef[:m][varies] = fit.coef[:used]
        coef[m + first : m + free] = fit.coef[used:] / spread
        return coef

    def _stack_of_intervals(self, members: np.ndarray) -> np.ndarray:
        """Return coefficients of all members and one constant, K times.

        A constant an interval would have no end where there are no events; the members have their
        own. Of the losses but DeepHit's the objective is convex.
        """
        k = self.etas.shape[2]
        columns = torch.from_numpy(self.etas[:, members])
        total, used = self.head.total(self.target), int(members.sum())

        def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
            coef = torch.from_numpy(x).requires_grad_()
            eta = self.offset + torch.einsum("nmk,m->nk", columns, coef[:-1]) + coef[-1]
            value = total * self.head.loss(eta, self.target) + RIDGE / 2 * coef[:-1].square().sum()
            value.backward()
            assert coef.grad is not None
            return value.item(), coef.grad.numpy()

        start = np.append(np.full(used, 1.0 / used), 0.0)
        found = minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-6}).x
        coef = np.full(len(members) + k, found[-1])
        coef[: len(members)] = 0.0
        coef[: len(members)][members] = found[:-1]
        return coef


def stacked_columns(etas: np.ndarray, head: Head) -> np.ndarray:
    """Return members' predictors as a stack reads them: K logits less their mean."""
    if etas.shape[2] == 1 or isinstance(head, DiscreteTimeHead):
        return etas
    return etas - etas.mean(2, keepdims=True)
