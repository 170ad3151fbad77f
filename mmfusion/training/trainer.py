"""The training loop: any network, any head."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mmfusion.fusion.dropout import drop_modalities
from mmfusion.heads.base import Head
from mmfusion.modalities.base import MultimodalData
from mmfusion.objectives.weighted import WeightedObjectives
from mmfusion.training.auxiliary import AuxiliaryLosses
from mmfusion.training.averaging import WeightAverage
from mmfusion.training.batches import deal
from mmfusion.training.best import Best
from mmfusion.training.callbacks import Callback, EpochPrinter, ProgressBar, TrainingState
from mmfusion.training.device import make_fabric
from mmfusion.training.inference import network_outputs
from mmfusion.training.judging import Judged, judge
from mmfusion.training.rows import Batch, Rows
from mmfusion.training.schedule import warmup_cosine
from mmfusion.training.settings import TrainingSettings
from mmfusion.training.threads import steps
from mmfusion.training.two_pass import two_pass_backward

__all__ = [
    "InterruptedWarning",
    "TrainingDivergedError",
    "TrainingResult",
    "train",
    "train_members",
]


class InterruptedWarning(UserWarning):
    """Ctrl-C ended a training; the message says what is kept."""


class TrainingDivergedError(FloatingPointError):
    """A loss was NaN or infinite; the message names the epoch and the batch."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training left behind, beside the weights in the network.

    Attributes
    ----------
    history : DataFrame
        A row an epoch: epoch, learning_rate, loss, val_loss and the head's score where there are
        validation rows (at the best share, if one is kept), seconds; and each auxiliary loss,
        unweighted. ``loss`` is the likelihood's (missing in pretraining epochs); of objectives
        alone, their weighted sum.
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
    rows: Rows,
    settings: TrainingSettings,
    rng: np.random.Generator,
    validation: Rows | None = None,
    basis: Tensor | None = None,
    objectives: WeightedObjectives | None = None,
    *,
    may_stay_untrained: bool = False,
    shared: bool = False,
) -> TrainingResult:
    """Train `network` in place by AdamW and leave its best weights in it, on the CPU.

    The predictors are ``offset + Z M'``: Z the network's outputs, a row a subject, M the deep
    basis. Batches are dealt by subject, with all rows of each, and the network sees a subject once
    a step, however many rows it has.

    The best weights are those of the epoch with the lowest validation loss; without validation
    rows, those of the last epoch. Ctrl-C ends the training and keeps them too.

    A network of which a share is kept is judged at its best share s in every epoch,
    ``min_s L(offset + s eta)``. A network that is trained on knows more, and is too sure of it: its
    loss, whole, rises while its direction still gets better. The share takes its sureness back, so
    that this says nothing of when to stop.

    With objectives, pretraining epochs come first, in which their losses alone are trained; only
    epochs after them are candidates. Their own parameters (decoders, predictors, temperatures) are
    trained by the same optimiser. Objectives that are `alone` are also what is validated.

    Parameters
    ----------
    network : FusionNetwork
        Of D outputs.
    head : Head
    rows : Rows
        The training rows.
    settings : TrainingSettings
        Its `batch_size` and `micro_batch_size` count subjects.
    rng : numpy Generator
        Deals the batches. Dropout and modality dropout draw from torch's global generator.
    validation : Rows, optional
    basis : Tensor of float64, shape (K, D), optional
        The deep basis M; by default the identity.
    objectives : WeightedObjectives, optional
        Auxiliary losses, computed within a batch, also where it is trained in micro-batches.
    may_stay_untrained : bool, default=False
        Whether the untrained network is a candidate too, as epoch 0 or the last pretraining epoch:
        for outputs that start at zero, and so add nothing to the offset.
    shared : bool, default=False
        Whether a share of the network's outputs will be kept: one a group of the head's predictors.

    Returns
    -------
    TrainingResult

    Raises
    ------
    TrainingDivergedError
        If a loss is NaN or infinite.
    """
    loop = _Loop(
        network, head, rows, settings, rng, validation, basis, objectives, may_stay_untrained
    )
    with steps(network, rows.data, settings.batch_size):
        return _run([loop], settings, shared=shared)


