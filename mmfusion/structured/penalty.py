"""The penalties of a design: their weighted sum, its determinant and the shares in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mmfusion.structured.symmetric import Layout, Symmetric

__all__ = ["DiagonalPenalty", "MatrixPenalty", "Penalties"]

#: Eigenvalues of a penalty below this share of the largest are zero.
RANK_TOL = 1e-9

Array = NDArray[np.float64]


@dataclass(frozen=True)
class MatrixPenalty:
    """The penalties of one term.

    Attributes
    ----------
    label : str
    columns : slice
    matrices : ndarray, shape (m, k, k)
    position : slice
        The term's entries in a vector of all smoothing parameters.
    """

    label: str
    columns: slice
    matrices: Array
    position: slice

    @cached_property
    def basis(self) -> Array:
        """Orthonormal basis of the coefficients that some penalty sees, shape (k, r)."""
        norms = np.linalg.norm(self.matrices, axis=(1, 2))
        values, vectors = np.linalg.eigh((self.matrices / norms[:, None, None]).sum(0))
        return vectors[:, values > RANK_TOL * values[-1]]

    @property
    def rank(self) -> int:
        """Dimension of the penalised coefficients."""
        return self.basis.shape[1]

    def sum(self, weights: Array) -> Array:
        """Return the weighted sum, shape (k, k)."""
        return np.tensordot(weights, self.matrices, 1)

    def log_det(self, weights: Array) -> float:
        """Return the log of the product of the sum's eigenvalues that are not 0."""
        return float(np.linalg.slogdet(self._inside(self.sum(weights)))[1])

    def shares(self, weights: Array) -> Array:
        """Return the derivatives of `log_det` in the logs of the weights."""
        inverse = np.linalg.inv(self._inside(self.sum(weights)))
        return weights * [np.sum(inverse * self._inside(matrix)) for matrix in self.matrices]

    def traces(self, matrix: Symmetric | Array) -> Array:
        """Return the trace of a (p, p) matrix times each penalty."""
        own = matrix[self.columns, self.columns]
        return np.einsum("ij,mji->m", own, self.matrices)

    def balance(self, matrix: Symmetric) -> Array:
        """Return for each penalty the ratio of a matrix's trace over the term to its own."""
        own = np.trace(matrix[self.columns, self.columns])
        return own / np.trace(self.matrices, axis1=1, axis2=2)

    def inverse_traces(self, matrix: Symmetric) -> Array:
        """Return the trace of a matrix times the pseudo-inverse of each penalty."""
        own = matrix[self.columns, self.columns]
        inverses = np.linalg.pinv(self.matrices, rcond=1e-9, hermitian=True)
        return np.einsum("ij,mji->m", own, inverses)

    def applied(self, coef: Array) -> Array:
        """Return each penalty times the term's coefficients, shape (m, k)."""
        return self.matrices @ coef

    def _inside(self, matrix: Array) -> Array:
        return self.basis.T @ matrix @ self.basis


@dataclass(frozen=True)
class DiagonalPenalty:
    """The same for a penalty that is a diagonal matrix, without a matrix.

    Attributes
    ----------
    diagonal : ndarray, shape (k,)
    """

    label: str
    columns: slice
    diagonal: Array
    position: slice

    @property
    def _used(self) -> NDArray[np.bool_]:
        return self.diagonal > RANK_TOL * self.diagonal.max()

    @property
    def rank(self) -> int:
        return int(self._used.sum())

    def sum(self, weights: Array) -> Array:
        """Return the weighted sum's diagonal, shape (k,)."""
        return weights[0] * self.diagonal

    def log_det(self, weights: Array) -> float:
        return float(np.log(weights[0] * self.diagonal[self._used]).sum())

    def shares(self, weights: Array) -> Array:
        return np.array([float(self.rank)])

    def traces(self, matrix: Symmetric | Array) -> Array:
        return np.array([matrix.diagonal()[self.columns] @ self.diagonal])

    def balance(self, matrix: Symmetric) -> Array:
        return np.array([matrix.diagonal()[self.columns].sum() / self.diagonal.sum()])

    def inverse_traces(self, matrix: Symmetric) -> Array:
        own = matrix.diagonal()[self.columns][self._used]
        return np.array([(own / self.diagonal[self._used]).sum()])

    def applied(self, coef: Array) -> Array:
        return (self.diagonal * coef)[None]


