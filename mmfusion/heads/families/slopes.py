"""First and second derivatives of log densities and tails in the predictors, in closed form."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmfusion.heads.families.special import LOG_ROOT_2PI, capped_exp, log_ndtr

__all__ = [
    "Slopes",
    "Term",
    "alike",
    "digamma_rise",
    "location_scale",
    "log_exp_gap_slopes",
    "logistic_slopes",
    "normal_slopes",
    "smallest_slopes",
    "trigamma",
]

Term = Literal["log_prob", "log_cdf", "log_sf"]
#: Derivatives of a row in each predictor, (n,) each, and second ones, the lower triangle of them.
Slopes = tuple[list[Tensor], list[list[Tensor]]]


def location_scale(z: Tensor, scale: Tensor, first: Tensor, second: Tensor, term: Term) -> Slopes:
    """Return derivatives in loc and log scale of a function of ``z = (y - loc) / scale``.

    Parameters
    ----------
    first, second : Tensor
        Its derivatives in z. Of a density the scale itself stands before it.
    """
    along = z * first
    by_scale = -along - 1.0 if term == "log_prob" else -along
    bent = z * second
    return (
        [-first / scale, by_scale],
        [[second / scale**2], [(bent + first) / scale, z * bent + along]],
    )


def normal_slopes(z: Tensor, term: Term) -> tuple[Tensor, Tensor]:
    """Return both derivatives of the standard normal's log density or tail in z."""
    if term == "log_prob":
        return -z, torch.full_like(z, -1.0)
    sign = 1.0 if term == "log_cdf" else -1.0
    x = sign * z
    ratio = torch.exp(-0.5 * x**2 - LOG_ROOT_2PI - log_ndtr(x))
    return sign * ratio, -ratio * (x + ratio)


def logistic_slopes(z: Tensor, term: Term) -> tuple[Tensor, Tensor]:
    """Return both derivatives of the standard logistic's log density or tail in z."""
    below, above = z.sigmoid(), (-z).sigmoid()
    both = below * above
    if term == "log_prob":
        return above - below, -2.0 * both
    return (above, -both) if term == "log_cdf" else (-below, -both)


def smallest_slopes(z: Tensor, term: Term) -> tuple[Tensor, Tensor]:
    """Return both derivatives of the smallest extreme value's log density or tail in z."""
    size = capped_exp(z)
    if term == "log_prob":
        return 1.0 - size, -size
    if term == "log_sf":
        return -size, -size
    return log_exp_gap_slopes(size)


def log_exp_gap_slopes(u: Tensor) -> tuple[Tensor, Tensor]:
    """Return both derivatives of ``log(1 - exp(-u))`` in ``log u``."""
    u = u.clamp_min(1e-300)
    ratio = u / torch.expm1(u.clamp(max=700.0))
    return ratio, torch.where(u > 700.0, 0.0, ratio * (1.0 - u - ratio))


def trigamma(x: Tensor) -> Tensor:
    """Return the second derivative of the log gamma function."""
    return torch.special.polygamma(1, x)


def alike(y: Tensor, size: Tensor) -> bool:
    """Return whether counts have one size, and are few enough to look up what follows from both."""
    few = y.numel() > 0 and y.numel() > float(y.max())
    return few and bool((size == size.flatten()[0]).all())


def digamma_rise(y: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return what first and second derivative of lgamma rise by from `size` to y + `size`.

    Of counts y, looked up where all rows have one size.
    """
    if alike(y, size):
        steps = torch.arange(int(y.max()) + 1, dtype=torch.float64) + size[0]
        first, second = torch.digamma(steps), trigamma(steps)
        place = y.long()
        return (first - first[0])[place], (second - second[0])[place]
    return (
        torch.digamma(y + size) - torch.digamma(size),
        trigamma(y + size) - trigamma(size),
    )
