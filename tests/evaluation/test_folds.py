"""Folds: each with its share of the events, checked before anything is fitted."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.model_selection import KFold, StratifiedKFold

from mmfusion.evaluation import survival_stratified_folds
from mmfusion.evaluation.folds import check_folds, number_repeats
from mmfusion.survival import check_survival


def outcome(n: int = 60, n_events: int = 20):
    return check_survival((np.arange(1.0, n + 1), np.arange(n) < n_events))


def test_folds_partition_the_rows_and_share_the_events() -> None:
    y = outcome()
    folds = survival_stratified_folds(y, 5, 3, random_state=0)
    assert len(folds) == 15
    for repeat in range(3):
        tested = np.concatenate([test for _, test in folds[5 * repeat : 5 * repeat + 5]])
        np.testing.assert_array_equal(np.sort(tested), np.arange(60))
    for train, test in folds:
        np.testing.assert_array_equal(np.sort(np.r_[train, test]), np.arange(60))
        assert y.event[test].sum() == 4
    repeats = [set(test) for _, test in folds[::5]]
    assert repeats[0] != repeats[1]


def test_same_seed_same_folds() -> None:
    first, again = (survival_stratified_folds(outcome(), 4, random_state=3) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a[1], b[1])


def test_few_censored_rows_are_no_trouble() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folds = survival_stratified_folds(outcome(20, 18), 5, random_state=0)
    assert len(folds) == 5


@pytest.mark.parametrize(
    ("n", "n_events", "n_splits", "message"),
    [
        (4, 4, 5, "at most the number of rows. Got 5 folds of 4 rows"),
        (30, 3, 5, "at most the number of events.* Got 5 folds of 3 events \\(30 rows\\)"),
        (30, 10, 1, "n_splits parameter must be at least 2"),
    ],
)
def test_too_few(n: int, n_events: int, n_splits: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        survival_stratified_folds(outcome(n, n_events), n_splits)


def test_folds_in_every_form() -> None:
    y = outcome()
    splitter = StratifiedKFold(4, shuffle=True, random_state=1)
    expected = list(splitter.split(np.zeros(60), y.event))
    for given in (splitter, expected, ((list(a), list(b)) for a, b in expected)):
        for (_, test), (_, known) in zip(check_folds(given, y), expected, strict=True):
            np.testing.assert_array_equal(test, known)
    assert len(check_folds(3, y)) == 3


@pytest.mark.parametrize(
    ("folds", "error", "message"),
    [
        ([], ValueError, "at least one fold"),
        ("five", TypeError, "Got 'five'"),
        (None, TypeError, "Got None"),
        ([([0, 1, 2], [2, 3])], ValueError, r"fold 0 must not overlap. Got rows \[2\] in both"),
        ([([0, 1], [])], ValueError, "test rows of fold 0 must be a non-empty array"),
        ([([0, 1], [99])], ValueError, "test rows of fold 0 must be between 0 and 59. Got 99"),
        ([(np.ones(60, bool), [1])], ValueError, "training rows of fold 0.*Got dtype bool"),
    ],
)
def test_bad_folds(folds, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_folds(folds, outcome())


def test_repeats_are_numbered_by_the_rows_tested_again() -> None:
    folds = list(KFold(3).split(np.zeros(60))) * 2
    assert number_repeats(folds, 60) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
