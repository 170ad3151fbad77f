"""Calibration of whole distributions by rows that the model has not seen."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import integrate

from mmfusion import surv
from mmfusion.estimators import FusionDistribution
from mmfusion.metrics import (
    interval_coverage,
    log_score,
    make_distribution_scorer,
    make_survival_scorer,
    quantile_reliability,
)


def numbers(n: int, random_state: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Heavy tails and a spread that grows, of which the model below knows nothing."""
    rng = np.random.default_rng(random_state)
    x = rng.uniform(size=n)
    return pd.DataFrame({"x": x}), 2 * x + (0.2 + x) * rng.standard_t(2, n)


def lifetimes(n: int, random_state: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Two kinds of patients, of which the model below sees one kind."""
    rng = np.random.default_rng(random_state)
    x = rng.normal(size=n)
    mixed = np.where(rng.uniform(size=n) < 0.5, 1.0, 4.0)
    time = np.exp(0.7 * x) * mixed * rng.weibull(3, n)
    censored = rng.exponential(8, n)
    return pd.DataFrame({"x": x}), surv(np.minimum(time, censored), time <= censored)


def normal() -> FusionDistribution:
    return FusionDistribution(modalities={}, structured="x")


@pytest.fixture(scope="module")
def aft() -> FusionDistribution:
    X, y = lifetimes(1500, 0)
    model = FusionDistribution(modalities={}, structured="x", family="weibull")
    return model.fit(X, y)


def test_calibrated_intervals_hold_their_level() -> None:
    X, y = numbers(2000, 1)
    new, y_new = numbers(40_000, 2)
    model = normal().fit(X, y)
    raw = interval_coverage(y_new, *model.predict_interval(new).to_numpy().T)
    assert raw > 0.93  # outliers made it wide
    mean = model.predict(new)
    found = []
    for seed in range(10):
        rows, outcome = numbers(999, 10 + seed)
        model.calibrate(rows, outcome, level=[0.8, 0.9])
        found.append(
            [
                interval_coverage(y_new, *model.predict_interval(new, level).to_numpy().T)
                for level in (0.8, 0.9)
            ]
        )
    assert_allclose(np.mean(found, axis=0), [0.8, 0.9], atol=0.008)
    assert_allclose(model.predict(new), mean)
    scorer = make_distribution_scorer("interval_coverage", level=0.8)
    assert scorer(model, new, y_new) == found[-1][0]


def test_levels_that_were_not_calibrated_are_refused_and_a_fit_forgets() -> None:
    X, y = numbers(200, 1)
    model = normal().fit(X, y)
    model.calibrate(*numbers(50, 3), level=[0.9, 0.5])
    with pytest.raises(ValueError, match=r"calibrated: \[0.5, 0.9\]. Got 0.8.*0.5, 0.9, 0.8"):
        model.predict_interval(X, 0.8)
    assert not hasattr(model.fit(X, y), "intervals_")
    assert model.predict_interval(X, 0.8).shape == (200, 2)


def test_counts_stay_counts() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"x": rng.normal(size=1500)})
    y = rng.negative_binomial(1, 1 / (1 + np.exp(X["x"])))
    model = FusionDistribution(modalities={}, structured="x", family="poisson")
    model.fit(X[:500], y[:500]).calibrate(X[500:1000], y[500:1000])
    found = model.predict_interval(X[1000:])
    assert (found["lower"] >= 0).all()
    assert (found % 1 == 0).all(axis=None)
    assert interval_coverage(y[1000:], *found.to_numpy().T) > 0.87


def error(model: Any, X: pd.DataFrame, y: np.ndarray) -> float:
    found = quantile_reliability(y, model.predict_distribution(X))["observed"]
    return float(np.abs(found - found.index).max())


def test_survival_curves_are_recalibrated_under_censoring(aft: FusionDistribution) -> None:
    model = pickle.loads(pickle.dumps(aft))
    new, y_new = lifetimes(3000, 2)
    assert model.calibrate(*lifetimes(3000, 1)) is model
    assert error(aft, new, y_new) > 0.08
    assert error(model, new, y_new) < 0.05
    assert model.score(new, y_new) > aft.score(new, y_new) + 0.01
    assert model.score(new, y_new) == pytest.approx(
        log_score(y_new, model.predict_distribution(new)).mean()
    )
    scorer = make_survival_scorer("ibs", times=np.linspace(0.5, 8, 20))
    assert scorer(model, new, y_new) > scorer(aft, new, y_new)
    # The order of patients stays.
    order = [np.argsort(one.predict_risk(new), kind="stable") for one in (aft, model)]
    assert_allclose(aft.predict_risk(new)[order[1]], aft.predict_risk(new)[order[0]])


def test_all_predictions_are_of_the_recalibrated_curve(aft: FusionDistribution) -> None:
    model = pickle.loads(pickle.dumps(aft)).calibrate(*lifetimes(3000, 1))
    X = lifetimes(4, 5)[0]
    known = model.recalibration_
    times = np.array([0.5, 2.0, 5.0])
    survival = model.predict_survival_function(X, times)
    fitted = aft.predict_survival_function(X, times)
    assert_allclose(survival, 1 - np.interp(1 - fitted, known.u, known.g), atol=1e-12)
    assert_allclose(model.predict_cumulative_hazard_function(X, times), -np.log(survival))
    median = model.predict_median(X)
    for row in range(4):
        half = model.predict_survival_function(X.iloc[[row]], [median[row]])
        assert half.to_numpy() == pytest.approx(0.5)
    assert_allclose(model.predict_quantile(X, 0.5), median)
    ends = model.predict_interval(X, 0.8)
    assert_allclose(ends["upper"], model.predict_quantile(X, 0.9))
    assert (model.predict_hazard(X, times) > 0).all(axis=None)
    fine = np.linspace(0, 4, 4001)
    area = integrate.trapezoid(model.predict_survival_function(X, fine), fine)
    assert_allclose(model.predict_restricted_mean(X, 4.0), area, rtol=2e-3)
    draws = model.predict_distribution(X).sample(20_000, random_state=0)
    assert_allclose(draws.mean(axis=1), model.predict(X), rtol=0.03)
    assert_allclose(model.predict_parameters(X), aft.predict_parameters(X))


def test_limits_of_numbers_are_recalibrated() -> None:
    rng = np.random.default_rng(4)
    X = pd.DataFrame({"x": rng.normal(size=2000)})
    value = X["x"] + 2 * rng.standard_t(3, 2000)
    detected = pd.DataFrame({"lower": value.where(value > -1, -np.inf), "upper": value.clip(-1)})
    half = slice(0, 1000)
    model = normal().fit(X[half], value[half] * 0.5)  # half as wide as it should be
    with pytest.raises(ValueError, match="at least 10 outcomes"):
        model.calibrate(X[:20], detected[:20].assign(upper=np.inf, lower=-1.0))
    model.calibrate(X[1000:], detected[1000:].reset_index(drop=True))
    assert model.recalibration_.n_exact > 500
    with_limits = quantile_reliability(value[1000:], model.predict_distribution(X[1000:]))
    upper = with_limits.loc[0.5:, "observed"]
    assert np.abs(upper - upper.index).max() < 0.06


@pytest.mark.parametrize("kind", ["numbers", "lifetimes"])
def test_a_saved_model_is_as_calibrated(kind: str, aft: FusionDistribution, tmp_path: Path) -> None:
    if kind == "numbers":
        X, y = numbers(100, 0)
        model = normal().fit(X, y).calibrate(*numbers(40, 1), level=[0.5, 0.9])
    else:
        X = lifetimes(50, 7)[0]
        model = pickle.loads(pickle.dumps(aft)).calibrate(*lifetimes(400, 1))
    model.save(tmp_path / "model")
    loaded = FusionDistribution.load(tmp_path / "model")
    assert_allclose(loaded.predict_interval(X), model.predict_interval(X), rtol=1e-12)
    assert_allclose(loaded.predict(X), model.predict(X), rtol=1e-12)


def test_what_is_refused(aft: FusionDistribution) -> None:
    X, y = numbers(60, 0)
    model = normal().fit(X, y)
    with pytest.raises(ValueError, match=r"level 0.9 need at least 9 rows"):
        model.calibrate(X[:8], y[:8])
    with pytest.raises(ValueError, match="X has 60 rows, y 59"):
        model.calibrate(X, y[:59])
    with pytest.raises(ValueError, match="level parameter"):
        model.calibrate(X, y, level=1.0)
    with pytest.raises(ValueError, match=r"did not see; all rows were in its training"):
        model.calibrate(X, y)
    assert not hasattr(model, "intervals_")
    yes = FusionDistribution(modalities={}, structured="x", family="bernoulli").fit(X, y > 1)
    with pytest.raises(ValueError, match=r"no intervals to calibrate. Got family='bernoulli'"):
        yes.calibrate(X, y > 1)
    with pytest.raises(ValueError, match="numbers above 0"):
        aft.calibrate(X, surv(np.zeros(60), np.ones(60)))
