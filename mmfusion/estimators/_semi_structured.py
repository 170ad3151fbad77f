"""The formula beside the networks: what a user may ask of it, and its effects."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone

from mmfusion.fusion import JointFusion, LateFusion, check_fusion
from mmfusion.heads.base import Head, Target
from mmfusion.inputs.columns import take_column
from mmfusion.inputs.messages import name_rows
from mmfusion.inputs.parameters import check_choice
from mmfusion.modalities import Modality
from mmfusion.structured import Formula

from ._double_ml import check_double_ml, check_rows, deal_splits, double_ml, find_treatment
from ._effects import Effects
from ._folds import Folds, Part, deal_taught, fit_quietly, needs, parts
from ._late import OUT_OF_FOLD
from ._model import DesignUse
from ._parameters import NestedModalities
from ._structured import HEADS, INFERENCES, ORTHOGONALIZATIONS, StructuredPart

__all__ = ["SemiStructured"]

#: Parts of the rows for ``inference="cross_fit"``.
CROSS_FIT_FOLDS = 5


class SemiStructured(Effects, NestedModalities):
    """An estimator's structured part: parameters, design, the fits that its inference asks for."""

    #: Whether only that share of the deep predictor is kept that lowers the validation loss.
    _shrinks = True
    interrupted_: bool
    #: The formula as all rows made it, where this is an estimator of a part of them.
    _prepared: Formula | None = None
    #: And which of its rows teach which modality, (n, n_modalities).
    _tells: np.ndarray | None = None

    def _of_part(self, part: Part) -> Any:
        """Return an estimator like this one for a part of its rows, with the modalities it has."""
        chosen = {
            name: clone(modality)
            for model in self._models.values()
            for name, modality in model.modalities.items()
            if name in part.modalities
        }
        model = clone(self).set_params(inference="model", verbose=0, modalities=chosen)
        if isinstance(self.modality_dropout, Mapping):
            rates = {name: r for name, r in self.modality_dropout.items() if name in chosen}
            model.set_params(modality_dropout=rates)
        if self.auxiliary is not None:
            able = [objective for objective in self.auxiliary if objective.fewest <= len(chosen)]
            model.set_params(auxiliary=able)
        model.treatment = None
        model._tells = part.tells
        if self._structured is not None:
            model._prepared = self._structured.formula
        return model

    @property
    def _inferred(self) -> str:
        """How the reported standard errors were made: Ctrl-C leaves those of the model."""
        of_folds = self.inference in ("cross_fit", "double_ml")
        return "model" if of_folds and self.interrupted_ else self.inference

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

    def _make_structured(self, head: Head) -> StructuredPart | None:
        check_choice("inference", self.inference, INFERENCES)
        check_choice("head", self.head, HEADS)
        if self.orthogonalization not in ORTHOGONALIZATIONS:
            raise ValueError(
                f"The orthogonalization parameter must be one of {ORTHOGONALIZATIONS}. "
                f"Got {self.orthogonalization!r}."
            )
        if self.inference == "double_ml":
            check_double_ml(self, head)
        elif self.treatment is not None:
            raise ValueError(
                "The treatment parameter is read with inference='double_ml' alone: elsewhere every "
                f"term of the formula has its effect. Got {self.treatment!r}."
            )
        if self.structured is None:
            return None
        if not isinstance(self.structured, str):
            raise TypeError(
                "The structured parameter must be a formula such as 'treatment + s(age)', or None. "
                f"Got {self.structured!r}."
            )
        strategy = check_fusion(self.fusion)
        at = strategy.at if isinstance(strategy, JointFusion) else "embedding"
        if self.head == "nonlinear" and (not strategy.hidden or at == "hidden"):
            raise ValueError(
                "The head parameter may be 'nonlinear' only where hidden layers follow the fusion "
                f"of the modalities. Got {strategy!r}."
            )
        return StructuredPart(self.structured, self.orthogonalization, self._prepared)

    def _plan_inference(
        self,
        structured: StructuredPart,
        frame: pd.DataFrame,
        target: Target,
        seeds: np.random.RandomState,
    ) -> _Plan | None:
        """Return the folds that the inference asks for; refuse what cannot be dealt."""
        groups, instead = self._cluster(frame), "inference='model'"
        models = list(self._models.values())
        if self.inference == "cross_fit" and models:
            self._warn_of_shared_columns()
            seed = seeds.randint(2**31 - 1)
            labels, required = self._head.stratify(target), needs(self._head, target)
            folds = deal_taught(labels, required, groups, CROSS_FIT_FOLDS, seed, instead)
            self._check_folds_within(folds, labels, required, groups, seed)
            return _Plan(seed, parts(models, target, folds, needs_any=False))
        if self.inference == "double_ml":
            assert self.treatment is not None
            modalities = {k: m for model in models for k, m in model.modalities.items()}
            treated = find_treatment(self.treatment, structured.formula, modalities)
            column = structured.design(frame)[:, treated]
            check_rows(self._head, target, column)
            seed = seeds.randint(2**31 - 1)
            splits = deal_splits(self._head, target, column, groups, seed, instead)
            return _Plan(seed, splits=splits, treated=treated)
        return None

    def _check_folds_within(
        self,
        folds: Folds,
        labels: np.ndarray,
        required: Mapping[str, np.ndarray],
        groups: np.ndarray | None,
        seed: int,
    ) -> None:
        """Refuse late fusion that cannot deal folds of the training rows of a fold."""
        if not isinstance(self.fusion, LateFusion) or self.fusion.how not in OUT_OF_FOLD:
            return
        for train, _ in folds:
            deal_taught(
                labels[train],
                {name: rows[train] for name, rows in required.items()},
                None if groups is None else groups[train],
                self.fusion.folds,
                seed,
                "LateFusion('mean') within inference='cross_fit'",
            )

    def _keep_nothing(self, structured: StructuredPart) -> None:
        """Leave the networks out: there were no rows to show that they help."""
        if not self._models:
            return
        structured.scale = 0.0
        warnings.warn(
            "There are too few rows, or events, to hold some out and judge the networks by them: "
            "the model is its structured part alone. Give fit an eval_set, or say patience=None to "
            "keep the networks unjudged.",
            UserWarning,
            stacklevel=3,
        )

    def _warn_of_shared_columns(self) -> None:
        """Warn where networks that are not projected read what the effects are of."""
        assert self._structured is not None
        of_formula = set(self._structured.formula.columns_)
        for model in self._models.values():
            for name, modality in model.modalities.items():
                shared = sorted(of_formula.intersection(modality.columns_))
                if shared:
                    warnings.warn(
                        f"Modality {name!r} reads {shared}, which stand in the formula too: with "
                        "inference='cross_fit' their effects are what the networks leave of them. "
                        "Leave a treatment out of the modalities.",
                        UserWarning,
                        stacklevel=3,
                    )

    def _cluster(self, frame: pd.DataFrame) -> np.ndarray | None:
        if self.cluster is None:
            return None
        labels = take_column(frame, self.cluster, "cluster")
        if labels.isna().any():
            raise ValueError(
                f"The cluster column {self.cluster!r} must have a label for each row. It is "
                f"missing in {name_rows(frame, labels.isna().to_numpy())}."
            )
        if labels.nunique() < 2:
            raise ValueError(
                f"The cluster column {self.cluster!r} must have two labels or more. "
                f"Got {labels.tolist()[0]!r} alone."
            )
        return pd.factorize(labels)[0]

    def _fit_effects(
        self,
        frame: pd.DataFrame,
        y: Any,
        sample_weight: np.ndarray | None,
        target: Target,
        deep: np.ndarray,
        modalities: Mapping[str, Modality],
        plan: _Plan | None,
    ) -> np.ndarray:
        """Fit and report the coefficients beside the deep predictor (n, K); return the whole."""
        structured, head, cluster = self._structured, self._head, self._cluster(frame)
        assert structured is not None
        structured.fit_final(frame, deep, head, target)
        eta = structured.predictor(frame, deep, head)
        effect = None
        try:
            if plan is not None and self.interrupted_:
                raise KeyboardInterrupt
            if plan is not None and plan.treated is None:
                unseen = self._cross_fitted(frame, y, sample_weight, plan)
                structured.cross_fit(frame, unseen, head, target)
            elif plan is not None:
                column = structured.design(frame)[:, plan.treated]
                effect = double_ml(
                    self, modalities, frame, y, sample_weight, column, plan.splits, plan.seed
                )
        except KeyboardInterrupt:
            self.interrupted_ = True
            warnings.warn(
                f"The training was interrupted before inference={self.inference!r} was done: the "
                "effects are those of inference='model'.",
                UserWarning,
                stacklevel=3,
            )
        structured.report(self._inferred, cluster)
        if effect is not None and plan is not None and plan.treated is not None:
            structured.replace_effect(plan.treated, effect, cluster)
        return eta

    def _cross_fitted(
        self, frame: pd.DataFrame, y: Any, sample_weight: np.ndarray | None, plan: _Plan
    ) -> np.ndarray:
        """Return the deep predictor of each row from networks that did not see it, (n, K)."""
        deep = np.zeros((len(frame), len(self._head.predictors)))
        for part in plan.parts:
            held = part.held
            model = self._of_part(part).set_params(random_state=plan.seed)
            model._shrinks = False  # the coefficient that it gets does so, with all rows to judge
            fit_quietly(model, frame, y, sample_weight, part.train)
            scale = model._structured.scale * model._head.units[1] / self._head.units[1]
            every = model._deep(frame) * scale
            # Where the likelihood sees no constant, that of each network is arbitrary.
            deep[held] = every[held] - (0.0 if self._head.has_intercept else every.mean(0))
        return deep


class _Plan(NamedTuple):
    """What an inference by folds needs, drawn before training.

    Attributes
    ----------
    seed : int
    parts : list of Part
        Of cross-fitting.
    splits : list of Folds
        Of double machine learning, in each of its splits.
    treated : int or None
        The treatment's column in the design.
    """

    seed: int
    parts: Sequence[Part] = ()
    splits: Sequence[Folds] = ()
    treated: int | None = None
