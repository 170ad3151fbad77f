"""What all estimators share: from a table and an outcome to a fitted model and its predictors."""

from __future__ import annotations

import os
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.model_selection import StratifiedKFold
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import nn

from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion, check_fusion
from mmfusion.heads.base import Head, Target
from mmfusion.modalities import Modality, Tabular, infer_modalities
from mmfusion.training import Callback, TrainingResult, split_validation

from ._double_ml import check_double_ml, check_rows, double_ml, find_treatment
from ._effects import Effects
from ._frame import check_frame, name_rows, take_outcome
from ._model import FusionModel
from ._parameters import (
    NestedModalities,
    check_choice,
    check_modalities,
    training_settings,
)
from ._persistence import load_estimator, save_estimator
from ._structured import INFERENCES, ORTHOGONALIZATIONS, StructuredPart

__all__ = ["FusionEstimator"]

#: A validation part of fewer rows says nothing; all rows are then trained on, for all epochs.
MIN_VALIDATION_ROWS = 8
#: Parts of the rows for ``inference="cross_fit"``.
CROSS_FIT_FOLDS = 5


class FusionEstimator(Effects, NestedModalities):
    """Base of the estimators; a subclass names its head and what it predicts.

    See `FusionCox`, `FusionClassifier` and `FusionRegressor` for the parameters.
    """

    #: Whether only that share of the deep predictor is kept that lowers the validation loss.
    _shrinks = True

    def __init__(
        self,
        modalities: Mapping[str, Modality] | None = None,
        fusion: str | JointFusion | EarlyFusion | LateFusion = "concat",
        *,
        structured: str | None = None,
        orthogonalization: str | None = "post_hoc",
        inference: str = "model",
        treatment: str | None = None,
        cluster: Any = None,
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
        self.structured = structured
        self.orthogonalization = orthogonalization
        self.inference = inference
        self.treatment = treatment
        self.cluster = cluster
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
        self._cluster(frame)
        columns = [] if self.cluster is None else [self.cluster]
        if self.inference == "double_ml" and isinstance(self.treatment, str):
            columns += [self.treatment] if self.treatment in frame.columns else []
        return columns

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
        structured = self._make_structured(head)

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
        elif settings.patience is not None and modalities:
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
        offsets = None
        if structured is not None:
            structured.fit_start(frame, rows, head, train_target)
            held_offset = None if eval_frame is None else structured.offset(eval_frame, head)
            offsets = (structured.offset(frame, head), held_offset)
        # The user's own stream of random numbers goes on as if nothing had happened.
        gpus = [] if settings.device == "cpu" else range(torch.cuda.device_count())
        with torch.random.fork_rng(devices=gpus):
            torch.manual_seed(int(rng.integers(2**31)))
            for model in self._models.values():
                model.prepare(
                    frame, rows, head, train_target, settings, eval_frame, has_offset=bool(offsets)
                )
            if structured is None:
                self._refuse_empty_rows(frame, eval_frame)
            elif self.inference == "double_ml":
                treated = self._find_treatment(structured, frame, target)
            results = {
                name: model.train(head, target, rows, validation, settings, rng, offsets)
                for name, model in self._models.items()
            }
        self._structured = structured
        self._keep(results)
        members = [model.predict_prepared(settings) for model in self._models.values()]
        etas, present = _stack(members, len(frame), len(head.predictors))
        if len(self._models) > 1:
            some = np.flatnonzero(present.any(axis=1))
            at = torch.from_numpy(some)
            head.fit_pool(
                etas[some],
                present[some],
                target.take(at),
                None if offsets is None else offsets[0][at],
            )
        eta = self._pool(etas, present)
        if structured is not None and offsets is not None:
            if validation is not None and self._shrinks:
                held, held_target = validation
                deep = torch.from_numpy(eta[held] if eval_frame is None else self._deep(eval_frame))
                beside = offsets[0][held] if offsets[1] is None else offsets[1]
                structured.choose_scale(deep, beside, head, held_target)
            structured.fit_final(frame, eta[:, 0], head, target)
            eta = structured.predictor(frame, eta[:, 0], head)
            if self.inference == "cross_fit" and self._models:
                unseen = self._cross_fitted(frame, y, sample_weight, seeds.randint(2**31 - 1))
                structured.cross_fit(frame, unseen, head, target)
            structured.report(self.inference, self._cluster(frame))
            if self.inference == "double_ml":
                column = structured.formula.transform(frame)[:, treated]
                seed = seeds.randint(2**31 - 1)
                effect = double_ml(self, modalities, frame, y, sample_weight, target, column, seed)
                structured.replace_effect(treated, effect, self._cluster(frame))
        head.finish(torch.from_numpy(eta), target)
        return self

    def _make_structured(self, head: Head) -> StructuredPart | None:
        if self.inference == "double_ml":
            check_double_ml(self, head)
        if self.structured is None:
            return None
        if len(head.predictors) != 1:
            raise ValueError(
                "The structured parameter needs an outcome with one predictor (survival, numbers, "
                f"two classes). This one has {len(head.predictors)}: {head.predictors}."
            )
        if not isinstance(self.structured, str):
            raise TypeError(
                "The structured parameter must be a formula such as 'treatment + s(age)', or None. "
                f"Got {self.structured!r}."
            )
        if self.orthogonalization not in ORTHOGONALIZATIONS:
            raise ValueError(
                f"The orthogonalization parameter must be one of {ORTHOGONALIZATIONS}. "
                f"Got {self.orthogonalization!r}."
            )
        check_choice("inference", self.inference, INFERENCES)
        return StructuredPart(self.structured, self.orthogonalization)

    def _find_treatment(
        self, structured: StructuredPart, frame: pd.DataFrame, target: Target
    ) -> int:
        """Return the treatment's column in the design; refuse what double ML cannot do."""
        fitted = {
            name: modality
            for model in self._models.values()
            for name, modality in model.modalities.items()
        }
        assert self.treatment is not None
        at = find_treatment(self.treatment, structured.formula, fitted)
        check_rows(self._head, target, structured.formula.transform(frame)[:, at])
        return at

    def _cluster(self, frame: pd.DataFrame) -> np.ndarray | None:
        if self.cluster is None:
            return None
        if self.cluster not in frame.columns:
            raise ValueError(
                f"The cluster parameter must name a column of X. Got {self.cluster!r}; "
                f"X has {frame.columns.tolist()[:10]}."
            )
        return frame[self.cluster].to_numpy()

    def _cross_fitted(
        self, frame: pd.DataFrame, y: Any, sample_weight: Any, seed: int
    ) -> np.ndarray:
        """Return the deep predictor of each row from networks that did not see it, (n,)."""
        labels = self._head.stratify(self._encode(self._head.encode, frame, y, sample_weight))
        folds = StratifiedKFold(CROSS_FIT_FOLDS, shuffle=True, random_state=seed % 2**32)
        deep = np.zeros(len(frame))
        for train, held in folds.split(labels, labels):
            model = clone(self).set_params(inference="model", verbose=0, random_state=seed)
            weight = None if sample_weight is None else np.asarray(sample_weight)[train]
            model.fit(frame.iloc[train], take_outcome(y, train), weight)
            scale = model._structured.scale * model._head.units[1] / self._head.units[1]
            every = model._deep(frame)[:, 0] * scale
            # Where the likelihood sees no constant, that of each network is arbitrary.
            deep[held] = every[held] - (0.0 if self._head.has_intercept else every.mean())
        return deep

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
        if self.structured is None or self.modalities:  # {} with a formula: the classical model
            check_modalities(self.modalities)
        return self.modalities

    def _keep(self, results: Mapping[str, TrainingResult]) -> None:
        late = len(results) > 1
        histories = [
            result.history.assign(model=name) if late else result.history
            for name, result in results.items()
        ]
        self.history_ = pd.concat(histories, ignore_index=True) if histories else pd.DataFrame()
        self.best_epoch_ = max((result.best_epoch for result in results.values()), default=0)
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
        eta = self._deep(frame)
        if self._structured is not None:
            eta = self._structured.predictor(frame, eta[:, 0], self._head)
        return frame, eta

    def _deep(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the networks' predictor of each row, (n, K); beside a formula, zero for none."""
        etas, present = self._member_predictors(frame)
        if self._structured is None:
            _refuse_empty(frame, np.asarray(present.any(axis=1)), list(self.modalities_))
        return self._pool(etas, present)

    def _member_predictors(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return predictors (n, n_members, K), NaN where absent, and presence (n, n_members)."""
        settings = training_settings(self)
        members = [model.predict(frame, settings) for model in self._models.values()]
        return _stack(members, len(frame), len(self._head.predictors))

    def _pool(self, etas: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Return one predictor a row, (n, K), zero where nothing is present."""
        if etas.shape[1] == 0:
            return np.zeros((len(etas), etas.shape[2]))
        if etas.shape[1] == 1:
            return np.nan_to_num(etas[:, 0])
        some = present.any(axis=1)
        eta = np.zeros((len(etas), etas.shape[2]))
        eta[some] = self._head.pool(etas[some], present[some])
        return eta

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
        self._structured = None
        if state["structured"] is not None:
            self._structured = StructuredPart.from_state(
                state["structured"], self.orthogonalization
            )
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
    """Return the networks to train: one, with late fusion one a modality, none without any."""
    if not modalities:
        return {}
    if not isinstance(strategy, LateFusion):
        return {"model": (modalities, strategy)}
    inner = strategy.member()
    return {name: ({name: modality}, inner) for name, modality in modalities.items()}


def _stack(
    members: Sequence[tuple[np.ndarray, np.ndarray]], n_rows: int, n_predictors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the members' predictors (n, M, K), NaN where absent, and presence (n, M)."""
    etas = np.full((n_rows, len(members), n_predictors), np.nan)
    presence = np.zeros((n_rows, len(members)), dtype=bool)
    for number, (eta, present) in enumerate(members):
        presence[:, number] = present
        etas[present, number] = eta[present]
    return etas, presence


def _refuse_empty(frame: pd.DataFrame, any_present: np.ndarray, names: Sequence[str]) -> None:
    if not any_present.all():
        raise ValueError(
            f"Rows with no modality present: {name_rows(frame, ~any_present)}. "
            f"Each row needs at least one of {sorted(names)}."
        )
