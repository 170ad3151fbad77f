"""Double machine learning of one treatment's effect: nuisance networks, fold by fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from mmfusion.heads import CategoricalHead, GaussianHead
from mmfusion.heads.base import Head, Target
from mmfusion.modalities import Modality
from mmfusion.structured import Formula, PartialEffect, partially_linear, partially_logistic

from ._folds import Folds, deal_taught, fit_quietly, needs

if TYPE_CHECKING:
    from .base import FusionEstimator

__all__ = ["check_double_ml", "check_rows", "deal_splits", "double_ml", "find_treatment"]

FOLDS = 5
#: Splits of the rows into folds. With few rows the networks of one split and of the next differ
#: enough to add visibly to the error of the estimate, which the sandwich of one does not see.
SPLITS = 3


def check_double_ml(estimator: FusionEstimator, head: Head) -> None:
    """Raise unless an estimator's parameters and its outcome allow ``inference="double_ml"``."""
    if not isinstance(head, GaussianHead | CategoricalHead) or len(head.predictors) != 1:
        raise ValueError(
            "The inference parameter 'double_ml' is for Gaussian and binomial outcomes "
            "(FusionRegressor, FusionClassifier with two classes). Got "
            f"{type(estimator).__name__} with predictors {head.predictors}."
        )
    if estimator.structured is None:
        raise ValueError(
            "The inference parameter 'double_ml' needs a formula that holds the treatment. "
            "Got structured=None."
        )
    if not isinstance(estimator.treatment, str):
        raise ValueError(
            "The treatment parameter must name a term of the formula where inference='double_ml'. "
            f"Got {estimator.treatment!r}."
        )


