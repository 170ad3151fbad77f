"""Splitters: which rows are tested together, and what folds have in common."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GridSearchCV, cross_val_score

from mmfusion import Tabular, surv
from mmfusion.evaluation import (
    CalendarSplit,
    CoxRidge,
    LeaveOneSiteOut,
    SurvivalKFold,
    compare,
)
from mmfusion.metrics import make_survival_scorer

HARRELL = make_survival_scorer("harrell")


def spread(counts: list[int]) -> int:
    return max(counts) - min(counts)


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[np.ndarray, int, int]:
    n = draw(st.integers(8, 60))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    causes = draw(st.integers(1, 2))
    status = rng.integers(0, causes + 1, n)
    status[:4] = 1
    time = rng.integers(1, draw(st.sampled_from([4, 1000])), n)
    return surv(time, status), draw(st.integers(2, 4)), draw(st.integers(0, 99))


@given(cohorts())
def test_folds_have_as_many_rows_events_and_early_events_but_for_one(
    cohort: tuple[np.ndarray, int, int],
) -> None:
    y, n_splits, seed = cohort
    tests = [test for _, test in SurvivalKFold(n_splits, random_state=seed).split(y, y)]
    assert sorted(np.concatenate(tests)) == list(range(len(y)))
    assert spread([len(test) for test in tests]) <= 1
    for level in np.unique(y["event"]):
        assert spread([(y[test]["event"] == level).sum() for test in tests]) <= 1
    if len(np.unique(y["time"])) == len(y):  # of ties, any may be the earlier
        for time in y["time"]:
            early = (y["time"] <= time) & (y["event"] > 0) & (y["event"] == y["event"].max())
            assert spread([early[test].sum() for test in tests]) <= 1


@given(cohorts(), st.integers(4, 20))
def test_subjects_stay_together_and_are_dealt_as_rows_are(
    cohort: tuple[np.ndarray, int, int], n_subjects: int
) -> None:
    y, n_splits, seed = cohort
    subject = np.arange(len(y)) % n_subjects  # events of the first four rows: of four subjects
    splitter = SurvivalKFold(n_splits, random_state=seed)
    tests = [test for _, test in splitter.split(y, y, subject)]
    sets = [set(subject[test]) for test in tests]
    assert sorted(np.concatenate(tests)) == list(range(len(y)))
    assert sum(map(len, sets)) == len(set(subject))
    assert spread([len(one) for one in sets]) <= 1
    died = pd.Series(y["event"] > 0).groupby(subject).any()
    assert spread([int(died[list(one)].sum()) for one in sets]) <= 2  # of two causes, 1 each
    frame = pd.DataFrame({"id": subject})
    named = SurvivalKFold(n_splits, group="id", random_state=seed).split(frame, y)
    assert [test.tolist() for _, test in named] == [test.tolist() for test in tests]


def test_repeats_are_dealt_anew_and_a_seed_repeats_them() -> None:
    y = surv(np.arange(1, 41), np.arange(40) % 2)
    splitter = SurvivalKFold(4, n_repeats=3, random_state=7)
    tests = [test.tolist() for _, test in splitter.split(y, y)]
    assert len(tests) == splitter.get_n_splits() == 12
    for repeat in range(3):
        assert sorted(np.concatenate(tests[4 * repeat : 4 * repeat + 4])) == list(range(40))
    assert tests[:4] != tests[4:8]
    assert tests == [test.tolist() for _, test in splitter.split(y, y)]


@given(st.lists(st.integers(0, 4), min_size=2, max_size=40))
def test_each_site_is_tested_once_and_trained_on_by_all_others(sites: list[int]) -> None:
    if len(set(sites)) < 2:
        return
    labels = np.array(sites)
    folds = list(LeaveOneSiteOut().split(labels, groups=labels))
    assert [set(labels[test]) for _, test in folds] == [{site} for site in sorted(set(sites))]
    assert all(not set(labels[train]) & set(labels[test]) for train, test in folds)
    assert all(len(train) + len(test) == len(sites) for train, test in folds)


def test_a_site_without_events_is_trained_on_only() -> None:
    X = pd.DataFrame({"hospital": list("aabbccc")})
    y = surv(range(1, 8), [1, 0, 0, 0, 1, 1, 0])
    splitter = LeaveOneSiteOut("hospital")
    with pytest.warns(UserWarning, match=r"fewer than 1 event\(s\) are trained on only: 'b'"):
        folds = list(splitter.split(X, y))
    assert [test.tolist() for _, test in folds] == [[0, 1], [4, 5, 6]]
    assert folds[0][0].tolist() == [2, 3, 4, 5, 6]
    with pytest.warns(UserWarning, match="'a', 'b'"):
        assert LeaveOneSiteOut("hospital", min_events=2).get_n_splits(X, y) == 1
    assert splitter.get_n_splits(X, np.zeros(7)) == 3  # numbers have no events


@given(st.lists(st.integers(2000, 2012), min_size=3, max_size=60), st.integers(1, 4))
def test_all_training_dates_come_before_the_tested_ones(years: list[int], n_splits: int) -> None:
    X = pd.DataFrame({"year": years})
    if len(set(years)) <= n_splits:
        with pytest.raises(ValueError, match="must be below the number of dates"):
            list(CalendarSplit("year", n_splits).split(X))
        return
    folds = list(CalendarSplit("year", n_splits).split(X))
    assert len(folds) == n_splits
    seen: list[int] = []
    for train, test in folds:
        assert X["year"].iloc[train].max() < X["year"].iloc[test].min()
        assert len(test)
        assert not seen or sorted(seen) == train.tolist()
        seen = [*train.tolist(), *test.tolist()]
    assert sorted(seen) == list(range(len(years)))


def test_dates_may_be_text_and_periods_have_about_as_many_rows() -> None:
    days = pd.date_range("2020-01-01", periods=100, freq="D")
    text = pd.DataFrame({"day": days.strftime("%Y-%m-%d")})
    folds = list(CalendarSplit("day", 4).split(text))
    assert [len(test) for _, test in folds] == [20, 20, 20, 20]
    assert [len(train) for train, _ in folds] == [20, 40, 60, 80]


@pytest.mark.parametrize(
    ("splitter", "message"),
    [
        (SurvivalKFold(9), r"Got 9 folds of 3 rows with an event \(6 rows\)"),
        (SurvivalKFold(1), "The n_splits parameter must be an integer"),
        (SurvivalKFold(2, 0), "The n_repeats parameter must be an integer"),
        (SurvivalKFold(2, group="ward"), "The groups parameter must name a column of X"),
        (LeaveOneSiteOut(), "needs the site of each row"),
        (LeaveOneSiteOut("one"), "needs two sites"),
        (LeaveOneSiteOut("site", min_events=9), "No site has 9"),
        (CalendarSplit("month"), "must name a column of X"),
        (CalendarSplit("site"), "holds no dates"),
        (CalendarSplit("gap"), "is missing in rows 2"),
    ],
)
def test_what_cannot_be_split_is_an_error(splitter: object, message: str) -> None:
    X = pd.DataFrame({"site": list("abcabc"), "one": 1, "gap": [1, 2, np.nan, 4, 5, 6]})
    y = surv(range(1, 7), [1, 0, 1, 0, 1, 0])
    with pytest.raises(ValueError, match=message):
        list(splitter.split(X, y))  # type: ignore[attr-defined]


def test_scikit_learn_and_compare_take_them() -> None:
    rng = np.random.default_rng(0)
    n = 120
    X = pd.DataFrame({"x": rng.normal(size=n), "site": np.repeat(list("abcd"), 30)})
    X["year"] = 2000 + np.arange(n) // 15
    y = surv(rng.exponential(np.exp(-X["x"])), rng.random(n) < 0.7)
    model = CoxRidge(Tabular(["x"]))
    for splitter, n_splits in (
        (SurvivalKFold(3, 2, random_state=0), 6),
        (LeaveOneSiteOut("site"), 4),
        (CalendarSplit("year", 3), 3),
    ):
        scores = cross_val_score(model, X, y, cv=splitter, scoring=HARRELL, error_score="raise")
        assert len(scores) == n_splits
        assert (scores > 0.5).all()
        found = compare({"ridge": model}, X, y, splitter).scores
        np.testing.assert_allclose(found["c"], scores, rtol=1e-12)
    search = GridSearchCV(model, {"penalizer": [0.1]}, cv=LeaveOneSiteOut(), scoring=HARRELL)
    assert search.fit(X, y, groups=X["site"]).n_splits_ == 4
