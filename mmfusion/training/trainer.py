"""The training loop: any network, any head."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mmfusion.fusion.dropout import drop_modalities
from mmfusion.heads.base import Head, Target
from mmfusion.modalities.base import MultimodalData
from mmfusion.objectives.weighted import WeightedObjectives
from mmfusion.training.auxiliary import AuxiliaryLosses
from mmfusion.training.averaging import WeightAverage
from mmfusion.training.batches import deal
from mmfusion.training.callbacks import Callback, EpochPrinter, ProgressBar, TrainingState
from mmfusion.training.device import make_fabric
from mmfusion.training.inference import predict_eta
from mmfusion.training.schedule import warmup_cosine
from mmfusion.training.settings import TrainingSettings
from mmfusion.training.two_pass import two_pass_backward

__all__ = ["TrainingDivergedError", "TrainingResult", "train"]


class TrainingDivergedError(FloatingPointError):
    """A loss was NaN or infinite; the message names the epoch and the batch."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training left behind, beside the weights in the network.

    Attributes
    ----------
    history : DataFrame
        A row an epoch: epoch, learning_rate, loss, val_loss and the head's score where there are
        validation rows, seconds; and each auxiliary loss, unweighted. ``loss`` is the likelihood's
        (missing in pretraining epochs); of objectives alone, their weighted sum.
    best_epoch : int
        The epoch (from 1) whose weights were kept.
    interrupted : bool
        Whether Ctrl-C ended it.
    """

    history: pd.DataFrame
    best_epoch: int
    interrupted: bool


def train(
    network: nn.Module,
    head: Head,
    data: MultimodalData,
    target: Target,
    settings: TrainingSettings,
    rng: np.random.Generator,
    validation: tuple[MultimodalData, Target] | None = None,
    offset: Tensor | None = None,
    validation_offset: Tensor | None = None,
    objectives: WeightedObjectives | None = None,
) -> TrainingResult:
    """Train `network` in place by AdamW and leave its best weights in it, on the CPU.

    The best weights are those of the epoch with the lowest validation loss; without validation
    rows, those of the last epoch. Ctrl-C ends the training and keeps them too. With an offset the
    untrained network is a candidate as well, as epoch 0: it adds nothing to the offset.

    With objectives, pretraining epochs come first, in which their losses alone are trained; only
    epochs after them are candidates. Their own parameters (decoders, predictors, temperatures) are
    trained by the same optimiser. Objectives that are `alone` are also what is validated.

    Parameters
    ----------
    network : FusionNetwork
    head : Head
    data, target : MultimodalData, Target
        The training rows.
    settings : TrainingSettings
    rng : numpy Generator
        Deals the batches. Dropout and modality dropout draw from torch's global generator.
    validation : tuple of MultimodalData and Target, optional
    offset, validation_offset : Tensor of float64, shape (n_rows, K), optional
        Added to the network's predictors in the likelihood: a structured predictor.
    objectives : WeightedObjectives, optional
        Auxiliary losses, computed within a batch, also where it is trained in micro-batches.

    Returns
    -------
    TrainingResult

    Raises
    ------
    TrainingDivergedError
        If a loss is NaN or infinite.
    """
    loop = _Loop(network, head, data, target, settings, rng, validation, objectives)
    if offset is not None:
        loop.offset = offset.to(loop.device)
    if validation_offset is not None:
        loop.validation_offset = validation_offset.to(loop.device)
    try:
        return loop.run()
    finally:
        network.to("cpu")


class _Loop:
    """The state of one training; it lives as long as `train` runs."""

    offset: Tensor | None = None
    validation_offset: Tensor | None = None

    def __init__(
        self,
        network: nn.Module,
        head: Head,
        data: MultimodalData,
        target: Target,
        settings: TrainingSettings,
        rng: np.random.Generator,
        validation: tuple[MultimodalData, Target] | None,
        objectives: WeightedObjectives | None,
    ) -> None:
        fabric = make_fabric(settings.device, settings.precision)
        self.device = fabric.device
        # None where there is nothing to cast: entering a context costs as much as a small layer.
        self.autocast: Callable[[], Any] | None = (
            None if settings.precision == "32-true" else fabric.autocast
        )
        self.network = network.to(self.device)
        self.head = head
        self.data = data.to(self.device)
        self.target = target.to(self.device)
        self.settings = settings
        self.dropout = _modality_dropout(settings, self.data)
        self.rng = rng
        self.validation = (
            None
            if validation is None
            else (validation[0].to(self.device), validation[1].to(self.device))
        )
        n = len(target)
        self.full_batch = settings.batch_size is None or settings.batch_size >= n
        self.labels = head.stratify(target)
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        groups = list(network.parameter_groups())  # type: ignore[operator]
        self.auxiliary: AuxiliaryLosses | None = None
        if objectives is not None:
            labels = head.groups(target) if objectives.needs_labels else None
            self.auxiliary = AuxiliaryLosses(
                objectives, self.network, self.device, self.autocast, labels
            )
            own = [p for p in objectives.parameters() if p.requires_grad]
            self.parameters += own
            groups.append({"params": own})
        self.optimizer = _adamw(groups, settings)
        self.scales = [group["lr_scale"] for group in self.optimizer.param_groups]
        self.steps_an_epoch = 1 if self.full_batch else max(1, -(-n // settings.batch_size))  # type: ignore[operator]
        self.step_number = 0
        self.average = None if settings.ema is None else WeightAverage(network, settings.ema)

    def run(self) -> TrainingResult:
        settings = self.settings
        callbacks = _callbacks(settings)
        state = TrainingState(self.network, settings.epochs)
        best = _Best()
        interrupted = False
        begun: list[Callback] = []
        self.network.train()
        try:
            for callback in callbacks:
                begun.append(callback)
                callback.on_fit_begin(state)
            first = self.pretrain_epochs
            if self.validation_offset is not None and not first:
                best.consider(0, self.validate(0)["val_loss"], self.kept_module())
            for epoch in range(1, settings.epochs + 1):
                started = time.perf_counter()
                record: dict[str, Any] = {"epoch": epoch, "loss": math.nan, **self.epoch(epoch)}
                record["learning_rate"] = self.optimizer.param_groups[0]["lr"] / self.scales[0]
                record.update(self.validate(epoch))
                record["seconds"] = time.perf_counter() - started
                # Predictors start at zero: with an offset, the last pretraining epoch adds nothing.
                untrained = epoch == first and self.validation_offset is not None
                judged = epoch > first or untrained
                best.consider(epoch, record.get("val_loss") if judged else None, self.kept_module())
                state.history.append(record)
                state.record = record
                for callback in callbacks:
                    callback.on_epoch_end(state)
                if state.stop or best.waited(epoch) >= (settings.patience or math.inf):
                    break
        except KeyboardInterrupt:
            if not state.history:  # nothing was learned that could be kept
                raise
            interrupted = True
            warnings.warn(
                f"Training was interrupted in epoch {len(state.history) + 1}; "
                f"the weights of epoch {best.epoch} are kept.",
                UserWarning,
                stacklevel=4,
            )
        finally:
            for callback in begun:
                callback.on_fit_end(state)
        best.restore(self.network)
        return TrainingResult(pd.DataFrame(state.history), best.epoch, interrupted)

    @property
    def pretrain_epochs(self) -> int:
        return 0 if self.auxiliary is None else self.auxiliary.objectives.pretrain_epochs

    def epoch(self, epoch: int) -> dict[str, float]:
        """Take every step of one epoch; return the mean losses over its batches, by name."""
        losses = [self.step(rows, target, epoch) for rows, target in self.batches()]
        names = ["loss"] if self.auxiliary is None else self.auxiliary.columns(epoch)
        # One look at all losses of the epoch: a look a step would stall a GPU.
        values = torch.stack(losses)
        finite = torch.isfinite(values)
        if not bool(finite.all()):
            batch, column = (int(at) for at in torch.nonzero(~finite)[0])
            # Of objectives alone the first column is a sum: the one at fault comes after it.
            if column == 0 and self.auxiliary is not None and self.auxiliary.objectives.alone:
                column = int((~finite[batch, 1:]).int().argmax()) + 1
            name = names[column]
            what = "The loss" if name == "loss" else f"The auxiliary loss {name!r}"
            raise TrainingDivergedError(
                f"{what} became {float(values[batch, column])} in epoch {epoch}, batch "
                f"{batch + 1} of {len(losses)}. Lower learning_rate (now "
                f"{self.settings.learning_rate}) or clip_norm, or look for extreme values in the "
                "inputs."
            )
        return dict(zip(names, values.mean(0).tolist(), strict=True))

    def batches(self) -> Any:
        if self.full_batch:  # the target's own plan serves every step
            return [(torch.arange(len(self.target), device=self.device), self.target)]
        parts = deal(self.labels, self.settings.batch_size, self.rng)  # type: ignore[arg-type]
        order = torch.from_numpy(np.concatenate(parts)).to(self.device)
        return self.head.batches(self.target, order.split([len(part) for part in parts]))

    def step(self, rows: Tensor, target: Target, epoch: int) -> Tensor:
        settings = self.settings
        present = None
        if self.dropout is not None:
            present = drop_modalities(self.data.present[rows], self.dropout)
        factor = warmup_cosine(
            self.step_number, settings.epochs * self.steps_an_epoch, settings.warmup
        )
        for group, scale in zip(self.optimizer.param_groups, self.scales, strict=True):
            group["lr"] = settings.learning_rate * scale * factor
        self.step_number += 1
        self.optimizer.zero_grad()
        losses = self.backward(rows, target, present, epoch)
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, settings.clip_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        if self.auxiliary is not None:
            self.auxiliary.after_step()
        return losses

    def forward(self, rows: Tensor, present: Tensor | None) -> Tensor:
        inputs, present = self.data.batch(rows, present)
        if self.autocast is None:
            eta = self.network(inputs, present)
        else:
            with self.autocast():
                eta = self.network(inputs, present)
        return eta if self.offset is None else eta + self.offset[rows]

    def backward(self, rows: Tensor, target: Target, present: Tensor | None, epoch: int) -> Tensor:
        micro = self.settings.micro_batch_size
        if self.auxiliary is not None:
            return self.auxiliary.backward(
                epoch,
                self.data,
                rows,
                present,
                micro,
                None if self.offset is None else self.offset[rows],
                lambda eta: self.head.loss(eta, target),
                lambda eta: self.head.gradient(eta, target),
            )
        if micro is None or micro >= len(rows):
            loss = self.head.loss(self.forward(rows, present), target)
            loss.backward()
            return loss.detach()[None]

        def chunk(first: int, last: int) -> Tensor:
            mask = None if present is None else present[first:last]
            return self.forward(rows[first:last], mask)

        eta = two_pass_backward(
            self.network, chunk, lambda eta: self.head.gradient(eta, target), len(rows), micro
        )
        return self.head.loss(eta, target)[None]

    def kept_module(self) -> nn.Module:
        return self.network if self.average is None else self.average.module

    def validate(self, epoch: int) -> dict[str, float]:
        if self.validation is None:
            return {}
        data, target = self.validation
        if self.auxiliary is not None and self.auxiliary.objectives.alone:
            settings = self.settings
            found = self.auxiliary.validate(data, settings.batch_size, settings.micro_batch_size)
            return self._finite(found, epoch)
        eta = predict_eta(
            self.kept_module(), data, self.settings.micro_batch_size, self.settings.precision
        )
        if self.validation_offset is not None:
            eta = eta + self.validation_offset
        losses = self._finite({"val_loss": float(self.head.loss(eta, target))}, epoch)
        score = self.head.monitor(eta, target)
        return losses | ({} if score is None else {f"val_{score.name}": score.value})

    def _finite(self, losses: dict[str, float], epoch: int) -> dict[str, float]:
        if not math.isfinite(losses["val_loss"]):
            raise TrainingDivergedError(
                f"The validation loss became {losses['val_loss']} after epoch {epoch}. "
                f"Lower learning_rate (now {self.settings.learning_rate})."
            )
        return losses


class _Best:
    """The weights to keep: of the lowest validation loss, or the last ones without one."""

    def __init__(self) -> None:
        self.epoch = 0
        self.loss = math.inf
        self.weights: dict[str, Tensor] | None = None

    def consider(self, epoch: int, loss: float | None, module: nn.Module) -> None:
        if loss is None or loss < self.loss:
            # A copy also without a loss: Ctrl-C leaves the module in the midst of the next epoch.
            weights = {name: value.clone() for name, value in module.state_dict().items()}
            self.epoch, self.weights = epoch, weights
            self.loss = math.inf if loss is None else loss

    def waited(self, epoch: int) -> int:
        return epoch - self.epoch

    def restore(self, network: nn.Module) -> None:
        if self.weights is not None:
            network.load_state_dict(self.weights)


def _adamw(trained: list[dict[str, Any]], settings: TrainingSettings) -> torch.optim.AdamW:
    groups: list[dict[str, Any]] = []
    for group in trained:
        scale = group.get("lr_scale", 1.0)
        matrices = [p for p in group["params"] if p.ndim > 1]
        others = [p for p in group["params"] if p.ndim <= 1]
        for params, decay in ((matrices, settings.weight_decay), (others, 0.0)):
            if params:
                groups.append({"params": params, "weight_decay": decay, "lr_scale": scale})
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def _modality_dropout(settings: TrainingSettings, data: MultimodalData) -> float | Tensor | None:
    """Return the rate, or the rates in the order of the modalities; None where none is dropped."""
    given = settings.modality_dropout
    if not isinstance(given, Mapping):
        return float(given) or None
    rates = [float(given.get(name, 0.0)) for name in data.parts]
    return torch.tensor(rates, device=data.present.device) if any(rates) else None


def _callbacks(settings: TrainingSettings) -> list[Callback]:
    if not settings.verbose:
        return list(settings.callbacks)
    shown = ProgressBar() if settings.verbose == 1 else EpochPrinter()
    return [shown, *settings.callbacks]
