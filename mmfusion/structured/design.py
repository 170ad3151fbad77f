"""The design of several predictors a row, as blocks that are never written out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmfusion.structured.rows import RowFactor

__all__ = ["Block", "Design"]


@dataclass(frozen=True, eq=False)
class Block:
    """A part of a design: row columns times a basis over the predictors.

    Attributes
    ----------
    rows : Dense or Indicator
        With r columns.
    basis : ndarray, shape (K, f)
    columns : ndarray of int, shape (f, r)
        The coefficient of each pair; -1 for a pair that has none.
    """

    rows: RowFactor
    basis: NDArray[np.float64]
    columns: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Design:
    """The blocks of a design of n rows with K predictors each, and its number of coefficients."""

    n_rows: int
    n_predictors: int
    n_columns: int
    blocks: tuple[Block, ...]
