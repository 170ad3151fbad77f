"""Checks of what a survival estimator predicts."""

from __future__ import annotations

from unittest import SkipTest

import numpy as np
import pandas as pd
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import spearmanr
from sklearn.base import BaseEstimator

from mmfusion.metrics import concordance_index
from mmfusion.survival import surv
from mmfusion.testing._data import curve_grid, fitted, make_data, prediction_methods

__all__ = [
    "check_batch_of_one",
    "check_cumulative_hazards",
    "check_curves_agree_with_risk",
    "check_extreme_rows",
    "check_medians_and_quantiles",
    "check_restricted_means",
    "check_risk_direction",
    "check_row_order",
    "check_score_direction",
    "check_survival_curves",
    "check_times_asked_for",
]


def check_risk_direction(estimator: BaseEstimator) -> None:
    """Check that `predict` returns a float a row, higher for who fails earlier."""
    X, y = make_data()
    risk = fitted(estimator, X, y).predict(X)
    assert isinstance(risk, np.ndarray)
    assert risk.shape == (len(X),), f"predict must return shape {(len(X),)}. Got {risk.shape}."
    assert risk.dtype.kind == "f"
    assert np.isfinite(risk).all()
    found = concordance_index(y, risk)
    assert found > 0.5, (
        f"A higher risk must mean an earlier event. The C-index on separable data is {found:.2f}."
    )


def check_score_direction(estimator: BaseEstimator) -> None:
    """Check that `score` is a float, higher for the outcome learned than for its opposite."""
    X, y = make_data()
    model = fitted(estimator, X, y)
    good, bad = model.score(X, y), model.score(X, surv(3.0 - y["time"], y["event"]))
    assert isinstance(good, float)
    assert good > bad, f"score must be higher where predictions are better. Got {good} and {bad}."


def check_survival_curves(estimator: BaseEstimator) -> None:
    """Check that curves start at 1, never rise, stay in [0, 1], at times that ascend by default."""
    X, y = make_data()
    model = fitted(estimator, X, y)
    for curves in (
        model.predict_survival_function(X),
        model.predict_survival_function(X, times=curve_grid(y)),
    ):
        assert isinstance(curves, pd.DataFrame)
        assert_array_equal(curves.index, X.index)
        times = curves.columns.to_numpy(dtype=np.float64)
        assert (np.diff(times) > 0).all(), "Default times must ascend."
        values = curves.to_numpy()
        assert values.dtype.kind == "f"
        assert ((values >= 0) & (values <= 1)).all(), "Survival must be within [0, 1]."
        assert (np.diff(values, axis=1) <= 1e-12).all(), "Survival must not rise."
    assert_array_equal(curves.columns, curve_grid(y))
    assert_allclose(values[:, 0], 1.0, err_msg="Survival at time 0 must be 1.")
    assert values[:, -1].mean() < values[:, 1].mean(), "Survival must fall where there are events."


def check_times_asked_for(estimator: BaseEstimator) -> None:
    """Check that a curve at some times is a part of the curve at more, in the order asked for."""
    X, y = make_data()
    model = fitted(estimator, X, y)
    grid = curve_grid(y)
    every = model.predict_survival_function(X, times=grid)
    some = model.predict_survival_function(X, times=grid[[4, 2]])
    assert_array_equal(some.columns, grid[[4, 2]])
    assert_allclose(some.to_numpy(), every.to_numpy()[:, [4, 2]], rtol=1e-9, atol=1e-12)


def check_cumulative_hazards(estimator: BaseEstimator) -> None:
    """Check that cumulative hazards start at 0, never fall, and belong to the survival curves."""
    if not hasattr(estimator, "predict_cumulative_hazard_function"):
        raise SkipTest("no predict_cumulative_hazard_function")
    X, y = make_data()
    model = fitted(estimator, X, y)
    grid = curve_grid(y)
    hazard = model.predict_cumulative_hazard_function(X, times=grid)
    assert_array_equal(hazard.index, X.index)
    assert_array_equal(hazard.columns, grid)
    assert_allclose(hazard.to_numpy()[:, 0], 0.0)
    assert (np.diff(hazard.to_numpy(), axis=1) >= -1e-12).all()
    survival = model.predict_survival_function(X, times=grid)
    # S = exp(-H) of a continuous, S >= 1 - H of any law.
    assert (survival.to_numpy() >= 1 - hazard.to_numpy() - 1e-9).all()


