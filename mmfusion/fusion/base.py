"""What a fusion operator promises: embeddings and presence in, one representation out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor, nn

__all__ = ["OPERATORS", "FusionOperator", "Part", "register"]

#: What an operator gets of a modality: its embedding, of shape (batch, width), or its tokens,
#: (batch, length, width), with a mask of those that are there, (batch, length), or None for all.
Part = Tensor | tuple[Tensor, Tensor | None]


class FusionOperator(nn.Module):
    """Embeddings of M modalities and who has them -> one representation.

    Parameters
    ----------
    widths : sequence of int, length M
        Width of each modality's embedding.
    dim : int
        Width wished for; `width` says what it became.
    **options
        Keyword-only, with defaults: ``JointFusion(options={...})`` fills them.

    Attributes
    ----------
    takes_tokens : bool
        Whether a modality may be a set of tokens in place of one embedding.

    Notes
    -----
    An absent modality is neutral: the output of a row does not depend on what the embedding of an
    absent modality holds (not even on NaN), nor on which modalities other rows lack. A row that
    has nothing gives a constant.
    """

    takes_tokens: ClassVar[bool] = False
    width: int

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__()

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        """Fuse.

        Parameters
        ----------
        embeddings : sequence of Tensor, each of shape (batch, widths[m])
            An operator that takes tokens also accepts ``(tokens, there)`` of any modality: tokens
            of shape (batch, length, widths[m]) and a mask of bool of shape (batch, length), or
            None where every token is there.
        present : Tensor of bool, shape (batch, M), or None
            None where every row has every modality (the fast path).

        Returns
        -------
        Tensor, shape (batch, width)
        """
        raise NotImplementedError


OPERATORS: dict[str, type[FusionOperator]] = {}


def register(name: str) -> Callable[[type[FusionOperator]], type[FusionOperator]]:
    """Make an operator known by `name` to ``JointFusion(name)`` and ``fusion=name``."""

    def add(operator: type[FusionOperator]) -> type[FusionOperator]:
        OPERATORS[name] = operator
        return operator

    return add
