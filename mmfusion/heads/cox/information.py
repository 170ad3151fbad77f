"""The observed information of the coefficients of a Cox model."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from scipy.linalg import blas
from torch import Tensor

from mmfusion.heads.cox.denominators import Denominators
from mmfusion.heads.cox.loss import Reduction, check_arguments, narrow, prefix_sums, reduced
from mmfusion.heads.cox.plan import CoxPlan, Ties, TiesMethod
from mmfusion.heads.cox.risk_sets import split_cumsum

__all__ = ["cox_information", "cox_informations"]

#: Numbers in a piece of the design: a few such pieces fit in a core's cache.
PIECE = 1 << 17

#: Rows in a piece at least: each costs a few operations.
SMALLEST = 512


def cox_information(
    eta: Tensor,
    plan: CoxPlan,
    design: Tensor,
    ties: TiesMethod = "efron",
    reduction: Reduction = "mean",
    time_weight: Tensor | None = None,
) -> Tensor:
    """Return ``X' H X``: the observed information of the coefficients of ``eta = X beta + ...``.

    A sum over the denominators of the variance of a row of X under ``p_kl`` (see
    `cox_hessian_vector`): the squares that rows expect, less the squares of the means. Exact, in
    O(n p^2): two matrix products. Where risk sets are nested, with little memory beside X.

    Parameters
    ----------
    design : Tensor, shape (n, p)
    time_weight : Tensor, shape (m,), optional
        Not negative; the variances at each event time, in ascending order of (stratum, time),
        count this many times. With ``g(t)`` it is the information between a coefficient and its
        change along ``g``, with ``g(t)^2`` that of the change.

    Returns
    -------
    Tensor of float64, shape (p, p)
    """
    check_arguments(eta, plan, ties, reduction)
    eta, design = eta.detach(), design.detach().double()
    if plan.total == 0 or design.shape[1] == 0:
        return design.new_zeros(design.shape[1], design.shape[1])
    x = narrow(eta, plan) if time_weight is None else None
    if x is not None:
        information = _nested(x, plan, plan.ties if ties == "efron" else None, design)
    else:
        denominators = Denominators(eta, plan, ties, time_weight)
        # H does not see a constant; without it less cancels.
        rows = plan.sort(design - design.mean(0))
        means = denominators.means(rows)
        information = rows.T @ (denominators.expected() * rows)
        information -= means.T @ (denominators.omega[:, None] * means)
    return reduced((information + information.T) / 2, plan, reduction)


def cox_informations(
    eta: Tensor,
    plan: CoxPlan,
    design: Tensor,
    code: Tensor,
    n_groups: int,
    ties: TiesMethod = "efron",
    reduction: Reduction = "mean",
) -> Tensor:
    """Return the predictable variation of each group's score: shares of `cox_information`.

    ``sum_i sum_t r_i (x_i - xbar(t))(x_i - xbar(t))' dH(t)`` over the rows of a group and their
    times at risk; over all groups it is the information.

    Parameters
    ----------
    code : Tensor of int, shape (n,)
        The group of each row, from 0.
    n_groups : int

    Returns
    -------
    Tensor of float64, shape (n_groups, p, p)
    """
    check_arguments(eta, plan, ties, reduction)
    eta, design = eta.detach(), design.detach().double()
    p = design.shape[1]
    if plan.total == 0 or p == 0:
        return design.new_zeros(n_groups, p, p)
    denominators = Denominators(eta, plan, ties)
    rows, code = plan.sort(design - design.mean(0)), plan.sort(code)
    means = denominators.means(rows)
    expected, met = denominators.expected(), denominators.meet(means, denominators.x)
    found = []
    for group in range(n_groups):
        mine = (code == group).double()[:, None]
        x, at_risk = rows * mine, denominators.means(mine)  # the group's share of each risk set
        crossed = x.T @ met
        squares = means.T @ (denominators.omega[:, None] * at_risk * means)
        found.append(x.T @ (expected * x) - crossed - crossed.T + squares)
    return reduced(torch.stack(found), plan, reduction)


def _nested(x: Tensor, plan: CoxPlan, ties: Ties | None, design: Tensor) -> Tensor:
    """Return the information where risk sets are prefixes: one pass over the rows, in pieces.

    With ``A_k`` and ``B_k`` the sums of ``r x`` over the survivors of an event time and over all at
    risk, the means are ``((1 - psi) A_k + psi B_k) / den_kl``: the sum over l of their squares is a
    quadratic form in the two, which are all that is gathered.
    """
    expected = prefix_sums(x, plan, ties)[1].add_(plan.event_weight)
    r = x.exp()
    if plan.weight is not None:
        r *= plan.weight
    center = design.mean(0)
    information = design.new_zeros(design.shape[1], design.shape[1])
    blocks = _Blocks(r, plan, ties)
    carry = torch.zeros_like(center)
    for start, stop, fresh in _pieces(plan, blocks.last, max(SMALLEST, PIECE // design.shape[1])):
        rows = design[start:stop]
        if plan.order is not None:
            rows = design.index_select(0, plan.order[start:stop])
        rows = rows - center
        sums = torch.empty(len(rows) + 1, len(center), dtype=rows.dtype, device=rows.device)
        sums[0] = 0.0 if fresh else carry
        torch.mul(rows, r[start:stop, None], out=sums[1:])
        sums[1] += sums[0]
        torch.cumsum(sums[1:], 0, out=sums[1:])
        carry = sums[-1].clone()
        _add_squares(information, rows, expected[start:stop])
        blocks.subtract(information, sums, start, stop)
    return information.tril() + information.tril(-1).T


def _add_squares(information: Tensor, rows: Tensor, weight: Tensor, sign: float = 1.0) -> None:
    """Add ``rows' diag(weight) rows`` to the lower triangle: half of what the whole takes."""
    half = rows * weight.clamp_min(0.0).sqrt()[:, None]
    if information.is_cuda:
        information.addmm_(half.T, half, alpha=sign)
        return
    # The transpose of a C-ordered triangle is the other one of a Fortran-ordered matrix.
    blas.dsyrk(sign, half.numpy().T, beta=1.0, c=information.numpy().T, overwrite_c=True)


