"""Spline bases of one variable: knots fixed at fit, a straight line beyond them.

The definitions are those of Wood (2017), *Generalized Additive Models*, 2nd edition: P-splines in
section 5.3.3 (Eilers & Marx 1996) with the knots that R's mgcv chooses, cubic regression splines in
section 5.3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from mmfusion.inputs.rounding import distinct

__all__ = ["BSplineBasis", "CubicBasis", "SplineBasis"]

Array = NDArray[np.float64]

#: Evenly spaced knots reach beyond the data by this part of their range on each side, as in mgcv.
_MARGIN = 0.001


@dataclass(frozen=True, eq=False)
class SplineBasis:
    """A basis on [`lower`, `upper`] that goes on linearly beyond (value and first derivative).

    Parameters
    ----------
    knots : ndarray of float64, shape (n_knots,)
    """

    knots: Array

    @property
    def size(self) -> int:
        """Number of basis functions."""
        raise NotImplementedError

    @property
    def lower(self) -> float:
        """Where the linear continuation to the left starts."""
        return float(self.knots[0])

    @property
    def upper(self) -> float:
        """Where the linear continuation to the right starts."""
        return float(self.knots[-1])

    def evaluate(self, x: Array) -> Array:
        """Return the basis functions at `x`.

        Parameters
        ----------
        x : ndarray of float64, shape (n,)

        Returns
        -------
        ndarray of float64, shape (n, size)
        """
        inside = np.clip(x, self.lower, self.upper)
        design = self._values(inside)
        for beyond, end in ((x < self.lower, self.lower), (x > self.upper, self.upper)):
            if beyond.any():
                design[beyond] += np.outer(x[beyond] - end, self._slopes(end))
        return design

    def _values(self, x: Array) -> Array:
        raise NotImplementedError

    def _slopes(self, end: float) -> Array:
        """Return the first derivative of each basis function at one of the two ends."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class BSplineBasis(SplineBasis):
    """B-splines on a full knot sequence (``size + degree + 1`` knots).

    Examples
    --------
    >>> import numpy as np
    >>> basis = BSplineBasis.evenly(np.array([0.0, 10.0]), size=5)
    >>> basis.evaluate(np.array([5.0, 20.0])).sum(axis=1)  # a partition of unity, also beyond
    array([1., 1.])
    """

    degree: int = 3

    @classmethod
    def evenly(cls, x: Array, size: int, degree: int = 3) -> Self:
        """Return `size` B-splines on evenly spaced knots over the range of `x`, as mgcv's "ps"."""
        low, high = float(x.min()), float(x.max())
        extra = (high - low) * _MARGIN
        low, high = low - extra, high + extra
        intervals = size - degree
        step = (high - low) / intervals
        count = size + degree + 1
        return cls(np.linspace(low - degree * step, high + degree * step, count), degree)

    @property
    def size(self) -> int:
        return len(self.knots) - self.degree - 1

    @property
    def lower(self) -> float:
        return float(self.knots[self.degree])

    @property
    def upper(self) -> float:
        return float(self.knots[self.size])

    def difference_penalty(self, order: int) -> Array:
        """Return D'D, D the differences of `order` between neighbouring coefficients."""
        differences = np.diff(np.eye(self.size), n=order, axis=0)
        return differences.T @ differences

    def _values(self, x: Array) -> Array:
        return BSpline.design_matrix(x, self.knots, self.degree).toarray()

    def _slopes(self, end: float) -> Array:
        return BSpline(self.knots, np.eye(self.size), self.degree)(end, nu=1)


@dataclass(frozen=True, eq=False)
class CubicBasis(SplineBasis):
    """Natural cubic splines parametrised by their values at the knots.

    Examples
    --------
    >>> import numpy as np
    >>> basis = CubicBasis(np.array([0.0, 1.0, 3.0]))
    >>> basis.evaluate(basis.knots)
    array([[1., 0., 0.],
           [0., 1., 0.],
           [0., 0., 1.]])
    """

    @classmethod
    def at_quantiles(cls, x: Array, size: int) -> Self:
        """Return the basis with knots at evenly spaced quantiles of the distinct values of `x`."""
        return cls(np.quantile(distinct(x), np.linspace(0.0, 1.0, size)))

    @property
    def size(self) -> int:
        return len(self.knots)

    def curvature_penalty(self) -> Array:
        """Return the integral of the squared second derivative, a quadratic form."""
        second, differences = self._system()
        penalty = differences.T @ np.linalg.solve(second, differences)
        return (penalty + penalty.T) / 2

    def _system(self) -> tuple[Array, Array]:
        """Return B and D: B @ (second derivatives at inner knots) = D @ (values at knots)."""
        h = np.diff(self.knots)
        inner = np.arange(self.size - 2)
        second = np.diag((h[:-1] + h[1:]) / 3)
        second[inner[:-1], inner[1:]] = second[inner[1:], inner[:-1]] = h[1:-1] / 6
        differences = np.zeros((self.size - 2, self.size))
        differences[inner, inner] = 1 / h[:-1]
        differences[inner, inner + 1] = -1 / h[:-1] - 1 / h[1:]
        differences[inner, inner + 2] = 1 / h[1:]
        return second, differences

    def _curvatures(self) -> Array:
        """Return the map from values to second derivatives at all knots (0 at the two ends)."""
        mapping = np.zeros((self.size, self.size))
        mapping[1:-1] = np.linalg.solve(*self._system())
        return mapping

    def _values(self, x: Array) -> Array:
        right = np.clip(np.searchsorted(self.knots, x, side="right"), 1, self.size - 1)
        left = right - 1
        h = self.knots[right] - self.knots[left]
        to_right, to_left = self.knots[right] - x, x - self.knots[left]
        curvatures = self._curvatures()
        design = curvatures[left] * ((to_right**3 / h - h * to_right) / 6)[:, None]
        design += curvatures[right] * ((to_left**3 / h - h * to_left) / 6)[:, None]
        rows = np.arange(len(x))
        design[rows, left] += to_right / h
        design[rows, right] += to_left / h
        return design

    def _slopes(self, end: float) -> Array:
        first = end == self.lower
        left = 0 if first else self.size - 2
        h = self.knots[left + 1] - self.knots[left]
        identity = np.eye(self.size)
        neighbour = self._curvatures()[1 if first else self.size - 2]
        return (identity[left + 1] - identity[left]) / h + (-h if first else h) / 6 * neighbour
