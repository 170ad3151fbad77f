"""Which trials of a search are taken: the best, or the first where no gain exceeds its error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmfusion.evaluation.fingerprint import fingerprint

__all__ = ["best_trial", "best_trials", "careful_trial"]


def best_trial(results: Mapping[str, Any], score: str) -> int:
    """Return the position in ``cv_results_`` of the best trial that was judged on all folds."""
    return int(results[f"rank_test_{score}"].argmin())


def best_trials(results: Mapping[str, Any], score: str, n_best: int) -> list[int]:
    """Return the positions of the best trials that were judged on all folds, the best first.

    Trials of the same parameters count once.
    """
    found: dict[str, int] = {}
    for position in np.argsort(results[f"rank_test_{score}"], kind="stable"):
        if results["state"][position] == "complete":
            found.setdefault(fingerprint(results["params"][position]), int(position))
    return list(found.values())[:n_best]


def careful_trial(results: Mapping[str, Any], score: str, ratios: Sequence[float]) -> int:
    """Return the best trial whose gain over the first exceeds its standard error; else the first.

    The rule of one standard error (Breiman, Friedman, Olshen & Stone 1984, section 3.4.3), of
    differences that are paired by fold. Training rows of folds overlap, so that the standard error
    of a mean of K differences is ``sqrt(1 / K + n_test / n_train)`` times their standard deviation
    (Nadeau & Bengio 2003, eq. 9).

    Parameters
    ----------
    results : mapping
        ``cv_results_``.
    score : str
    ratios : sequence of float
        Test rows over training rows, of each fold.

    Returns
    -------
    int
        Position in ``cv_results_``. Plainly the best where the first trial failed, and of a single
        fold, which tells of no error.
    """
    best = best_trial(results, score)
    whole = np.flatnonzero(results["state"] == "complete")
    own = whole[results["trial"][whole] == 0]
    n_folds = len(ratios)
    if not len(own) or n_folds < 2:
        return best
    folds = np.stack([results[f"split{fold}_test_{score}"] for fold in range(n_folds)], axis=1)
    gain = folds[whole] - folds[own]
    spread = gain.std(axis=1, ddof=1) * np.sqrt(1 / n_folds + np.mean(ratios))
    known = np.where(gain.mean(axis=1) > spread, gain.mean(axis=1), 0.0)
    return int(whole[known.argmax()]) if known.max() > 0 else int(own[0])