class Penalties:
    """All penalties of a design with p columns.

    A vector of smoothing parameters has an entry a penalty, in the order of the terms.

    Parameters
    ----------
    layout : Layout or int
        Which coefficients are apart; their penalties must be diagonal. For p itself none.
    terms : sequence of (label, columns, matrices)
        Penalised terms; matrices symmetric, positive semi-definite, none of them 0. A single one
        may be given by its diagonal.
    """

    def __init__(self, layout: Layout | int, terms: list[tuple[str, slice, list[Array]]]) -> None:
        self.layout = Layout.whole(layout) if isinstance(layout, int) else layout
        self.p = self.layout.size
        self.terms: list[MatrixPenalty | DiagonalPenalty] = []
        start = 0
        for label, columns, matrices in terms:
            position = slice(start, start + len(matrices))
            start = position.stop
            if len(matrices) == 1 and matrices[0].ndim == 1:
                self.terms.append(DiagonalPenalty(label, columns, matrices[0], position))
            else:
                full = [np.diag(m) if m.ndim == 1 else m for m in matrices]
                self.terms.append(MatrixPenalty(label, columns, np.stack(full), position))
        self.size = start

    @property
    def rank(self) -> int:
        """Dimension of the penalised coefficients."""
        return sum(term.rank for term in self.terms)

    def matrix(self, sp: Array) -> Symmetric:
        """Return the weighted sum, shape (p, p)."""
        pieces = [(term.columns, term.sum(sp[term.position])) for term in self.terms]
        return penalty_matrix(self.layout, pieces)

    def log_det(self, sp: Array) -> float:
        """Return the log of the product of the sum's eigenvalues that are not 0."""
        return sum(term.log_det(sp[term.position]) for term in self.terms)

    def shares(self, sp: Array) -> Array:
        """Return the derivatives of `log_det` in the log smoothing parameters."""
        return self._each([term.shares(sp[term.position]) for term in self.terms])

    def traces(self, matrix: Symmetric | Array) -> Array:
        """Return the trace of a (p, p) matrix times each penalty."""
        return self._each([term.traces(matrix) for term in self.terms])

    def balance(self, information: Symmetric) -> Array:
        """Return smoothing parameters that weigh each penalty like the information."""
        return self._each([term.balance(information) for term in self.terms])

    def inverse_traces(self, information: Symmetric) -> Array:
        """Return the trace of the information times each penalty's pseudo-inverse."""
        return self._each([term.inverse_traces(information) for term in self.terms])

    def applied(self, coef: Array) -> Array:
        """Return each penalty times the coefficients, shape (size, p)."""
        result = np.zeros((self.size, self.p))
        for term in self.terms:
            result[term.position, term.columns] = term.applied(coef[term.columns])
        return result

    @staticmethod
    def _each(values: list[Array]) -> Array:
        return np.concatenate([np.zeros(0), *values])


def penalty_matrix(layout: Layout, pieces: list[tuple[slice, Array]]) -> Symmetric:
    """Return the sum of matrices (k, k), or diagonals (k,), over the columns of their terms."""
    result = Symmetric.zeros(layout)
    diagonal = np.zeros(layout.size)
    for columns, matrix in pieces:
        if matrix.ndim == 1:
            diagonal[columns] += matrix
        else:
            at = np.searchsorted(layout.first, np.arange(layout.size)[columns])
            result.first[np.ix_(at, at)] += matrix
    result.first[np.diag_indices(len(result.first))] += diagonal[layout.first]
    f = np.arange(layout.apart.shape[1])
    result.last[:, f, f] += diagonal[layout.apart]
    return result
