"""What a term of a formula promises: its coefficients, its penalties, and its columns as products.

A row of the table has K predictors, which lie at the points of the head's grid. A term moves
predictor k of row i by a sum over products of something of the row and something of the point,
``sum_ab C_ka R_ib beta_ab``: for ``x:t`` R is x and C is t; for ``s(t)`` R is 1 and C a basis of
splines; a term that reads the table alone has no C.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mmfusion.structured._table import FormulaRows
from mmfusion.structured.rows import RowFactor

__all__ = ["Array", "Product", "Term", "check_df", "product_of_columns"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Product:
    """Columns of some rows times a basis over the grid's points.

    Attributes
    ----------
    rows : Dense or Indicator
        With r columns.
    basis : ndarray of float64, shape (K, b), or None
        None where the term does not read the grid.
    places : ndarray of int, shape (b, r)
        Which of the term's coefficients each pair has, -1 for none; b is 1 where there is no basis.
    """

    rows: RowFactor
    basis: Array | None
    places: NDArray[np.intp]


class Term(ABC):
    """One term of a fitted formula, with the coefficients of one parameter.

    Attributes
    ----------
    label : str
        How the effects table calls it: "treatment", "C(stage)", "s(age)", "s(age):dose",
        "te(x, z)", "tv(x)", "re(site)".
    variables : tuple of str
        What it reads: columns of the table, and coordinates of the grid.
    coordinates : tuple of str
        Those of them that are the grid's.
    by : str or None
        The one of them that multiplies a smooth: a plot of the smooth does without.
    penalties : tuple of ndarray of float64, each of shape (k, k) or (k,)
        Over its k coefficients, symmetric and positive semi-definite; of shape (k,) the diagonal
        of one that has no other entries. None for a parametric term.
    sp : tuple of float or None
        Smoothing parameters that the formula fixes, one a penalty.
    df : float or None
        Effective degrees of freedom that the formula fixes.
    bounds : ndarray of float64 of shape (m, k), or None
        Rows whose products with the coefficients are not negative: of a monotone smooth.
    by_coefficient : bool
        Whether the effects table has a row for each coefficient; a smooth has one in all.
    tested : bool
        Whether "no effect" has a test: the variance of a random effect lies at its boundary there.
    """

    label: str
    variables: tuple[str, ...]
    coordinates: tuple[str, ...]
    by: str | None
    penalties: tuple[Array, ...]
    sp: tuple[float, ...] | None
    df: float | None
    by_coefficient: ClassVar[bool]
    tested: ClassVar[bool]

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the coefficients."""

    @property
    def bounds(self) -> Array | None:
        return None

    @property
    def ranges(self) -> Mapping[str, tuple[float, float]]:
        """Of each variable of a spline, the range beyond which it goes on as a straight line."""
        return {}

    @abstractmethod
    def products(self, rows: FormulaRows, points: FormulaRows) -> tuple[Product, ...]:
        """Return the products that the term is the sum of.

        Parameters
        ----------
        rows : FormulaRows
            Cells of n rows of the table.
        points : FormulaRows
            Coordinates of the grid's K points.

        Raises
        ------
        ValueError
            If a column is not finite in some row, or at some point.
        """

    def state(self) -> dict[str, Any]:
        """Return all of it as plain Python and NumPy objects."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Rebuild what `state` returned; nothing in it is executed."""
        return cls(**state)

    def evaluate(self, rows: FormulaRows, points: FormulaRows) -> Array:
        """Return the term's columns where row i is at point i, shape (n, k)."""
        design = np.zeros((rows.n, len(self.names) + 1))  # the last is of no coefficient
        for product in self.products(rows, points):
            basis = np.ones((rows.n, 1)) if product.basis is None else product.basis
            columns = product.rows.dense()
            for place, column in zip(product.places, basis.T, strict=True):
                design[:, place] = columns * column[:, None]
        return design[:, :-1]


def product_of_columns(slow: Array, fast: Array) -> Array:
    """Return all products of a column of each, row by row, those of `fast` varying first."""
    return (slow[:, :, None] * fast[:, None, :]).reshape(len(slow), -1)


def check_df(label: str, df: float | None, null: int, size: int) -> None:
    """Raise ValueError unless the degrees of freedom that a formula fixes can be had."""
    if df is not None and not null < df <= size:
        raise ValueError(
            f"The df option of {label} must be above {null}, the part without penalty, and "
            f"at most {size}, the number of its columns. Got {df:g}."
        )
