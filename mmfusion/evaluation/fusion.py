"""Every way of fusing beside each modality alone and the classical models, on the same folds."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone

from mmfusion.evaluation.candidates import classical_models, fused_models, single_models
from mmfusion.evaluation.comparison import Comparison
from mmfusion.evaluation.folds import Folds, check_folds
from mmfusion.evaluation.outcomes import Outcome, check_outcome, take, task_of
from mmfusion.evaluation.paired import compare
from mmfusion.evaluation.roles import check_groups, check_model
from mmfusion.evaluation.scoring import resolve_scoring
from mmfusion.inputs.parameters import check_choice
from mmfusion.modalities import Modality, infer_modalities

__all__ = ["compare_fusion"]


def compare_fusion(
    estimator: Any,
    X: pd.DataFrame,
    y: Any,
    *,
    single: bool = True,
    operators: Sequence[str] = (),
    strategies: Sequence[Any] | Mapping[str, Any] = (),
    classical: bool = True,
    others: Mapping[str, Any] | None = None,
    cv: Any = 5,
    n_repeats: int = 3,
    scoring: Any = None,
    rows: str = "all",
    reference: str | None = None,
    groups: Any = None,
    cache: str | os.PathLike[str] | None = None,
    error_score: str | float = float("nan"),
    random_state: int | None = None,
    n_jobs: int | None = None,
    verbose: int = 1,
) -> Comparison:
    """Compare ways of fusing with each modality alone and classical models, on the same folds.

    Whether fusion is worth its trouble is answered against what one would do without it: each
    modality by itself, and the models that need no network. All are fitted on the same training
    rows and scored on the same rows left out; differences are paired, with intervals that allow for
    training sets that overlap (Nadeau & Bengio 2003).

    Parameters
    ----------
    estimator : FusionCox, FusionClassifier, FusionRegressor or another with their parameters
        Is compared as it is, and in variations: its settings are those of every fusion.
    X : DataFrame, n rows
    y : outcome, n rows
    single : bool, default=True
        Whether each modality is fitted alone (with the estimator's formula, if it has one; without
        objectives or pretraining that tie modalities to each other).
    operators : sequence of str, default=()
        Joint operators, put into the estimator's own `JointFusion`, if that is its fusion.
    strategies : sequence or dict by name, default=()
        Whatever else its `fusion` parameter takes: ``[EarlyFusion(), LateFusion()]``; these two
        without objectives or pretraining that tie embeddings to each other.
    classical : bool, default=True
        Whether the estimator's formula is fitted alone, if it has one, and models of the tables
        among the modalities (`TableFeatures`; no images): for survival ridge Cox; else
        scikit-learn's logistic or ridge regression and its histogram gradient boosting.
        Penalties are chosen inside the training rows.
    others : dict of str to estimator, optional
        More models; each gets the whole of `X`.
    cv : int, splitter or iterable of (train, test), default=5
        A number of folds (stratified by the event or class), a splitter of scikit-learn, or index
        arrays.
    n_repeats : int, default=3
        How often a number of folds is dealt anew.
    scoring : None, str, scorer, list or dict of these by name, optional
        By default "c" and "ibs" (survival), "accuracy" and "log_loss" (classes), or "r2" and
        "rmse" (numbers). For survival also "uno", "auc" and "antolini"; of models with
        ``predict_distribution`` "log_score" and "crps"; else any scorer of scikit-learn's. A
        callable is ``scorer(estimator, X, y)``.
    rows : {"all", "complete"}, default="all"
        Which rows are compared, by every model alike. "all": a model of a single modality cannot
        tell the rows that lack it apart and gives them one constant, as a study would have to (the
        mean prediction, the Kaplan-Meier curve, the shares of the classes). "complete": only rows
        that have every modality, in training too. The result's notes say how many rows this
        concerns.
    reference : str, optional
        The model to which differences are taken; by default the first classical one, else the
        first of all. `Comparison.differences` takes any other afterwards.
    groups : column name or array-like, shape (n,), optional
        Rows of one label stay together in folds; by default those of the estimator's `id`, else of
        its `cluster`.
    cache : path, optional
        A folder in which each model's scores in each fold are kept, so that an interrupted
        comparison goes on; see `compare`.
    error_score : float or "raise", default=nan
        What a model scores in a fold in which it fails; see `compare`.
    random_state : int, optional
        Of the folds, and of the estimator and classical models that have none of their own.
    n_jobs : int, optional
        Fits at once, in processes.
    verbose : int, default=1
        1 shows a progress bar, 0 nothing.

    Returns
    -------
    Comparison
        ``summary()`` is the table with its notes, ``differences()`` has the intervals,
        `plot_comparison` draws it.

    Raises
    ------
    ValueError, TypeError
        Before anything is fitted: an estimator of other parameters or fewer than two modalities, a
        parameter, outcome or folds that are at fault, two models of one name, rows that no model
        could predict. What `compare` raises.

    Notes
    -----
    Survival models with strata are scored on pairs within a stratum, all of them; ridge Cox itself
    has no strata. Competing causes go to the models as they are, which are scored on any event.

    Examples
    --------
    >>> from mmfusion import Genes, Tabular
    >>> from mmfusion.datasets import load_metabric
    >>> from mmfusion.estimators import FusionCox
    >>> from mmfusion.evaluation import compare_fusion
    >>> data = load_metabric()
    >>> patients, y = data.frame[:200], data.target[:200]
    >>> model = FusionCox(
    ...     {"clinical": Tabular(data.clinical), "genes": Genes(data.genes)}, epochs=5
    ... )
    >>> comparison = compare_fusion(
    ...     model, patients, y, operators=["gated"], cv=2, n_repeats=1, random_state=0, verbose=0
    ... )
    >>> comparison.models  # doctest: +NORMALIZE_WHITESPACE
    ['linear part alone', 'ridge Cox', 'clinical alone', 'genes alone', 'joint fusion, concat',
    'joint fusion, gated']
    >>> comparison.differences(adjust="holm").shape
    (5, 7)
    """
    for name, value, allowed in (
        ("single", single, (True, False)),
        ("classical", classical, (True, False)),
        ("rows", rows, ("all", "complete")),
    ):
        check_choice(name, value, allowed)
    _check_estimator(estimator)
    if not isinstance(X, pd.DataFrame):
        raise TypeError(f"The X parameter must be a DataFrame. Got {type(X).__name__}.")
    task = task_of(estimator, y)
    outcome = check_outcome(y, task, X)
    metrics = resolve_scoring(scoring, task)
    modalities = _modalities_of(estimator, X)
    present = _presence(modalities, X)
    labels = check_groups(groups, {"estimator": estimator}, X)
    folds = _folds(cv, outcome, task, n_repeats, random_state, rows, present, labels, X)
    formula = getattr(estimator, "structured", None) is not None
    if rows == "all" and not formula:
        _refuse_empty(X, present)
    base = clone(estimator).set_params(modalities=dict(modalities))
    if random_state is not None and base.get_params(deep=False).get("random_state", 0) is None:
        base.set_params(random_state=random_state)
    fused = fused_models(base, operators, strategies)
    _validate(fused)
    lacking = not formula and rows == "all"
    models = _join(
        [
            classical_models(base, modalities, task, random_state) if classical else {},
            single_models(base, modalities, present if lacking else None, task) if single else {},
            fused,
            _check_others(others),
        ]
    )
    first = next(iter(models)) if reference is None else reference
    check_choice("reference", first, models)
    comparison = compare(
        models,
        X,
        outcome,
        folds,
        groups=labels,
        task=task,
        metrics=metrics,
        cache=cache,
        error_score=error_score,
        n_jobs=n_jobs,
        verbose=verbose,
    )
    notes = _notes(rows, present, formula=formula, single=single)
    return replace(comparison, reference=first, notes=(*comparison.notes, *notes))


def _check_estimator(estimator: Any) -> None:
    known = hasattr(estimator, "get_params") and not isinstance(estimator, type)
    if not known or not {"modalities", "fusion"} <= set(estimator.get_params(deep=False)):
        raise TypeError(
            "The estimator parameter must be an estimator with the parameters modalities and "
            f"fusion, such as FusionCox(...). Got {estimator!r}."
        )


def _modalities_of(estimator: Any, X: pd.DataFrame) -> Mapping[str, Modality]:
    """Return the estimator's modalities, or those that the columns of `X` look like."""
    modalities = estimator.modalities
    if modalities is None:
        named = [getattr(estimator, key, None) for key in ("strata", "cluster")]
        modalities = infer_modalities(X.drop(columns=[name for name in named if name is not None]))
    if not isinstance(modalities, Mapping) or len(modalities) < 2:
        found = list(modalities) if isinstance(modalities, Mapping) else modalities
        raise ValueError(
            "The estimator parameter must have at least two modalities to compare fusions of. "
            f"Got {found!r}."
        )
    return modalities


