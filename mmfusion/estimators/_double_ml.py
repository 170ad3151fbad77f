"""Double machine learning of one treatment's effect: nuisance networks, fold by fold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from mmfusion.heads import CategoricalHead, GaussianHead
from mmfusion.heads.base import Head, Target
from mmfusion.modalities import Modality
from mmfusion.structured import Formula, PartialEffect, partially_linear, partially_logistic

from ._folds import deal_folds
from ._frame import take_outcome

if TYPE_CHECKING:
    from .base import FusionEstimator

__all__ = ["check_double_ml", "check_rows", "double_ml", "find_treatment"]

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


def double_ml(
    estimator: FusionEstimator,
    modalities: Mapping[str, Modality],
    frame: pd.DataFrame,
    y: Any,
    sample_weight: Any,
    target: Target,
    treatment: np.ndarray,
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
    target : Target
        Of `y`.
    treatment : ndarray, shape (n,)
        Its column of the design.
    seed : int
    """
    from .classifier import FusionClassifier  # they are built on this module's caller
    from .regressor import FusionRegressor

    head = estimator._head
    logistic = isinstance(head, CategoricalHead)
    low, high = treatment.min(), treatment.max()
    binary = bool(np.isin(treatment, (low, high)).all())
    event = target.code.numpy() == 1 if logistic else None  # type: ignore[attr-defined]
    weight = None if sample_weight is None else np.asarray(sample_weight)

    # Its levels and knots are those of all rows, so that a fold knows those of the rest.
    others = Formula(_without(estimator))
    others.fit_transform(frame, intercept=True)

    def nuisance(kind: Any, rows: np.ndarray, outcome: Any, seed: int) -> Any:
        params = clone(estimator).get_params(deep=False)
        model = kind(**{key: params[key] for key in kind._get_param_names()}).set_params(
            modalities=dict(modalities),
            structured=_without(estimator),
            inference="model",
            cluster=None,
            treatment=None,
            verbose=0,
            random_state=seed,
        )
        # Noise in one function is not noise in the other; but where both are shrunk towards their
        # means, the product of the errors, which is the bias, has the sign of the confounding.
        model._shrinks = False
        model._prepared = others
        return model.fit(frame.iloc[rows], outcome, None if weight is None else weight[rows])

    def one_split(seed: int) -> PartialEffect:
        outcome_mean, treatment_mean = np.zeros(len(frame)), np.zeros(len(frame))
        for train, held in deal_folds(labels, cluster, FOLDS, seed):
            rest = frame.iloc[held]
            own = nuisance(type(estimator), train, take_outcome(y, train), seed)
            outcome_mean[held] = own.predict_proba(rest)[:, 1] if logistic else own.predict(rest)
            if event is not None:
                train = train[~event[train]]
            if binary:
                chance = nuisance(
                    FusionClassifier, train, (treatment[train] == high).astype(int), seed
                )
                treatment_mean[held] = low + (high - low) * chance.predict_proba(rest)[:, 1]
            else:
                level = nuisance(FusionRegressor, train, treatment[train], seed)
                treatment_mean[held] = level.predict(rest)
        if event is not None:
            return partially_logistic(event, outcome_mean, treatment, treatment_mean, weight)
        outcome = np.asarray(y, dtype=np.float64).ravel()
        return partially_linear(outcome - outcome_mean, treatment - treatment_mean, weight)

    labels, cluster = _labels(head, target, treatment), estimator._cluster(frame)
    seeds = np.random.default_rng(seed).integers(2**31 - 1, size=SPLITS)
    return PartialEffect.mean([one_split(int(seed)) for seed in seeds])


def _without(estimator: FusionEstimator) -> str:
    """Return the formula without the treatment: the intercept remains."""
    formula, treatment = estimator.structured, estimator.treatment
    assert formula is not None
    assert treatment is not None
    bare = treatment.isidentifier() or "(" in treatment
    return f"{formula} - {treatment if bare else f'`{treatment}`'} + 1"


def _labels(head: Head, target: Target, treatment: np.ndarray) -> np.ndarray:
    """Return what the folds are balanced by: the outcome, and a treatment of two values."""
    labels = head.stratify(target)
    values, code = np.unique(treatment, return_inverse=True)
    if len(values) > 2:
        return labels
    return 2 * labels + code if isinstance(head, CategoricalHead) else code
