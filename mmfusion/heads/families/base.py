"""What a family of distributions promises: parameters, links, support, density, moments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from mmfusion.heads.families.slopes import Slopes, Term
from mmfusion.heads.families.special import log_minus_expm1
from mmfusion.heads.grid import Basis

__all__ = ["Family", "Link"]

Link = Literal["identity", "log", "logit"]

#: Predictors beyond these say no more: the parameter is then as good as at its bound.
LOG_LIMIT, LOGIT_LIMIT = 300.0, 36.0
#: A scale is no smaller than so much below that of the outcome, as a logarithm: beside a perfect
#: fit it would have no end.
SCALE_LIMIT = 20.0


class Family(ABC):
    """A family of distributions, each function of which takes the parameters on their own scale.

    A subclass gives `parameters`, `log_prob`, `log_cdf`, `mean` and `variance`; what else it does
    not give is derived from these, quantiles by bisection. All functions take and return Tensors of
    float64 that broadcast; the density is smooth, with torch's own first and second derivatives.

    Attributes
    ----------
    parameters : dict of str to {"identity", "log", "logit"}
        Each parameter's name and link, the location first.
    support : tuple of float
        Its ends; a continuous family does not reach them, a `discrete` one does.
    discrete : bool
        Whether values are whole numbers.
    units : {"y", "log y", None}
        What parameters of the identity link are in the units of.
    ratio : str or None
        What exp(coefficient) of the location is; None where that means nothing.
    named : bool
        Whether values of an outcome are told by their names, as text.

    Examples
    --------
    A family of one's own, the hyperbolic secant's, whose tails are heavier than the normal ones:

    >>> import math
    >>> import torch
    >>> from torch.nn.functional import softplus
    >>> from mmfusion.heads.families import Family
    >>> class Secant(Family):
    ...     parameters = {"loc": "identity", "scale": "log"}
    ...
    ...     def log_prob(self, y, loc, scale):
    ...         z = (y - loc) / scale
    ...         return z - softplus(2 * z) + math.log(2 / math.pi) - scale.log()
    ...
    ...     def log_cdf(self, y, loc, scale):
    ...         z = ((y - loc) / scale).clamp(max=300)
    ...         return math.log(2 / math.pi) + z.exp().atan().log()
    ...
    ...     def mean(self, loc, scale):
    ...         return loc
    ...
    ...     def variance(self, loc, scale):
    ...         return (math.pi * scale / 2) ** 2
    """

    parameters: ClassVar[Mapping[str, Link]]
    support: tuple[float, float] = (-np.inf, np.inf)
    discrete: bool = False
    units: Literal["y", "log y"] | None = "y"
    ratio: str | None = None
    named: bool = False

    @abstractmethod
    def log_prob(self, y: Tensor, *theta: Tensor) -> Tensor:
        """Return the log of the density, of a discrete family the probability, at y."""

    @abstractmethod
    def log_cdf(self, y: Tensor, *theta: Tensor) -> Tensor:
        """Return the log of the probability of y or less."""

    def log_sf(self, y: Tensor, *theta: Tensor) -> Tensor:
        """Return the log of the probability of more than y."""
        return log_minus_expm1(-self.log_cdf(y, *theta))

    @abstractmethod
    def mean(self, *theta: Tensor) -> Tensor:
        """Return the mean."""

    @abstractmethod
    def variance(self, *theta: Tensor) -> Tensor:
        """Return the variance."""

    def slopes(self, term: Term, y: Tensor, *theta: Tensor) -> Slopes | None:
        """Return first and second derivatives of a function in the predictors, in closed form.

        None, the default, leaves them to torch. Those of the identity link are in the unit of y.

        Parameters
        ----------
        term : {"log_prob", "log_cdf", "log_sf"}
        y, *theta : Tensor, each of shape (n,)

        Returns
        -------
        first : list of K Tensors
        second : list of K lists of Tensors
            Row k has the mixed derivatives of predictor k with those up to it.
        """
        return None

    def start(self, y: Tensor, weight: Tensor) -> tuple[Any, ...]:
        """Return parameters near those of an outcome, from which its constant model is found."""
        mean = float((weight * y).sum() / weight.sum())
        values = {"identity": mean, "log": 1.0, "logit": 0.5}
        return tuple(values[link] for link in self.parameters.values())

    def quantile(self, p: Tensor, *theta: Tensor) -> Tensor:
        """Return the smallest value with a probability of at least p of it or less."""
        p, *theta_ = torch.broadcast_tensors(p, *theta)
        low, high = (torch.full_like(p, end) for end in self.support)
        below = torch.minimum(torch.maximum(self.mean(*theta_).nan_to_num(0.0), low), high)
        size = torch.ones_like(p)
        start = below.round() if self.discrete else below
        low = torch.where(torch.isfinite(low), low - float(self.discrete), start - size)
        high = torch.where(torch.isfinite(high), high, start + size)
        wanted = p.log() - 1e-14
        for _ in range(1000):  # outwards, until both ends enclose it
            under = self._log_cdf_at(low, theta_) >= wanted
            over = self._log_cdf_at(high, theta_) < wanted
            under &= low > self.support[0] - float(self.discrete)
            over &= high < self.support[1]
            if not (under | over).any():
                break
            size = size * 2
            low = torch.where(under, low - size, low)
            high = torch.where(over, high + size, high)
        for _ in range(200):
            middle = 0.5 * (low + high)
            if self.discrete:
                middle = middle.floor()
            inside = (middle > low) & (middle < high)
            if not inside.any():
                break
            enough = self._log_cdf_at(middle, theta_) >= wanted
            high = torch.where(inside & enough, middle, high)
            low = torch.where(inside & ~enough, middle, low)
        return high

    def _log_cdf_at(self, y: Tensor, theta: list[Tensor]) -> Tensor:
        inside = y >= self.support[0] if self.discrete else y > self.support[0]
        safe = torch.where(inside, y, self._inside)
        return torch.where(inside, self.log_cdf(safe, *theta), -torch.inf)

    @property
    def _inside(self) -> float:
        """A value of the support."""
        low, high = self.support
        if self.discrete:
            return low if np.isfinite(low) else 0.0
        if np.isfinite(low) and np.isfinite(high):
            return 0.5 * (low + high)
        return low + 1.0 if np.isfinite(low) else min(0.0, high - 1.0)

    def allowed(self, y: np.ndarray) -> np.ndarray:
        """Return which values are in the support, bool, of y's shape."""
        low, high = self.support
        if self.discrete:
            return np.asarray((y >= low) & (y <= high) & (y == np.floor(y)))
        return np.asarray((y > low) & (y < high))

    def within(self, y: Tensor) -> Tensor:
        """Return values that overflowed, or were rounded to an end of the support, next to it."""
        if self.discrete:
            return y
        low, high = (torch.tensor(end, dtype=torch.float64) for end in self.support)
        tiny, size = torch.finfo(torch.float64).tiny, torch.finfo(torch.float64).max
        least = -size if torch.isinf(low) else float(torch.maximum(low.nextafter(high), low + tiny))
        return y.clamp(least, size if torch.isinf(high) else float(high.nextafter(low)))

    def says(self) -> str:
        """Return which values are allowed, in words."""
        low, high = self.support
        if self.discrete:
            ends = f" from {low:g}" + ("" if np.isinf(high) else f" to {high:g}")
            return "whole numbers" + ("" if np.isinf(low) else ends)
        return {(-np.inf, np.inf): "numbers", (0.0, np.inf): "numbers above 0"}.get(
            (low, high), f"numbers between {low:g} and {high:g}, these excluded"
        )

    # --- predictors ---------------------------------------------------------------------------

    def theta(self, eta: Tensor, unit: float) -> tuple[Tensor, ...]:
        """Return the parameters that predictors (n, K) mean, a Tensor (n,) each.

        Parameters
        ----------
        eta : Tensor of float64, shape (n, K)
        unit : float
            What a predictor of the identity link is in units of.
        """
        found = []
        for (name, link), column in zip(self.parameters.items(), eta.unbind(1), strict=True):
            if link == "identity":
                found.append(column * unit)
            elif link == "log":
                found.append(column.clamp(self._lowest(name, unit), LOG_LIMIT).exp())
            else:
                found.append(column.clamp(-LOGIT_LIMIT, LOGIT_LIMIT).sigmoid())
        return tuple(found)

    def _lowest(self, name: str, unit: float) -> float:
        """Return the predictor of the log link below which the parameter stays as it is."""
        of_unit = name == "scale" and self.units is not None
        return float(np.log(unit)) - SCALE_LIMIT if of_unit else -LOG_LIMIT

    def moves(self, eta: Tensor, unit: float) -> bool:
        """Return whether every parameter still follows its predictor, (n, K), in all rows."""
        for (name, link), column in zip(self.parameters.items(), eta.unbind(1), strict=True):
            if link == "identity":
                continue
            high = LOG_LIMIT if link == "log" else LOGIT_LIMIT
            low = self._lowest(name, unit) if link == "log" else -LOGIT_LIMIT
            if len(column) and not (float(column.min()) > low and float(column.max()) < high):
                return False
        return True

    def eta(self, theta: tuple[Any, ...], unit: float) -> Tensor:
        """Return the predictors of K numbers, shape (K,): `theta` inverted."""
        found = []
        for link, value in zip(self.parameters.values(), theta, strict=True):
            number = torch.as_tensor(value, dtype=torch.float64)
            if link == "identity":
                found.append(number / unit)
            elif link == "log":
                found.append(number.clamp_min(1e-100).log())
            else:
                found.append(number.clamp(1e-10, 1 - 1e-10).logit())
        return torch.stack(found)

    def formulas(self, unit: float) -> Basis:
        """Return what a formula has coefficients for: a parameter each, in its own units."""
        size = [1 / unit if link == "identity" else 1.0 for link in self.parameters.values()]
        return Basis(tuple(self.parameters), np.diag(size))

    def constants(self, unit: float) -> Basis:
        """Return what constants are of: the parameters."""
        return self.formulas(unit)

    # --- outcomes ----------------------------------------------------------------------------

    def learn(self, y: Any) -> Self:
        """Return the family as an outcome makes it (its levels): itself, where there is nothing."""
        return self

    def numbers(self, y: Any) -> Any:
        """Return an outcome as numbers."""
        return y

    def state(self) -> dict[str, np.ndarray]:
        """Return what `learn` learned, as arrays."""
        return {}

    def load_state(self, state: dict[str, np.ndarray]) -> Self:
        """Return the family that had this state."""
        return self
