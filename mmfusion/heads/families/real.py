"""Families over all numbers, with a location and a scale."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from scipy import special
from torch import Tensor
from torch.nn.functional import logsigmoid

from mmfusion.heads.families.base import Family
from mmfusion.heads.families.slopes import (
    Slopes,
    Term,
    location_scale,
    logistic_slopes,
    normal_slopes,
    smallest_slopes,
)
from mmfusion.heads.families.special import (
    LOG_ROOT_2PI,
    capped_exp,
    log_exp_gap,
    log_ndtr,
    log_t_cdf,
    stirling_gap,
)

__all__ = ["Gumbel", "Logistic", "Normal", "SmallestExtreme", "StudentT"]

Array = np.ndarray
EULER = float(np.euler_gamma)


def moments(y: Tensor, weight: Tensor) -> tuple[float, float]:
    """Return weighted mean and standard deviation, 1 of a constant."""
    share = weight / weight.sum()
    mean = (share * y).sum()
    spread = ((share * (y - mean) ** 2).sum()).sqrt()
    return float(mean), float(spread) or 1.0


class LocationScale(Family):
    """``y = loc + scale z`` with a standard variable z.

    A subclass gives z's log density, `standard`, log distribution functions and quantiles, and its
    mean and variance.
    """

    parameters: ClassVar[Any] = {"loc": "identity", "scale": "log"}
    standard_mean, standard_variance = 0.0, 1.0

    def standard(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def standard_cdf(self, z: Tensor) -> Tensor:
        raise NotImplementedError

    def standard_sf(self, z: Tensor) -> Tensor:  # of a symmetric z
        return self.standard_cdf(-z)

    def standard_quantile(self, p: Tensor) -> Tensor:
        raise NotImplementedError

    def standard_slopes(self, z: Tensor, term: Term) -> tuple[Tensor, Tensor] | None:
        """Return both derivatives of log density or tail in z, where they are known."""
        return None

    def slopes(self, term: Term, y: Tensor, *theta: Tensor) -> Slopes | None:
        loc, scale = theta
        z = (y - loc) / scale
        found = self.standard_slopes(z, term)
        return None if found is None else location_scale(z, scale, *found, term)

    def log_prob(self, y: Tensor, *theta: Tensor) -> Tensor:
        loc, scale = theta
        return self.standard((y - loc) / scale) - scale.log()

    def log_cdf(self, y: Tensor, *theta: Tensor) -> Tensor:
        loc, scale = theta
        return self.standard_cdf((y - loc) / scale)

    def log_sf(self, y: Tensor, *theta: Tensor) -> Tensor:
        loc, scale = theta
        return self.standard_sf((y - loc) / scale)

    def quantile(self, p: Tensor, *theta: Tensor) -> Tensor:
        loc, scale = theta
        return loc + scale * self.standard_quantile(p)

    def mean(self, *theta: Tensor) -> Tensor:
        loc, scale = theta
        return loc + scale * self.standard_mean

    def variance(self, *theta: Tensor) -> Tensor:
        return theta[1] ** 2 * self.standard_variance

    def start(self, y: Tensor, weight: Tensor) -> tuple[Any, ...]:
        mean, spread = moments(y, weight)
        scale = spread / self.standard_variance**0.5
        return mean - scale * self.standard_mean, scale


class Normal(LocationScale):
    """The normal distribution: mean `loc`, standard deviation `scale`."""

    def standard(self, z: Tensor) -> Tensor:
        return -0.5 * z**2 - LOG_ROOT_2PI

    def standard_cdf(self, z: Tensor) -> Tensor:
        return log_ndtr(z)

    def standard_quantile(self, p: Tensor) -> Tensor:
        return torch.special.ndtri(p)

    def standard_slopes(self, z: Tensor, term: Term) -> tuple[Tensor, Tensor]:
        return normal_slopes(z, term)

    def crps(self, y: Array, loc: Array, scale: Array) -> Array:
        z = (y - loc) / scale
        density = np.exp(-0.5 * z**2 - LOG_ROOT_2PI)
        return scale * (z * special.erf(z / np.sqrt(2)) + 2 * density - 1 / np.sqrt(np.pi))


class Logistic(LocationScale):
    """The logistic distribution: mean `loc`, variance ``scale^2 pi^2 / 3``."""

    standard_variance = float(np.pi**2 / 3)

    def standard(self, z: Tensor) -> Tensor:
        return logsigmoid(z) + logsigmoid(-z)

    def standard_cdf(self, z: Tensor) -> Tensor:
        return logsigmoid(z)

    def standard_quantile(self, p: Tensor) -> Tensor:
        return p.logit()

    def standard_slopes(self, z: Tensor, term: Term) -> tuple[Tensor, Tensor]:
        return logistic_slopes(z, term)

    def crps(self, y: Array, loc: Array, scale: Array) -> Array:
        z = (y - loc) / scale
        return scale * (z - 2 * special.log_expit(z) - 1)


class Gumbel(LocationScale):
    """Gumbel's distribution of a largest value: mode `loc`, mean ``loc + 0.577 scale``."""

    standard_mean, standard_variance = EULER, float(np.pi**2 / 6)

    def standard(self, z: Tensor) -> Tensor:
        return -z - capped_exp(-z)

    def standard_cdf(self, z: Tensor) -> Tensor:
        return -capped_exp(-z)

    def standard_sf(self, z: Tensor) -> Tensor:
        return log_exp_gap(-z)

    def standard_quantile(self, p: Tensor) -> Tensor:
        return -torch.log(-p.log())

    def standard_slopes(self, z: Tensor, term: Term) -> tuple[Tensor, Tensor]:
        other: dict[Term, Term] = {"log_cdf": "log_sf", "log_sf": "log_cdf"}
        first, second = smallest_slopes(-z, other.get(term, term))
        return -first, second

    def crps(self, y: Array, loc: Array, scale: Array) -> Array:
        z = (y - loc) / scale
        with np.errstate(over="ignore"):
            return scale * (2 * special.exp1(np.exp(-z)) - z + EULER - np.log(2))


