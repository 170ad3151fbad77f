"""Joint fusion operators: concatenation, sum, gates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmfusion.fusion.base import FusionOperator, register

__all__ = ["Concat", "Gated", "Sum"]


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

    def forward(self, embeddings: Sequence[Tensor], present: Tensor | None) -> Tensor:
        parts = _neutral(embeddings, present)
        if len(parts) == 1:
            return parts[0]
        if present is None:
            bits = parts[0].new_ones(len(parts[0]), len(parts))
        else:
            bits = present.to(parts[0].dtype)
        return torch.cat([*parts, bits], dim=1)


@register("sum")
class Sum(FusionOperator):
    """Sum of the projected embeddings of the present modalities: ``sum_k m_k (W_k u_k + b_k)``."""

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__(widths, dim)
        self.projections = nn.ModuleList(nn.Linear(width, dim) for width in widths)
        self.width = dim

    def forward(self, embeddings: Sequence[Tensor], present: Tensor | None) -> Tensor:
        total = None
        for part in _neutral(_apply(self.projections, _neutral(embeddings, present)), present):
            total = part if total is None else total + part
        assert total is not None
        return total


@register("gated")
class Gated(FusionOperator):
    """Gated multimodal unit: a gate for each feature chooses among the present modalities.

    ``sum_k z_k * tanh(W_k u_k + b_k)`` with ``z = softmax_k(G_k [u_1; ...; u_M] + c_k)`` over the
    present modalities, feature by feature (Arevalo, Solorio, Montes-y-Gómez & González 2017,
    section 3.1, with a softmax in place of independent sigmoids where there are more than two).
    Absent embeddings are zeros in the gates' input.
    """

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__(widths, dim)
        self.projections = nn.ModuleList(nn.Linear(width, dim) for width in widths)
        self.gates = nn.Linear(sum(widths), dim * len(widths))
        self.width = dim

    def forward(self, embeddings: Sequence[Tensor], present: Tensor | None) -> Tensor:
        parts = _neutral(embeddings, present)
        values = torch.stack(_apply(self.projections, parts), dim=1).tanh()
        logits = self.gates(torch.cat(parts, dim=1)).unflatten(1, (len(parts), self.width))
        if present is not None:
            # The lowest finite number, not -inf: its softmax is 0 as well, and a row that has
            # nothing (values all 0) gives 0 where -inf would give NaN.
            absent = ~present[:, :, None]
            logits = logits.masked_fill(absent, torch.finfo(logits.dtype).min)
            values = values.masked_fill(absent, 0.0)
        return (logits.softmax(dim=1) * values).sum(dim=1)


def _neutral(embeddings: Sequence[Tensor], present: Tensor | None) -> list[Tensor]:
    """Return the embeddings with zeros where absent, whatever stood there (multiplied, NaN stays).

    Before a Linear this also keeps what is absent out of the gradient of its weights.
    """
    if present is None:
        return list(embeddings)
    return [
        embedding.masked_fill(~present[:, k : k + 1], 0.0) for k, embedding in enumerate(embeddings)
    ]


def _apply(layers: nn.ModuleList, parts: Sequence[Tensor]) -> list[Tensor]:
    return [layer(part) for layer, part in zip(layers, parts, strict=True)]
