"""The structured part of an estimator: fitted first, then beside the deep predictor."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from mmfusion.heads.base import Head, Target
from mmfusion.structured import (
    CollinearityError,
    Expansion,
    Formula,
    HeadLikelihood,
    PartialEffect,
    SeparationWarning,
    StructuredFit,
    TermColumns,
    effects_table,
    fit_identified,
    project,
    robust_covariance,
)

__all__ = ["HEADS", "INFERENCES", "ORTHOGONALIZATIONS", "StructuredPart"]

HEADS = ("additive", "nonlinear")
ORTHOGONALIZATIONS = ("post_hoc", "online", "two_stage", None)
#: Gain of the deep predictor, in twice the log-likelihood of the validation rows, at which half of
#: the best share is kept: see docs/classical.md.
EVIDENCE = 4.0
INFERENCES = ("model", "robust", "cross_fit", "double_ml")


class StructuredPart:
    """A formula, its exact fit, and what of the deep predictor belongs to it.

    Parameters
    ----------
    formula : str
    orthogonalization : {"post_hoc", "online", "two_stage", None}

    Attributes
    ----------
    formula : Formula
        Fitted on the training rows.
    expansion : Expansion
        What the design becomes where the head has several predictors.
    center, spread : ndarray, shape (q,)
        Of the design's columns that vary over the training rows: networks see them standardised.
    start : StructuredFit
        The classical model, before any deep part.
    final : StructuredFit
        With the deep predictor as offset.
    projection : ndarray, shape (p,)
        Coefficients of the deep predictor on the design, taken off it: a row's projection is its
        own design times these, so that it does not depend on other rows.
    scale : float
        Share of the trained deep predictor that is kept.
    n_events : int or None
        Of survival outcomes.
    shares : ndarray, shape (2,)
        Of the variance over the training rows: the structured and the deep predictor's.
    reported : StructuredFit
        What the effects come from: `final`, or the fit beside cross-fitted deep predictors.
    covariance : ndarray, shape (p, p)
    effects : DataFrame
    """

    start: StructuredFit
    final: StructuredFit
    reported: StructuredFit
    projection: np.ndarray
    shares: np.ndarray
    covariance: np.ndarray
    effects: pd.DataFrame
    n_events: int | None = None
    scale: float = 1.0

    def __init__(
        self, formula: str, orthogonalization: str | None, prepared: Formula | None = None
    ) -> None:
        self.formula = Formula(formula) if prepared is None else prepared
        self.orthogonalization = orthogonalization
        self._is_part = prepared is not None
        self._read: tuple[pd.DataFrame, np.ndarray] | None = None

    def fit_start(self, frame: pd.DataFrame, rows: np.ndarray, head: Head, target: Target) -> None:
        """Fit the classical model on the training `rows` of all.

        Knots, levels and constraints are those of all rows of `frame`, to which it is fitted again
        in the end (of a fold, those of the rows it was dealt from): they know nothing of the
        outcome. What the training rows alone do not identify starts at 0.
        """
        self._has_all = len(rows) == len(frame)
        intercept = head.has_intercept and not head.baseline
        if self._is_part:
            design = self.formula.transform(frame)
        else:
            design = self.formula.fit_transform(frame, intercept=intercept)
        self.expansion = Expansion(*head.contrasts, head.baseline)
        self.center, self.spread = design.mean(0), design.std(0)
        # The rows of `fit` are asked for four times, and are half of the work of a large fit.
        self._read = (frame, design)
        if self._has_all:
            self.start = self._fit(self.expansion.design(design), head, target)
            return
        mine = self.expansion.design(design[rows])
        train = target.take(torch.from_numpy(rows))
        try:
            self.start = self._fit(mine, head, train)
        except CollinearityError:
            # What all rows do not identify either is an error, before anything is trained.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._fit(self.expansion.design(design), head, target)
            self.start = self._fit(mine, head, train, may_hold=True)

    def _columns(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the formula's design of some rows; that of the rows of `fit` is kept till then."""
        if self._read is not None and frame is self._read[0]:
            return self._read[1]
        return self.formula.transform(frame)

    def design(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the design of all predictors of some rows, shape (n K, p)."""
        return self.expansion.design(self._columns(frame))

    def network_design(self, frame: pd.DataFrame) -> Tensor:
        """Return the formula's design as networks see it: standardised, without constants."""
        varies = self.spread > 0
        design = (self._columns(frame) - self.center)[:, varies] / self.spread[varies]
        return torch.from_numpy(design).float()

    def _fit(
        self,
        design: np.ndarray,
        head: Head,
        target: Target,
        offset: np.ndarray | None = None,
        more: tuple[str, ...] = (),
        *,
        may_hold: bool = False,
    ) -> StructuredFit:
        """Fit the design, after whose columns there may be `more`.

        An interval in which no row is at risk has the baseline of the one before. Other
        coefficients may be held at 0 in a fold, and if `may_hold`.
        """
        names = [*self.expansion.names(self.formula.names_), *more]
        holds = np.full(len(names), may_hold or self._is_part)
        holds[: len(self.expansion.baseline)] = True
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit, held = fit_identified(
                HeadLikelihood(head, target), design, self.terms(), offset, names, holds
            )
        for warning in caught:
            # A baseline's hazard of 1 at the last event is as right as Kaplan and Meier's.
            separates = issubclass(warning.category, SeparationWarning)
            if not (separates and set(fit.runaway) <= set(self.expansion.baseline)):
                warnings.warn(warning.message, warning.category, stacklevel=2)
        unseen = held[: len(self.expansion.baseline)]
        known = np.flatnonzero(~unseen)
        coef = fit.coef.copy()
        for interval in np.flatnonzero(unseen):
            coef[interval] = coef[known[max(int(np.searchsorted(known, interval)) - 1, 0)]]
        return replace(fit, coef=coef)

    def terms(self) -> tuple[TermColumns, ...]:
        """Return the terms of the design of all predictors."""
        return self.expansion.terms(self.formula.terms_, len(self.formula.names_))

    def offset(self, frame: pd.DataFrame, head: Head) -> Tensor:
        """Return the classical model's predictors, as the head takes them, shape (n, K)."""
        return _to_head(self.design(frame) @ self.start.coef, head)

    def choose_scale(self, deep: Tensor, offset: Tensor, head: Head, target: Target) -> None:
        """Keep of the deep predictor what lowers the validation loss: a share between 0 and 1.

        The best share is itself an estimate, of few rows, that early stopping has looked at
        before. It is shrunk to 0 by ``G / (G + EVIDENCE)``, with the gain G in twice the
        log-likelihood of the validation rows: about the square of the share over its standard
        error, so that this is the posterior mean of a normal share with a prior around 0.
        """

        def loss(share: float) -> float:
            return float(head.loss(offset + share * deep, target))

        best = minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded").x
        best = float(min((0.0, best, 1.0), key=loss))
        before, after = max(loss(0.0), 1e-300), max(loss(best), 1e-300)
        # With a residual variance the loss is half of it, and its log the likelihood's.
        gain = np.log(before / after) if head.has_scale else 2 * (before - after)
        gain *= head.total(target)
        self.scale = best * gain / (gain + EVIDENCE)

    def fit_final(self, frame: pd.DataFrame, deep: np.ndarray, head: Head, target: Target) -> None:
        """Split the deep predictor (n, K) from the design and refit the coefficients beside it.

        ``post_hoc`` takes ``X a`` off the deep predictor (Ruegamer 2023, in the metric of the
        likelihood: see `mmfusion.structured.project`), then maximises the likelihood in the
        coefficients with what is left as offset. ``two_stage`` takes the classical coefficients
        (Law, Paige & Russell 2019). ``online`` and None refit beside the deep predictor
        as it is: with the former, the networks have taken off what lies in the design.
        """
        design = self.design(frame)
        deep = self.scale * deep.reshape(-1) * head.units[1]
        self.final, self.projection = self._beside(design, deep, head, target)
        rest = deep - design @ self.projection
        parts = np.array([_variance(part, head) for part in (design @ self.final.coef, rest)])
        self.shares = parts / max(parts.sum(), np.finfo(float).tiny)
        likelihood = HeadLikelihood(head, target)
        self._fitted_to = (likelihood, design, rest)
        self.reported = self.final
        beside = np.zeros_like(rest) if self.orthogonalization == "two_stage" else rest
        self._tested = (self.final, likelihood, design, beside)
        event = getattr(target, "event", None)
        if event is not None:
            self.n_events = int(((event != 0) & (target.weight > 0)).sum())

    def cross_fit(self, frame: pd.DataFrame, deep: np.ndarray, head: Head, target: Target) -> None:
        """Report the effects beside a deep predictor (n, K) whose rows its networks did not see.

        It is not projected: what it says of a chance imbalance between the arms of a trial is what
        narrows the interval. Taken off the design, a Gaussian coefficient would be the unadjusted
        one again (Frisch-Waugh), beside a standard error that claims the adjustment.

        It has a coefficient of its own: networks that claim too much of rows they did not see are
        believed only so far as they are right, which keeps the model-based standard errors honest.
        """
        design = self.design(frame)
        p = design.shape[1]
        deep = deep.reshape(-1) * head.units[1]
        adds = _adds(design, deep)
        whole = np.column_stack([design, deep]) if adds else design
        fit = self._fit(whole, head, target, more=("(deep)",) if adds else ())
        likelihood = HeadLikelihood(head, target)
        self._fitted_to = (likelihood, design, whole[:, p:] @ fit.coef[p:])
        self._tested = (fit, likelihood, whole, np.zeros(len(whole)))
        self.reported = replace(
            fit,
            names=fit.names[:p],
            coef=fit.coef[:p],
            bread=fit.bread[:p, :p],
            information=fit.information[:p, :p],
            penalty=fit.penalty[:p, :p],
            n_beside=int(adds),
        )

    def _beside(
        self, design: np.ndarray, deep: np.ndarray, head: Head, target: Target
    ) -> tuple[StructuredFit, np.ndarray]:
        """Return the fit beside a deep predictor in units of the outcome, and its projection."""
        projection = np.zeros(design.shape[1])
        if not deep.any() or self.orthogonalization == "two_stage":
            return self._classical(design, head, target), projection
        if self.orthogonalization == "post_hoc":
            eta = design @ self._classical(design, head, target).coef
            projection = project(HeadLikelihood(head, target), eta, design, deep)
        return self._fit(design, head, target, deep - design @ projection), projection

    def _classical(self, design: np.ndarray, head: Head, target: Target) -> StructuredFit:
        """Return the classical model of all rows."""
        return self.start if self._has_all else self._fit(design, head, target)

    def report(self, inference: str, cluster: Any = None) -> None:
        """Make the table of effects and its covariance."""
        self.covariance = self.reported.covariance.dense()
        fit, likelihood, design, offset = self._tested
        if inference == "robust" or cluster is not None:
            covariance = robust_covariance(fit, likelihood, design, offset, cluster)
            p = len(self.reported.coef)
            self.covariance = covariance[:p, :p]
        if cluster is not None:
            self.reported = replace(self.reported, n_clusters=len(pd.unique(cluster)))
        self.effects = self._indexed(effects_table(self.reported, covariance=self.covariance))
        self._read = None

    def replace_effect(self, at: int, effect: PartialEffect, cluster: Any = None) -> None:
        """Report another estimate of the coefficient `at` than that of the fit.

        Its variance and its covariances with the others are the sandwich's, from each row's
        influence on the two.
        """
        likelihood, design, offset = self._fitted_to
        eta = design @ self.reported.coef + offset
        others = -likelihood.scores(eta, design) @ self.reported.bread
        variance, crossed = effect.covariance(others, cluster)
        self.covariance = self.covariance.copy()
        self.covariance[at], self.covariance[:, at] = crossed, crossed
        self.covariance[at, at] = variance
        coef = self.reported.coef.copy()
        coef[at] = effect.coef
        self.reported = replace(self.reported, coef=coef)
        self.effects = self._indexed(effects_table(self.reported, covariance=self.covariance))

    def _indexed(self, table: pd.DataFrame) -> pd.DataFrame:
        labels = [*self.formula.names_, *(term.label for term in self.formula.terms_)]
        return table.set_axis(self.expansion.index(labels, table.index.tolist()))

    def _names_of(self, index: pd.Index) -> list[str]:
        if self.expansion.single:
            return index.tolist()
        return [self.expansion.name(term, parameter) for term, parameter in index]

    def predictor(self, frame: pd.DataFrame, deep: np.ndarray, head: Head) -> np.ndarray:
        """Return the whole predictor, as the head takes it, shape (n, K).

        A row with no modality present has a `deep` of zero: what is left is the design times the
        coefficients less what the projection took off the deep predictor of the others.
        """
        design = self.design(frame)
        rest = self.scale * deep.reshape(-1) * head.units[1]
        coef = self.final.coef - self.projection
        return _to_head(design @ coef + rest, head).numpy()

    def state(self) -> dict[str, Any]:
        """Return what saving writes: plain Python and arrays."""
        return {
            "formula": self.formula.state(),
            "start": self.start.state(),
            "final": self.final.state(),
            "reported": self.reported.state(),
            "arrays": {
                "projection": self.projection,
                "shares": self.shares,
                "covariance": self.covariance,
                "center": self.center,
                "spread": self.spread,
            },
            "expansion": vars(self.expansion),
            "scale": self.scale,
            "n_events": self.n_events,
            "effects": {
                "names": self._names_of(self.effects.index),
                "columns": self.effects.columns.tolist(),
                "values": self.effects.to_numpy(),
            },
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], orthogonalization: str | None) -> Self:
        """Return the fitted part that `state` described."""
        part = cls(state["formula"]["formula"], orthogonalization)
        part.formula = Formula.from_state(state["formula"])
        part.expansion = Expansion(**state["expansion"])
        for name in ("start", "final", "reported"):
            setattr(part, name, StructuredFit.from_state(state[name], part.terms()))
        for name, value in state["arrays"].items():
            setattr(part, name, value)
        part.scale = state["scale"]
        part.n_events = state["n_events"]
        table = state["effects"]
        part.effects = part._indexed(
            pd.DataFrame(table["values"], index=table["names"], columns=table["columns"])
        )
        return part


def _adds(design: np.ndarray, deep: np.ndarray) -> bool:
    """Return whether a deep predictor says more than a constant and the design together."""
    known = np.column_stack([np.ones(len(design)), design])
    rest = deep - known @ np.linalg.lstsq(known, deep, rcond=None)[0]
    return bool(np.linalg.norm(rest) > 1e-6 * np.linalg.norm(deep))


def _to_head(eta: np.ndarray, head: Head) -> Tensor:
    center, spread = head.units
    return torch.from_numpy((eta - center) / spread).view(-1, len(head.predictors))


def _variance(eta: np.ndarray, head: Head) -> float:
    """Return the variance over rows, summed over predictors."""
    eta = eta.reshape(-1, len(head.predictors))
    if len(head.contrasts[0]) < eta.shape[1] and not head.baseline:
        eta = eta - eta.mean(axis=1, keepdims=True)  # a number added to all logits says nothing
    return float(eta.var(axis=0).sum())