def train_members(
    networks: Sequence[nn.Module],
    head: Head,
    parts: Sequence[tuple[Rows, Rows]],
    settings: TrainingSettings,
    rng: np.random.Generator,
    basis: Tensor | None = None,
    *,
    may_stay_untrained: bool = False,
    shared: bool = False,
) -> TrainingResult:
    """Train several networks, each without a fold of its own, all for the same number of epochs.

    All take an epoch in turn. The weights that are kept are those of the epoch with the lowest
    mean validation loss, in which all rows have a voice: each is judged by the one network that
    did not see it. One small validation part decides by its noise where training stops.

    Parameters
    ----------
    networks : sequence of FusionNetwork
    head, settings, rng, basis, may_stay_untrained, shared
        As for `train`; all networks have the same share.
    parts : sequence of pairs of Rows
        What each network is trained on, and what it is judged by.

    Returns
    -------
    TrainingResult
        Its history has means over the networks.
    """
    loops = [
        _Loop(network, head, rows, settings, rng, held, basis, None, may_stay_untrained)
        for network, (rows, held) in zip(networks, parts, strict=True)
    ]
    with steps(networks[0], parts[0][0].data, settings.batch_size):
        return _run(loops, settings, shared=shared)


def _run(loops: Sequence[_Loop], settings: TrainingSettings, *, shared: bool) -> TrainingResult:
    """Take epochs in turn until the mean validation loss rises, and leave the best weights."""
    callbacks = _callbacks(settings)
    state = TrainingState(loops[0].network, settings.epochs)
    best = Best()
    interrupted = False
    begun: list[Callback] = []
    first = loops[0].pretrain_epochs
    may_stay = loops[0].may_stay_untrained

    def kept() -> list[nn.Module]:
        return [loop.kept_module() for loop in loops]

    try:
        for loop in loops:
            loop.network.train()
        for callback in callbacks:
            begun.append(callback)
            callback.on_fit_begin(state)
        if may_stay and not first:
            best.consider(0, _validate(loops, 0, shared=shared)["val_loss"], kept())
        for epoch in range(1, settings.epochs + 1):
            started = time.perf_counter()
            record: dict[str, Any] = {"epoch": epoch, "loss": math.nan}
            record |= _mean([loop.epoch(epoch) for loop in loops])
            record["learning_rate"] = loops[0].learning_rate
            record |= _validate(loops, epoch, shared=shared)
            record["seconds"] = time.perf_counter() - started
            # Pretraining leaves the output layer alone: its last epoch has untrained outputs.
            judged = epoch > first or (epoch == first and may_stay)
            best.consider(epoch, record.get("val_loss") if judged else None, kept())
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
            InterruptedWarning,
            stacklevel=4,
        )
    finally:
        for callback in begun:
            callback.on_fit_end(state)
        for loop in loops:
            loop.network.to("cpu")
    best.restore([loop.network for loop in loops])
    return TrainingResult(pd.DataFrame(state.history), best.epoch, interrupted)


def _validate(loops: Sequence[_Loop], epoch: int, *, shared: bool) -> dict[str, float]:
    """Return what the validation rows say after an epoch, by name; nothing without any."""
    first = loops[0]
    if first.validation is None:
        return {}
    settings = first.settings
    if first.auxiliary is not None and first.auxiliary.objectives.alone:
        losses = first.auxiliary.validate(
            first.validation.data, settings.batch_size, settings.micro_batch_size
        )
    else:
        losses = judge([loop.judged(loop.validation) for loop in loops], shared=shared)  # type: ignore[arg-type]
    if not math.isfinite(losses["val_loss"]):
        raise TrainingDivergedError(
            f"The validation loss became {losses['val_loss']} after epoch {epoch}. "
            f"Lower learning_rate (now {settings.learning_rate})."
        )
    return losses


def _mean(found: list[dict[str, float]]) -> dict[str, float]:
    """Return the mean of each number."""
    return {name: sum(record[name] for record in found) / len(found) for name in found[0]}


