"""The trials of a study in scikit-learn's columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.ma import MaskedArray
from scipy.stats import rankdata

from mmfusion.tuning.space import Space
from mmfusion.tuning.worker import FOLDS, begun

__all__ = ["results_of"]


def results_of(study: Any, space: Space, scores: Sequence[str], n_folds: int) -> dict[str, Any]:
    """Return ``cv_results_``: an entry a trial, in the order in which they were begun.

    Trials that were pruned have NaN in folds that did not run and, in their means, what did run;
    they are ranked behind those that were judged on all folds, and so are those that failed.

    Parameters
    ----------
    study : Optuna's study
    space : Space
    scores : sequence of str
    n_folds : int

    Returns
    -------
    dict
        Besides scikit-learn's columns ``trial``, the number in the study, and ``state``.

    Raises
    ------
    ValueError
        If no trial is finished.
    """
    trials = [trial for trial in begun(study) if trial.state.is_finished()]
    if not trials:
        raise ValueError("The timeout parameter must leave time for a trial. Got none finished.")
    params = [space.of(trial.params) for trial in trials]
    records = [
        [trial.user_attrs.get(FOLDS, {}).get(str(fold)) for fold in range(n_folds)]
        for trial in trials
    ]
    whole = np.array([all(of_trial) for of_trial in records], dtype=bool)
    results: dict[str, Any] = {
        "trial": np.array([trial.number for trial in trials]),
        "state": np.array([_state(trial, all_) for trial, all_ in zip(trials, whole, strict=True)]),
        "params": params,
    }
    for name in dict.fromkeys(name for each in params for name in each):
        column = MaskedArray(np.empty(len(params), dtype=object), mask=True)
        for row, each in enumerate(params):
            if name in each:
                column[row] = each[name]
        results[f"param_{name}"] = column
    for time in ("fit_time", "score_time"):
        seconds = _table(records, lambda record, time=time: record[time])
        results[f"mean_{time}"], results[f"std_{time}"] = _moments(seconds)
    for name in scores:
        table = _table(records, lambda record, name=name: record["scores"][name])
        for fold in range(n_folds):
            results[f"split{fold}_test_{name}"] = table[:, fold]
        mean, sd = _moments(table)
        results[f"mean_test_{name}"], results[f"std_test_{name}"] = mean, sd
        results[f"rank_test_{name}"] = _rank(mean, whole)
    return results


def _state(trial: Any, whole: bool) -> str:
    """Return "complete", "pruned" or "failed"; a trial pruned by fold is complete to Optuna."""
    if trial.state.name == "COMPLETE":
        return "complete" if whole else "pruned"
    return {"PRUNED": "pruned", "FAIL": "failed"}[trial.state.name]


def _table(records: Any, get: Any) -> np.ndarray:
    rows = [[np.nan if record is None else get(record) for record in row] for row in records]
    return np.array(rows, dtype=np.float64)


def _moments(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each row over the folds that ran; NaN of none."""
    ran = ~np.isnan(table)
    count = np.where(ran.any(1), ran.sum(1), np.nan)
    mean = np.where(ran, table, 0.0).sum(1) / count
    return mean, np.sqrt(np.where(ran, (table - mean[:, None]) ** 2, 0.0).sum(1) / count)


def _rank(mean: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return ranks from 1 on, the best first: whole trials, then pruned ones, then the rest."""
    order = np.where(np.isnan(mean), np.inf, -mean)
    tier = np.where(np.isnan(mean), 2, np.where(whole, 0, 1))
    _, dense = np.unique(np.stack([tier, order]), axis=1, return_inverse=True)
    return rankdata(dense, method="min").astype(np.int32)
