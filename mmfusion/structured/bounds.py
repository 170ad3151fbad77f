"""Coefficients under inequalities, such as those of a monotone spline.

The inequalities are ``A b >= 0``, which 0 fulfils, with rows of A that are independent in each
term. Newton's step under them minimises the same quadratic over the coefficients that they allow,
by its dual: a least-squares problem in multipliers that are not negative, one a row of A.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

from mmfusion.structured.linalg import Factor
from mmfusion.structured.symmetric import Symmetric

__all__ = ["Face", "bounded_step", "inequalities"]

Array = NDArray[np.float64]

#: Of a matrix with a unit diagonal: what keeps it positive definite.
ROUNDING = 1e-14


def inequalities(p: int, pieces: list[tuple[slice, Array]]) -> Array | None:
    """Return A over p coefficients, (m, p), of the rows (m_j, k_j) of some terms; None of none."""
    if not pieces:
        return None
    rows = [np.zeros((len(own), p)) for _, own in pieces]
    for matrix, (columns, own) in zip(rows, pieces, strict=True):
        matrix[:, columns] = own
    return np.vstack(rows)


def bounded_step(
    factor: Factor, bounds: Array, coef: Array, step: Array
) -> tuple[Array, NDArray[np.bool_]]:
    r"""Return the step that inequalities allow, and which of them hold it back.

    With M the matrix of `factor` and d the step without inequalities, the new one minimises ``(s -
    d)' M (s - d)`` where ``A (b + s) >= 0``. It is ``d + M^-1 A' mu``, with

    .. math:: \mu = \arg\min_{\mu \ge 0} \tfrac12 \mu' A M^{-1} A' \mu + \mu' A (b + d).

    Parameters
    ----------
    factor : Factor, of a matrix (p, p)
    bounds : ndarray, shape (m, p)
        A.
    coef, step : ndarray, shape (p,)
    """
    pulled = np.stack([factor.solve(row) for row in bounds])
    gram = pulled @ bounds.T
    size = np.sqrt(np.diag(gram))
    scaled = gram / np.outer(size, size)
    scaled[np.diag_indices(len(size))] *= 1 + ROUNDING
    low = linalg.cholesky((scaled + scaled.T) / 2, lower=True)
    room = bounds @ (coef + step) / size
    held, _ = optimize.nnls(low.T, -linalg.solve_triangular(low, room, lower=True))
    return step + (held / size) @ pulled, held > 0


class Face(NamedTuple):
    """Where some inequalities hold as equalities: coefficients that move along it alone.

    Attributes
    ----------
    rows : ndarray, shape (a, p)
        Of the inequalities.
    across : ndarray, shape (p, a)
        ``Q = V A' (A V A')^-1``: what is taken off a move of the coefficients is Q A of it.
    """

    rows: Array
    across: Array

    @classmethod
    def of(cls, rows: Array, bread: Symmetric) -> Face:
        """Return the face of coefficients of which V (p, p) is the inverse Hessian."""
        moved = bread @ rows.T
        across = np.linalg.solve(rows @ moved, moved.T).T
        return cls(rows, np.asarray(across, dtype=np.float64))

    def along(self, vectors: Array) -> Array:
        """Return what is left of moves (p, r): ``(I - Q A)`` of them."""
        return vectors - self.across @ (self.rows @ vectors)

    def against(self, vectors: Array) -> Array:
        """Return ``(I - A' Q')`` of vectors (p, r)."""
        return vectors - self.rows.T @ (self.across.T @ vectors)

    def block(self, covariance: Symmetric, columns: slice) -> Array:
        """Return a covariance along the face, ``(I - Q A) V (I - Q A)'``, of some coefficients."""
        moved = covariance @ self.rows.T
        own = self.across[columns]
        part = moved[columns] @ own.T
        inside = own @ (self.rows @ moved) @ own.T
        return np.asarray(covariance[columns, columns] - part - part.T + inside)
