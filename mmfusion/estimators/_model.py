"""One fitted network with the preprocessing in front of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Self

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric
from sklearn.base import clone

from mmfusion.encoders import build_encoder
from mmfusion.fusion import EarlyFusion, FusionNetwork, JointFusion, build_operator
from mmfusion.heads.base import Head, Target
from mmfusion.modalities.base import Modality, MultimodalData
from mmfusion.training import (
    TrainingResult,
    TrainingSettings,
    make_fabric,
    predict_eta,
    train,
)

from ._features import frozen_features

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
    network : FusionNetwork
        On the CPU between calls.
    """

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
        has_offset: bool = False,
    ) -> None:
        """Fit the preprocessing on the training `rows` of `frame` and build the network, untrained.

        The whole frame becomes tensors once: training rows, validation rows and the last look at
        all of them are cut from the same. With an offset the network starts at zero and has no
        constant of its own.
        """
        for modality in self.modalities.values():
            modality.fit(frame.iloc[rows])
        bias = head.has_intercept and not has_offset
        self.network = self._build(len(head.predictors), bias=bias)
        if bias:
            self.network.set_initial(head.initial(target))
        device = make_fabric(settings.device, settings.precision).device
        self.data = self.transform(frame, device, settings.precision, fit_rows=rows)
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

    def _build(self, n_predictors: int, bias: bool, trained: bool = False) -> FusionNetwork:
        early = isinstance(self.strategy, EarlyFusion)
        at = "embedding" if early else self.strategy.at
        encoders = {
            name: build_encoder(
                # A network whose weights come from a file needs no pretrained ones.
                _without_pretrained(modality) if trained else modality,
                None if early else self.strategy.dim,
                tokens=at == "tokens",
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
            at=at,
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
        model.network = model._build(len(head.predictors), "head.bias" in weights, trained=True)
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
    ) -> MultimodalData:
        """Return the tensors of `frame`, frozen encoders already applied.

        Where `fit_rows` are given, the scale of frozen features is learned from these rows.
        """
        parts = {name: modality.transform(frame) for name, modality in self.modalities.items()}
        for name in self.network.kept:
            encoder = self.network.encoders[name]
            parts[name] = frozen_features(encoder, parts[name], device, precision)
            if fit_rows is not None:
                train = parts[name].take(torch.from_numpy(fit_rows))
                encoder.fit_features(train.numeric[train.present])
        return MultimodalData(parts)

    def predict(
        self, frame: pd.DataFrame, settings: TrainingSettings
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return predictors, float64 of shape (n, K), and which rows have any modality, (n,)."""
        fabric = make_fabric(settings.device, settings.precision, fall_back=True)
        data = self.transform(frame, fabric.device, settings.precision)
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
