"""Noise is at chance, whatever is chosen inside the folds; what is chosen outside is caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.impute import KNNImputer
from sklearn.pipeline import make_pipeline

from mmfusion import Genes, Tabular
from mmfusion.estimators import FusionCox
from mmfusion.evaluation import CoxRidge
from mmfusion.fusion import EarlyFusion, LateFusion
from mmfusion.survival import surv
from mmfusion.tuning import nested_cross_validate

N, GENES = 60, 60
TWO = {"genes": Genes("x*"), "clinical": Tabular(["age", "dose"])}
SMALL = {"n_members": 1, "epochs": 5, "validation_fraction": 0.3}


def by_outcome(X: Any, y: np.ndarray) -> np.ndarray:
    """Return how far each column goes with who dies early."""
    early = y["event"] & (y["time"] <= np.median(y["time"]))
    X = np.asarray(X)
    return np.abs(X[early].mean(0) - X[~early].mean(0)) / X.std(0)


def chosen() -> Any:
    """Return a Cox model of the columns that go best with the outcome, on pandas' columns."""
    choice = SelectKBest(by_outcome, k=5).set_output(transform="pandas")
    return make_pipeline(choice, CoxRidge(penalizer=0.1))


CANDIDATES: dict[str, Callable[[], Any]] = {
    "selection": lambda: (chosen(), {"selectkbest__k": [3, 8]}),
    "selected genes": lambda: (
        FusionCox(TWO, EarlyFusion("features", n_components=5, hidden=(4,)), **SMALL),
        {"fusion__n_components": [3, 8]},
    ),
    "imputation": lambda: (
        make_pipeline(KNNImputer().set_output(transform="pandas"), CoxRidge(penalizer=0.1)),
        {"knnimputer__n_neighbors": [2, 10]},
    ),
    "components": lambda: (
        make_pipeline(PCA(3).set_output(transform="pandas"), CoxRidge(penalizer=0.1)),
        {"pca__n_components": [2, 6]},
    ),
    "stack": lambda: (
        FusionCox(TWO, LateFusion("stack", folds=2, dim=4, hidden=(4,)), **SMALL),
        {"learning_rate": [3e-3, 3e-2]},
    ),
    "epochs": lambda: (
        FusionCox(TWO, linear=False, epochs="cv", patience=2),
        {"learning_rate": [3e-3, 3e-2]},
    ),
}


def noise(seed: int, missing: bool) -> tuple[pd.DataFrame, np.ndarray]:
    """Return columns that say nothing, some of them missing where the patient died."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(N, GENES))).add_prefix("x")
    X["age"], X["dose"] = rng.normal(size=(2, N))
    y = surv(rng.exponential(size=N), rng.random(N) < 0.7)
    if missing:
        X = X.mask(rng.random(X.shape) < 0.2)
    return X, y


def scores(name: str, repeats: int) -> np.ndarray:
    """Return the nested C of each repeat."""
    found = []
    for seed in range(repeats):
        X, y = noise(seed, missing=name == "imputation")
        nested = nested_cross_validate(
            {name: CANDIDATES[name]()}, X, y, outer=3, inner=2, n_trials=2, scoring="c"
        )
        found.append(nested.table["c", "mean"][name])
    return np.array(found)


def at_chance(found: np.ndarray, level: float = 0.99) -> bool:
    """Return whether the interval of the mean holds .5."""
    low, high = stats.t.interval(
        level, len(found) - 1, found.mean(), found.std(ddof=1) / np.sqrt(len(found))
    )
    return bool(low < 0.5 < high)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", CANDIDATES)
def test_noise_is_at_chance(name: str) -> None:
    found = scores(name, 8 if name in ("stack", "epochs") else 20)
    assert at_chance(found), found.round(3).tolist()
    assert found.std() > 0.005


def test_a_choice_outside_of_the_folds_is_caught() -> None:
    found = []
    for seed in range(8):
        X, y = noise(seed, missing=False)
        best = X.columns[np.argsort(by_outcome(X, y))[-5:]]
        nested = nested_cross_validate(
            {"leaky": CoxRidge(Tabular(list(best)), penalizer=0.1)}, X, y, outer=3, scoring="c"
        )
        found.append(nested.table["c", "mean"]["leaky"])
    assert not at_chance(np.array(found))
    assert np.mean(found) > 0.6


def test_the_inner_score_of_the_best_is_too_good() -> None:
    inner, outer = [], []
    for seed in range(3):
        X, y = noise(seed, missing=False)
        spaces = {f"x{i}": Tabular([f"x{i}"]) for i in range(8)}
        nested = nested_cross_validate(
            {"one column": (CoxRidge(), {"modality": list(spaces.values())})},
            X,
            y,
            outer=3,
            inner=2,
            n_trials=16,
            scoring="c",
        )
        inner.append(nested.chosen["inner score"].mean())
        outer.append(nested.table["c", "mean"]["one column"])
    assert np.mean(inner) > 0.55
    assert np.mean(inner) > np.mean(outer) + 0.05
