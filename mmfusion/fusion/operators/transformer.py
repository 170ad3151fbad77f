"""Transformers over the tokens of all modalities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmfusion.fusion.base import Part, register
from mmfusion.fusion.operators._masks import positive
from mmfusion.fusion.operators._tokens import AttentionBlock, TokenOperator, Tokens, heads, join

__all__ = ["Perceiver", "Transformer"]


@register("transformer")
class Transformer(TokenOperator):
    """Self-attention among a learned token and those of all modalities; the learned one is read.

    The tokens of absent modalities are masked. With nothing present the learned token has itself.
    See Gorishniy, Rubachev, Khrulkov & Babenko (2021, section 3.3) for tables.

    Parameters
    ----------
    widths, dim
        See `FusionOperator`.
    n_heads : int, optional
        A divisor of `dim`; by default 4, or the largest of 2 and 1 that divides it.
    n_layers : int, default=2
        Blocks of attention.
    """

    def __init__(
        self, widths: Sequence[int], dim: int, *, n_heads: int | None = None, n_layers: int = 2
    ) -> None:
        super().__init__(widths, dim)
        n_heads, n_layers = heads(n_heads, dim), positive("n_layers", n_layers)
        self.summary = nn.Parameter(torch.randn(dim) * 0.02)
        self.blocks = nn.ModuleList(AttentionBlock(dim, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        parts = self.tokens(embeddings, present)
        summary = self.summary.expand(len(parts[0].values), 1, -1)
        values, there = join([Tokens(summary, None), *parts])
        for block in self.blocks[:-1]:
            values = block(values, Tokens(values, there))
        # Of the last layer only the learned token is read.
        return self.norm(self.blocks[-1](values[:, :1], Tokens(values, there))[:, 0])


@register("perceiver")
class Perceiver(TokenOperator):
    """A few learned latents ask the tokens of all modalities, then one another; their mean.

    After Jaegle et al. (2021, section 3.1): the cost is linear in the number of tokens, for long
    sets of them. With nothing present the latents have one another.

    Parameters
    ----------
    widths, dim
        See `FusionOperator`.
    n_latents : int, default=8
    n_heads : int, optional
        A divisor of `dim`; by default 4, or the largest of 2 and 1 that divides it.
    n_layers : int, default=1
        Blocks of attention among the latents, after the one to the tokens.
    """

    def __init__(
        self,
        widths: Sequence[int],
        dim: int,
        *,
        n_latents: int = 8,
        n_heads: int | None = None,
        n_layers: int = 1,
    ) -> None:
        super().__init__(widths, dim)
        n_heads, n_layers = heads(n_heads, dim), positive("n_layers", n_layers)
        self.latents = nn.Parameter(torch.randn(positive("n_latents", n_latents), dim))
        self.reading = AttentionBlock(dim, n_heads)
        self.blocks = nn.ModuleList(AttentionBlock(dim, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(dim)

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        tokens = join(self.tokens(embeddings, present))
        values = self.reading(self.latents.expand(len(tokens.values), -1, -1), tokens)
        for block in self.blocks:
            values = block(values, Tokens(values, None))
        return self.norm(values.mean(dim=1))
