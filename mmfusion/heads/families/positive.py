"""Families over positive numbers: times, prices, sizes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from scipy import special
from torch import Tensor

from mmfusion.heads.families.base import Family
from mmfusion.heads.families.real import (
    LocationScale,
    Logistic,
    Normal,
    SmallestExtreme,
    moments,
)
from mmfusion.heads.families.slopes import Slopes, Term, gamma_slopes, log_exp_gap_slopes
from mmfusion.heads.families.special import (
    LOG_ROOT_2PI,
    log_add,
    log_exp_gap,
    log_gamma_cdf,
    log_minus_expm1,
    log_ndtr,
    stirling_gap,
)

__all__ = ["Exponential", "Gamma", "InverseGaussian", "LogLogistic", "LogNormal", "Weibull"]


Array = np.ndarray
#: A shape beyond this leaves too few digits to differences of digamma functions.
LARGE = 1e5


class Positive(Family):
    """Numbers above 0."""

    support = (0.0, np.inf)


class OnLog(Positive):
    """``log y = loc + scale z``: accelerated failure time (`loc` moves time by a factor)."""

    parameters: ClassVar[Any] = LocationScale.parameters
    units = "log y"
    ratio = "time ratio"
    of_log: ClassVar[LocationScale]

    def log_prob(self, y: Tensor, *theta: Tensor) -> Tensor:
        return self.of_log.log_prob(y.log(), *theta) - y.log()

    def log_cdf(self, y: Tensor, *theta: Tensor) -> Tensor:
        return self.of_log.log_cdf(y.log(), *theta)

    def log_sf(self, y: Tensor, *theta: Tensor) -> Tensor:
        return self.of_log.log_sf(y.log(), *theta)

    def quantile(self, p: Tensor, *theta: Tensor) -> Tensor:
        return self.of_log.quantile(p, *theta).exp()

    def slopes(self, term: Term, y: Tensor, *theta: Tensor) -> Slopes | None:
        return self.of_log.slopes(term, y.log(), *theta)

    def start(self, y: Tensor, weight: Tensor) -> tuple[Any, ...]:
        return self.of_log.start(y.log(), weight)

    def moment(self, order: float, loc: Tensor, scale: Tensor) -> Tensor:
        """Return the mean of a power of y."""
        raise NotImplementedError

    def mean(self, *theta: Tensor) -> Tensor:
        return self.moment(1.0, *theta)

    def variance(self, *theta: Tensor) -> Tensor:
        return self.moment(2.0, *theta) - self.mean(*theta) ** 2


class LogNormal(OnLog):
    """The log-normal: ``log y`` has mean `loc` and standard deviation `scale`."""

    of_log = Normal()

    def moment(self, order: float, loc: Tensor, scale: Tensor) -> Tensor:
        return torch.exp(order * loc + 0.5 * (order * scale) ** 2)

    def crps(self, y: Array, loc: Array, scale: Array) -> Array:
        z = (np.log(y) - loc) / scale
        far = special.ndtr(z - scale) - special.ndtr(-scale / np.sqrt(2))
        return y * special.erf(z / np.sqrt(2)) - 2 * np.exp(loc + 0.5 * scale**2) * far


class LogLogistic(OnLog):
    """The log-logistic: median ``exp(loc)``, shape ``1 / scale``; no mean where ``scale >= 1``."""

    of_log = Logistic()

    def moment(self, order: float, loc: Tensor, scale: Tensor) -> Tensor:
        angle = np.pi * order * scale
        known = angle < np.pi
        held = torch.where(known, angle, 1.0)
        return torch.where(known, torch.exp(order * loc) * held / held.sin(), torch.inf)


class Weibull(OnLog):
    """Weibull's, as R's survreg has it: scale ``exp(loc)``, shape ``1 / scale``."""

    of_log = SmallestExtreme()

    def moment(self, order: float, loc: Tensor, scale: Tensor) -> Tensor:
        return torch.exp(order * loc + torch.lgamma(1 + order * scale))

    def crps(self, y: Array, loc: Array, scale: Array) -> Array:
        size = np.exp((np.log(y) - loc) / scale)
        mean = np.exp(loc + special.gammaln(1 + scale))
        below = mean * special.gammainc(1 + scale, size)  # the mean's part up to y
        return y * (1 - 2 * np.exp(-size)) + mean * 0.5**scale - 2 * below


class Exponential(Positive):
    """The exponential: hazard `rate`, mean ``1 / rate``."""

    parameters: ClassVar[Any] = {"rate": "log"}
    ratio = "hazard ratio"

    def log_prob(self, y: Tensor, *theta: Tensor) -> Tensor:
        return theta[0].log() - theta[0] * y

    def log_cdf(self, y: Tensor, *theta: Tensor) -> Tensor:
        return log_exp_gap(theta[0].log() + y.log())

    def log_sf(self, y: Tensor, *theta: Tensor) -> Tensor:
        return -theta[0] * y

    def slopes(self, term: Term, y: Tensor, *theta: Tensor) -> Slopes:
        size = theta[0] * y
        if term == "log_cdf":
            first, second = log_exp_gap_slopes(size)
        else:
            first, second = (1.0 - size if term == "log_prob" else -size), -size
        return [first], [[second]]

    def quantile(self, p: Tensor, *theta: Tensor) -> Tensor:
        return -torch.log1p(-p) / theta[0]

    def crps(self, y: Array, rate: Array) -> Array:
        return y + (2 * np.expm1(-rate * y) + 0.5) / rate

    def mean(self, *theta: Tensor) -> Tensor:
        return 1 / theta[0]

    def variance(self, *theta: Tensor) -> Tensor:
        return 1 / theta[0] ** 2

    def start(self, y: Tensor, weight: Tensor) -> tuple[Any, ...]:
        return (1 / moments(y, weight)[0],)


class Gamma(Positive):
    """The gamma: `mean`, and `dispersion` with variance ``dispersion mean^2``."""

    parameters: ClassVar[Any] = {"mean": "log", "dispersion": "log"}
    ratio = "ratio of means"

    def log_prob(self, y: Tensor, *theta: Tensor) -> Tensor:
        mean, dispersion = theta
        u, shape = y.log() - mean.log(), 1 / dispersion
        front = 0.5 * shape.log() - LOG_ROOT_2PI - stirling_gap(shape)
        return front + shape * (u - torch.expm1(u)) - y.log()

    def slopes(self, term: Term, y: Tensor, *theta: Tensor) -> Slopes | None:
        mean, dispersion = theta
        shape, w = 1 / dispersion, y / mean
        if term != "log_prob" or float(shape.max()) > LARGE:
            return None
        rise, curve = gamma_slopes(shape)
        by_shape = shape * (shape.log() - rise + 1 + w.log() - w)
        bent = by_shape + shape * (1 - shape * curve)
        far = shape * (w - 1)
        return [far, -by_shape], [[-shape * w], [-far, bent]]

    def log_cdf(self, y: Tensor, *theta: Tensor) -> Tensor:
        mean, dispersion = theta
        return log_gamma_cdf(y.log() - mean.log(), -dispersion.log())

    def log_sf(self, y: Tensor, *theta: Tensor) -> Tensor:
        mean, dispersion = theta
        return log_gamma_cdf(y.log() - mean.log(), -dispersion.log(), upper=True)

    def quantile(self, p: Tensor, *theta: Tensor) -> Tensor:
        mean, dispersion = theta
        found = special.gammaincinv(1 / dispersion.numpy(), p.numpy())
        return torch.from_numpy(np.asarray(found)) * mean * dispersion

    def crps(self, y: Array, mean: Array, dispersion: Array) -> Array:
        shape = 1 / dispersion
        at = shape * y / mean
        own, next_ = special.gammainc(shape, at), special.gammainc(shape + 1, at)
        apart = mean / shape * np.exp(-special.betaln(0.5, shape))
        return y * (2 * own - 1) - mean * (2 * next_ - 1) - apart

    def mean(self, *theta: Tensor) -> Tensor:
        return theta[0]

    def variance(self, *theta: Tensor) -> Tensor:
        return theta[1] * theta[0] ** 2

    def start(self, y: Tensor, weight: Tensor) -> tuple[Any, ...]:
        mean, spread = moments(y, weight)
        return mean, (spread / mean) ** 2


class InverseGaussian(Positive):
    """The inverse Gaussian: `mean`, and `dispersion` with variance ``dispersion mean^3``."""

    parameters: ClassVar[Any] = {"mean": "log", "dispersion": "log"}
    ratio = "ratio of means"

    def log_prob(self, y: Tensor, *theta: Tensor) -> Tensor:
        mean, dispersion = theta
        square = (y / mean - 1) ** 2 / y / dispersion
        return -0.5 * (square + dispersion.log()) - 1.5 * y.log() - LOG_ROOT_2PI

    def slopes(self, term: Term, y: Tensor, *theta: Tensor) -> Slopes | None:
        if term != "log_prob":
            return None
        w, size = y / theta[0], 1 / (y * theta[1])
        half = 0.5 * size * (w - 1) ** 2
        far = size * w * (w - 1)
        return [far, half - 0.5], [[size * w * (1 - 2 * w)], [-far, -half]]

    def _ends(self, y: Tensor, mean: Tensor, dispersion: Tensor) -> tuple[Tensor, Tensor]:
        """Return a, of which Phi(a) is the first term, and the log of the second one."""
        root = (dispersion * y).rsqrt()
        a, b = root * (y / mean - 1), root * (y / mean + 1)
        return a, log_ndtr(-b) + 0.5 * (b - a) * (b + a)

    def log_cdf(self, y: Tensor, *theta: Tensor) -> Tensor:
        a, second = self._ends(y, *theta)
        return log_add(log_ndtr(a), second)

    def log_sf(self, y: Tensor, *theta: Tensor) -> Tensor:
        a, second = self._ends(y, *theta)
        first = log_ndtr(-a)
        return first + log_minus_expm1((first - second).clamp_min(1e-15))

    def mean(self, *theta: Tensor) -> Tensor:
        return theta[0]

    def variance(self, *theta: Tensor) -> Tensor:
        return theta[1] * theta[0] ** 3

    def start(self, y: Tensor, weight: Tensor) -> tuple[Any, ...]:
        mean, spread = moments(y, weight)
        return mean, spread**2 / mean**3
