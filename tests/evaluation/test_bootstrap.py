from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from mmfusion import Tabular
from mmfusion.evaluation import CoxRidge, bootstrap_score
from mmfusion.evaluation.bootstrap import plus_632
from mmfusion.metrics import concordance_index
from mmfusion.survival import surv


def test_one_nearest_neighbour_on_noise() -> None:
    # Efron & Tibshirani (1997, section 3): the apparent error is 0, the true one .5; .632 says
    # .632 * .5 = .316, and .632+ was made to say .5.
    rng = np.random.default_rng(0)
    found = []
    for _ in range(8):
        X, y = rng.normal(size=(40, 5)), np.repeat([0, 1], 20)
        found.append(
            bootstrap_score(KNeighborsClassifier(1), X, y, scoring="accuracy", n_bootstraps=25)
        )
    mean = pd.DataFrame(found).mean()
    assert mean["apparent"] == 1.0
    assert mean["score_632"] == pytest.approx(1 - 0.316, abs=0.02)
    assert mean["no_information"] == pytest.approx(0.5, abs=0.03)
    assert mean["score_632_plus"] == pytest.approx(0.5, abs=0.03)
    assert mean["corrected"] > 0.7  # Harrell's is too good for a model that learns by heart


def test_the_formula_whichever_direction_is_better() -> None:
    # Computed by hand: R = .1 / .3, w = .632 / (1 - .368 / 3) = .72039...
    expected = 0.9 - 0.1 * 0.632 / (1 - 0.368 / 3)
    assert plus_632(0.9, 0.8, 0.6) == pytest.approx(expected, rel=1e-12)
    assert plus_632(0.1, 0.2, 0.4) == pytest.approx(1 - expected, rel=1e-12)
    assert plus_632(0.9, 0.4, 0.5) == pytest.approx(0.5, rel=1e-12)  # worse than nothing: nothing
    assert plus_632(0.9, 0.95, 0.5) == pytest.approx(0.368 * 0.9 + 0.632 * 0.95, rel=1e-12)
    assert plus_632(0.5, 0.5, 0.5) == pytest.approx(0.5, rel=1e-12)


def test_it_is_what_a_loop_computes() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 8))
    y = X[:, 0] + rng.normal(size=50)
    found = bootstrap_score(LinearRegression(), X, y, n_bootstraps=7, random_state=3)
    draws = np.random.RandomState(3)
    whole = LinearRegression().fit(X, y)
    shuffled = [r2_score(draws.permutation(y), whole.predict(X)) for _ in range(50)]
    outside, gained = [], []
    for _ in range(7):
        rows = draws.choice(np.arange(50), 50)
        model = LinearRegression().fit(X[rows], y[rows])
        left = np.setdiff1d(np.arange(50), rows)
        outside.append(r2_score(y[left], model.predict(X[left])))
        gained.append(model.score(X[rows], y[rows]) - model.score(X, y))
    assert found.apparent == pytest.approx(whole.score(X, y), rel=1e-12)
    assert found.out_of_bag == pytest.approx(np.mean(outside), rel=1e-12)
    assert found.optimism == pytest.approx(np.mean(gained), rel=1e-12)
    assert found.corrected == pytest.approx(whole.score(X, y) - np.mean(gained), rel=1e-12)
    assert found.no_information == pytest.approx(np.mean(shuffled), rel=1e-9)


def test_survival_of_noise_is_at_chance_with_selection_inside() -> None:
    rng = np.random.default_rng(1)
    scores = []
    for _ in range(4):
        X = pd.DataFrame(rng.normal(size=(60, 6))).add_prefix("x")
        y = surv(rng.exponential(size=60), rng.random(60) < 0.7)
        scores.append(bootstrap_score(CoxRidge(Tabular(list(X))), X, y, n_bootstraps=10))
    mean = pd.DataFrame(scores).mean()
    assert mean["apparent"] > 0.6
    assert mean["no_information"] == 0.5
    assert mean["score_632_plus"] == pytest.approx(0.5, abs=0.08)
    assert abs(mean["score_632_plus"] - 0.5) < abs(mean["score_632"] - 0.5)


def test_groups_are_drawn_whole() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"x": rng.normal(size=40), "site": np.repeat(np.arange(10), 4)})
    y = rng.normal(size=40)
    seen: list[pd.Series] = []

    class Watching(LinearRegression):
        def fit(self, X: pd.DataFrame, y: Any, sample_weight: Any = None) -> Watching:
            seen.append(X["site"])
            return super().fit(X, y)

    bootstrap_score(Watching(), X, y, groups="site", n_bootstraps=5)
    for sites in seen[1:]:
        assert (sites.value_counts() % 4 == 0).all()


def test_samples_that_fail_are_told() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 2))
    y = np.r_[np.zeros(11), 1].astype(int)
    model = make_pipeline(SelectKBest(f_classif, k=1), KNeighborsClassifier(1))
    with pytest.warns(UserWarning, match=r"\d+ of 20 bootstrap samples failed; the first: "):
        found = bootstrap_score(model, X, y, scoring="roc_auc", n_bootstraps=20)
    assert np.isfinite(found.apparent)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_bootstraps": 0}, "n_bootstraps parameter"),
        ({"n_permutations": 0}, "n_permutations parameter"),
        ({"scoring": ["r2", "rmse"]}, "must be one score"),
        ({"scoring": "r3"}, "scoring parameter must be one of"),
    ],
)
def test_errors_name_the_parameter(params: dict[str, Any], message: str) -> None:
    X = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(ValueError, match=message):
        bootstrap_score(clone(LinearRegression()), X, X[:, 0], **params)


def test_harrells_optimism_of_a_cox_model() -> None:
    rng = np.random.default_rng(2)
    X = pd.DataFrame(rng.normal(size=(80, 3))).add_prefix("x")
    y = surv(rng.exponential(np.exp(-X["x0"])), rng.random(80) < 0.8)
    model = CoxRidge(Tabular(list(X)))
    found = bootstrap_score(model, X, y, scoring="c", n_bootstraps=5, random_state=1)
    draws, gained = np.random.RandomState(1), []
    for _ in range(5):
        rows = draws.choice(np.arange(80), 80)
        fitted = clone(model).fit(X.iloc[rows].reset_index(drop=True), y[rows])
        own = concordance_index(y[rows], fitted.predict(X.iloc[rows]))
        gained.append(own - concordance_index(y, fitted.predict(X)))
    assert found.optimism == pytest.approx(np.mean(gained), rel=1e-12)
