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
    "gamma_slopes",
    "location_scale",
    "log_exp_gap_slopes",
    "logistic_slopes",
    "normal_slopes",
    "smallest_slopes",
]

#: The recurrence of `gamma_slopes`, and the Bernoulli numbers 2, 4, ... of its series.
STEPS = 10
#: Numbers that are worked on together, in a processor's cache.
CACHED = 1 << 14
BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)

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


def gamma_slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return first and second derivative of the log gamma function, to rounding.

    By recurrence from x + 10, where seven terms of the asymptotic series are exact (Abramowitz &
    Stegun 1964, 6.3.18 and 6.4.12). PyTorch's own second derivative has nine digits.
    """
    parts = [_gamma_slopes(part) for part in x.flatten().split(CACHED)]
    first, second = (torch.cat(each).reshape(x.shape) for each in zip(*parts, strict=True))
    return first, second


def _gamma_slopes(x: Tensor) -> tuple[Tensor, Tensor]:
    far = x + STEPS
    u = far.reciprocal()
    square = u * u
    even, odd = torch.zeros_like(x), torch.zeros_like(x)
    for k, bernoulli in reversed(list(enumerate(BERNOULLI, 1))):
        even.add_(bernoulli / (2 * k)).mul_(square)
        odd.add_(bernoulli).mul_(square)
    first, second = far.log_().sub_(even).sub_(u, alpha=0.5), odd.add_(1).mul_(u).add_(square / 2)
    for k in range(STEPS):
        part = torch.add(x, k, out=u).reciprocal_()
        first -= part
        second.addcmul_(part, part)
    return first, second


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
        first, second = gamma_slopes(steps)
        place = y.long()
        return (first - first[0])[place], (second - second[0])[place]
    (upto, upto_bent), (before, before_bent) = gamma_slopes(y + size), gamma_slopes(size)
    return upto - before, upto_bent - before_bent
