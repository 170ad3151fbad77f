"""The structured part of a model: fitted first, then beside the deep predictor."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmfusion.heads.base import Head, Target
from mmfusion.inputs.rounding import is_constant
from mmfusion.model.plan import Plan
from mmfusion.model.share import UnjudgedWarning, kept_share
from mmfusion.model.study import Study
from mmfusion.structured import (
    Block,
    CollinearityError,
    Design,
    Layout,
    Likelihood,
    SeparationWarning,
    StructuredFit,
    fit_identified,
    project,
)

__all__ = ["Constant", "Structured", "begin", "fit_formulas"]


class Constant:
    """No formula: the networks start from the predictors of the constant model.

    Attributes
    ----------
    base : ndarray, shape (K,)
    share : ndarray of ones, shape (1,)
    """

    #: Whether there is a model by itself, without the networks.
    complete = False
    n_network_columns = 0
    layout: Layout | None = None
    #: The columns of the table that formulas read.
    columns: tuple[str, ...] = ()

    def __init__(self, base: np.ndarray) -> None:
        self.base = base
        self.pool_base = base

    def network_offset(self, design: Design) -> Tensor:
        """Return what the networks' predictor is added to, shape (n, K)."""
        return torch.from_numpy(np.tile(self.base, (design.n_rows, 1)))

    def pool_offset(self, design: Design) -> np.ndarray:
        """Return what a pool of predictors is added to: they hold the constant already."""
        return np.zeros((design.n_rows, design.n_predictors))

    def design(self, table: pd.DataFrame) -> Design:
        """Return a design without columns."""
        return Design(len(table), len(self.base), 0, ())

    def network_design(self, table: pd.DataFrame) -> None:
        """Return no columns that networks read."""

    def judge(self, *_: Any) -> None:
        """Keep the networks whole: there is no model that they would add to."""

    def keep_nothing(self) -> None:
        """Keep the networks whole."""

    def settle(self, design: Design, deep: np.ndarray, *_: Any) -> np.ndarray:
        """Learn nothing more; return the zeros that nothing is fitted beside."""
        return np.zeros_like(deep)

    def predictor(
        self, design: Design, deep: np.ndarray, exclude: Sequence[str] = ()
    ) -> np.ndarray:
        """Return the predictors, shape (n, K): the pooled ones of the networks."""
        if exclude:
            raise ValueError(
                "The exclude parameter must name terms of a formula (structured=). There is none."
            )
        return deep

    def state(self) -> dict[str, Any]:
        """Return what saving writes: plain Python and arrays."""
        return {"base": self.base}


