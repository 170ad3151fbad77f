"""Scores of predictive distributions in cross-validation."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmfusion import surv
from mmfusion.metrics import crps, log_score, make_distribution_scorer
from tests.helpers import Frozen


class Normal(RegressorMixin, BaseEstimator):
    """The least squares line with a constant spread."""

    def __init__(self, widen: float = 1.0) -> None:
        self.widen = widen

    def fit(self, X: np.ndarray, y: np.ndarray) -> Normal:
        self.line_ = np.polyfit(X[:, 0], y, 1)
        self.scale_ = self.widen * (y - np.polyval(self.line_, X[:, 0])).std()
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.polyval(self.line_, X[:, 0])

    def predict_distribution(self, X: np.ndarray) -> Frozen:
        return Frozen(stats.norm, loc=self.predict(X), scale=self.scale_)

    def predict_interval(self, X: np.ndarray, level: float = 0.9) -> pd.DataFrame:
        ends = np.tile([0.5 - level / 2, 0.5 + level / 2], (len(X), 1))
        return pd.DataFrame(self.predict_distribution(X).quantile(ends), columns=["lower", "upper"])


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 1)) * 3
    return X, X[:, 0] + rng.normal(size=400)


NAMES = ("log_score", "crps", "interval_score", "interval_coverage", "interval_width")


def test_scorers_in_cross_validation_of_a_pipeline(data) -> None:
    X, y = data
    scoring = {name: make_distribution_scorer(name, level=0.8) for name in NAMES}
    found = cross_validate(make_pipeline(StandardScaler(), Normal()), X, y, scoring=scoring, cv=4)
    mean = {name: found[f"test_{name}"].mean() for name in NAMES}
    z = stats.norm.ppf(0.9)
    assert mean["log_score"] == pytest.approx(-0.5 * np.log(2 * np.pi * np.e), abs=0.1)
    assert mean["crps"] == pytest.approx(-1 / np.sqrt(np.pi), abs=0.05)
    assert mean["interval_coverage"] == pytest.approx(0.8, abs=0.05)
    assert mean["interval_width"] == pytest.approx(-2 * z, abs=0.15)
    assert mean["interval_score"] == pytest.approx(-2 * stats.norm.pdf(z) / 0.1, abs=0.3)


@pytest.mark.parametrize("name", ["log_score", "crps", "interval_score"])
def test_a_search_finds_the_right_spread(data, name: str) -> None:
    X, y = data
    scorer = pickle.loads(pickle.dumps(make_distribution_scorer(name)))
    search = GridSearchCV(Normal(), {"widen": [0.3, 1.0, 3.0]}, scoring=scorer).fit(X, y)
    assert search.best_params_ == {"widen": 1.0}
    assert scorer(search, X, y) == pytest.approx(scorer(search.best_estimator_, X, y))


def test_scorers_are_the_functions(data) -> None:
    X, y = data
    model = Normal().fit(X, y)
    distribution = model.predict_distribution(X)
    outcome = surv(np.exp(y), np.arange(400) % 2)
    for of in (y, outcome):
        assert make_distribution_scorer("crps")(model, X, of) == -crps(of, distribution).mean()
        assert make_distribution_scorer("log_score")(model, X, of) == (
            log_score(of, distribution).mean()
        )
    with pytest.raises(ValueError, match=r"metric.*'crps'"):
        make_distribution_scorer("cprs")
    with pytest.raises(ValueError, match="level"):
        make_distribution_scorer("crps", level=1)
