"""Times that are equal but for rounding are ties, as in R's survival (``timefix``)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfusion.estimators import FusionCox, FusionDiscreteTime
from mmfusion.heads import CoxHead
from mmfusion.heads.discrete import DiscreteTimeHead
from mmfusion.metrics import (
    brier_score,
    concordance_index_antolini,
    concordance_index_uno,
    cumulative_dynamic_auc,
)
from mmfusion.survival import check_survival, kaplan_meier, log_rank_test, surv


def ages(n: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray, pd.DataFrame]:
    """Return ages at entry and exit in tenths of years, events and a covariate."""
    rng = np.random.default_rng(3)
    age = np.round(rng.uniform(40, 70, n), 1)
    stop = age + rng.integers(1, 60, n) * 0.1
    X = pd.DataFrame({"x": rng.normal(size=n)})
    return age, stop, rng.random(n) < 0.6, X


def coef(y: np.ndarray, X: pd.DataFrame) -> float:
    return FusionCox({}, structured="x").fit(X, y).effects_["coef"].item()


def test_differences_of_ages_have_the_ties_of_rounded_ones() -> None:
    age, stop, event, X = ages()
    raw, rounded = stop - age, (stop - age).round(6)
    y, wanted = surv(raw, event), surv(rounded, event)
    assert len(np.unique(raw[event])) > len(np.unique(rounded[event]))
    assert len(np.unique(y["time"])) == len(np.unique(rounded))
    np.testing.assert_allclose(y["time"], rounded, rtol=1e-7)
    assert coef(y, X) == pytest.approx(coef(wanted, X), abs=1e-12)
    assert coef(y, X) == pytest.approx(0.000149, abs=5e-6)  # R's coxph on the raw differences
    kept = surv(raw, event, timefix=False)
    np.testing.assert_array_equal(kept["time"], raw)
    assert coef(kept, X) == pytest.approx(0.01335, abs=5e-6)


def test_entries_and_exits_are_made_equal_together() -> None:
    third = 0.1 + 0.2
    y = surv([third, 0.6, 0.9], [1, 1, 0], [0.0, 0.3, third])
    assert y["entry"].tolist() == [0.0, 0.3, 0.3]
    assert y["time"].tolist() == [0.3, 0.6, 0.9]
    outcome = check_survival(([third, 0.6], [1, 1], [-np.inf, 0.3]))
    assert outcome.time[0] == outcome.entry[1]
    assert outcome.entry[0] == -np.inf
    with pytest.raises(ValueError, match=r"by more than rounding .*timefix=False.*row 1"):
        surv([1.0, third], [1, 1], [0.0, 0.3])
    assert surv([1.0, third], [1, 1], [0.0, 0.3], timefix=False)["time"][1] == third


@given(
    ticks=st.lists(st.integers(1, 1000), min_size=2, max_size=40),
    unit=st.sampled_from([1e-9, 0.1, 1 / 7, 30.4375, 1e6]),
    noise=st.integers(0, 100),
)
def test_ties_are_those_of_the_ticks_in_any_unit(ticks: list[int], unit: float, noise: int) -> None:
    ulps = np.random.default_rng(noise).integers(-4, 5, len(ticks))
    exact = np.array(ticks) * unit
    time = surv(exact + ulps * np.spacing(exact), np.ones(len(ticks)))["time"]
    codes = np.unique(time, return_inverse=True)[1]
    assert (codes == np.unique(ticks, return_inverse=True)[1]).all()
    again = surv(time, np.ones(len(ticks)))["time"]
    np.testing.assert_array_equal(again, time)


def test_different_times_stay_as_they_are() -> None:
    time = np.random.default_rng(0).exponential(10, 2000)
    np.testing.assert_array_equal(surv(time, np.ones(2000))["time"], time)
    assert check_survival(([1.0, 1.0 + 1e-6], [1, 1])).time.tolist() == [1.0, 1.0 + 1e-6]


def test_every_form_of_an_outcome_but_one_made_by_surv_is_fixed() -> None:
    time, event = np.array([0.1 + 0.2, 0.3]), np.array([True, False])
    foreign = np.empty(2, dtype=[("dead", "?"), ("years", "f8")])
    foreign["dead"], foreign["years"] = event, time
    for y in ((time, event), pd.DataFrame({"time": time, "event": event}), foreign):
        assert check_survival(y).time.tolist() == [0.3, 0.3]
        assert check_survival(y, timefix=False).time.tolist() == time.tolist()
    kept = surv(time, event, timefix=False)
    assert check_survival(kept).time.tolist() == time.tolist()
    assert check_survival(check_survival(kept)).time.tolist() == time.tolist()


def test_curves_and_tests_without_covariates() -> None:
    age, stop, event, X = ages()
    raw, rounded = stop - age, (stop - age).round(6)
    curve, wanted = kaplan_meier(raw, event), kaplan_meier(rounded, event)
    np.testing.assert_allclose(curve.y, wanted.y, rtol=1e-12)
    np.testing.assert_allclose(curve(wanted.x), wanted.y, rtol=1e-12)
    np.testing.assert_allclose(curve.left(wanted.x), wanted.left(wanted.x), rtol=1e-12)
    group = X["x"] > 0
    assert log_rank_test(raw, event, group).statistic == pytest.approx(
        log_rank_test(rounded, event, group).statistic, rel=1e-10
    )


def test_cuts_and_asked_times_meet_event_times() -> None:
    tenths = np.array([0.1 * k for k in range(1, 11)])  # 0.30000000000000004, ...
    clean = np.round(tenths, 1)
    assert (tenths != clean).any()
    event = np.arange(10) % 3 != 1
    for loss in ("logistic_hazard", "pc_hazard"):
        head = DiscreteTimeHead(loss, cuts=clean)
        found = head.fit_outcome(surv(tenths, event))
        wanted = DiscreteTimeHead(loss, cuts=clean).fit_outcome(surv(clean, event))
        for name in ("interval", "stop", "start", "cause", "stop_share"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
    X = pd.DataFrame({"x": np.random.default_rng(0).normal(size=10)})
    y, other = surv(tenths, event), surv(clean, event)
    cox, same = (FusionCox({}, structured="x").fit(X, outcome) for outcome in (y, other))
    np.testing.assert_allclose(
        cox.predict_survival_function(X, clean), same.predict_survival_function(X, clean), rtol=1e-9
    )
    last = FusionDiscreteTime({}, structured="x", cuts=[0.3, 1.0]).fit(X, y)
    assert last.cuts_.tolist() == [0.0, 0.3, 1.0]


def test_strata_and_the_head_take_tuples() -> None:
    target = CoxHead().fit_outcome(([0.1 + 0.2, 0.3, 0.6], [1, 1, 1]))
    assert len(target.plan.last) == 3  # a dummy and two event times


def test_times_of_scores_meet_event_times() -> None:
    tenths = np.array([0.1 * k for k in range(1, 11)])
    clean, event = np.round(tenths, 1), np.arange(10) % 3 != 1
    raw, y = surv(tenths, event), surv(clean, event)
    survival = np.linspace(0.95, 0.1, 9) ** np.linspace(0.5, 2, 10)[:, None]
    risk, times = np.linspace(0, 1, 10) ** 2 - np.arange(10) % 2, clean[:9]
    for found, wanted in (
        (brier_score(raw, raw, survival, times), brier_score(y, y, survival, times)),
        (
            concordance_index_antolini(raw, survival, times),
            concordance_index_antolini(y, survival, times),
        ),
        (
            cumulative_dynamic_auc(raw, raw, risk, times).auc,
            cumulative_dynamic_auc(y, y, risk, times).auc,
        ),
        (concordance_index_uno(raw, raw, risk, 0.3), concordance_index_uno(y, y, risk, 0.3)),
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
