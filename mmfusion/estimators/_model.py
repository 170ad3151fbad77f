"""One fitted network with the preprocessing in front of it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Collection, Mapping
from typing import Self

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from sklearn.base import clone

from mmfusion.encoders import Encoder, ReducedEncoder, build_encoder, build_reduced_encoder
from mmfusion.fusion import EarlyFusion, FusionNetwork, JointFusion, build_operator
from mmfusion.heads.base import Head, Target
from mmfusion.modalities.base import AbsentData, Modality, ModalityData, MultimodalData
from mmfusion.training import (
    TrainingResult,
    TrainingSettings,
    make_fabric,
    predict_eta,
    train,
)

from ._features import frozen_features
from ._linear import fit_linear

__all__ = ["FusionModel"]


class FusionModel:
    """Fitted modalities and the network that reads them.

    Parameters
    ----------
    modalities : mapping of str to Modality
        Unfitted; they are cloned.
    strategy : JointFusion or EarlyFusion

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
        self, modalities: Mapping[str, Modality], strategy: JointFusion | EarlyFusion
    ) -> None:
        self.modalities = {name: clone(modality) for name, modality in modalities.items()}
        self.strategy = strategy

    def prepare(
        self,
        frame: pd.DataFrame,
        rows: np.ndarray,
        head: Head,
        target: Target,
        settings: TrainingSettings,
        eval_frame: pd.DataFrame | None = None,
        *,
        offset: torch.Tensor | None = None,
    ) -> None:
        """Fit the preprocessing on the training `rows` of `frame` and build the network, untrained.

        The whole frame becomes tensors once: training rows, validation rows and the last look at
        all of them are cut from the same. With an offset, the structured predictor of all rows of
        `frame`, the network starts at zero and has no constant of its own.
        """
        if self.linear and len(head.predictors) > 1:
            raise ValueError(
                "EarlyFusion(hidden=None) needs an outcome with one predictor (survival, numbers, "
                f"two classes). This one has {len(head.predictors)}; hidden=() is linear too."
            )
        for modality in self.modalities.values():
            modality.fit(frame.iloc[rows])
        device = make_fabric(settings.device, settings.precision).device
        self.encoders = self._build_encoders()
        reduces = isinstance(self.strategy, EarlyFusion) and self.strategy.reduce is not None

        def relevance(present: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            eta = head.initial(target).expand(len(values), -1)
            if offset is not None:
                eta = offset[torch.from_numpy(rows)][present]
            return head.relevance(eta, target.take(torch.nonzero(present)[:, 0]), values)

        def look() -> MultimodalData:
            return self.transform(
                frame, device, settings.precision, fit_rows=rows, relevance=relevance
            )

        if reduces:  # then the width of the network's input is learned first
            self.data = look()
        bias = head.has_intercept and offset is None
        self.network = self._assemble(len(head.predictors), bias=bias or self.linear)
        if bias:
            self.network.set_initial(head.initial(target))
        if not reduces:
            self.data = look()
        self.eval_data = (
            None if eval_frame is None else self.transform(eval_frame, device, settings.precision)
        )

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
        return train(self.network, head, data, target, settings, rng, held_out, offset, held_offset)

    def predict_prepared(self, settings: TrainingSettings) -> tuple[np.ndarray, np.ndarray]:
        """Return what `predict` returns for the frame of `prepare`, and forget its tensors."""
        data = self.data
        del self.data, self.eval_data
        return self._predict(data, make_fabric(settings.device, settings.precision), settings)

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
                encoders[name] = build_encoder(source, strategy.dim)
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
        )

    @classmethod
    def from_weights(
        cls,
        modalities: Mapping[str, Modality],
        strategy: JointFusion | EarlyFusion,
        head: Head,
        weights: Mapping[str, torch.Tensor],
    ) -> Self:
        """Return a fitted model from fitted modalities and the weights of its network."""
        model = cls({}, strategy)
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
        return MultimodalData(parts)

    def predict(
        self,
        frame: pd.DataFrame,
        settings: TrainingSettings,
        only: Collection[str] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return predictors, float64 of shape (n, K), and which rows have any modality, (n,).

        The modalities that are not in `only` are taken as absent.
        """
        fabric = make_fabric(settings.device, settings.precision, fall_back=True)
        data = self.transform(frame, fabric.device, settings.precision, only=only)
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
