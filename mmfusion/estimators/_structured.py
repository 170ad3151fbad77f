"""The structured part of an estimator: fitted first, then beside the deep predictor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from mmfusion.heads.base import Head, Target
from mmfusion.structured import (
    Formula,
    HeadLikelihood,
    PartialEffect,
    StructuredFit,
    effects_table,
    fit_structured,
    robust_covariance,
)

__all__ = ["INFERENCES", "ORTHOGONALIZATIONS", "StructuredPart"]

ORTHOGONALIZATIONS = ("post_hoc", "two_stage", None)
INFERENCES = ("model", "robust", "cross_fit", "double_ml")


class StructuredPart:
    """A formula, its exact fit, and what of the deep predictor belongs to it.

    Parameters
    ----------
    formula : str
    orthogonalization : {"post_hoc", "two_stage", None}

    Attributes
    ----------
    formula : Formula
        Fitted on the training rows.
    start : StructuredFit
        The classical model, before any deep part.
    final : StructuredFit
        With the deep predictor as offset.
    projection : ndarray, shape (p,)
        Coefficients of the deep predictor on the design, taken off it: a row's projection is its
        own design times these, so that it does not depend on other rows.
    scale : float
        Share of the trained deep predictor that is kept.
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
    scale: float = 1.0
    _beside_unseen: tuple[StructuredFit, np.ndarray] | None = None

    def __init__(self, formula: str, orthogonalization: str | None) -> None:
        self.formula = Formula(formula)
        self.orthogonalization = orthogonalization

    def fit_start(self, frame: pd.DataFrame, rows: np.ndarray, head: Head, target: Target) -> None:
        """Fit the classical model on the training rows (`target` is theirs)."""
        self.formula.fit(frame.iloc[rows], intercept=head.has_intercept)
        self.start = self._fit(self.formula.transform(frame.iloc[rows]), head, target)

    def _fit(
        self, design: np.ndarray, head: Head, target: Target, offset: np.ndarray | None = None
    ) -> StructuredFit:
        return fit_structured(
            HeadLikelihood(head, target),
            design,
            self.formula.terms_,
            offset,
            names=self.formula.names_,
        )

    def offset(self, frame: pd.DataFrame, head: Head) -> Tensor:
        """Return the classical model's predictor, as the head takes it, shape (n, 1)."""
        return _to_head(self.formula.transform(frame) @ self.start.coef, head)

    def choose_scale(self, deep: Tensor, offset: Tensor, head: Head, target: Target) -> None:
        """Keep of the deep predictor what lowers the validation loss: a share between 0 and 1."""

        def loss(share: float) -> float:
            return float(head.loss(offset + share * deep, target))

        best = minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded").x
        self.scale = float(min((0.0, best, 1.0), key=loss))

    def fit_final(self, frame: pd.DataFrame, deep: np.ndarray, head: Head, target: Target) -> None:
        """Split the deep predictor (n,) from the design and refit the coefficients beside it.

        ``post_hoc`` takes ``X a`` off the deep predictor d, with
        ``a = (X'HX)^-1 X'H d`` and the Hessian H of the loss at the fitted predictors
        (Ruegamer 2023, in the metric of the likelihood), then maximises the likelihood in the
        coefficients with what is left as offset. ``two_stage`` leaves the classical coefficients
        as they are (Law, Paige & Russell 2019). None refits beside the deep predictor as it is.
        """
        design = self.formula.transform(frame)
        deep = self.scale * deep * head.units[1]
        self.final, self.projection = self._beside(design, deep, head, target)
        rest = deep - design @ self.projection
        parts = np.array([np.var(design @ self.final.coef), np.var(rest)])
        self.shares = parts / max(parts.sum(), np.finfo(float).tiny)
        self._fitted_to = (HeadLikelihood(head, target), design, rest)
        self.reported = self.final

    def cross_fit(self, frame: pd.DataFrame, deep: np.ndarray, head: Head, target: Target) -> None:
        """Report the effects beside a deep predictor (n,) whose rows its networks did not see.

        It is not projected: what it says of a chance imbalance between the arms of a trial is what
        narrows the interval. Taken off the design, a Gaussian coefficient would be the unadjusted
        one again (Frisch-Waugh), beside a standard error that claims the adjustment.

        It has a coefficient of its own: networks that claim too much of rows they did not see are
        believed only so far as they are right, which keeps the model-based standard errors honest.
        """
        design = self.formula.transform(frame)
        p = design.shape[1]
        deep = deep * head.units[1]
        whole = np.column_stack([design, deep]) if _adds(design, deep) else design
        likelihood = HeadLikelihood(head, target)
        names = (*self.formula.names_, "(deep)")[: whole.shape[1]]
        fit = fit_structured(likelihood, whole, self.formula.terms_, names=names)
        self._fitted_to = (likelihood, design, whole[:, p:] @ fit.coef[p:])
        self._beside_unseen = (fit, whole)
        self.reported = replace(
            fit,
            names=fit.names[:p],
            coef=fit.coef[:p],
            bread=fit.bread[:p, :p],
            information=fit.information[:p, :p],
            penalty=fit.penalty[:p, :p],
        )

    def _beside(
        self, design: np.ndarray, deep: np.ndarray, head: Head, target: Target
    ) -> tuple[StructuredFit, np.ndarray]:
        """Return the fit beside a deep predictor in units of the outcome, and its projection."""
        nothing = np.zeros(design.shape[1])
        if not deep.any():
            return self._fit(design, head, target), nothing
        if self.orthogonalization == "two_stage":
            return self.start, nothing
        projection = nothing
        if self.orthogonalization == "post_hoc":
            eta = design @ self.start.coef + deep
            projection = project(HeadLikelihood(head, target), eta, design, deep)
        return self._fit(design, head, target, deep - design @ projection), projection

    def report(self, inference: str, cluster: Any = None) -> None:
        """Make the table of effects and its covariance."""
        self.covariance = self.reported.covariance
        likelihood, design, offset = self._fitted_to
        fit = self.reported
        if inference == "cross_fit" and self._beside_unseen is not None:
            (fit, design), offset = self._beside_unseen, np.zeros(len(offset))
        if inference == "robust" or cluster is not None:
            covariance = robust_covariance(fit, likelihood, design, offset, cluster)
            p = len(self.reported.coef)
            self.covariance = covariance[:p, :p]
        self.effects = effects_table(self.reported, covariance=self.covariance)

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
        self.effects = effects_table(self.reported, covariance=self.covariance)

    def predictor(self, frame: pd.DataFrame, deep: np.ndarray, head: Head) -> np.ndarray:
        """Return the whole predictor, as the head takes it, shape (n, 1).

        A row with no modality present has a `deep` of zero: what is left is its structured
        predictor before anything of the deep part was given to it.
        """
        design = self.formula.transform(frame)
        rest = self.scale * deep * head.units[1]
        coef = self.final.coef - self.projection
        return _to_head(design @ coef + rest, head).numpy()

    def state(self) -> dict[str, Any]:
        """Return what saving writes: plain Python and arrays."""
        return {
            "formula": self.formula.state(),
            "start": _fit_state(self.start),
            "final": _fit_state(self.final),
            "reported": _fit_state(self.reported),
            "arrays": {
                "projection": self.projection,
                "shares": self.shares,
                "covariance": self.covariance,
            },
            "scale": self.scale,
            "effects": {
                "index": self.effects.index.tolist(),
                "columns": self.effects.columns.tolist(),
                "values": self.effects.to_numpy(),
            },
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], orthogonalization: str | None) -> Self:
        """Return the fitted part that `state` described."""
        part = cls(state["formula"]["formula"], orthogonalization)
        part.formula = Formula.from_state(state["formula"])
        for name in ("start", "final", "reported"):
            setattr(part, name, StructuredFit(**state[name], terms=part.formula.terms_))
        for name, value in state["arrays"].items():
            setattr(part, name, value)
        part.scale = state["scale"]
        table = state["effects"]
        index = pd.Index(table["index"], name="term")
        part.effects = pd.DataFrame(table["values"], index=index, columns=table["columns"])
        return part


def _fit_state(fit: StructuredFit) -> dict[str, Any]:
    return {name: value for name, value in vars(fit).items() if name != "terms"}


def project(likelihood: Any, eta: np.ndarray, design: np.ndarray, deep: np.ndarray) -> np.ndarray:
    """Return ``(X'HX)^-1 X'H d`` with the Hessian H of the likelihood at `eta`, shape (p,)."""
    joint = likelihood.information(eta, np.column_stack([design, deep]))
    return np.linalg.lstsq(joint[:-1, :-1], joint[:-1, -1], rcond=None)[0]


def _adds(design: np.ndarray, deep: np.ndarray) -> bool:
    """Return whether a deep predictor says more than a constant and the design together."""
    known = np.column_stack([np.ones(len(design)), design])
    rest = deep - known @ np.linalg.lstsq(known, deep, rcond=None)[0]
    return bool(np.linalg.norm(rest) > 1e-6 * np.linalg.norm(deep))


def _to_head(eta: np.ndarray, head: Head) -> Tensor:
    center, spread = head.units
    return torch.from_numpy((eta - center) / spread)[:, None]
