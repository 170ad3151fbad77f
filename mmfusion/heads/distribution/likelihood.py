"""The log-likelihood of values and intervals under a family."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mmfusion.heads.distribution.target import (
    BETWEEN,
    EXACT,
    LATE,
    LEFT,
    RIGHT,
    DistributionTarget,
)
from mmfusion.heads.families import Family
from mmfusion.heads.families.slopes import Slopes, Term
from mmfusion.heads.families.special import log_minus_expm1

__all__ = ["closed_derivatives", "constant_model", "log_likelihood"]

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
        rows = target.rows_of(kind)
        if len(rows):
            found = found.index_add(0, rows, term(rows, tuple(t[rows] for t in theta)))
    rows = target.rows_of(LATE)
    if len(rows):
        beyond = family.log_sf(target.entry[rows], *(t[rows] for t in theta))
        found = found.index_add(0, rows, -beyond)
    return found


def closed_derivatives(
    family: Family, eta: Tensor, unit: float, target: DistributionTarget
) -> tuple[Tensor, Tensor] | None:
    """Return the derivatives of `log_likelihood` in the predictors, where all are in closed form.

    Returns
    -------
    first : Tensor, shape (n, K)
    second : Tensor, shape (n, K, K)
        Each pair of predictors is contiguous over the rows.
    """
    if not family.moves(eta, unit) or len(target.rows_of(BETWEEN)) > 0:
        return None
    n, k = eta.shape
    theta = family.theta(eta, unit)
    parts: list[Slopes] = []
    places: list[Tensor] = []
    terms: tuple[tuple[Term, int, Tensor], ...] = (
        ("log_prob", EXACT, target.lower),
        ("log_sf", RIGHT, target.lower),
        ("log_cdf", LEFT, target.upper),
        ("log_sf", LATE, target.entry),
    )
    late: tuple[Slopes, Tensor] | None = None
    for term, kind, y in terms[:1] if target.exact else terms:
        rows = None if target.exact else target.rows_of(kind)
        if rows is None:
            found = family.slopes(term, y, *theta)
        elif len(rows):
            found = family.slopes(term, y[rows], *(t[rows] for t in theta))
        else:
            continue
        if found is None:
            return None
        if rows is None:
            parts.append(found)
        elif kind == LATE:
            late = found, rows
        else:
            parts.append(found)
            places.append(rows)
    first, second = _together(parts, places, n, k)
    if late is not None:
        found, rows = late
        for i, (own, row) in enumerate(zip(*found, strict=True)):
            first[i, rows] -= own
            for j, value in enumerate(row):
                second[i, j, rows] -= value
    for i, link in enumerate(family.parameters.values()):
        if link == "identity" and unit != 1.0:
            first[i] *= unit
            second[i] *= unit
            second[:, i] *= unit
    for i in range(k):
        second[:i, i] = second[i, :i]
    return first.T, second.permute(2, 0, 1)


def _together(parts: list[Slopes], places: list[Tensor], n: int, k: int) -> tuple[Tensor, Tensor]:
    """Return derivatives of kinds of rows as those of all, (K, n) and the lower half of (K, K, n).

    Of rows of which nothing is known they are 0.
    """
    first = torch.zeros((k, n), dtype=torch.float64)
    second = torch.zeros((k, k, n), dtype=torch.float64)
    if not places:
        for i, (own, row) in enumerate(zip(*parts[0], strict=True) if parts else ()):
            first[i] = own
            for j, value in enumerate(row):
                second[i, j] = value
        return first, second
    # A number is fetched for each row, from those of the kinds one after the other.
    order = torch.cat(places)
    place = torch.full((n,), len(order))
    place[order] = torch.arange(len(order))
    nothing = torch.zeros(1, dtype=torch.float64)

    def fetched(pieces: list[Tensor], out: Tensor) -> None:
        torch.index_select(torch.cat([*pieces, nothing]), 0, place, out=out)

    for i in range(k):
        fetched([part[0][i] for part in parts], first[i])
        for j in range(len(parts[0][1][i])):
            fetched([part[1][i][j] for part in parts], second[i, j])
    return first, second


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
