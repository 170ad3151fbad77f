"""A sampler of one trial whose draws depend on nothing but seed, trial and parameter."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from optuna.samplers import BaseSampler

__all__ = ["SeededSampler"]


class SeededSampler(BaseSampler):
    """Optuna's sampler, seeded anew for each trial, and for each parameter that is drawn alone.

    Optuna's own seed is one of a process: a search that goes on would draw its first trials again,
    and a trial that was broken off between two parameters would go on with other ones.

    Parameters
    ----------
    make : callable (seed) -> sampler
    seed, number : int
        Of the study, and of the trial.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int, number: int) -> None:
        self._make = make
        self._seed = seed, number
        self._whole = make(self._of(""))

    def _of(self, name: str) -> int:
        sequence = np.random.SeedSequence([*self._seed, zlib.crc32(name.encode())])
        return int(sequence.generate_state(1)[0])

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        return self._whole.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        return self._whole.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Any, trial: Any, param_name: str, param_distribution: Any
    ) -> Any:
        sampler = self._make(self._of(param_name))
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Any, trial: Any) -> None:
        self._whole.before_trial(study, trial)

    def after_trial(
        self, study: Any, trial: Any, state: Any, values: Sequence[float] | None
    ) -> None:
        self._whole.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Do nothing: there is one worker a process."""
