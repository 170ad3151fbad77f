"""The outer product of all modalities."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from mmfusion.fusion.base import FusionOperator, Part, register
from mmfusion.fusion.operators._masks import neutral, positive, with_one

__all__ = ["TensorProduct"]


@register("tensor")
class TensorProduct(FusionOperator):
    """All products of features of different modalities: ``[u_1; 1] ⊗ ... ⊗ [u_M; 1]``, flattened.

    With the ones it holds the embeddings themselves, their pairwise products and so on up to those
    of all modalities (Zadeh, Chen, Poria, Cambria & Morency 2017, equation 2). An absent modality
    is ``[0; 1]``: products with it are zero, those of the others stay.

    Parameters
    ----------
    widths, dim
        See `FusionOperator`; `dim` is not used.
    max_size : int, default=1_000_000
        Most features that it may make.

    Raises
    ------
    ValueError
        If ``prod_k (widths[k] + 1)`` is more.

    Examples
    --------
    >>> import torch
    >>> u, v = torch.tensor([[2.0, 3.0]]), torch.tensor([[5.0]])
    >>> TensorProduct([2, 1])([u, v], None)
    tensor([[10.,  2., 15.,  3.,  5.,  1.]])
    """

    def __init__(self, widths: Sequence[int], dim: int = 0, *, max_size: int = 1_000_000) -> None:
        super().__init__(widths, dim)
        self.width = math.prod(width + 1 for width in widths)
        if self.width > positive("max_size", max_size):
            raise ValueError(
                f"The operator 'tensor' would make {self.width:,} features of embeddings of widths "
                f"{tuple(widths)}; at most {max_size:,} are allowed (option max_size). Give "
                "JointFusion a smaller dim, or the operator 'low_rank_tensor', which holds the "
                "same product in factors."
            )

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        first, *rest = [with_one(part) for part in neutral(embeddings, present)]
        for part in rest:
            first = (first[:, :, None] * part[:, None, :]).flatten(1)
        return first
