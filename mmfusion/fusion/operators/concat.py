"""Side by side: concatenation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmfusion.fusion.base import FusionOperator, Part, register
from mmfusion.fusion.operators._masks import neutral

__all__ = ["Concat"]


@register("concat")
class Concat(FusionOperator):
    """Embeddings side by side, zeros where absent, then who is present: ``[m u; m]``.

    The presence bits let even a linear head learn an offset for an absent modality. One modality
    has none: nothing can be absent.

    Examples
    --------
    >>> import torch
    >>> u, v = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0]])
    >>> Concat([2, 1])([u, v], torch.tensor([[True, False]]))
    tensor([[1., 2., 0., 1., 0.]])
    """

    def __init__(self, widths: Sequence[int], dim: int = 0) -> None:
        super().__init__(widths, dim)
        self.width = sum(widths) + (len(widths) if len(widths) > 1 else 0)

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        parts = neutral(embeddings, present)
        if len(parts) == 1:
            return parts[0]
        if present is None:
            bits = parts[0].new_ones(len(parts[0]), len(parts))
        else:
            bits = present.to(parts[0].dtype)
        return torch.cat([*parts, bits], dim=1)
