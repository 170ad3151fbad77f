"""What is finished stays finished, whoever dies when."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.context
import os
import pickle
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from mmfusion.tuning import FusionSearchCV, life
from mmfusion.tuning.ledger import MemoryLedger
from mmfusion.tuning.life import Worker
from mmfusion.tuning.place import open_place
from tests.tuning.common import fatal_search, numbers, ridge_search, run


def processes() -> multiprocessing.context.ForkServerContext:
    """Return how processes are made: of one that has imported all, so that each starts at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.tuning.common"])
    return context


def ledger_keys(folder: Path) -> list[str]:
    lines = (folder / "study.folds").read_text().splitlines()
    return [json.loads(line)["key"] for line in lines]


def same(found: FusionSearchCV, expected: FusionSearchCV) -> None:
    """Assert that two searches tried and found the same."""
    for name, column in expected.cv_results_.items():
        if "time" not in name:
            np.testing.assert_array_equal(found.cv_results_[name], column, err_msg=name)
    assert found.best_params_ == expected.best_params_
    X = numbers()[0]
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))


@pytest.mark.parametrize("pruning", [None, "fold"])
def test_kills_at_random_moments_lose_no_finished_fold(tmp_path: Path, pruning: Any) -> None:
    params: dict[str, Any] = {"pruning": pruning, "seconds": 0.02, "n_trials": 20, "cv": 5}
    rng = np.random.default_rng(0)
    killed = 0
    while killed < 10:
        process = processes().Process(target=run, args=(tmp_path,), kwargs=params)
        process.start()
        before = (tmp_path / "fits").stat().st_size if killed else 0
        while not (tmp_path / "fits").exists() or (tmp_path / "fits").stat().st_size == before:
            if not process.is_alive():
                break
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, 0.15))
        finished = ledger_keys(tmp_path) if (tmp_path / "study.folds").exists() else []
        process.kill()
        process.join()
        if process.exitcode == 0:
            break
        killed += 1
        assert set(finished) <= set(ledger_keys(tmp_path))
    assert killed > 5

    search = fatal_search(tmp_path, **params).fit(*numbers())

    (tmp_path / "unbroken").mkdir()
    same(search, fatal_search(tmp_path / "unbroken", **params).fit(*numbers()))
    keys = ledger_keys(tmp_path)
    assert len(keys) == len(set(keys))
    # Of each kill at most the fold that was under way was begun again.
    fits = len((tmp_path / "fits").read_text().splitlines())
    assert fits <= len(keys) + killed + 1  # and the refit


def test_a_search_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    process = processes().Process(target=run, args=(tmp_path,), kwargs={"dies_at": (8,)})
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(ledger_keys(tmp_path)) == 7

    search = fatal_search(tmp_path, dies_at=(8,)).fit(*numbers())

    assert len((tmp_path / "fits").read_text().splitlines()) == 7 + 1 + (36 - 7) + 1
    assert [trial.number for trial in search.study_.trials] == list(range(12))
    same(search, ridge_search().fit(*numbers()))


def test_half_a_line_is_cut_off(tmp_path: Path) -> None:
    X, y = numbers()
    first = ridge_search(storage=tmp_path / "study", n_trials=4).fit(X, y)
    for name in ("study", "study.folds"):
        with open(tmp_path / name, "a") as file:
            file.write('{"key": "torn')
    again = ridge_search(storage=tmp_path / "study", n_trials=6).fit(X, y)
    assert again.cv_results_["params"][:4] == first.cv_results_["params"]
    assert len(again.cv_results_["params"]) == 6
    same(again, ridge_search(n_trials=6).fit(X, y))


def test_a_damaged_line_is_computed_again(tmp_path: Path) -> None:
    search = fatal_search(tmp_path, n_trials=2).fit(*numbers())
    path = tmp_path / "study.folds"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(["{}", "nonsense", *lines[2:]]) + "\n")
    (tmp_path / "study").unlink()  # the study is gone, the ledger is left
    before = len((tmp_path / "fits").read_text().splitlines())
    with pytest.warns(UserWarning, match="is damaged"):
        again = fatal_search(tmp_path, n_trials=2).fit(*numbers())
    assert len((tmp_path / "fits").read_text().splitlines()) == before + 2 + 1
    same(again, search)


