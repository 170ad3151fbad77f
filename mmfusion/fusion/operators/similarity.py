"""How alike two modalities are, as features."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmfusion.fusion.base import FusionOperator, Part, register
from mmfusion.fusion.operators._masks import apply, neutral

__all__ = ["Similarity"]

_EPS = 1e-8


@register("similarity")
class Similarity(FusionOperator):
    """Inner product and cosine of each pair of modalities, and whether the pair is there.

    For each pair k < l, of the projections ``h_k = W_k u_k + b_k`` to `dim` features,
    ``[h_k' h_l / sqrt(dim), cos(h_k, h_l), m_k m_l]``, zeros where one of the two is absent. Only
    how modalities agree is left: what a modality says by itself is not. Of a single modality the
    projection is returned.
    """

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__(widths, dim)
        self.projections = nn.ModuleList(nn.Linear(width, dim) for width in widths)
        self.pairs = list(itertools.combinations(range(len(widths)), 2))
        self.scale = dim**-0.5
        self.width = 3 * len(self.pairs) or dim

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        parts = neutral(apply(self.projections, neutral(embeddings, present)), present)
        if not self.pairs:
            return parts[0]
        norms = [(part * part).sum(dim=1) + _EPS for part in parts]
        features = []
        for k, other in self.pairs:
            inner = (parts[k] * parts[other]).sum(dim=1)
            cosine = inner * (norms[k] * norms[other]).rsqrt()
            there = (
                torch.ones_like(inner)
                if present is None
                else (present[:, k] & present[:, other]).to(inner.dtype)
            )
            features += [inner * self.scale, cosine, there]
        return torch.stack(features, dim=1)
