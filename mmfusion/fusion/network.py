"""The network: encoders, fusion operator, hidden layers, predictors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from mmfusion.fusion.base import FusionOperator, Part
from mmfusion.fusion.orthogonal import OrthogonalCell
from mmfusion.modalities.base import DESIGN

__all__ = ["FusionNetwork"]


class _Encoders(nn.Module):
    """Encoders by the name of their modality, which may be any: ModuleDict refuses many names.

    In the state dict they are numbered.
    """

    def __init__(self, encoders: Mapping[str, Any]) -> None:
        super().__init__()
        for position, encoder in enumerate(encoders.values()):
            self.add_module(str(position), encoder)
        self._names = tuple(encoders)

    def __getitem__(self, name: str) -> Any:
        return self._modules[str(self._names.index(name))]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def values(self) -> list[Any]:
        return list(self._modules.values())

    def items(self) -> list[tuple[str, Any]]:
        return list(zip(self._names, self._modules.values(), strict=True))


class FusionNetwork(nn.Module):
    """Tensors of each modality -> predictors of the outcome.

    The predictors start at zero (the last layer's weights are zeros), or where `set_initial` puts
    them: training starts from the constant model, or from what is added to it from outside.

    Parameters
    ----------
    encoders : mapping of str to Encoder
        In the order of the columns of `present`.
    operator : FusionOperator
        For embeddings of the encoders' widths.
    hidden : sequence of int
        Widths of the layers (SiLU, dropout) between fusion and predictors.
    dropout : float
    n_predictors : int
    bias : bool
        Whether predictors have a constant; a Cox model's is part of its baseline.
    at : {"embedding", "tokens", "hidden"}
        What the operator gets: embeddings; tokens of the encoders that have them; or what hidden
        layers of each modality's own make of its embedding, with no further layers after fusion.
    n_design : int, default=0
        Columns of a structured design that stands beside the modalities.
    joins_design : bool, default=False
        Whether the design enters the hidden layers, beside the fused representation.
    orthogonal : bool, default=False
        Whether what the predictors are linear in is orthogonal to the design (`OrthogonalCell`).

    Attributes
    ----------
    encoders : mapping of str to Encoder
    kept : frozenset of str
        Modalities whose encoder is frozen: their inputs are its features, computed beforehand.
    width : int
        Width of the fused representation.
    encoder_lr_scale : float
        Learning rate of the encoders as a multiple of their usual one; 0 holds them, in evaluation
        mode.
    """

    encoder_lr_scale: float = 1.0

    def __init__(
        self,
        encoders: Mapping[str, Any],
        operator: FusionOperator,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
        n_predictors: int = 1,
        bias: bool = True,
        at: str = "embedding",
        n_design: int = 0,
        joins_design: bool = False,
        orthogonal: bool = False,
    ) -> None:
        super().__init__()
        self.at = at
        self.encoders = _Encoders(encoders)
        self.kept = frozenset(name for name, encoder in encoders.items() if encoder.frozen)
        self.operator = operator
        self.width = operator.width
        after = () if at == "hidden" else hidden
        self.joins_design = joins_design
        width = operator.width + (n_design if joins_design else 0)
        self.hidden = _dense(width, after, dropout)
        if at == "hidden":
            self.branches = nn.ModuleList(
                _dense(encoder.width, hidden, dropout) for encoder in encoders.values()
            )
        width = after[-1] if after else width
        self.cell = OrthogonalCell(n_design, width) if orthogonal else None
        self.head = nn.Linear(width, n_predictors, bias=bias)
        nn.init.zeros_(self.head.weight)
        if bias:
            nn.init.zeros_(self.head.bias)

    def set_initial(self, values: Tensor) -> None:
        """Let the predictors start from `values`, shape (n_predictors,).

        Raises
        ------
        ValueError
            If they are not zero and the network has no bias.
        """
        if self.head.bias is not None:
            with torch.no_grad():
                self.head.bias.copy_(values)
        elif torch.any(values != 0):
            raise ValueError(f"A network without bias starts at zero. Got {values.tolist()}.")

    def forward(
        self, inputs: Mapping[str, tuple[Tensor, ...]], present: Tensor | None = None
    ) -> Tensor:
        """Return the predictors.

        Parameters
        ----------
        inputs : mapping of str to tuple of Tensor
            What each encoder takes, or ``(features,)`` for the modalities in `kept`: only the rows
            that have the modality, in their order. Modalities that no row has may be left out.
        present : Tensor of bool, shape (batch, n_modalities), optional
            Which rows have which modality; None where every row has every one.

        Returns
        -------
        Tensor, shape (batch, n_predictors)
            In the precision of the weights, under autocast too.
        """
        return self.embed_and_predict(inputs, present)[1]

    def embed_and_predict(
        self, inputs: Mapping[str, tuple[Tensor, ...]], present: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor]:
        """Return the modalities' embeddings, in the encoders' order, and what `forward` returns.

        Of one pass, for losses of the embeddings beside a likelihood. What an embedding holds for a
        row without the modality means nothing.
        """
        parts = self._encode(inputs, present)
        return self._vectors(parts), self._predictors(parts, inputs, present)

    def _predictors(
        self, parts: list[Part], inputs: Mapping[str, tuple[Tensor, ...]], present: Tensor | None
    ) -> Tensor:
        hidden = self._latent(self._fuse(parts, present), inputs)
        if self.cell is not None:
            hidden = self.cell(hidden, inputs[DESIGN][0])
        return self._predict(hidden)

    def _predict(self, hidden: Tensor) -> Tensor:
        if hidden.dtype != self.head.weight.dtype:
            with torch.autocast(hidden.device.type, enabled=False):
                return self.head(hidden.to(self.head.weight.dtype))
        return self.head(hidden)

    def latent(
        self, inputs: Mapping[str, tuple[Tensor, ...]], present: Tensor | None = None
    ) -> Tensor:
        """Return what the hidden layers make of fused modalities (and design), (batch, width).

        Parameters
        ----------
        inputs, present
            See `forward`.
        """
        return self._latent(self._fuse(self._encode(inputs, present), present), inputs)

    def _latent(
        self, fused: Tensor, inputs: Mapping[str, tuple[Tensor, ...]], hidden: Any = None
    ) -> Tensor:
        if self.joins_design:
            fused = torch.cat([fused, inputs[DESIGN][0].to(fused.dtype)], dim=1)
        return (self.hidden if hidden is None else hidden)(fused)

    def embed(
        self, inputs: Mapping[str, tuple[Tensor, ...]], present: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return each modality's embedding (zeros where absent) and the fused representation.

        Parameters
        ----------
        inputs, present
            See `forward`.

        Returns
        -------
        embeddings : dict of str to Tensor, each of shape (batch, width of the encoder)
            Of a modality with tokens, their mean.
        fused : Tensor, shape (batch, width)
        """
        parts = self._encode(inputs, present)
        embeddings = dict(zip(self.encoders, self._vectors(parts), strict=True))
        return embeddings, self._fuse(parts, present)

    def _vectors(self, parts: list[Part]) -> list[Tensor]:
        return [
            encoder.pool(*part) if isinstance(part, tuple) else part
            for encoder, part in zip(self.encoders.values(), parts, strict=True)
        ]

    def _fuse(self, parts: list[Part], present: Tensor | None, operator: Any = None) -> Tensor:
        if self.at == "hidden":
            parts = [layers(part) for layers, part in zip(self.branches, parts, strict=True)]
        return (self.operator if operator is None else operator)(parts, present)

    def _encode(
        self, inputs: Mapping[str, tuple[Tensor, ...]], present: Tensor | None
    ) -> list[Part]:
        """Return each modality's embedding, or tokens, zeros where absent."""
        encode = self._tokens if self.at == "tokens" else self._embedding
        parts: list[Part] = []
        for position, (name, encoder) in enumerate(self.encoders.items()):
            if present is not None and name not in inputs:
                parts.append(self.head.weight.new_zeros(len(present), encoder.width))
                continue
            part = encode(name, encoder, inputs[name])
            if present is not None:
                part = _spread(part, present[:, position])
            parts.append(part)
        return parts

    def _embedding(self, name: str, encoder: Any, mine: tuple[Tensor, ...]) -> Tensor:
        return encoder.project(*mine) if name in self.kept else encoder(*mine)

    def _tokens(self, name: str, encoder: Any, mine: tuple[Tensor, ...]) -> Part:
        if name in self.kept or not encoder.has_tokens:
            return self._embedding(name, encoder, mine)  # one token
        return encoder.tokens(*mine)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the trained parameters in groups; a group may carry ``lr_scale`` (1 if absent)."""
        scale = self.encoder_lr_scale
        groups: list[dict[str, Any]] = [
            {**group, "lr_scale": scale * group.get("lr_scale", 1.0)}
            for encoder in (self.encoders.values() if scale else ())
            for group in encoder.parameter_groups()
        ]
        mine = [self.operator, self.hidden, self.head]
        mine += [self.branches] if self.at == "hidden" else []
        fusion = [parameter for module in mine for parameter in module.parameters()]
        return [group for group in [*groups, {"params": fusion}] if group["params"]]

    def scale_encoders(self, lr_scale: float) -> None:
        """Let the encoders learn at a multiple of their learning rate; 0 holds them as they are."""
        self.encoder_lr_scale = lr_scale
        if not lr_scale:
            self.encoders.requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if not self.encoder_lr_scale:
            self.encoders.eval()
        return self


def _dense(width: int, hidden: Sequence[int], dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for following in hidden:
        layers += [nn.Linear(width, following), nn.SiLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
        width = following
    return nn.Sequential(*layers)


def _spread(part: Part, rows: Tensor) -> Part:
    """Return what a modality's `rows` of the batch have for all rows, zeros (False) elsewhere."""
    if isinstance(part, tuple):
        values, there = part
        return _spread_values(values, rows), None if there is None else _spread_values(there, rows)
    return _spread_values(part, rows)


def _spread_values(values: Tensor, rows: Tensor) -> Tensor:
    if len(values) == len(rows):
        return values
    everyone = values.new_zeros(len(rows), *values.shape[1:])
    everyone[rows] = values
    return everyone
