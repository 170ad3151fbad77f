"""Outcomes: every form that is read, and every error with its own message."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pandas as pd
import pytest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from mmfusion.survival import Survival, check_survival, surv

TIME = [5.0, 8.0, 2.5, 0.0]
EVENT = [1, 0, 1, 1]
ENTRY = [1.0, 0.5, -np.inf, -1.0]


def frame(**columns):
    table = {"time": TIME, "event": EVENT} | columns
    return pd.DataFrame(table, index=["p1", "p2", "p3", "p4"])


@pytest.mark.parametrize(
    "y",
    [
        surv(TIME, EVENT),
        surv(pd.Series(TIME), np.array(EVENT, dtype=bool)),
        Surv.from_arrays(np.array(EVENT, bool), TIME),
        Surv.from_arrays(np.array(EVENT, bool), TIME, name_event="death", name_time="months"),
        np.array(list(zip(EVENT, TIME, strict=True)), dtype=[("cens", "i4"), ("t", "f4")]),
        np.array(list(zip(TIME, EVENT, strict=True)), dtype=[("time", "f8"), ("event", "i8")]),
        frame(),
        frame()[["event", "time"]],
        frame(event=np.array(EVENT, dtype=float)),
        frame(event=pd.array([True, False, True, True], dtype="boolean")),
        frame(time=pd.array(TIME, dtype="Float64")),
        frame(event=np.array([True, False, True, True], dtype=object)),
        (TIME, EVENT),
        [np.array(TIME), np.array(EVENT, dtype=np.uint8)],
        check_survival((TIME, EVENT)),
    ],
    ids=range(15),
)
def test_forms_are_read_alike(y):
    outcome = check_survival(y)
    np.testing.assert_array_equal(outcome.time, TIME)
    np.testing.assert_array_equal(outcome.event, np.array(EVENT, bool))
    np.testing.assert_array_equal(outcome.entry, np.full(4, -np.inf))
    assert outcome.time.dtype == outcome.entry.dtype == np.float64
    assert outcome.event.dtype == bool
    assert not outcome.delayed


@pytest.mark.parametrize(
    "y", [surv(TIME, EVENT, ENTRY), frame(entry=ENTRY), (TIME, EVENT, ENTRY)], ids=range(3)
)
def test_entry_is_read(y):
    outcome = check_survival(y)
    np.testing.assert_array_equal(outcome.entry, ENTRY)
    assert outcome.delayed  # someone enters after the exit at time 0


def test_delayed_only_where_a_risk_set_changes():
    assert not check_survival(([5.0, 8.0], [1, 1], [1.0, 4.9])).delayed
    assert check_survival(([5.0, 8.0], [1, 1], [1.0, 5.0])).delayed


def test_surv_is_scikit_survivals_array():
    y = surv([1.0, 2.0, 3.0, 4.0, 5.0], [1, 0, 1, 1, 0])
    assert y.dtype == Surv.from_arrays([True, False], [1.0, 2.0]).dtype
    CoxPHSurvivalAnalysis().fit(np.arange(5.0)[:, None] % 2, y)


def test_causes():
    y = surv([1.0, 2.0, 3.0], [0, 2, 1])
    assert y["event"].dtype == np.int64
    outcome = check_survival(y, allow_competing=True)
    np.testing.assert_array_equal(outcome.event, [0, 2, 1])
    with pytest.raises(ValueError, match=r"knows no competing causes.*row 1 \(2\)"):
        check_survival(y)
    with pytest.raises(ValueError, match="whole number"):
        check_survival(([1.0, 2.0], [1.5, 1]), allow_competing=True)
    as_bool = check_survival(([1.0, 2.0], [True, False]), allow_competing=True)
    assert as_bool.event.dtype == np.int64


def test_survival_cuts_converts_and_travels():
    outcome = check_survival((TIME, EVENT, ENTRY))
    part = outcome.take([2, 0])
    assert isinstance(part, Survival)
    assert len(part) == 2
    np.testing.assert_array_equal(part.entry, [-np.inf, 1.0])
    np.testing.assert_array_equal(outcome.to_structured(), surv(TIME, EVENT, ENTRY))
    assert check_survival((TIME, EVENT)).to_structured().dtype.names == ("event", "time")
    again = pickle.loads(pickle.dumps(outcome))
    np.testing.assert_array_equal(again.time, outcome.time)


BAD = {
    "no events": ((TIME, [0, 0, 0, 0]), ValueError, "at least one event. Got 4 rows, all censored"),
    "negative": (frame(time=[1, -2, 3, -4.5]), ValueError, r"negative. Got rows 'p2' \(-2\), 'p4'"),
    "nan": (frame(time=[1, np.nan, 3, 4]), ValueError, "Times in y must not be missing.*'p2'"),
    "infinite": (([1, np.inf], [1, 1]), ValueError, r"must be finite. Got row 1 \(inf\)"),
    "entry": (
        ([1.0, 2.0], [1, 1], [1.0, 0.0]),
        ValueError,
        r"before the time of event or censoring. Got row 0 \(1\)",
    ),
    "entry nan": (([1.0, 2.0], [1, 1], [np.nan, 0.0]), ValueError, "Entry times.*missing.*row 0"),
    "event values": (([1.0, 2.0], [1, 2]), ValueError, r"must be 0 or 1.*row 1 \(2\)"),
    "event nan": (([1.0, 2.0], [1, np.nan]), ValueError, "Events in y must not be missing.*row 1"),
    "event NA": (
        frame(event=pd.array([1, None, 0, 1], dtype="Int64")),
        ValueError,
        "Events in y must not be missing.*'p2'",
    ),
    "lengths": (([1.0, 2.0], [1]), ValueError, "same length. Got: time has 2, event has 1"),
    "empty": (([], []), ValueError, "at least one row"),
    "2-D": (np.ones((3, 2)), ValueError, r"Got an array of shape \(3, 2\).*surv\(time, event\)"),
    "2-D part": (([[1.0], [2.0]], [1, 1]), ValueError, r"time in y must have one dimension"),
    "text entry": (([1.0, 2.0], [1, 1], "a"), ValueError, "entry in y must have one .* Got 'a'"),
    "one event": (([1.0, 2.0], 1), ValueError, "event in y must have one dimension. Got 1"),
    "numbers": (np.arange(4.0), ValueError, r"Got 4 numbers. Use surv\(time, event\)"),
    "list of numbers": ([1.0, 2.0], ValueError, r"Use surv\(time, event\)"),
    "series": (pd.Series([1, 2]), ValueError, r"Use surv\(time, event\)"),
    "text": ((["a", "b"], [1, 0]), TypeError, "Times in y must be numbers. Got dtype <U1"),
    "text event": (([1, 2], np.array(["yes", 1], object)), TypeError, r"Events.*row 0 \('yes'\)"),
    "dates": (
        (pd.to_datetime(["2020-01-01", "2021-01-01"]), [1, 0]),
        TypeError,
        "count the days",
    ),
    "columns": (frame().rename(columns={"time": "months"}), ValueError, r"Got \['months', 'event'"),
    "extra column": (frame(Entry=ENTRY), ValueError, "'Entry'"),
    "two integer fields": (
        np.array([(1, 3)], dtype=[("a", "i8"), ("b", "i8")]),
        ValueError,
        r"event \(bool\) first",
    ),
    "time first": (
        np.array([(3.0, True)], dtype=[("t", "f8"), ("d", "?")]),
        ValueError,
        r"event \(bool\) first",
    ),
    "none": (None, ValueError, "requires y to be passed, but the target y is None"),
    "text alone": ("time", TypeError, "Got str"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_outcomes_are_refused(case):
    y, error, message = BAD[case]
    with pytest.raises(error, match=message):
        check_survival(y)


def test_every_error_has_its_own_message():
    messages = set()
    for y, error, _ in BAD.values():
        with pytest.raises(error) as caught:
            check_survival(y)
        messages.add(str(caught.value))
    assert len(messages) >= len(BAD) - 1  # the two orders of unnamed fields differ in the fields


def test_zero_times_are_refused_on_demand():
    assert check_survival(frame()).time.min() == 0
    with pytest.raises(ValueError, match=r"above zero here. Got row 'p4'"):
        check_survival(frame(), allow_zero_time=False)


def test_rows_of_x():
    with pytest.raises(ValueError, match=re.escape("as many rows as X (7). Got 4 rows")):
        check_survival(frame(), n_rows=7)


def test_labels_given_win_and_many_rows_are_cut_short():
    time = -np.ones(20)
    with pytest.raises(ValueError, match=r"rows 'r0' \(-1\), .*'r4' \(-1\) and 15 more"):
        check_survival((time, np.ones(20)), index=[f"r{i}" for i in range(20)])


def test_name_stands_in_messages():
    with pytest.raises(ValueError, match="Times in y_train must not be negative"):
        check_survival(([-1.0], [1]), name="y_train")


def test_eventless_outcomes_pass_on_demand():
    assert not check_survival((TIME, np.zeros(4)), require_events=False).event.any()
    assert not surv(TIME, np.zeros(4))["event"].any()