class Structured:
    """Formulas, their exact fit, and how much of the deep predictor stands beside them.

    Attributes
    ----------
    layout : Layout
        Fitted on all rows: knots, levels and constraints know nothing of the outcome.
    orthogonalization : {"post_hoc", "online", "two_stage", None}
    center, spread : ndarray, shape (q,)
        Of the formula's columns over the rows: networks see them standardised.
    start : StructuredFit
        The classical model of the training rows, before any deep part.
    final : StructuredFit
        The coefficients beside the deep predictor: predictions are made of them.
    reported : StructuredFit
        The classical model of all rows, not adjusted for the modalities: its table is the one whose
        standard errors belong to its coefficients. Without orthogonalisation that of `final`.
    projection : ndarray, shape (p,)
        Coefficients of what is taken off the deep predictor: of each row its own design times
        these, so that no prediction depends on other rows.
    share : ndarray, shape (K,)
        Share of the trained deep predictor that is kept, for each predictor.
    variances : ndarray, shape (2,)
        Shares of the variance over the rows: the structured and the deep predictor's.
    started_on_all : bool
        Whether the classical model is that of all rows.
    of_part : bool
        Whether the formulas were fixed on more rows than are fitted here, which may lack some of
        their levels.
    """

    complete = True
    start: StructuredFit
    final: StructuredFit
    reported: StructuredFit
    projection: np.ndarray
    variances: np.ndarray

    def __init__(self, layout: Layout, orthogonalization: str | None, n_predictors: int) -> None:
        self.layout = layout
        self.orthogonalization = orthogonalization
        self.share = np.ones(n_predictors)
        self.pool_base = np.zeros(n_predictors)
        self.started_on_all = self.of_part = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table that the formulas read."""
        return self.layout.columns

    def design(self, table: pd.DataFrame) -> Design:
        """Return the design of some rows."""
        return self.layout.transform(table)

    def network_offset(self, design: Design) -> Tensor:
        """Return what the networks' predictor is added to: the classical model's, shape (n, K)."""
        return torch.from_numpy(design.predict(self.start.coef))

    def pool_offset(self, design: Design) -> np.ndarray:
        """Return what a pool of predictors is added to, shape (n, K)."""
        return design.predict(self.start.coef)

    def network_design(self, table: pd.DataFrame) -> Tensor:
        """Return the formula's columns as networks see them: standardised, without constants."""
        columns = network_columns(self.design(table))
        varies = self.spread > 0
        return torch.from_numpy((columns - self.center)[:, varies] / self.spread[varies]).float()

    @property
    def n_network_columns(self) -> int:
        """How many columns `network_design` has."""
        return int((self.spread > 0).sum())

    def standardise(self, columns: np.ndarray) -> None:
        """Learn what `network_design` takes off the columns."""
        self.center = columns.mean(0)
        self.spread = np.where(is_constant(columns), 0.0, columns.std(0))

    def judge(self, deep: np.ndarray, offset: Tensor, head: Head, target: Target) -> None:
        """Keep of the deep predictor what the judging rows believe."""
        groups = np.asarray(head.deep_groups)
        self.share = kept_share(torch.from_numpy(deep), offset, head, target, groups)[groups]

    def keep_nothing(self) -> None:
        """Leave the networks out: there were no rows to show that they help."""
        self.share = np.zeros_like(self.share)
        warnings.warn(
            "There are too few rows, or events, to hold some out and judge the networks by them: "
            "the model is its structured part alone. Give fit an eval_set, or say patience=None to "
            "keep the networks unjudged.",
            UnjudgedWarning,
            stacklevel=4,
        )

    def settle(
        self,
        design: Design,
        deep: np.ndarray,
        head: Head,
        target: Target,
    ) -> np.ndarray:
        """Split the deep predictor (n, K) from the design and fit the coefficients beside it.

        ``post_hoc`` takes ``X a`` off the deep predictor (Ruegamer 2023, in the metric of the
        likelihood: see `mmfusion.structured.project`), then maximises the likelihood in the
        coefficients with what is left as offset. ``two_stage`` takes the classical coefficients
        (Law, Paige & Russell 2019). ``online`` and None refit beside the deep predictor
        as it is: with the former, the networks have taken off what lies in the design.

        Returns
        -------
        ndarray, shape (n, K)
            What the reported coefficients were fitted beside: see `beside_reported`.
        """
        deep = self.share * deep
        self.projection = np.zeros(design.n_columns)
        whole = head, target, design

        alone = not deep.any() or self.orthogonalization == "two_stage"
        classical = self.start
        if not self.started_on_all and (alone or self.orthogonalization is not None):
            classical = fit_formulas(self.layout, *whole, may_hold=self.of_part)
        self.final = classical
        if not alone:
            if self.orthogonalization == "post_hoc":
                eta = design.predict(classical.coef)
                self.projection = project(Likelihood(head, target), eta, design, deep)
            beside = deep - design.predict(self.projection)
            self.final = fit_formulas(self.layout, *whole, offset=beside, may_hold=self.of_part)
        self.reported = self.final if self.orthogonalization is None else classical
        rest = deep - design.predict(self.projection)
        parts = (design.predict(self.final.coef), rest)
        variance = np.array([_variance(part, head) for part in parts])
        self.variances = variance / max(variance.sum(), np.finfo(float).tiny)
        return self.beside_reported(deep)

    def beside_reported(self, kept: np.ndarray) -> np.ndarray:
        """Return what of a kept deep predictor (n, K) the reported coefficients are fitted beside.

        Nothing, where they are the classical model's.
        """
        return kept if self.orthogonalization is None else np.zeros_like(kept)

    def predictor(
        self, design: Design, deep: np.ndarray, exclude: Sequence[str] = ()
    ) -> np.ndarray:
        """Return the whole predictor of some rows, shape (n, K), without terms to `exclude`.

        A row with no modality present has a `deep` of zero: what is left is the design times the
        coefficients less what the projection took off the deep predictor of the others.
        """
        coef = self.final.coef - self.projection
        if exclude:
            coef = np.where(self.layout.coefficients_of(exclude), 0.0, coef)
        return design.predict(coef) + self.share * deep

    def state(self) -> dict[str, Any]:
        """Return what saving writes: plain Python and arrays."""
        return {
            "layout": self.layout.state(),
            "orthogonalization": self.orthogonalization,
            "start": self.start.state(),
            "final": self.final.state(),
            "reported": None if self.reported is self.final else self.reported.state(),
            "arrays": {
                name: getattr(self, name)
                for name in ("projection", "share", "variances", "center", "spread")
                if hasattr(self, name)
            },
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the fitted part that `state` described."""
        arrays = state["arrays"]
        layout = Layout.from_state(state["layout"])
        part = cls(layout, state["orthogonalization"], len(arrays["share"]))
        for name in ("start", "final", "reported"):
            if state[name] is not None:
                setattr(part, name, StructuredFit.from_state(state[name], layout.terms))
        if state["reported"] is None:
            part.reported = part.final
        for name, value in arrays.items():
            setattr(part, name, value)
        return part


def network_columns(design: Design) -> np.ndarray:
    """Return the columns of a design that networks read, over the rows of the table alone."""
    blocks = [block for block in design.blocks if isinstance(block, Block)]
    return np.hstack([block.rows.dense() for block in blocks])


def begin(plan: Plan, study: Study) -> tuple[Constant | Structured, Design]:
    """Fit the classical model to the training rows; return it with the design of all rows.

    Knots, levels and constraints are those of all rows, to which the coefficients are fitted again
    in the end; in a fold, those of the rows that the fold was dealt from (`Plan.prepared`). A
    coefficient that the training rows alone do not identify starts at 0. Without formulas there is
    only the constant model, and a design without columns.
    """
    head, table = study.head, study.all.table
    if plan.formulas is None:
        constant = Constant(head.initial(study.training).numpy())
        return constant, constant.design(table)
    layout = plan.prepared or Layout(plan.formulas).fit(table, head)
    part = Structured(layout, plan.orthogonalization, len(head.grid))
    design = part.design(table)
    if plan.design_use.read:
        study.all.subjects.refuse_design()
        part.standardise(network_columns(design))
    part.of_part = of_part = plan.prepared is not None
    part.started_on_all = study.trains_all
    if part.started_on_all:
        part.start = fit_formulas(layout, head, study.all.target, design, may_hold=of_part)
        return part, design
    mine, target = design.take(study.rows), study.training
    try:
        part.start = fit_formulas(layout, head, target, mine, may_hold=of_part)
    except CollinearityError:
        # What all rows do not identify either is an error, before anything is trained.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit_formulas(layout, head, study.all.target, design, may_hold=of_part)
        part.start = fit_formulas(layout, head, target, mine, may_hold=True)
    return part, design


def fit_formulas(
    layout: Layout,
    head: Head,
    target: Target,
    design: Design,
    *,
    offset: np.ndarray | None = None,
    more: tuple[str, ...] = (),
    may_hold: bool = False,
) -> StructuredFit:
    """Fit the coefficients of formulas, and of `more` columns after them in the design.

    The constant of an interval in which no row is at risk has the value of the interval before it.
    With `may_hold`, in a fold or of the training rows, a coefficient that the rows do not identify
    is held at 0.
    """
    names = [*layout.names, *more]
    n_constants = len(layout.constants)
    holds = np.full(len(names), may_hold)
    holds[:n_constants] = True
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit, held = fit_identified(
            Likelihood(head, target), design, layout.terms, offset, names, holds
        )
    for warning in caught:
        # A baseline constant without end is no separation: where all who are left have the event,
        # Kaplan and Meier's hazard is 1 too.
        separates = issubclass(warning.category, SeparationWarning)
        if not (separates and set(fit.runaway) <= set(names[:n_constants])):
            warnings.warn(warning.message, warning.category, stacklevel=2)
    unseen = held[:n_constants]
    known = np.flatnonzero(~unseen)
    coef = fit.coef.copy()
    for place in np.flatnonzero(unseen):
        coef[place] = coef[known[max(int(np.searchsorted(known, place)) - 1, 0)]]
    return replace(fit, coef=coef)


def _variance(eta: np.ndarray, head: Head) -> float:
    """Return the variance over rows, summed over predictors."""
    if head.shift_invariant:  # a number added to all logits says nothing
        eta = eta - eta.mean(axis=1, keepdims=True)
    return float(eta.var(axis=0).sum())
