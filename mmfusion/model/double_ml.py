"""Double machine learning of one treatment's effect: nuisance networks, fold by fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from mmfusion.heads import CategoricalHead, GaussianHead
from mmfusion.heads.base import Head, Target
from mmfusion.modalities import Modality
from mmfusion.model.fit import Ready, fit_part
from mmfusion.model.folds import Folds, deal_taught
from mmfusion.structured import Layout, PartialEffect, partially_linear, partially_logistic

__all__ = ["PartialQuestion"]

FOLDS = 5
#: Splits of the rows into folds. With few rows the networks of one split and of the next differ
#: enough to add visibly to the error of the estimate, which the sandwich of one split does not see.
SPLITS = 3


class PartialQuestion:
    """The effect of a treatment given everything else that a model reads.

    Gaussian: ``E[Y | X]`` and ``E[D | X]`` are learned, and the effect is the slope of Y's residual
    on D's residual. Binomial: ``P(Y = 1 | X)`` and ``E[D | X, Y = 0]``. Each function is
    a model like the fitted one without the treatment, trained on four fifths of the rows and read
    at the others; rows of a cluster stay together. The answer is the mean over `SPLITS` splits of
    the rows.

    Parameters
    ----------
    ready : Ready

    Attributes
    ----------
    treated : int
        The treatment's place among the coefficients.

    Raises
    ------
    ValueError
        If the outcome has no such effect, the treatment is no single coefficient, or rows are too
        few.
    """

    def __init__(self, ready: Ready) -> None:
        plan, study = ready.plan, ready.study
        head, target = study.head, study.all.target
        if head.partial is None:
            raise ValueError(
                "The inference parameter 'double_ml' is for Gaussian and binomial outcomes "
                "(FusionRegressor, FusionClassifier with two classes). Got "
                f"{plan.name} with predictors {head.grid.names}."
            )
        assert plan.treatment is not None
        self.ready = ready
        layout = ready.structured.layout
        assert layout is not None
        self.treated = find_treatment(plan.treatment, layout, ready.modalities)
        if layout.offsets:
            raise ValueError(
                "With inference='double_ml' the formula must have no offset: the outcome's would "
                f"be the treatment's too. Got {layout.offsets[0]}."
            )
        self.treatment = ready.design.dense()[:, self.treated]
        self.low, self.high = self.treatment.min(), self.treatment.max()
        self.binary = bool(np.isin(self.treatment, (self.low, self.high)).all())
        labels = _labels(head, target, self.treatment)
        count = int(np.unique(labels, return_counts=True)[1].min())
        if count < FOLDS:
            raise ValueError(
                f"The inference parameter 'double_ml' needs {FOLDS} rows or more with each value "
                "of a binary treatment (of each class), and of each class or fifth of the outcome. "
                f"Got {count}."
            )
        self.seeds = _split_seeds(int(study.seeds.randint(2**31 - 1)))
        required = dict(head.required(target))
        if self.binary:
            at_risk = head.partial_rows(target)
            for value in (float(self.low), float(self.high)):
                required[f"treatment {value:g}"] = at_risk & (self.treatment == value)
        self.splits = [
            deal_taught(
                labels, required, study.groups, FOLDS, seed, "inference='model'", study.unit
            )
            for seed in self.seeds
        ]
        self.without = _without(plan.formulas, plan.treatment, study.all.table)

    def effect(self) -> PartialEffect:
        """Return the treatment's effect.

        Raises
        ------
        KeyboardInterrupt
            Where Ctrl-C ended the training of a nuisance function.
        """
        splits = zip(self.splits, self.seeds, strict=True)
        return PartialEffect.mean([self._of_split(folds, seed) for folds, seed in splits])

    def _of_split(self, folds: Folds, seed: int) -> PartialEffect:
        study = self.ready.study
        head, target = study.head, study.all.target
        n = len(study.all)
        outcome_mean, treatment_mean = np.zeros(n), np.zeros(n)
        learns = head.partial_rows(target)
        kind = CategoricalHead() if self.binary else GaussianHead()
        values = (self.treatment == self.high).astype(int) if self.binary else self.treatment
        of_treatment = kind.fit_outcome(values, target.weight.numpy())
        for train, held in folds:
            outcome_mean[held] = self._nuisance(head, target, train, held, seed)
            level = self._nuisance(kind, of_treatment, train[learns[train]], held, seed)
            treatment_mean[held] = (
                self.low + (self.high - self.low) * level if self.binary else level
            )
        response, weight = head.response(target), target.weight.numpy()
        if head.partial == "logistic":
            return partially_logistic(
                response == 1, outcome_mean, self.treatment, treatment_mean, weight
            )
        return partially_linear(response - outcome_mean, self.treatment - treatment_mean, weight)

    def _nuisance(
        self, head: Head, target: Target, rows: np.ndarray, held: np.ndarray, seed: int
    ) -> np.ndarray:
        """Return the mean of an outcome of the held rows, learned from other rows."""
        ready, table = self.ready, self.ready.study.all.table
        # Networks are kept whole (judged=False). The bias of the effect is the product of the two
        # functions' errors: noise cancels in it, but shrinkage of both functions towards their
        # means adds up, with the sign of the confounding. Levels and knots are those of all rows
        # (prepared=), so that a fold knows levels that only the held rows have.
        plan = replace(
            ready.plan,
            head=head,
            formulas=self.without,
            inference="model",
            treatment=None,
            judged=False,
            random_state=seed,
            settings=replace(ready.plan.settings, verbose=0),
            prepared=Layout(self.without).fit(table, head),
        )
        study = ready.study.with_outcome(head, target).part(plan, rows)
        model = fit_part(plan, study)
        rest = ready.study.all.take(held)
        return model.head.expectation(model.predictor(rest.table, subjects=rest.subjects))


def find_treatment(treatment: str, layout: Layout, modalities: Mapping[str, Modality]) -> int:
    """Return the treatment's column in the design.

    Parameters
    ----------
    treatment : str
    layout : Layout
        Fitted.
    modalities : mapping of str to Modality
        Fitted.

    Raises
    ------
    ValueError
        If it is no term of the formula, a smooth, or a factor of several columns; or if another
        term or a modality reads its column.
    """
    known = [term for term in layout.terms if term.variables]
    chosen = next((term for term in known if term.label == treatment), None)
    if chosen is None:
        raise ValueError(
            f"The treatment parameter must name a term of the formula {layout.formulas!r}, one of "
            f"{[term.label for term in known]}. Got {treatment!r}."
        )
    column, *more = range(len(layout.names))[chosen.columns]
    if not chosen.by_coefficient or more:
        raise ValueError(
            "The treatment parameter must name a term with one coefficient: a number, or a factor "
            "of two levels, and no smooth or random effect. "
            f"{treatment!r} has {1 + len(more)} coefficient{'s' if more else ''}."
        )
    for term in known:
        if term is not chosen and set(term.variables) & set(chosen.variables):
            raise ValueError(
                f"With inference='double_ml' the treatment has one effect: the term {term.label!r} "
                f"must not read the column of {treatment!r}."
            )
    for name, modality in modalities.items():
        if set(modality.columns_) & set(chosen.variables):
            raise ValueError(
                f"With inference='double_ml' no modality may read the treatment: modality {name!r} "
                f"reads {sorted(set(modality.columns_) & set(chosen.variables))}."
            )
    return column


def _split_seeds(seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(2**31 - 1, size=SPLITS).tolist()


def _without(formula: object, treatment: str, table: pd.DataFrame) -> str:
    """Return the formula without the treatment: the intercept remains."""
    factors = [treatment] if treatment in table.columns else treatment.split(":")
    quoted = [f"`{name}`" if name in table.columns else name for name in factors]
    return f"{formula} - {':'.join(quoted)} + 1"


def _labels(head: Head, target: Target, treatment: np.ndarray) -> np.ndarray:
    """Return what the folds are balanced by: the outcome, and a treatment of two values."""
    labels = head.stratify(target)
    values, code = np.unique(treatment, return_inverse=True)
    if len(values) > 2:
        return labels
    return 2 * labels + code if head.partial == "logistic" else code
