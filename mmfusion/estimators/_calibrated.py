"""Calibration of fitted distributions by rows that the model has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from mmfusion.inputs.labels import check_order
from mmfusion.inputs.parameters import check_number
from mmfusion.metrics import ConformalIntervals, Recalibration
from mmfusion.model.seen import refuse_seen

__all__ = ["CalibratedPredictions"]


class CalibratedPredictions:
    """`calibrate`, and what predictions make of it; mixed into a model of whole distributions.

    Attributes
    ----------
    intervals_ : dict of float to ConformalIntervals
        By level, after `calibrate` without censoring.
    recalibration_ : Recalibration
        After `calibrate` with survival times, or other outcomes known by limits.
    """

    _head: Any
    model_: Any
    modalities_: Any
    seen_: Any
    _predictors: Callable[..., Any]

    def calibrate(
        self, X: pd.DataFrame | np.ndarray, y: Any, level: float | Sequence[float] = 0.9
    ) -> Self:
        """Correct predictions by rows that the model has not seen, in place.

        Of numbers: `predict_interval` of these levels holds them on new rows, whatever the model
        got wrong, if those rows and the new ones are exchangeable (conformalised quantile
        regression, `mmfusion.metrics.ConformalIntervals`). All else stays as it is.

        Of survival times, and of outcomes known by limits: distributions, means, quantiles,
        intervals and curves are moved to agree with how often outcomes lie below them
        (`mmfusion.metrics.Recalibration`, which needs at least 10 that were observed). It corrects
        what is wrong alike for all rows, and rests on this: where a row is censored says nothing
        of where its outcome lies in its predicted distribution. It promises no level. Parameters,
        effects and `predict_band` stay those of the fit.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
            Neither rows of `fit` nor such as chose the model, and independent of each other.
        y : outcome of n rows
            In any form that `fit` takes.
        level : float or sequence of float, default=0.9
            Of the intervals that will be asked for; nothing where outcomes are recalibrated.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Levels that n rows are too few for, a family of levels, recalibration of counts, or rows
            of `fit`, which are told by hashes.
        """
        check_is_fitted(self)
        check_order(X=X, y=y)
        levels: list[float] = np.atleast_1d(np.asarray(level)).tolist()
        for one in levels:
            check_number("level", one, 0, 1, open_ends="low and high")
        if hasattr(self, "classes_"):
            raise ValueError(
                "The levels of an outcome have no intervals to calibrate. Got family="
                f"{self.family!r}."  # type: ignore[attr-defined]
            )
        frame, eta = self._predictors(X)
        fitted = self._head.distribution(eta)
        target = self._head.encode(y, index=frame.index)
        if len(target) != len(frame):
            raise ValueError(f"X has {len(frame)} rows, y {len(target)}: they must be the same.")
        if self._head.survival_ or not target.exact:
            found: dict[str, Any] = {"recalibration_": Recalibration.fit(y, fitted)}
        else:
            known, intervals = target.lower.numpy(), {}
            for one in levels:
                lower, upper = fitted.quantile([0.5 - one / 2, 0.5 + one / 2]).T
                intervals[one] = ConformalIntervals.fit(known, lower, upper, one)
            found = {"intervals_": intervals}
        if self.seen_ is not None:
            refuse_seen(self.seen_.alike(frame, target, self.model_.columns), frame, "calibrate")
        self._uncalibrate()
        vars(self).update(found)
        return self

    def _uncalibrate(self) -> None:
        for name in ("intervals_", "recalibration_"):
            vars(self).pop(name, None)

    def _distribution(self, eta: np.ndarray) -> Any:
        """Return the distributions that predictors mean, recalibrated where the model is."""
        found = self._head.distribution(eta)
        recalibration = getattr(self, "recalibration_", None)
        return found if recalibration is None else recalibration(found)

    def _interval(self, eta: np.ndarray, level: float) -> np.ndarray:
        """Return the bounds of intervals, shape (n, 2)."""
        found = self._distribution(eta)
        ends: np.ndarray = found.quantile([0.5 - level / 2, 0.5 + level / 2])
        known = getattr(self, "intervals_", None)
        if known is None:
            return ends
        if float(level) not in known:
            raise ValueError(
                f"The level parameter must be one that was calibrated: {sorted(known)}. "
                f"Got {level:g}: calibrate(X, y, level={[*sorted(known), level]}) knows it."
            )
        return np.clip(np.column_stack(known[float(level)].apply(*ends.T)), *found.support)

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = super()._state()  # type: ignore[misc]
        if hasattr(self, "intervals_"):
            state["intervals"] = [(c.level, c.margin, c.n) for c in self.intervals_.values()]
        if hasattr(self, "recalibration_"):
            known = self.recalibration_
            state["recalibration"] = (known.u, known.g, known.n_exact)
        return state

    def _restore(self, state: Mapping[str, Any], weights: Mapping[str, Any]) -> None:
        super()._restore(state, weights)  # type: ignore[misc]
        if "intervals" in state:
            self.intervals_ = {c[0]: ConformalIntervals(*c) for c in state["intervals"]}
        if "recalibration" in state:
            self.recalibration_ = Recalibration(*state["recalibration"])
