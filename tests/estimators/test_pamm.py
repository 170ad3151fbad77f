"""FusionPAMM: formulas in time and their baseline, start-stop rows, weights, saving."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import ConvergenceWarning

from mmfusion.estimators import FusionCox, FusionPAMM
from mmfusion.survival import surv
from tests.heads.test_piecewise import expanded

CUTS = [0.2, 0.4, 0.7, 1.0, 1.4, 2.0, 3.0]


def draw(n: int = 400, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table whose log-hazard is linear in dose, and smooth in z, and an outcome."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 2)), columns=["dose", "z"])
    frame["site"] = rng.choice(["a", "b", "c"], n)
    time = rng.weibull(1.4, n) * np.exp(-0.5 * frame["dose"] - 0.4 * np.sin(2 * frame["z"]))
    limit = rng.uniform(0.5, 4.0, size=n)
    event = time <= limit
    return frame, surv(np.minimum(time, limit), event, np.zeros(n))


def poisson(frame: pd.DataFrame, y: Any, cuts: np.ndarray, columns: Any) -> Any:
    """Return statsmodels' regression of counts on expanded rows."""
    table = expanded(y, cuts)
    design = columns(frame.iloc[table["row"]].reset_index(drop=True), table)
    offset = np.log(table["exposure"])
    model = sm.GLM(table["event"], design, family=sm.families.Poisson(), offset=offset)
    return model.fit(tol=1e-14)


