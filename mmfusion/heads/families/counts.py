"""Counts, with and without more zeros than they should have, and yes or no."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy import special
from torch import Tensor

from mmfusion.heads.families.base import Family
from mmfusion.heads.families.labels import Labelled, names_of, outcome_column, shown
from mmfusion.heads.families.real import moments
from mmfusion.heads.families.slopes import Slopes, Term, alike, digamma_rise
from mmfusion.heads.families.special import log_add, log_beta_cdf, log_gamma_cdf, stirling_gap

__all__ = [
    "Bernoulli",
    "NegativeBinomial",
    "Poisson",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
]


Array = np.ndarray
#: A size (1 / dispersion) beyond this leaves too few digits to differences of digamma functions.
LARGE = 1e5


class Count(Family):
    """Whole numbers from 0 on; the location is their `rate`."""

    support = (0.0, np.inf)
    discrete = True
    ratio = "rate ratio"


class Poisson(Count):
    """Poisson's: mean and variance are the `rate`."""

    parameters: ClassVar[Any] = {"rate": "log"}

    def log_prob(self, y: Tensor, *theta: Tensor) -> Tensor:
        return y * theta[0].log() - theta[0] - torch.lgamma(y + 1)

    def slopes(self, term: Term, y: Tensor, *theta: Tensor) -> Slopes | None:
        return None if term != "log_prob" else ([y - theta[0]], [[-theta[0]]])

    def crps(self, y: Array, rate: Array) -> Array:
        upto = special.gammaincc(np.floor(y) + 1, rate)
        chance = np.exp(special.xlogy(np.floor(y), rate) - rate - special.gammaln(np.floor(y) + 1))
        apart = special.ive(0, 2 * rate) + special.ive(1, 2 * rate)
        return (y - rate) * (2 * upto - 1) + rate * (2 * chance - apart)

    def _log_tail(self, y: Tensor, rate: Tensor, *, upper: bool) -> Tensor:
        shape = y.floor() + 1  # P(Y <= y) is that of a gamma variable beyond the rate
        return log_gamma_cdf(rate.log() - shape.log(), shape.log(), upper=upper)

    def log_cdf(self, y: Tensor, *theta: Tensor) -> Tensor:
        return self._log_tail(y, *theta, upper=True)

    def log_sf(self, y: Tensor, *theta: Tensor) -> Tensor:
        return self._log_tail(y, *theta, upper=False)

    def mean(self, *theta: Tensor) -> Tensor:
        return theta[0]

    def variance(self, *theta: Tensor) -> Tensor:
        return theta[0]

    def start(self, y: Tensor, weight: Tensor) -> tuple[Any, ...]:
        return (max(moments(y, weight)[0], 1e-3),)


class NegativeBinomial(Count):
    """The negative binomial: mean `rate`, variance ``rate + dispersion rate^2``."""

    parameters: ClassVar[Any] = {"rate": "log", "dispersion": "log"}

    def log_prob(self, y: Tensor, *theta: Tensor) -> Tensor:
        rate, dispersion = theta
        size = 1 / dispersion
        if not torch.is_grad_enabled() and alike(y, size):  # look up what is of y alone
            counts = torch.arange(int(y.max()) + 1, dtype=torch.float64)
            alone = self._alone(counts, size.flatten()[:1])[y.long()]
        else:
            alone = self._alone(y, size)
        return alone + y * (rate.log() - torch.log(rate + size)) - size * torch.log1p(rate / size)

    @staticmethod
    def _alone(y: Tensor, size: Tensor) -> Tensor:
        """Return what of the log probability the rate is not in."""
        # lgamma(y + size) - lgamma(size), without the difference of two large numbers
        rising = (size - 0.5) * torch.log1p(y / size) - y
        rising = rising + stirling_gap(y + size) - stirling_gap(size)
        return rising + y * torch.log(y + size) - torch.lgamma(y + 1)

    def slopes(self, term: Term, y: Tensor, *theta: Tensor) -> Slopes | None:
        rate, size = theta[0], 1 / theta[1]
        if term != "log_prob" or float(size.max()) > LARGE:
            return None
        rise, bend = digamma_rise(y, size)
        total = rate + size
        far = (y - rate) / total
        by_size = size * (rise - torch.log1p(rate / size) - far)
        bent = by_size + size**2 * (bend + far / total) + size * rate / total
        share = size * rate / total
        return (
            [size * far, -by_size],
            [[-share * (y + size) / total], [-share * far, bent]],
        )

    def _log_tail(self, y: Tensor, rate: Tensor, dispersion: Tensor, *, upper: bool) -> Tensor:
        known, extra = rate.detach().numpy(), dispersion.detach().numpy()
        width = np.minimum(1.0, np.sqrt(1 / known + extra))
        shape = torch.log(y.floor() + 1)
        logit = -(rate.log() + dispersion.log())
        return log_beta_cdf(logit, -dispersion.log(), shape, width, upper=upper)

    def log_cdf(self, y: Tensor, *theta: Tensor) -> Tensor:
        return self._log_tail(y, *theta, upper=False)

    def log_sf(self, y: Tensor, *theta: Tensor) -> Tensor:
        return self._log_tail(y, *theta, upper=True)

    def mean(self, *theta: Tensor) -> Tensor:
        return theta[0]

    def variance(self, *theta: Tensor) -> Tensor:
        rate, dispersion = theta
        return rate + dispersion * rate**2

    def start(self, y: Tensor, weight: Tensor) -> tuple[Any, ...]:
        mean, spread = moments(y, weight)
        mean = max(mean, 1e-3)
        return mean, max((spread**2 - mean) / mean**2, 0.05)


