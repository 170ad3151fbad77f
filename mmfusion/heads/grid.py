"""The predictors of a head, and what moves them: small tables with a row a predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Basis", "Grid"]


@dataclass(frozen=True, eq=False)
class Grid:
    """The K predictors that each row of the table has.

    Attributes
    ----------
    names : tuple of str, length K
    coordinates : mapping of str to ndarray, each of shape (K,)
        Where each predictor lies, by the name that a formula reads it under: "t", the time that an
        interval stands for (its midpoint), "start" and "end", its bounds, and "cause". None for
        predictors that lie nowhere (a class).
    """

    names: tuple[str, ...]
    coordinates: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Basis:
    """Columns over the K predictors: each says how much one coefficient moves each of them.

    Attributes
    ----------
    names : tuple of str, length F
        Of the columns; where there is one, it is not shown.
    matrix : ndarray of float64, shape (K, F)
    """

    names: tuple[str, ...]
    matrix: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def identity(cls, names: Sequence[str]) -> Self:
        """Return a column a predictor, which moves this one alone."""
        return cls(tuple(names), np.eye(len(names)))

    def take(self, columns: Sequence[int]) -> Self:
        """Return some of the columns."""
        chosen = list(columns)
        return type(self)(tuple(self.names[j] for j in chosen), self.matrix[:, chosen])
