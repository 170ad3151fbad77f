"""One fitted network with the preprocessing in front of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from sklearn.base import clone

from mmfusion.encoders import build_encoder
from mmfusion.fusion import EarlyFusion, FusionNetwork, JointFusion, build_operator
from mmfusion.heads.base import Head, Target
from mmfusion.modalities.base import Modality, MultimodalData
from mmfusion.objectives import Objective, WeightedObjectives
from mmfusion.training import (
    TrainingResult,
    TrainingSettings,
    make_fabric,
    predict_eta,
    train,
)
from mmfusion.training.inference import chunk_size

from ._auxiliary import sources
from ._features import frozen_features

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
    network : FusionNetwork
        On the CPU between calls.
    """

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
        has_offset: bool = False,
        objectives: Sequence[Objective] = (),
        alone: bool = False,
        start: Start | None = None,
    ) -> None:
        """Fit the preprocessing on the training `rows` of `frame` and build the network, untrained.

        The whole frame becomes tensors once: training rows, validation rows and the last look at
        all of them are cut from the same. With an offset the network starts at zero and has no
        constant of its own. `designs` are the structured designs of both frames, where the network
        reads them. `objectives` are auxiliary losses, `alone` if there is no likelihood; with a
        `start`, preprocessing and encoders are taken from there.
        """
        for name, modality in self.modalities.items():
            if start is None:
                modality.fit(frame.iloc[rows])
            else:
                self.modalities[name] = copy.deepcopy(start.model.modalities[name])
        bias = head.has_intercept and not has_offset
        self.network = self._build(len(head.predictors), bias=bias)
        if bias:
            self.network.set_initial(head.initial(target))
        if start is not None:
            for name, encoder in self.network.encoders.items():
                encoder.load_state_dict(start.model.network.encoders[name].state_dict())
            self.network.scale_encoders(start.lr_scale)
        device = make_fabric(settings.device, settings.precision).device
        precision = settings.precision
        fit_rows = rows if start is None else None
        self.data = self.transform(frame, device, precision, designs[0], fit_rows=fit_rows)
        self.eval_data = (
            None
            if eval_frame is None
            else self.transform(eval_frame, device, precision, designs[1])
        )
        self.objectives: WeightedObjectives | None = None
        if objectives:
            known = sources(self.network, self.modalities)
            n_batches = -(-len(rows) // (settings.batch_size or len(rows)))
            for objective in objectives:
                objective.check_sources(known, len(rows) // n_batches)
            encoders = self.network.encoders.values()
            self.objectives = WeightedObjectives(objectives, known, encoders, alone=alone)

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
        if not head.informative(target):
            raise ValueError(
                f"The training rows that have {' or '.join(map(repr, self.modalities))} "
                "hold no events: nothing can be learned from them."
            )
        offset = None if offsets is None else offsets[0][chosen]
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
            _check_batches(self.network.cell.coefficients.shape[0], len(data), settings)  # type: ignore[union-attr]
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

    def _build(self, n_predictors: int, bias: bool, trained: bool = False) -> FusionNetwork:
        early = isinstance(self.strategy, EarlyFusion)
        encoders = {
            name: build_encoder(
                # A network whose weights come from a file needs no pretrained ones.
                _without_pretrained(modality) if trained else modality,
                None if early else self.strategy.dim,
            )
            for name, modality in self.modalities.items()
        }
        operator = build_operator(self.strategy, [e.width for e in encoders.values()])
        return FusionNetwork(
            encoders,
            operator,
            hidden=self.strategy.hidden,
            dropout=self.strategy.dropout,
            n_predictors=n_predictors,
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
        """Return a fitted model from fitted modalities and the weights of its network."""
        model = cls({}, strategy, design_use)
        model.modalities = dict(modalities)
        model.network = model._build(len(head.predictors), "head.bias" in weights, trained=True)
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
    ) -> MultimodalData:
        """Return the tensors of `frame`, frozen encoders already applied.

        Where `fit_rows` are given, the scale of frozen features is learned from these rows.
        """
        parts = self._parts(frame, list(self.modalities), device, precision)
        if fit_rows is not None:
            for name in self.network.kept:
                train = parts[name].take(torch.from_numpy(fit_rows))
                self.network.encoders[name].fit_features(train.numeric[train.present])
        return MultimodalData(parts, design)

    def _parts(
        self, frame: pd.DataFrame, names: Sequence[str], device: torch.device, precision: str
    ) -> dict[str, Any]:
        """Return the tensors of some modalities."""
        parts: dict[str, Any] = {name: self.modalities[name].transform(frame) for name in names}
        for name in self.network.kept.intersection(names):
            parts[name] = frozen_features(
                self.network.encoders[name], parts[name], device, precision
            )
        return parts

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
        parts = self._parts(frame, names, fabric.device, settings.precision)
        data = MultimodalData(parts).to(fabric.device)
        order = {name: k for k, name in enumerate(self.modalities)}
        present = torch.zeros(len(frame), len(order), dtype=torch.bool, device=fabric.device)
        present[:, [order[name] for name in names]] = data.present
        found: list[list[torch.Tensor]] = []
        self.network.to(fabric.device).eval()
        chunks = torch.arange(len(frame), device=fabric.device)
        for rows in chunks.split(settings.micro_batch_size or chunk_size(data)):
            with fabric.autocast():
                inputs, _ = data.batch(rows, data.present[rows])
                embeddings, fused = self.network.embed(inputs, present[rows])
            found.append([fused, *(embeddings[name] for name in names)])
        self.network.to("cpu")
        whole = [torch.cat(column).float().cpu().numpy() for column in zip(*found, strict=True)]
        return dict(zip(names, whole[1:], strict=True)), whole[0], data.present.cpu().numpy()

    def predict(
        self,
        frame: pd.DataFrame,
        settings: TrainingSettings,
        design: torch.Tensor | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return predictors, float64 of shape (n, K), and which rows have any modality, (n,)."""
        fabric = make_fabric(settings.device, settings.precision, fall_back=True)
        data = self.transform(frame, fabric.device, settings.precision, design)
        return self._predict(data, fabric, settings)

    def _predict(
        self, data: MultimodalData, fabric: Fabric, settings: TrainingSettings
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


def _check_batches(n_columns: int, n_rows: int, settings: TrainingSettings) -> None:
    """Refuse batches of which a projection on the design would leave nothing."""
    sizes = {
        "batch_size": settings.batch_size or n_rows,
        "micro_batch_size": settings.micro_batch_size or n_rows,
    }
    for name, size in sizes.items():
        if min(size, n_rows) < 2 * n_columns:
            raise ValueError(
                f"The {name} parameter must be at least {2 * n_columns} with "
                f"orthogonalization='online': twice the {n_columns} columns of the structured "
                f"design, which else explain all a batch holds. Got {min(size, n_rows)}."
            )


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
