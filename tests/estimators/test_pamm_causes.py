"""FusionPAMM with competing risks: cause-specific hazards fitted together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose, assert_array_equal

from mmfusion.estimators import FusionPAMM
from mmfusion.survival import surv
from tests.heads.test_piecewise import expanded

CUTS = [0.2, 0.5, 1.0, 1.6, 2.5]


def draw(n: int = 500, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table and an outcome of two causes; x moves the first, both share w."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 2)), columns=["x", "w"])
    rates = np.column_stack([0.5 * np.exp(0.7 * frame["x"]), np.full(n, 0.4)])
    rates *= np.exp(0.4 * frame["w"].to_numpy())[:, None]
    times = rng.exponential(1 / rates)
    limit = rng.uniform(0.3, 4.0, n)
    event = np.where(times.min(1) <= limit, 1 + times.argmin(1), 0)
    return frame, surv(np.minimum(times.min(1), limit), event, np.zeros(n))


def only(y: Any, cause: int) -> Any:
    """Return the outcome of one cause, the others censored."""
    return surv(y["time"], y["event"] == cause, y["entry"])


@pytest.mark.parametrize("baseline", ["steps", "s(t)"])
def test_each_cause_has_the_model_of_its_own(baseline: str) -> None:
    frame, y = draw()
    both = FusionPAMM({}, structured="x + w", cuts=CUTS, baseline=baseline).fit(frame, y)
    for cause in (1, 2):
        alone = FusionPAMM({}, structured="x + w", cuts=CUTS, baseline=baseline)
        alone.fit(frame, only(y, cause))
        ours = both.effects_.loc[(["x", "w"], f"cause_{cause}"), ["coef", "se"]]
        assert_allclose(ours, alone.effects_.loc[["x", "w"], ["coef", "se"]], rtol=2e-5)
        hazards = both.predict_hazard(frame[:4], cause=cause)
        assert_allclose(hazards, alone.predict_hazard(frame[:4]), rtol=1e-4)


def test_effects_may_be_shared() -> None:
    frame, y = draw()
    model = FusionPAMM(
        {}, structured={"cause_1": "x", "shared": "w"}, cuts=CUTS, baseline="steps"
    ).fit(frame, y)
    parts = []
    for place in (0, 1):
        table = expanded(only(y, place + 1), model.cuts_)
        steps = np.zeros((len(table), 10))
        steps[np.arange(len(table)), 5 * place + table["interval"]] = 1
        rows = frame.iloc[table["row"]]
        own = rows["x"].to_numpy() * (place == 0)
        parts.append((table, np.column_stack([steps, own, rows["w"]])))
    stacked = pd.concat([table for table, _ in parts])
    theirs = sm.GLM(
        stacked["event"],
        np.concatenate([design for _, design in parts]),
        family=sm.families.Poisson(),
        offset=np.log(stacked["exposure"]),
    ).fit(tol=1e-14)
    assert_allclose(model.effects_["coef"], theirs.params, atol=1e-8)
    assert_allclose(model.effects_["se"], theirs.bse, rtol=1e-7)
    assert model.effects_.index[-2:].tolist() == [("x", "cause_1"), ("w", "shared")]
    smooth = FusionPAMM({}, structured={"shared": "x + s(w)"}, cuts=CUTS).fit(frame, y)
    assert ("s(w)", "shared") in smooth.effects_.index
    assert ("Intercept", "shared") not in smooth.effects_.index
    assert {("s(t)", "cause_1"), ("s(t)", "cause_2")} <= set(smooth.effects_.index)


def test_causes_with_covariates_that_change_keep_their_follow_up() -> None:
    """pammtools (issues 221, 219) ends the follow-up at the last event of cause 1."""
    frame, y = draw(300)
    late = y["time"] > 1.2
    y["event"][late & (y["event"] == 1)] = 0
    assert (y["event"][late] == 2).any()
    at = 0.5 * y["time"]
    rows = pd.concat([frame, frame.assign(x=frame["x"] + 1)], ignore_index=True)
    rows["id"] = np.tile(np.arange(300), 2)
    parts = surv(
        np.concatenate([at, y["time"]]),
        np.concatenate([np.zeros(300, dtype=int), y["event"]]),
        np.concatenate([np.zeros(300), at]),
    )
    model = FusionPAMM({}, structured="x", cuts=CUTS, id="id", baseline="log(t)").fit(rows, parts)
    target = model.model_.head.encode(parts)
    assert_allclose(target.exposure().sum(), np.minimum(y["time"], 2.5).sum())
    assert int((target.cause == 2).sum()) == ((y["event"] == 2) & (y["time"] <= 2.5)).sum()
    alone = FusionPAMM({}, structured="x", cuts=CUTS, id="id", baseline="log(t)")
    alone.fit(rows, only(parts, 2))
    ours = model.effects_.xs("cause_2", level="parameter")
    assert_allclose(ours["coef"], alone.effects_["coef"], rtol=1e-6)


def test_an_interval_without_events_of_one_cause_has_none() -> None:
    frame, y = draw(300)
    early = (y["time"] <= 0.2) & (y["event"] == 2)
    y["event"][early] = 1
    model = FusionPAMM({}, structured="x", cuts=CUTS, baseline="steps").fit(frame, y)
    assert model.effects_.loc[("cause_2 baseline (0, 0.2]", ""), "coef"] == -np.inf
    hazard = model.predict_hazard(frame[:5], [0.1], cause=2)
    assert (hazard.to_numpy() < 1e-4).all()
    assert np.isfinite(model.effects_.loc[("x", "cause_2"), "coef"])


@pytest.mark.parametrize("formula", ["x + w", "tv(x) + s(w)"])
def test_incidences_and_survival_sum_to_one(formula: str) -> None:
    frame, y = draw(300)
    model = FusionPAMM({}, structured=formula, cuts=CUTS).fit(frame, y)
    assert_array_equal(model.causes_, [1, 2])
    times = np.linspace(0, CUTS[-1], 50)
    total = model.predict_survival_function(frame, times)
    for cause in (1, 2):
        total = total + model.predict_cumulative_incidence_function(frame, times, cause)
    assert_allclose(total, 1.0, atol=1e-12)
    few = model.predict_cumulative_incidence_function(frame, times[[7, 30]], 2)
    many = model.predict_cumulative_incidence_function(frame, times, 2)
    assert_allclose(few, many.iloc[:, [7, 30]], rtol=1e-13)
    assert model.score(frame, y) > 0.5


def test_a_single_cause_may_have_any_number() -> None:
    frame, y = draw(200)
    one = FusionPAMM({}, structured="x", cuts=CUTS).fit(frame, only(y, 1))
    y["event"] = np.where(y["event"] == 1, 3, 0)
    three = FusionPAMM({}, structured="x", cuts=CUTS).fit(frame, y)
    assert_array_equal(three.causes_, [3])
    pd.testing.assert_frame_equal(three.effects_, one.effects_)


def test_unknown_parameters_and_causes() -> None:
    frame, y = draw(100)
    with pytest.raises(ValueError, match=r"\['cause_1', 'cause_2'\]. Got 'cause_3'"):
        FusionPAMM({}, structured={"cause_3": "x"}, cuts=CUTS).fit(frame, y)
    model = FusionPAMM({}, structured="x", cuts=CUTS).fit(frame, y)
    with pytest.raises(ValueError, match=r"cause parameter must be one of \[1, 2\]. Got 3"):
        model.predict_cumulative_incidence_function(frame, [1.0], 3)
    y["event"][0] = 5
    with pytest.raises(ValueError, match=r"cause seen in training: \[1, 2\]. Got row"):
        model.fit(frame, draw(100)[1], eval_set=(frame, y))


def test_saving(tmp_path: Any) -> None:
    frame, y = draw(200)
    structured = {"cause_1": "x", "shared": "s(w)"}
    model = FusionPAMM({}, structured=structured, cuts=CUTS).fit(frame, y)
    model.save(tmp_path / "model")
    again = FusionPAMM.load(tmp_path / "model")
    pd.testing.assert_frame_equal(again.effects_, model.effects_)
    times = [0.5, 2.0]
    assert_array_equal(
        again.predict_cumulative_incidence_function(frame, times, 2),
        model.predict_cumulative_incidence_function(frame, times, 2),
    )


def test_events_of_r_are_told_of() -> None:
    """R's Surv takes 1 for censored and 2 for dead where it finds no 0."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=60)})
    y = surv(rng.exponential(size=60), rng.integers(1, 3, 60))
    with pytest.warns(UserWarning, match="no censored row.* as in R's Surv"):
        FusionPAMM(modalities={}, structured="x", n_intervals=3).fit(frame, y)
