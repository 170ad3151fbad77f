"""What late fusion learns from: the members' predictors of rows that they did not see."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp

from mmfusion.heads.base import Head, Target
from mmfusion.inputs.rounding import is_constant
from mmfusion.structured import (
    Design,
    Likelihood,
    SeparationWarning,
    TermColumns,
    fit_structured,
)

__all__ = ["SLOPE", "PoolRows", "average", "stacked"]

#: Ridge penalty of a stack, of a standardised outcome: half of this times the sum of the squared
#: coefficients is added to the negative log-likelihood.
RIDGE = 1.0
#: The largest factor that is tried for pooled, standardised log-hazards.
SLOPE = 20.0


@dataclass(frozen=True, eq=False)
class PoolRows:
    """Predictors and outcome of the rows that a pool learns from.

    Attributes
    ----------
    etas : ndarray, shape (n, n_members, K)
        NaN where the member is absent.
    present : ndarray of bool, shape (n, n_members)
    head, target : Head, Target
    offset : Tensor of float64, shape (n, K)
        What the pooled predictor is added to.
    """

    etas: np.ndarray
    present: np.ndarray
    head: Head
    target: Target
    offset: torch.Tensor

    def having(self, members: np.ndarray) -> PoolRows:
        """Return the rows that have all of these members; further members count as absent."""
        rows = np.flatnonzero(self.present[:, members].all(1))
        at = torch.from_numpy(rows)
        present = np.broadcast_to(members, (len(rows), len(members)))
        return PoolRows(self.etas[rows], present, self.head, self.target.take(at), self.offset[at])

    def enough(self, n_coefficients: int) -> bool:
        """Return whether these rows say enough to learn so many coefficients from."""
        return len(self.target) > 0 and self.head.enough(self.target, n_coefficients)

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
        """Return coefficients of all members (0 outside `members`) and K constants.

        Each member's predictors have one coefficient, with a small ridge penalty; beside them
        stand the constants that the head leaves to a stack.
        """
        (n, m, k), constants = self.etas.shape, self.head.stack_constants.matrix
        columns = stacked(self.head, np.where(members[:, None], self.etas, 0.0))  # (n, m, K)
        used = np.flatnonzero(members & ~is_constant(columns, np.float32).all(1))
        matrix = np.hstack(
            [columns[:, used].transpose(0, 2, 1).reshape(n * k, -1), np.tile(constants, (n, 1))]
        )
        coef = np.zeros(m + k)
        if not matrix.shape[1]:
            return coef
        solve = self._bfgs if self.head.interacts and k > 1 else self._newton
        found = solve(matrix, len(used))
        coef[:m][used] = found[: len(used)]
        coef[m:] = constants @ found[len(used) :]
        return coef

    def _newton(self, matrix: np.ndarray, n_used: int) -> np.ndarray:
        ridge = TermColumns(
            "stack",
            slice(0, n_used),
            "random",
            penalties=(np.eye(n_used),),
            sp=(RIDGE * self.head.dispersion_unit,),
        )
        names = [f"member {j}" for j in range(n_used)]
        names += [f"constant {j}" for j in range(matrix.shape[1] - n_used)]
        with warnings.catch_warnings():  # a constant may run to infinity where no row survives
            warnings.simplefilter("ignore", SeparationWarning)
            return fit_structured(
                Likelihood(self.head, self.target),
                Design.dense_of(matrix, self.etas.shape[2]),
                (ridge,) if n_used else (),
                self.offset.numpy(),
                names=names,
            ).coef

    def _bfgs(self, matrix: np.ndarray, n_used: int) -> np.ndarray:
        """Minimise the loss by its gradient: where rows interact, there is no information."""
        columns = torch.from_numpy(matrix)
        total, shape = self.head.total(self.target), self.offset.shape

        def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
            coef = torch.from_numpy(x).requires_grad_()
            eta = self.offset + (columns @ coef).view(shape)
            penalty = RIDGE / 2 * coef[:n_used].square().sum()
            value = total * self.head.loss(eta, self.target) + penalty
            value.backward()
            assert coef.grad is not None
            return value.item(), coef.grad.numpy()

        start = np.zeros(matrix.shape[1])
        start[:n_used] = 1.0 / max(n_used, 1)
        return minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-6}).x


def stacked(head: Head, etas: np.ndarray) -> np.ndarray:
    """Return members' predictors, (..., K), as a stack reads them: logits less their mean."""
    return etas - etas.mean(-1, keepdims=True) if head.shift_invariant else etas


def average(head: Head, etas: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the predictors of the weighted mean law of late fusion's members, shape (n, K).

    Of classes their probabilities are averaged, of discrete times the masses; of other outcomes
    the predictors themselves.

    Parameters
    ----------
    etas : ndarray, shape (n, n_members, K)
        NaN where the member is absent.
    weights : ndarray, shape (n, n_members)
        Not negative, 0 where absent, some above 0 in each row; they need not sum to 1.
    """
    there = weights[:, :, None] > 0
    laws = head.law(np.where(there, etas, 0.0))
    shares = (weights / weights.sum(1, keepdims=True))[:, :, None]
    if not head.law_is_log:
        return head.from_law((shares * laws).sum(1))
    with np.errstate(divide="ignore"):
        return head.from_law(logsumexp(np.where(there, laws, 0.0) + np.log(shares), axis=1))
