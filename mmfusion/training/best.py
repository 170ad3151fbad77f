"""The weights that a training leaves behind."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["Best"]


class Best:
    """The weights to keep: of the lowest validation loss, or the last ones without one."""

    def __init__(self) -> None:
        self.epoch = 0
        self.loss = math.inf
        self.weights: list[dict[str, Tensor]] = []

    def consider(self, epoch: int, loss: float | None, modules: Sequence[nn.Module]) -> None:
        if loss is None or loss < self.loss:
            # A copy also without a loss: Ctrl-C leaves modules in the midst of the next epoch.
            self.epoch = epoch
            self.weights = [
                {name: value.clone() for name, value in module.state_dict().items()}
                for module in modules
            ]
            self.loss = math.inf if loss is None else loss

    def waited(self, epoch: int) -> int:
        return epoch - self.epoch

    def restore(self, networks: Sequence[nn.Module]) -> None:
        for network, weights in zip(networks, self.weights, strict=False):
            network.load_state_dict(weights)
