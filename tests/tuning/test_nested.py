from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score

from mmfusion import Tabular
from mmfusion.evaluation import CoxRidge, corrected_interval
from mmfusion.tuning import FusionSearchCV, nested_cross_validate
from tests.tuning.common import SPACE, cohort, cox, numbers


class Failing(Ridge):
    """A model that cannot be fitted to some rows."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Failing:
        raise ArithmeticError("no luck")


def test_scores_are_those_of_searches_inside_each_outer_fold() -> None:
    X, y = numbers()
    outer, settings = KFold(3), {"n_trials": 6, "random_state": 0}
    grid = GridSearchCV(Ridge(), {"alpha": [1.0, 10.0]}, cv=2)
    candidates = {"plain": Ridge(), "tuned": (Ridge(), SPACE), "grid": grid}

    nested = nested_cross_validate(candidates, X, y, outer=outer, inner=2, scoring="r2", **settings)

    search = FusionSearchCV(Ridge(), SPACE, cv=2, scoring="r2", **settings)
    mean = nested.table["r2", "mean"]
    for name, model in {"plain": Ridge(), "tuned": search, "grid": grid}.items():
        assert mean[name] == pytest.approx(cross_val_score(model, X, y, cv=outer).mean(), abs=1e-12)
    d = nested.comparison.by_fold("r2")
    expected = corrected_interval(d["tuned"] - d["plain"], 0.5)
    row = nested.table.loc["tuned", "r2"]
    assert row["difference"] == pytest.approx(expected.difference)
    assert row["difference lower"] == pytest.approx(expected.lower)
    assert row["difference upper"] == pytest.approx(expected.upper)
    assert row["lower"] < row["mean"] < row["upper"]
    assert np.isnan(nested.table.loc["plain", ("r2", "difference")])
    of_rows = nested.comparison.pooled["tuned"]["r2"] - nested.comparison.pooled["plain"]["r2"]
    assert row["p of rows"] == pytest.approx(of_rows.p_value())
    assert set(nested.chosen["model"]) == {"tuned", "grid"}
    assert nested.chosen.groupby("model")["fold"].nunique().tolist() == [3, 3]
    assert "corrected resampled t-test" in nested.summary()


def test_a_candidate_that_fails_is_named_and_the_rest_goes_on() -> None:
    X, y = numbers()
    candidates = {"plain": Ridge(), "broken": Failing(), "tuned": (Failing(), {"alpha": [1.0]})}
    with pytest.warns(UserWarning, match="no luck"):
        nested = nested_cross_validate(candidates, X, y, outer=2, inner=2, n_trials=1)
    failures = nested.table["failure", ""]
    assert failures["plain"] == ""
    assert failures["broken"] == "failed in 2 of 2 folds: ArithmeticError: no luck"
    assert "No trial was judged on all folds. The first error: ArithmeticError" in failures["tuned"]
    assert np.isfinite(nested.table.loc["plain", ("r2", "mean")])
    assert np.isnan(nested.table.loc["broken", ("r2", "mean")])
    assert "no luck" in nested.summary()


def test_survival_with_groups_in_outer_and_inner_folds(tmp_path: Path) -> None:
    X, y = cohort()
    X["site"] = np.repeat(np.arange(12), 10)
    seen: list[set[int]] = []

    class Watching(CoxRidge):
        def fit(self, X: pd.DataFrame, y: Any) -> Watching:
            seen.append(set(X["site"]))
            return super().fit(X[["age"]], y)

        def predict(self, X: pd.DataFrame) -> np.ndarray:
            seen.append(set(X["site"]))
            return super().predict(X[["age"]])

    nested = nested_cross_validate(
        {"tuned": (Watching(), {"penalizer": [0.1]})},
        X,
        y,
        outer=3,
        inner=2,
        n_trials=1,
        groups="site",
        scoring=["c"],
    )
    inner = [(fit, predict) for fit, predict in pairwise(seen)]
    assert len(seen) == 3 * (2 * 2 + 2)
    assert all(not fit & predict for fit, predict in inner[::2])
    assert nested.table["c", "mean"]["tuned"] > 0.5


def test_an_interrupted_call_goes_on(tmp_path: Path) -> None:
    X, y = numbers()
    settings = {"outer": 2, "inner": 2, "n_trials": 3, "storage": tmp_path / "study"}
    candidates = {"tuned": (Ridge(), SPACE)}
    first = nested_cross_validate(candidates, X, y, **settings)
    lines = (tmp_path / "study.folds").read_text().splitlines()
    again = nested_cross_validate(candidates, X, y, **settings)
    assert (tmp_path / "study.folds").read_text().splitlines() == lines
    assert len(lines) == 2 * 3 * 2
    assert again.table["r2", "mean"].equals(first.table["r2", "mean"])


@pytest.mark.parametrize(
    ("params", "kind", "message"),
    [
        ({"candidates": {}}, TypeError, "candidates parameter must be a dict"),
        ({"candidates": {"a": (Ridge, SPACE)}}, TypeError, "candidates parameter must hold"),
        ({"reference": "b"}, ValueError, "reference parameter must be one of 'a'"),
        ({"scoring": "r3"}, ValueError, "scoring parameter must be one of"),
        ({"outer": 1}, ValueError, "number of folds"),
    ],
)
def test_errors_name_the_parameter(params: dict[str, Any], kind: type, message: str) -> None:
    X, y = numbers()
    with pytest.raises(kind, match=message):
        nested_cross_validate(**{"candidates": {"a": Ridge()}, "X": X, "y": y, **params})


def test_the_search_of_numbers_is_led_by_what_is_small() -> None:
    X, y = numbers()
    space = {"strategy": ["mean", "constant"]}
    nested = nested_cross_validate(
        {"tuned": (DummyRegressor(constant=100.0), space)}, X, y, scoring="rmse", n_trials=4
    )
    assert set(nested.chosen["strategy"]) == {"'mean'"}
    assert (nested.chosen["inner score"] < 0).all()


def test_what_cannot_be_averaged_stands_beside_what_is() -> None:
    X, y = cohort(60)
    rival = CoxRidge({"clinical": Tabular(["age"])})
    candidates = {
        "ours": (cox(linear=False, patience=None), {"learning_rate": [1e-3, 3e-2]}),
        "rival": (rival, {"penalizer": [0.1, 1.0]}),
    }
    settings = {"outer": 2, "inner": 2, "n_trials": 3, "scoring": "c"}
    nested = nested_cross_validate(candidates, X, y, n_best=2, **settings)
    assert not nested.comparison.failures
    assert np.isfinite(nested.table["c", "mean"]).all()
    alone = nested_cross_validate(candidates, X, y, **settings)
    changed = (nested.comparison.scores["c"] != alone.comparison.scores["c"]).groupby(
        nested.comparison.scores["model"]
    )
    assert changed.any().to_dict() == {"ours": True, "rival": False}  # the one is a mean of two
