"""Weights that modalities are given by attention: summed, feature by feature, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmfusion.fusion.base import FusionOperator, Part, register
from mmfusion.fusion.operators._masks import apply, masked_softmax, neutral
from mmfusion.fusion.operators._tokens import TokenOperator, Tokens, heads, join

__all__ = ["Attention", "FeatureAttention", "Modulation"]


def _score(dim: int, n_heads: int) -> nn.Sequential:
    """Return ``q' tanh(A h + a)``: a number a token and head."""
    return nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, n_heads, bias=False))


class _WeightedSum(TokenOperator):
    """Sum of the present tokens of all modalities, with weights that sum to one."""

    score: nn.Module

    def weights(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        """Return the weights, (batch, n_tokens, heads or dim), of all modalities' tokens in turn.

        An embedding is one token. Weights sum to one over what is there.
        """
        return self._weights(join(self.tokens(embeddings, present)))

    def _weights(self, tokens: Tokens) -> Tensor:
        there = None if tokens.there is None else tokens.there[:, :, None]
        return masked_softmax(self.score(tokens.values), there, dim=1)

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        tokens = join(self.tokens(embeddings, present))
        weights = self._weights(tokens)
        shares = tokens.values.unflatten(2, (weights.shape[2], -1))  # a part of the features a head
        return (weights[:, :, :, None] * shares).sum(dim=1).flatten(1)


@register("attention")
class Attention(_WeightedSum):
    """Weighted sum of the modalities: ``sum_k α_k h_k`` with ``α = softmax_k(q' tanh(A h_k + a))``.

    Of ``h_k = W_k u_k + b_k``, over the present modalities; of tokens, over all tokens of all
    modalities (the attention of Ilse, Tomczak & Welling 2018, equation 8). Zeros where nothing is
    present. Each head has a q of its own, and weighs its own part of the features.

    Parameters
    ----------
    widths, dim
        See `FusionOperator`.
    n_heads : int, optional
        A divisor of `dim`; by default 4, or the largest of 2 and 1 that divides it. One head is
        the plain weighted sum; it cannot tell from which modality alone a sign should turn (the
        weights would have to beat one another in a circle), so interactions need more.
    """

    def __init__(self, widths: Sequence[int], dim: int, *, n_heads: int | None = None) -> None:
        super().__init__(widths, dim)
        self.score = _score(dim, heads(n_heads, dim))


@register("feature_attention")
class FeatureAttention(_WeightedSum):
    """Weighted sum with weights of their own for each feature, as in MultiSurv.

    ``sum_k α_k * h_k`` with ``α = softmax_k(tanh(A h_k))`` feature by feature, of
    ``h_k = W_k u_k + b_k`` (Vale-Silva & Rohr 2021). There absent modalities are zero vectors that
    take weight, and the sum is multiplied by one plus their number; here the softmax is over the
    present modalities, so that their weights sum to one. Of tokens, over all of all modalities.
    """

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__(widths, dim)
        self.score = nn.Sequential(nn.Linear(dim, dim, bias=False), nn.Tanh())


@register("modulation")
class Modulation(FusionOperator):
    """Embeddings side by side, each times its weight: ``[α_1 u_1; ...; α_M u_M]``.

    With the weights of `Attention` with one head; of two modalities ``[α u; (1 - α) v]``. The
    weight of an absent modality is zero.
    """

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__(widths, dim)
        self.projections = nn.ModuleList(nn.Linear(width, dim) for width in widths)
        self.score = _score(dim, 1)
        self.width = sum(widths)

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        parts = neutral(embeddings, present)
        logits = self.score(torch.stack(apply(self.projections, parts), dim=1))
        weights = masked_softmax(logits, None if present is None else present[:, :, None], dim=1)
        return torch.cat([weights[:, k] * part for k, part in enumerate(parts)], dim=1)
