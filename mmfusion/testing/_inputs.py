"""Checks of what a survival estimator takes and refuses."""

from __future__ import annotations

from inspect import signature
from typing import Any
from unittest import SkipTest

import numpy as np
import pandas as pd
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator, clone

from mmfusion.survival import surv
from mmfusion.testing._data import curve_grid, fitted, make_data, refused

__all__ = [
    "check_array_and_frame_agree",
    "check_bad_outcomes",
    "check_bad_times",
    "check_censored_validation_rows",
    "check_constant_column",
    "check_delayed_entry_not_ignored",
    "check_different_lengths",
    "check_few_events",
    "check_outcome_forms_agree",
    "check_tied_times",
    "check_zero_time",
]


def check_outcome_forms_agree(estimator: BaseEstimator) -> None:
    """Check that all forms of an outcome mean the same: any names of fields, DataFrame, tuple."""
    X, y = make_data()
    named = np.empty(len(y), dtype=[("dead", bool), ("months", np.float64)])
    named["dead"], named["months"] = y["event"], y["time"]
    forms: dict[str, Any] = {
        "a structured array with fields of other names": named,
        "a DataFrame": pd.DataFrame({"time": y["time"], "event": y["event"]}, index=X.index),
        "a tuple": (y["time"], y["event"]),
    }
    model = fitted(estimator, X, y)
    risk, score = model.predict(X), model.score(X, y)
    for form, outcome in forms.items():
        assert_allclose(
            fitted(estimator, X, outcome).predict(X), risk, rtol=1e-6, atol=1e-9, err_msg=form
        )
        assert_allclose(model.score(X, outcome), score, err_msg=form)


def check_array_and_frame_agree(estimator: BaseEstimator) -> None:
    """Check that a bare array and a DataFrame of the same numbers give the same predictions."""
    X, y = make_data()
    frame = fitted(estimator, X, y).predict(X)
    array = fitted(estimator, X.to_numpy(), y).predict(X.to_numpy())
    assert_allclose(array, frame, rtol=1e-6, atol=1e-9)


def check_bad_outcomes(estimator: BaseEstimator) -> None:
    """Check that an outcome that cannot be is refused before anything is fitted."""
    X, y = make_data()
    time, event = y["time"], y["event"]

    def changed(array: np.ndarray, value: float) -> np.ndarray:
        array = array.astype(np.float64)
        array[5] = value
        return array

    for what, outcome in {
        "a missing time": (changed(time, np.nan), event),
        "an infinite time": (changed(time, np.inf), event),
        "a negative time": (changed(time, -1.0), event),
        "a missing event": (time, changed(event, np.nan)),
        "an event of 0.5": (time, changed(event, 0.5)),
        "an outcome without events": (time, np.zeros(len(y), dtype=bool)),
        "numbers instead of an outcome": time,
        "no outcome": None,
    }.items():
        with refused(ValueError, f"fit on {what}"):
            clone(estimator).fit(X, outcome)


def check_different_lengths(estimator: BaseEstimator) -> None:
    """Check that as many outcomes as rows, at fit and at score."""
    X, y = make_data()
    with refused(ValueError, "fit on more rows than outcomes"):
        clone(estimator).fit(X, y[:-1])
    with refused(ValueError, "fit on more outcomes than rows"):
        clone(estimator).fit(X.iloc[:-1], y)
    model = fitted(estimator, X, y)
    with refused(ValueError, "score on more rows than outcomes"):
        model.score(X, y[:-1])


def check_bad_times(estimator: BaseEstimator) -> None:
    """Check that curves are asked for at finite times that are not negative, and no durations."""
    X, y = make_data()
    model = fitted(estimator, X, y)
    for time in (-1.0, np.nan, np.inf):
        with refused(ValueError, f"predict_survival_function at {time}"):
            model.predict_survival_function(X, times=[0.5, time])
    with refused(TypeError, "predict_survival_function at durations"):  # would be nanoseconds
        model.predict_survival_function(X, times=pd.to_timedelta([180, 365], unit="D"))


def check_tied_times(estimator: BaseEstimator) -> None:
    """Check that many events at one time give finite risks and curves."""
    X, y = make_data(tied=True)
    _assert_usable(fitted(estimator, X, y), X, y)


def check_zero_time(estimator: BaseEstimator) -> None:
    """Check that a time of zero is real: it is fitted, or refused with ValueError."""
    X, y = make_data()
    y["time"][4], y["event"][4] = 0.0, True
    try:
        model = fitted(estimator, X, y)
    except ValueError:
        return
    _assert_usable(model, X, y)


def check_few_events(estimator: BaseEstimator) -> None:
    """Check that two events in 20 rows are enough to fit."""
    X, y = make_data(20)
    y["event"] = False
    y["event"][[3, 7]] = True
    _assert_usable(fitted(estimator, X, y), X, y)


def check_constant_column(estimator: BaseEstimator) -> None:
    """Check that a column constant in the training rows does no harm, whatever it holds later."""
    X, y = make_data()
    X["b"] = 1.0
    model = fitted(estimator, X, y)
    _assert_usable(model, X, y)
    _assert_usable(model, X.assign(b=2.0), y)


def check_censored_validation_rows(estimator: BaseEstimator) -> None:
    """Check that validation rows may all be censored: they stop nothing and break nothing."""
    if "eval_set" not in signature(estimator.fit).parameters:
        raise SkipTest("fit takes no eval_set")
    X, y = make_data()
    held = surv(y["time"][:20], np.zeros(20, dtype=bool))
    _assert_usable(fitted(estimator, X, y, eval_set=(X.iloc[:20], held)), X, y)


def check_delayed_entry_not_ignored(estimator: BaseEstimator) -> None:
    """Check that entry times are used, or refused with ValueError; they are never ignored."""
    X, y = make_data()
    entry = np.where(np.arange(len(y)) % 2, 0.9 * y["time"], 0.0)
    delayed = surv(y["time"], y["event"], entry)
    try:
        model = fitted(estimator, X, delayed)
    except ValueError:
        return
    grid = curve_grid(y)
    without = fitted(estimator, X, y).predict_survival_function(X, times=grid)
    assert (
        np.abs(model.predict_survival_function(X, times=grid) - without).to_numpy().max() > 1e-3
    ), "Entry times were accepted and ignored."
    late = surv(y["time"], y["event"])
    with refused(ValueError, "fit on an entry after its exit"):
        clone(estimator).fit(X, (late["time"], late["event"], late["time"] + 1.0))


def _assert_usable(model: Any, X: pd.DataFrame, y: np.ndarray) -> None:
    assert np.isfinite(model.predict(X)).all(), "predict returned NaN or infinite risks."
    curves = model.predict_survival_function(X, times=curve_grid(y)).to_numpy()
    assert ((curves >= 0) & (curves <= 1)).all(), "Survival curves left [0, 1]."
