"""The predicted distributions of some rows, as one object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from sklearn.utils.metaestimators import available_if
from torch import Tensor

from mmfusion.heads.families.base import Family

__all__ = ["Distribution"]

Array = np.ndarray


class Distribution:
    """The distributions of n rows, of one family, each with parameters of its own.

    Every function of a value takes y of shape (n,), a value a row, (n, m), m values a row, or one
    number for all rows, and returns float64 of that shape, row i for row i.

    Parameters
    ----------
    family : Family
    parameters : mapping of str to ndarray, each of shape (n,)
        On their own scale, links applied.

    Examples
    --------
    >>> import numpy as np
    >>> from mmfusion.heads.families import Distribution, check_family
    >>> found = Distribution(
    ...     check_family("normal"), {"loc": np.array([0.0, 5.0]), "scale": np.array([1.0, 2.0])}
    ... )
    >>> found.cdf(np.array([0.0, 5.0]))
    array([0.5, 0.5])
    >>> found.quantile([0.5, 0.975]).round(2)
    array([[0.  , 1.96],
           [5.  , 8.92]])
    """

    def __init__(self, family: Family, parameters: Mapping[str, Array]) -> None:
        self.family = family
        self.parameters = {
            name: np.asarray(value, dtype=np.float64) for name, value in parameters.items()
        }
        self._theta = tuple(torch.from_numpy(v) for v in self.parameters.values())

    def __len__(self) -> int:
        return len(self._theta[0])

    def __repr__(self) -> str:
        names = ", ".join(self.parameters)
        return f"Distribution({type(self.family).__name__}, {names}, n={len(self)})"

    @property
    def discrete(self) -> bool:
        """Whether values are whole numbers (levels, of an ordinal outcome)."""
        return self.family.discrete

    @property
    def support(self) -> tuple[float, float]:
        """The ends of the support; a continuous distribution does not reach them."""
        return self.family.support

    def take(self, rows: Any) -> Distribution:
        """Return the distributions of some rows."""
        return type(self)(self.family, {k: v[rows] for k, v in self.parameters.items()})

    def _of(self, y: Any) -> tuple[Array, tuple[Tensor, ...]]:
        """Return values as they broadcast, and the parameters beside them."""
        y = np.asarray(y, dtype=np.float64)
        if y.ndim == 0:
            y = np.full(len(self), float(y))
        if y.ndim > 2 or len(y) != len(self):
            raise ValueError(
                f"Values must have shape (n,) or (n, m) with n = {len(self)} rows, or be one "
                f"number. Got {y.shape}."
            )
        theta = self._theta if y.ndim == 1 else tuple(t[:, None] for t in self._theta)
        return y, tuple(t.expand(y.shape) for t in theta)

    def _function(
        self, f: Callable[..., Tensor], y: Any, *, below: float, above: float, at_end: bool
    ) -> Array:
        """Return a function of values, and constants where these are beyond the support."""
        y, theta = self._of(y)
        low, high = self.support
        under = y < low if self.discrete else y <= low
        over = y >= high if at_end or not self.discrete else y > high
        safe = np.where(under | over | np.isnan(y), self.family._inside, y)
        with torch.no_grad():
            found = f(torch.from_numpy(safe), *theta).numpy()
        found = np.where(under, below, np.where(over, above, found))
        return np.asarray(np.where(np.isnan(y), np.nan, found))

    def logpdf(self, y: Any) -> Array:
        """Return the log density of y, of a discrete distribution the log probability."""
        values = np.asarray(y, dtype=np.float64)
        found = self._function(self.family.log_prob, y, below=-np.inf, above=-np.inf, at_end=False)
        if not self.discrete:
            return found
        return np.where(np.isnan(values) | self.family.allowed(values), found, -np.inf)

    def pdf(self, y: Any) -> Array:
        """Return the density of y, of a discrete distribution the probability."""
        return np.exp(self.logpdf(y))

    def logcdf(self, y: Any) -> Array:
        """Return the log of `cdf`."""
        return self._function(self.family.log_cdf, y, below=-np.inf, above=0.0, at_end=True)

    def cdf(self, y: Any) -> Array:
        """Return the probability of y or less."""
        return np.exp(self.logcdf(y))

    def logsf(self, y: Any) -> Array:
        """Return the log of `sf`."""
        return self._function(self.family.log_sf, y, below=0.0, above=-np.inf, at_end=True)

    def sf(self, y: Any) -> Array:
        """Return the probability of more than y."""
        return np.exp(self.logsf(y))

    @available_if(lambda self: hasattr(self.family, "crps"))
    def crps(self, y: Any) -> Array:
        """Return the continuous ranked probability score of y, of families that have a closed form.

        Jordan, Krueger & Lerch (2019, JSS 90(12), appendix A). `mmfusion.metrics.crps` asks it.
        """
        y, theta = self._of(y)
        low, high = (np.nextafter(end, 0.5) for end in self.support)
        inside = y if self.discrete else np.clip(y, low, high)
        found = self.family.crps(inside, *(t.numpy() for t in theta))  # type: ignore[attr-defined]
        return np.asarray(found + np.abs(y - inside))

    def quantile(self, p: Any) -> Array:
        """Return quantiles: the smallest value with ``cdf(value) >= p``.

        Parameters
        ----------
        p : float, or array-like of shape (m,) or (n, m)
            In [0, 1]; of m numbers each row has all.

        Returns
        -------
        ndarray of float64, shape (n,) for one number, else (n, m)
        """
        p = np.asarray(p, dtype=np.float64)
        if ((p < 0) | (p > 1) | np.isnan(p)).any():
            raise ValueError(f"Probabilities must lie in [0, 1]. Got {p[(p < 0) | ~(p <= 1)][0]}.")
        whole = np.broadcast_to(p, (len(self), p.size)) if p.ndim < 2 else p
        found = self._quantile(whole)
        return found[:, 0] if p.ndim == 0 else found

    def _quantile(self, p: Array) -> Array:
        p, theta = self._of(np.array(p))
        inside = (p > 0) & (p < 1)
        with torch.no_grad():
            found = self.family.quantile(torch.from_numpy(np.where(inside, p, 0.5)), *theta).numpy()
        low, high = self.support
        return np.asarray(np.where(p <= 0, low, np.where(p >= 1, high, found)))

    def sample(self, size: int | None = None, random_state: Any = None) -> Array:
        """Return draws: shape (n,), or (n, size).

        Parameters
        ----------
        size : int, optional
            Draws a row.
        random_state : int, Generator or None
        """
        rng = np.random.default_rng(random_state)
        # Never 0 nor 1, where a quantile may be infinite.
        p = (rng.integers(2**52, size=(len(self), size or 1)) + 0.5) / 2**52
        found = self._quantile(p)
        return found[:, 0] if size is None else found

    def _moment(self, f: Callable[..., Tensor]) -> Array:
        with torch.no_grad():
            return f(*self._theta).numpy()

    @property
    def mean(self) -> Array:
        """The means, shape (n,); NaN or infinite where there is none."""
        return self._moment(self.family.mean)

    @property
    def std(self) -> Array:
        """The standard deviations, shape (n,)."""
        return np.sqrt(self._moment(self.family.variance))

    @property
    def median(self) -> Array:
        """The medians, shape (n,)."""
        return self.quantile(0.5)
