"""The one factorisation the fits need: of a symmetric matrix, scaled to a unit diagonal."""

from __future__ import annotations

import numpy as np
from scipy import linalg

__all__ = ["Factor"]

#: Eigenvalues of the scaled matrix below this share of the largest are rounding.
TINY = 1e-13


class Factor:
    """A symmetric positive definite matrix, ready to solve with.

    Where it is not positive definite (far from the solution of a likelihood that is not concave,
    or along a coefficient that runs to infinity) its eigenvalues are replaced by their sizes, so
    that a Newton step still goes downhill.

    Parameters
    ----------
    matrix : ndarray, shape (p, p)
    """

    def __init__(self, matrix: np.ndarray) -> None:
        diagonal = np.abs(np.diag(matrix))
        self.scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
        scaled = matrix / np.outer(self.scale, self.scale)
        try:
            self._inverse_root = linalg.solve_triangular(
                linalg.cholesky(scaled, lower=True), np.eye(len(scaled)), lower=True
            )
            roots = np.diag(self._inverse_root)
        except linalg.LinAlgError:
            values, vectors = linalg.eigh(scaled)
            values = np.maximum(np.abs(values), TINY * max(np.abs(values).max(), 1e-300))
            self._inverse_root = vectors.T / np.sqrt(values)[:, None]
            roots = 1 / np.sqrt(values)
        self.log_det = float(2 * np.log(self.scale).sum() - 2 * np.log(roots).sum())

    def solve(self, right: np.ndarray) -> np.ndarray:
        """Return the inverse times a vector."""
        return self._inverse_root.T @ (self._inverse_root @ (right / self.scale)) / self.scale

    def inverse(self) -> np.ndarray:
        """Return the inverse, symmetric."""
        return (self._inverse_root.T @ self._inverse_root) / np.outer(self.scale, self.scale)
