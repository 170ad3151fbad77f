"""Tokens of several modalities, and attention among them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmfusion.fusion.base import FusionOperator, Part
from mmfusion.fusion.operators._masks import positive

__all__ = ["AttentionBlock", "TokenOperator", "Tokens", "heads", "join"]


class Tokens(NamedTuple):
    """Values of shape (batch, length, dim), and which are there, (batch, length); None for all."""

    values: Tensor
    there: Tensor | None

    def mean(self) -> Tensor:
        """Return the mean of the tokens that are there, (batch, dim); zeros where none is."""
        if self.there is None:
            return self.values.mean(dim=1)
        total = self.values.masked_fill(~self.there[:, :, None], 0.0).sum(dim=1)
        return total / self.there.sum(dim=1, keepdim=True).clamp_min(1)


class TokenOperator(FusionOperator):
    """Of modalities that are tokens, or an embedding each, which is one token.

    Tokens are projected to `dim`, ``W_k t + b_k``; the constant tells a modality's tokens from
    those of others.
    """

    takes_tokens: ClassVar[bool] = True

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__(widths, dim)
        self.projections = nn.ModuleList(nn.Linear(width, dim) for width in widths)
        self.width = dim

    def tokens(self, embeddings: Sequence[Part], present: Tensor | None) -> list[Tokens]:
        """Return the projected tokens of each modality; those that are not there were zeros."""
        found = []
        for k, (part, projection) in enumerate(zip(embeddings, self.projections, strict=True)):
            values, there = part if isinstance(part, tuple) else (part[:, None], None)
            if present is not None:
                mine = present[:, k : k + 1]
                there = mine.expand(values.shape[:2]) if there is None else there & mine
            if there is not None:
                values = values.masked_fill(~there[:, :, None], 0.0)
            found.append(Tokens(projection(values), there))
        return found


def join(parts: Sequence[Tokens]) -> Tokens:
    """Return the tokens of several modalities as one set."""
    values = torch.cat([part.values for part in parts], dim=1)
    if all(part.there is None for part in parts):
        return Tokens(values, None)
    masks = [
        part.values.new_ones(part.values.shape[:2], dtype=torch.bool)
        if part.there is None
        else part.there
        for part in parts
    ]
    return Tokens(values, torch.cat(masks, dim=1))


def heads(n_heads: int | None, dim: int) -> int:
    """Return the number of attention heads, by default 4 or what of 4 divides `dim`.

    Raises
    ------
    ValueError
        If the number asked for does not divide `dim`.
    """
    if n_heads is None:
        return math.gcd(4, dim)
    if dim % positive("n_heads", n_heads):
        raise ValueError(
            f"The n_heads option of JointFusion must divide its dim, {dim}. Got {n_heads!r}."
        )
    return n_heads


class _Attention(nn.Module):
    """Scaled dot-product attention with several heads (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, context: Tensor, there: Tensor | None) -> Tensor:
        query = self._split(self.query(queries))
        key, value = map(self._split, self.key_value(context).chunk(2, dim=-1))
        nothing = mask = None
        if there is not None:
            # Where nothing is there all is attended to, and the result thrown away: attention to
            # nothing is NaN in some implementations.
            nothing = ~there.any(dim=1)[:, None]
            mask = (there | nothing)[:, None, None, :]
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        found = self.output(found.transpose(1, 2).flatten(2))
        return found if nothing is None else found.masked_fill(nothing[:, :, None], 0.0)

    def _split(self, values: Tensor) -> Tensor:
        return values.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


class AttentionBlock(nn.Module):
    """Attention, then a dense layer, each added to its input, normalised before.

    The block of a transformer with normalisation before the layers (Xiong et al. 2020). Without
    `context` the tokens attend to themselves; where no token of it is there, attention adds zero.
    """

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = _Attention(dim, n_heads)
        self.dense = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim)
        )

    def forward(self, values: Tensor, context: Tokens) -> Tensor:
        found = self.attention(self.norm(values), self.norm(context.values), context.there)
        values = values + found
        return values + self.dense(values)
