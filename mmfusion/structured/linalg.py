"""The one factorisation the fits need: of a symmetric matrix, scaled to a unit diagonal."""

from __future__ import annotations

import numpy as np
from scipy import linalg

from mmfusion.structured.symmetric import Inverse, Symmetric

__all__ = ["Factor", "eliminate"]

#: Eigenvalues of the scaled matrix below this share of the largest are rounding.
TINY = 1e-13


class Factor:
    """A symmetric positive definite matrix, ready to solve with.

    Where it is not positive definite (far from the solution of a likelihood that is not concave,
    or along a coefficient that runs to infinity) its eigenvalues are replaced by their sizes, so
    that a Newton step still goes downhill.

    What is block diagonal apart is eliminated first: the rest is a factor of its Schur complement.

    Parameters
    ----------
    matrix : Symmetric or ndarray, shape (p, p)

    Attributes
    ----------
    definite : bool
        Whether it was positive definite, beside what is apart.
    """

    def __init__(self, matrix: Symmetric | np.ndarray) -> None:
        matrix = Symmetric.of(matrix)
        self.layout = matrix.layout
        schur, self.slopes, self.own, log_det = eliminate(matrix)
        diagonal = np.abs(np.diag(schur))
        self.scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
        scaled = schur / np.outer(self.scale, self.scale)
        self.definite = True
        try:
            low = linalg.cholesky(scaled, lower=True)
            self._inverse_root = linalg.lapack.dtrtri(low, lower=True)[0] if len(low) else low
            roots = np.diag(self._inverse_root)
        except linalg.LinAlgError:
            self.definite = False
            sizes, axes = linalg.eigh(scaled)
            sizes = _positive(sizes)
            self._inverse_root = axes.T / np.sqrt(sizes)[:, None]
            roots = 1 / np.sqrt(sizes)
        self.log_det = float(log_det + 2 * np.log(self.scale).sum() - 2 * np.log(roots).sum())

    def solve(self, right: np.ndarray) -> np.ndarray:
        """Return the inverse times a vector."""
        if not self.layout.split:
            return self._solve_first(right)
        apart = right[self.layout.apart]
        top = right[self.layout.first] - np.tensordot(self.slopes, apart, ((0, 1),) * 2)
        result = np.empty(len(right))
        result[self.layout.first] = found = self._solve_first(top)
        result[self.layout.apart] = (self.own @ apart[:, :, None])[:, :, 0] - self.slopes @ found
        return result

    def _solve_first(self, right: np.ndarray) -> np.ndarray:
        return self._inverse_root.T @ (self._inverse_root @ (right / self.scale)) / self.scale

    def inverse(self) -> Inverse:
        """Return the inverse."""
        first = (self._inverse_root.T @ self._inverse_root) / np.outer(self.scale, self.scale)
        return Inverse.from_schur(self.layout, first, self.slopes, self.own)


def eliminate(matrix: Symmetric) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Return what is left of a matrix beside what is apart: the Schur complement ``A - B' G``.

    And ``G = D^-1 B``, ``D^-1`` and the logarithm of D's determinant.
    """
    if not matrix.layout.split:
        return matrix.first, matrix.side, matrix.last, 0.0
    values, vectors = np.linalg.eigh(matrix.last)
    values = _positive(values)
    own = (vectors / values[:, None, :]) @ vectors.transpose(0, 2, 1)
    slopes = own @ matrix.side
    schur = matrix.first - np.tensordot(matrix.side, slopes, ((0, 1),) * 2)
    return schur, slopes, own, float(np.log(values).sum())


def _positive(values: np.ndarray) -> np.ndarray:
    """Return eigenvalues' sizes, none of them 0."""
    sizes = np.abs(values)
    return np.maximum(sizes, TINY * max(sizes.max(initial=0.0), 1e-300))
