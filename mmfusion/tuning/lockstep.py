"""Fits of all folds side by side, epoch by epoch, so that a trial is judged by all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch

from mmfusion.training import Callback, TrainingState

__all__ = ["Lockstep", "Pruned", "Turn"]


class Pruned(Exception):
    """A trial that is not worth its further epochs."""


class Lockstep:
    """Runs functions in turns: each until its epoch ends, then the next; never two at once.

    Each has its own stream of torch's random numbers, so that it computes what it would alone.

    Parameters
    ----------
    judge : callable (epoch, losses by fold) -> bool
        Is told the validation losses after each epoch in which all folds still train or are done;
        True ends all of them.
    known : mapping of int to list of float
        The curves of folds that were finished before.
    """

    def __init__(
        self, judge: Callable[[int, Mapping[int, float]], bool], known: Mapping[int, list[float]]
    ) -> None:
        self.judge = judge
        self.curves = {fold: list(curve) for fold, curve in known.items()}
        self.pruned = False
        self._judged = 0
        self._done = set(known)
        self._turns: dict[int, Turn] = {}
        self._errors: dict[int, BaseException] = {}

    def run(self, functions: Mapping[int, Callable[[Turn], None]]) -> None:
        """Run a function a fold, each given its `Turn`, a callback of its training.

        Raises
        ------
        Pruned
            If the judge ended them.
        Exception
            The first that one of them raised; the others are ended.
        """
        self._turns = {fold: Turn(self, fold) for fold in functions}
        for fold, turn in self._turns.items():
            self.curves[fold] = []
            turn.start(functions[fold])
        try:
            while left := [turn for turn in self._turns.values() if turn.alive]:
                for turn in left:
                    turn.go()
                    if turn.error is not None and not isinstance(turn.error, Pruned):
                        raise turn.error
                self._judge()
        finally:
            self.pruned = True  # whoever still waits is ended
            for turn in self._turns.values():
                while turn.alive:
                    turn.go()
        if any(isinstance(turn.error, Pruned) for turn in self._turns.values()):
            raise Pruned

    def _judge(self) -> None:
        """Tell the judge every epoch that all folds that were not done before it have reached."""
        while not self.pruned:
            epoch = self._judged + 1
            waited = [
                fold
                for fold, curve in self.curves.items()
                if len(curve) < epoch and fold in self._turns and self._turns[fold].training
            ]
            if waited or all(len(curve) < epoch for curve in self.curves.values()):
                return
            self._judged = epoch
            # A fold that stopped earlier keeps the best that it reached, as its network does.
            losses = {
                fold: curve[epoch - 1] if len(curve) >= epoch else min(curve)
                for fold, curve in self.curves.items()
                if curve
            }
            self.pruned = self.judge(epoch, losses)


class Turn(Callback):
    """One function's place among those that take turns; a callback of its training.

    Of a fit that trains several networks one after the other the first is judged.
    """

    def __init__(self, order: Lockstep, fold: int) -> None:
        self.order = order
        self.fold = fold
        self.alive = True
        self.training = True
        self.error: BaseException | None = None
        self._mine, self._theirs = threading.Semaphore(0), threading.Semaphore(0)

    def start(self, function: Callable[[Turn], None]) -> None:
        """Make the thread; it waits for its first turn."""

        def run() -> None:
            self._mine.acquire()
            try:
                function(self)
            except BaseException as error:
                self.error = error
            finally:
                self.alive = self.training = False
                self._theirs.release()

        threading.Thread(target=run, daemon=True).start()
        self._state = _draws()

    def go(self) -> None:
        """Give the function a turn, with its own random numbers; return when it is over."""
        outside = _draws()
        _set_draws(self._state)
        self._mine.release()
        self._theirs.acquire()
        self._state = _draws()
        _set_draws(outside)

    def on_epoch_end(self, state: TrainingState) -> None:
        if not self.training:
            return
        loss = state.record.get("val_loss")
        if loss is None:  # nothing judges: the fit goes on unseen
            return
        self.order.curves[self.fold].append(float(loss))
        self._theirs.release()
        self._mine.acquire()
        if self.order.pruned:
            raise Pruned

    def on_fit_end(self, state: TrainingState) -> None:
        self.training = False

    def __deepcopy__(self, memo: Any) -> Turn:
        return self  # a clone of the estimator calls this very one


def _draws() -> list[Any]:
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return [torch.get_rng_state(), gpus]


def _set_draws(state: list[Any]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
