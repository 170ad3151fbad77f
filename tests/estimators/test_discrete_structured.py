"""A formula in discrete time: intervals have a baseline each and share the effects."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from mmfusion.estimators import FusionDiscreteTime
from mmfusion.fusion import LateFusion
from mmfusion.modalities import Tabular
from mmfusion.survival import surv

pytestmark = pytest.mark.usefixtures("one_network")

CUTS = [0.2, 0.5, 1.0, 1.5]


def draw(n: int = 400, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table whose hazard is linear in dose and z, and a survival outcome."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 2)), columns=["dose", "z"])
    time = rng.exponential(np.exp(-0.6 * frame["dose"] - 0.8 * np.sin(2 * frame["z"])))
    limit = rng.exponential(2.0, size=n)
    return frame, surv(np.minimum(time, limit), time <= limit)


def person_periods(
    frame: pd.DataFrame, y: np.ndarray, bounds: np.ndarray
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return a row for each interval a subject survived or died in, and the exposure in it."""
    rows, events, exposure = [], [], []
    for i, (time, event) in enumerate(zip(y["time"], y["event"], strict=True)):
        for j, (first, last) in enumerate(itertools.pairwise(bounds)):
            if time <= first:
                break
            rows.append((i, j))
            events.append(float(event and time <= last))
            exposure.append((min(time, last) - first) / (last - first))
    table = pd.DataFrame(rows, columns=["subject", "interval"])
    return table, np.array(events), np.array(exposure)


def test_it_is_the_logistic_regression_of_person_periods() -> None:
    frame, y = draw()
    model = FusionDiscreteTime({}, structured="dose", cuts=CUTS).fit(frame, y)
    bounds = np.array([0.0, *CUTS])
    table, event, exposure = person_periods(frame, y, bounds)
    counts = (exposure >= 1.0 - 1e-12) | (event > 0)  # censored within: it counts in no further one
    design = np.column_stack(
        [np.eye(len(CUTS))[table["interval"]], frame["dose"].to_numpy()[table["subject"]]]
    )
    theirs = sm.Logit(event[counts], design[counts]).fit(disp=0)
    np.testing.assert_allclose(model.effects_["coef"], theirs.params, rtol=1e-5)
    np.testing.assert_allclose(model.effects_["se"], theirs.bse, rtol=1e-5)
    assert model.effects_.index.tolist()[0] == "baseline (0, 0.2]"


def test_piecewise_constant_hazards_are_a_poisson_regression() -> None:
    frame, y = draw()
    model = FusionDiscreteTime({}, structured="dose", loss="pc_hazard", cuts=CUTS).fit(frame, y)
    table, event, exposure = person_periods(frame, y, np.array([0.0, *CUTS]))

    def loss(coef: np.ndarray) -> float:
        eta = coef[table["interval"]] + coef[-1] * frame["dose"].to_numpy()[table["subject"]]
        rate = np.log1p(np.exp(eta))  # pycox's link, an interval's length the unit of time
        return float((rate * exposure - event * np.log(rate)).sum())

    coef = model.effects_["coef"].to_numpy()
    for j in range(len(coef)):
        for step in (-0.01, 0.01):
            moved = coef.copy()
            moved[j] += step
            assert loss(moved) > loss(coef)


def test_a_baseline_hazard_of_one_is_no_warning() -> None:
    frame, y = draw()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = FusionDiscreteTime({}, structured="dose", n_intervals=5).fit(frame, y)
    assert np.isinf(model.effects_["coef"].iloc[-2])
    assert np.isfinite(model.effects_.loc["dose", "coef"])
    assert (np.diff(model.predict_survival_function(frame[:5]), axis=1) <= 0).all()


@pytest.mark.parametrize("orthogonalization", ["post_hoc", "online", None])
def test_beside_a_network(orthogonalization: str | None, tmp_path: Any) -> None:
    frame, y = draw()
    model = FusionDiscreteTime(
        {"deep": Tabular(["z"])},
        structured="dose",
        orthogonalization=orthogonalization,
        cuts=CUTS,
        epochs=30,
        learning_rate=0.01,
        device="cpu",
        random_state=0,
    ).fit(frame, y)
    alone = FusionDiscreteTime({}, structured="dose", cuts=CUTS).fit(frame, y)
    assert model.score(frame, y) > alone.score(frame, y) + 0.02
    assert model.effects_.loc["dose", "coef"] == pytest.approx(0.6, abs=0.35)
    model.save(tmp_path / "model")
    again = FusionDiscreteTime.load(tmp_path / "model")
    np.testing.assert_allclose(again.predict(frame), model.predict(frame), rtol=1e-6)
    pd.testing.assert_frame_equal(again.effects_, model.effects_)


def test_folds_take_the_intervals_of_all_rows() -> None:
    """By default they are quantiles of the training rows: those of a fold would be others."""
    frame, y = draw(150)
    inputs = {"one": Tabular(["dose"]), "two": Tabular(["z"])}
    settings: dict[str, Any] = {"epochs": 2, "device": "cpu", "random_state": 0}
    fusion = LateFusion("stack", dim=4, hidden=(), folds=3)
    # So many that the last event of the training rows lies before the last interval.
    stack = FusionDiscreteTime(inputs, fusion, n_intervals=60, **settings).fit(frame, y)
    assert len(stack.cuts_) > 30
    model = FusionDiscreteTime(
        {"two": inputs["two"]}, structured="dose", inference="cross_fit", **settings
    )
    assert np.isfinite(model.fit(frame, y).effects_.loc["dose"]).all()


@pytest.mark.filterwarnings("ignore::mmfusion.structured.SeparationWarning")
def test_an_interval_that_nobody_reaches_is_left_out() -> None:
    frame, y = draw(200)
    last = float(y["time"].max())
    within = FusionDiscreteTime({}, structured="dose", cuts=[*CUTS, last]).fit(frame, y)
    beyond = FusionDiscreteTime({}, structured="dose", cuts=[*CUTS, last, 9 * last]).fit(frame, y)
    np.testing.assert_array_equal(beyond.cuts_, within.cuts_)
    pd.testing.assert_frame_equal(beyond.effects_, within.effects_, rtol=1e-6)
    tests = [model.effects_test("dose", "likelihood_ratio", frame, y) for model in (within, beyond)]
    pd.testing.assert_series_equal(*tests)
    assert beyond.model_.structured.final.aic == pytest.approx(within.model_.structured.final.aic)
    curves = [model.predict_survival_function(frame, times=CUTS) for model in (within, beyond)]
    pd.testing.assert_frame_equal(*curves)


def test_losses_of_masses_take_no_formula() -> None:
    frame, y = draw(60)
    with pytest.raises(ValueError, match=r"loss parameter must be one of .* Got 'mtlr'"):
        FusionDiscreteTime({}, structured="dose", loss="mtlr").fit(frame, y)
