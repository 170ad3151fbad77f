"""Models fitted and scored on the same folds."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from inspect import signature
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sklearn.base import clone

from mmfusion.evaluation.cache import FoldCache
from mmfusion.evaluation.comparison import Comparison
from mmfusion.evaluation.fingerprint import fingerprint, roots_in
from mmfusion.evaluation.folds import check_folds, number_repeats
from mmfusion.evaluation.outcomes import Outcome, any_event, check_outcome, for_fit, take
from mmfusion.evaluation.pooling import Failures, Pool
from mmfusion.evaluation.roles import check_groups, check_model, common_column
from mmfusion.evaluation.scoring import DEFAULTS, METRICS, Metric, TestFold
from mmfusion.inputs.columns import take_column
from mmfusion.metrics import Score
from mmfusion.survival import Survival

__all__ = ["METRICS", "TestFold", "compare"]


def compare(
    models: Mapping[str, Any],
    X: Any,
    y: Any,
    folds: Any = 5,
    *,
    task: str = "survival",
    metrics: Mapping[str, Metric] | None = None,
    strata: Hashable = None,
    groups: Any = None,
    cache: str | os.PathLike[str] | None = None,
    error_score: str | float = float("nan"),
    n_jobs: int | None = None,
    verbose: int = 0,
) -> Comparison:
    """Fit a clone of each model on the same folds and score it on the rows left out.

    Parameters
    ----------
    models : mapping of str to estimator
        With ``fit(X, y)`` and ``predict(X)``, ours or others'. A survival model predicts a risk
        (higher is worse); with ``predict_survival_function`` it gets a Brier score too.
    X : DataFrame or ndarray, n rows
    y : outcome, n rows
        See `mmfusion.survival.check_survival`; for another `task` an array of labels or numbers.
        Models are given competing causes as they are; they are scored on any event, as their own
        ``score`` is.
    folds : int, splitter or iterable of (train, test), default=5
        A number of folds (stratified by the event or class, shuffled with seed 0), a splitter of
        scikit-learn (given these to stratify by, and the groups), or index arrays.
    task : {"survival", "classification", "regression"}, default="survival"
    metrics : mapping of str to callable (TestFold) -> float or Score, optional
        By default of survival ``c``, Harrell's concordance, and ``ibs``, the integrated Brier score
        over `TestFold.times`; of classes ``accuracy`` and ``log_loss``; of numbers ``r2`` and
        ``rmse``.
    strata : column name, optional
        ``c`` compares pairs within a level of this column of `X`, for every model. By default the
        `strata` of the models that have any: their risks are comparable within a stratum only.
    groups : column name or array-like, shape (n,), optional
        Rows of one label stay together in folds (patients with several rows, clinics); a splitter
        is given them. By default the `id` or else the `cluster` of the models that have one.
    cache : path, optional
        A folder in which the scores of each model and fold are kept. What is there already, of the
        same parameters, data, rows, metrics and version of the package, is not computed again, so
        that an interrupted comparison goes on; the code of models from elsewhere is not looked at.
    error_score : float or "raise", default=nan
        What a model scores in a fold in which it fails: the others go on, a warning and the table
        name the failure. "raise" ends the comparison.
    n_jobs : int, optional
        Fits at once, in processes; None is one.
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError, TypeError
        An outcome or folds that are at fault, models of different strata; every model failed in
        one fold. With ``error_score="raise"`` an error of a model or metric is raised as it is,
        with a note of the model, repeat and fold.

    Examples
    --------
    >>> from mmfusion import Tabular
    >>> from mmfusion.datasets import load_metabric
    >>> from mmfusion.evaluation import CoxRidge, compare
    >>> metabric = load_metabric()
    >>> models = {
    ...     name: CoxRidge(Tabular(columns))
    ...     for name, columns in {"age": ["age"], "clinical": metabric.clinical}.items()
    ... }
    >>> comparison = compare(models, metabric.frame, metabric.target, folds=5)
    >>> comparison.table()["c"].round(3)
              mean     sd  lower  upper
    model
    age       ...
    clinical  ...
    >>> comparison.differences("age")[["difference", "lower", "upper"]].shape
    (1, 3)
    """
    if not models:
        raise ValueError("The models parameter must hold at least one model. Got {}.")
    if error_score != "raise" and (not isinstance(error_score, Real) or error_score is True):
        raise ValueError(
            f"The error_score parameter must be 'raise' or a number. Got {error_score!r}."
        )
    for name, model in models.items():
        check_model(name, model)
    outcome = check_outcome(y, task, X)
    labels_of_groups = check_groups(groups, models, X)
    classes = task == "classification"
    parts = check_folds(folds, outcome, classes=classes, groups=labels_of_groups, X=X)
    metrics = DEFAULTS[task] if metrics is None else metrics
    strata = common_column(models, "strata") if strata is None else strata
    labels = None if strata is None else take_column(X, strata, "strata").to_numpy()
    numbers = number_repeats(parts, len(outcome))
    cohort = _Cohort(X, outcome, labels, metrics, labels_of_groups)
    tasks = [
        _Task(name, *number, *part)
        for number, part in zip(numbers, parts, strict=True)
        for name in models
    ]
    store = None if cache is None else FoldCache(cache)
    keys: list[str] = [""] * len(tasks) if store is None else _keys(models, cohort, tasks)
    found = [store.read(key) if store else None for key in keys]
    jobs = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_evaluate)(fit, models[fit.name], cohort, store, key, error_score)
        for fit, key, entry in zip(tasks, keys, found, strict=True)
        if entry is None
    )
    scores, predictions, chosen = [], [], []
    failures = Failures(len(models), len(parts))
    pool = Pool(len(outcome), len(parts))
    with _progress(disable=not verbose) as progress:
        bar = progress.add_task("", total=len(tasks), now=tasks[0].name)
        for fit, kept in zip(tasks, found, strict=True):
            entry = next(jobs) if kept is None else kept
            if "failure" in entry:
                warnings.warn(
                    f"{fit} failed and scores {error_score}: {entry['failure']}",
                    UserWarning,
                    stacklevel=2,
                )
                failures.add(fit.name, fit.repeat, fit.fold, entry["failure"])
            sizes = {"n_train": len(fit.train), "n_test": len(fit.test)}
            scores.append(fit.key | sizes | entry["scores"])
            column = "risk" if task == "survival" else "prediction"
            predictions.append(
                pd.DataFrame(fit.key | {"row": fit.test, column: entry["predictions"]})
            )
            pool.add(fit.name, fit.test, entry["scores"], entry.get("influence", {}))
            if entry.get("chosen"):
                chosen.append(fit.key | entry["chosen"])
            progress.update(bar, advance=1, now=fit.name)
    every = pd.concat(predictions, ignore_index=True)
    return Comparison(
        pd.DataFrame(scores),
        every,
        pooled=pool.scores(),
        failures=failures.texts,
        notes=failures.notes,
        chosen=pd.DataFrame(chosen),
    )


@dataclass(frozen=True)
class _Cohort:
    """What every fit shares."""

    X: Any
    y: Outcome
    strata: np.ndarray | None
    metrics: Mapping[str, Metric]
    groups: np.ndarray | None


@dataclass(frozen=True)
class _Task:
    """One model in one fold."""

    name: str
    repeat: int
    fold: int
    train: np.ndarray
    test: np.ndarray

    @property
    def key(self) -> dict[str, Any]:
        return {"model": self.name, "repeat": self.repeat, "fold": self.fold}

    def __str__(self) -> str:
        return f"Model {self.name!r} in repeat {self.repeat}, fold {self.fold}"


def _keys(models: Mapping[str, Any], cohort: _Cohort, tasks: list[_Task]) -> list[str]:
    """Return what the result of each task is kept by: all that it is computed from."""
    known, roots = {}, set()
    for name, model in models.items():
        try:
            known[name] = fingerprint(model)
            roots.update(roots_in(model))
        except ValueError as error:
            raise ValueError(
                f"The cache parameter must be None for model {name!r}: {error}"
            ) from error
    try:
        data = fingerprint(version("mmfusion"), cohort, roots=sorted(roots))
    except ValueError as error:
        raise ValueError(f"The cache parameter must be None for such data: {error}") from error
    return [fingerprint(data, known[task.name], task.train, task.test) for task in tasks]


def _evaluate(
    task: _Task,
    model: Any,
    cohort: _Cohort,
    store: FoldCache | None,
    key: str,
    error_score: str | float,
) -> dict[str, Any]:
    """Return a fold's scores and predictions, and keep them."""
    try:
        entry = _fit_and_score(task, model, cohort)
    except Exception as error:
        if error_score == "raise":
            error.add_note(f"{task}.")
            raise
        return {
            "failure": f"{type(error).__name__}: {error}",
            "scores": dict.fromkeys([*cohort.metrics, "seconds"], float(error_score)),
            "predictions": float("nan"),
        }
    if store is not None:
        store.write(key, entry)
    return entry


