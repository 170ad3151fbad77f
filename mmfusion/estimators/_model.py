"""One fitted network with the preprocessing in front of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Self

import numpy as np
import pandas as pd
import torch
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
        head: Head,
        target: Target,
        settings: TrainingSettings,
        validation: tuple[pd.DataFrame, Target] | None = None,
    ) -> None:
        """Fit the preprocessing on the training rows and build the network, untrained."""
        for modality in self.modalities.values():
            modality.fit(frame)
        self.network = self._build(len(head.predictors), bias=head.has_intercept)
        self.network.set_initial(head.initial(target))
        device = make_fabric(settings.device, settings.precision).device
        data = self.transform(frame, device, settings.precision, fit_features=True)
        self._training = (data, target)
        self._validation = None
        if validation is not None:
            rows = self.transform(validation[0], device, settings.precision)
            self._validation = (rows, validation[1])

    def presence(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Return which training and validation rows have any modality (after `prepare`)."""
        held = None if self._validation is None else self._validation[0].present.any(1).numpy()
        return self._training[0].present.any(1).numpy(), held

    def train(
        self, head: Head, settings: TrainingSettings, rng: np.random.Generator
    ) -> TrainingResult:
        """Train the prepared network on the rows that have any of its modalities."""
        data, target = _present_rows(*self._training)
        validation = None if self._validation is None else _present_rows(*self._validation)
        del self._training, self._validation
        if not head.informative(target):
            raise ValueError(
                f"The training rows that have {' or '.join(map(repr, self.modalities))} "
                "hold no events: nothing can be learned from them."
            )
        if validation is not None and not head.informative(validation[1]):
            validation = None
        return train(self.network, head, data, target, settings, rng, validation)

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
        model.network = model._build(len(head.predictors), head.has_intercept, trained=True)
        model.network.load_state_dict(dict(weights))
        model.network.eval()
        return model

    def transform(
        self,
        frame: pd.DataFrame,
        device: torch.device,
        precision: str,
        *,
        fit_features: bool = False,
    ) -> MultimodalData:
        """Return the tensors of `frame`, frozen encoders already applied."""
        parts = {name: modality.transform(frame) for name, modality in self.modalities.items()}
        for name in self.network.kept:
            encoder = self.network.encoders[name]
            parts[name] = frozen_features(encoder, parts[name], device, precision)
            if fit_features:
                encoder.fit_features(parts[name].numeric[parts[name].present])
        return MultimodalData(parts)

    def predict(
        self, frame: pd.DataFrame, device: str, precision: str, rows_at_once: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return predictors, float64 of shape (n, K), and presence, bool of shape (n, M)."""
        fabric = make_fabric(device, precision, fall_back=True)
        data = self.transform(frame, fabric.device, precision)
        present = data.present.numpy()
        self.network.to(fabric.device)
        try:
            eta = predict_eta(self.network, data.to(fabric.device), rows_at_once, precision)
        finally:
            self.network.to("cpu")
        return eta.cpu().numpy(), present


def _without_pretrained(modality: Modality) -> Modality:
    if not getattr(modality, "pretrained", False):
        return modality
    modality = copy.copy(modality)
    return modality.set_params(pretrained=False)


def _present_rows(data: MultimodalData, target: Target) -> tuple[MultimodalData, Target]:
    # Late fusion: a member learns from the rows that have its modality.
    any_present = data.present.any(1)
    if bool(any_present.all()):
        return data, target
    rows = torch.nonzero(any_present)[:, 0]
    return data.take(rows), target.take(rows)
