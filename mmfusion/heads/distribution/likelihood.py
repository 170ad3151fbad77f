"""The log-likelihood of values and intervals under a family."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mmfusion.heads.distribution.target import BETWEEN, EXACT, LEFT, RIGHT, DistributionTarget
from mmfusion.heads.families import Family
from mmfusion.heads.families.special import log_minus_expm1

__all__ = ["constant_model", "log_likelihood"]

#: A Newton step of the constant model is halved so often, and there are so many.
HALVINGS, STEPS = 40, 200


def log_likelihood(family: Family, theta: tuple[Tensor, ...], target: DistributionTarget) -> Tensor:
    """Return the log-likelihood of each row, shape (n,).

    A value has the density there, an interval ``(lower, upper]`` its probability, and both are
    divided by the probability of more than `entry` (left truncation).
    """
    if target.exact:
        return family.log_prob(target.lower, *theta)
    found = torch.zeros_like(target.lower)
    for kind, term in (
        (EXACT, lambda at, own: family.log_prob(target.lower[at], *own)),
        (RIGHT, lambda at, own: family.log_sf(target.lower[at], *own)),
        (LEFT, lambda at, own: family.log_cdf(target.upper[at], *own)),
        (BETWEEN, lambda at, own: _between(family, target.lower[at], target.upper[at], own)),
    ):
        rows = torch.nonzero(target.kind == kind)[:, 0]
        if len(rows):
            found = found.index_add(0, rows, term(rows, tuple(t[rows] for t in theta)))
    rows = torch.nonzero(target.late)[:, 0]
    if len(rows):
        beyond = family.log_sf(target.entry[rows], *(t[rows] for t in theta))
        found = found.index_add(0, rows, -beyond)
    return found


def _between(family: Family, lower: Tensor, upper: Tensor, theta: tuple[Tensor, ...]) -> Tensor:
    """Return the log probability of (lower, upper], from the nearer tail of both."""
    below, upto = family.log_cdf(lower, *theta), family.log_cdf(upper, *theta)
    over, beyond = family.log_sf(lower, *theta), family.log_sf(upper, *theta)
    in_upper = over.detach() < upto.detach()
    ahead = torch.where(in_upper, over, upto)
    gap = torch.where(in_upper, over - beyond, upto - below)
    return ahead + log_minus_expm1(gap.clamp_min(1e-300))


def constant_model(
    derivatives: Callable[[Tensor], tuple[float, Tensor, Tensor]], start: Tensor
) -> Tensor:
    """Return the predictors (K,) of the lowest loss, by damped Newton steps.

    Where the Hessian is indefinite its eigenvalues count with their sizes.

    Parameters
    ----------
    derivatives : callable
        Predictors (K,) -> loss, gradient (K,), Hessian (K, K).
    start : Tensor, shape (K,)
    """
    at = start
    value, gradient, hessian = derivatives(at)
    for _ in range(STEPS):
        if not bool(torch.isfinite(hessian).all()):
            break
        sizes, axes = torch.linalg.eigh(hessian)
        sizes = sizes.abs().clamp_min(1e-10 * float(sizes.abs().max()) + 1e-300)
        step = -axes @ ((axes.T @ gradient) / sizes)
        step = step * min(1.0, 5.0 / float(step.abs().max().clamp_min(1e-300)))
        if float(-(gradient @ step)) < 1e-13:  # the loss is a mean
            break
        for _ in range(HALVINGS):
            new = derivatives(at + step)
            if new[0] <= value:
                break
            step = step / 2
        else:
            break
        at, (value, gradient, hessian) = at + step, new
    return at
