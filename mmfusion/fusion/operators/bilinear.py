"""Bilinear forms of each pair of modalities."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmfusion.fusion.base import FusionOperator, Part, register
from mmfusion.fusion.operators._masks import neutral, with_one

__all__ = ["Bilinear", "GatedBilinear"]


class _Form(nn.Module):
    """``z_o = u' W_o v``, with weights of shape (width of u, width of v, dim)."""

    def __init__(self, left: int, right: int, dim: int) -> None:
        super().__init__()
        # Of inputs of variance 1 the output has variance 1.
        self.weight = nn.Parameter(torch.randn(left, right, dim) * (left * right) ** -0.5)

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        left = (u @ self.weight.flatten(1)).unflatten(1, self.weight.shape[1:])
        return (v[:, None, :] @ left)[:, 0]


@register("bilinear")
class Bilinear(FusionOperator):
    """Sum over pairs of bilinear forms: ``z_o = sum_{k<l} [u_k; 1]' W_o^{kl} [u_l; 1]``.

    With the ones the form holds linear terms and a constant too. An absent embedding is zeros
    beside its one, so that of a pair with one present the linear terms of that one stay. One
    modality has nothing to be paired with: ``W [u; 1]``.
    """

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__(widths, dim)
        pairs = list(itertools.combinations([width + 1 for width in widths], 2))
        pairs = pairs or [(widths[0] + 1, 1)]
        self.forms = nn.ModuleList(_Form(left, right, dim) for left, right in pairs)
        self.width = dim

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        parts = [with_one(part) for part in neutral(embeddings, present)]
        if len(parts) == 1:
            parts.append(torch.ones_like(parts[0][:, :1]))
        pairs = itertools.combinations(parts, 2)
        terms = [form(u, v) for form, (u, v) in zip(self.forms, pairs, strict=True)]
        return torch.stack(terms).sum(dim=0)


@register("gated_bilinear")
class GatedBilinear(FusionOperator):
    """Bilinear forms of a modality and the gates of another.

    ``z_o = sum_{k != l} m_k u_k' W_o^{kl} σ(u_l)^{m_l}`` over ordered pairs; the gates of an
    absent modality are ones. One modality has gates of its own only: ``z = W u``.
    """

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__(widths, dim)
        pairs = list(itertools.permutations(widths, 2)) or [(widths[0], 1)]
        self.forms = nn.ModuleList(_Form(left, right, dim) for left, right in pairs)
        self.width = dim

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        parts = neutral(embeddings, present)
        if len(parts) == 1:
            return self.forms[0](parts[0], torch.ones_like(parts[0][:, :1]))
        gates = neutral([part.sigmoid() for part in parts], present, 1.0)
        pairs = itertools.permutations(range(len(parts)), 2)
        terms = [
            form(parts[k], gates[other]) for form, (k, other) in zip(self.forms, pairs, strict=True)
        ]
        return torch.stack(terms).sum(dim=0)
