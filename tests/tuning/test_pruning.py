from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from optuna.distributions import FloatDistribution
from scipy.stats import wilcoxon
from sklearn.model_selection import RepeatedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmfusion.estimators import FusionRegressor
from mmfusion.training import Callback
from mmfusion.tuning import FusionSearchCV, samplers
from mmfusion.tuning.lockstep import Lockstep, Pruned, Turn
from tests.tuning.common import cohort, cox, numbers, ridge_search


def test_a_trial_is_pruned_by_wilcoxons_test_on_its_folds() -> None:
    X, y = numbers()
    settings = {"cv": RepeatedKFold(n_splits=3, n_repeats=4, random_state=0), "n_trials": 15}
    whole = ridge_search(**settings).fit(X, y)
    search = ridge_search(pruning="fold", **settings).fit(X, y)
    state = search.cv_results_["state"]
    assert (state == "pruned").sum() > 3
    splits = np.array([search.cv_results_[f"split{i}_test_score"] for i in range(12)]).T
    best = splits[0]
    for row in range(1, 15):
        ran = ~np.isnan(splits[row])
        n = int(ran.sum())
        d = splits[row][:n] - best[:n]
        assert ran[:n].all()  # the first ones, in their order
        p = wilcoxon(d, alternative="less", zero_method="zsplit").pvalue if n > 1 else 1.0
        if state[row] == "pruned":
            assert p < 0.1
            mean = splits[row][:n].mean()
            assert search.cv_results_["mean_test_score"][row] == pytest.approx(mean)
            assert search.study_.trials[row].value == pytest.approx(mean)
        elif splits[row].mean() > best.mean():
            best = splits[row]
    assert state[search.best_index_] == "complete"
    ranks = search.cv_results_["rank_test_score"]
    assert ranks[state == "pruned"].min() > ranks[state == "complete"].max()
    found, best_score = search.best_score_, whole.cv_results_["mean_test_score"]
    assert found == pytest.approx(best_score[search.best_index_])


def test_epochs_of_all_folds_side_by_side_change_no_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samplers, "make_pruner", lambda pruning: None)
    X, y = cohort()
    space = {"learning_rate": [1e-2, 3e-3], "modality_dropout": [0.3]}
    settings = {"n_trials": 2, "cv": 3, "random_state": 0}
    before = torch.get_rng_state()
    plain = FusionSearchCV(cox(linear=False), space, **settings).fit(X, y)
    paced = FusionSearchCV(cox(linear=False), space, pruning="epoch", **settings).fit(X, y)
    for fold in range(3):
        name = f"split{fold}_test_score"
        np.testing.assert_array_equal(paced.cv_results_[name], plain.cv_results_[name])
    assert torch.equal(torch.get_rng_state(), before)
    reported = paced.study_.trials[0].intermediate_values
    assert list(reported) == [1, 2, 3]
    assert len(set(reported.values())) == 3


class Losses(Callback):
    """Keeps each training's validation losses."""

    kept: ClassVar[list[list[float]]] = []

    def on_fit_end(self, state: Any) -> None:
        Losses.kept.append([record["val_loss"] for record in state.history])

    def __deepcopy__(self, memo: Any) -> Losses:
        return self


def test_what_is_reported_is_the_mean_of_the_folds_validation_losses() -> None:
    X, y = cohort()
    Losses.kept = []
    model = cox(linear=False, epochs=4).set_params(training__callbacks=[Losses()])
    search = FusionSearchCV(
        make_pipeline("passthrough", model),
        {"fusioncox__learning_rate": [1e-2]},
        pruning="epoch",
        n_trials=1,
        cv=2,
        random_state=0,
    ).fit(X, y)
    of_folds = np.array(Losses.kept[:2])
    reported = search.study_.trials[0].intermediate_values
    np.testing.assert_allclose(list(reported.values()), -of_folds.mean(0), rtol=1e-12)


def test_a_trial_is_pruned_by_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    class Always:
        def prune(self, study: Any, trial: Any) -> bool:
            return trial.number == 1 and trial.last_step == 2

    rates = FloatDistribution(1e-3, 1e-2)

    from mmfusion.tuning import worker

    monkeypatch.setattr(worker, "make_pruner", lambda pruning: Always())
    X, y = cohort()
    search = FusionSearchCV(
        cox(linear=False), {"learning_rate": rates}, pruning="epoch", n_trials=3, cv=2
    ).fit(X, y)
    assert search.cv_results_["state"].tolist() == ["complete", "pruned", "complete"]
    assert list(search.study_.trials[1].intermediate_values) == [1, 2]
    assert np.isnan(search.cv_results_["mean_test_score"][1])


def test_a_fold_that_ends_early_counts_with_the_best_it_reached() -> None:
    told: list[tuple[int, dict[int, float]]] = []

    def judge(epoch: int, losses: Any) -> bool:
        told.append((epoch, dict(losses)))
        return False

    def train(losses: list[float]) -> Any:
        def run(turn: Turn) -> None:
            state = type("State", (), {"record": {}})()
            for loss in losses:
                state.record = {"val_loss": loss}
                turn.on_epoch_end(state)
            turn.on_fit_end(state)

        return run

    order = Lockstep(judge, {2: [7.0, 5.0, 6.0]})
    order.run({0: train([3.0, 1.0, 2.0]), 1: train([4.0])})
    assert told == [
        (1, {2: 7.0, 0: 3.0, 1: 4.0}),
        (2, {2: 5.0, 0: 1.0, 1: 4.0}),
        (3, {2: 6.0, 0: 2.0, 1: 4.0}),
    ]


def test_an_error_in_a_fold_ends_the_others() -> None:
    ended = []

    def fails(turn: Turn) -> None:
        raise ArithmeticError("no luck")

    def trains(turn: Turn) -> None:
        state = type("State", (), {"record": {"val_loss": 1.0}})()
        try:
            while True:
                turn.on_epoch_end(state)
        except Pruned:
            ended.append(True)
            raise

    with pytest.raises(ArithmeticError, match="no luck"):
        Lockstep(lambda epoch, losses: False, {}).run({0: trains, 1: fails})
    assert ended == [True]


def test_a_fit_without_epochs_is_judged_by_its_score() -> None:
    X, y = numbers()
    model = make_pipeline(StandardScaler(), FusionRegressor(n_members=0))
    space = {"fusionregressor__linear": [True]}
    search = FusionSearchCV(model, space, pruning="epoch", n_trials=2, cv=2).fit(X, y)
    assert search.cv_results_["state"].tolist() == ["complete", "complete"]
    assert search.study_.trials[0].intermediate_values == {}
