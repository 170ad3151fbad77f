"""Recalibration of predictive distributions on rows that the model has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mmfusion.inputs.parameters import check_number
from mmfusion.metrics._quadrature import inside, rule
from mmfusion.metrics.predictive import pit_curve

__all__ = ["Recalibrated", "Recalibration"]

#: Outcomes behind each piece of a curve, at least, and the most pieces it has.
EACH, MOST = 10, 50


@dataclass(frozen=True, eq=False)
class Recalibration:
    """How often outcomes lie below a predicted probability, to correct distributions by it.

    With F the predicted distribution function, the corrected one is ``G(F(t))``, where G is that of
    the transforms F(T) on rows the model has not seen (Kuleshov, Fenner & Ermon 2018, ICML; with
    censoring by the Kaplan-Meier curve of the transforms, Qi et al. 2024, ICML). G grows linearly
    between knots, which lie at equally spaced quantiles of the transforms. It is the same for all
    rows: what a model ranks and tells apart stays, and where it is wrong for some rows in one
    direction and for others in another, it stays wrong.

    Under right censoring and delayed entry it rests on this: given that a row is at risk, where it
    is censored says nothing of where its transform lies. That holds where censoring is independent
    of the outcome given the columns of the model, and F is wrong in the same way whatever they are;
    or where censoring is independent of both outcome and columns and F is the same for all rows. It
    is not known beyond the last transform of an outcome that was observed: there G leads straight
    to 1.

    Attributes
    ----------
    u, g : ndarray of float64, shape (k,)
        The knots, from (0, 0) to (1, 1), both strictly increasing.
    n_exact : int
        How many outcomes are behind them.
    """

    u: np.ndarray
    g: np.ndarray
    n_exact: int

    @classmethod
    def fit(
        cls, y: Any, distribution: Any, *, pieces: int | None = None, random_state: Any = 0
    ) -> Recalibration:
        """Learn G.

        Parameters
        ----------
        y : array-like of float, shape (n,), or survival outcome of n rows
            Of rows that the model has not seen.
        distribution : predictive distribution of n rows
            What the model predicts for them; continuous.
        pieces : int, optional
            How many pieces G has where nothing is censored. By default one for each 10 outcomes
            that were observed, at most 50.
        random_state : int, Generator or None, default=0
            Of the draws for outcomes in an interval.

        Returns
        -------
        Recalibration

        Raises
        ------
        ValueError
            As `log_score`; fewer than 10 observed outcomes; the distribution of a count.
        """
        if getattr(distribution, "discrete", False):
            raise ValueError(
                "Recalibration needs continuous distributions. Got that of a count or class."
            )
        curve, _, n_exact = pit_curve(y, distribution, random_state)
        if n_exact < EACH:
            raise ValueError(
                f"Recalibration needs at least {EACH} outcomes that were observed. Got {n_exact}."
            )
        if pieces is None:
            pieces = min(MOST, n_exact // EACH)
        check_number("pieces", pieces, 1, integer=True)
        reached = 1 - curve.y
        g = np.arange(1, pieces) / pieces
        g = g[g <= reached[-1] + 1e-12]
        u = curve.x[np.searchsorted(reached, g - 1e-12)]
        # Of tied knots the last: a distribution function jumps to the highest G.
        open_ = (u > 0) & (u < 1)
        u, g = u[open_], g[open_]
        last = np.r_[np.diff(u) > 0, True][: len(u)]
        return cls(np.r_[0.0, u[last], 1.0], np.r_[0.0, g[last], 1.0], n_exact)

    def __call__(self, distribution: Any) -> Recalibrated:
        """Return a predictive distribution with the correction."""
        return Recalibrated(distribution, self)


class Recalibrated:
    """A predictive distribution whose distribution function is ``G(F(y))``.

    It has the methods of the distribution it corrects: ``pdf``, ``cdf``, ``sf``, their
    logarithms, ``quantile``, ``sample``, ``mean``, ``std``, ``median``.

    Parameters
    ----------
    distribution : predictive distribution of n rows
    recalibration : Recalibration
    """

    discrete = False

    def __init__(self, distribution: Any, recalibration: Recalibration) -> None:
        self.distribution, self.recalibration = distribution, recalibration

    def __len__(self) -> int:
        return len(self.distribution)

    @property
    def support(self) -> Any:
        return self.distribution.support

    def cdf(self, y: Any) -> np.ndarray:
        """Return the probability to lie at or below `y`, of shape (n,) or (n, m)."""
        known = self.recalibration
        return np.interp(self.distribution.cdf(y), known.u, known.g)

    def sf(self, y: Any) -> np.ndarray:
        """Return the probability to lie above `y`."""
        known = self.recalibration
        return np.interp(self.distribution.sf(y), 1 - known.u[::-1], 1 - known.g[::-1])

    def logcdf(self, y: Any) -> np.ndarray:
        """Return the log of `cdf`."""
        with np.errstate(divide="ignore"):
            return np.log(self.cdf(y))

    def logsf(self, y: Any) -> np.ndarray:
        """Return the log of `sf`."""
        with np.errstate(divide="ignore"):
            return np.log(self.sf(y))

    def quantile(self, p: Any) -> np.ndarray:
        """Return the value below which a share `p` lies."""
        known, p = self.recalibration, np.asarray(p, dtype=np.float64)
        u = np.interp(p, known.g, known.u)
        found: np.ndarray = self.distribution.quantile(
            np.where((p > 0) & (p < 1), inside(u), u)  # rounding makes no value infinite
        )
        return found

    def pdf(self, y: Any) -> np.ndarray:
        """Return the density at `y`."""
        return np.exp(self.logpdf(y))

    def logpdf(self, y: Any) -> np.ndarray:
        """Return the log density at `y`."""
        known = self.recalibration
        piece = np.searchsorted(known.u, self.distribution.cdf(y), side="right") - 1
        slope = np.diff(known.g) / np.diff(known.u)
        found: np.ndarray = self.distribution.logpdf(y)
        return found + np.log(slope)[np.clip(piece, 0, len(slope) - 1)]

    def sample(self, size: int | None = None, random_state: Any = None) -> np.ndarray:
        """Return draws, shape (n,), or (n, size)."""
        p = np.random.default_rng(random_state).uniform(size=(len(self), size or 1))
        found = self.quantile(p)
        return found[:, 0] if size is None else found

    @property
    def median(self) -> np.ndarray:
        return self.quantile(0.5)

    @property
    def mean(self) -> np.ndarray:
        infinite = ~np.isfinite(self.distribution.mean)
        return np.where(infinite, self.distribution.mean, self.median + self._moments[0])

    @property
    def std(self) -> np.ndarray:
        first, second = self._moments
        infinite = ~np.isfinite(self.distribution.std)
        return np.where(infinite, self.distribution.std, np.sqrt(second - first**2))

    @cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and mean square of the distance from the median."""
        known, median = self.recalibration, self.median[:, None]
        share, _, weight = rule()
        first = second = np.zeros(len(median))
        for start, width, mass in zip(known.u, np.diff(known.u), np.diff(known.g), strict=False):
            p = np.tile(inside(start + width * share), (len(median), 1))
            distance = self.distribution.quantile(p) - median
            first = first + mass * distance @ weight
            second = second + mass * distance**2 @ weight
        return first, second
