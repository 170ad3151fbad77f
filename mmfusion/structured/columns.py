"""What a term of a formula is to the fit: its columns in the design, and its penalties."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["TermColumns"]


@dataclass(frozen=True, eq=False)
class TermColumns:
    """One term of a fitted formula.

    Attributes
    ----------
    label : str
        How the effects table calls it: "treatment", "C(stage)", "s(age)", "s(age):dose",
        "te(x, z)", "re(site)".
    columns : slice
        Its columns in the design.
    kind : {"parametric", "smooth", "random"}
        What `by_coefficient` and `tested` follow from.
    penalties : tuple of ndarray of float64, each of shape (k, k)
        Symmetric and positive semi-definite, over the `k` columns of the term; the penalised
        likelihood subtracts half the sum of ``sp[j] * beta @ penalties[j] @ beta``. A diagonal one
        may be its diagonal, (k,). None for a parametric term.
    sp : tuple of float or None
        Smoothing parameters that the formula fixes (``sp=``), one a penalty.
    df : float or None
        Effective degrees of freedom that the formula fixes (``df=``).
    variables : tuple of str
        The columns of the table it reads.
    bounds : ndarray of float64 of shape (m, k), or None
        Rows whose products with the `k` coefficients are not negative: of a monotone smooth.
    """

    label: str
    columns: slice
    kind: Literal["parametric", "smooth", "random"]
    penalties: tuple[NDArray[np.float64], ...] = ()
    sp: tuple[float, ...] | None = None
    df: float | None = None
    variables: tuple[str, ...] = ()
    bounds: NDArray[np.float64] | None = None

    @property
    def by_coefficient(self) -> bool:
        """Whether each coefficient has a row of its own in the table of effects."""
        return self.kind == "parametric"

    @property
    def tested(self) -> bool:
        """Whether the hypothesis of no effect has a test: a variance of 0 has none."""
        return self.kind != "random"
