"""Gates: one modality says how much of another passes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmfusion.fusion.base import FusionOperator, Part, register
from mmfusion.fusion.operators._masks import apply, masked_softmax, neutral, product

__all__ = ["Gated", "LSTMGate"]


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

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        parts = neutral(embeddings, present)
        values = torch.stack(apply(self.projections, parts), dim=1).tanh()
        logits = self.gates(torch.cat(parts, dim=1)).unflatten(1, (len(parts), self.width))
        there = None if present is None else present[:, :, None]
        return (masked_softmax(logits, there, dim=1) * values).sum(dim=1)


@register("lstm_gate")
class LSTMGate(FusionOperator):
    """Gates by tanh, each modality gated by all others in turn.

    ``sum_k m_k (V_k u_k + b_k) * prod_{l != k} tanh(W_l u_l + c_l)^{m_l}``. Of two modalities
    this is ``V u * tanh(W v)``, as a cell's output gate has it in an LSTM (Hochreiter &
    Schmidhuber 1997), plus the same with the roles exchanged, so that no order of the modalities
    is preferred. An absent modality's gate is 1 (tanh of zeros would be 0 and shut all others).
    """

    def __init__(self, widths: Sequence[int], dim: int) -> None:
        super().__init__(widths, dim)
        self.values = nn.ModuleList(nn.Linear(width, dim) for width in widths)
        self.gates = nn.ModuleList(
            nn.Linear(width, dim) for width in (widths if len(widths) > 1 else ())
        )
        for gate in self.gates:
            nn.init.ones_(gate.bias)  # type: ignore[arg-type] # start open, not shut
        self.width = dim

    def forward(self, embeddings: Sequence[Part], present: Tensor | None) -> Tensor:
        parts = neutral(embeddings, present)
        values = neutral(apply(self.values, parts), present)
        if len(parts) == 1:
            return values[0]
        gates = neutral([gate.tanh() for gate in apply(self.gates, parts)], present, 1.0)
        terms = [
            value * product(gates[:k] + gates[k + 1 :], None) for k, value in enumerate(values)
        ]
        return torch.stack(terms).sum(dim=0)
