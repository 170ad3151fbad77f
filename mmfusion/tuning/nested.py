"""What a search is worth: searches inside the folds that judge them, paired with each other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from mmfusion.estimators.base import FusionEstimator
from mmfusion.evaluation.comparison import Comparison
from mmfusion.evaluation.folds import check_folds
from mmfusion.evaluation.outcomes import check_outcome, task_of
from mmfusion.evaluation.paired import compare
from mmfusion.evaluation.roles import check_groups, check_model
from mmfusion.evaluation.scoring import resolve_scoring
from mmfusion.inputs.parameters import check_choice
from mmfusion.tuning.search import FusionSearchCV

__all__ = ["Nested", "nested_cross_validate"]

#: Scores that are losses, and the scorer by which an inner search makes them small.
INNER = {"log_loss": "neg_log_loss", "rmse": "neg_root_mean_squared_error"}


@dataclass(frozen=True, eq=False)
class Nested:
    """What `nested_cross_validate` found.

    Attributes
    ----------
    comparison : Comparison
        Scores a fold, out-of-fold predictions, figures.
    level : float
        Of the intervals.
    """

    comparison: Comparison
    level: float = 0.95

    @property
    def chosen(self) -> pd.DataFrame:
        """What each search found best in each outer fold, with its inner score."""
        return self.comparison.chosen

    @property
    def table(self) -> pd.DataFrame:
        """A row a candidate, columns (score, quantity).

        Of each score ``mean`` and ``sd`` over the outer folds, and the interval (``lower``,
        ``upper``) of the mean of these fitted models in other rows of the kind. Against the
        reference ``difference``, the interval of the corrected resampled t-test (``difference
        lower``, ``difference upper``; Nadeau & Bengio 2003), which is about models fitted to other
        training rows too, its p-value after Holm (``p``), and ``p of rows``, the p-value from the
        influence of the rows, which takes the fitted models as they are. ``seconds`` a fold, search
        and all. ``failure`` says why a candidate has no score.
        """
        whole = self.comparison
        table = whole.table(self.level)
        for metric in whole.metrics:
            if metric == "seconds" or len(whole.models) < 2:
                continue
            found = whole.differences(metric=metric, level=self.level, adjust="holm")
            for column, name in (
                ("difference", "difference"),
                ("lower", "difference lower"),
                ("upper", "difference upper"),
                ("p_adjusted", "p"),
            ):
                table[metric, name] = found[column].reindex(table.index)
            table[metric, "p of rows"] = [self._p_of_rows(name, metric) for name in table.index]
        order = dict.fromkeys(table.columns.get_level_values(0))
        table = table[[column for score in order for column in table.columns if column[0] == score]]
        table["failure", ""] = [whole.failures.get(name, "") for name in table.index]
        return table

    def _p_of_rows(self, name: str, metric: str) -> float:
        pooled = self.comparison.pooled
        ours = pooled.get(name, {}).get(metric)
        theirs = pooled.get(str(self.comparison.reference), {}).get(metric)
        if ours is None or theirs is None or ours is theirs:
            return float("nan")
        return (ours - theirs).p_value()

    def summary(self) -> str:
        """Return what was compared, the table as Markdown with Holm's p, and the notes."""
        return self.comparison.summary(self.level)