def test_more_trials_may_be_asked_for(tmp_path: Path) -> None:
    X, y = numbers()
    ridge_search(storage=tmp_path / "study", n_trials=5).fit(X, y)
    same(ridge_search(storage=tmp_path / "study").fit(X, y), ridge_search().fit(X, y))


def test_a_search_that_is_kept_can_be_pickled_and_needs_the_storage_no_more(tmp_path: Path) -> None:
    X, y = numbers()
    search = ridge_search(storage=tmp_path / "study", n_trials=4).fit(X, y)
    text = pickle.dumps(search)
    (tmp_path / "study").unlink()
    again = pickle.loads(text)
    np.testing.assert_array_equal(again.predict(X), search.predict(X))
    assert [t.params for t in again.study_.trials] == [t.params for t in search.study_.trials]
    assert again.study_.user_attrs == search.study_.user_attrs == {"seed": 0}


def test_other_data_are_another_study_in_the_same_file(tmp_path: Path) -> None:
    X, y = numbers()
    first = ridge_search(storage=tmp_path, n_trials=2).fit(X, y)
    other = ridge_search(storage=tmp_path, n_trials=2).fit(X, y + 1)
    assert first.study_.study_name != other.study_.study_name
    assert (tmp_path / "study.journal").exists()
    again = ridge_search(storage=tmp_path, n_trials=2).fit(X, y)
    assert again.study_.study_name == first.study_.study_name


def test_without_a_seed_a_search_still_goes_on(tmp_path: Path) -> None:
    X, y = numbers()
    settings = {"storage": tmp_path / "study", "random_state": None}
    first = ridge_search(n_trials=3, **settings).fit(X, y)
    again = ridge_search(n_trials=5, **settings).fit(X, y)
    assert again.cv_results_["params"][:3] == first.cv_results_["params"]
    assert len(again.cv_results_["params"]) == 5


