"""A column that is the outcome itself is told, whatever its unit or its labels."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmfusion import Genes, Tabular, surv
from mmfusion.estimators import FusionClassifier, FusionCox, FusionDiscreteTime, FusionRegressor
from mmfusion.model.leaks import warn_of_outcome

N = 80
RNG = np.random.default_rng(0)
TIME, EVENT = RNG.exponential(size=N), RNG.random(N) < 0.7
Y = surv(TIME, EVENT)
CLASSES = RNG.choice(["a", "b", "c"], N)
X = pd.DataFrame(
    {
        "x": RNG.normal(size=N),
        "months": TIME / 30.4,
        "time": TIME,
        "event": EVENT,
        "died": np.where(EVENT, "yes", "no"),
        "alive": pd.array(~EVENT, dtype="boolean"),
        "number": pd.array(EVENT.astype(int), dtype="Int64"),
        "label": CLASSES,
        "code": pd.Categorical.from_codes(pd.factorize(CLASSES)[0], ["I", "II", "III"]),
        "half": np.where(np.arange(N) < N // 2, TIME, np.nan),
    }
)
FAST: Any = {"epochs": 1, "random_state": 0, "device": "cpu"}


@pytest.mark.parametrize("column", ["months", "time", "event", "died", "alive", "number", "half"])
@pytest.mark.parametrize(
    "y",
    [Y, pd.DataFrame({"time": TIME, "event": EVENT}), (TIME, EVENT)],
    ids=["array", "frame", "tuple"],
)
def test_times_and_events_among_the_columns_are_told(column: str, y: Any) -> None:
    with pytest.warns(UserWarning, match=f"Column '{column}' of X holds the outcome"):
        warn_of_outcome(y, X, ["x", column])


@pytest.mark.parametrize("column", ["label", "code"])
def test_classes_and_numbers_among_the_columns_are_told(column: str) -> None:
    with pytest.warns(UserWarning, match=rf"Column '{column}' of X holds the outcome \(y\)"):
        warn_of_outcome(CLASSES, X, ["x", column])
    with pytest.warns(UserWarning, match="Columns 'months', 'time' of X hold the outcome"):
        warn_of_outcome(pd.Series(TIME), X, ["x", "months", "time", "died"])


def test_what_is_not_the_outcome_is_not_told() -> None:
    other = pd.DataFrame(
        {
            "x": TIME + RNG.normal(size=N),
            "log": np.log(TIME),
            "less": -TIME,
            "flag": np.where(np.arange(N) == 0, ~EVENT, EVENT),
            "one": 1.0,
            "list": [[1]] * N,
            "image": [np.zeros(3)] * N,
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for y in (Y, CLASSES, TIME, np.ones(N), (TIME, np.ones(N))):
            warn_of_outcome(y, other, other.columns)
        few = other[:8].assign(died=EVENT[:8])  # by chance, of so few
        warn_of_outcome(EVENT[:8], few, ["died"])


def test_the_estimators_look_at_what_they_read_and_at_nothing_else() -> None:
    told = "holds the outcome"
    with pytest.warns(UserWarning, match="Columns 'months', 'time', 'event'"):
        FusionCox(**FAST).fit(X[["x", "months", "time", "event"]], Y)
    with pytest.warns(UserWarning, match=f"'died' of X {told}"):
        FusionDiscreteTime(modalities={}, structured="died").fit(X, Y)
    with pytest.warns(UserWarning, match=f"'label' of X {told}"):
        FusionClassifier({"t": Tabular(["x", "label"])}, **FAST).fit(X, CLASSES)
    with pytest.warns(UserWarning, match=f"'time' of X {told}"):
        FusionRegressor(**FAST).fit(X[["x", "time"]], TIME)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", told)
        FusionCox({"rna": Genes(["x"])}, structured="1", **FAST).fit(X, Y)


def test_wide_tables_are_read_quickly() -> None:
    wide = pd.DataFrame(RNG.normal(size=(500, 5000)))
    y = surv(RNG.exponential(size=500), RNG.random(500) < 0.5)
    start = time.process_time()
    warn_of_outcome(y, wide, wide.columns)
    assert time.process_time() - start < 3.0
