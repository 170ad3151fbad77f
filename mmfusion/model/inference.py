"""What is reported of the structured part: a question that is asked of a fitted model."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd

from mmfusion.model.confounding import Confounding
from mmfusion.model.cross_fit import SPLITS, averaged, beside_unseen, cross_fitted, deal_parts
from mmfusion.model.double_ml import PartialQuestion
from mmfusion.model.fit import Model, Ready
from mmfusion.model.folds import Part
from mmfusion.model.structured import Structured
from mmfusion.structured import (
    Design,
    Layout,
    Likelihood,
    PartialEffect,
    StructuredFit,
    Symmetric,
    effects_table,
    robust_covariance,
    small_sample_sandwich,
)
from mmfusion.training import InterruptedWarning

__all__ = ["Inference", "Question"]


@dataclass(frozen=True, eq=False)
class Inference:
    """The reported coefficients of a model's layout, and how they were found.

    Attributes
    ----------
    layout : Layout
    fit : StructuredFit
        The reported fit.
    covariance : Symmetric, shape (p, p)
    effects : DataFrame
    how : str
        The inference that was done; that of the model where Ctrl-C ended another.
    orthogonalization : str or None
    cluster : column label or None
    n_events : int or None
        Of survival outcomes.
    variances : ndarray, shape (2,)
        Shares of the predictor's variance: the structured and the deep part's.
    interrupted : bool
        Whether Ctrl-C ended it.
    confounding : Confounding or None
        Of "double_ml", how far the effect is to be believed.
    follow_up : float or None
        Median follow-up (reverse Kaplan-Meier) of survival outcomes with a row a subject.
    scale_note : str or None
        The scale of the coefficients, where it is none that a reader expects.
    weighted : bool
        Whether the rows have weights that are no counts, so that the covariance is a sandwich.
    """

    layout: Layout
    fit: StructuredFit
    covariance: Symmetric
    effects: pd.DataFrame
    how: str
    orthogonalization: str | None
    cluster: Any
    n_events: int | None
    variances: np.ndarray
    interrupted: bool = False
    confounding: Confounding | None = None
    follow_up: float | None = None
    scale_note: str | None = None
    weighted: bool = False

    @property
    def is_likelihoods(self) -> bool:
        """Whether the table is that of one likelihood, and the covariance its own."""
        return self.how == "model" and self.cluster is None and not self.weighted

    @property
    def estimand(self) -> str:
        """Which effects the coefficients are: what they are adjusted for, beside the formula."""
        explained = self.variances[1]
        if explained == 0:
            return "those of the formula's columns alone"
        given = f"given what the networks explain ({explained:.0%} of the predictor's variance)"
        if self.how == "cross_fit" or self.orthogonalization is None:
            return given
        if self.how == "double_ml":
            return f"{given} for the treatment, not adjusted for the modalities for the others"
        return (
            "those of the classical model, not adjusted for the modalities: of groups, whatever "
            "their modalities show. Predictions of rows with the same modalities differ by what "
            "the networks leave of them"
        )

    def state(self) -> dict[str, Any]:
        """Return what saving writes: plain Python and arrays; the formulas are the model's."""
        names = [
            at if isinstance(at, str) else self.layout.name(*at) if at[1] else at[0]
            for at in self.effects.index
        ]
        return {
            **{n: getattr(self, n) for n in ("how", "orthogonalization", "cluster")},
            **{n: getattr(self, n) for n in ("n_events", "follow_up", "scale_note", "variances")},
            "weighted": self.weighted,
            "confounding": None if self.confounding is None else self.confounding.state(),
            "covariance": self.covariance.state(),
            "fit": self.fit.state(),
            "effects": {
                "names": names,
                "columns": self.effects.columns.tolist(),
                "values": self.effects.to_numpy(),
            },
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], layout: Layout) -> Self:
        """Take back what `state` returned."""
        fit = StructuredFit.from_state(state["fit"], layout.terms)
        covariance = Symmetric.from_state(state["covariance"])
        table = state["effects"]
        effects = pd.DataFrame(table["values"], columns=table["columns"])
        effects.index = layout.index(table["names"])
        rebuilt = {"fit": fit, "covariance": covariance, "effects": effects, "layout": layout}
        found = state["confounding"]
        told = None if found is None else Confounding.from_state(found)
        return cls(**{**state, **rebuilt, "confounding": told})


