from __future__ import annotations

import pickle
import sys
import warnings
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import FloatDistribution
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import make_scorer, mean_absolute_error
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmfusion.estimators import FusionDistribution
from mmfusion.metrics import concordance_index
from mmfusion.survival import surv
from mmfusion.tuning import FusionSearchCV
from tests.tuning.common import cohort, cox, numbers, ridge_search


class Bowl(Ridge):
    """A model whose score is best at ``a = 1``, ``b = -2``."""

    def __init__(self, a: float = 0.0, b: float = 0.0) -> None:
        super().__init__()
        self.a = a
        self.b = b

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        return -((self.a - 1) ** 2) - (self.b + 2) ** 2


def test_scores_are_those_of_a_grid_search_on_the_same_folds() -> None:
    X, y = numbers()
    cv = KFold(4, shuffle=True, random_state=1)
    grid = GridSearchCV(Ridge(), {"alpha": [0.1, 10.0, 100.0]}, cv=cv).fit(X, y)

    search = FusionSearchCV(
        Ridge(), {"alpha": [0.1, 10.0, 100.0]}, n_trials=12, cv=cv, random_state=0
    ).fit(X, y)

    ours = pd.DataFrame(search.cv_results_).drop_duplicates("param_alpha").set_index("param_alpha")
    theirs = pd.DataFrame(grid.cv_results_).set_index("param_alpha")
    common = [c for c in theirs if "test_score" in c and "rank" not in c]
    assert len(common) == 6
    assert set(ours.index) == set(theirs.index)
    pd.testing.assert_frame_equal(
        ours[common].sort_index().astype(float),
        theirs[common].sort_index().astype(float),
        check_index_type=False,
    )
    assert set(theirs.reset_index()) <= set(search.cv_results_)
    assert search.best_params_ == grid.best_params_
    assert search.best_score_ == pytest.approx(grid.best_score_, rel=1e-12)
    np.testing.assert_allclose(search.predict(X), grid.predict(X), rtol=1e-12)
    assert search.score(X, y) == grid.score(X, y)
    assert search.n_splits_ == 4


def test_ranks_are_scikit_learns() -> None:
    X, y = numbers()
    search = ridge_search().fit(X, y)
    mean = search.cv_results_["mean_test_score"]
    expected = pd.Series(-mean).rank(method="min").astype(int)
    assert search.cv_results_["rank_test_score"].tolist() == expected.tolist()
    assert search.best_index_ == int(np.argmax(mean))


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_the_same_seed_makes_the_same_study(sampler: str) -> None:
    X, y = numbers()
    first, again = (ridge_search(sampler=sampler).fit(X, y) for _ in range(2))
    assert first.cv_results_["params"] == again.cv_results_["params"]
    assert len({params["alpha"] for params in first.cv_results_["params"]}) == 12
    other = ridge_search(sampler=sampler, random_state=1).fit(X, y)
    assert first.cv_results_["params"] != other.cv_results_["params"]


def test_networks_are_seeded_by_the_search() -> None:
    X, y = cohort()
    space = {"learning_rate": [1e-3, 1e-2]}
    settings = {"n_trials": 2, "cv": 2}
    search = FusionSearchCV(cox(linear=False), space, random_state=3, **settings).fit(X, y)
    again = FusionSearchCV(cox(linear=False), space, random_state=3, **settings).fit(X, y)
    np.testing.assert_array_equal(search.predict(X), again.predict(X))
    assert search.best_estimator_.random_state == 3


def test_survival_scores_by_name_and_curves_of_the_best() -> None:
    X, y = cohort()
    search = FusionSearchCV(
        cox(),
        {"linear": [True, False]},
        n_trials=2,
        cv=2,
        scoring=["c", "ibs", "uno", "auc", "antolini"],
        refit="ibs",
        random_state=0,
    ).fit(X, y)
    results = search.cv_results_
    assert (results["mean_test_ibs"] < 0).all()
    assert all((results[f"mean_test_{name}"] > 0.4).all() for name in ("c", "uno", "antolini"))
    assert search.best_index_ == int(np.argmax(results["mean_test_ibs"]))
    assert search.predict_survival_function(X, times=[0.5]).shape == (120, 1)
    assert len(search.study_.directions) == 1  # what refit names


