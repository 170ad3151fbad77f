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
from mmfusion.model.study import Study
from mmfusion.structured import (
    Block,
    Cells,
    CollinearityError,
    Design,
    Layout,
    Likelihood,
    SeparationWarning,
    StructuredFit,
    TermColumns,
    fit_identified,
    project,
)

__all__ = ["Constant", "Structured", "begin", "fit_formulas"]

#: Rows that show that predictors vary, where they do.
SOME = 100


class Constant:
    """No formula: the networks start from the predictors of the constant model.

    Attributes
    ----------
    base : ndarray, shape (K,)
    widening : ndarray, shape (K,)
        As of `Structured`.
    """

    #: Whether rows without a modality can be predicted: there is a formula.
    complete = False
    #: Whether the networks start beside a fitted model, to which they may turn out to add nothing.
    begun = False
    n_network_columns = 0
    layout: Layout | None = None
    #: The columns of the table that formulas read.
    columns: tuple[str, ...] = ()

    def __init__(self, base: np.ndarray) -> None:
        self.base = base
        self.pool_base = base
        self.widening = np.zeros_like(base)

    def network_offset(self, design: Design) -> Tensor:
        """Return what the networks' predictor is added to, shape (n, K)."""
        return torch.from_numpy(np.tile(self.base, (design.n_rows, 1)))

    def pool_offset(self, offset: Tensor) -> Tensor:
        """Return what a pool of predictors is added to: they hold the constant already."""
        return torch.zeros_like(offset)

    def design(self, table: pd.DataFrame) -> Design:
        """Return a design without columns."""
        return Design(len(table), len(self.base), 0, ())

    def network_design(self, table: pd.DataFrame) -> None:
        """Return no columns that networks read."""

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
        return deep + self.widening

    def stand_alone(self, *_: Any) -> None:
        """Learn nothing: no row is predicted without a modality."""

    def state(self) -> dict[str, Any]:
        """Return what saving writes: plain Python and arrays."""
        return {"base": self.base, "widening": self.widening}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the constants that `state` described."""
        part = cls(state["base"])
        part.widening = state.get("widening", part.widening)
        return part


class Structured:
    """Formulas and their exact fit; without any, the constants of the model.

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
    classical : ndarray, shape (p,)
        Coefficients of the classical model of all rows, by which rows without a modality are
        predicted.
    level : float
        What is added to their predictor where the likelihood sees no constant.
    widening : ndarray, shape (K,)
        What is added to the predictors of the others, since the rows that were fitted are too near
        them: see `mmfusion.heads.Head.widening`.
    projection : ndarray, shape (p,)
        Coefficients of what is taken off the deep predictor: of each row its own design times
        these, so that no prediction depends on other rows.
    variances : ndarray, shape (2,)
        Shares of the variance over the rows: of the reported coefficients' predictor, and of what
        the whole predictor is beside it.
    started_on_all : bool
        Whether the classical model is that of all rows.
    complete : bool
        Whether a formula was given, which predicts rows without a modality.
    of_part : bool
        Whether the formulas were fixed on more rows than are fitted here, which may lack some of
        their levels.
    typical : dict of str to number or level
        Of each column the formulas read, the mean or commonest level of all rows: where
        attributions start.
    """

    begun = True
    start: StructuredFit
    final: StructuredFit
    reported: StructuredFit
    classical: np.ndarray
    projection: np.ndarray
    variances: np.ndarray

    def __init__(
        self,
        layout: Layout,
        orthogonalization: str | None,
        n_predictors: int,
        *,
        complete: bool = True,
    ) -> None:
        self.layout = layout
        self.orthogonalization = orthogonalization
        self.complete = complete
        self.pool_base = np.zeros(n_predictors)
        self.started_on_all = self.of_part = False
        self.level = 0.0
        self.widening = np.zeros(n_predictors)
        self.typical: dict[str, Any] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table that the formulas read."""
        return self.layout.columns

    def design(self, table: pd.DataFrame) -> Design:
        """Return the design of some rows."""
        return self.layout.transform(table)

    def network_offset(self, design: Design) -> Tensor:
        """Return what the networks' predictor is added to: the classical model's, shape (n, K)."""
        return torch.from_numpy(design.predicted(self.start.coef))

    def pool_offset(self, offset: Tensor) -> Tensor:
        """Return what a pool of predictors is added to, shape (n, K): the networks' offset."""
        return offset

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
        self.projection = np.zeros(design.n_columns)
        whole = head, target, design

        alone = not deep.any() or self.orthogonalization == "two_stage"
        classical = self.start
        if not self.started_on_all:
            classical = fit_formulas(self.layout, *whole, may_hold=self.of_part)
        self.final, self.classical = classical, classical.coef
        if not alone:
            if self.orthogonalization == "post_hoc":
                eta = design.predicted(classical.coef)
                self.projection = project(Likelihood(head, target), eta, design, deep)
            beside = deep - design.linear.predict(self.projection)
            self.final = fit_formulas(self.layout, *whole, offset=beside, may_hold=self.of_part)
        self.reported = self.final if self.orthogonalization is None else classical
        beside = self.final.coef - self.projection - self.reported.coef
        self.variances = np.zeros(2)
        others = deep + design.linear.predict(beside) if beside.any() else deep
        if others.any():
            parts = design.predicted(self.reported.coef), others
            variance = np.array([_variance(part, head) for part in parts])
            self.variances = variance / max(variance.sum(), np.finfo(float).tiny)
        elif self._varies(design):
            self.variances[0] = 1.0
        return self.beside_reported(deep)

    def _varies(self, design: Design) -> bool:
        """Return whether the reported coefficients tell some rows apart."""
        coef = self.reported.coef
        some = design.take(slice(None, None, max(design.n_rows // SOME, 1)))
        return any(bool(np.ptp(each.predict(coef), axis=0).any()) for each in (some, design))

    def beside_reported(self, kept: np.ndarray) -> np.ndarray:
        """Return what of a kept deep predictor (n, K) the reported coefficients are fitted beside.

        Nothing, where they are the classical model's.
        """
        return kept if self.orthogonalization is None else np.zeros(kept.shape)

    @property
    def moves(self) -> np.ndarray:
        """What the columns move the predictor by, the networks' share of them apart, (p,)."""
        return self.final.coef - self.projection

    def refit(
        self,
        head: Head,
        design: Design,
        target: Target,
        terms: tuple[TermColumns, ...] = (),
        more: tuple[str, ...] = (),
    ) -> StructuredFit:
        """Fit the coefficients of a part of the rows with those of further columns."""
        return fit_formulas(
            self.layout, head, target, design, terms=terms, more=more, may_hold=True
        )

    def predictor(
        self, design: Design, deep: np.ndarray, exclude: Sequence[str] = ()
    ) -> np.ndarray:
        """Return the whole predictor of some rows, shape (n, K), without terms to `exclude`.

        That of a row without a modality is `predictor_alone`.
        """
        added = deep + self.widening if self.widening.any() else deep
        return design.predicted(self._kept(self.moves, exclude)) + added

    def predictor_alone(self, design: Design, exclude: Sequence[str] = ()) -> np.ndarray:
        """Return the predictor of rows without a modality, (n, K): the classical model's."""
        return design.predicted(self._kept(self.classical, exclude)) + self.level

    def _kept(self, coef: np.ndarray, exclude: Sequence[str]) -> np.ndarray:
        if not exclude:
            return coef
        return np.where(self.layout.coefficients_of(exclude), 0.0, coef)

    def stand_alone(self, design: Design, eta: np.ndarray, head: Head) -> None:
        """Learn where the classical predictor stands beside the whole one, eta, of all rows.

        Where the likelihood sees no constant, each of both has an arbitrary one: their means over
        the rows are made equal.
        """
        if not len(head.constants):
            self.level = float(eta.mean() - design.predicted(self.classical).mean())

    def state(self) -> dict[str, Any]:
        """Return what saving writes: plain Python and arrays."""
        return {
            "layout": self.layout.state(),
            "orthogonalization": self.orthogonalization,
            "complete": self.complete,
            "start": self.start.state(),
            "final": self.final.state(),
            "reported": None if self.reported is self.final else self.reported.state(),
            "arrays": {
                name: getattr(self, name)
                for name in (
                    *("projection", "classical", "level", "variances", "center", "spread"),
                    *("typical", "widening"),
                )
                if hasattr(self, name)
            },
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], n_predictors: int) -> Self:
        """Return the fitted part that `state` described."""
        arrays = state["arrays"]
        layout = Layout.from_state(state["layout"])
        part = cls(layout, state["orthogonalization"], n_predictors, complete=state["complete"])
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


def begin(plan: Plan, study: Study) -> tuple[Constant | Structured, Design, Cells | None]:
    """Fit the classical model to the training rows; return it, design and cells of all rows.

    Knots, levels and constraints are those of all rows, to which the coefficients are fitted again
    in the end; in a fold, those of the rows that the fold was dealt from (`Plan.prepared`). A
    coefficient that the training rows alone do not identify starts at 0. Without formulas there is
    only the constant model, and a design without columns.
    """
    head, table = study.head, study.all.table
    given = plan.formulas is not None
    if not given and not plan.linear:
        constant = Constant(head.initial(study.training).numpy())
        return constant, constant.design(table), None
    layout = plan.prepared or Layout(plan.formulas or "1")
    cells = layout.read(table) if plan.prepared else layout.learn(table, head)
    orthogonalization = plan.orthogonalization if given else None
    part = Structured(layout, orthogonalization, len(head.grid), complete=given)
    part.typical = layout.typical(cells)
    design = layout.transform(cells)
    if plan.design_use.read:
        study.all.subjects.refuse_design()
        part.standardise(network_columns(design))
    part.of_part = of_part = plan.prepared is not None
    part.started_on_all = study.trains_all
    if part.started_on_all:
        part.start = fit_formulas(layout, head, study.all.target, design, may_hold=of_part)
        return part, design, cells
    mine, target = design.take(study.rows), study.training
    try:
        part.start = fit_formulas(layout, head, target, mine, may_hold=of_part)
    except CollinearityError:
        # What all rows do not identify either is an error, before anything is trained.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit_formulas(layout, head, study.all.target, design, may_hold=of_part)
        part.start = fit_formulas(layout, head, target, mine, may_hold=True)
    return part, design, cells


def fit_formulas(
    layout: Layout,
    head: Head,
    target: Target,
    design: Design,
    *,
    offset: np.ndarray | None = None,
    terms: tuple[TermColumns, ...] = (),
    more: tuple[str, ...] = (),
    may_hold: bool = False,
) -> StructuredFit:
    """Fit the coefficients of formulas, and of `more` columns, which `terms` penalise, after them.

    The constant of an interval in which no row is at risk has the value of the interval before it.
    With `may_hold`, in a fold or of the training rows, a coefficient that the rows do not identify
    is held at 0.
    """
    names = [*layout.names, *more]
    n_constants = len(layout.constants)
    holds = np.full(len(names), may_hold)
    holds[:n_constants] = True
    holds[len(layout.names) :] = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit, held = fit_identified(
            Likelihood(head, target), design, (*layout.terms, *terms), offset, names, holds
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
    if not eta.any():
        return 0.0
    # As a product with ones the mean over rows is the faster.
    eta = eta - np.ones(len(eta)) @ eta / len(eta)
    if head.shift_invariant:  # a number added to all logits says nothing
        eta -= eta @ np.full((eta.shape[1], 1), 1 / eta.shape[1])
    return float(np.vdot(eta, eta)) / len(eta)