def check_curves_agree_with_risk(estimator: BaseEstimator) -> None:
    """Check that who has the higher risk has, by and large, the lower curve."""
    X, y = make_data()
    model = fitted(estimator, X, y)
    curve = model.predict_survival_function(X, times=[float(np.median(y["time"]))])
    assert spearmanr(model.predict(X), curve.to_numpy()[:, 0]).statistic < 0


def check_medians_and_quantiles(estimator: BaseEstimator) -> None:
    """Check that a predicted quantile is where the curve crosses it; inf or NaN where nowhere."""
    X, y = make_data()
    model = fitted(estimator, X, y)
    predicted = {}
    if hasattr(model, "predict_median"):
        predicted[0.5] = model.predict_median(X)
    if hasattr(model, "predict_quantile"):
        predicted |= {q: model.predict_quantile(X, q) for q in (0.1, 0.75)}
        if 0.5 in predicted:
            assert_array_equal(model.predict_quantile(X, 0.5), predicted[0.5])
    if not predicted:
        raise SkipTest("no predict_median and no predict_quantile")
    end = model.predict_survival_function(X, times=[y["time"].max()]).to_numpy()[:, 0]
    for q, times in predicted.items():
        crossed = np.isfinite(times)
        assert (end[~crossed] > 1 - q).all(), (
            f"The {q} quantile is {times[~crossed][:1]}, but the curve crosses it."
        )
        rows, times = X[crossed], times[crossed]
        at = model.predict_survival_function(rows, times=times).to_numpy()
        before = model.predict_survival_function(rows, times=times * (1 - 1e-6)).to_numpy()
        assert (np.diag(at) <= 1 - q + 1e-5).all(), f"The curve is above {1 - q} at its quantile."
        assert (np.diag(before) >= 1 - q - 1e-5).all(), f"The curve crosses {1 - q} earlier."


def check_restricted_means(estimator: BaseEstimator) -> None:
    """Check that the restricted mean is the area under the curve."""
    if not hasattr(estimator, "predict_restricted_mean"):
        raise SkipTest("no predict_restricted_mean")
    X, y = make_data()
    model = fitted(estimator, X, y)
    for horizon in (0.3, float(np.median(y["time"])), 2.9):
        middles = (np.arange(2000) + 0.5) * horizon / 2000
        area = model.predict_survival_function(X, times=middles).to_numpy().mean(axis=1) * horizon
        assert_allclose(model.predict_restricted_mean(X, horizon), area, rtol=2e-3)


def check_row_order(estimator: BaseEstimator) -> None:
    """Check that predictions follow their rows, index labels too."""
    X, y = make_data()
    model = fitted(estimator, X, y)
    order = np.random.default_rng(1).permutation(len(X))
    for name, predict in prediction_methods(model, y).items():
        assert_allclose(
            predict(X.iloc[order]), predict(X)[order], rtol=1e-5, atol=1e-7, err_msg=name
        )
    curves = model.predict_survival_function(X.iloc[order], times=[1.0])
    assert_array_equal(curves.index, X.index[order])


def check_batch_of_one(estimator: BaseEstimator) -> None:
    """Check that a row alone is predicted as it is among others."""
    X, y = make_data()
    model = fitted(estimator, X, y)
    for name, predict in prediction_methods(model, y).items():
        alone = np.concatenate([predict(X.iloc[[row]]) for row in range(5)])
        assert_allclose(alone, predict(X)[:5], rtol=1e-5, atol=1e-6, err_msg=name)


def check_extreme_rows(estimator: BaseEstimator) -> None:
    """Check that rows far outside the training data have curves within [0, 1], not NaN."""
    X, y = make_data()
    model = fitted(estimator, X, y)
    curves = model.predict_survival_function(X * 1e3, times=curve_grid(y)).to_numpy()
    assert ((curves >= 0) & (curves <= 1)).all(), "Extreme rows must have curves within [0, 1]."