def test_the_own_score_is_harrells_c() -> None:
    X, y = cohort()
    folds = [(np.arange(70), np.arange(70, 120))]
    search = FusionSearchCV(cox(), {"epochs": [2]}, n_trials=1, cv=folds, random_state=0).fit(X, y)
    model = cox(epochs=2, random_state=0).fit(X[:70], y[:70])
    expected = concordance_index(y[70:], model.predict(X[70:]))
    assert search.best_score_ == expected


def test_several_objectives_have_a_front() -> None:
    X, y = numbers()
    mae = make_scorer(mean_absolute_error, greater_is_better=False)
    search = ridge_search(
        scoring={"r2": "r2", "mae": mae}, objectives=["r2", "mae", "fit_time"], refit="r2"
    ).fit(X, y)
    assert [d.name for d in search.study_.directions] == ["MAXIMIZE", "MAXIMIZE", "MINIMIZE"]
    front = {trial.number for trial in search.study_.best_trials}
    values = np.array([trial.values for trial in search.study_.trials]) * [-1, -1, 1]
    beaten = [((values <= v).all(1) & (values < v).any(1)).any() for v in values]
    assert front == set(np.flatnonzero(~np.array(beaten)).tolist())
    assert search.best_index_ == int(np.argmax(search.cv_results_["mean_test_r2"]))


def test_groups_stay_together() -> None:
    X, y = cohort()
    seen = []

    def scorer(model: Any, X: pd.DataFrame, y: Any) -> float:
        seen.append(set(X["site"]))
        return 0.5

    search = FusionSearchCV(cox(), {"epochs": [1]}, n_trials=1, cv=2, scoring=scorer)
    search.fit(X, y, groups="site")
    assert not seen[0] & seen[1]
    seen.clear()
    search.set_params(estimator=cox(cluster="site")).fit(X, y)
    assert not seen[0] & seen[1]
    seen.clear()
    search.set_params(estimator=cox(), cv=GroupKFold(4)).fit(X, y, groups=X["site"])
    assert [len(sites) for sites in seen] == [1, 1, 1, 1]


def test_weights_are_cut_into_folds() -> None:
    X, y = numbers()
    weight = np.r_[np.ones(30), np.zeros(30)]
    folds = [(np.arange(50), np.arange(50, 60))]
    search = ridge_search(cv=folds, n_trials=1, space={"alpha": [1.0]})
    search.fit(X, y, sample_weight=weight)
    expected = Ridge().fit(X[:30], y[:30]).score(X[50:], y[50:])
    assert search.best_score_ == pytest.approx(expected, rel=1e-9)


def test_metadata_goes_where_it_is_asked_for() -> None:
    X, y = numbers()
    weight = np.r_[np.zeros(55), np.ones(5)]
    folds = [(np.arange(50), np.arange(50, 60))]
    with config_context(enable_metadata_routing=True):
        scorer = make_scorer(mean_absolute_error).set_score_request(sample_weight=True)
        model = Ridge().set_fit_request(sample_weight=False)
        search = FusionSearchCV(model, {"alpha": [1.0]}, n_trials=1, cv=folds, scoring=scorer)
        search.fit(X, y, sample_weight=weight)
        fitted = Ridge().fit(X[:50], y[:50])
        expected = mean_absolute_error(y[55:], fitted.predict(X[55:]))
        assert search.best_score_ == pytest.approx(expected, rel=1e-9)
        both = {"weighted": scorer, "plain": make_scorer(mean_absolute_error)}
        search.set_params(scoring={**both, "named": "r2"}, refit="plain")
        search.fit(X, y, sample_weight=weight)
        assert search.cv_results_["mean_test_weighted"][0] == pytest.approx(expected, rel=1e-9)
        plain = mean_absolute_error(y[50:], fitted.predict(X[50:]))
        assert search.best_score_ == pytest.approx(plain, rel=1e-9)
        unasked = FusionSearchCV(Ridge(), {"alpha": [1.0]}, n_trials=1, cv=folds)
        with pytest.raises(ValueError, match="sample_weight"):
            unasked.fit(X, y, sample_weight=weight)


