"""torch's random numbers of one fit, apart from the user's own stream."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

__all__ = ["Draws"]


@cache
def _n_gpus() -> int:
    return torch.cuda.device_count()


class Draws:
    """A stream of torch's random numbers that a fit uses in several goes.

    Outside of these the user's own stream goes on as if nothing had happened.

    Parameters
    ----------
    seed : int
    device : str
        Of the fit; on "cpu" the streams of GPUs are left alone.
    """

    def __init__(self, seed: int, device: str) -> None:
        self._devices = [] if device == "cpu" else list(range(_n_gpus()))
        self._on_cpu = device == "cpu" or not (self._devices or torch.backends.mps.is_available())
        self._seed = seed
        self._states: list[torch.Tensor] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Draw from this stream while the context lasts."""
        with torch.random.fork_rng(devices=self._devices):
            if self._states:
                torch.set_rng_state(self._states[0])
                for device, state in zip(self._devices, self._states[1:], strict=True):
                    torch.cuda.set_rng_state(state, device)
            elif self._on_cpu:  # torch.manual_seed is slow: it leaves word for GPUs of later on
                torch.default_generator.manual_seed(self._seed)
            else:
                torch.manual_seed(self._seed)
            try:
                yield
            finally:
                gpus = [torch.cuda.get_rng_state(device) for device in self._devices]
                self._states = [torch.get_rng_state(), *gpus]
