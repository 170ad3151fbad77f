"""What a worker does: takes a trial, judges it fold by fold, and tells the study."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mmfusion.tuning.job import Job
from mmfusion.tuning.life import Worker
from mmfusion.tuning.lockstep import Lockstep, Pruned, Turn
from mmfusion.tuning.place import Place, quiet
from mmfusion.tuning.samplers import make_pruner, make_sampler
from mmfusion.tuning.scoring import TIME

__all__ = ["FAILURE", "FOLDS", "SEED", "begun", "open_study", "work"]

#: Attributes of a trial: who works on it, the records of its folds, and why it failed.
OWNER, FOLDS, FAILURE = "worker", "folds", "failure"
#: Attribute of a study.
SEED = "seed"
#: Seconds between two looks at the trials of others.
LOOK = 0.5


def open_study(job: Job, place: Place) -> tuple[Any, Job]:
    """Return the study of a job, made where there is none, and the job with the study's seed."""
    import optuna

    with place.ledger.lock(), quiet():
        study = optuna.create_study(
            storage=place.storage,
            study_name=job.name,
            directions=list(job.directions),
            sampler=make_sampler(job.sampler, job.seed, 0),
            pruner=make_pruner(job.pruning),
            load_if_exists=True,
        )
        if SEED not in study.user_attrs:
            study.set_user_attr(SEED, job.seed)
        return study, replace(job, seed=study.user_attrs[SEED])