class Question(ABC):
    """What is asked of a model's formulas; what the answer needs is prepared before training.

    Parameters
    ----------
    ready : Ready
    """

    def __init__(self, ready: Ready) -> None:
        self.ready = ready

    @staticmethod
    def of(ready: Ready) -> Question:
        """Return the question that a plan asks; what cannot be answered is refused here.

        Raises
        ------
        ValueError
            Where folds cannot be dealt, or the treatment is no single coefficient.
        """
        kind = QUESTIONS[ready.plan.inference] if ready.structured.complete else NoQuestion
        return kind(ready)

    @abstractmethod
    def answer(self, model: Model, offset: np.ndarray) -> Inference | None:
        """Return what is reported.

        Parameters
        ----------
        model : Model
        offset : ndarray, shape (n, K)
            What of the deep predictor the reported coefficients were fitted beside.
        """


class NoQuestion(Question):
    """Of a model without formulas nothing is reported."""

    def answer(self, model: Model, offset: np.ndarray) -> None:
        """Return nothing."""


class FinalFit(Question):
    """The reported coefficients of the model, and the likelihood's covariance."""

    #: Where a robust covariance is asked for: corrected where rows or clusters are few.
    sandwich: Callable[..., Any] = staticmethod(small_sample_sandwich)

    def answer(self, model: Model, offset: np.ndarray) -> Inference:
        part = self._part(model)
        return self._report(part, part.reported, part.reported, self.ready.design, offset)

    def _part(self, model: Model) -> Structured:
        assert isinstance(model.structured, Structured)
        return model.structured

    @property
    def _likelihood(self) -> Likelihood:
        return Likelihood(self.ready.study.head, self.ready.study.all.target)

    def _report(
        self,
        part: Structured,
        reported: StructuredFit,
        whole: StructuredFit,
        design: Design,
        offset: np.ndarray,
        *,
        robust: bool = False,
        effect: tuple[int, PartialEffect] | None = None,
    ) -> Inference:
        """Return the table of effects.

        Parameters
        ----------
        reported : StructuredFit
            Of the formulas' coefficients.
        whole : StructuredFit
            What was fitted to `design` beside `offset`: perhaps one coefficient more.
        robust : bool
        effect : tuple of int and PartialEffect, optional
            A coefficient that was estimated in another way, and where it stands.
        """
        given = self._covariance(whole, design, offset, robust=robust)
        return self._table(part, reported, whole, given, offset, effect)

    def _covariance(
        self, whole: StructuredFit, design: Design, offset: np.ndarray, *, robust: bool
    ) -> Symmetric:
        """Return the covariance of all coefficients: that of the likelihood, or the sandwich."""
        study = self.ready.study
        if not (robust or study.weighted or study.cluster is not None):
            return whole.covariance
        groups = study.cluster, study.all.subjects.owner
        return Symmetric.of(self.sandwich(whole, self._likelihood, design, offset, *groups))

    def _table(
        self,
        part: Structured,
        reported: StructuredFit,
        whole: StructuredFit,
        given: Symmetric,
        offset: np.ndarray,
        effect: tuple[int, PartialEffect] | None = None,
    ) -> Inference:
        """Return the table of effects from the covariance of `whole`."""
        plan, study = self.ready.plan, self.ready.study
        if study.cluster is not None:
            n_clusters = len(np.unique(study.cluster))
            reported = replace(reported, n_clusters=n_clusters)
            whole = replace(whole, n_clusters=n_clusters)
        p = len(reported.coef)
        covariance = given if p == len(whole.coef) else given.leading(p)
        if effect is not None:
            reported, covariance = self._replaced(reported, covariance, offset, *effect)
            whole, given = reported, covariance
        table = effects_table(whole, covariance=given)
        if whole.names[p:]:
            ratios = [name for name in table.columns if name.startswith("exp(")]
            table.loc[list(whole.names[p:]), ratios] = np.nan  # of networks: no column's ratio
        return Inference(
            part.layout,
            reported,
            covariance,
            table.set_axis(part.layout.index(table.index.tolist())),
            plan.inference,
            plan.orthogonalization,
            plan.cluster,
            study.head.n_events(study.all.target),
            part.variances,
            follow_up=self._follow_up(),
            scale_note=study.head.scale_note,
            weighted=study.weighted,
        )

    def _follow_up(self) -> float | None:
        head, rows = self.ready.study.head, self.ready.study.all
        if rows.subjects.owner is not None or head.episodes(rows.target) > 0:
            return None  # where an episode ends nobody is censored
        return head.median_follow_up(rows.target)

    def _replaced(
        self,
        fit: StructuredFit,
        covariance: Symmetric,
        offset: np.ndarray,
        at: int,
        effect: PartialEffect,
    ) -> tuple[StructuredFit, Symmetric]:
        """Return a fit with another estimate of the coefficient `at`, and the covariance with it.

        Its variance and its covariances with the others are the sandwich's, from each row's
        influence on the two.
        """
        eta = self.ready.design.predict(fit.coef) + offset
        scores = self._likelihood.scores(eta, self.ready.design)
        others = -scores @ np.asarray(fit.bread)
        variance, crossed = effect.covariance(others, self.ready.study.cluster)
        matrix, coef = covariance.dense().copy(), fit.coef.copy()
        matrix[at], matrix[:, at] = crossed, crossed
        matrix[at, at] = variance
        coef[at] = effect.coef
        return replace(fit, coef=coef), Symmetric.of(matrix)

    def _interrupted(self, model: Model, offset: np.ndarray) -> Inference:
        """Return the effects of the model, where Ctrl-C ended what was asked for."""
        warnings.warn(
            f"The training was interrupted before inference={self.ready.plan.inference!r} was "
            "done: the effects are those of inference='model'.",
            InterruptedWarning,
            stacklevel=4,
        )
        found = FinalFit.answer(self, model, offset)
        return replace(found, how="model", interrupted=True)


