"""Hooks into the training loop, and the progress bar that is one of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

__all__ = ["Callback", "EpochPrinter", "ProgressBar", "StopAt", "TrainingState"]


@dataclass
class TrainingState:
    """What a callback sees of the training.

    Attributes
    ----------
    network : torch.nn.Module
    epochs : int
        Most epochs there can be.
    record : dict
        The newest row of ``history_``.
    history : list of dict
    stop : bool
        Set it to True to end the training after this epoch.
    """

    network: nn.Module
    epochs: int
    record: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    stop: bool = False


class Callback:
    """Base of all callbacks: override what is needed.

    Examples
    --------
    >>> class StopAtLoss(Callback):
    ...     def on_epoch_end(self, state):
    ...         state.stop = state.record["loss"] < 0.1
    """

    def on_fit_begin(self, state: TrainingState) -> None:
        """Run before the first epoch."""

    def on_epoch_end(self, state: TrainingState) -> None:
        """Run after each epoch, its scores in ``state.record``."""

    def on_fit_end(self, state: TrainingState) -> None:
        """Run once at the end, also after an interruption or an error."""


class StopAt(Callback):
    """Ends the training after an epoch, of a schedule that was made for more."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, state: TrainingState) -> None:
        state.stop = state.record["epoch"] >= self.epoch


def _describe(record: dict[str, Any]) -> str:
    shown = {k: v for k, v in record.items() if k not in ("epoch", "learning_rate", "seconds")}
    return "  ".join(f"{name} {value:.4f}" for name, value in shown.items())


class ProgressBar(Callback):
    """A bar over the epochs with the loss and the validation scores (``verbose=1``)."""

    def __init__(self, title: str = "training") -> None:
        self.title = title

    def on_fit_begin(self, state: TrainingState) -> None:
        # Imported here: only a bar that is shown needs rich.
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} epochs"),
            TextColumn("{task.fields[scores]}"),
            TimeRemainingColumn(),
        )
        self._task = self._bar.add_task(self.title, total=state.epochs, scores="")
        self._bar.start()

    def on_epoch_end(self, state: TrainingState) -> None:
        self._bar.update(self._task, advance=1, scores=_describe(state.record))

    def on_fit_end(self, state: TrainingState) -> None:
        self._bar.stop()


class EpochPrinter(Callback):
    """A line an epoch, for logs (``verbose=2``)."""

    def on_epoch_end(self, state: TrainingState) -> None:
        print(f"epoch {state.record['epoch']:>4}  {_describe(state.record)}", flush=True)
