"""Intervals of scores, of differences of two models' scores, by cluster and by subgroup."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.inputs.labels import check_labels
from mmfusion.inputs.parameters import check_choice
from mmfusion.metrics.influence import (
    auc_scores,
    brier_scores,
    harrell_score,
    integrated,
    uno_score,
)
from mmfusion.metrics.plain import PLAIN, plain_score
from mmfusion.metrics.score import Score
from mmfusion.survival import check_survival

__all__ = ["score_interval", "scores_with_influence"]

#: Scores of a risk, and of survival probabilities.
OF_RISK = ("harrell", "uno", "auc")
OF_CURVES = ("brier", "scaled_brier", "ibs", "scaled_ibs")
METRICS = (*OF_RISK, *OF_CURVES, *PLAIN)


def score_interval(
    metric: str,
    y: Any,
    prediction: Any,
    *,
    reference: Any = None,
    times: Any = None,
    tau: float | None = None,
    y_train: Any = None,
    strata: Any = None,
    cluster: Any = None,
    groups: Any = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return a score of predictions with its standard error and interval.

    Of a model that did not see the rows: the interval says what the score of this very model would
    be in other rows of the same kind. It is that of the infinitesimal jackknife (R's
    ``concordance`` for Harrell's C), on the logit for shares and on the log for errors, with t
    quantiles that know on how few rows a score may hang. It allows
    for the censoring weights having been estimated from the rows, and for nothing of the training.

    Parameters
    ----------
    metric : str
        Of a risk: "harrell", "uno", "auc" (cumulative/dynamic, at `times`, and their mean).
        Of survival probabilities: "brier" at `times`, "ibs" (over them), "scaled_brier" and
        "scaled_ibs": 1 less the ratio to the error of the Kaplan-Meier curve of `y_train`.
        Of classes or numbers: "accuracy" (of predicted classes), "log_loss" (of probabilities),
        "roc_auc" (two classes, of the second's probability), "r2", "rmse".
    y : outcome, n rows
    prediction : array-like
        As the metric's own function takes it: risks of shape (n,), survival probabilities (n, k)
        (a DataFrame brings its times), classes, numbers, or for "log_loss" probabilities (n, K) of
        the classes in sorted order, of two classes also the second's (n,). A DataFrame whose
        columns are the classes may have some that `y` lacks.
    reference : array-like, optional
        The prediction of another model for the same rows: the table is then of the difference,
        `prediction` less `reference`, with a p-value.
    times : array-like of float, optional
    tau : float, optional
        Of "uno": only events before it count.
    y_train : outcome, optional
        The rows that tell the censoring, taken as known; by default those of `y`, and what they
        move it by is part of the interval.
    strata : array-like, shape (n,), optional
        Of "harrell": pairs within a stratum.
    cluster : array-like, shape (n,), optional
        Rows that are not independent; see `Score.interval`.
    groups : array-like, shape (n,), optional
        A subgroup of each row; each is scored by itself.
    level : float, default=0.95

    Returns
    -------
    DataFrame
        score, se, lower, upper; of differences also p. Indexed by ``score`` (the metric, or the
        times of "auc", "brier" and "scaled_brier"); with groups by group and score.

    Raises
    ------
    ValueError
        An unknown metric, a parameter that it does not read, and what the metric's own function
        refuses.

    Examples
    --------
    >>> from mmfusion.metrics import score_interval
    >>> y = ([1, 2, 3, 4, 5, 6], [1, 1, 0, 1, 1, 0])
    >>> score_interval("harrell", y, [0.9, 0.3, 0.5, 0.4, 0.6, 0.1]).round(3)
             score     se  lower  upper
    score
    harrell  0.667  0.226  0.128  0.965
    """
    settings = {"times": times, "tau": tau, "y_train": y_train, "strata": strata}
    n = _n_rows(metric, y)
    predicted = _of_rows("prediction", prediction, n)
    others = None if reference is None else _of_rows("reference", reference, n)
    clusters = None if cluster is None else check_labels(cluster, n, "cluster")
    parts: dict[Any, np.ndarray] = {None: np.arange(n)}
    if groups is not None:
        code, levels = pd.factorize(check_labels(groups, n, "groups"), sort=True)
        parts = {level: np.flatnonzero(code == k) for k, level in enumerate(levels)}
    tables = {}
    for name, rows in parts.items():
        chosen = _take(y, rows)
        own = settings | {"strata": None if strata is None else _take(strata, rows)}
        scores = scores_with_influence(metric, chosen, _take(predicted, rows), **own)
        if others is not None:
            base = scores_with_influence(metric, chosen, _take(others, rows), **own)
            scores = {key: score - base[key] for key, score in scores.items()}
        mine = None if clusters is None else clusters[rows]
        tables[name] = _table(scores, level, mine, difference=others is not None)
    if groups is None:
        return tables[None]
    return pd.concat(tables, names=["group"])