def test_steps_and_effects_in_time_are_a_poisson_regression() -> None:
    frame, y = draw()
    model = FusionPAMM({}, structured="dose + z:log(t)", cuts=CUTS, baseline="steps")
    model.fit(frame, y)
    middle = (model.cuts_[1:] + model.cuts_[:-1]) / 2

    def columns(rows: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
        logs = np.log(middle[table["interval"]])
        steps = np.eye(len(middle))[table["interval"]]
        return np.column_stack([steps, rows["dose"], rows["z"] * logs])

    theirs = poisson(frame, y, model.cuts_, columns)
    assert_allclose(model.effects_["coef"], theirs.params, atol=1e-8)
    assert_allclose(model.effects_["se"], theirs.bse, rtol=1e-7)
    assert model.effects_.index[0] == "baseline (0, 0.2]"


def test_a_baseline_may_be_any_function_of_the_time() -> None:
    frame, y = draw()
    model = FusionPAMM({}, structured="dose", cuts=CUTS, baseline="log(end)").fit(frame, y)
    theirs = poisson(
        frame,
        y,
        model.cuts_,
        lambda rows, table: np.column_stack(
            [np.ones(len(rows)), np.log(model.cuts_[1:][table["interval"]]), rows["dose"]]
        ),
    )
    assert model.effects_.index.tolist() == ["Intercept", "log(end)", "dose"]
    assert_allclose(model.effects_["coef"], theirs.params, atol=1e-8)


@pytest.mark.parametrize(
    ("formula", "terms"),
    [
        (None, ["Intercept", "s(t)"]),
        ("dose", ["Intercept", "dose", "s(t)"]),
        ("dose + s(t, k=6)", ["Intercept", "dose", "s(t)"]),
        ("tv(dose)", ["Intercept", "s(t)", "tv(dose)"]),
        ("s(t, by=dose)", ["Intercept", "s(t)", "s(t):dose"]),
        ("dose:t", ["Intercept", "dose:t", "s(t)"]),
        ("dose + dose:log(t)", ["Intercept", "dose", "dose:log(t)", "s(t)"]),
        ("s(z, t)", ["Intercept", "s(z, t)"]),
        ("s(z) + ti(z, t)", ["Intercept", "s(t)", "s(z)", "ti(z, t)"]),
        ("re(site)", ["Intercept", "s(t)", "re(site)"]),
        (
            "C(site) + s(t, by=site)",
            [
                *("Intercept", "C(site)[T.b]", "C(site)[T.c]"),
                *("s(t):site[a]", "s(t):site[b]", "s(t):site[c]"),
            ],
        ),
    ],
)
def test_the_baseline_is_left_out_where_a_formula_has_its_own(formula: Any, terms: Any) -> None:
    frame, y = draw(200)
    model = FusionPAMM({}, structured=formula, cuts=CUTS).fit(frame, y)
    assert model.effects_.index.tolist() == terms
    curves = model.predict_survival_function(frame)
    assert curves.shape == (200, 8)
    assert (np.diff(curves, axis=1) <= 0).all()
    assert model.score(frame, y) >= 0.5


def test_effects_are_about_those_of_coxs_model() -> None:
    frame, y = draw(1000)
    ours = FusionPAMM({}, structured="dose + s(z)").fit(frame, y)
    cox = FusionCox({}, structured="dose + s(z)").fit(frame, y)
    for column in ("coef", "se"):
        assert_allclose(
            ours.effects_.loc["dose", column], cox.effects_.loc["dose", column], rtol=0.03
        )
    times = [0.3, 1.0, 2.0]
    assert_allclose(
        ours.predict_survival_function(frame, times),
        cox.predict_survival_function(frame, times),
        atol=0.03,
    )


def test_a_covariate_that_changes_within_an_interval_is_two_rows() -> None:
    """Cut anywhere, also within an interval, rows of the same covariates say the same."""
    frame, y = draw(200)
    whole = FusionPAMM({}, structured="dose + tv(z)", cuts=CUTS).fit(frame, y)
    at = 0.6 * y["time"]
    rows = pd.concat([frame, frame], ignore_index=True).assign(id=np.tile(np.arange(200), 2))
    parts = surv(
        np.concatenate([at, y["time"]]),
        np.concatenate([np.zeros(200, dtype=bool), y["event"]]),
        np.concatenate([np.zeros(200), at]),
    )
    order = np.random.default_rng(0).permutation(400)  # neither sorted nor grouped
    split = FusionPAMM({}, structured="dose + tv(z)", cuts=CUTS, id="id")
    split.fit(rows.iloc[order], parts[order])
    pd.testing.assert_frame_equal(split.effects_, whole.effects_, rtol=1e-6)
    # A change counts from where it happens, not from the interval's start.
    rows.loc[200:, "dose"] += 1.0
    moved = FusionPAMM({}, structured="dose", cuts=CUTS, id="id", baseline="steps")
    moved.fit(rows, parts)

    def columns(rows: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
        return np.column_stack([np.eye(7)[table["interval"]], rows["dose"]])

    theirs = poisson(rows, parts, moved.cuts_, columns)
    assert_allclose(moved.effects_["coef"], theirs.params, atol=1e-8)


def test_weights_count_rows() -> None:
    frame, y = draw(150)
    weight = np.random.default_rng(1).integers(1, 4, 150)
    weighted = FusionPAMM({}, structured="dose", cuts=CUTS, baseline="steps")
    weighted.fit(frame, y, sample_weight=weight.astype(float))
    rows = np.repeat(np.arange(150), weight)
    repeated = FusionPAMM({}, structured="dose", cuts=CUTS, baseline="steps")
    repeated.fit(frame.iloc[rows].reset_index(drop=True), y[rows])
    assert_allclose(weighted.effects_["coef"], repeated.effects_["coef"], atol=1e-8)
    assert_allclose(weighted.effects_["se"], repeated.effects_["se"], rtol=1e-6)


def test_rows_of_a_subject_may_not_overlap() -> None:
    frame, y = draw(6)
    y["event"] = True
    rows = pd.concat([frame, frame]).set_axis([f"r{i}" for i in range(12)])
    rows["id"] = np.tile(np.arange(6), 2)
    late = surv(
        np.concatenate([y["time"], y["time"] + 1]),
        np.ones(12),
        np.concatenate([np.zeros(6), y["time"] - 0.01]),
    )
    model = FusionPAMM({}, structured="dose", id="id", baseline="steps", n_intervals=2)
    with pytest.raises(ValueError, match=r"Rows of one subject .* Got rows 'r0', 'r6'"):
        model.fit(rows, late)


def test_a_term_in_time_needs_a_grid() -> None:
    frame, y = draw(60)
    with pytest.raises(ValueError, match=r"tv\(dose\) is an effect that varies over the time 't'"):
        FusionCox({}, structured="tv(dose)").fit(frame, y)


def test_saving(tmp_path: Any) -> None:
    frame, y = draw(200)
    model = FusionPAMM({}, structured="s(z) + tv(dose) + re(site)", cuts=CUTS).fit(frame, y)
    model.save(tmp_path / "model")
    again = FusionPAMM.load(tmp_path / "model")
    assert_array_equal(again.predict(frame), model.predict(frame))
    pd.testing.assert_frame_equal(again.effects_, model.effects_)
    pd.testing.assert_frame_equal(
        again.smooth_effect("tv(dose)", CUTS), model.smooth_effect("tv(dose)", CUTS)
    )


def test_a_fit_that_ran_away_has_effects_without_a_test() -> None:
    """Where a column orders all times, no row says anything of the smooth baseline."""
    frame = pd.DataFrame({"x": np.arange(20.0)})
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        model = FusionPAMM(modalities={}, structured="x").fit(frame, surv(frame.x + 1, np.ones(20)))
    assert np.isnan(model.effects_.loc["s(t)", "p"])
