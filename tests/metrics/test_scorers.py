"""Scorers inside scikit-learn."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
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


@pytest.mark.parametrize("metric", ["antolini", "ibs"])
def test_curves_of_pipelines_and_searches(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frame, y = make_cohort(90, missing=0.0)
    frame = frame.rename(columns={"age": "site"})
    model = FusionCox({}, structured="centre + gene_0")  # the name that the first step gives
    inside = make_pipeline(FunctionTransformer(name_centre), model)
    grid = {"fusioncox__ties": ["efron"]}
    scorer = make_survival_scorer(metric, y_train=y, times=TIMES)
    expected = scorer(clone(model).fit(name_centre(frame), y), name_centre(frame), y)
    for wrapped in (
        inside,
        make_pipeline("passthrough", inside),
        GridSearchCV(inside, grid, cv=2, scoring=scorer, error_score="raise"),
        make_pipeline("passthrough", GridSearchCV(inside, grid, cv=2)),
    ):
        assert scorer(clone(wrapped).fit(frame, y), frame, y) == expected
    # Another library's addition to Pipeline, which takes no times, changes nothing.
    monkeypatch.setattr(Pipeline, "predict_survival_function", lambda self, X: None, raising=False)
    assert scorer(clone(inside).fit(frame, y), frame, y) == expected
    scores = cross_val_score(inside, frame, y, cv=3, scoring=scorer, error_score="raise")
    assert np.isfinite(scores).all()


def test_the_brier_score_is_defined_in_a_fold_without_events(data) -> None:
    x, y = data
    model = Exponential().fit(x, y)
    quiet = np.flatnonzero(~y["event"])[:20]
    curves = model.predict_survival_function(x.iloc[quiet], TIMES)
    expected = -integrated_brier_score(y, y[quiet], curves, TIMES)
    scorer = make_survival_scorer("ibs", times=TIMES, y_train=y)
    assert scorer(model, x.iloc[quiet], y[quiet]) == expected
    by_default = make_survival_scorer("ibs", y_train=y)(model, x.iloc[quiet], y[quiet])
    assert -0.5 < by_default < 0
    for metric in ("harrell", "uno", "antolini", "auc"):  # no pair, no score
        with pytest.raises(ValueError, match="event"):
            make_survival_scorer(metric, y_train=y)(model, x.iloc[quiet], y[quiet])


def test_training_rows_without_events_tell_the_censoring(data) -> None:
    x, y = data
    model = Exponential().fit(x, y)
    train = surv([1.0, 2.0, 9.0], [0, 0, 0])
    expected = -integrated_brier_score(train, y, model.predict_survival_function(x, TIMES), TIMES)
    assert make_survival_scorer("ibs", times=TIMES, y_train=train)(model, x, y) == expected
    with pytest.raises(ValueError, match="event"):  # no times follow from them
        make_survival_scorer("ibs", y_train=train)(model, x, y)