class _Blocks:
    """The squares of the means of each event time, in order of their place among the rows."""

    def __init__(self, r: Tensor, plan: CoxPlan, ties: Ties | None) -> None:
        sums = split_cumsum(r, plan.splits[0] if plan.splits else None)
        self.last = plan.last[1:].flip(0).long()
        self.at_risk = sums[self.last]
        weight = plan.block_weight if ties is None else ties.single_weight
        self.both = weight[1:].flip(0).clone()  # of B B', with B over the sum at risk
        self.tied = self.before = self.last[:0]
        if ties is None:
            return
        place = len(self.last) - ties.block  # in this order
        alive = sums[ties.before] * ties.survived
        part = alive / self.at_risk[place]
        share = part + ties.psi * (1 - part)  # den / at risk
        weight = ties.omega / share.square()
        self.both.index_add_(0, place, weight * ties.psi.square())
        size = len(self.last)
        only = torch.zeros_like(self.both).index_add_(
            0, place, weight * (1 - ties.psi).square() * ties.survived
        )
        cross = torch.zeros_like(self.both).index_add_(
            0, place, weight * ties.psi * (1 - ties.psi) * ties.survived
        )
        before = self.last.new_zeros(size).index_copy_(0, place, ties.before)
        self.tied = place.unique()
        self.before, self.only, self.cross = before[self.tied], only[self.tied], cross[self.tied]

    def subtract(self, information: Tensor, sums: Tensor, start: int, stop: int) -> None:
        """Take the squares of the means of the event times in a piece off the lower triangle."""
        low, high = torch.searchsorted(self.last, torch.tensor([start, stop])).tolist()
        if low == high:
            return
        means = sums.index_select(0, self.last[low:high] - (start - 1))
        means /= self.at_risk[low:high, None]
        _add_squares(information, means, self.both[low:high], -1.0)
        first, end = torch.searchsorted(self.tied, torch.tensor([low, high])).tolist()
        if first == end:
            return
        tied = self.tied[first:end]
        alive = sums.index_select(0, (self.before[first:end] - (start - 1)).clamp_min(0))
        alive /= self.at_risk[tied, None]
        _add_squares(information, alive, self.only[first:end], -1.0)
        cross = alive.T @ (means[tied - low] * self.cross[first:end, None])
        information -= cross + cross.T


def _pieces(plan: CoxPlan, last: Tensor, size: int) -> Iterator[tuple[int, int, bool]]:
    """Yield start and stop of pieces that no tied deaths straddle, and whether a stratum begins."""
    stop = 0
    for rows in [len(plan)] if plan.splits is None else plan.splits[0]:
        start, end, fresh = stop, stop + rows, True
        while start < end:
            stop = end
            if start + size < end:
                after = int(torch.searchsorted(last, start + size))
                stop = min(int(last[after]) + 1, end) if after < len(last) else end
            yield start, stop, fresh
            start, fresh = stop, False
