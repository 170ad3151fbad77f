"""What absent modalities are replaced by, and the check of an operator's options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmfusion.inputs.parameters import is_count

__all__ = ["apply", "masked_softmax", "neutral", "positive", "product", "with_one"]


def neutral(embeddings: Sequence[Any], present: Tensor | None, value: float = 0.0) -> list[Tensor]:
    """Return the embeddings with `value` where absent, whatever stood there.

    (Multiplied by zero, NaN would stay.) Zeros before a Linear also keep what is absent out of the
    gradient of its weights.
    """
    if present is None:
        return list(embeddings)
    return [
        embedding.masked_fill(~present[:, k : k + 1], value)
        for k, embedding in enumerate(embeddings)
    ]


def apply(layers: nn.ModuleList, parts: Sequence[Tensor]) -> list[Tensor]:
    """Return what each layer makes of its part."""
    return [layer(part) for layer, part in zip(layers, parts, strict=True)]


def product(parts: Sequence[Tensor], present: Tensor | None) -> Tensor:
    """Return the product of the present parts, feature by feature; ones where nothing is."""
    first, *rest = neutral(parts, present, 1.0)
    for part in rest:
        first = first * part
    return first


def with_one(part: Tensor) -> Tensor:
    """Return ``[part; 1]``."""
    return torch.cat([part, part.new_ones(len(part), 1)], dim=1)


def masked_softmax(logits: Tensor, there: Tensor | None, dim: int) -> Tensor:
    """Return the softmax over what is there: exactly 0 elsewhere, all 0 where nothing is."""
    if there is None:
        return logits.softmax(dim)
    # The lowest finite number, not -inf: of nothing but -inf the softmax is NaN.
    lowest = torch.finfo(logits.dtype).min
    return logits.masked_fill(~there, lowest).softmax(dim).masked_fill(~there, 0.0)


def positive(option: str, value: Any) -> int:
    """Return an option that must be a positive integer, or raise ValueError naming it."""
    if not is_count(value):
        raise ValueError(
            f"The {option} option of JointFusion must be a positive integer. Got {value!r}."
        )
    return int(value)
