"""A network of several trunks: each output has a fusion and hidden layers of its own."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmfusion.fusion.base import Part
from mmfusion.fusion.network import FusionNetwork
from mmfusion.fusion.strategy import EarlyFusion, JointFusion, build_operator

__all__ = ["Reads", "SplitNetwork", "build_network"]

#: The modalities that each output of a network reads, None of all; None where one trunk serves all.
Reads = Sequence[Collection[str] | None] | None


class SplitNetwork(FusionNetwork):
    """A `FusionNetwork` whose outputs share the encoders, and nothing after them.

    An output takes the modalities that it does not read as absent, and is 0 in rows that have none
    of those it reads. The embeddings that `embed` and `latent` return are the first output's.

    Parameters
    ----------
    encoders : mapping of str to Encoder
    operators : sequence of FusionOperator
        One an output.
    reads : sequence of collections of str, or None
        What each output reads.
    **options
        As of `FusionNetwork`.
    """

    reads: Tensor

    def __init__(
        self, encoders: Mapping[str, Any], operators: Sequence[Any], reads: Any, **options: Any
    ) -> None:
        super().__init__(encoders, operators[0], **options)
        self.operators = nn.ModuleList(operators[1:])
        self.hiddens = nn.ModuleList(copy.deepcopy(self.hidden) for _ in operators[1:])
        for layer in self.hiddens.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
        known = [[own is None or name in own for name in encoders] for own in reads]
        self.register_buffer("reads", torch.tensor(known), persistent=False)

    def _predictors(
        self, parts: list[Part], inputs: Mapping[str, tuple[Tensor, ...]], present: Tensor | None
    ) -> Tensor:
        n = len(parts[0][0] if isinstance(parts[0], tuple) else parts[0])
        if present is None:
            present = self.reads.new_ones(n, len(parts))
        found = []
        trunks = [(self.operator, self.hidden), *zip(self.operators, self.hiddens, strict=True)]
        for number, (operator, hidden) in enumerate(trunks):
            there = present & self.reads[number]
            latent = self._latent(self._fuse(parts, there, operator), inputs, hidden)
            found.append(self._predict(latent)[:, number] * there.any(1))
        return torch.stack(found, dim=1)

    def parameter_groups(self) -> list[dict[str, Any]]:
        own = [*self.operators.parameters(), *self.hiddens.parameters()]
        return [*super().parameter_groups(), {"params": own}]


def build_network(
    strategy: JointFusion | EarlyFusion,
    encoders: Mapping[str, Any],
    n_outputs: int,
    reads: Reads = None,
    **options: Any,
) -> FusionNetwork:
    """Return the untrained network that a strategy asks for.

    Parameters
    ----------
    strategy : JointFusion or EarlyFusion
    encoders : mapping of str to Encoder
    n_outputs : int
    reads : sequence of collections of str, optional
        What each output reads, each with a trunk of its own; by default one trunk serves all.
    **options
        ``bias``, ``n_design``, ``joins_design`` and ``orthogonal`` of `FusionNetwork`.
    """
    widths = [encoder.width for encoder in encoders.values()]
    options |= {
        "hidden": strategy.hidden or (),
        "dropout": strategy.dropout,
        "n_predictors": n_outputs,
        "at": strategy.level,
    }
    if reads is None:
        return FusionNetwork(encoders, build_operator(strategy, widths), **options)
    operators = [build_operator(strategy, widths) for _ in reads]
    return SplitNetwork(encoders, operators, reads, **options)