class _Loop:
    """The state of one training; it lives as long as `train` runs."""

    def __init__(
        self,
        network: nn.Module,
        head: Head,
        rows: Rows,
        settings: TrainingSettings,
        rng: np.random.Generator,
        validation: Rows | None,
        basis: Tensor | None,
        objectives: WeightedObjectives | None,
        may_stay_untrained: bool,
    ) -> None:
        fabric = make_fabric(settings.device, settings.precision)
        self.device = fabric.device
        # None where there is nothing to cast: entering a context costs as much as a small layer.
        self.autocast: Callable[[], Any] | None = (
            None if settings.precision == "32-true" else fabric.autocast
        )
        self.network = network.to(self.device)
        self.head = head
        self.rows = rows.to(self.device)
        self.basis = None if basis is None else basis.to(self.device)
        self.settings = settings
        self.dropout = _modality_dropout(settings, self.rows.data)
        self.rng = rng
        self.validation = None if validation is None else validation.to(self.device)
        self.may_stay_untrained = may_stay_untrained and validation is not None
        self.labels = rows.largest_of_subjects(head.stratify(rows.target))
        n = len(self.labels)
        self.full_batch = settings.batch_size is None or settings.batch_size >= n
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        groups = list(network.parameter_groups())  # type: ignore[operator]
        self.auxiliary: AuxiliaryLosses | None = None
        if objectives is not None:
            labels = None
            if objectives.needs_labels:
                labels = rows.largest_of_subjects(head.groups(rows.target))
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

    @property
    def learning_rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"] / self.scales[0])

    @property
    def pretrain_epochs(self) -> int:
        return 0 if self.auxiliary is None else self.auxiliary.objectives.pretrain_epochs

    def epoch(self, epoch: int) -> dict[str, float]:
        """Take every step of one epoch; return the mean losses over its batches, by name."""
        losses = [self.step(batch, epoch) for batch in self.batches()]
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

    def batches(self) -> Iterator[Batch]:
        if self.full_batch:  # the target's own plan serves every step
            yield self.rows.whole(self.basis)
            return
        dealt = deal(self.labels, self.settings.batch_size, self.rng)  # type: ignore[arg-type]
        order = torch.from_numpy(np.concatenate(dealt)).to(self.device)
        chosen = self.rows.of_subjects(order.split([len(subjects) for subjects in dealt]))
        for rows, target in self.head.batches(self.rows.target, chosen):
            yield self.rows.batch(rows, target, self.basis)

    def step(self, batch: Batch, epoch: int) -> Tensor:
        settings = self.settings
        present = None
        if self.dropout is not None:
            present = drop_modalities(self.rows.data.present[batch.subjects], self.dropout)
        factor = warmup_cosine(
            self.step_number, settings.epochs * self.steps_an_epoch, settings.warmup
        )
        for group, scale in zip(self.optimizer.param_groups, self.scales, strict=True):
            group["lr"] = settings.learning_rate * scale * factor
        self.step_number += 1
        self.optimizer.zero_grad()
        losses = self.backward(batch, present, epoch)
        if settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, settings.clip_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        if self.auxiliary is not None:
            self.auxiliary.after_step()
        return losses

    def forward(self, subjects: Tensor, present: Tensor | None) -> Tensor:
        inputs, present = self.rows.data.batch(subjects, present)
        if self.autocast is None:
            return self.network(inputs, present)
        with self.autocast():
            return self.network(inputs, present)

    def backward(self, batch: Batch, present: Tensor | None, epoch: int) -> Tensor:
        subjects, micro = batch.subjects, self.settings.micro_batch_size

        def loss(outputs: Tensor) -> Tensor:
            return self.head.loss(batch.predictors(outputs), batch.target)

        def gradient(outputs: Tensor) -> Tensor:
            return batch.pull(self.head.gradient(batch.predictors(outputs), batch.target))

        if self.auxiliary is not None:
            data = self.rows.data
            return self.auxiliary.backward(epoch, data, subjects, present, micro, loss, gradient)
        if micro is None or micro >= len(subjects):
            value = loss(self.forward(subjects, present))
            value.backward()
            return value.detach()[None]

        def chunk(first: int, last: int) -> Tensor:
            mask = None if present is None else present[first:last]
            return self.forward(subjects[first:last], mask)

        return loss(two_pass_backward(self.network, chunk, gradient, len(subjects), micro))[None]

    def kept_module(self) -> nn.Module:
        return self.network if self.average is None else self.average.module

    def judged(self, rows: Rows) -> Judged:
        """Return what the network says of rows that it does not see."""
        settings = self.settings
        outputs = network_outputs(
            self.kept_module(), rows.data, settings.micro_batch_size, settings.precision
        )
        eta = rows.whole(self.basis).predictors(outputs)
        return Judged(self.head, eta, rows.offset, rows.target)


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