def test_an_interrupted_search_in_one_process_goes_on(tmp_path: Path) -> None:
    X, y = numbers()
    search = fatal_search(tmp_path, dies_at=(8,), sent=signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    assert len(ledger_keys(tmp_path)) == 7
    same(search.fit(X, y), ridge_search().fit(X, y))
    assert len((tmp_path / "fits").read_text().splitlines()) == 36 + 1 + 1


def test_two_processes_share_a_journal(tmp_path: Path) -> None:
    settings = {"n_trials": 20, "seconds": 0.05}
    both = [processes().Process(target=run, args=(tmp_path,), kwargs=settings) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    search = fatal_search(tmp_path, **settings).fit(*numbers())  # nothing is left to do
    trials = search.study_.trials
    assert [trial.number for trial in trials] == list(range(20))
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    assert len({trial.user_attrs["worker"] for trial in trials}) == 2
    keys = ledger_keys(tmp_path)
    assert len(keys) == len(set(keys)) == 60
    fits = Counter((tmp_path / "fits").read_text().splitlines())
    assert sum(fits.values()) == 60 + 2 + 1  # each process, and this one, fits the best again
    assert not list((tmp_path / "study.workers").iterdir())


def test_another_worker_goes_on_with_the_trial_of_one_that_dies(tmp_path: Path) -> None:
    settings = {"n_trials": 10, "seconds": 0.05, "dies_at": (12,)}
    both = [processes().Process(target=run, args=(tmp_path,), kwargs=settings) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert sorted(process.exitcode for process in both) == [-signal.SIGKILL, 0]
    search = fatal_search(tmp_path, **settings).fit(*numbers())
    trials = search.study_.trials
    assert [trial.number for trial in trials] == list(range(10))
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    keys = ledger_keys(tmp_path)
    assert len(keys) == len(set(keys)) == 30


def test_workers_of_one_search_are_processes() -> None:
    X, y = numbers()
    search = ridge_search(n_workers=2, n_trials=8).fit(X, y)
    trials = search.study_.trials
    assert [trial.number for trial in trials] == list(range(8))
    assert str(os.getpid()) not in {trial.user_attrs["worker"].split("-")[-3] for trial in trials}
    assert search.best_score_ == max(search.cv_results_["mean_test_score"])


@pytest.mark.slow
def test_what_a_worker_raises_is_raised(tmp_path: Path) -> None:
    X, y = numbers()
    search = ridge_search(n_workers=2, space={"alpha": [-1.0]}, error_score="raise")
    with pytest.raises(ValueError, match="alpha") as caught:
        search.fit(X, y)
    assert "Trial" in "".join(caught.value.__notes__)


@pytest.mark.slow
def test_the_death_of_all_workers_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="All 2 workers of the search died"):
        fatal_search(tmp_path, n_workers=2, dies_at=(1, 2)).fit(*numbers())


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_runs_out_by_the_clock_of_who_looks_on() -> None:
    ledger, clock = MemoryLedger(), Clock()
    me = Worker(ledger)
    other = "elsewhere-1-1-abc"
    assert me.is_dead(other, clock)  # it never gave a sign of life, or left
    ledger.beat(other, 5)
    assert not me.is_dead(other, clock)
    clock.now = life.LEASE
    assert not me.is_dead(other, clock)
    ledger.beat(other, 6)
    clock.now = life.LEASE + 1
    assert not me.is_dead(other, clock)
    clock.now = 2 * life.LEASE + 1.5
    assert me.is_dead(other, clock)
    assert not me.is_dead(me.name, clock)


def test_a_process_that_is_gone_is_dead_at_once() -> None:
    ledger = MemoryLedger()
    me = Worker(ledger)
    with Worker(ledger) as other:
        assert not me.is_dead(other.name)
        machine, _, started, rest = other.name.rsplit("-", 3)
        for pid, since in ((2**22 + 1, started), (os.getpid(), "1")):
            gone = f"{machine}-{pid}-{since}-{rest}"
            ledger.beat(gone, 0)
            assert me.is_dead(gone)
    assert me.is_dead(other.name)


def test_signs_of_life_come_while_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "BEAT", 0.01)
    with open_place(str(tmp_path / "study")) as place, Worker(place.ledger) as me:
        first = place.ledger.last_beat(me.name)
        deadline = time.monotonic() + 10
        while place.ledger.last_beat(me.name) == first:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_worker_of_another_machine_is_waited_for_until_its_lease_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "LEASE", 0.2)
    X, y = numbers()
    path = tmp_path / "study"
    ridge_search(storage=path, n_trials=1).fit(X, y)
    with open_place(str(path)) as place:
        study = optuna.load_study(study_name=None, storage=place.storage)
        trial = study.ask()
        trial.suggest_float("alpha", 1e-3, 1e3, log=True)
        trial.suggest_categorical("fit_intercept", [True, False])
        trial.set_user_attr("worker", "elsewhere-1-1-abc")
        place.ledger.beat("elsewhere-1-1-abc", 3)
    started = time.monotonic()
    search = ridge_search(storage=path, n_trials=2).fit(X, y)
    assert time.monotonic() - started > 0.2
    assert [t.state.name for t in search.study_.trials] == ["COMPLETE", "COMPLETE"]
    assert search.study_.trials[1].params == trial.params


def test_a_worker_that_was_taken_for_dead_tells_nothing(tmp_path: Path) -> None:
    X, y = numbers()
    path = tmp_path / "study"

    def scorer(model: Any, X: Any, y: Any) -> float:
        with open_place(str(path)) as place:
            study = optuna.load_study(study_name=None, storage=place.storage)
            study._storage.set_trial_user_attr(
                study.trials[-1]._trial_id, "worker", "elsewhere-1-1-thief"
            )
            place.ledger.beat("elsewhere-1-1-thief", 0)
        return 0.0

    search = ridge_search(storage=path, scoring=scorer, n_trials=1, timeout=4.0)
    with pytest.raises(ValueError, match="must leave time for a trial"):
        search.fit(X, y)
    assert len(ledger_keys(tmp_path)) == 3


def test_sqlite_is_for_one_process(tmp_path: Path) -> None:
    X, y = numbers()
    url = f"sqlite:///{tmp_path / 'search.db'}"
    first = ridge_search(storage=url, n_trials=4).fit(X, y)
    more = ridge_search(storage=url, n_trials=6).fit(X, y)
    same(more, ridge_search(n_trials=6).fit(X, y))
    assert more.study_.study_name == first.study_.study_name
    assert len(first.study_.trials) == 4  # a copy
    with open_place(url), pytest.raises(ValueError, match="which another process uses"):
        ridge_search(storage=url).fit(X, y)
