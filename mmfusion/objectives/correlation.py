"""Correlation: the embeddings of two modalities are to be predictable from each other, linearly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmfusion.inputs.parameters import check_choice
from mmfusion.objectives.base import Objective, ObjectiveModule, PairwiseModule, Source, pairs

__all__ = ["CanonicalCorrelation", "Correlation", "PearsonCorrelation"]

#: With fewer rows for a dimension, sample canonical correlations say little of the true ones; with
#: fewer rows than dimensions they are all 1, whatever the data.
ROWS_PER_DIMENSION = 4
#: Beside variances of embeddings of order one; keeps constant dimensions out.
EPSILON = 1e-12


@dataclass(eq=False, repr=False)
class Correlation(Objective):
    """The embeddings of two modalities are to be correlated.

    Parameters
    ----------
    weight : float or (float, float), default=0.1
        What the loss is multiplied by; a pair is the weight in the pretraining epochs and after:
        ``Correlation(weight=(1.0, 0.0), pretrain_epochs=20)`` is followed by the likelihood alone
        (the two stages of Yao, Zhu, Zhu & Huang 2017).
    kind : {"dcca", "pearson"}, default="dcca"
        "dcca": all canonical correlations of a batch (Andrew, Arora, Bilmes & Livescu 2013), for
        batches of at least four rows a dimension. "pearson": the correlations dimension by
        dimension, for batches of any size.
    shrinkage : float in (0, 1], default=0.05
        Of each covariance towards a multiple of the identity ("dcca").
    pretrain_epochs : int, default=0
        First epochs, in which the auxiliary losses are trained without the likelihood.

    See Also
    --------
    CanonicalCorrelation, PearsonCorrelation : The formulas.
    """

    name: ClassVar[str] = "correlation"

    weight: float | tuple[float, float] = 0.1
    kind: str = "dcca"
    shrinkage: float = 0.05
    pretrain_epochs: int = 0

    def check(self, *, pretraining: bool = False) -> None:
        super().check(pretraining=pretraining)
        check_choice("kind", self.kind, ("dcca", "pearson"), "Correlation")
        self._check_number("shrinkage", 1e-8, 1)

    def check_sources(self, sources: Sequence[Source], batch_rows: int) -> None:
        super().check_sources(sources, batch_rows)
        if self.kind == "pearson":
            self._check_one_width(sources)
            return
        widest = max(source.width for source in sources)
        if batch_rows < ROWS_PER_DIMENSION * widest:
            raise ValueError(
                f"{self!r} needs batches of at least {ROWS_PER_DIMENSION} rows for each of the "
                f"{widest} dimensions of an embedding, {ROWS_PER_DIMENSION * widest}. Got "
                f"{batch_rows}: raise batch_size, lower dim, or use kind='pearson'."
            )

    def check_pairs(
        self, sources: Sequence[Source], together: Tensor, part: str = "training"
    ) -> None:
        super().check_pairs(sources, together, part)
        if self.kind == "pearson":
            return
        found = {
            (sources[k].name, sources[other].name): (
                round(float(together[k, other]), 1),
                ROWS_PER_DIMENSION * max(sources[k].width, sources[other].width),
            )
            for k, other in pairs(len(sources))
        }
        if all(rows < needed for rows, needed in found.values()):
            told = ", ".join(f"{n} of {m} for {pair}" for pair, (n, m) in found.items())
            raise ValueError(
                f"{self!r} needs batches with at least {ROWS_PER_DIMENSION} rows for each "
                "dimension of an embedding that have both modalities of a pair. Expected in a "
                f"batch of the {part} rows: {told}. Raise batch_size, lower dim or "
                "modality_dropout, or use kind='pearson'."
            )

    def build(self, sources: Sequence[Source], encoders: Sequence[nn.Module]) -> ObjectiveModule:
        if self.kind == "pearson":
            return PearsonCorrelation()
        return CanonicalCorrelation(self.shrinkage)


class CanonicalCorrelation(PairwiseModule):
    """``-||S_u^(-1/2) S_uv S_v^(-1/2)||_*``: minus the sum of the canonical correlations, float64.

    ``S_u`` is the covariance of one modality's embeddings over the rows with both, shrunk to
    ``(1 - r) S_u + r (tr S_u / d) I``, so that rescaling an embedding does not change the loss
    (Andrew et al. 2013, eq. 10, add a multiple of I of fixed size). The mean over pairs of
    modalities.

    Parameters
    ----------
    shrinkage : float
        r.

    Notes
    -----
    Computed with Cholesky factors ``S = L L'`` in place of ``S^(1/2)``: L is ``S^(1/2)`` times a
    rotation, so the singular values are the same, and its gradient is finite where eigenvalues
    coincide. A pair of modalities that fewer rows have than 4 for each dimension is left out: its
    correlations would be near 1 whatever it holds.
    """

    def __init__(self, shrinkage: float = 0.05) -> None:
        super().__init__()
        self.shrinkage = shrinkage

    def fewest_rows(self, u: Tensor, v: Tensor) -> int:
        return ROWS_PER_DIMENSION * max(u.shape[1], v.shape[1])

    def of_pair(self, u: Tensor, v: Tensor) -> Tensor:
        u, v = u.double() - u.double().mean(0), v.double() - v.double().mean(0)
        crossed = u.T @ v / (len(u) - 1)
        left = torch.linalg.solve_triangular(self._factor(u), crossed, upper=False)
        whitened = torch.linalg.solve_triangular(self._factor(v), left.T, upper=False)
        return -torch.linalg.svdvals(whitened).sum()

    def _factor(self, centred: Tensor) -> Tensor:
        covariance = centred.T @ centred / (len(centred) - 1)
        d = len(covariance)
        level = self.shrinkage * covariance.trace() / d + EPSILON
        identity = torch.eye(d, dtype=centred.dtype, device=centred.device)
        return torch.linalg.cholesky((1 - self.shrinkage) * covariance + level * identity)


class PearsonCorrelation(PairwiseModule):
    """``-sum_d cov(u_d, v_d) / sqrt(var u_d var v_d)``, the mean over pairs of modalities.

    It bears batches of any size, for it has no matrix to invert; unlike canonical correlations it
    changes when an embedding is rotated.
    """

    def of_pair(self, u: Tensor, v: Tensor) -> Tensor:
        u, v = u.double() - u.double().mean(0), v.double() - v.double().mean(0)
        variances = (u**2).mean(0) * (v**2).mean(0)
        return -((u * v).mean(0) / (variances + EPSILON).sqrt()).sum()
