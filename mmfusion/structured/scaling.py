"""The design as the fit sees it: columns centred where a constant is free, and of one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmfusion.structured.errors import CollinearityError

__all__ = ["Scaled", "scale_design"]

#: A column whose spread is below this share of its size is constant.
CONSTANT = 1e-12


@dataclass(frozen=True)
class Scaled:
    """A design ``Z``, and the map that returns its coefficients to the design given.

    ``X beta = Z gamma`` up to a constant that the likelihood does not see, with ``beta = back
    gamma``. Powers of a year or of an income then lose no digits in the information.

    Attributes
    ----------
    design : ndarray, shape (n, p)
    spread : ndarray, shape (p,)
    back : ndarray, shape (p, p)
    """

    design: np.ndarray
    spread: np.ndarray
    back: np.ndarray

    def penalty(self, matrix: np.ndarray, columns: slice) -> np.ndarray:
        """Return a penalty of the given coefficients as one of the scaled ones."""
        spread = self.spread[columns]
        return matrix / np.outer(spread, spread)

    def back_information(self, information: np.ndarray) -> np.ndarray:
        """Return the information of the scaled coefficients as that of the given ones."""
        forth = np.linalg.inv(self.back)
        return forth.T @ information @ forth


def scale_design(
    design: np.ndarray, names: Sequence[str], *, has_intercept: bool, penalised: np.ndarray
) -> Scaled:
    """Centre and scale a design.

    Columns are centred if the likelihood does not see a constant, or if one of them is the
    intercept, which then takes up the shift.

    Parameters
    ----------
    design : ndarray, shape (n, p)
    names : sequence of str
    has_intercept : bool
        Whether the likelihood sees a constant.
    penalised : ndarray of bool, shape (p,)
        Columns that may be anything: their penalty identifies them.

    Raises
    ------
    CollinearityError
        For a column that is constant, where a constant is not identified.
    """
    p = design.shape[1]
    if p == 0:
        return Scaled(design, np.ones(0), np.eye(0))
    mean = design.mean(0)
    size = np.maximum(design.max(0), -design.min(0))
    centered = design - mean
    deviation = np.sqrt(np.einsum("ij,ij->j", centered, centered) / len(design))
    constant = (deviation <= CONSTANT * size) & ~penalised
    intercepts = np.flatnonzero(constant & (size > 0))
    intercept = int(intercepts[0]) if has_intercept and len(intercepts) else None
    wrong = [int(j) for j in np.flatnonzero(constant) if j != intercept]
    if wrong:
        reason = (
            "the likelihood does not see a constant (in a Cox model the baseline hazard has it)"
            if not has_intercept
            else "a constant is the intercept's, and zeros say nothing"
        )
        what = ", ".join(f"{names[j]!r} (always {mean[j]:g})" for j in wrong)
        raise CollinearityError(
            f"The structured part has constant columns: {what}; {reason}.",
            tuple(names[j] for j in wrong),
        )

    if has_intercept and intercept is None:
        spread = np.sqrt(np.square(design).mean(0))
        spread[spread == 0] = 1.0
        return Scaled(design / spread, spread, np.diag(1 / spread))
    spread = np.where(deviation > 0, deviation, 1.0)
    if intercept is not None:
        spread[intercept] = mean[intercept]
    back = np.diag(1 / spread)
    if intercept is not None:
        others = np.arange(p) != intercept
        back[intercept, others] = -mean[others] / spread[others] / mean[intercept]
        centered[:, intercept] = mean[intercept]
    centered /= spread
    return Scaled(centered, spread, back)
