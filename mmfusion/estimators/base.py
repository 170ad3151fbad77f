"""What all estimators share: from a table and an outcome to a fitted model."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np
import pandas as pd
import torch
from sklearn.utils import check_random_state

from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion, check_fusion
from mmfusion.heads.base import Head, Target
from mmfusion.inputs.parameters import check_names
from mmfusion.inputs.table import check_frame
from mmfusion.modalities import Modality, Tabular, infer_modalities
from mmfusion.structured import columns_read
from mmfusion.training import (
    MIN_VALIDATION_ROWS,
    TrainingResult,
    TrainingSettings,
    split_validation,
)

from ._auxiliary import check_auxiliary, check_same_modalities
from ._checks import refuse_silence
from ._fields import ModelParameters
from ._folds import Folds, parts
from ._late import OUT_OF_FOLD, LatePool
from ._model import FusionModel
from ._out_of_fold import check_combine, check_entry, late_folds, out_of_fold
from ._parameters import check_modalities, check_widths, training_settings
from ._predicting import refuse_empty, stack
from ._pretrained import Pretrained
from ._saving import Saving
from ._training import TrainingParameters

__all__ = ["FusionEstimator"]


@dataclass(eq=False, repr=False)
class FusionEstimator(TrainingParameters, Pretrained, Saving, ModelParameters):
    """Base of the estimators; a subclass names its head and what it predicts.

    `ModelParameters` and `TrainingParameters` hold its parameters.
    """

    #: The term that "double_ml" is about: a parameter of `FusionClassifier` and `FusionRegressor`.
    treatment = cast("str | None", None)

    def _validate_params(self) -> None:
        """Check what can be checked without data, under scikit-learn's name for it."""
        settings = training_settings(self)
        strategy = check_fusion(self.fusion)
        head = self._make_head()
        self._make_structured(head)
        self._make_start(strategy)
        if isinstance(strategy, LateFusion):
            check_combine(self, strategy, head)
        if self.modalities:
            check_modalities(self.modalities)
            check_widths(strategy, self.modalities)
            check_auxiliary(self.auxiliary, strategy, self.modalities, settings.epochs)
            if isinstance(self.modality_dropout, Mapping):
                check_names("modality_dropout", self.modality_dropout, self.modalities)

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
            columns += [name for name in columns_read(self.treatment) if name in frame.columns]
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
        self._unfit()
        settings = training_settings(self)
        strategy = check_fusion(self.fusion)
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        frame = check_frame(self, X, reset=True)
        modalities = self._resolve_modalities(frame, is_array=frame is not X)
        if isinstance(self.modality_dropout, Mapping):
            check_names("modality_dropout", self.modality_dropout, modalities)
        objectives = check_auxiliary(self.auxiliary, strategy, modalities, settings.epochs)
        start = self._make_start(strategy)
        head = self._make_head()
        target = self._encode(head.fit_outcome, frame, y, sample_weight)
        if sample_weight is not None:  # one number was given where all rows count alike
            sample_weight = np.broadcast_to(np.asarray(sample_weight), len(frame))
        structured = self._make_structured(head)

        seeds = check_random_state(self.random_state)
        rng = np.random.default_rng(seeds.randint(np.iinfo(np.int32).max))
        rows, validation, eval_frame = self._deal_validation(
            head, frame, target, eval_set, settings, trains=bool(modalities), rng=rng
        )
        folds: Folds = []
        if isinstance(strategy, LateFusion):
            check_combine(self, strategy, head)
            check_entry(strategy, target)
            if modalities and strategy.how in OUT_OF_FOLD:
                folds = late_folds(self, frame, head, target, strategy.folds, seeds)
        self._head = head
        # All of them keep their plan.
        whole = len(rows) == len(target)
        train_target = target if whole else target.take(torch.from_numpy(rows))
        offsets = None
        if structured is not None:
            structured.fit_start(frame, rows, head, target)
            held_offset = None if eval_frame is None else structured.offset(eval_frame, head)
            offsets = (structured.offset(frame, head), held_offset)
        self._structured = structured
        self._models = {
            name: FusionModel(chosen, inner, self._design_use())
            for name, (chosen, inner) in _members(modalities, strategy).items()
        }
        designs = [None if part is None else self._design(part) for part in (frame, eval_frame)]
        # The user's own stream of random numbers goes on as if nothing had happened.
        gpus = [] if settings.device == "cpu" else range(torch.cuda.device_count())
        with torch.random.fork_rng(devices=gpus):
            torch.manual_seed(int(rng.integers(2**31)))
            for model in self._models.values():
                model.prepare(
                    frame,
                    rows,
                    head,
                    train_target,
                    settings,
                    eval_frame,
                    designs=designs,
                    offset=None if offsets is None else offsets[0],
                    objectives=objectives,
                    start=start,
                    of_part=self._tells is not None,
                )
            for model in self._models.values():
                refuse_silence(model, head, target, rows)
            models = list(self._models.values())
            late_parts = parts(models, target, folds, needs_any=structured is None)
            plan = None
            if structured is None:
                self._refuse_empty_rows(frame, eval_frame)
            else:
                plan = self._plan_inference(structured, frame, target, seeds)
            results = self._train_all(head, target, rows, validation, settings, rng, offsets)
        self._keep(results)
        members = [model.predict_prepared(settings) for model in self._models.values()]
        etas, present = stack(members, len(frame), len(head.predictors))
        self._late = None
        folded_eta = None
        if isinstance(strategy, LateFusion) and self._models:
            offset = None if offsets is None else offsets[0]
            folded = out_of_fold(self, frame, y, sample_weight, late_parts)
            self._late = LatePool(strategy, list(self._models))
            self._late.fit(etas, present, head, target, offset, folded)
            if folded is not None and structured is None:
                folded_eta = self._pool(folded.etas, folded.present, standardised=True)
                left_out = ~folded.present.any(axis=1)  # of a modality that the folds left out
                folded_eta[left_out] = self._pool(etas[left_out], present[left_out])
        eta = self._pool(etas, present)
        if structured is not None and offsets is not None:
            if self._shrinks and validation is None and self._stops_early(settings):
                self._keep_nothing(structured)
            elif self._shrinks and validation is not None and head.informative(validation[1]):
                held, held_target = validation
                deep = torch.from_numpy(eta[held] if eval_frame is None else self._deep(eval_frame))
                beside = offsets[0][held] if offsets[1] is None else offsets[1]
                structured.choose_scale(deep, beside, head, held_target)
            eta = self._fit_effects(frame, y, sample_weight, target, eta, modalities, plan)
        # What was predicted out of fold is as far from the truth as a new row's prediction will be.
        head.finish(torch.from_numpy(eta if folded_eta is None else folded_eta), target)
        self.is_fitted_ = True
        return self

    def _deal_validation(
        self,
        head: Head,
        frame: pd.DataFrame,
        target: Target,
        eval_set: Any,
        settings: TrainingSettings,
        *,
        trains: bool,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, tuple[np.ndarray, Target] | None, pd.DataFrame | None]:
        """Return the training rows, the validation rows with their outcome, and their own frame.

        Without an `eval_set` validation rows are cut from the frame, if anything is to be stopped.
        """
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
                    stacklevel=3,
                )
            return np.arange(len(frame)), (np.arange(len(eval_frame)), eval_target), eval_frame
        if trains and self._stops_early(settings):
            part, held = split_validation(
                head.stratify(target), self.validation_fraction, rng, self._cluster(frame)
            )
            held_target = target.take(torch.from_numpy(held))
            enough = len(held) >= MIN_VALIDATION_ROWS and head.informative(held_target)
            if enough and (self._tells is None or self._tells[part].any(0).all()):
                return part, (held, held_target), None
        return np.arange(len(frame)), None, None

    def _stops_early(self, settings: TrainingSettings) -> bool:
        """Whether validation rows end the training; a ridge is fitted at once, to all rows."""
        linear = isinstance(self.fusion, EarlyFusion) and self.fusion.hidden is None
        return settings.patience is not None and not linear

    def _train_all(
        self,
        head: Head,
        target: Target,
        rows: np.ndarray,
        validation: tuple[np.ndarray, Target] | None,
        settings: TrainingSettings,
        rng: np.random.Generator,
        offsets: tuple[torch.Tensor, torch.Tensor | None] | None,
    ) -> dict[str, TrainingResult]:
        """Train each network; Ctrl-C ends them all, and keeps those that were trained."""
        results: dict[str, TrainingResult] = {}
        for name, model in self._models.items():
            try:
                results[name] = model.train(head, target, rows, validation, settings, rng, offsets)
            except KeyboardInterrupt:
                if not results:
                    raise
                break
            if results[name].interrupted:
                break
        untrained = [name for name in self._models if name not in results]
        if untrained:
            warnings.warn(
                f"The training was interrupted before {untrained} had a turn: the model is without "
                "them.",
                UserWarning,
                stacklevel=3,
            )
            self._models = {name: self._models[name] for name in results}
        self.interrupted_ = bool(untrained) or any(r.interrupted for r in results.values())
        return results

    def _encode(self, encode: Any, frame: pd.DataFrame, y: Any, sample_weight: Any) -> Target:
        target = encode(y, sample_weight, **self._outcome_context(frame))
        if len(target) != len(frame):
            raise ValueError(
                "Found input variables with inconsistent numbers of samples: "
                f"X has {len(frame)} rows, y has {len(target)}."
            )
        return target

    def _resolve_modalities(self, frame: pd.DataFrame, *, is_array: bool) -> Mapping[str, Modality]:
        pretrainer = self._pretrainer()
        if pretrainer is not None:
            if self.modalities is None:
                return pretrainer.modalities_
            if self.modalities:
                check_modalities(self.modalities)
                check_same_modalities(self.modalities, pretrainer.modalities_)
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
        self._expose()

    def _refuse_empty_rows(self, frame: pd.DataFrame, eval_frame: pd.DataFrame | None) -> None:
        """Refuse rows with no modality at all before anything is trained."""
        models = self._models.values()
        names = [name for model in models for name in model.modalities]
        present = torch.stack([model.data.present.any(1) for model in models]).any(0)
        refuse_empty(frame, present.numpy(), names)
        if eval_frame is not None:
            held = [model.eval_data.present.any(1) for model in models if model.eval_data]
            refuse_empty(eval_frame, torch.stack(held).any(0).numpy(), names)

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