def nested_cross_validate(
    candidates: Mapping[str, Any],
    X: Any,
    y: Any,
    *,
    outer: Any = 5,
    n_repeats: int = 1,
    inner: Any = 5,
    n_trials: int = 30,
    sampler: Any = "tpe",
    pruning: str | None = None,
    timeout: float | None = None,
    n_best: int = 1,
    scoring: Any = None,
    groups: Any = None,
    reference: str | None = None,
    storage: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    error_score: str | float = float("nan"),
    random_state: int | None = 0,
    n_jobs: int | None = None,
    level: float = 0.95,
    verbose: int = 0,
) -> Nested:
    """Judge candidates, searches among them, on folds that no part of them has seen.

    Each candidate is fitted on the training rows of an outer fold, its preprocessing and its search
    included, and scored on the rows left out. The best inner score of a search is too good, since
    it chose by it; the outer score is not.

    Parameters
    ----------
    candidates : mapping of str to estimator, or to (estimator, space)
        An estimator is fitted as it is: an untuned model, a Pipeline, any search of its own. A pair
        is searched by `FusionSearchCV` with this space ("default", dict or function).
    X : DataFrame or ndarray, n rows
    y : outcome, n rows
    outer : int, splitter or iterable of (train, test), default=5
    n_repeats : int, default=1
        How often a number of outer folds is dealt anew.
    inner : int or splitter, default=5
        Folds within the training rows, of the pairs.
    n_trials, sampler, pruning, timeout, storage
        Of the searches of the pairs; see `FusionSearchCV`. Each outer fold's search is kept in the
        same storage, so that an interrupted call goes on.
    n_best : int, default=1
        Of the searches of estimators of `mmfusion.estimators`; of others, and of Pipelines, which
        cannot be averaged, the best trial is taken.
    scoring : None, str, scorer, list or dict of these by name, optional
        As for `compare_fusion`: by default "c" and "ibs" (survival), "accuracy" and "log_loss"
        (classes), "r2" and "rmse" (numbers). The pairs are searched by the first.
    groups : column name or array-like, shape (n,), optional
        Rows of one label stay together in outer folds, and in the inner ones of the pairs; by
        default those of the estimators' `id`, else of their `cluster`.
    reference : str, optional
        The candidate to which differences are taken, the first by default.
    cache : path, optional
        A folder in which each candidate's result in each outer fold is kept.
    error_score : float or "raise", default=nan
        What a candidate scores in a fold in which it fails: the others go on, and the table says
        why.
    random_state : int or None, default=0
        Of the folds and searches.
    n_jobs : int, optional
        Outer fits at once, in processes.
    level : float, default=0.95
    verbose : int, default=0
        1 shows a progress bar.

    Returns
    -------
    Nested
        Its ``table`` has a row a candidate.

    Raises
    ------
    ValueError, TypeError
        Before anything is fitted: candidates, outcome or folds that are at fault. Every candidate
        failed in one fold.

    Examples
    --------
    >>> from mmfusion import Tabular
    >>> from mmfusion.datasets import load_digits_cohort
    >>> from mmfusion.estimators import FusionCox
    >>> from mmfusion.tuning import nested_cross_validate
    >>> cohort = load_digits_cohort(n=120, random_state=0)
    >>> model = FusionCox({"clinic": Tabular(["age", "sex", "stage"])}, n_members=0)
    >>> candidates = {"as it is": model, "tuned": (model, {"linear": [True]})}
    >>> nested = nested_cross_validate(
    ...     candidates, cohort.frame, cohort.target, outer=2, inner=2, n_trials=1, scoring="c"
    ... )
    >>> nested.table["c"].columns.tolist()[:5]
    ['mean', 'sd', 'lower', 'upper', 'difference']
    """
    if not isinstance(candidates, Mapping) or not candidates:
        raise TypeError(
            "The candidates parameter must be a dict with at least one estimator, or one pair of "
            f"an estimator and its space, by name. Got {candidates!r}."
        )
    estimators = {
        name: candidate[0] if isinstance(candidate, tuple) and len(candidate) == 2 else candidate
        for name, candidate in candidates.items()
    }
    for name, estimator in estimators.items():
        check_model(name, estimator, "candidates")
    first = next(iter(estimators.values()))
    task = task_of(getattr(first, "estimator", first), y)
    outcome = check_outcome(y, task, X)
    metrics = resolve_scoring(scoring, task)
    labels = check_groups(groups, estimators, X)
    folds = check_folds(
        outer,
        outcome,
        classes=task == "classification",
        n_repeats=n_repeats,
        random_state=random_state,
        groups=labels,
    )
    reference = next(iter(candidates)) if reference is None else reference
    check_choice("reference", reference, candidates)
    settings = {
        "n_trials": n_trials,
        "cv": inner,
        "scoring": _inner_score(scoring, next(iter(metrics))),
        "sampler": sampler,
        "pruning": pruning,
        "timeout": timeout,
        "storage": storage,
        "random_state": random_state,
    }
    models = {
        name: candidate
        if estimators[name] is candidate
        else FusionSearchCV(
            *candidate,
            n_best=n_best if isinstance(candidate[0], FusionEstimator) else 1,
            **settings,
        )
        for name, candidate in candidates.items()
    }
    comparison = compare(
        models,
        X,
        outcome,
        folds,
        task=task,
        metrics=metrics,
        groups=labels,
        cache=cache,
        error_score=error_score,
        n_jobs=n_jobs,
        verbose=verbose,
    )
    return Nested(replace(comparison, reference=reference), level)


def _inner_score(scoring: Any, first: str) -> Any:
    """Return by what inner searches choose: the first of the outer scores, higher being better."""
    if callable(scoring):
        return scoring
    if isinstance(scoring, Mapping):
        first = scoring[first]
    return INNER.get(first, first) if isinstance(first, str) else first