def _presence(modalities: Mapping[str, Modality], X: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return which rows have each modality."""
    with warnings.catch_warnings():  # each model's own fit says them again
        warnings.simplefilter("ignore", UserWarning)
        fitted = {name: clone(modality).fit(X) for name, modality in modalities.items()}
        return {name: modality.present(X) for name, modality in fitted.items()}


def _folds(
    cv: Any,
    outcome: Outcome,
    task: str,
    n_repeats: int,
    random_state: int | None,
    rows: str,
    present: Mapping[str, np.ndarray],
    groups: np.ndarray | None,
    X: pd.DataFrame,
) -> Folds:
    """Return the folds as positions in the whole table, complete rows only where these count."""
    dealt = isinstance(cv, int) or hasattr(cv, "get_n_splits")
    keep = np.arange(len(outcome))
    if rows == "complete":
        keep = np.flatnonzero(np.logical_and.reduce(list(present.values())))
        if not len(keep):
            raise ValueError(
                "The rows parameter must be 'all' where no row has every modality. Got 'complete'."
            )
    folds = check_folds(
        cv,
        take(outcome, keep) if dealt else outcome,
        classes=task == "classification",
        n_repeats=n_repeats,
        random_state=random_state,
        groups=groups if groups is None or not dealt else groups[keep],
        X=X.iloc[keep] if dealt else X,
    )
    if dealt:
        return [(keep[train], keep[test]) for train, test in folds]
    cut = [(np.intersect1d(train, keep), np.intersect1d(test, keep)) for train, test in folds]
    return check_folds(cut, outcome) if rows == "complete" else folds


def _refuse_empty(X: pd.DataFrame, present: Mapping[str, np.ndarray]) -> None:
    none = ~np.logical_or.reduce(list(present.values()))
    if none.any():
        raise ValueError(
            f"Rows with no modality present: {X.index[none].tolist()[:5]} ({none.sum()} of "
            f"{len(X)}). Each row needs at least one of {list(present)}, or the estimator a "
            "formula."
        )


def _validate(models: Mapping[str, Any]) -> None:
    """Let each estimator check its parameters before the first one is trained."""
    for name, model in models.items():
        # scikit-learn's own needs constraints that only its estimators declare.
        check = getattr(type(model), "_validate_params", BaseEstimator._validate_params)
        if check is not BaseEstimator._validate_params:
            try:
                check(model)
            except (TypeError, ValueError) as error:
                error.add_note(f"Model {name!r}.")
                raise


def _check_others(others: Mapping[str, Any] | None) -> Mapping[str, Any]:
    others = {} if others is None else others
    if not isinstance(others, Mapping):
        raise TypeError(
            f"The others parameter must be a dict of name to estimator. Got {others!r}."
        )
    for name, model in others.items():
        check_model(name, model, "others")
    return others


def _join(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    models: dict[str, Any] = {}
    for part in parts:
        twice = [name for name in part if name in models]
        if twice:
            raise ValueError(f"Two models have the name {twice[0]!r}: give one another name.")
        models.update(part)
    if len(models) < 2:
        raise ValueError(f"At least two models are needed for a comparison. Got {list(models)}.")
    return models


def _notes(
    rows: str, present: Mapping[str, np.ndarray], *, formula: bool, single: bool
) -> tuple[str, ...]:
    """Say how many rows lack a modality, and what became of them."""
    n = len(next(iter(present.values())))
    missing = {name: int((~there).sum()) for name, there in present.items() if not there.all()}
    if not missing:
        return ()
    counts = ", ".join(f"{name} in {count}" for name, count in missing.items())
    first = f"Of {n} rows some lack a modality: {counts}."
    if rows == "complete":
        kept = int(np.logical_and.reduce(list(present.values())).sum())
        return (f"{first} Only the {kept} rows that have every modality were used.",)
    if not single:
        return (first,)
    given = "the formula's prediction" if formula else "one constant"
    return (f"{first} A model of that modality alone gives these rows {given}.",)