def test_classes_and_pipelines() -> None:
    X, y = numbers()
    labels = np.where(y > 0, "high", "low")
    pipe = make_pipeline(StandardScaler(), LogisticRegression())
    space = {"logisticregression__C": FloatDistribution(1e-3, 1e3, log=True)}
    search = FusionSearchCV(pipe, space, n_trials=5, cv=3, scoring="roc_auc", random_state=0)
    search.fit(X, labels)
    assert search.classes_.tolist() == ["high", "low"]
    assert search.predict_proba(X).shape == (60, 2)
    assert cross_val_score(search, X, labels, cv=2).shape == (2,)


def test_a_function_of_the_trial() -> None:
    X, y = numbers()

    def space(trial: optuna.Trial) -> dict[str, Any]:
        if trial.suggest_categorical("strong", [True, False]):
            return {"alpha": trial.suggest_float("log_alpha", 2.0, 3.0) ** 3}
        return {"alpha": 1e-6, "fit_intercept": False}

    search = ridge_search(space=space).fit(X, y)
    both = pd.DataFrame(search.cv_results_["params"])
    assert both["alpha"].min() == 1e-6
    assert (both["alpha"] > 1e-6).any()
    missing = np.ma.getmaskarray(search.cv_results_["param_fit_intercept"])
    assert missing.tolist() == (both["alpha"] > 1e-6).tolist()
    assert search.best_estimator_.alpha == search.best_params_["alpha"]


def test_choices_that_cannot_be_stored_are_named_by_their_text() -> None:
    X, y = numbers()
    space = {"standardscaler": [StandardScaler(), "passthrough"], "ridge__alpha": [1.0]}
    pipe = make_pipeline(StandardScaler(), Ridge())
    search = FusionSearchCV(pipe, space, n_trials=6, cv=2, random_state=0).fit(X, y)
    assert {str(p["standardscaler"]) for p in search.cv_results_["params"]} == {
        "StandardScaler()",
        "passthrough",
    }


def test_a_trial_that_fails_is_told_and_the_search_goes_on() -> None:
    X, y = numbers()
    search = ridge_search(space={"alpha": [1.0, -1.0]}, n_trials=6)
    with pytest.warns(UserWarning, match=r"Trial \d with {'alpha': -1.0} failed and scores nan"):
        search.fit(X, y)
    failed = search.cv_results_["state"] == "failed"
    assert failed.any()
    assert (np.array([p["alpha"] for p in search.cv_results_["params"]])[failed] == -1).all()
    assert np.isnan(search.cv_results_["mean_test_score"][failed]).all()
    assert search.best_params_ == {"alpha": 1.0}
    search.set_params(error_score="raise")
    with pytest.raises(ValueError, match="alpha"):
        search.fit(X, y)
    search.set_params(space={"alpha": [-1.0]}, error_score=np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="No trial was judged on all folds"):
            search.fit(X, y)


def test_it_clones_and_pickles() -> None:
    X, y = numbers()
    search = ridge_search()
    assert clone(search).get_params(deep=False)["space"] is not None
    assert clone(search).set_params(estimator__alpha=3.0).estimator.alpha == 3.0
    fitted = pickle.loads(pickle.dumps(search.fit(X, y)))
    np.testing.assert_array_equal(fitted.predict(X), search.predict(X))


def test_the_time_is_kept() -> None:
    X, y = numbers()
    search = ridge_search(n_trials=10**6, timeout=2.0).fit(X, y)
    assert 0 < len(search.cv_results_["params"]) < 10**6


