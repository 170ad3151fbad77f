"""One network with the preprocessing in front of it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone

from mmfusion.encoders import (
    ComponentsEncoder,
    Encoder,
    ReducedEncoder,
    build_encoder,
    build_reduced_encoder,
    tames,
)
from mmfusion.fusion import EarlyFusion, FusionNetwork, JointFusion, build_network
from mmfusion.heads.base import Head
from mmfusion.modalities.base import AbsentData, Modality, ModalityData, MultimodalData
from mmfusion.model.beside import Beside
from mmfusion.model.checks import refuse_no_numbers
from mmfusion.model.features import frozen_features
from mmfusion.training import TrainingSettings, make_fabric, network_outputs
from mmfusion.training.inference import chunk_size
from mmfusion.training.precision import single_precision

__all__ = ["DesignUse", "Network", "Start"]

#: What the names of the weights of all members but the first begin with.
MEMBER = "member"


@dataclass(frozen=True)
class DesignUse:
    """What a network makes of the structured design beside it.

    Attributes
    ----------
    n_columns : int
    joins : bool
        Whether its columns enter the hidden layers (a nonlinear head).
    orthogonal : bool
        Whether the network's predictor is made orthogonal to it in training.
    """

    n_columns: int = 0
    joins: bool = False
    orthogonal: bool = False

    @property
    def read(self) -> bool:
        """Whether the network reads it at all."""
        return self.joins or self.orthogonal

    def of(self, n_columns: int) -> DesignUse:
        """Return the same use of a design with so many columns."""
        return replace(self, n_columns=n_columns)


NO_DESIGN = DesignUse()


@dataclass(frozen=True)
class Start:
    """Where a network's encoders start, and how fast they learn from there.

    Attributes
    ----------
    network : Network
        Fitted; its modalities' preprocessing is taken over too.
    lr_scale : float
        Multiple of the encoders' learning rate; 0 holds them as they are.
    """

    network: Network
    lr_scale: float

    def fitted(self, name: str) -> Modality:
        """Return the fitted preprocessing of a modality."""
        return copy.deepcopy(self.network.modalities[name])


class Network:
    """Fitted modalities and the module that reads them.

    Parameters
    ----------
    modalities : mapping of str to Modality
        Unfitted; they are cloned.
    strategy : JointFusion or EarlyFusion
    design_use : DesignUse

    Attributes
    ----------
    modalities : dict of str to Modality
        Fitted.
    encoders : dict of str to Encoder
        Those of the module.
    members : list of FusionNetwork
        Modules of one shape, whose outputs are averaged; on the CPU between calls.
    """

    encoders: dict[str, Encoder]
    members: list[FusionNetwork]

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        strategy: JointFusion | EarlyFusion,
        design_use: DesignUse = NO_DESIGN,
    ) -> None:
        self.modalities = {name: clone(modality) for name, modality in modalities.items()}
        self.strategy = strategy
        self.design_use = design_use

    @property
    def module(self) -> FusionNetwork:
        """The first member."""
        return self.members[0]

    def multiply(self, n_members: int) -> None:
        """Make so many members of the first one, all as it is now; what is frozen is shared."""
        self.members = [self.module, *(_copy(self.module) for _ in range(n_members - 1))]

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the weights of all members by name; what they share stands once."""
        first = self.module.state_dict()
        known = {value.data_ptr() for value in first.values() if value.numel()}
        for number, member in enumerate(self.members[1:], start=1):
            own = member.state_dict().items()
            first |= {f"{MEMBER}{number}.{name}": v for name, v in own if v.data_ptr() not in known}
        return first

    def build(
        self,
        subjects: pd.DataFrame,
        training: np.ndarray,
        head: Head,
        settings: TrainingSettings,
        beside: Beside,
        relevance: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        start: Start | None = None,
        capacity: int | None = None,
    ) -> MultimodalData:
        """Build the untrained module for the fitted modalities; return the subjects' tensors.

        Parameters
        ----------
        subjects : DataFrame
            A row a subject.
        training : ndarray of int
            Those of them that are trained on: what an encoder learns before the training (the
            scale of frozen features, components) it learns from these.
        head : Head
        settings : TrainingSettings
        beside : Beside
        relevance : callable
            Of a mask of the training subjects and values of their features: how much each feature
            says of the outcome.
        start : Start, optional
        capacity : int, optional
            Inputs of one modality that the rows can carry; of more, the leading components.
        """
        device = make_fabric(settings.device, settings.precision).device
        self.encoders = self._build_encoders()
        if capacity is not None and start is None and not self.strategy.reduces:
            self._tame(capacity)

        def look() -> MultimodalData:
            return self.transform(
                subjects,
                device,
                settings.precision,
                beside.design,
                fit_rows=training if start is None else None,
                relevance=relevance,
            )

        # The width of a reduced input is learned first.
        data = look() if self.strategy.reduces else None
        constant = len(head.constants) > 0 and not beside.complete
        bias = constant or self.strategy.linear
        self.members = [self._assemble(head, bias)]
        if start is not None:
            self._take_encoders(start)
        return look() if data is None else data

    def _tame(self, capacity: int) -> None:
        """Let the encoders of modalities that are too wide see their leading components."""
        for name, modality in self.modalities.items():
            if tames(modality, self.encoders[name]) > 2 * capacity:
                modality.n_seen_ = capacity
                self.encoders[name] = _build_encoder(modality, self.strategy)

    def _take_encoders(self, start: Start) -> None:
        for name, encoder in self.module.encoders.items():
            theirs = start.network.module.encoders[name]
            if type(encoder) is not type(theirs):  # JointFusion(at="tokens") of an image
                raise ValueError(
                    f"The pretrained parameter holds a {type(theirs).__name__} of modality "
                    f"{name!r}; this fusion asks for a {type(encoder).__name__}."
                )
            encoder.load_state_dict(theirs.state_dict())
        self.module.scale_encoders(start.lr_scale)

    def fit_cell(self, data: MultimodalData, settings: TrainingSettings) -> None:
        """Make each member orthogonal to the design over all subjects that have a modality."""
        if self.module.cell is None:
            return
        data = data.take(torch.nonzero(data.present.any(1))[:, 0])
        for member in self.members:
            member.to(data.present.device)
            latent = network_outputs(member, data, settings.micro_batch_size, forward=member.latent)
            member.to("cpu")
            member.cell.fit(latent.cpu(), data.design.cpu())  # type: ignore[union-attr]

    def _build_encoders(self, trained: bool = False) -> dict[str, Encoder]:
        encoders: dict[str, Encoder] = {}
        for name, modality in self.modalities.items():
            # A network whose weights come from a file needs no pretrained ones.
            source = _without_pretrained(modality) if trained else modality
            encoders[name] = _build_encoder(source, self.strategy)
        return encoders

    def _assemble(self, head: Head, bias: bool) -> FusionNetwork:
        return build_network(
            self.strategy,
            self.encoders,
            len(head.deep_basis),
            head.deep_reads,
            bias=bias,
            n_design=self.design_use.n_columns,
            joins_design=self.design_use.joins,
            orthogonal=self.design_use.orthogonal,
        )

    @classmethod
    def from_weights(
        cls,
        modalities: Mapping[str, Modality],
        strategy: JointFusion | EarlyFusion,
        head: Head,
        weights: Mapping[str, torch.Tensor],
        design_use: DesignUse = NO_DESIGN,
    ) -> Self:
        """Return a fitted network from fitted modalities and the weights of its module."""
        network = cls({}, strategy, design_use)
        network.modalities = dict(modalities)
        network.encoders = network._build_encoders(trained=True)
        if strategy.reduces:
            for number, encoder in enumerate(network.encoders.values()):
                prefix = f"encoders.{number}."  # how wide it is, is in its weights
                mine = {k: v for k, v in weights.items() if k.startswith(prefix)}
                encoder.load_state_dict({k.removeprefix(prefix): v for k, v in mine.items()})
        own: dict[int, dict[str, torch.Tensor]] = {0: {}}
        for name, value in weights.items():
            number = 0
            if name.startswith(MEMBER):
                head_of, _, name = name.partition(".")
                number = int(head_of.removeprefix(MEMBER))
            own.setdefault(number, {})[name] = value
        first = network._assemble(head, "head.bias" in weights)
        first.load_state_dict(own.pop(0))
        network.members = [first.eval()]
        network.multiply(1 + len(own))
        for number, theirs in own.items():
            network.members[number].load_state_dict(first.state_dict() | theirs)
        return network

    def transform(
        self,
        frame: pd.DataFrame,
        device: torch.device,
        precision: str,
        design: torch.Tensor | None = None,
        *,
        fit_rows: np.ndarray | None = None,
        relevance: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        only: Collection[str] | None = None,
    ) -> MultimodalData:
        """Return the tensors of `frame`, frozen encoders already applied.

        Where `fit_rows` are given, the scale of frozen features is learned from these rows; of
        early fusion also their components or choice, by the `relevance` to the outcome of the
        values of those of the `fit_rows` that have them. The modalities that are not in `only` are
        absent in every row, and not read.
        """
        nobody = torch.zeros(len(frame), dtype=torch.bool)
        parts: dict[str, ModalityData] = {
            name: modality.transform(frame) if only is None or name in only else AbsentData(nobody)
            for name, modality in self.modalities.items()
        }
        for name, encoder in self.encoders.items():
            if fit_rows is not None and isinstance(encoder, ComponentsEncoder):
                table = parts[name].take(torch.from_numpy(fit_rows))
                encoder.fit_numbers(table.numeric[table.present])  # type: ignore[attr-defined]
            if not encoder.frozen or isinstance(parts[name], AbsentData):
                continue
            parts[name] = features = frozen_features(encoder, parts[name], device, precision)
            there = features.present.numpy()
            refuse_no_numbers(features.numeric.numpy(), there, frame.index, "encoder", [name])
            if fit_rows is not None:
                train = features.take(torch.from_numpy(fit_rows))
                values = train.numeric[train.present]
                if isinstance(encoder, ReducedEncoder) and relevance is not None:
                    encoder.fit_features(values, functools.partial(relevance, train.present))
                else:
                    encoder.fit_features(values)
        return MultimodalData(parts, design)

    @torch.no_grad()
    def embed(
        self, frame: pd.DataFrame, settings: TrainingSettings, names: Sequence[str]
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Return the first member's embeddings; `frame` needs the columns of no other modality.

        Returns
        -------
        embeddings : dict of str to ndarray, each of shape (n, width)
            Zeros where absent.
        fused : ndarray, shape (n, width)
        present : ndarray of bool, shape (n, len(names))
        """
        with single_precision():
            fabric = make_fabric(settings.device, settings.precision, fall_back=True)
            data = self.transform(frame, fabric.device, settings.precision, only=names)
            data = data.to(fabric.device)
            found: list[list[torch.Tensor]] = []
            self.module.to(fabric.device).eval()
            chunks = torch.arange(len(frame), device=fabric.device)
            for rows in chunks.split(settings.micro_batch_size or chunk_size(data)):
                with fabric.autocast():
                    inputs, there = data.batch(rows, data.present[rows])
                    embeddings, fused = self.module.embed(inputs, there)
                found.append([fused, *(embeddings[name] for name in names)])
            self.module.to("cpu")
        whole = [torch.cat(column).float().cpu().numpy() for column in zip(*found, strict=True)]
        order = [list(self.modalities).index(name) for name in names]
        present = data.present[:, order].cpu().numpy()
        for number, name in enumerate(names):
            refuse_no_numbers(whole[1 + number], present[:, number], frame.index, "encoder", [name])
        refuse_no_numbers(whole[0], np.asarray(present.any(axis=1)), frame.index, "network", names)
        return dict(zip(names, whole[1:], strict=True)), whole[0], present

    def outputs(
        self,
        subjects: pd.DataFrame,
        settings: TrainingSettings,
        design: torch.Tensor | None = None,
        only: Collection[str] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the module's outputs, float64 of shape (n, D), and who has any modality, (n,).

        The modalities that are not in `only` are taken as absent.
        """
        with single_precision():
            fabric = make_fabric(settings.device, settings.precision, fall_back=True)
            data = self.transform(subjects, fabric.device, settings.precision, design, only=only)
            return self.outputs_of(data, settings, subjects.index)

    def outputs_of(
        self, data: MultimodalData, settings: TrainingSettings, rows: pd.Index
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what `outputs` returns of subjects whose tensors are there.

        Raises
        ------
        ValueError
            If the network says NaN or infinity of one that it sees: the first is named by `rows`.
        """
        each = [self.member_outputs(member, data, settings, rows) for member in self.members]
        return np.mean(each, axis=0), data.present.any(1).cpu().numpy()

    def member_outputs(
        self,
        member: FusionNetwork,
        data: MultimodalData,
        settings: TrainingSettings,
        rows: pd.Index,
    ) -> np.ndarray:
        """Return what one member says of subjects whose tensors are there, (n, D)."""
        fabric = make_fabric(settings.device, settings.precision, fall_back=True)
        member.to(fabric.device)
        try:
            with single_precision():
                outputs = network_outputs(
                    member, data.to(fabric.device), settings.micro_batch_size, settings.precision
                )
        finally:
            member.to("cpu")
        found, present = outputs.cpu().numpy(), data.present.any(1).cpu().numpy()
        refuse_no_numbers(found, present, rows, "network", list(self.modalities))
        return found


def _copy(module: FusionNetwork) -> FusionNetwork:
    """Return a copy that shares what is not trained."""
    frozen = {id(p): p for p in module.parameters() if not p.requires_grad}
    return copy.deepcopy(module, frozen)


def _without_pretrained(modality: Modality) -> Modality:
    if not getattr(modality, "pretrained", False):
        return modality
    modality = copy.copy(modality)
    return modality.set_params(pretrained=False)


def _build_encoder(modality: Modality, strategy: JointFusion | EarlyFusion) -> Encoder:
    if strategy.reduces:
        assert isinstance(strategy.reduce, str)
        return build_reduced_encoder(modality, strategy.reduce, strategy.n_components)
    return build_encoder(modality, strategy.width, tokens=strategy.level == "tokens")