def scores_with_influence(
    metric: str,
    y: Any,
    prediction: Any,
    *,
    times: Any = None,
    tau: float | None = None,
    y_train: Any = None,
    strata: Any = None,
) -> dict[Hashable, Score]:
    """Return the scores behind `score_interval`, each with the influence of every row.

    They subtract, average and sum by cluster: see `Score`.

    Parameters
    ----------
    metric, y, prediction, times, tau, y_train, strata
        As of `score_interval`.

    Returns
    -------
    dict of str or float to Score
        By the times of "auc", "brier" and "scaled_brier" (and "mean" of several AUCs), else the
        metric's name.
    """
    check_choice("metric", metric, METRICS)
    read = {
        "times": metric == "auc" or metric in OF_CURVES,
        "tau": metric == "uno",
        "y_train": metric == "uno" or metric == "auc" or metric in OF_CURVES,
        "strata": metric == "harrell",
    }
    given = {"times": times, "tau": tau, "y_train": y_train, "strata": strata}
    for name, value in given.items():
        if value is not None and not read[name]:
            raise ValueError(f"The {name} parameter says nothing of {metric!r}: leave it out.")
    if metric == "harrell":
        return {metric: harrell_score(y, prediction, strata)}
    if metric == "uno":
        return {metric: uno_score(y, prediction, tau, y_train)}
    if metric == "auc":
        return auc_scores(y, prediction, times, y_train)
    if metric in PLAIN:
        return {metric: plain_score(metric, y, prediction)}
    grid, scores, constant = brier_scores(y, prediction, times, y_train)
    scaled = metric.startswith("scaled")
    if metric.endswith("ibs"):
        score = integrated(grid, scores)
        return {metric: score.share_of(integrated(grid, constant)) if scaled else score}
    if scaled:
        scores = [one.share_of(other) for one, other in zip(scores, constant, strict=True)]
    return dict(zip(grid.tolist(), scores, strict=True))


def _table(scores: dict, level: float, cluster: Any, *, difference: bool) -> pd.DataFrame:
    rows = {key: score.interval(level, cluster) for key, score in scores.items()}
    table = pd.DataFrame.from_dict(
        rows, orient="index", columns=["score", "se", "lower", "upper"]
    ).rename_axis("score")
    if difference:
        table["p"] = [score.p_value(cluster) for score in scores.values()]
    return table


def _n_rows(metric: str, y: Any) -> int:
    check_choice("metric", metric, METRICS)
    return len(y) if metric in PLAIN else len(check_survival(y, require_events=False))


def _of_rows(name: str, values: Any, n: int) -> Any:
    values = values if isinstance(values, (pd.DataFrame, pd.Series)) else np.asarray(values)
    if not len(np.shape(values)) or len(values) != n:
        raise ValueError(
            f"The {name} parameter must have a row for each of the {n} rows of y. "
            f"Got shape {np.shape(values)}."
        )
    return values


def _take(values: Any, rows: np.ndarray) -> Any:
    """Return the same rows of an outcome, a table or an array."""
    if isinstance(values, tuple):
        return tuple(np.asarray(part)[rows] for part in values)
    if isinstance(values, list) and len(values) and np.ndim(values[0]):
        return _take(tuple(values), rows)
    if hasattr(values, "iloc"):
        return values.iloc[rows]
    return values.take(rows) if hasattr(values, "delayed") else np.asarray(values)[rows]
