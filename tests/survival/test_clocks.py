"""Dates and durations have no unit that a model knows: every entrance of times refuses them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmfusion.estimators import FusionCox, FusionDiscreteTime
from mmfusion.evaluation.plots import plot_survival_curves
from mmfusion.heads.cox import CoxHead
from mmfusion.heads.discrete import check_cuts
from mmfusion.inputs.parameters import check_number
from mmfusion.inputs.times import is_clock
from mmfusion.metrics import (
    brier_score,
    concordance_index_antolini,
    concordance_index_uno,
    cumulative_dynamic_auc,
    integrated_brier_score,
    make_survival_scorer,
)
from mmfusion.survival import StepFunction, kaplan_meier, nelson_aalen, surv

N = 60
RNG = np.random.default_rng(0)
X = pd.DataFrame({"x": RNG.normal(size=N)})
DAYS = np.ceil(RNG.exponential(300, N))
Y = surv(DAYS, RNG.random(N) < 0.7)
HALF = np.full((N, 2), 0.5)
DELTAS = pd.to_timedelta([180, 365], unit="D")
DATES = pd.to_datetime(["2020-01-01", "2021-01-01"])

CLOCKS = {
    "TimedeltaIndex": DELTAS,
    "Series": pd.Series(DELTAS),
    "NumPy": DELTAS.to_numpy(),
    "NumPy days": np.array([180, 365], dtype="m8[D]"),
    "objects": np.array([np.timedelta64(180, "D"), np.timedelta64(365, "D")], dtype=object),
    "Timedeltas": list(DELTAS),
    "timedeltas": [dt.timedelta(180), dt.timedelta(365)],
    "one among numbers": [180.0, pd.Timedelta(365, "D")],
    "Arrow durations": pd.Series(DELTAS, dtype="duration[ns][pyarrow]"),
    "DatetimeIndex": DATES,
    "time zone": DATES.tz_localize("UTC"),
    "Arrow times": pd.Series(DATES, dtype="timestamp[ns][pyarrow]"),
    "dates": [dt.date(2020, 1, 1), dt.date(2021, 1, 1)],
    "periods": DATES.to_period("D"),
    "categories": pd.Series(pd.Categorical(DATES)),
}


@pytest.fixture(scope="module")
def cox() -> FusionCox:
    return FusionCox({}, structured="x").fit(X, Y)


@pytest.fixture(scope="module")
def discrete() -> FusionDiscreteTime:
    return FusionDiscreteTime({}, structured="x", cuts=[180, 365, 3000]).fit(X, Y)


TIMES: dict[str, tuple[str, Callable[..., Any]]] = {
    "survival function": ("times", lambda c, d, t: c.predict_survival_function(X, t)),
    "hazard": ("times", lambda c, d, t: d.predict_cumulative_hazard_function(X, t)),
    "incidence": ("times", lambda c, d, t: d.predict_cumulative_incidence_function(X, t)),
    "head": ("times", lambda c, d, t: c._head.survival(np.zeros(3), t)),
    "discrete head": ("times", lambda c, d, t: d._head.survival(np.zeros((3, 3)), t)),
    "cuts": ("cuts", lambda c, d, t: check_cuts(t)),
    "fit with cuts": (
        "cuts",
        lambda c, d, t: FusionDiscreteTime({}, structured="x", cuts=t).fit(X, Y),
    ),
    "Brier": ("times", lambda c, d, t: brier_score(Y, Y, HALF, t)),
    "integrated Brier": ("times", lambda c, d, t: integrated_brier_score(Y, Y, HALF, t)),
    "columns": ("times", lambda c, d, t: brier_score(Y, Y, pd.DataFrame(HALF, columns=list(t)))),
    "beside columns": (
        "times",
        lambda c, d, t: brier_score(Y, Y, pd.DataFrame(HALF, columns=[180, 365]), t),
    ),
    "AUC": ("times", lambda c, d, t: cumulative_dynamic_auc(Y, Y, np.zeros(N), t)),
    "Antolini": ("times", lambda c, d, t: concordance_index_antolini(Y, HALF, t)),
    "scorer": ("times", lambda c, d, t: make_survival_scorer("ibs", times=t)),
    "steps": ("x", lambda c, d, t: StepFunction(t, [0.5, 0.2])),
    "curve": ("t", lambda c, d, t: kaplan_meier(DAYS, Y["event"])(t)),
    "left of a curve": ("t", lambda c, d, t: nelson_aalen(DAYS, Y["event"]).left(t)),
    "interval": ("t", lambda c, d, t: kaplan_meier(DAYS, Y["event"]).confidence_interval(t)),
    "plot": (
        "curves",
        lambda c, d, t: plot_survival_curves(pd.DataFrame(HALF[:1], columns=list(t))),
    ),
}


@pytest.mark.parametrize("entrance", TIMES)
@pytest.mark.parametrize("form", CLOCKS)
def test_no_entrance_takes_dates_or_durations(cox, discrete, entrance: str, form: str) -> None:
    name, call = TIMES[entrance]
    with pytest.raises(TypeError, match=rf"The {name} parameter .*count the days"):
        call(cox, discrete, CLOCKS[form])


ONE = {
    "Timedelta": pd.Timedelta(180, "D"),
    "timedelta": dt.timedelta(180),
    "timedelta64": np.timedelta64(180, "D"),
    "Timestamp": pd.Timestamp("2020-01-01"),
    "datetime64": np.datetime64("2020-01-01"),
}


@pytest.mark.parametrize("form", ONE)
def test_no_horizon_is_a_duration(cox, discrete, form: str) -> None:
    value = ONE[form]
    for call in (
        lambda: cox.predict_restricted_mean(X, value),
        lambda: discrete.predict_restricted_mean(X, value),
        lambda: cox._head.restricted_mean(np.zeros(3), value),
        lambda: discrete._head.restricted_mean(np.zeros((3, 3)), value),
    ):
        with pytest.raises(TypeError, match=r"The horizon parameter .*count the days"):
            call()
    for call in (
        lambda: concordance_index_uno(Y, Y, np.zeros(N), tau=value),
        lambda: make_survival_scorer("uno", tau=value),
    ):
        with pytest.raises(TypeError, match=r"The tau parameter .*count the days"):
            call()
    with pytest.raises(TypeError, match="must be a number"):
        check_number("learning_rate", value, 0)


@pytest.mark.parametrize("form", CLOCKS)
def test_no_outcome_holds_dates_or_durations(form: str) -> None:
    clocks = CLOCKS[form]
    with pytest.raises(TypeError, match=r"Times in y must be numbers.*count the days"):
        surv(clocks, [1, 0])
    with pytest.raises(TypeError, match=r"Entry times in y must be numbers.*count the days"):
        surv([180, 365], [1, 0], clocks)
    with pytest.raises(TypeError, match=r"Times in the outcome must be.*count the days"):
        kaplan_meier(clocks, [1, 0])
    with pytest.raises(TypeError, match=r"Entry times in the outcome must be.*count the days"):
        nelson_aalen([180, 365], [1, 0], clocks)
    with pytest.raises(TypeError, match=r"Times in y must be numbers.*count the days"):
        CoxHead().fit_outcome((clocks, [1, 0]))


def test_numbers_of_every_form_are_taken(cox) -> None:
    wanted = cox.predict_survival_function(X, [180.0, 365.0]).to_numpy()
    for times in (
        (180, 365),
        np.array([180, 365], dtype=np.int32),
        pd.Series([180, 365], dtype="Int64"),
        pd.Series([180, 365], dtype="double[pyarrow]"),
        pd.Index([180, 365]),
        DELTAS / pd.Timedelta(days=1),
        np.array([180, 365], dtype=object),
    ):
        assert not is_clock(times)
        np.testing.assert_array_equal(cox.predict_survival_function(X, times), wanted)