class SmallestExtreme(LocationScale):
    """The distribution of a smallest value: its exponential is Weibull's."""

    standard_mean, standard_variance = -EULER, float(np.pi**2 / 6)

    def standard(self, z: Tensor) -> Tensor:
        return z - capped_exp(z)

    def standard_cdf(self, z: Tensor) -> Tensor:
        return log_exp_gap(z)

    def standard_sf(self, z: Tensor) -> Tensor:
        return -capped_exp(z)

    def standard_quantile(self, p: Tensor) -> Tensor:
        return torch.log(-torch.log1p(-p))

    def standard_slopes(self, z: Tensor, term: Term) -> tuple[Tensor, Tensor]:
        return smallest_slopes(z, term)


class StudentT(Family):
    """Student's t: location `loc`, `scale`, and degrees of freedom `df`.

    The mean is `loc` where ``df > 1``, the variance ``scale^2 df / (df - 2)`` where ``df > 2``.
    """

    parameters: ClassVar[Any] = {"loc": "identity", "scale": "log", "df": "log"}

    def log_prob(self, y: Tensor, *theta: Tensor) -> Tensor:
        loc, scale, df = theta
        a = 0.5 * df
        # lgamma(a + 1/2) - lgamma(a) - log(df) / 2, without the difference of two large numbers
        front = a * torch.log1p(0.5 / a) - 0.5 - 0.5 * float(np.log(2))
        front = front + stirling_gap(a + 0.5) - stirling_gap(a) - 0.5 * float(np.log(np.pi))
        z = (y - loc) / scale
        return front - (a + 0.5) * torch.log1p(z**2 / df) - scale.log()

    def log_cdf(self, y: Tensor, *theta: Tensor) -> Tensor:
        loc, scale, df = theta
        return log_t_cdf((y - loc) / scale, df.log())

    def log_sf(self, y: Tensor, *theta: Tensor) -> Tensor:
        return self.log_cdf(2 * theta[0] - y, *theta)

    def quantile(self, p: Tensor, *theta: Tensor) -> Tensor:
        loc, scale, df = theta
        return loc + scale * torch.from_numpy(np.asarray(special.stdtrit(df.numpy(), p.numpy())))

    def mean(self, *theta: Tensor) -> Tensor:
        loc, _, df = theta
        return torch.where(df > 1, loc, torch.nan)

    def variance(self, *theta: Tensor) -> Tensor:
        _, scale, df = theta
        return torch.where(df > 2, scale**2 * df / (df - 2).clamp_min(1e-300), torch.inf)

    def start(self, y: Tensor, weight: Tensor) -> tuple[Any, ...]:
        mean, spread = moments(y, weight)
        return mean, 0.8 * spread, 6.0
