"""Models fitted and scored on the same folds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sklearn.base import clone

from mmfusion.evaluation.comparison import Comparison
from mmfusion.evaluation.folds import check_folds, number_repeats
from mmfusion.metrics import concordance_index, evaluation_times, integrated_brier_score
from mmfusion.survival import Survival, check_survival

__all__ = ["TestFold", "compare"]


@dataclass(eq=False)
class TestFold:
    """A fitted model and the rows it has not seen: what a metric of `compare` takes.

    Attributes
    ----------
    model : estimator
        Fitted on the training rows.
    X : DataFrame or ndarray
        The test rows.
    y, y_train : Survival
        The outcomes of the test rows and of the training rows.
    """

    __test__ = False  # no test class of pytest's

    model: Any
    X: Any
    y: Survival
    y_train: Survival

    @cached_property
    def risk(self) -> np.ndarray:
        """What ``model.predict`` returns, shape (n_test,); higher is worse."""
        return np.asarray(self.model.predict(self.X), dtype=np.float64)

    @cached_property
    def times(self) -> np.ndarray:
        """Where curves are scored: `mmfusion.metrics.evaluation_times` of the training rows."""
        return evaluation_times(self.y_train)

    def survival(self, times: np.ndarray) -> np.ndarray | None:
        """Return survival probabilities, shape (n_test, n_times); None for a model without curves.

        scikit-survival's estimators return functions of time, ours take the times.
        """
        predict = getattr(self.model, "predict_survival_function", None)
        if predict is None:
            return None
        if "times" in signature(predict).parameters:
            return np.asarray(predict(self.X, times=times), dtype=np.float64)
        return np.vstack([curve(times) for curve in predict(self.X)])


Metric = Callable[[TestFold], float]


def harrell(fold: TestFold) -> float:
    """Return Harrell's C of the test rows."""
    return concordance_index(fold.y, fold.risk)


def integrated_brier(fold: TestFold) -> float:
    """Return the integrated Brier score of the test rows; NaN for a model without curves."""
    curves = fold.survival(fold.times)
    if curves is None:
        return float("nan")
    return integrated_brier_score(fold.y_train, fold.y, curves, fold.times)


METRICS: Mapping[str, Metric] = {"c": harrell, "ibs": integrated_brier}


def compare(
    models: Mapping[str, Any],
    X: Any,
    y: Any,
    folds: Any = 5,
    *,
    metrics: Mapping[str, Metric] | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> Comparison:
    """Fit a clone of each model on the same folds and score it on the rows left out.

    Parameters
    ----------
    models : mapping of str to estimator
        Survival estimators with ``fit(X, y)`` and ``predict(X)`` (a risk, higher is worse), ours
        or scikit-survival's; with ``predict_survival_function`` they get a Brier score too.
    X : DataFrame or ndarray, n rows
    y : outcome, n rows
        See `mmfusion.survival.check_survival`.
    folds : int, splitter or iterable of (train, test), default=5
        A number of folds (stratified by the event, shuffled with seed 0), a splitter of
        scikit-learn (given the event to stratify by), or index arrays.
    metrics : mapping of str to callable (TestFold) -> float, optional
        By default ``c``, Harrell's concordance, and ``ibs``, the integrated Brier score over
        `TestFold.times`.
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
        An outcome or folds that are at fault. An error of a model or metric is raised as it is,
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
              mean     sd
    model
    age       ...
    clinical  ...
    >>> comparison.differences("age")[["difference", "lower", "upper"]].shape
    (1, 3)
    """
    if not models:
        raise ValueError("The models parameter must hold at least one model. Got {}.")
    outcome = check_survival(y, index=getattr(X, "index", None), n_rows=len(X))
    parts = check_folds(folds, outcome)
    numbers = number_repeats(parts, len(outcome))
    tasks = [
        (name, number, part) for number, part in zip(numbers, parts, strict=True) for name in models
    ]
    jobs = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_evaluate)(name, models[name], X, outcome, *task, metrics or METRICS)
        for name, *task in tasks
    )
    scores, risks = [], []
    with _progress(disable=not verbose) as progress:
        bar = progress.add_task("", total=len(tasks), now=tasks[0][0])
        for (record, risk), (name, *_) in zip(jobs, tasks, strict=True):
            scores.append(record)
            risks.append(risk)
            progress.update(bar, advance=1, now=name)
    return Comparison(pd.DataFrame(scores), pd.concat(risks, ignore_index=True))


def _evaluate(
    name: str,
    model: Any,
    X: Any,
    y: Survival,
    number: tuple[int, int],
    part: tuple[np.ndarray, np.ndarray],
    metrics: Mapping[str, Metric],
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return a fold's row of scores and its out-of-fold risks."""
    (repeat, fold), (train, test) = number, part
    key = {"model": name, "repeat": repeat, "fold": fold}
    try:
        started = time.perf_counter()
        y_train = y.take(train)
        fitted = clone(model).fit(_rows(X, train), y_train.to_structured())
        seen = TestFold(fitted, _rows(X, test), y.take(test), y_train)
        risk = seen.risk
        seconds = time.perf_counter() - started
        scores = {label: float(metric(seen)) for label, metric in metrics.items()}
    except Exception as error:
        error.add_note(f"Model {name!r} in repeat {repeat}, fold {fold}.")
        raise
    sizes = {"n_train": len(train), "n_test": len(test)}
    return key | sizes | scores | {"seconds": seconds}, pd.DataFrame(
        key | {"row": test, "risk": risk}
    )


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
