"""Scorers inside scikit-learn."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sksurv.metrics import concordance_index_censored

from mmfusion.estimators import FusionCox
from mmfusion.metrics import (
    concordance_index,
    concordance_index_antolini,
    concordance_index_uno,
    cumulative_dynamic_auc,
    evaluation_times,
    integrated_brier_score,
    make_survival_scorer,
)
from mmfusion.survival import censoring_distribution, check_survival, surv
from tests.helpers import make_cohort


class Exponential(BaseEstimator):
    """Hazard exp(slope * x), fitted up to its scale: enough to be scored."""

    def __init__(self, slope=1.0):
        self.slope = slope

    def fit(self, X, y):
        outcome = check_survival(y)
        self.scale_ = outcome.event.sum() / (outcome.time @ np.exp(self.predict(X)))
        return self

    def predict(self, X):
        return self.slope * np.asarray(X)[:, 0]

    def predict_survival_function(self, X, times):
        hazard = self.scale_ * np.exp(self.predict(X))
        return pd.DataFrame(np.exp(-np.outer(hazard, times)), columns=times)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = pd.DataFrame({"x": rng.normal(size=200)})
    death, end = rng.exponential(np.exp(-x["x"])), rng.exponential(2, 200)
    return x, surv(np.minimum(death, end), death <= end)


TIMES = np.array([0.2, 0.5, 1.0])


def test_each_scorer_is_its_metric(data):
    x, y = data
    model = Exponential().fit(x, y)
    risk, survival = model.predict(x), model.predict_survival_function
    events = np.unique(y["time"][y["event"]])
    grid = evaluation_times(y)
    expected = {
        "harrell": concordance_index(y, risk),
        "uno": concordance_index_uno(y, y, risk, tau=grid[-1]),
        "antolini": concordance_index_antolini(y, survival(x, events)),
        "auc": cumulative_dynamic_auc(y, y, risk, grid).mean,
        "ibs": -integrated_brier_score(y, y, survival(x, grid)),
    }
    for name, value in expected.items():
        assert make_survival_scorer(name)(model, x, y) == value
    assert make_survival_scorer("ibs", times=TIMES)(model, x, y) == -integrated_brier_score(
        y, y, survival(x, TIMES)
    )
    train = surv([1, 2, 3, 9], [1, 0, 1, 1])
    assert make_survival_scorer("uno", tau=2.5, y_train=train)(
        model, x, y
    ) == concordance_index_uno(train, y, risk, 2.5)


def test_cross_validate_takes_all_of_them(data):
    x, y = data
    scorers = {
        name: make_survival_scorer(name, y_train=y)
        for name in ("harrell", "uno", "antolini", "auc", "ibs")
    }
    result = cross_validate(Exponential(), x, y, scoring=scorers, cv=4, error_score="raise")
    for name in scorers:
        scores = result[f"test_{name}"]
        assert np.isfinite(scores).all()
        assert ((scores < 0) if name == "ibs" else (scores > 0.6)).all()


def test_grid_search_finds_the_true_slope(data):
    x, y = data
    search = GridSearchCV(
        Exponential(),
        {"slope": [-1.0, 0.0, 1.0, 4.0]},
        scoring=make_survival_scorer("ibs", times=TIMES),
        error_score="raise",
    ).fit(x, y)
    assert search.best_params_ == {"slope": 1.0}


def test_scorers_travel(data):
    x, y = data
    scorer = make_survival_scorer("ibs", times=TIMES, y_train=y)
    model = Exponential().fit(x, y)
    assert pickle.loads(pickle.dumps(scorer))(model, x, y) == scorer(model, x, y)


def test_evaluation_times_stay_where_rows_are_observed(data):
    _, y = data
    times = evaluation_times(y, n_times=20, min_uncensored=0.3)
    censoring = censoring_distribution(y["time"], y["event"])
    assert len(times) == 20
    assert times[0] == y["time"][y["event"]].min()
    assert censoring(times[-1]) > 0.3
    with pytest.raises(ValueError, match="at least 2"):
        evaluation_times(y, n_times=1)
    with pytest.raises(ValueError, match=r"two event times .* Got \[1.0\]"):
        evaluation_times(surv([1, 2], [1, 0]))


def test_bad_input():
    with pytest.raises(ValueError, match=r"'harrell', 'uno'.*Got 'c'"):
        make_survival_scorer("c")
    with pytest.raises(ValueError, match="strictly increasing"):
        make_survival_scorer("ibs", times=[2, 1])
    with pytest.raises(ValueError, match="y_train must not be negative"):
        make_survival_scorer("ibs", y_train=([-1.0], [1]))


class Stratified(BaseEstimator):
    """A risk that is comparable within a centre only."""

    def __init__(self, strata=None):
        self.strata = strata

    def fit(self, X, y):
        return self

    def predict(self, X):
        return X["risk"].to_numpy() + 100.0 * X["centre"].to_numpy()


def test_pairs_are_compared_within_the_strata_of_the_model() -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"risk": rng.normal(size=60), "centre": np.arange(60) % 3})
    y = surv(rng.exponential(np.exp(-X["risk"])), rng.random(60) < 0.7)
    harrell = make_survival_scorer("harrell")
    within = harrell(Stratified("centre"), X, y)
    # The same by hand: comparable pairs of each centre, counted by another library.
    counts = [
        concordance_index_censored(y["event"][mine], y["time"][mine], X["risk"][mine])[1:4]
        for mine in (X["centre"].to_numpy() == centre for centre in range(3))
    ]
    concordant, discordant, tied = np.sum(counts, axis=0)
    assert within == pytest.approx((concordant + tied / 2) / (concordant + discordant + tied))
    assert harrell(Stratified(), X, y) != within
    search = GridSearchCV(Stratified(), {"strata": ["centre"]}, scoring=harrell, cv=2).fit(X, y)
    assert harrell(search, X, y) == within
    for metric in ("uno", "auc"):
        with pytest.raises(ValueError, match="risks of different strata cannot be compared"):
            make_survival_scorer(metric)(Stratified("centre"), X, y)


def test_a_stratified_cox_model_scores_itself_in_the_same_way() -> None:
    frame, y = make_cohort(90, missing=0.0)
    frame = frame.assign(centre=np.arange(90) % 2)
    model = FusionCox({}, structured="age + gene_0", strata="centre").fit(frame, y)
    assert make_survival_scorer("harrell")(model, frame, y) == model.score(frame, y)


def name_centre(X: pd.DataFrame) -> pd.DataFrame:
    return X.rename(columns={"site": "centre"})


def test_strata_are_found_in_pipelines_and_searches() -> None:
    frame, y = make_cohort(90, missing=0.0)
    frame = frame.assign(site=np.arange(90) % 2)
    model = FusionCox({}, structured="age + gene_0", strata="centre")
    renamed = make_pipeline(FunctionTransformer(name_centre), model).fit(frame, y)
    within = renamed.score(frame, y)
    assert concordance_index(y, renamed.predict(frame)) != within
    search = GridSearchCV(renamed, {"fusioncox__ties": ["efron"]}, cv=2).fit(frame, y)
    inner = GridSearchCV(model, {"ties": ["efron"]}, cv=2)
    for wrapped in (renamed, search, make_pipeline(FunctionTransformer(name_centre), inner)):
        wrapped.fit(frame, y)
        assert make_survival_scorer("harrell")(wrapped, frame, y) == within
        for metric in ("uno", "auc"):
            with pytest.raises(ValueError, match="risks of different strata cannot be compared"):
                make_survival_scorer(metric)(wrapped, frame, y)
    alone = make_pipeline(model.set_params(strata="site")).fit(frame, y)
    assert make_survival_scorer("harrell")(alone, frame, y) == within
    passed = make_pipeline("passthrough", model).fit(frame, y)
    assert make_survival_scorer("harrell")(passed, frame, y) == within


class Ranked(BaseEstimator):
    """Its first column is the risk."""

    def __init__(self, strata=None):
        self.strata = strata

    def predict(self, X):
        return X[:, 0]


def test_strata_of_an_array_are_its_columns() -> None:
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=60), np.arange(60) % 3])
    y = surv(rng.exponential(np.exp(-X[:, 0])), rng.random(60) < 0.7)
    found = make_survival_scorer("harrell")(Ranked(strata=1), X, y)
    assert found == concordance_index(y, X[:, 0], strata=X[:, 1])
