"""Factored forms of the bilinear and the tensor product."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mmfusion.fusion.base import FusionOperator, Part, register
from mmfusion.fusion.operators._masks import apply, neutral, positive, product

__all__ = ["LowRankBilinear", "LowRankTensor"]


@register("low_rank_bilinear")
class LowRankBilinear(FusionOperator):
    """Bilinear form of low rank: ``z = P prod_k (U_k u_k + b_k)^{m_k} + c``.

    Of two modalities this is ``z_o = u' W_o v`` plus linear terms, with
    ``W_o = sum_r P_or U_1r U_2r'`` (Kim, On, Lim, Kim, Ha & Zhang 2017, equations 4 and 7, without
    their activation, so that the form stays multilinear). A factor of an absent modality is one.

    Parameters
    ----------
    widths, dim
        See `FusionOperator`.
    rank : int, default=32
        Rows of each U_k.
    """

    def __init__(self, widths: Sequence[int], dim: int, *, rank: int = 32) -> None:
        super().__init__(widths, dim)
        rank = positive("rank", rank)
        self.factors = nn.ModuleList(nn.Linear(width, rank) for width in widths)
        for factor in self.factors:
            nn.init.ones_(factor.bias)  # type: ignore[arg-type] # as in Product
        self.projection = nn.Linear(rank, dim)
        self.width = dim

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        factors = apply(self.factors, neutral(embeddings, present))
        return self.projection(product(factors, present))


@register("low_rank_tensor")
class LowRankTensor(FusionOperator):
    """Linear map of the tensor product of all modalities, its weights in factors (LMF).

    ``z = sum_{r <= rank} prod_k F_k^r [u_k; 1]`` (Liu, Shen, Lakshminarasimhan, Liang, Zadeh &
    Morency 2018, equation 7): what a linear layer makes of `TensorProduct` where that layer's
    weights have this rank, at a cost linear in the number of modalities. Of an absent modality
    ``[0; 1]`` is left.

    Parameters
    ----------
    widths, dim
        See `FusionOperator`.
    rank : int, default=4
        Terms of the sum.
    """

    def __init__(self, widths: Sequence[int], dim: int, *, rank: int = 4) -> None:
        super().__init__(widths, dim)
        self.rank = positive("rank", rank)
        self.factors = nn.ModuleList(nn.Linear(width, self.rank * dim) for width in widths)
        for factor in self.factors:
            nn.init.ones_(factor.bias)  # type: ignore[arg-type] # as in Product
        self.width = dim

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        # A Linear's bias is its matrix's column for the one, which an absent modality keeps.
        factors = apply(self.factors, neutral(embeddings, present))
        return product(factors, None).unflatten(1, (self.rank, self.width)).sum(dim=1)
