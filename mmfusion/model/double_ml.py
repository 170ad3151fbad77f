"""Double machine learning of one treatment's effect: nuisance networks, fold by fold."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mmfusion.heads.base import Head, Target
from mmfusion.modalities import Modality
from mmfusion.model.confounding import (
    Confounding,
    input_features,
    learned_mean,
    strongest_left,
)
from mmfusion.model.dealing import Folds, deal_taught
from mmfusion.model.fit import Ready
from mmfusion.model.nuisance import Nuisance, texts_of, treatment_head
from mmfusion.structured import (
    Layout,
    PartialEffect,
    partially_linear,
    partially_logistic,
    without_columns,
)

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
        self.response, self.weight = head.response(target), target.weight.numpy()
        self.learns = head.partial_rows(target)
        self.own = next(t.variables for t in layout.terms if t.label == plan.treatment)
        known = [name for name in study.all.table.columns if isinstance(name, str)]
        without = without_columns(" + ".join(texts_of(plan.formulas)), self.own, known)
        self.of_outcome = Nuisance(ready, head, target, without)
        self.of_treatment = Nuisance(ready, *treatment_head(self.treatment, self.weight), without)

    def effect(self) -> tuple[PartialEffect, Confounding]:
        """Return the treatment's effect, and how far it is to be believed.

        Raises
        ------
        KeyboardInterrupt
            Where Ctrl-C ended the training of a nuisance function.
        """
        splits = zip(self.splits, self.seeds, strict=True)
        means = [self._means(folds, seed) for folds, seed in splits]
        effect = PartialEffect.mean([self._effect(*of) for of in means])
        return effect, self._confounding(effect, *np.mean(means, axis=0))

    def _means(self, folds: Folds, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what a split's models expect of outcome and treatment of each row, each (n,)."""
        outcome, treatment = np.zeros((2, len(self.treatment)))
        for train, held in folds:
            outcome[held] = self.of_outcome.expectation(train, held, seed)
            treatment[held] = self.of_treatment.expectation(train[self.learns[train]], held, seed)
        if self.binary:
            treatment = self.low + (self.high - self.low) * treatment
        return outcome, treatment

    def _effect(self, outcome: np.ndarray, treatment: np.ndarray) -> PartialEffect:
        response, weight = self.response, self.weight
        if self.ready.study.head.partial == "logistic":
            return partially_logistic(response == 1, outcome, self.treatment, treatment, weight)
        return partially_linear(response - outcome, self.treatment - treatment, weight)

    def _confounding(
        self, effect: PartialEffect, outcome: np.ndarray, treatment: np.ndarray
    ) -> Confounding:
        """Return the diagnostics, of means over the splits."""
        ready, weight = self.ready, self.weight
        linear = ready.study.head.partial == "linear"
        rows, d = self.learns, self.treatment
        values, mean = d[rows], treatment[rows]
        if self.binary:
            values, mean = ((v - self.low) / (self.high - self.low) for v in (values, mean))
        of_treatment = learned_mean(values, mean, self.binary, weight[rows])
        of_outcome = learned_mean(self.response, outcome, not linear, weight)
        left_of_treatment = np.where(rows, d - treatment, 0.0)
        left_of_outcome = self.response - outcome
        # What the effect itself makes of the outcome is no sign of a confounder.
        size = max(float(left_of_treatment @ left_of_treatment), 1e-300)
        slope = left_of_treatment @ left_of_outcome / size
        left_of_outcome = left_of_outcome - slope * left_of_treatment
        others = [name for name in ready.structured.columns if name not in self.own]
        features = input_features(ready.study.all.table, others, ready.modalities)
        left = strongest_left(features, left_of_treatment, left_of_outcome)
        if not linear:
            return Confounding.of(of_treatment, of_outcome, left)
        cluster = ready.study.cluster
        variance, _ = effect.covariance(np.zeros((len(d), 0)), cluster)
        residuals = (left_of_outcome, left_of_treatment)
        se = float(np.sqrt(variance))
        return Confounding.of(of_treatment, of_outcome, left, residuals, effect.coef, se)


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


def _labels(head: Head, target: Target, treatment: np.ndarray) -> np.ndarray:
    """Return what the folds are balanced by: the outcome, and a treatment of two values."""
    labels = head.stratify(target)
    values, code = np.unique(treatment, return_inverse=True)
    if len(values) > 2:
        return labels
    return 2 * labels + code if head.partial == "logistic" else code
