"""The same row labels in another order: positions would join the rows of different subjects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import cross_val_score

from mmfusion import surv
from mmfusion.estimators import FusionClassifier, FusionCox, FusionDiscreteTime, FusionRegressor
from mmfusion.evaluation import CoxRidge, compare, plot_risk_groups
from mmfusion.inputs.labels import check_order
from mmfusion.metrics import (
    brier_score,
    concordance_index,
    concordance_index_antolini,
    concordance_index_uno,
    cumulative_dynamic_auc,
    d_calibration,
    make_survival_scorer,
)
from mmfusion.survival import kaplan_meier, log_rank_test, nelson_aalen

N = 60
RNG = np.random.default_rng(0)
IDS = [f"P{i:03d}" for i in range(N)]
X = pd.DataFrame({"x": RNG.normal(size=N), "arm": np.arange(N) % 2}, index=IDS)
Y = pd.DataFrame({"time": RNG.exponential(np.exp(-X["x"])), "event": RNG.random(N) < 0.7})
Y.index = X.index
MIXED = Y.sample(frac=1, random_state=0)
RISK = X["x"].rename("risk")
CURVES = pd.DataFrame(RNG.uniform(0.2, 0.8, (N, 1)), index=IDS, columns=[0.5])
WEIGHT = pd.Series(1.0, index=IDS)
COX = FusionCox(modalities={}, structured="x")
FITTED = FusionCox(modalities={}, structured="x").fit(X, Y)
MIXED_RISK = RISK.loc[MIXED.index]

CALLS: dict[str, Callable[[], Any]] = {
    "fit": lambda: COX.fit(X, MIXED),
    "fit, a tuple": lambda: COX.fit(X, (MIXED["time"], MIXED["event"])),
    "fit, weights": lambda: COX.fit(X, Y, sample_weight=WEIGHT[::-1]),
    "fit, eval_set": lambda: FusionCox(epochs=1).fit(X, Y, eval_set=(X, MIXED)),
    "fit, hazards": lambda: FusionDiscreteTime(modalities={}, structured="x").fit(X, MIXED),
    "fit, classes": lambda: FusionClassifier({}, structured="x").fit(X, MIXED["event"]),
    "fit, numbers": lambda: FusionRegressor({}, structured="x").fit(X, MIXED["time"]),
    "score": lambda: FITTED.score(X, MIXED),
    "score, weights": lambda: FITTED.score(X, Y, sample_weight=WEIGHT[::-1]),
    "score, numbers": lambda: (
        FusionRegressor({}, structured="x").fit(X, Y["time"]).score(X, MIXED["time"])
    ),
    "score, classes": lambda: (
        FusionClassifier({}, structured="x").fit(X, Y["event"]).score(X, MIXED["event"])
    ),
    "likelihood ratio": lambda: FITTED.effects_test("x", "likelihood_ratio", X, MIXED),
    "surv": lambda: surv(Y["time"], MIXED["event"]),
    "surv, entry": lambda: surv(Y["time"] + 1, Y["event"], MIXED["event"] * 0.5),
    "Kaplan-Meier": lambda: kaplan_meier(Y["time"], MIXED["event"]),
    "Nelson-Aalen, weights": lambda: nelson_aalen(Y["time"], Y["event"], weight=WEIGHT[::-1]),
    "log-rank": lambda: log_rank_test(Y["time"], Y["event"], X["arm"].loc[MIXED.index]),
    "Harrell": lambda: concordance_index(Y, MIXED_RISK),
    "Harrell, strata": lambda: concordance_index(Y, RISK, strata=X["arm"][::-1]),
    "Harrell, weights": lambda: concordance_index(Y, RISK, sample_weight=WEIGHT[::-1]),
    "Uno": lambda: concordance_index_uno(Y, MIXED, RISK),
    "Antolini": lambda: concordance_index_antolini(MIXED, CURVES),
    "AUC": lambda: cumulative_dynamic_auc(Y, Y, MIXED_RISK, [0.5]),
    "Brier": lambda: brier_score(Y, MIXED, CURVES),
    "calibration": lambda: d_calibration(MIXED, CURVES[0.5]),
    "scorer": lambda: make_survival_scorer("harrell")(FITTED, X, MIXED),
    "compare": lambda: compare({"a": COX}, X, MIXED, 2),
    "compare, numbers": lambda: compare({"a": COX}, X, MIXED["time"], 2, task="regression"),
    "ridge Cox": lambda: CoxRidge(None).fit(X, MIXED),
    "figure": lambda: plot_risk_groups(Y, MIXED_RISK),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_the_same_labels_in_another_order_are_refused(call: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"name the same rows in another order.*\.loc\["):
        call()


def test_aligned_as_the_message_says_the_result_is_that_of_the_right_order() -> None:
    expected = FITTED.effects_["coef"]
    for y in (MIXED.loc[X.index], Y.set_axis(range(N)), surv(Y["time"], Y["event"])):
        found = COX.fit(X, y).effects_["coef"]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("first", "second", "wrong"),
    [
        (["a", "b", "c"], ["a", "c", "b"], True),
        (["a", "a", "b"], ["a", "b", "a"], True),  # a bootstrap's
        (["a", "b", "c"], ["b", "c", "d"], True),  # one lost the first row, one the last
        (["a", "b", "c"], ["a", "b", "d"], False),
        (["a", "b", "c"], ["d", "e", "f"], False),
        ([0, 1, 2], [2, 1, 0], True),
        ([1, 2, 3], [0, 1, 2], False),  # counted anew
        ([7, 5, 3], [0, 1, 2], False),
        ([0.0, 1.0], [0, 1], False),
        ([("a", 1), ("b", 1)], [("b", 1), ("a", 1)], True),
        (pd.date_range("2020-01-01", periods=3), pd.date_range("2020-01-02", periods=3), False),
        (pd.Categorical(["a", "b"]), ["b", "a"], True),
        (pd.Index(["a", "b"], dtype="string"), ["b", "a"], True),
    ],
)
def test_what_counts_as_another_order(first: Any, second: Any, wrong: bool) -> None:
    x, y = (pd.Series(0, index=pd.Index(index)) for index in (first, second))
    try:
        check_order(x=x, y=y)
        refused = False
    except ValueError:
        refused = True
    assert refused == wrong


def test_shuffled_folds_of_labelled_rows_are_no_fault() -> None:
    shuffled = X.sample(frac=1, random_state=1)
    scores = cross_val_score(COX, shuffled, surv(*Y.loc[shuffled.index].to_numpy(float).T), cv=3)
    assert np.isfinite(scores).all()
    with pytest.raises(TypeError, match=r"sample_weight.*number for each row, as X\['w'\]"):
        COX.fit(X, Y, sample_weight="w")
