"""What a search does, as one value that any worker process can be given."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
from sklearn.base import clone

from mmfusion.estimators.ensemble import FusionEnsemble
from mmfusion.evaluation.fingerprint import fingerprint, roots_in
from mmfusion.evaluation.folds import Folds
from mmfusion.evaluation.outcomes import Outcome, for_fit, take
from mmfusion.tuning.lockstep import Turn
from mmfusion.tuning.space import Space

__all__ = ["Job", "job_key", "seeded", "step_of"]


@dataclass(frozen=True, eq=False)
class Job:
    """An estimator, its space, and the rows and folds on which its trials are judged.

    Attributes
    ----------
    estimator : estimator
    space : Space
    X : DataFrame or ndarray
    y : Survival, or ndarray
    given : Any
        The outcome as it was given, where it can be cut; else None.
    folds : list of tuple (train, test)
    fit_params : mapping of str to value
        Arrays with a value a row are cut as the rows are.
    score_params : mapping of str to mapping of str to value
        The same, by scorer.
    scorers : mapping of str to scorer
    objectives : list of str
    directions : list of str
        Optuna's, of the objectives.
    pruning : {"fold", "epoch"} or None
    sampler : str or Optuna's sampler
    seed : int
    n_trials : int
    error_score : float or "raise"
    name : str
        Of the study.
    key : str
        What every fold's record depends on beside the trial's parameters.
    deadline : float
        When no further trial is begun, of `time.time`.
    n_threads, device : optional
        Of the worker: threads of torch, and where it trains if the estimator says "auto".
    """

    estimator: Any
    space: Space
    X: Any
    y: Outcome
    given: Any
    folds: Folds
    fit_params: Mapping[str, Any]
    score_params: Mapping[str, Mapping[str, Any]]
    scorers: Mapping[str, Any]
    objectives: list[str]
    directions: list[Any]
    pruning: str | None
    sampler: Any
    seed: int
    n_trials: int
    error_score: str | float
    name: str
    key: str
    deadline: float
    n_threads: int | None = None
    device: str | None = None

    def model(self, params: Mapping[str, Any]) -> Any:
        """Return the estimator with the parameters of a trial, unfitted."""
        return clone(self.estimator).set_params(**params)

    def fold_key(self, model: Any, fold: int) -> str:
        """Return what the record of a fold is kept by: all that it is computed from."""
        return fingerprint(self.key, model, *self.folds[fold])

    def fold(self, model: Any, number: int, turn: Turn | None = None) -> dict[str, Any]:
        """Fit a model on the training rows of a fold and score it on the others."""
        train, test = self.folds[number]
        fitted = clone(model)
        _, last = step_of(fitted)
        if turn is not None:
            known = last.get_params(deep=False)["training"]
            callbacks = () if known is None or known.callbacks is None else known.callbacks
            last.set_params(training__callbacks=[*callbacks, turn])
        if self.device is not None and last.get_params(deep=False).get("device") == "auto":
            last.set_params(device=self.device)
        started = time.perf_counter()
        rows = self._rows(train)
        fitted.fit(*rows, **self._cut(self.fit_params, train))
        if getattr(fitted, "interrupted_", False):
            raise KeyboardInterrupt  # Ctrl-C leaves a half-trained network: no result of it
        done = time.perf_counter()
        rows = self._rows(test)
        scores = {
            name: float(scorer(fitted, *rows, **self._cut(self.score_params.get(name, {}), test)))
            for name, scorer in self.scorers.items()
        }
        return {
            "scores": scores,
            "fit_time": done - started,
            "score_time": time.perf_counter() - done,
        }

    def refit(self, params: Mapping[str, Any]) -> Any:
        """Return the estimator with the parameters of a trial, fitted to all rows."""
        whole = np.arange(len(self.y))
        return self.model(params).fit(*self._rows(whole), **self._cut(self.fit_params, whole))

    def average(self, settings: Sequence[Mapping[str, Any]]) -> Any:
        """Return the mean of models with the parameters of several trials, fitted to all rows."""
        whole = np.arange(len(self.y))
        model = FusionEnsemble(
            self.estimator, len(settings), settings=settings, random_state=self.seed
        )
        return model.fit(*self._rows(whole), **self._cut(self.fit_params, whole))

    def part(self, number: int, n_workers: int) -> Job:
        """Return the same for one of several workers on this machine."""
        import torch

        device = f"cuda:{number % n}" if (n := torch.cuda.device_count()) else None
        return replace(self, n_threads=max(1, (os.cpu_count() or 1) // n_workers), device=device)

    def _rows(self, rows: np.ndarray) -> tuple[Any, Any]:
        y = for_fit(take(self.y, rows)) if self.given is None else _take(self.given, rows)
        return _take(self.X, rows), y

    def _cut(self, params: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
        n = len(self.y)
        return {
            name: _take(value if hasattr(value, "iloc") else np.asarray(value), rows)
            if np.ndim(value) and len(value) == n
            else value
            for name, value in params.items()
        }


def job_key(
    X: Any, y: Any, scorers: Mapping[str, Any], params: Mapping[str, Any], estimator: Any
) -> str:
    """Return a fingerprint of the data, and of how it is scored."""
    roots = roots_in(estimator)
    return fingerprint(version("mmfusion"), X, y, dict(scorers), dict(params), roots=roots)


def seeded(estimator: Any, seed: int | None) -> Any:
    """Return a clone whose random states that are None are the seed."""
    model = clone(estimator)
    if seed is None:
        return model
    states = {
        name: seed
        for name, value in model.get_params().items()
        if value is None and (name == "random_state" or name.endswith("__random_state"))
    }
    return model.set_params(**states)


def step_of(estimator: Any) -> tuple[str, Any]:
    """Return the last step of a Pipeline with what its parameters begin with; else itself."""
    prefix = ""
    while hasattr(estimator, "steps"):
        name, estimator = estimator.steps[-1]
        prefix += f"{name}__"
    return prefix, estimator


def _take(values: Any, rows: np.ndarray) -> Any:
    return values.iloc[rows] if hasattr(values, "iloc") else values[rows]
