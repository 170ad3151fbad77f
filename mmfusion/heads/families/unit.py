"""Shares: numbers between 0 and 1."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from scipy import special
from torch import Tensor

from mmfusion.heads.families.base import Family
from mmfusion.heads.families.real import moments
from mmfusion.heads.families.slopes import Slopes, Term, gamma_slopes
from mmfusion.heads.families.special import LOG_ROOT_2PI, log_beta_cdf, stirling_gap

__all__ = ["Beta"]

Array = np.ndarray
#: A precision beyond this is a point, as far as differences of 1e-16 tell.
MOST = 1e12
#: Up to this precision log gamma functions are small numbers, which differ without loss.
SMALL = 50.0
#: A precision beyond this leaves too few digits to differences of digamma functions.
LARGE = 1e5


class Beta(Family):
    """The beta: `mean`, and `precision` with variance ``mean (1 - mean) / (1 + precision)``."""

    parameters: ClassVar[Any] = {"mean": "logit", "precision": "log"}
    support = (0.0, 1.0)
    ratio = "odds ratio of means"

    def log_prob(self, y: Tensor, *theta: Tensor) -> Tensor:
        mean, precision = theta
        a, b = mean * precision, (1 - mean) * precision
        if not bool((precision > SMALL).any()):
            front = torch.lgamma(precision) - torch.lgamma(a) - torch.lgamma(b)
            return front + (a - 1) * y.log() + (b - 1) * torch.log1p(-y)
        front = 0.5 * (a.log() + b.log() - precision.log()) - LOG_ROOT_2PI
        front = front + stirling_gap(precision) - stirling_gap(a) - stirling_gap(b)
        far = a * (y.log() - mean.log()) + b * (torch.log1p(-y) - torch.log1p(-mean))
        return front + far - y.log() - torch.log1p(-y)

    def slopes(self, term: Term, y: Tensor, *theta: Tensor) -> Slopes | None:
        mean, size = theta
        if term != "log_prob" or float(size.max()) > LARGE:
            return None
        rest = 1 - mean
        a, b = mean * size, rest * size
        (up, up_bent), (down, down_bent) = gamma_slopes(a), gamma_slopes(b)
        rise, curve = gamma_slopes(size)
        up, down = y.log() - up, torch.log1p(-y) - down
        step = size * mean * rest
        gap = step * (up - down)
        total = size * (rise + mean * up + rest * down)
        by_mean = gap * (1 - 2 * mean) - step**2 * (up_bent + down_bent)
        mixed = gap - step * size * (mean * up_bent - rest * down_bent)
        curve = curve - mean**2 * up_bent - rest**2 * down_bent
        return [gap, total], [[by_mean], [mixed, total + size**2 * curve]]

    def _tail(self, y: Tensor, theta: tuple[Tensor, ...], *, upper: bool) -> Tensor:
        mean, precision = theta[0], theta[1].clamp(max=MOST)
        share, size = mean.detach().numpy(), precision.detach().numpy()
        # Over so much of its logit the distribution extends, and no less of log a and log b.
        width = np.minimum(1.0, 1 / np.sqrt(size * share * (1 - share) + 1))
        a, b = mean.log() + precision.log(), torch.log1p(-mean) + precision.log()
        return log_beta_cdf(y.logit(), a, b, width, upper=upper)

    def log_cdf(self, y: Tensor, *theta: Tensor) -> Tensor:
        return self._tail(y, theta, upper=False)

    def log_sf(self, y: Tensor, *theta: Tensor) -> Tensor:
        return self._tail(y, theta, upper=True)

    def quantile(self, p: Tensor, *theta: Tensor) -> Tensor:
        mean, precision = (value.numpy() for value in theta)
        a, b, share = mean * precision, (1 - mean) * precision, p.numpy()
        found = special.betaincinv(a, b, share)
        # SciPy's has gaps far down the lower tail, where the first term of its series is exact.
        first = np.exp((np.log(share) + np.log(a) + special.betaln(a, b)) / a)
        return torch.from_numpy(np.where(np.isnan(found), first, found))

    def crps(self, y: Array, mean: Array, precision: Array) -> Array:
        a, b = mean * precision, (1 - mean) * precision
        own, next_ = special.betainc(a, b, y), special.betainc(a + 1, b, y)
        apart = np.exp(special.betaln(2 * a, 2 * b) - 2 * special.betaln(a, b)) / a
        return y * (2 * own - 1) + mean * (1 - 2 * next_ - 2 * apart)

    def mean(self, *theta: Tensor) -> Tensor:
        return theta[0]

    def variance(self, *theta: Tensor) -> Tensor:
        mean, precision = theta
        return mean * (1 - mean) / (1 + precision)

    def start(self, y: Tensor, weight: Tensor) -> tuple[Any, ...]:
        mean, spread = moments(y, weight)
        return mean, max(mean * (1 - mean) / spread**2 - 1, 0.1)
