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
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from mmfusion import Genes, Tabular
from mmfusion.estimators import FusionCox
from mmfusion.fusion import JointFusion, LateFusion
from mmfusion.survival import surv
from mmfusion.tuning import nested_cross_validate

N, GENES, REPEATS = 60, 60, 20
#: Linear networks of the columns as they are, trained in an instant.
TWO = {"genes": Genes("x*", encoder="raw"), "clinical": Tabular(["age", "dose"], encoder="raw")}
SMALL = {"n_members": 1, "epochs": 2, "validation_fraction": 0.3, "linear": False}


def linear(*steps: Any) -> Any:
    return make_pipeline(*steps, LogisticRegression())


#: Of classes the area under the curve, of survival Harrell's C: the same where all are observed.
CANDIDATES: dict[str, Callable[[], Any]] = {
    "selection": lambda: (linear(SelectKBest(k=5)), {"selectkbest__k": [3, 8]}),
    "imputation": lambda: (linear(KNNImputer()), {"knnimputer__n_neighbors": [2, 10]}),
    "components": lambda: (linear(PCA(3, random_state=0)), {"pca__n_components": [2, 6]}),
    "stack": lambda: (
        FusionCox(TWO, LateFusion("stack", folds=2, hidden=()), **SMALL),
        {"learning_rate": [3e-2, 3e-1]},
    ),
    "epochs": lambda: (
        FusionCox(TWO, JointFusion(hidden=()), linear=False, epochs="cv", patience=1),
        {"learning_rate": [1e-1, 3e-1]},
    ),
}
OF_SURVIVAL = ("stack", "epochs")


def noise(
    seed: int, n: int = N, *, missing: bool = False
) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return columns that say nothing, a survival, and two classes."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(rng.normal(size=(n, GENES))).add_prefix("x")
    X["age"], X["dose"] = rng.normal(size=(2, n))
    y = surv(rng.exponential(size=n), rng.random(n) < 0.7)
    if missing:
        X = X.mask(rng.random(X.shape) < 0.2)
    return X, y, rng.permutation(np.arange(n) % 2)


def scores(name: str) -> np.ndarray:
    """Return the nested C of each repeat."""
    found = []
    survival = name in OF_SURVIVAL
    settings = {"outer": 2 if survival else 3, "inner": 2, "n_trials": 2}
    for seed in range(REPEATS):
        X, y, classes = noise(seed, 40 if survival else N, missing=name == "imputation")
        score, outcome = ("c", y) if survival else ("roc_auc", classes)
        table = X if survival else X.to_numpy()  # scikit-learn looks at each column of a frame
        if name == "imputation":
            table = table[:, :30]  # of neighbours, column by column
        nested = nested_cross_validate(
            {name: CANDIDATES[name]()}, table, outcome, scoring=score, **settings
        )
        found.append(nested.table[score, "mean"][name])
    return np.array(found)


def at_chance(found: np.ndarray, level: float = 0.99) -> bool:
    """Return whether the interval of the mean holds .5."""
    low, high = stats.t.interval(
        level, len(found) - 1, found.mean(), found.std(ddof=1) / np.sqrt(len(found))
    )
    return bool(low < 0.5 < high)


@pytest.mark.usefixtures("two_networks")  # and as many folds that say how long to train
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", CANDIDATES)
def test_noise_is_at_chance(name: str) -> None:
    found = scores(name)
    assert at_chance(found), found.round(3).tolist()
    assert found.std() > 0.01


def test_a_choice_outside_of_the_folds_is_caught() -> None:
    found = []
    for seed in range(REPEATS):
        X, _, classes = noise(seed)
        leaky = SelectKBest(k=5).fit_transform(X, classes)
        nested = nested_cross_validate({"leaky": linear()}, leaky, classes, scoring="roc_auc")
        found.append(nested.table["roc_auc", "mean"]["leaky"])
    assert not at_chance(np.array(found))
    assert np.mean(found) > 0.65


def test_the_inner_score_of_the_best_is_too_good() -> None:
    inner, outer = [], []
    for seed in range(5):
        X, _, classes = noise(seed)
        nested = nested_cross_validate(
            {"k": (linear(SelectKBest(k=5)), {"selectkbest__k": list(range(1, 20))})},
            X.to_numpy(),
            classes,
            outer=3,
            inner=2,
            n_trials=15,
            scoring="roc_auc",
        )
        inner.append(nested.chosen["inner score"].mean())
        outer.append(nested.table["roc_auc", "mean"]["k"])
    assert np.mean(inner) > 0.53
    assert np.mean(inner) > np.mean(outer) + 0.03
