"""What all estimators share: from a table and an outcome to a fitted model and its predictors."""

from __future__ import annotations

import os
import warnings
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
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
from mmfusion.heads.cox import CoxMixtureHead
from mmfusion.modalities import Modality, Tabular, infer_modalities
from mmfusion.objectives import Objective
from mmfusion.training import Callback, TrainingResult, TrainingSettings, split_validation

from ._auxiliary import check_auxiliary, check_same_modalities
from ._double_ml import check_double_ml, check_rows, double_ml, find_treatment
from ._effects import Effects
from ._frame import check_frame, name_rows, take_outcome
from ._late import OUT_OF_FOLD, LatePool
from ._model import DesignUse, FusionModel, Start
from ._out_of_fold import check_combine, deal_folds, out_of_fold
from ._parameters import (
    NestedModalities,
    check_choice,
    check_modalities,
    check_names,
    check_number,
    training_settings,
)
from ._persistence import load_estimator, save_estimator
from ._structured import HEADS, INFERENCES, ORTHOGONALIZATIONS, StructuredPart
from .pretrainer import FusionPretrainer

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
    _late: LatePool | None

    def __init__(
        self,
        modalities: Mapping[str, Modality] | None = None,
        fusion: str | JointFusion | EarlyFusion | LateFusion = "concat",
        *,
        structured: str | None = None,
        head: str = "additive",
        orthogonalization: str | None = "post_hoc",
        inference: str = "model",
        treatment: str | None = None,
        cluster: Any = None,
        modality_dropout: float | Mapping[str, float] = 0.0,
        auxiliary: Sequence[Objective] | None = None,
        pretrained: FusionPretrainer | None = None,
        pretrained_lr_scale: float = 0.1,
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
        self.head = head
        self.orthogonalization = orthogonalization
        self.inference = inference
        self.treatment = treatment
        self.cluster = cluster
        self.modality_dropout = modality_dropout
        self.auxiliary = auxiliary
        self.pretrained = pretrained
        self.pretrained_lr_scale = pretrained_lr_scale
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

    def _validate_params(self) -> None:
        """Check what can be checked without data, under scikit-learn's name for it."""
        training_settings(self)
        check_fusion(self.fusion)

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
        if isinstance(self.modality_dropout, Mapping):
            check_names("modality_dropout", self.modality_dropout, modalities)
        objectives = check_auxiliary(self.auxiliary, strategy, modalities, settings.epochs)
        start = self._make_start(strategy)
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
        elif settings.patience is not None and modalities and not _is_linear(strategy):
            part, held = split_validation(head.stratify(target), self.validation_fraction, rng)
            held_target = target.take(torch.from_numpy(held))
            if len(held) >= MIN_VALIDATION_ROWS and head.informative(held_target):
                rows, validation = part, (held, held_target)

        folds: list[tuple[np.ndarray, np.ndarray]] = []
        if isinstance(strategy, LateFusion):
            check_combine(self, strategy, head)
            if modalities and strategy.how in OUT_OF_FOLD:
                folds = deal_folds(self, frame, head, target, strategy.folds, seeds)
        self._head = head
        # All of them keep their plan.
        whole = len(rows) == len(target)
        train_target = target if whole else target.take(torch.from_numpy(rows))
        offsets = None
        if structured is not None:
            structured.fit_start(frame, rows, head, train_target)
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
                )
            if structured is None:
                self._refuse_empty_rows(frame, eval_frame)
            elif self.inference == "double_ml":
                treated = self._find_treatment(structured, frame, target)
            results = self._train_all(head, target, rows, validation, settings, rng, offsets)
        self._keep(results)
        members = [model.predict_prepared(settings) for model in self._models.values()]
        etas, present = _stack(members, len(frame), len(head.predictors))
        self._late = None
        folded_eta = None
        if isinstance(strategy, LateFusion) and self._models:
            offset = None if offsets is None else offsets[0]
            folded = out_of_fold(self, frame, y, sample_weight, folds)
            self._late = LatePool(strategy, list(self._models))
            self._late.fit(etas, present, head, target, offset, folded)
            if folded is not None and structured is None:
                folded_eta = self._pool(folded.etas, folded.present, standardised=True)
        eta = self._pool(etas, present)
        if structured is not None and offsets is not None:
            if validation is not None and self._shrinks:
                held, held_target = validation
                deep = torch.from_numpy(eta[held] if eval_frame is None else self._deep(eval_frame))
                beside = offsets[0][held] if offsets[1] is None else offsets[1]
                structured.choose_scale(deep, beside, head, held_target)
            structured.fit_final(frame, eta, head, target)
            eta = structured.predictor(frame, eta, head)
            if self.inference == "cross_fit" and self._models:
                unseen = self._cross_fitted(frame, y, sample_weight, seeds.randint(2**31 - 1))
                structured.cross_fit(frame, unseen, head, target)
            structured.report(self.inference, self._cluster(frame))
            if self.inference == "double_ml":
                column = structured.design(frame)[:, treated]
                seed = seeds.randint(2**31 - 1)
                effect = double_ml(self, modalities, frame, y, sample_weight, target, column, seed)
                structured.replace_effect(treated, effect, self._cluster(frame))
        # What was predicted out of fold is as far from the truth as a new row's prediction will be.
        head.finish(torch.from_numpy(eta if folded_eta is None else folded_eta), target)
        return self

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

    def _design_use(self) -> DesignUse:
        """Return what the networks make of the structured design."""
        if self._structured is None:
            return DesignUse()
        return DesignUse(
            n_columns=int((self._structured.spread > 0).sum()),
            joins=self.head == "nonlinear",
            orthogonal=self.orthogonalization == "online",
        )

    def _design(self, frame: pd.DataFrame) -> torch.Tensor | None:
        """Return the structured design of some rows, if a network reads it."""
        if self._structured is None or not self._design_use().read:
            return None
        return self._structured.network_design(frame)

    def _make_start(self, strategy: JointFusion | EarlyFusion | LateFusion) -> Start | None:
        check_number("pretrained_lr_scale", self.pretrained_lr_scale, 0)
        if self.pretrained is None:
            return None
        check_is_fitted(self.pretrained)
        if isinstance(strategy, EarlyFusion):
            raise ValueError(
                "The pretrained parameter needs encoders of the modalities, which EarlyFusion has "
                "not: use JointFusion or LateFusion."
            )
        if strategy.dim != self.pretrained.dim:
            raise ValueError(
                f"The dim parameter of {type(strategy).__name__} must be that of the pretrained "
                f"encoders, {self.pretrained.dim}. Got {strategy.dim}."
            )
        return Start(self.pretrained.model_, float(self.pretrained_lr_scale))

    def _make_structured(self, head: Head) -> StructuredPart | None:
        if self.inference == "double_ml":
            check_double_ml(self, head)
        if self.structured is None:
            return None
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
        check_choice("head", self.head, HEADS)
        strategy = check_fusion(self.fusion)
        at = strategy.at if isinstance(strategy, JointFusion) else "embedding"
        if self.head == "nonlinear" and (not strategy.hidden or at == "hidden"):
            raise ValueError(
                "The head parameter may be 'nonlinear' only where hidden layers follow the fusion "
                f"of the modalities. Got {strategy!r}."
            )
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
        deep = np.zeros((len(frame), len(self._head.predictors)))
        for train, held in folds.split(labels, labels):
            model = clone(self).set_params(inference="model", verbose=0, random_state=seed)
            weight = None if sample_weight is None else np.asarray(sample_weight)[train]
            model.fit(frame.iloc[train], take_outcome(y, train), weight)
            scale = model._structured.scale * model._head.units[1] / self._head.units[1]
            every = model._deep(frame) * scale
            # Where the likelihood sees no constant, that of each network is arbitrary.
            deep[held] = every[held] - (0.0 if self._head.has_intercept else every.mean(0))
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
        if self.pretrained is not None:
            if not isinstance(self.pretrained, FusionPretrainer):
                raise TypeError(
                    "The pretrained parameter must be a fitted FusionPretrainer or None. "
                    f"Got {self.pretrained!r}."
                )
            check_is_fitted(self.pretrained)
            if self.modalities is None:
                return self.pretrained.modalities_
            if self.modalities:
                check_modalities(self.modalities)
                check_same_modalities(self.modalities, self.pretrained.modalities_)
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

    def _predictors(
        self, X: Any, modalities: Sequence[str] | None = None
    ) -> tuple[pd.DataFrame, np.ndarray]:
        """Return the checked frame and the predictors of its rows, float64 of shape (n, K).

        Only `modalities`, if given, are looked at: the others are absent in every row.
        """
        check_is_fitted(self)
        frame = check_frame(self, X, reset=False)
        self._check_asked(modalities)
        eta = self._deep(frame, modalities)
        if self._structured is not None:
            eta = self._structured.predictor(frame, eta, self._head)
        return frame, eta

    def _check_asked(self, modalities: Sequence[str] | None) -> None:
        if modalities is None:
            return
        if isinstance(modalities, str) or not isinstance(modalities, Collection):
            raise TypeError(
                "The modalities parameter must be a list of names of modalities, or None for all. "
                f"Got {modalities!r}."
            )
        check_names("modalities", modalities, self.modalities_)
        if not modalities and self._structured is None:
            raise ValueError(
                "The modalities parameter may be empty only beside a formula (structured=): "
                f"nothing else is left to predict from. Name some of {list(self.modalities_)}."
            )

    def _deep(self, frame: pd.DataFrame, modalities: Sequence[str] | None = None) -> np.ndarray:
        """Return the networks' predictor of each row, (n, K); beside a formula, zero for none."""
        etas, present = self._member_predictors(frame, modalities)
        if self._structured is None:
            asked = list(self.modalities_) if modalities is None else modalities
            _refuse_empty(frame, np.asarray(present.any(axis=1)), asked)
        return self._pool(etas, present)

    def _member_predictors(
        self, frame: pd.DataFrame, modalities: Sequence[str] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return predictors (n, n_members, K), NaN where absent, and presence (n, n_members)."""
        settings = training_settings(self)
        design = self._design(frame)
        members = [
            model.predict(frame, settings, design, modalities) for model in self._models.values()
        ]
        return _stack(members, len(frame), len(self._head.predictors))

    def _pool(
        self, etas: np.ndarray, present: np.ndarray, *, standardised: bool = False
    ) -> np.ndarray:
        """Return one predictor a row, (n, K), zero where nothing is present.

        Late fusion of curves: a log-hazard a member, (n, n_members), NaN where it is absent.
        """
        if etas.shape[1] == 0:
            return np.zeros((len(etas), etas.shape[2]))
        if self._late is None:
            return np.nan_to_num(etas[:, 0])
        some = present.any(axis=1)
        pooled = self._late.pool(etas[some], present[some], self._head, standardised=standardised)
        # Of curves a row without members has none: they are estimated without it.
        nothing = np.nan if isinstance(self._head, CoxMixtureHead) else 0.0
        eta = np.full((len(etas), pooled.shape[1]), nothing)
        eta[some] = pooled
        return eta

    @property
    def fusion_weights_(self) -> pd.Series:
        """What late fusion makes of its members: a weight a modality, of sum 1.

        With "stack" the coefficients of a row that has every modality.
        """
        check_is_fitted(self)
        if self._late is None:
            raise AttributeError("There are no weights: the networks were not fused late.")
        return self._late.shown()

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
        self._late = None
        if state.get("late") is not None:
            self._late = LatePool.from_state(strategy, list(state["models"]), state["late"])
        use = self._design_use()
        self._models = {
            name: FusionModel.from_weights(modalities, inner, self._head, weights[name], use)
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

    def __sklearn_clone__(self) -> Self:
        copy = super().__sklearn_clone__()
        copy.pretrained = self.pretrained  # fitted, which a clone of it would not be
        return copy

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


def _is_linear(strategy: JointFusion | EarlyFusion | LateFusion) -> bool:
    """Return whether there is no training that could be stopped early."""
    return isinstance(strategy, EarlyFusion) and strategy.hidden is None


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
