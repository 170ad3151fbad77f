"""A setting replaces the estimator as it is where its gain exceeds its standard error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from mmfusion.estimators import load
from mmfusion.evaluation import corrected_interval
from mmfusion.tuning import FusionSearchCV
from mmfusion.tuning.choice import best_trials, careful_trial
from tests.tuning.common import cohort, cox

RATIOS = [0.25] * 5


def results(*scores: list[float], state: str = "complete") -> dict[str, Any]:
    """Return the columns that a choice reads, a row a trial."""
    table = np.array(scores)
    columns = {f"split{k}_test_score": table[:, k] for k in range(table.shape[1])}
    order = (-table.mean(1)).argsort().argsort() + 1
    states = np.array([state] + ["complete"] * (len(table) - 1))
    return columns | {"rank_test_score": order, "trial": np.arange(len(table)), "state": states}


OWN = [0.60, 0.62, 0.58, 0.64, 0.61]


def test_the_best_of_the_gains_that_exceed_their_error_is_taken() -> None:
    steady = [each + 0.01 for each in OWN]
    better = [each + gain for each, gain in zip(OWN, [0.02, 0.03, 0.02, 0.03, 0.02], strict=True)]
    noisy = [each + gain for each, gain in zip(OWN, [0.4, -0.1, 0.0, 0.0, 0.0], strict=True)]
    assert careful_trial(results(OWN, steady, better, noisy), "score", RATIOS) == 2
    assert careful_trial(results(OWN, noisy), "score", RATIOS) == 0
    assert careful_trial(results(OWN, [each - 0.1 for each in OWN]), "score", RATIOS) == 0
    assert careful_trial(results(OWN, OWN), "score", RATIOS) == 0
    # Of a single fold there is no error, and where the first trial failed nothing to gain over.
    assert careful_trial(results([0.5], [0.6]), "score", [0.25]) == 1
    assert careful_trial(results(OWN, noisy, state="failed"), "score", RATIOS) == 1


@pytest.mark.parametrize("size", [0.9, 1.1])
def test_the_error_is_that_of_the_corrected_resampled_t_test(size: float) -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(size=5)
    d -= d.mean()
    unit = corrected_interval(d, 0.25, 0.5)
    from scipy.stats import t

    error = (unit.upper - unit.lower) / 2 / t.ppf(0.75, 4)
    other = list(np.array(OWN) + d + size * error)
    assert careful_trial(results(OWN, other), "score", RATIOS) == (size > 1)


def test_the_default_space_is_searched_carefully_and_a_dict_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trials are judged by a table of scores; that of the widest gain is noisy."""
    X, y = cohort(60)
    table = {0.5: [0.2, 0.2], 0.25: [0.9, 0.2]}

    class Scored(type(cox())):  # type: ignore[misc]
        def fit(self, X: Any, y: Any) -> Any:
            self.rows_ = len(X)
            return self

        def score(self, X: Any, y: Any) -> float:
            counts["fits"] += 1
            return table[self.modality_dropout][counts["fits"] % 2]

    counts = {"fits": 1}
    model = Scored(modality_dropout=0.5)
    space = {"modality_dropout": [0.5, 0.25]}
    settings = {"n_trials": 6, "cv": 2, "refit": True, "random_state": 0}
    search = FusionSearchCV(model, space, **settings).fit(X, y)
    assert search.best_params_ == {"modality_dropout": 0.25}

    class Small:
        starts = ({"modality_dropout": 0.5}, {"modality_dropout": 0.25})

        def __call__(self, trial: Any) -> dict[str, Any]:
            return {"modality_dropout": trial.suggest_categorical("modality_dropout", [0.5, 0.25])}

    monkeypatch.setattr("mmfusion.tuning.space.default_space", lambda estimator, X: Small())
    search = FusionSearchCV(model, **settings).fit(X, y)
    assert [p["modality_dropout"] for p in search.cv_results_["params"][:2]] == [0.5, 0.25]
    assert search.best_params_ == {"modality_dropout": 0.5}
    assert search.best_index_ == 0
    assert search.best_score_ == pytest.approx(0.2)
    table[0.25] = [0.9, 0.89]
    search = FusionSearchCV(model, **settings).fit(X, y)
    assert search.best_params_ == {"modality_dropout": 0.25}
    search.set_params(refit=lambda found: 0).fit(X, y)
    assert search.best_index_ == 0


def test_the_best_trials_are_averaged(tmp_path: Any) -> None:
    X, y = cohort(80)
    space = {"learning_rate": [1e-3, 1e-2, 3e-2], "modality_dropout": [0.0, 0.2]}
    search = FusionSearchCV(cox(), space, n_trials=5, cv=2, n_best=2, random_state=0).fit(X, y)
    ranks = search.cv_results_["rank_test_score"]
    settings = [search.cv_results_["params"][each] for each in search.averaged_]
    assert search.averaged_[0] == search.best_index_
    assert ranks[search.averaged_].tolist() == sorted(ranks[search.averaged_])
    assert settings[0] != settings[1]
    members = search.best_estimator_.estimators_
    for member, setting in zip(members, settings, strict=True):
        assert {name: member.get_params()[name] for name in setting} == setting
    mean = np.mean([member.predict(X) for member in members], axis=0)
    np.testing.assert_array_equal(search.predict(X), mean)
    curves = search.predict_survival_function(X, times=[0.5])
    each = [member.predict_survival_function(X, times=[0.5]) for member in members]
    np.testing.assert_allclose(curves, (each[0] + each[1]) / 2)
    search.best_estimator_.save(tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict(X), mean)
    again = FusionSearchCV(cox(), space, n_trials=5, cv=2, n_best=2, random_state=0).fit(X, y)
    np.testing.assert_array_equal(again.predict(X), mean)
    assert not hasattr(again.set_params(n_best=1, n_trials=1).fit(X, y), "averaged_")


def test_what_cannot_be_averaged_is_refused() -> None:
    X, y = cohort(60)
    for model in (Ridge(), make_pipeline(cox())):
        with pytest.raises(ValueError, match="n_best parameter can be above 1 for an estimator"):
            FusionSearchCV(model, {"alpha": [1.0]}, n_best=2).fit(X, y)
    with pytest.raises(ValueError, match="n_best parameter must be 1 where refit is a function"):
        FusionSearchCV(cox(), n_best=2, refit=lambda found: 0).fit(X, y)
    with pytest.raises(ValueError, match="n_best"):
        FusionSearchCV(cox(), n_best=0).fit(X, y)
    with pytest.raises(TypeError, match=r"takes sample_weight alone.*\['eval_set'\]"):
        FusionSearchCV(cox(), n_best=2).fit(X, y, eval_set=(X, y))


def test_trials_that_failed_or_are_the_same_are_not_averaged() -> None:
    found = results(OWN, [each + 0.1 for each in OWN], [each + 0.2 for each in OWN], OWN)
    found["params"] = [{"a": 1}, {"a": 2}, {"a": 2}, {"a": 3}]
    found["state"][3] = "pruned"
    assert best_trials(found, "score", 3) == [2, 0]
    # Arrays that only their middle tells apart, which a text of them leaves out.
    cuts = [np.arange(5000.0) + (np.arange(5000) == 2500) * shift for shift in (0.0, 0.5, 0.0, 0.0)]
    found["params"] = [{"cuts": each} for each in cuts]
    assert best_trials(found, "score", 3) == [2, 1]
