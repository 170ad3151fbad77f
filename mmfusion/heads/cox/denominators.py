"""The denominators of the Cox likelihood, and the sums over risk sets and times around them."""

from __future__ import annotations

import torch
from torch import Tensor

from mmfusion.heads.cox.plan import CoxPlan, TiesMethod
from mmfusion.heads.cox.risk_sets import log_sum_by

__all__ = ["Denominators"]


class Denominators:
    """The logs of all denominators ``S_k - (l / d_k) T_k``, an entry a death, in any setting.

    With ``omega = W_k / d_k`` and psi as in `Ties`; rows of weight 0 have a log of -inf. Every
    quantity is a matrix with rows first; everything is scaled as the weights of the plan.

    Parameters
    ----------
    eta : Tensor, shape (n,) or (n, 1)
        In the rows' own order, without graph; the attribute of this name is in plan order.
    plan : CoxPlan
        With an event.
    ties : {"efron", "breslow"}
    time_weight : Tensor, shape (m,), optional
        Factors of the event times' weights.
    """

    def __init__(
        self, eta: Tensor, plan: CoxPlan, ties: TiesMethod, time_weight: Tensor | None = None
    ) -> None:
        sets = plan.risk_sets
        x = plan.sort(eta.reshape(-1)).double()
        self.plan, self.sets, self.eta = plan, sets, x
        self.x = (x if plan.weight is None else x + plan.weight.log())[:, None]
        self.log_psi = sets.psi(ties).log()[:, None]
        self.omega = (plan.block_weight[1:] / sets.deaths)[sets.block]
        if time_weight is not None:
            self.omega = self.omega * time_weight.double()[sets.block]
        self.log_omega = self.omega.log()[:, None]
        self.log_den = torch.logaddexp(
            sets.over_survivors(self.x)[sets.block],
            self.log_psi + sets.over_deaths(self.x)[sets.block],
        )
        self.share = self.log_omega - self.log_den

    def loss(self) -> Tensor:
        centre = self.eta.mean()  # the two terms would cancel where eta is far from 0
        return torch.dot(self.omega, self.log_den[:, 0] - centre) - torch.dot(
            self.plan.event_weight, self.eta - centre
        )

    @property
    def log_hazard(self) -> Tensor:
        """Log A_k, shape (m, 1)."""
        return log_sum_by(self.share, self.sets.block, self.sets.n_blocks)

    def over_range(self, entries: Tensor, own: Tensor) -> Tensor:
        """Sum `entries` over the times each row survives, and `own` over its own time's deaths."""
        by_block = log_sum_by(torch.cat([entries, own], dim=1), self.sets.block, self.sets.n_blocks)
        survived, dying = by_block.split(entries.shape[1], dim=1)
        result = self.sets.over_times(survived)
        rows = self.sets.rows
        result[rows] = torch.logaddexp(result[rows], dying[self.sets.block])
        return result

    def expected(self) -> Tensor:
        """``r_i`` times the cumulative hazard that row i meets, shape (n, 1)."""
        return (self.x + self.log_hazard_met()).exp()

    def log_hazard_met(self) -> Tensor:
        """Log of the cumulative hazard that each row meets, shape (n, 1)."""
        return self.over_range(self.share, self.share + self.log_psi)

    def gradient(self) -> Tensor:
        return self.expected()[:, 0] - self.plan.event_weight

    def diagonal(self) -> Tensor:
        square = self.share - self.log_den
        squares = self.over_range(square, square + 2 * self.log_psi)
        return (self.expected() - (2 * self.x + squares).exp())[:, 0]

    def means(self, vectors: Tensor) -> Tensor:
        """Return the mean of `vectors` under each denominator's distribution, shape (e, c)."""
        block = self.sets.block
        sums = self.sets.prefix_sums(self.x, vectors)
        if sums is not None:
            survivors, everyone, top = sums
            psi = self.log_psi.exp()
            # Survivors and a part of the deaths: between survivors and everyone at risk.
            mixed = (1 - psi) * survivors[block] + psi * everyone[block]
            return mixed / (self.log_den - top).exp()
        parts = self.x + _log_parts(vectors)
        logs = torch.logaddexp(
            self.sets.over_survivors(parts)[block],
            self.log_psi + self.sets.over_deaths(parts)[block],
        )
        return _difference(logs - self.log_den)

    def by_event(self, means: Tensor) -> Tensor:
        """Return for each death the average of `means` over its event time's denominators."""
        block, size = self.sets.block, self.sets.n_blocks
        total = means.new_zeros(size, means.shape[1]).index_add_(0, block, means)
        return (total / self.sets.deaths[:, None])[block]

    def meet(self, means: Tensor, log_rate: Tensor) -> Tensor:
        """Sum `means` times the hazard over the times at risk of rows with these log-rates."""
        shares = self.share + _log_parts(means)
        return _difference(log_rate + self.over_range(shares, shares + self.log_psi))

    def product(self, vectors: Tensor) -> Tensor:
        return self.expected() * vectors - self.meet(self.means(vectors), self.x)


def _log_parts(values: Tensor) -> Tensor:
    """Return the logs of the positive and of the negative parts, side by side."""
    return torch.cat([values.clamp_min(0), (-values).clamp_min(0)], dim=1).log()


def _difference(log_parts: Tensor) -> Tensor:
    positive, negative = log_parts.exp().chunk(2, dim=1)
    return positive - negative
