"""Shares: numbers between 0 and 1."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from scipy import special
from torch import Tensor

from mmfusion.heads.families.base import Family
from mmfusion.heads.families.real import moments
from mmfusion.heads.families.special import LOG_ROOT_2PI, log_beta_cdf, stirling_gap

__all__ = ["Beta"]

#: A precision beyond this is a point, as far as differences of 1e-16 tell.
MOST = 1e12


class Beta(Family):
    """The beta: `mean`, and `precision` with variance ``mean (1 - mean) / (1 + precision)``."""

    parameters: ClassVar[Any] = {"mean": "logit", "precision": "log"}
    support = (0.0, 1.0)
    ratio = "odds ratio of means"

    def log_prob(self, y: Tensor, *theta: Tensor) -> Tensor:
        mean, precision = theta
        a, b = mean * precision, (1 - mean) * precision
        front = 0.5 * (a.log() + b.log() - precision.log()) - LOG_ROOT_2PI
        front = front + stirling_gap(precision) - stirling_gap(a) - stirling_gap(b)
        far = a * (y.log() - mean.log()) + b * (torch.log1p(-y) - torch.log1p(-mean))
        return front + far - y.log() - torch.log1p(-y)

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

    def mean(self, *theta: Tensor) -> Tensor:
        return theta[0]

    def variance(self, *theta: Tensor) -> Tensor:
        mean, precision = theta
        return mean * (1 - mean) / (1 + precision)

    def start(self, y: Tensor, weight: Tensor) -> tuple[Any, ...]:
        mean, spread = moments(y, weight)
        return mean, max(mean * (1 - mean) / spread**2 - 1, 0.1)