def test_a_bar_is_shown_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    X, y = numbers()
    ridge_search(n_trials=2).fit(X, y)
    assert capsys.readouterr() == ("", "")
    ridge_search(n_trials=2, verbose=1).fit(X, y)
    assert "2/2 trials" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_trials": 0}, "n_trials parameter must be an integer in"),
        ({"n_workers": 0}, "n_workers parameter"),
        ({"timeout": -1.0}, "timeout parameter"),
        ({"random_state": -1}, "random_state parameter"),
        ({"sampler": "tpee"}, r"sampler parameter must be one of .* Did you mean 'tpe'"),
        ({"pruning": "folds"}, "pruning parameter must be one of None, 'fold', 'epoch'"),
        ({"pruning": "epoch"}, "'epoch' for an estimator of mmfusion.estimators"),
        ({"space": "defalt"}, "space parameter must be 'default', a dict"),
        ({"space": "default"}, "'default' for an estimator of mmfusion.estimators"),
        ({"space": {}}, "at least one parameter"),
        ({"space": {"alpa": [1.0]}}, r"name parameters of Ridge. Got 'alpa'. Did you mean 'alpha'"),
        ({"scoring": "r3"}, "or a scorer of scikit-learn's. Got 'r3'. Did you mean 'r2'"),
        (
            {"scoring": ["r2", "neg_max_error"]},
            r"refit parameter must be one of \['r2', 'neg_max_error'\]",
        ),
        ({"objectives": ["r2"]}, "objectives parameter must be one of 'score', 'fit_time'"),
        ({"objectives": ["score", "fit_time"], "pruning": "fold"}, "None with several objectives"),
        ({"error_score": "nan"}, "error_score parameter must be 'raise' or a number"),
        ({"storage": "sqlite:///x.db", "n_workers": 2}, "n_workers parameter must be 1 where"),
        ({"storage": "sqlite://"}, "must name a file where it is SQLite"),
        ({"cv": 1}, "number of folds must be from 2"),
    ],
)
def test_errors_name_the_parameter(params: dict[str, Any], message: str) -> None:
    X, y = numbers()
    with pytest.raises(ValueError, match=message):
        ridge_search(**params).fit(X, y)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"space": [1]}, "space parameter must be 'default', a dict"),
        ({"space": {"alpha": 1.0}}, "distributions of optuna.distributions or lists. Got 1.0"),
        ({"space": lambda trial: 3}, "must return a dict"),
        ({"sampler": 3}, "sampler parameter must be one of"),
        ({"storage": 3}, "storage parameter must be None, a path"),
        ({"objectives": "score"}, "objectives parameter must be None or a list"),
        ({"scoring": 3}, "scoring parameter must be None, a name"),
    ],
)
def test_types_are_checked(params: dict[str, Any], message: str) -> None:
    X, y = numbers()
    with pytest.raises(TypeError, match=message):
        ridge_search(**params).fit(X, y)


def test_cma_es_comes_closer_trial_by_trial_and_can_be_repeated() -> None:
    pytest.importorskip("cmaes")
    X, y = numbers()
    space = {name: FloatDistribution(-5.0, 5.0) for name in ("a", "b")}
    search = FusionSearchCV(
        Bowl(), space, n_trials=60, cv=2, sampler="cmaes", random_state=0, refit=False
    )
    tried = [search.fit(X, y).cv_results_["params"] for _ in range(2)]
    assert tried[0] == tried[1]
    far = np.array([np.hypot(each["a"] - 1, each["b"] + 2) for each in tried[0]])
    assert far[-12:].mean() < 0.3 * far[:12].mean()  # of random draws they are alike


def test_cma_es_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cmaes", None)
    X, y = numbers()
    with pytest.raises(ValueError, match=r"package cmaes is installed .*mmfusion\[cmaes\]"):
        ridge_search(sampler="cmaes").fit(X, y)


@pytest.mark.parametrize("censored", [False, True])
def test_scores_of_distributions_lead_a_search(censored: bool) -> None:
    """Of numbers and of censored times, the family that made them has the better log score."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=200)})
    y: Any = np.exp(X["a"] + 0.5 * rng.normal(size=200))
    if censored:
        y = surv(y, rng.random(200) < 0.7)
    search = FusionSearchCV(
        FusionDistribution({}, family="weibull", structured="a"),
        {"family": ["weibull", "log_normal"]},
        n_trials=2,
        cv=3,
        scoring="log_score",
        random_state=0,
    ).fit(X, y)
    found = {p["family"]: s for p, s in zip(
        search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
    )}  # fmt: skip
    assert search.best_params_ == {"family": "log_normal"}
    assert found["log_normal"] > found["weibull"]
