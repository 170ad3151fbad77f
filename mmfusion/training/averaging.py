"""A moving average of the weights: a model steadier than that of the last step."""

from __future__ import annotations

import copy

from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage", "largest_decay"]


def largest_decay(step: int) -> float:
    """Return the most that an average may keep of itself at update `step`: ``(1 + s) / (10 + s)``.

    It then reaches back over about a tenth of the steps taken. Of 50 steps at a decay of 0.98
    throughout, 36 % would be left to the first weights: a model half-way to the untrained one. (The
    rule of TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``.)

    Examples
    --------
    >>> [round(largest_decay(s), 3) for s in (2, 50, 441)]
    [0.25, 0.85, 0.98]
    """
    return (1 + step) / (10 + step)


class WeightAverage:
    """A copy of a network whose weights are the exponential moving average of the network's.

    What is frozen is copied once: averaging a large backbone in every step would cost more than
    the training of what follows it.

    Parameters
    ----------
    network : torch.nn.Module
        On its device.
    decay : float
        Share of the average that an update keeps; less in the first ones (`largest_decay`).

    Attributes
    ----------
    module : torch.nn.Module
        The copy.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(network)
        self.n_updates = 0
        pairs = [
            *zip(self.module.parameters(), network.parameters(), strict=True),
            *zip(self.module.buffers(), network.buffers(), strict=True),
        ]
        trained = [
            (kept.detach(), now.detach())
            for kept, now in pairs
            if now.requires_grad or not isinstance(now, nn.Parameter)
        ]
        self._numbers = [pair for pair in trained if pair[1].is_floating_point()]
        self._counts = [pair for pair in trained if not pair[1].is_floating_point()]

    def update(self) -> None:
        """Move the average towards the network's weights as they are now."""
        self.n_updates += 1
        kept, now = (list(side) for side in zip(*self._numbers, strict=True))
        decay = 0.0 if self.n_updates == 1 else min(self.decay, largest_decay(self.n_updates))
        get_ema_multi_avg_fn(decay)(kept, now, self.n_updates)
        for count, newest in self._counts:
            count.copy_(newest)
