"""Predictions from each set of modalities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mmfusion.interpret._baseline import check_model
from mmfusion.interpret._formula import powerset, shapley_weight
from mmfusion.model.subjects import Subjects

__all__ = ["Subsets", "shapley"]

#: Of more modalities, whose sets would be more than a thousand, nothing is said.
MOST = 10

Names = tuple[str, ...]


class Subsets:
    """The predictors of some rows by each set of their modalities.

    A row that lacks a modality has the same predictor with and without it, the very same number.

    Parameters
    ----------
    estimator : FusionEstimator
        Fitted.
    X : DataFrame
    beside : bool
        Whether a row without modalities is taken at the formula as it stands beside them, not at
        the classical model.

    Attributes
    ----------
    table : DataFrame
    names : list of str
    sets : list of tuple of str
    """

    def __init__(self, estimator: Any, X: Any, *, beside: bool = False) -> None:
        check_model(estimator)
        self.estimator, self.model = estimator, estimator.model_
        self.names = list(estimator.modalities_)
        if not 1 <= len(self.names) <= MOST:
            raise ValueError(
                f"The sets of 1 to {MOST} modalities can be compared. The model has "
                f"{len(self.names)}."
            )
        self.sets = powerset(self.names)
        self.table = estimator._frame(X)
        subjects = Subjects.read(estimator.id, self.table, complete=False)
        shown = subjects.table(self.table)
        has = [subjects.spread(m.present(shown)) for m in estimator.modalities_.values()]
        self.present = np.stack(has, axis=1)
        context = getattr(estimator, "_curve_context", None)
        self.context = {} if context is None else context(self.table)
        self._beside = beside
        self._known = {names: self._of(names) for names in self.sets}

    def _of(self, names: Names) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the rows that have all of a set, their predictors, and which are of `alone`."""
        asked = np.array([name in names for name in self.names])
        rows = np.flatnonzero(self.present[:, asked].all(axis=1))
        structured = self.model.structured
        if names or (structured.complete and not self._beside):
            if not len(rows):
                return rows, np.zeros((0, 1)), np.zeros(0, dtype=bool)
            some = self.table.iloc[rows]
            _, eta, alone = self.estimator._predicted(some, list(names))
            return rows, eta, alone
        base = np.asarray(structured.pool_base, dtype=np.float64)
        eta = structured.predictor(structured.design(self.table), np.zeros((len(rows), len(base))))
        if not structured.complete and structured.layout is None:
            eta = eta + base  # the constant model
        if not np.isfinite(self.model.deep.pool.nothing(1, len(base))).all():
            raise ValueError(
                "Late fusion of curves predicts no curve of a row without modalities: there is "
                "nothing to compare with."
            )
        return rows, eta + self._presence(), np.zeros(len(rows), dtype=bool)

    def _presence(self) -> np.ndarray | float:
        """Return what the linear part makes of rows that have no modality."""
        linear = self.model.deep.linear
        if linear is None or "(present)" not in linear.coef:
            return 0.0
        center = linear.features.center["(present)"] * linear.features.factor["(present)"]
        return -center @ linear.coef["(present)"] @ linear.basis.T

    def of(
        self, names: Names, function: Callable[[Any, np.ndarray, Mapping[str, Any]], np.ndarray]
    ) -> np.ndarray:
        """Return what the head makes of the rows' predictors by a set of modalities, (n, ...)."""
        result: np.ndarray | None = None
        asked = [name in names for name in self.names]
        own = self.present & np.array(asked)
        for some in powerset(names):
            wanted = (own == np.array([name in some for name in self.names])).all(axis=1)
            rows, eta, alone = self._known[some]
            chosen = np.isin(rows, np.flatnonzero(wanted))
            for head, mine in (
                (self.model.head, chosen & ~alone),
                (self.model.alone, alone & chosen),
            ):
                if not mine.any():
                    continue
                context = {
                    name: None if labels is None else np.asarray(labels)[rows[mine]]
                    for name, labels in self.context.items()
                }
                found = np.asarray(function(head, eta[mine], context))
                if result is None:
                    result = np.full((len(self.table), *found.shape[1:]), np.nan)
                result[rows[mine]] = found
        assert result is not None
        return result


def shapley(
    names: list[str], values: Mapping[Names, Any]
) -> tuple[dict[str, Any], dict[tuple[str, str], Any]]:
    """Return each player's Shapley value, and the interaction of each two.

    Parameters
    ----------
    names : list of str
        M players.
    values : mapping of tuple of str to number or ndarray
        Of each set of them.

    Returns
    -------
    values : dict of str to number or ndarray
        Their sum is the value of all less that of none (Shapley 1953).
    interactions : dict of (str, str) to number or ndarray
        What two add together beyond what each adds alone, meaned over the sets of the others
        (Grabisch & Roubens 1999): above 0 they need each other, below they say the same.
    """

    def at(*chosen: str) -> Any:
        return values[tuple(name for name in names if name in chosen)]

    m = len(names)
    alone: dict[str, Any] = {}
    pairs: dict[tuple[str, str], Any] = {}
    for name in names:
        sets = powerset(other for other in names if other != name)
        alone[name] = sum(
            shapley_weight(len(some), m) * (at(*some, name) - at(*some)) for some in sets
        )
    for first, second in (pair for pair in powerset(names) if len(pair) == 2):
        sets = powerset(other for other in names if other not in (first, second))
        pairs[first, second] = sum(
            shapley_weight(len(some), m - 1)
            * ((at(*some, first, second) - at(*some, second)) - (at(*some, first) - at(*some)))
            for some in sets
        )
    return alone, pairs