class Robust(FinalFit):
    """The same coefficients, and the sandwich covariance."""

    def answer(self, model: Model, offset: np.ndarray) -> Inference:
        part = self._part(model)
        return self._report(
            part, part.reported, part.reported, self.ready.design, offset, robust=True
        )


class PlainSandwich(Robust):
    """The same, without a correction for few rows or clusters."""

    @staticmethod
    def sandwich(
        fit: StructuredFit,
        likelihood: Likelihood,
        design: Design,
        offset: np.ndarray,
        cluster: np.ndarray | None,
        owner: np.ndarray | None,
    ) -> np.ndarray:
        """Return the plain sandwich; without clusters, the rows of a subject count as one."""
        groups = owner if cluster is None else cluster
        return robust_covariance(fit, likelihood, design, offset, groups)


class CrossFit(FinalFit):
    """The coefficients beside networks that did not see the row: the mean over splits of the rows.

    Attributes
    ----------
    splits : list of tuple of int and list of Part
        A seed and the folds it dealt.
    """

    def __init__(self, ready: Ready) -> None:
        super().__init__(ready)
        self.splits: list[tuple[int, list[Part]]] = []
        if ready.networks:
            draws = np.random.default_rng(int(ready.study.seeds.randint(2**31 - 1)))
            seeds = draws.integers(2**31 - 1, size=SPLITS).tolist()
            self.splits = list(zip(seeds, deal_parts(ready, seeds), strict=True))

    def answer(self, model: Model, offset: np.ndarray) -> Inference:
        if not self.splits:
            return super().answer(model, offset)
        if model.interrupted:
            return self._interrupted(model, offset)
        try:
            deeps = [cross_fitted(self.ready, parts, seed) for seed, parts in self.splits]
        except KeyboardInterrupt:
            return self._interrupted(model, offset)
        part = self._part(model)
        found = [beside_unseen(self.ready, part.layout, self.ready.design, deep) for deep in deeps]
        nothing, p = np.zeros_like(offset), len(part.layout.names)
        given = [self._covariance(*fitted, nothing, robust=False) for fitted in found]
        fits = [whole for whole, _ in found]
        if len({whole.names for whole in fits}) > 1:  # in some splits networks add nothing at all
            fits, given = [whole.leading(p) for whole in fits], [one.leading(p) for one in given]
        whole, covariance = averaged(fits, given)
        return self._table(part, whole.leading(p), whole, covariance, nothing)


class DoubleML(FinalFit):
    """One treatment's effect, confounded by what the networks read."""

    def __init__(self, ready: Ready) -> None:
        super().__init__(ready)
        self.partial = PartialQuestion(ready)

    def answer(self, model: Model, offset: np.ndarray) -> Inference:
        if model.interrupted:
            return self._interrupted(model, offset)
        try:
            effect, confounding = self.partial.effect()
        except KeyboardInterrupt:
            return self._interrupted(model, offset)
        part = self._part(model)
        at = self.partial.treated
        found = self._report(
            part, part.reported, part.reported, self.ready.design, offset, effect=(at, effect)
        )
        return replace(found, confounding=confounding)


QUESTIONS: dict[str, type[Question]] = {
    "model": FinalFit,
    "robust": Robust,
    "sandwich": PlainSandwich,
    "cross_fit": CrossFit,
    "double_ml": DoubleML,
}