def find_treatment(treatment: str, formula: Formula, modalities: Mapping[str, Modality]) -> int:
    """Return the treatment's column in the design.

    Parameters
    ----------
    treatment : str
    formula : Formula
        Fitted.
    modalities : mapping of str to Modality
        Fitted.

    Raises
    ------
    ValueError
        If it is no term of the formula, a smooth, or a factor of several columns; or if another
        term or a modality reads its column.
    """
    known = [term for term in formula.terms_ if term.variables]
    chosen = next((term for term in known if term.label == treatment), None)
    if chosen is None:
        raise ValueError(
            f"The treatment parameter must name a term of the formula {formula.formula!r}, one of "
            f"{[term.label for term in known]}. Got {treatment!r}."
        )
    column, *more = range(len(formula.names_))[chosen.columns]
    if chosen.kind != "parametric" or more:
        raise ValueError(
            "The treatment parameter must name a term with one coefficient: a number, or a factor "
            f"of two levels. {treatment!r} has {1 + len(more)} coefficients "
            f"({chosen.kind} term)."
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


def check_rows(head: Head, target: Target, treatment: np.ndarray) -> None:
    """Raise unless each fold can hold every value of a binary treatment (in each class)."""
    counts = np.unique(_labels(head, target, treatment), return_counts=True)[1]
    if counts.min() < FOLDS:
        raise ValueError(
            f"The inference parameter 'double_ml' needs {FOLDS} rows or more with each value of "
            "a binary treatment (of each class), and of each class or fifth of the outcome. "
            f"Got {int(counts.min())}."
        )


def deal_splits(
    head: Head,
    target: Target,
    treatment: np.ndarray,
    groups: np.ndarray | None,
    seed: int,
    instead: str,
) -> list[Folds]:
    """Return the folds of each split of the rows; rows of a cluster stay together.

    Parameters
    ----------
    treatment : ndarray, shape (n,)
        Its column of the design.
    groups, seed, instead
        As for `deal_taught`.
    """
    required = needs(head, target)
    at_risk = np.ones(len(target), dtype=bool)
    if isinstance(head, CategoricalHead):  # the treatment is learned from the first class
        at_risk = target.code.numpy() == 0  # type: ignore[attr-defined]
    values = np.unique(treatment)
    if len(values) == 2:
        required |= {
            f"treatment {value:g}": at_risk & (treatment == value) for value in values.tolist()
        }
    labels = _labels(head, target, treatment)
    return [
        deal_taught(labels, required, groups, FOLDS, number, instead)
        for number in _split_seeds(seed)
    ]


def _split_seeds(seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(2**31 - 1, size=SPLITS).tolist()


def double_ml(
    estimator: FusionEstimator,
    modalities: Mapping[str, Modality],
    frame: pd.DataFrame,
    y: Any,
    sample_weight: np.ndarray | None,
    treatment: np.ndarray,
    splits: Sequence[Folds],
    seed: int,
) -> PartialEffect:
    """Return the treatment's effect given everything else the estimator reads.

    Gaussian: ``E[Y | X]`` and ``E[D | X]`` are learned, and the effect is that of the one's
    residual on the other's. Binomial: ``P(Y = 1 | X)`` and ``E[D | X, Y = 0]``. Each function is
    an estimator like this one without the treatment, trained on four fifths of the rows and read
    at the others; with `cluster`, rows of a cluster stay together. Reported is the mean over
    `SPLITS` splits of the rows.

    Parameters
    ----------
    estimator : FusionEstimator
        Fitted as far as its head is.
    modalities : mapping of str to Modality
        What the networks read; unfitted.
    frame, y, sample_weight
        As given to ``fit``.
    treatment : ndarray, shape (n,)
        Its column of the design.
    splits : sequence of Folds
        Of `deal_splits`, with the same `seed`.
    seed : int

    Raises
    ------
    KeyboardInterrupt
        Where Ctrl-C ended the training of one of them.
    """
    from .classifier import FusionClassifier  # they are built on this module's caller
    from .regressor import FusionRegressor

    head = estimator._head
    logistic = isinstance(head, CategoricalHead)
    low, high = treatment.min(), treatment.max()
    binary = bool(np.isin(treatment, (low, high)).all())
    event = None
    if logistic:
        encoded: Any = estimator._encode(head.encode, frame, y, None)
        event = encoded.code.numpy() == 1

    # Its levels and knots are those of all rows, so that a fold knows those of the rest.
    without = _without(estimator, frame)
    others = Formula(without)
    others.fit_transform(frame, intercept=True)

    def nuisance(kind: Any, rows: np.ndarray, outcome: Any, seed: int) -> Any:
        params = clone(estimator).get_params(deep=False)
        model = kind(**{key: params[key] for key in kind._get_param_names()}).set_params(
            modalities=dict(modalities),
            structured=without,
            inference="model",
            treatment=None,
            verbose=0,
            random_state=seed,
        )
        # Noise in one function is not noise in the other; but where both are shrunk towards their
        # means, the product of the errors, which is the bias, has the sign of the confounding.
        model._shrinks = False
        model._prepared = others
        fit_quietly(model, frame, outcome, sample_weight, rows)
        return model

    def one_split(folds: Folds, seed: int) -> PartialEffect:
        outcome_mean, treatment_mean = np.zeros(len(frame)), np.zeros(len(frame))
        for train, held in folds:
            rest = frame.iloc[held]
            own = nuisance(type(estimator), train, y, seed)
            outcome_mean[held] = own.predict_proba(rest)[:, 1] if logistic else own.predict(rest)
            if event is not None:
                train = train[~event[train]]
            if binary:
                chance = nuisance(FusionClassifier, train, (treatment == high).astype(int), seed)
                treatment_mean[held] = low + (high - low) * chance.predict_proba(rest)[:, 1]
            else:
                level = nuisance(FusionRegressor, train, treatment, seed)
                treatment_mean[held] = level.predict(rest)
        if event is not None:
            return partially_logistic(event, outcome_mean, treatment, treatment_mean, sample_weight)
        outcome = np.asarray(y, dtype=np.float64).ravel()
        return partially_linear(outcome - outcome_mean, treatment - treatment_mean, sample_weight)

    return PartialEffect.mean(
        [one_split(folds, own) for folds, own in zip(splits, _split_seeds(seed), strict=True)]
    )


def _without(estimator: FusionEstimator, frame: pd.DataFrame) -> str:
    """Return the formula without the treatment: the intercept remains."""
    formula, treatment = estimator.structured, estimator.treatment
    assert formula is not None
    assert treatment is not None
    factors = [treatment] if treatment in frame.columns else treatment.split(":")
    quoted = [f"`{name}`" if name in frame.columns else name for name in factors]
    return f"{formula} - {':'.join(quoted)} + 1"


def _labels(head: Head, target: Target, treatment: np.ndarray) -> np.ndarray:
    """Return what the folds are balanced by: the outcome, and a treatment of two values."""
    labels = head.stratify(target)
    values, code = np.unique(treatment, return_inverse=True)
    if len(values) > 2:
        return labels
    return 2 * labels + code if isinstance(head, CategoricalHead) else code