def _fit_and_score(task: _Task, model: Any, cohort: _Cohort) -> dict[str, Any]:
    started = time.perf_counter()
    y_train = take(cohort.y, task.train)
    inner = {}
    if cohort.groups is not None and "groups" in signature(model.fit).parameters:
        inner["groups"] = cohort.groups[task.train]  # a search deals folds of its own
    fitted = clone(model).fit(_rows(cohort.X, task.train), for_fit(y_train), **inner)
    if getattr(getattr(fitted, "best_estimator_", fitted), "interrupted_", False):
        raise KeyboardInterrupt  # Ctrl-C leaves a half-trained network: no result of this model
    strata = None if cohort.strata is None else cohort.strata[task.test]
    X_test = _rows(cohort.X, task.test)
    y_test = any_event(take(cohort.y, task.test))
    seen = TestFold(fitted, X_test, y_test, any_event(y_train), strata)
    prediction = seen.risk if isinstance(cohort.y, Survival) else seen.prediction
    seconds = time.perf_counter() - started
    found = {label: metric(seen) for label, metric in cohort.metrics.items()}
    return {
        "scores": {label: float(score) for label, score in found.items()} | {"seconds": seconds},
        "predictions": prediction.tolist(),
        "influence": {
            label: {"rows": score.rows.tolist(), "scale": score.scale}
            for label, score in found.items()
            if isinstance(score, Score)
        },
        "chosen": _chosen(fitted),
    }


def _chosen(fitted: Any) -> dict[str, Any]:
    """Return what a search found best, as texts, its position, and the score by which it did."""
    if not hasattr(fitted, "best_params_"):
        return {}
    params = {name: repr(value) for name, value in fitted.best_params_.items()}
    inner = float(getattr(fitted, "best_score_", float("nan")))
    return {"trial": int(getattr(fitted, "best_index_", 0)), "inner score": inner, **params}


def _rows(X: Any, rows: np.ndarray) -> Any:
    return X.iloc[rows] if hasattr(X, "iloc") else X[rows]


def _progress(disable: bool) -> Progress:
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("fits"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}"),
        disable=disable,
    )
