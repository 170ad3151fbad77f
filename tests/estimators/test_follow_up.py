"""Beyond the follow-up of the training rows nothing is predicted, unless one asks for it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmfusion import Tabular
from mmfusion.estimators import FusionCox, FusionDiscreteTime, FusionPAMM
from mmfusion.fusion import LateFusion
from mmfusion.metrics import make_survival_scorer
from mmfusion.survival import surv

N = 90
TIMES = [0.5, 1.0, 2.0, 3.0, 4.0]


def cohort() -> tuple[pd.DataFrame, np.ndarray]:
    """Two strata: one followed until 1, in which few die, one until 3."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"x": rng.normal(size=N), "z": rng.normal(size=N), "site": ["a", "b"] * 45}
    )
    end = np.where(frame["site"] == "a", 1.0, 3.0)
    time = rng.exponential(np.where(frame["site"] == "a", 3.0, 1.0) * np.exp(-0.3 * frame["x"]))
    return frame, surv(np.minimum(time, end), time < end)


FRAME, Y = cohort()


def silent(call: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return call()


def test_curves_end_with_the_follow_up_of_the_stratum(tmp_path: Path) -> None:
    model = FusionCox({}, structured="x", strata="site").fit(FRAME, Y)
    model.save(tmp_path / "model")
    for one in (model, FusionCox.load(tmp_path / "model")):
        message = r"90 of 90 rows .* ends at 1 to 3, as the stratum.*extrapolate=True"
        with pytest.warns(UserWarning, match=message) as caught:
            curves = one.predict_survival_function(FRAME, TIMES)
        assert len(caught) == 1
        short = FRAME["site"] == "a"
        assert curves.loc[short].isna().any().tolist() == [False, False, True, True, True]
        assert curves.loc[~short].isna().any().tolist() == [False] * 4 + [True]
        longer = silent(
            lambda one=one: one.predict_survival_function(FRAME, TIMES, extrapolate=True)
        )
        pd.testing.assert_frame_equal(longer.where(curves.notna()), curves)
        np.testing.assert_array_equal(longer[4.0], longer[3.0])
        hazard = one.predict_cumulative_hazard_function(FRAME[short], [2.0], extrapolate=True)
        np.testing.assert_allclose(np.exp(-hazard), longer.loc[short, [2.0]])
    silent(lambda: model.predict_survival_function(FRAME[~short]))
    silent(lambda: model.predict_survival_function(FRAME, [1.0]))


def test_quantiles_and_restricted_means() -> None:
    model = FusionCox({}, structured="x", strata="site").fit(FRAME, Y)
    short = (FRAME["site"] == "a").to_numpy()
    with pytest.warns(UserWarning, match="beyond the follow-up"):
        median = model.predict_median(FRAME)
    whole = silent(lambda: model.predict_quantile(FRAME, 0.5, extrapolate=True))
    assert np.isinf(whole[short]).any()
    np.testing.assert_array_equal(np.isnan(median), np.isinf(whole))
    np.testing.assert_array_equal(model.predict_median(FRAME, extrapolate=True), whole)
    with pytest.warns(UserWarning, match="45 of 90 rows"):
        mean = model.predict_restricted_mean(FRAME, 2.0)
    np.testing.assert_array_equal(np.isnan(mean), short)
    assert np.isfinite(silent(lambda: model.predict_restricted_mean(FRAME, 1.0))).all()
    assert np.isfinite(model.predict_restricted_mean(FRAME, 2.0, extrapolate=True)).all()


def test_a_time_that_is_the_last_one_but_for_rounding_is_the_last_one() -> None:
    last = 3 * 0.1  # 0.30000000000000004
    y = surv(np.where(np.arange(N) == 3, 0.3, np.minimum(Y["time"], 1) * 0.25), Y["event"])
    model = FusionCox({}, structured="x").fit(FRAME, y)
    assert silent(lambda: model.predict_survival_function(FRAME, [last])).notna().all().all()
    assert np.isfinite(silent(lambda: model.predict_restricted_mean(FRAME, last))).all()


def test_discrete_times_end_with_the_last_cut() -> None:
    model = FusionDiscreteTime({}, structured="x", cuts=[0.5, 1.0, 2.0]).fit(FRAME, Y)
    assert silent(lambda: model.predict_survival_function(FRAME)).notna().all().all()
    with pytest.warns(UserWarning, match="ends at 2:"):
        assert model.predict_cumulative_incidence_function(FRAME, [2.5]).isna().all().all()
    with pytest.warns(UserWarning, match="ends at 2:"):
        assert np.isnan(model.predict_restricted_mean(FRAME, 2.5)).all()
    kept = model.predict_cumulative_incidence_function(FRAME, [2.0, 2.5], extrapolate=True)
    np.testing.assert_allclose(kept[2.5], kept[2.0])


def test_scores_keep_the_last_value_and_mixtures_know_their_follow_up() -> None:
    modalities = {name: Tabular([name], hidden=(2,)) for name in ("x", "z")}
    late = LateFusion("mean", combine="survival", dim=2, hidden=(), folds=2)
    settings: dict[str, Any] = {"epochs": 2, "patience": None, "random_state": 0}
    model = FusionCox(modalities, late, **settings).fit(FRAME, Y)
    with pytest.warns(UserWarning, match="ends at 3:"):
        assert model.predict_survival_function(FRAME, [4.0]).isna().all().all()
    later = surv(Y["time"] + 2.0, Y["event"])
    score = silent(lambda: make_survival_scorer("antolini")(model, FRAME, later))
    assert 0 < score < 1


def test_intervals_of_survival_ask_for_what_they_need() -> None:
    model = FusionCox({}, structured="x", strata="site").fit(FRAME, Y)
    with pytest.warns(UserWarning, match="beyond the follow-up"):
        found = model.survival_interval(FRAME, [0.0, 0.5, 2.0], FRAME, Y)
    assert found.xs(0.0, level="time").eq([1.0, 0.0, 1.0, 1.0]).all().all()
    middle = found.xs(0.5, level="time")
    assert ((middle["lower"] < middle["survival"]) & (middle["survival"] < middle["upper"])).all()
    assert found.xs(2.0, level="time")["se"].isna().sum() == 45
    narrow = model.survival_interval(FRAME, [0.5], FRAME, Y, level=0.5)
    assert (narrow["upper"].to_numpy() < middle["upper"].to_numpy()).all()
    with pytest.raises(ValueError, match="level"):
        model.survival_interval(FRAME, [0.5], FRAME, Y, level=1.0)
    deep = FusionCox({"x": Tabular(["x"], hidden=(2,))}, epochs=1).fit(FRAME, Y)
    with pytest.raises(AttributeError, match="structured=None"):
        deep.survival_interval(FRAME, [0.5], FRAME, Y)


@pytest.mark.parametrize("kind", [FusionDiscreteTime, FusionPAMM])
def test_cuts_end_with_the_follow_up(kind) -> None:
    """Rows censored in an interval that outlasts the study would count in no interval."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=300)})
    time = rng.exponential(30, 300)
    y = surv(time.clip(max=60), time < 60)
    if kind is FusionPAMM:  # whose likelihood knows how much of an interval was seen
        model = kind(modalities={}, structured="x", cuts=[12, 36, 120]).fit(frame, y)
    else:
        model = kind(modalities={}, structured="x", cuts=[12, 36, 120, 200])
        with pytest.warns(UserWarning, match="last interval ends there, at 60, not at"):
            model.fit(frame, y)
        assert model.cuts_.tolist() == [0, 12, 36, 60]
    found = model.predict_survival_function(frame)
    assert found[60.0].mean() == pytest.approx(np.mean(time >= 60), abs=0.01)
    with pytest.warns(UserWarning, match="beyond the follow-up"):
        assert model.predict_survival_function(frame, [61]).isna().all(axis=None)
