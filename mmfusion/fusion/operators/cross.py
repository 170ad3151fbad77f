"""Modalities that look at one another."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmfusion.fusion.base import Part, register
from mmfusion.fusion.operators._masks import masked_softmax
from mmfusion.fusion.operators._tokens import AttentionBlock, TokenOperator, Tokens, heads, join

__all__ = ["CoAttention", "CrossAttention"]


@register("cross_attention")
class CrossAttention(TokenOperator):
    """Each modality's tokens ask those of all others; the answers' means stand side by side.

    For each modality an `AttentionBlock` with its tokens as queries and the other modalities'
    tokens as keys and values (after Tsai et al. 2019, section 3.1), then the mean over its tokens,
    normalised, zeros where it is absent. Where all others are absent nothing is added to what
    it holds itself.

    Parameters
    ----------
    widths, dim
        See `FusionOperator`.
    n_heads : int, optional
        A divisor of `dim`; by default 4, or the largest of 2 and 1 that divides it.
    """

    def __init__(self, widths: Sequence[int], dim: int, *, n_heads: int | None = None) -> None:
        super().__init__(widths, dim)
        n_heads = heads(n_heads, dim)
        self.blocks = nn.ModuleList(AttentionBlock(dim, n_heads) for _ in widths)
        self.norm = nn.LayerNorm(dim)
        self.width = dim * len(widths)

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        parts = self.tokens(embeddings, present)
        answers = []
        for k, (part, block) in enumerate(zip(parts, self.blocks, strict=True)):
            # A single modality has itself to ask.
            others = join(parts[:k] + parts[k + 1 :] or parts)
            answer = self.norm(Tokens(block(part.values, others), part.there).mean())
            if present is not None:
                answer = answer.masked_fill(~present[:, k : k + 1], 0.0)
            answers.append(answer)
        return torch.cat(answers, dim=1)


@register("co_attention")
class CoAttention(TokenOperator):
    """Each modality's tokens are weighed in the light of the others', and summed.

    The parallel co-attention of Lu, Yang, Batra & Parikh (2016, equations 3 and 4): with the
    affinity ``C_kl = tanh(T_k B_kl T_l')``, ``C_lk = C_kl'``, of the tokens of two modalities,
    ``H_k = tanh(T_k A_k + sum_{l != k} C_kl T_l A_l)``, ``α_k = softmax(H_k q_k)`` over the tokens
    of k and ``z_k = α_k' T_k``. Returned is ``[z_1; ...; z_M]``, zeros where absent. The affinity
    is divided by the number of l's tokens, so that long sets do not outweigh the modality's own.
    An embedding is one token, of weight one: this operator is for tokens.
    """

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__(widths, dim)
        self.pairs = list(itertools.combinations(range(len(widths)), 2))
        self.forms = nn.ParameterList(torch.randn(dim, dim) / dim for _ in self.pairs)
        self.hidden = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in widths)
        self.scores = nn.ModuleList(nn.Linear(dim, 1, bias=False) for _ in widths)
        self.width = dim * len(widths)

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        parts = self.tokens(embeddings, present)
        own = [layer(part.values) for layer, part in zip(self.hidden, parts, strict=True)]
        light = list(own)
        for form, (k, other) in zip(self.forms, self.pairs, strict=True):
            affinity = (parts[k].values @ form @ parts[other].values.transpose(1, 2)).tanh()
            light[k] = light[k] + _shares(affinity, parts[other].there) @ own[other]
            light[other] = light[other] + _shares(affinity.mT, parts[k].there) @ own[k]
        fused = []
        for score, seen, part in zip(self.scores, light, parts, strict=True):
            there = None if part.there is None else part.there[:, :, None]
            weights = masked_softmax(score(seen.tanh()), there, dim=1)
            fused.append((weights * part.values).sum(dim=1))
        return torch.cat(fused, dim=1)


def _shares(affinity: Tensor, there: Tensor | None) -> Tensor:
    """Return affinities to tokens (in columns) over their number, zeros where none is there."""
    if there is None:
        return affinity / affinity.shape[2]
    count = there.sum(dim=1).clamp_min(1)[:, None, None]
    return affinity.masked_fill(~there[:, None, :], 0.0) / count
