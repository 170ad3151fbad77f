"""The penalties of a design: their weighted sum, its determinant and the shares in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Block", "Penalties"]

#: Eigenvalues of a penalty below this share of the largest are zero.
RANK_TOL = 1e-9


@dataclass(frozen=True)
class Block:
    """The penalties of one term.

    Attributes
    ----------
    label : str
    columns : slice
    matrices : ndarray, shape (m, k, k)
    basis : ndarray, shape (k, r)
        Orthonormal basis of the coefficients that some penalty sees.
    position : slice
        The term's entries in a vector of all smoothing parameters.
    """

    label: str
    columns: slice
    matrices: np.ndarray
    basis: np.ndarray
    position: slice


class Penalties:
    """All penalties of a design with p columns.

    A vector of smoothing parameters has an entry a penalty, in the order of the terms.

    Parameters
    ----------
    p : int
    terms : sequence of (label, columns, matrices)
        Penalised terms; matrices symmetric, positive semi-definite, none of them 0.
    """

    def __init__(self, p: int, terms: list[tuple[str, slice, list[np.ndarray]]]) -> None:
        self.p = p
        self.blocks: list[Block] = []
        start = 0
        for label, columns, matrices in terms:
            stacked = np.stack(matrices)
            norms = np.linalg.norm(stacked, axis=(1, 2))
            values, vectors = np.linalg.eigh((stacked / norms[:, None, None]).sum(0))
            basis = vectors[:, values > RANK_TOL * values[-1]]
            stop = start + len(matrices)
            self.blocks.append(Block(label, columns, stacked, basis, slice(start, stop)))
            start = stop
        self.size = start

    @property
    def rank(self) -> int:
        """Dimension of the penalised coefficients."""
        return sum(block.basis.shape[1] for block in self.blocks)

    def matrix(self, sp: np.ndarray) -> np.ndarray:
        """Return the weighted sum, shape (p, p)."""
        result = np.zeros((self.p, self.p))
        for block in self.blocks:
            result[block.columns, block.columns] += np.tensordot(
                sp[block.position], block.matrices, 1
            )
        return result

    def log_det(self, sp: np.ndarray) -> float:
        """Return the log of the product of the sum's eigenvalues that are not 0."""
        return sum(
            float(np.linalg.slogdet(_inside(block, np.tensordot(sp[block.position], m, 1)))[1])
            for block in self.blocks
            for m in [block.matrices]
        )

    def shares(self, sp: np.ndarray) -> np.ndarray:
        """Return the derivatives of `log_det` in the log smoothing parameters."""
        result = np.empty(self.size)
        for block in self.blocks:
            weights = sp[block.position]
            inverse = np.linalg.inv(_inside(block, np.tensordot(weights, block.matrices, 1)))
            result[block.position] = [
                weight * np.sum(inverse * _inside(block, matrix))
                for weight, matrix in zip(weights, block.matrices, strict=True)
            ]
        return result

    def traces(self, matrix: np.ndarray) -> np.ndarray:
        """Return the trace of a (p, p) matrix times each penalty."""
        return np.concatenate(
            [np.zeros(0)]
            + [
                np.einsum("ij,mji->m", matrix[block.columns, block.columns], block.matrices)
                for block in self.blocks
            ]
        )

    def applied(self, coef: np.ndarray) -> np.ndarray:
        """Return each penalty times the coefficients, shape (size, p)."""
        result = np.zeros((self.size, self.p))
        for block in self.blocks:
            result[block.position, block.columns] = block.matrices @ coef[block.columns]
        return result


def _inside(block: Block, matrix: np.ndarray) -> np.ndarray:
    return block.basis.T @ matrix @ block.basis
