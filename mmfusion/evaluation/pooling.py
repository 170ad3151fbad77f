"""What folds say together: each model's score with the influence of every row, and its failures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmfusion.metrics import Score

__all__ = ["Failures", "Pool"]


class Pool:
    """Gathers the scores of folds into their means, as scores of the rows of the whole table.

    A row's influence on the mean over J folds is the sum of its influences in the folds that test
    it, divided by J (of the AUC: LeDell, Petersen & van der Laan 2015, Electron. J. Stat.
    9:1583-1607; of mean losses: Bayle et al. 2020). The fitted models are taken as they are.

    Parameters
    ----------
    n_rows, n_folds : int
    """

    def __init__(self, n_rows: int, n_folds: int) -> None:
        self.n_rows, self.n_folds = n_rows, n_folds
        self._values: dict[tuple[str, str], list[float]] = {}
        self._rows: dict[tuple[str, str], np.ndarray] = {}
        self._scales: dict[tuple[str, str], Any] = {}

    def add(
        self,
        model: str,
        test: np.ndarray,
        scores: Mapping[str, float],
        influence: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Add a fold: its test rows, its scores, and those rows' influences on them."""
        for metric, found in influence.items():
            key = model, metric
            self._values.setdefault(key, []).append(scores[metric])
            rows = self._rows.setdefault(key, np.zeros(self.n_rows))
            rows[test] += np.asarray(found["rows"]) / self.n_folds
            self._scales[key] = found["scale"]

    def scores(self) -> dict[str, dict[str, Score]]:
        """Return the mean scores by model and metric, those that every fold has."""
        pooled: dict[str, dict[str, Score]] = {}
        for (model, metric), values in self._values.items():
            if len(values) == self.n_folds:
                rows, scale = self._rows[model, metric], self._scales[model, metric]
                score = Score(float(np.mean(values)), rows, scale)
                pooled.setdefault(model, {})[metric] = score
        return pooled


class Failures:
    """Counts the folds in which models failed.

    Attributes
    ----------
    texts : dict of str to str
        Of each model that failed: in how many folds, and the first error.

    Parameters
    ----------
    n_models, n_folds : int
    """

    def __init__(self, n_models: int, n_folds: int) -> None:
        self.n_models, self.n_folds = n_models, n_folds
        self.texts: dict[str, str] = {}
        self._errors: dict[str, list[str]] = {}
        self._models: dict[tuple[int, int], int] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What to say of models that failed in all folds."""
        return tuple(
            f"Model {model!r} failed in all folds: {errors[0]}"
            for model, errors in self._errors.items()
            if len(errors) == self.n_folds
        )

    def add(self, model: str, repeat: int, fold: int, error: str) -> None:
        """Add a failure.

        Raises
        ------
        ValueError
            Where every model fails in the same fold: no mean would be left to compare.
        """
        errors = self._errors.setdefault(model, [])
        errors.append(error)
        self.texts[model] = f"failed in {len(errors)} of {self.n_folds} folds: {errors[0]}"
        at = repeat, fold
        self._models[at] = self._models.get(at, 0) + 1
        if self._models[at] == self.n_models:
            raise ValueError(
                f"Every model failed in repeat {repeat}, fold {fold}; the last, {model!r}, with "
                f"{error} error_score='raise' shows where."
            )
