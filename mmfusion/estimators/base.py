"""What all estimators share: from a table and an outcome to a fitted model and its predictors."""

from __future__ import annotations

import os
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import nn

from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion, check_fusion
from mmfusion.heads.base import Head, Target
from mmfusion.modalities import Modality, Tabular, infer_modalities
from mmfusion.training import Callback, TrainingResult, split_validation

from ._frame import check_frame, name_rows
from ._model import FusionModel
from ._parameters import NestedModalities, check_modalities, training_settings
from ._persistence import load_estimator, save_estimator

__all__ = ["FusionEstimator"]

#: A validation part of fewer rows says nothing; all rows are then trained on, for all epochs.
MIN_VALIDATION_ROWS = 8


class FusionEstimator(NestedModalities):
    """Base of the estimators; a subclass names its head and what it predicts.

    See `FusionCox`, `FusionClassifier` and `FusionRegressor` for the parameters.
    """

    def __init__(
        self,
        modalities: Mapping[str, Modality] | None = None,
        fusion: str | JointFusion | EarlyFusion | LateFusion = "concat",
        *,
        modality_dropout: float = 0.0,
        epochs: int = 100,
        batch_size: int | None = 256,
        micro_batch_size: int | None = None,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-2,
        warmup: float = 0.1,
        clip_norm: float | None = 1.0,
        patience: int | None = 15,
        validation_fraction: float = 0.15,
        ema: float | None = 0.98,
        device: str = "auto",
        precision: str = "32-true",
        callbacks: Sequence[Callback] | None = None,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.modalities = modalities
        self.fusion = fusion
        self.modality_dropout = modality_dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.micro_batch_size = micro_batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.clip_norm = clip_norm
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.ema = ema
        self.device = device
        self.precision = precision
        self.callbacks = callbacks
        self.verbose = verbose
        self.random_state = random_state

    @abstractmethod
    def _make_head(self) -> Head:
        """Return the unfitted head of this estimator."""

    def _outcome_context(self, frame: pd.DataFrame) -> dict[str, Any]:
        """Return what else of the table the head needs (strata)."""
        return {}

    def _columns_of_outcome(self, frame: pd.DataFrame) -> list[Any]:
        """Return columns that belong to the outcome and to no inferred modality."""
        return []

    def fit(
        self,
        X: pd.DataFrame | np.ndarray,
        y: Any,
        sample_weight: np.ndarray | None = None,
        eval_set: tuple[Any, Any] | None = None,
    ) -> Self:
        """Fit preprocessing, network and what the head derives from them.

        Parameters
        ----------
        X : DataFrame, shape (n, p), or array of numbers
            A row a subject.
        y : array-like, shape (n,)
            The outcome.
        sample_weight : array-like, shape (n,), optional
            Case weights in the likelihood.
        eval_set : tuple (X, y), optional
            Validation rows for early stopping, in place of a part of `X`.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            Before training starts, naming the parameter, column or row that is at fault.
        TrainingDivergedError
            If a loss becomes NaN or infinite.
        """
        settings = training_settings(self)
        strategy = check_fusion(self.fusion)
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        frame = check_frame(self, X, reset=True)
        modalities = self._resolve_modalities(frame, is_array=frame is not X)
        head = self._make_head()
        target = self._encode(head.fit_outcome, frame, y, sample_weight)

        seeds = check_random_state(self.random_state)
        rng = np.random.default_rng(seeds.randint(np.iinfo(np.int32).max))
        rows = np.arange(len(frame))
        validation: tuple[np.ndarray, Target] | None = None
        eval_frame = None
        if eval_set is not None:
            if not isinstance(eval_set, tuple | list) or len(eval_set) != 2:
                raise TypeError(
                    f"The eval_set parameter must be a tuple (X, y). Got {type(eval_set).__name__}."
                )
            eval_frame = check_frame(self, eval_set[0], reset=False)
            eval_target = self._encode(head.encode, eval_frame, eval_set[1], None)
            if not head.informative(eval_target):
                warnings.warn(
                    "The eval_set holds no events, so training cannot be stopped by it: all "
                    f"{settings.epochs} epochs are trained.",
                    UserWarning,
                    stacklevel=2,
                )
            validation = (np.arange(len(eval_frame)), eval_target)
        elif settings.patience is not None:
            part, held = split_validation(head.stratify(target), self.validation_fraction, rng)
            held_target = target.take(torch.from_numpy(held))
            if len(held) >= MIN_VALIDATION_ROWS and head.informative(held_target):
                rows, validation = part, (held, held_target)

        self._head = head
        self._models = {
            name: FusionModel(chosen, inner)
            for name, (chosen, inner) in _members(modalities, strategy).items()
        }
        train_target = target.take(torch.from_numpy(rows))
        # The user's own stream of random numbers goes on as if nothing had happened.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(int(rng.integers(2**31)))
            for model in self._models.values():
                model.prepare(frame, rows, head, train_target, settings, eval_frame)
            self._refuse_empty_rows(frame, eval_frame)
            results = {
                name: model.train(head, target, rows, validation, settings, rng)
                for name, model in self._models.items()
            }
        self._keep(results)
        etas, present = _stack(model.predict_prepared(settings) for model in self._models.values())
        if len(self._models) > 1:
            head.fit_pool(etas, present, target)
        head.finish(torch.from_numpy(self._pool(etas, present)), target)
        return self

    def _encode(self, encode: Any, frame: pd.DataFrame, y: Any, sample_weight: Any) -> Target:
        target = encode(y, sample_weight, **self._outcome_context(frame))
        if len(target) != len(frame):
            raise ValueError(
                "Found input variables with inconsistent numbers of samples: "
                f"X has {len(frame)} rows, y has {len(target)}."
            )
        return target

    def _resolve_modalities(self, frame: pd.DataFrame, *, is_array: bool) -> Mapping[str, Modality]:
        if self.modalities is None and is_array:  # a bare array has no names to go by
            return {"table": Tabular()}
        if self.modalities is None:
            return infer_modalities(frame.drop(columns=self._columns_of_outcome(frame)))
        check_modalities(self.modalities)
        return self.modalities

    def _keep(self, results: Mapping[str, TrainingResult]) -> None:
        late = len(results) > 1
        self.history_ = pd.concat(
            [
                result.history.assign(model=name) if late else result.history
                for name, result in results.items()
            ],
            ignore_index=True,
        )
        self.best_epoch_ = max(result.best_epoch for result in results.values())
        self.interrupted_ = any(result.interrupted for result in results.values())
        self._expose()

    def _expose(self) -> None:
        self.modalities_ = {
            name: modality
            for model in self._models.values()
            for name, modality in model.modalities.items()
        }
        self.is_fitted_ = True

    @property
    def network_(self) -> nn.Module:
        """The trained network; with late fusion, a ModuleDict of one a modality."""
        check_is_fitted(self)
        if len(self._models) == 1:
            return next(iter(self._models.values())).network
        return nn.ModuleDict({name: model.network for name, model in self._models.items()})

    def _predictors(self, X: Any) -> tuple[pd.DataFrame, np.ndarray]:
        """Return the checked frame and the predictors of its rows, float64 of shape (n, K)."""
        check_is_fitted(self)
        frame = check_frame(self, X, reset=False)
        return frame, self._pool(*self._member_predictors(frame))

    def _member_predictors(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return predictors (n, n_members, K), NaN where absent, and presence (n, n_members)."""
        settings = training_settings(self)
        etas, present = _stack(model.predict(frame, settings) for model in self._models.values())
        _refuse_empty(frame, np.asarray(present.any(axis=1)), list(self.modalities_))
        return etas, present

    def _pool(self, etas: np.ndarray, present: np.ndarray) -> np.ndarray:
        return etas[:, 0] if len(self._models) == 1 else self._head.pool(etas, present)

    def _refuse_empty_rows(self, frame: pd.DataFrame, eval_frame: pd.DataFrame | None) -> None:
        """Refuse rows with no modality at all before anything is trained."""
        models = self._models.values()
        names = [name for model in models for name in model.modalities]
        present = torch.stack([model.data.present.any(1) for model in models]).any(0)
        _refuse_empty(frame, present.numpy(), names)
        if eval_frame is not None:
            held = [model.eval_data.present.any(1) for model in models if model.eval_data]
            _refuse_empty(eval_frame, torch.stack(held).any(0).numpy(), names)

    def _restore(self, state: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
        """Take back what `save` wrote: fitted attributes, head, modalities, weights."""
        self._head = self._make_head()
        self._head.load_state(state["head"])
        strategy = check_fusion(self.fusion)
        inner = strategy.member() if isinstance(strategy, LateFusion) else strategy
        self._models = {
            name: FusionModel.from_weights(modalities, inner, self._head, weights[name])
            for name, modalities in state["models"].items()
        }
        for name, value in state["fitted"].items():
            setattr(self, name, value)
        self._expose()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save the fitted estimator into `folder`: JSON, safetensors and skops, nothing executable.

        The folder appears whole or not at all: a save that fails leaves what was there.

        Parameters
        ----------
        folder : path
            Made if it does not exist; replaced if it holds a saved estimator.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If `folder` holds something else, or a parameter cannot be saved without executable
            code (an encoder given as a Module or a function).
        """
        check_is_fitted(self)
        save_estimator(self, Path(folder))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Load an estimator that `save` wrote; a GPU is not needed.

        Parameters
        ----------
        folder : path

        Returns
        -------
        estimator
            Fitted, equal in its predictions.

        Raises
        ------
        FileNotFoundError
            If `folder` holds no saved estimator.
        ValueError
            If it was saved by another class or a newer format, is damaged, or holds types that
            are not trusted.
        """
        return load_estimator(cls, Path(folder))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.target_tags.required = True
        return tags


def _members(
    modalities: Mapping[str, Modality], strategy: JointFusion | EarlyFusion | LateFusion
) -> dict[str, tuple[Mapping[str, Modality], JointFusion | EarlyFusion]]:
    """Return the networks to train: one, or with late fusion one a modality."""
    if not isinstance(strategy, LateFusion):
        return {"model": (modalities, strategy)}
    inner = strategy.member()
    return {name: ({name: modality}, inner) for name, modality in modalities.items()}


def _stack(members: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    etas, presence = zip(*members, strict=True)
    present = np.column_stack(presence)
    return np.where(present[:, :, None], np.stack(etas, axis=1), np.nan), present


def _refuse_empty(frame: pd.DataFrame, any_present: np.ndarray, names: Sequence[str]) -> None:
    if not any_present.all():
        raise ValueError(
            f"Rows with no modality present: {name_rows(frame, ~any_present)}. "
            f"Each row needs at least one of {sorted(names)}."
        )