class ZeroInflated(Count):
    """Zeros with chance `zero`; else a count, whose mean is the `rate`."""

    of_counts: ClassVar[Count]

    def log_prob(self, y: Tensor, *theta: Tensor) -> Tensor:
        *own, zero = theta
        count = torch.log1p(-zero) + self.of_counts.log_prob(y, *own)
        return torch.where(y == 0, log_add(zero.log(), count), count)

    def log_cdf(self, y: Tensor, *theta: Tensor) -> Tensor:
        *own, zero = theta
        return log_add(zero.log(), torch.log1p(-zero) + self.of_counts.log_cdf(y, *own))

    def log_sf(self, y: Tensor, *theta: Tensor) -> Tensor:
        *own, zero = theta
        return torch.log1p(-zero) + self.of_counts.log_sf(y, *own)

    def mean(self, *theta: Tensor) -> Tensor:
        *own, zero = theta
        return (1 - zero) * self.of_counts.mean(*own)

    def variance(self, *theta: Tensor) -> Tensor:
        *own, zero = theta
        mean = self.of_counts.mean(*own)
        return (1 - zero) * (self.of_counts.variance(*own) + zero * mean**2)

    def start(self, y: Tensor, weight: Tensor) -> tuple[Any, ...]:
        seen = y > 0
        if not bool(seen.any()):
            return *self.of_counts.start(y, weight), 0.5
        none = float((weight * ~seen).sum() / weight.sum())
        own = self.of_counts.start(y[seen], weight[seen])
        return *own, min(max(0.5 * none, 0.02), 0.95)


class ZeroInflatedPoisson(ZeroInflated):
    """Poisson's with extra zeros: `rate` of the others, chance `zero` of an extra zero."""

    parameters: ClassVar[Any] = {"rate": "log", "zero": "logit"}
    of_counts = Poisson()


class ZeroInflatedNegativeBinomial(ZeroInflated):
    """The negative binomial with extra zeros: `rate` and `dispersion` of the others, `zero`."""

    parameters: ClassVar[Any] = {"rate": "log", "dispersion": "log", "zero": "logit"}
    of_counts = NegativeBinomial()


class Bernoulli(Labelled):
    """0 or 1: the `probability` of 1. Of two labels, sorted, that of the second.

    Of an ordered categorical the order is its own.
    """

    levels = np.array([0.0, 1.0])
    parameters: ClassVar[Any] = {"probability": "logit"}
    support = (0.0, 1.0)
    discrete = True
    ratio = "odds ratio"

    def __init__(self, labels: Any = None) -> None:
        self.labels = self.levels if labels is None else np.asarray(labels)
        self.named = labels is not None

    def learn(self, y: Any) -> Self:
        column = outcome_column(y)
        names = None if column is None else names_of(column)
        if names is not None and len(names) != 2:
            raise ValueError(
                "The outcome y of family='bernoulli' must be 0 and 1, or two labels. "
                f"Got {len(names)}: {shown(names)}."
            )
        return type(self)(names)

    def log_prob(self, y: Tensor, *theta: Tensor) -> Tensor:
        return torch.where(y == 1, theta[0].log(), torch.log1p(-theta[0]))

    def slopes(self, term: Term, y: Tensor, *theta: Tensor) -> Slopes | None:
        p = theta[0]
        return None if term != "log_prob" else ([y - p], [[-p * (1 - p)]])

    def log_cdf(self, y: Tensor, *theta: Tensor) -> Tensor:
        return torch.where(y < 1, torch.log1p(-theta[0]), 0.0)

    def log_sf(self, y: Tensor, *theta: Tensor) -> Tensor:
        return torch.where(y < 1, theta[0].log(), -torch.inf)

    def mean(self, *theta: Tensor) -> Tensor:
        return theta[0]

    def variance(self, *theta: Tensor) -> Tensor:
        return theta[0] * (1 - theta[0])

    def start(self, y: Tensor, weight: Tensor) -> tuple[Any, ...]:
        return (moments(y, weight)[0],)

    def state(self) -> dict[str, np.ndarray]:
        return {"labels": self.labels} if self.named else {}

    def load_state(self, state: dict[str, np.ndarray]) -> Self:
        return type(self)(state.get("labels"))
