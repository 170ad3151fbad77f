"""One fitted network with the preprocessing in front of it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone

from mmfusion.encoders import Encoder, ReducedEncoder, build_encoder, build_reduced_encoder
from mmfusion.fusion import EarlyFusion, FusionNetwork, JointFusion, build_operator
from mmfusion.heads.base import Head, Target
from mmfusion.modalities.base import AbsentData, Modality, ModalityData, MultimodalData
from mmfusion.objectives import Objective, WeightedObjectives
from mmfusion.training import (
    TrainingResult,
    TrainingSettings,
    make_fabric,
    predict_eta,
    train,
)
from mmfusion.training.device import Runtime
from mmfusion.training.inference import chunk_size

from ._auxiliary import sources
from ._checks import check_batches, expected_together, fit_modality
from ._features import frozen_features
from ._linear import fit_linear

__all__ = ["DesignUse", "FusionModel", "Start"]


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


NO_DESIGN = DesignUse()


@dataclass(frozen=True)
class Start:
    """Where a network's encoders start, and how fast they learn from there.

    Attributes
    ----------
    model : FusionModel
        Fitted; its modalities' preprocessing is taken over too.
    lr_scale : float
        Multiple of the encoders' learning rate; 0 holds them as they are.
    """

    model: FusionModel
    lr_scale: float


class FusionModel:
    """Fitted modalities and the network that reads them.

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
        Those of the network.
    network : FusionNetwork
        On the CPU between calls.
    """

    encoders: dict[str, Encoder]
    network: FusionNetwork

    def __init__(
        self,
        modalities: Mapping[str, Modality],
        strategy: JointFusion | EarlyFusion,
        design_use: DesignUse = NO_DESIGN,
    ) -> None:
        self.modalities = {name: clone(modality) for name, modality in modalities.items()}
        self.strategy = strategy
        self.design_use = design_use

    def prepare(
        self,
        frame: pd.DataFrame,
        rows: np.ndarray,
        head: Head,
        target: Target,
        settings: TrainingSettings,
        eval_frame: pd.DataFrame | None = None,
        *,
        designs: Sequence[torch.Tensor | None] = (None, None),
        offset: torch.Tensor | None = None,
        objectives: Sequence[Objective] = (),
        alone: bool = False,
        start: Start | None = None,
        of_part: bool = False,
    ) -> None:
        """Fit the preprocessing on the training `rows` of `frame` and build the network, untrained.

        The whole frame becomes tensors once: training rows, validation rows and the last look at
        all of them are cut from the same. With an offset, the structured predictor of all rows of
        `frame`, the network starts at zero and has no constant of its own. `designs` are the
        structured designs of both frames, where the network reads them. `objectives` are auxiliary
        losses, `alone` if there is no likelihood; with a `start`, preprocessing and encoders are
        taken from there. In a part of the rows (`of_part`) losses that these cannot teach are left
        out; all rows could.
        """
        if self.linear and len(head.predictors) > 1:
            raise ValueError(
                "EarlyFusion(hidden=None) needs an outcome with one predictor (survival, numbers, "
                f"two classes). This one has {len(head.predictors)}; hidden=() is linear too."
            )
        for name, modality in self.modalities.items():
            if start is None:
                fit_modality(name, modality, frame, rows, alone)
            else:
                self.modalities[name] = copy.deepcopy(start.model.modalities[name])
        device = make_fabric(settings.device, settings.precision).device
        precision = settings.precision
        self.encoders = self._build_encoders()
        reduces = isinstance(self.strategy, EarlyFusion) and self.strategy.reduce is not None

        def relevance(present: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            eta = head.initial(target).expand(len(values), -1)
            if offset is not None:
                eta = offset[torch.from_numpy(rows)][present]
            return head.relevance(eta, target.take(torch.nonzero(present)[:, 0]), values)

        def look() -> MultimodalData:
            fit_rows = rows if start is None else None
            return self.transform(
                frame, device, precision, designs[0], fit_rows=fit_rows, relevance=relevance
            )

        if reduces:  # then the width of the network's input is learned first
            self.data = look()
        bias = head.has_intercept and offset is None
        self.network = self._assemble(len(head.predictors), bias=bias or self.linear)
        if bias:
            self.network.set_initial(head.initial(target))
        if start is not None:
            for name, encoder in self.network.encoders.items():
                theirs = start.model.network.encoders[name]
                if type(encoder) is not type(theirs):  # JointFusion(at="tokens") of an image
                    raise ValueError(
                        f"The pretrained parameter holds a {type(theirs).__name__} of modality "
                        f"{name!r}; this fusion asks for a {type(encoder).__name__}."
                    )
                encoder.load_state_dict(theirs.state_dict())
            self.network.scale_encoders(start.lr_scale)
        if not reduces:
            self.data = look()
        self.eval_data = (
            None
            if eval_frame is None
            else self.transform(eval_frame, device, precision, designs[1])
        )
        self.objectives: WeightedObjectives | None = None
        if objectives:
            known = sources(self.network, self.modalities)
            present = self.data.present.cpu()[torch.from_numpy(rows)]
            present = present[present.any(1)]  # the others are not trained on
            n_batches = max(1, -(-len(present) // (settings.batch_size or len(rows))))
            together = expected_together(present, list(self.modalities), settings) / n_batches
            able = []
            for objective in objectives:
                try:
                    objective.check_sources(known, len(present) // n_batches)
                    objective.check_pairs(known, together)
                except ValueError:
                    if not of_part:
                        raise
                else:
                    able.append(objective)
            encoders = self.network.encoders.values()
            if able:
                self.objectives = WeightedObjectives(able, known, encoders, alone=alone)

    def train(
        self,
        head: Head,
        target: Target,
        rows: np.ndarray,
        validation: tuple[np.ndarray, Target] | None,
        settings: TrainingSettings,
        rng: np.random.Generator,
        offsets: tuple[torch.Tensor, torch.Tensor | None] | None = None,
    ) -> TrainingResult:
        """Train the prepared network on those of `rows` that have any of its modalities.

        Parameters
        ----------
        target : Target
            Of all rows of the frame of `prepare`.
        validation : tuple of positions and Target, optional
            Rows of the frame and their outcome; of `eval_frame` where there was one.
        offsets : tuple of Tensor, optional
            The structured predictor of all rows of the frame, and of `eval_frame`'s.
        """
        data, target, chosen = _present_rows(self.data, target, rows)
        offset = None if offsets is None else offsets[0][chosen]
        if self.linear:
            return fit_linear(self.network, head, data, target, offset)
        held_out, held_offset = None, None
        if validation is not None:
            source = self.data if self.eval_data is None else self.eval_data
            held, held_target, held_rows = _present_rows(
                source, validation[1], validation[0], of_rows=True
            )
            if head.informative(held_target):
                held_out = (held, held_target)
                if offsets is not None:
                    of_source = offsets[0] if self.eval_data is None else offsets[1]
                    held_offset = of_source[held_rows]  # type: ignore[index]
        if self.design_use.orthogonal:
            check_batches(self.network.cell.coefficients.shape[0], len(data), settings)  # type: ignore[union-attr]
        result = train(
            self.network,
            head,
            data,
            target,
            settings,
            rng,
            held_out,
            offset,
            held_offset,
            self.objectives,
        )
        self._fit_cell(settings)
        return result

    def _fit_cell(self, settings: TrainingSettings) -> None:
        """Make the network orthogonal to the design over all rows of the frame of `prepare`."""
        if self.network.cell is None:
            return
        data = self.data.take(torch.nonzero(self.data.present.any(1))[:, 0])
        self.network.to(data.present.device)
        latent = predict_eta(
            self.network, data, settings.micro_batch_size, forward=self.network.latent
        )
        self.network.to("cpu")
        self.network.cell.fit(latent.cpu(), data.design.cpu())  # type: ignore[union-attr]

    def predict_prepared(self, settings: TrainingSettings) -> tuple[np.ndarray, np.ndarray]:
        """Return what `predict` returns for the frame of `prepare`, and forget its tensors."""
        data = self.data
        self.forget()
        return self._predict(data, make_fabric(settings.device, settings.precision), settings)

    def forget(self) -> None:
        """Let go of what `prepare` made and only training needs."""
        del self.data, self.eval_data, self.objectives

    @property
    def linear(self) -> bool:
        """Whether there is no network to train, but a linear predictor to fit."""
        return isinstance(self.strategy, EarlyFusion) and self.strategy.hidden is None

    def _build_encoders(self, trained: bool = False) -> dict[str, Encoder]:
        strategy, encoders = self.strategy, {}
        for name, modality in self.modalities.items():
            # A network whose weights come from a file needs no pretrained ones.
            source = _without_pretrained(modality) if trained else modality
            if not isinstance(strategy, EarlyFusion):
                encoders[name] = build_encoder(source, strategy.dim, tokens=strategy.at == "tokens")
            elif strategy.reduce is None:
                encoders[name] = build_encoder(source, None)
            else:
                encoders[name] = build_reduced_encoder(
                    source, strategy.reduce, strategy.n_components
                )
        return encoders

    def _assemble(self, n_predictors: int, bias: bool) -> FusionNetwork:
        operator = build_operator(self.strategy, [e.width for e in self.encoders.values()])
        return FusionNetwork(
            self.encoders,
            operator,
            hidden=self.strategy.hidden or (),
            dropout=self.strategy.dropout,
            n_predictors=n_predictors,
            bias=bias,
            n_design=self.design_use.n_columns,
            joins_design=self.design_use.joins,
            orthogonal=self.design_use.orthogonal,
            at="embedding" if isinstance(self.strategy, EarlyFusion) else self.strategy.at,
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
        """Return a fitted model from fitted modalities and the weights of its network."""
        model = cls({}, strategy, design_use)
        model.modalities = dict(modalities)
        model.encoders = model._build_encoders(trained=True)
        if isinstance(strategy, EarlyFusion) and strategy.reduce is not None:
            for number, encoder in enumerate(model.encoders.values()):
                prefix = f"encoders.{number}."  # how wide it is, is in its weights
                mine = {k: v for k, v in weights.items() if k.startswith(prefix)}
                encoder.load_state_dict({k.removeprefix(prefix): v for k, v in mine.items()})
        model.network = model._assemble(len(head.predictors), "head.bias" in weights)
        model.network.load_state_dict(dict(weights))
        model.network.eval()
        return model

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
            if not encoder.frozen or isinstance(parts[name], AbsentData):
                continue
            parts[name] = features = frozen_features(encoder, parts[name], device, precision)
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
        """Return the embeddings of some modalities; `frame` needs the columns of no others.

        Returns
        -------
        embeddings : dict of str to ndarray, each of shape (n, width)
            Zeros where absent.
        fused : ndarray, shape (n, width)
        present : ndarray of bool, shape (n, len(names))
        """
        fabric = make_fabric(settings.device, settings.precision, fall_back=True)
        data = self.transform(frame, fabric.device, settings.precision, only=names)
        data = data.to(fabric.device)
        found: list[list[torch.Tensor]] = []
        self.network.to(fabric.device).eval()
        chunks = torch.arange(len(frame), device=fabric.device)
        for rows in chunks.split(settings.micro_batch_size or chunk_size(data)):
            with fabric.autocast():
                inputs, there = data.batch(rows, data.present[rows])
                embeddings, fused = self.network.embed(inputs, there)
            found.append([fused, *(embeddings[name] for name in names)])
        self.network.to("cpu")
        whole = [torch.cat(column).float().cpu().numpy() for column in zip(*found, strict=True)]
        order = [list(self.modalities).index(name) for name in names]
        present = data.present[:, order].cpu().numpy()
        return dict(zip(names, whole[1:], strict=True)), whole[0], present

    def predict(
        self,
        frame: pd.DataFrame,
        settings: TrainingSettings,
        design: torch.Tensor | None = None,
        only: Collection[str] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return predictors, float64 of shape (n, K), and which rows have any modality, (n,).

        The modalities that are not in `only` are taken as absent.
        """
        fabric = make_fabric(settings.device, settings.precision, fall_back=True)
        data = self.transform(frame, fabric.device, settings.precision, design, only=only)
        return self._predict(data, fabric, settings)

    def _predict(
        self, data: MultimodalData, fabric: Runtime, settings: TrainingSettings
    ) -> tuple[np.ndarray, np.ndarray]:
        self.network.to(fabric.device)
        try:
            eta = predict_eta(
                self.network,
                data.to(fabric.device),
                settings.micro_batch_size,
                settings.precision,
            )
        finally:
            self.network.to("cpu")
        return eta.cpu().numpy(), data.present.any(1).cpu().numpy()


def _without_pretrained(modality: Modality) -> Modality:
    if not getattr(modality, "pretrained", False):
        return modality
    modality = copy.copy(modality)
    return modality.set_params(pretrained=False)


def _present_rows(
    data: MultimodalData, target: Target, rows: np.ndarray, *, of_rows: bool = False
) -> tuple[MultimodalData, Target, torch.Tensor]:
    """Return data and outcome of those `rows` that have any modality, and which these are.

    `target` is that of all rows of `data`; with `of_rows`, that of `rows`. A member of late fusion
    learns from the rows that have its modality.
    """
    present = data.present[torch.from_numpy(rows)].any(1)
    chosen = torch.from_numpy(rows)[present]
    outcome = target.take(torch.nonzero(present)[:, 0]) if of_rows else target.take(chosen)
    whole = len(chosen) == len(data) and bool((chosen[1:] > chosen[:-1]).all())
    return (data if whole else data.take(chosen)), outcome, chosen
