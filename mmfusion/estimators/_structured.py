"""The structured part of an estimator: fitted first, then beside the deep predictor."""

from __future__ import annotations

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
    StructuredFit,
    effects_table,
    fit_structured,
    project,
    robust_covariance,
)

__all__ = ["INFERENCES", "ORTHOGONALIZATIONS", "StructuredPart"]

ORTHOGONALIZATIONS = ("post_hoc", "two_stage", None)
#: Gain of the deep predictor, in twice the log-likelihood of the validation rows, at which half of
#: the best share is kept: see docs/classical.md.
EVIDENCE = 4.0
INFERENCES = ("model", "robust", "cross_fit")


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

    def __init__(self, formula: str, orthogonalization: str | None) -> None:
        self.formula = Formula(formula)
        self.orthogonalization = orthogonalization
        self._read: tuple[pd.DataFrame, np.ndarray] | None = None

    def fit_start(self, frame: pd.DataFrame, rows: np.ndarray, head: Head, target: Target) -> None:
        """Fit the classical model on the training rows (`target` is theirs)."""
        self._has_all = len(rows) == len(frame)
        chosen = frame if self._has_all else frame.iloc[rows]
        design = self.formula.fit_transform(chosen, intercept=head.has_intercept)
        self.start = self._fit(design, head, target)
        # The rows of `fit` are asked for four times, and are half of the work of a large fit.
        self._read = (frame, design if self._has_all else self.formula.transform(frame))

    def _design(self, frame: pd.DataFrame) -> np.ndarray:
        """Return the design of some rows; that of the rows of `fit` is kept until its end."""
        if self._read is not None and frame is self._read[0]:
            return self._read[1]
        return self.formula.transform(frame)

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
        return _to_head(self._design(frame) @ self.start.coef, head)

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
        """Split the deep predictor (n,) from the design and refit the coefficients beside it.

        ``post_hoc`` takes ``X a`` off the deep predictor (Ruegamer 2023, in the metric of the
        likelihood: see `mmfusion.structured.project`), then maximises the likelihood in the
        coefficients with what is left as offset. ``two_stage`` leaves the classical coefficients
        as they are (Law, Paige & Russell 2019). None refits beside the deep predictor as it is.
        """
        design = self._design(frame)
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
        """
        design = self._design(frame)
        deep = deep * head.units[1]
        self.reported = self._fit(design, head, target, deep)
        self._fitted_to = (HeadLikelihood(head, target), design, deep)

    def _beside(
        self, design: np.ndarray, deep: np.ndarray, head: Head, target: Target
    ) -> tuple[StructuredFit, np.ndarray]:
        """Return the fit beside a deep predictor in units of the outcome, and its projection."""
        nothing = np.zeros(design.shape[1])
        if not deep.any():
            return self.start if self._has_all else self._fit(design, head, target), nothing
        if self.orthogonalization == "two_stage":
            return self.start, nothing
        projection = nothing
        if self.orthogonalization == "post_hoc":
            eta = design @ self.start.coef
            projection = project(HeadLikelihood(head, target), eta, design, deep)
        return self._fit(design, head, target, deep - design @ projection), projection

    def report(self, inference: str, cluster: Any = None) -> None:
        """Make the table of effects and its covariance."""
        likelihood, design, offset = self._fitted_to
        self.covariance = self.reported.covariance
        if inference == "robust" or cluster is not None:
            self.covariance = robust_covariance(self.reported, likelihood, design, offset, cluster)
        self.effects = effects_table(self.reported, covariance=self.covariance)
        self._read = None

    def predictor(self, frame: pd.DataFrame, deep: np.ndarray, head: Head) -> np.ndarray:
        """Return the whole predictor, as the head takes it, shape (n, 1).

        A row with no modality present has a `deep` of zero: what is left is its structured
        predictor before anything of the deep part was given to it.
        """
        design = self._design(frame)
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


def _to_head(eta: np.ndarray, head: Head) -> Tensor:
    center, spread = head.units
    return torch.from_numpy((eta - center) / spread)[:, None]