def begun(study: Any) -> list[Any]:
    """Return the trials that were begun, by their number."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.state.name != "WAITING"]


def work(job: Job, place: Place, tell: Callable[[Any], None] = lambda study: None) -> None:
    """Do trials until there are as many as were asked for, or the time is over.

    Parameters
    ----------
    job : Job
    place : Place
    tell : callable (study), optional
        Is called after each trial, and while others still work.
    """
    study, job = open_study(job, place)
    with Worker(place.ledger) as me:
        while time.time() < job.deadline:
            with place.ledger.lock():
                trial, params = _take_trial(study, job, me)
            if trial is not None:
                _Trial(study, trial, job, place, me).do(params)
            elif any(each.state.name == "RUNNING" for each in begun(study)):
                time.sleep(LOOK)  # they are others', who may die
            else:
                return
            tell(study)


def _take_trial(study: Any, job: Job, me: Worker) -> tuple[Any, dict[str, Any]]:
    """Return a trial of a dead worker, or a new one, with its parameters; None if none is left.

    All parameters are drawn under the lock, so that a trial without an owner is a dead worker's. A
    trial keeps its number, and what it reported, whoever goes on with it.
    """
    import optuna

    state = optuna.trial.TrialState
    for old in study.get_trials(deepcopy=False, states=(state.RUNNING,)):
        owner = old.user_attrs.get(OWNER)
        if owner is None or me.is_dead(owner):
            study.sampler = make_sampler(job.sampler, job.seed, old.number)
            trial = optuna.trial.Trial(study, old._trial_id)
            params = job.space(trial)
            trial.set_user_attr(OWNER, me.name)
            return trial, params
    number = len(begun(study))
    if number >= job.n_trials:
        return None, {}
    study.sampler = make_sampler(job.sampler, job.seed, number)
    waiting = study.get_trials(deepcopy=False, states=(state.WAITING,))
    if number < len(job.space.starts) and not waiting:
        study.enqueue_trial(dict(job.space.starts[number]))
    trial = study.ask()
    params = job.space(trial)
    trial.set_user_attr(OWNER, me.name)
    return trial, params


class _Trial:
    """One trial in the hands of one worker."""

    def __init__(self, study: Any, trial: Any, job: Job, place: Place, me: Worker) -> None:
        self.study = study
        self.trial = trial
        self.job = job
        self.place = place
        self.me = me
        self.records: dict[int, dict[str, Any]] = {}

    def do(self, params: Mapping[str, Any]) -> None:
        """Judge the trial and tell the study; one that fails is told so, and others go on."""
        try:
            model = self.job.model(params)
            keys = [self.job.fold_key(model, fold) for fold in range(len(self.job.folds))]
            (self._by_epoch if self.job.pruning == "epoch" else self._by_fold)(model, keys)
        except Pruned:
            self._tell("PRUNED")
        except Exception as error:
            error.add_note(f"Trial {self.trial.number}, {dict(params)}.")
            if self.job.error_score == "raise":
                self._fail(error)
                raise
            warnings.warn(
                f"Trial {self.trial.number} with {dict(params)} failed and scores "
                f"{self.job.error_score}: {type(error).__name__}: {error}",
                UserWarning,
                stacklevel=3,
            )
            self._fail(error)
        else:
            values = self._values()
            if all(np.isfinite(values)):
                self._tell("COMPLETE", values)
            else:
                self._fail(ValueError(f"scores are not finite: {values}"))

    def _by_fold(self, model: Any, keys: list[str]) -> None:
        objective = self.job.objectives[0]
        for fold, key in enumerate(keys):
            record = self.place.ledger.read(key)
            if record is None:
                record = self.job.fold(model, fold)
                self.place.ledger.write(key, record)
            self.records[fold] = record
            if self.job.pruning == "fold":
                self._report(_of(record, objective), fold)
                if fold + 1 < len(keys) and self.trial.should_prune():
                    return

    def _by_epoch(self, model: Any, keys: list[str]) -> None:
        """Train all folds side by side, and report the mean of their validation losses."""
        known = {fold: self.place.ledger.read(key) for fold, key in enumerate(keys)}
        self.records = {fold: record for fold, record in known.items() if record is not None}
        sign = 1.0 if self.job.directions[0] == "minimize" else -1.0

        def judge(epoch: int, losses: Mapping[int, float]) -> bool:
            self._report(sign * float(np.mean(list(losses.values()))), epoch)
            return self.trial.should_prune()

        def one(fold: int) -> Callable[[Turn], None]:
            def run(turn: Turn) -> None:
                record = self.job.fold(model, fold, turn)
                record["curve"] = order.curves[fold]
                self.place.ledger.write(keys[fold], record)
                self.records[fold] = record

            return run

        curves = {fold: record.get("curve", []) for fold, record in self.records.items()}
        order = Lockstep(judge, curves)
        with warnings.catch_warnings():  # folds enter and leave such contexts in any order
            order.run({fold: one(fold) for fold in known if fold not in self.records})
        self.records = dict(sorted(self.records.items()))

    def _report(self, value: float, step: int) -> None:
        if step not in self.study._storage.get_trial(self.trial._trial_id).intermediate_values:
            self.trial.report(value, step)

    def _values(self) -> list[float]:
        """Return the objectives: means over the folds that ran."""
        return [
            float(np.mean([_of(record, name) for record in self.records.values()]))
            for name in self.job.objectives
        ]

    def _fail(self, error: Exception) -> None:
        self._tell("FAIL", failure=f"{type(error).__name__}: {error}")

    def _tell(self, state: str, values: Any = None, failure: str | None = None) -> None:
        """Tell the study, unless another worker took this one for dead and has the trial now."""
        import optuna

        with self.place.ledger.lock():
            now = self.study._storage.get_trial(self.trial._trial_id)
            if now.state.is_finished() or now.user_attrs.get(OWNER) != self.me.name:
                return
            kept = {
                str(fold): {name: record[name] for name in ("scores", "fit_time", "score_time")}
                for fold, record in self.records.items()
            }
            self.trial.set_user_attr(FOLDS, kept)
            if failure is not None:
                self.trial.set_user_attr(FAILURE, failure)
            self.study.tell(self.trial, values, state=optuna.trial.TrialState[state])


def _of(record: Mapping[str, Any], objective: str) -> float:
    """Return what a fold's record says of an objective."""
    return record[TIME] if objective == TIME else record["scores"][objective]
