"""A search of parameters by Optuna, behind scikit-learn's API."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sklearn import get_config
from sklearn.base import is_classifier
from sklearn.metrics import check_scoring as multiple
from sklearn.model_selection._search import BaseSearchCV
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    get_routing_for_object,
    process_routing,
)
from sklearn.utils.metaestimators import available_if

from mmfusion.estimators.base import FusionEstimator
from mmfusion.evaluation.fingerprint import fingerprint
from mmfusion.evaluation.folds import check_folds
from mmfusion.evaluation.outcomes import check_outcome, task_of
from mmfusion.evaluation.roles import check_groups, check_model
from mmfusion.inputs.labels import check_order
from mmfusion.inputs.parameters import check_number, is_number
from mmfusion.tuning.choice import best_trial, best_trials, careful_trial
from mmfusion.tuning.job import Job, job_key, seeded, step_of
from mmfusion.tuning.place import check_storage, in_memory, open_place, temporary
from mmfusion.tuning.processes import work_in_processes
from mmfusion.tuning.results import results_of
from mmfusion.tuning.samplers import check_sampler
from mmfusion.tuning.scoring import TIME, check_objectives, check_scoring
from mmfusion.tuning.space import check_space
from mmfusion.tuning.worker import FAILURE, begun, open_study, work

__all__ = ["FusionSearchCV"]


def _best_has(name: str) -> Callable[[Any], bool]:
    def check(search: Any) -> bool:
        getattr(getattr(search, "best_estimator_", search.estimator), name)
        return True

    return check


class FusionSearchCV(BaseSearchCV):
    """Search an estimator's parameters by cross-validation, with Optuna; nothing finished is lost.

    Each fold that is finished goes into a ledger on the disk before the next one begins. A search
    that was interrupted, or killed, goes on by the same call: it repeats no finished fold and ends
    as it would have ended. Several processes and machines may share one search.

    Parameters
    ----------
    estimator : estimator
        Of `mmfusion.estimators`, or any other of scikit-learn's form.
    space : "default", dict or callable (trial) -> dict, default="default"
        "default" is made of the estimator's modalities, fusion and head: learning rate, weight
        decay, dropout, width, operator or late fusion, modality dropout, most epochs, intervals,
        and whether there is a linear part, networks, or both. Its first trial is the estimator as
        it is, which another replaces only where its gain, paired by fold, exceeds its standard
        error (the rule of one standard error, Breiman et al. 1984). A dict
        has for each parameter a distribution of `optuna.distributions`, or a list of values. A
        function is given Optuna's trial and returns the parameters.
    n_trials : int, default=50
        In all: of every worker, and of every call that goes on with the search.
    cv : int, splitter or iterable of (train, test), default=5
        An int makes shuffled folds, stratified by the event or class; a splitter is given these.
    scoring : None, str, scorer, list or dict of these by name, optional
        None is the estimator's own ``score``. Names for survival are "c", "uno", "antolini", "auc"
        and "ibs" (the integrated Brier score, negative), else scikit-learn's. Higher is better.
    objectives : list of str, optional
        Which of several scores are optimised, and "fit_time", the seconds of a fit, which is to be
        small. None is the score that `refit` names, else all. Of several, `study_.best_trials` is
        the front.
    sampler : {"tpe", "gp", "cmaes", "random"} or sampler of Optuna's, default="tpe"
        A name is seeded trial by trial. Optuna's object is used as it is: then a search that goes
        on draws other parameters than an unbroken one.
    pruning : {"fold", "epoch"}, optional
        "fold": a trial ends after a fold if Wilcoxon's signed-rank test says at 10 % that it is
        worse than the best, on the folds that both have; of five folds the fourth is the first that
        can say so: repeat them. "epoch": the folds train side by side, and a trial ends where the
        mean of their networks' validation losses is worse than that of half of the earlier trials
        at the same epoch.
    storage : path or URL, optional
        Where the search is kept: the path of a journal file (or of a folder that is there), the URL
        of a server such as ``postgresql+psycopg://user@host/name``, or of SQLite for one process.
        It may hold many searches: each is known by its data, estimator, space, folds and scores.
        None is memory.
    n_workers : int, default=1
        Processes on this machine. On others the same call joins the search.
    timeout : float, optional
        Seconds after which no trial is begun.
    random_state : int or None, default=None
        Of the sampler, of folds from an int, and of each random state of the estimator that is
        None. With an int a search of one worker can be repeated.
    refit : bool, str or callable, default=True
        Whether the best parameters are fitted to all rows; of several scores, by which the best is
        chosen. A function is given ``cv_results_`` and returns the position.
    n_best : int, default=1
        How many of the best trials are fitted to all rows and averaged (`FusionEnsemble`), of an
        estimator of `mmfusion.estimators` that is not the end of a Pipeline; all where fewer were
        judged on all folds. A mean of several settings is steadier than the one that looked best
        on the folds. 1 is the best trial alone.
    error_score : float or "raise", default=nan
        Number: a trial that fails is told as failed, with a warning, and the search goes on.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    best_estimator_ : estimator
        A `FusionEnsemble` where `n_best` is above 1.
    best_params_ : dict
    best_score_ : float
    best_index_ : int
        Position of the trial that was taken in ``cv_results_``, of those that were judged on all
        folds: the best, but of the default space the first where no gain exceeds its error.
    cv_results_ : dict
        scikit-learn's columns, a row a trial, and ``trial`` and ``state``.
    averaged_ : list of int
        Positions of the trials whose mean `best_estimator_` is; there where `n_best` is above 1.
    study_ : optuna.Study
        A copy in memory of what `storage` holds under its ``study_name``. Its `best_trial` may be
        one that was pruned by fold: to Optuna the mean of the folds that ran is a trial's value.
    n_splits_ : int
    refit_time_ : float
    scorer_ : scorer, or dict of scorers by name
    multimetric_ : bool

    Notes
    -----
    Decoded images and features of frozen encoders are kept by each process from trial to trial
    (`mmfusion.modalities.set_image_cache_limit`); tables are prepared anew in each fold, which
    costs little beside a training. The score of the best trial is too good, since it was chosen by
    it: `nested_cross_validate` says what the search is worth.

    Examples
    --------
    >>> from mmfusion import Tabular
    >>> from mmfusion.datasets import load_digits_cohort
    >>> from mmfusion.estimators import FusionCox
    >>> from mmfusion.tuning import FusionSearchCV
    >>> cohort = load_digits_cohort(n=120, random_state=0)
    >>> model = FusionCox({"clinic": Tabular(["age", "sex", "stage"])}, n_members=1, epochs=5)
    >>> space = {"learning_rate": [1e-3, 1e-2], "linear": [True, False]}
    >>> search = FusionSearchCV(model, space, n_trials=3, cv=2, random_state=0)
    >>> search.fit(cohort.frame, cohort.target).cv_results_["mean_test_score"].shape
    (3,)
    """

    def __init__(
        self,
        estimator: Any,
        space: Any = "default",
        *,
        n_trials: int = 50,
        cv: Any = 5,
        scoring: Any = None,
        objectives: Any = None,
        sampler: Any = "tpe",
        pruning: str | None = None,
        storage: str | os.PathLike[str] | None = None,
        n_workers: int = 1,
        timeout: float | None = None,
        random_state: int | None = None,
        refit: Any = True,
        n_best: int = 1,
        error_score: float | str = np.nan,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.space = space
        self.n_trials = n_trials
        self.cv = cv
        self.scoring = scoring
        self.objectives = objectives
        self.sampler = sampler
        self.pruning = pruning
        self.storage = storage
        self.n_workers = n_workers
        self.timeout = timeout
        self.random_state = random_state
        self.refit = refit
        self.n_best = n_best
        self.error_score = error_score
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, *, groups: Any = None, **params: Any) -> Self:
        """Search, and fit the best parameters to all rows.

        Parameters
        ----------
        X : DataFrame or ndarray, n rows
        y : outcome, n rows
        groups : column name or array-like, shape (n,), optional
            Rows of one label stay together in folds; by default those of the estimator's `id`, else
            of its `cluster`.
        **params : dict
            For the estimator's ``fit``, such as ``sample_weight``; with scikit-learn's metadata
            routing switched on also for the scorers. Arrays with a value a row are cut into folds.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            Before anything is fitted: a parameter, outcome or folds that are at fault. All trials
            failed. With ``error_score="raise"`` what a trial raised.
        """
        self._check_numbers()
        if self.n_best > 1:
            self._check_average(params)
        storage = check_storage(self.storage, self.n_workers)
        job, scorers, several = self._job(X, y, groups, params)
        with temporary(storage, self.n_workers) as shared, open_place(shared) as place:
            study, job = open_study(job, place)
            with self._bar() as tell:
                if self.n_workers == 1:
                    work(job, place, tell)
                else:
                    work_in_processes(job, str(shared), place, self.n_workers, tell)
            if shared is not None:  # what is opened is closed, and a search can be pickled
                study = in_memory(study)
        self.study_ = study
        self.__dict__.pop("averaged_", None)
        self.cv_results_: dict[str, Any] = results_of(
            study, job.space, list(scorers), len(job.folds)
        )
        self.n_splits_ = len(job.folds)
        self.scorer_ = scorers if several else next(iter(scorers.values()))
        self.multimetric_ = several
        self._refuse_none_left()
        if self.refit is not False or not several:
            self._choose(several, job)
        if self.refit is not False:
            started = time.perf_counter()
            if self.n_best > 1:
                self.best_estimator_ = job.average(
                    [self.cv_results_["params"][position] for position in self.averaged_]
                )
            else:
                self.best_estimator_ = job.refit(self.best_params_)
            self.refit_time_ = time.perf_counter() - started
            if hasattr(self.best_estimator_, "feature_names_in_"):
                self.feature_names_in_ = self.best_estimator_.feature_names_in_
        return self

    def _job(
        self, X: Any, y: Any, groups: Any, params: dict[str, Any]
    ) -> tuple[Job, dict[str, Any], bool]:
        check_model("estimator", self.estimator, "estimator")
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None"
            )
        check_order(X=X, y=y)
        outcome = check_outcome(y, task_of(self.estimator, y), X)
        scorers, several = check_scoring(self.scoring, outcome)
        named = isinstance(self.refit, str) and self.refit in scorers
        if several and not (self.refit is False or callable(self.refit) or named):
            raise ValueError(
                f"The refit parameter must be one of {list(scorers)}, a function or False where "
                f"there are several scores. Got {self.refit!r}."
            )
        objectives = check_objectives(self.objectives, self.refit, scorers)
        check_sampler(self.sampler, self.pruning, len(objectives))
        labels = check_groups(groups, {"estimator": self.estimator}, X)
        drawn = int(np.random.SeedSequence().generate_state(1)[0] >> 1)
        folds = check_folds(
            self.cv,
            outcome,
            classes=is_classifier(self.estimator),
            random_state=0 if self.random_state is None else self.random_state,
            groups=labels,
            X=X,
        )
        estimator = seeded(self.estimator, self.random_state)
        space = check_space(self.space, estimator, X)
        if self.pruning == "epoch" and "training" not in _own_params(estimator):
            raise ValueError(
                "The pruning parameter can be 'epoch' for an estimator of mmfusion.estimators, "
                f"alone or at the end of a Pipeline. Got it for {type(estimator).__name__}."
            )
        routed = self._routed(params, scorers)
        key = job_key(X, y, scorers, routed, estimator)
        name = fingerprint(key, estimator, space, [list(fold) for fold in folds], objectives)
        job = Job(
            estimator=estimator,
            space=space,
            X=X,
            y=outcome,
            given=y if hasattr(y, "iloc") or isinstance(y, np.ndarray) else None,
            folds=folds,
            fit_params=routed["fit"],
            score_params=routed["score"],
            scorers=scorers,
            objectives=objectives,
            directions=["minimize" if each == TIME else "maximize" for each in objectives],
            pruning=self.pruning,
            sampler=self.sampler,
            seed=drawn if self.random_state is None else self.random_state,
            n_trials=self.n_trials,
            error_score=self.error_score,
            name=f"mmfusion-{fingerprint(name, self.pruning, self.random_state)[:16]}",
            key=key,
            deadline=float("inf") if self.timeout is None else time.time() + self.timeout,
        )
        return job, scorers, several

    def _check_numbers(self) -> None:
        check_number("n_trials", self.n_trials, 1, integer=True)
        check_number("n_workers", self.n_workers, 1, integer=True)
        check_number("n_best", self.n_best, 1, integer=True)
        check_number("timeout", self.timeout, 0, allow_none=True, open_ends="low")
        check_number("random_state", self.random_state, 0, integer=True, allow_none=True)
        if self.error_score != "raise" and not is_number(self.error_score):
            raise ValueError(
                f"The error_score parameter must be 'raise' or a number. Got {self.error_score!r}."
            )

    def _check_average(self, params: Mapping[str, Any]) -> None:
        if not isinstance(self.estimator, FusionEstimator):
            raise ValueError(
                "The n_best parameter can be above 1 for an estimator of mmfusion.estimators. Got "
                f"n_best={self.n_best} for {type(self.estimator).__name__}."
            )
        if callable(self.refit):
            raise ValueError(
                "The n_best parameter must be 1 where refit is a function, which names one trial. "
                f"Got {self.n_best}."
            )
        others = [name for name in params if name != "sample_weight"]
        if others:
            raise TypeError(
                f"With n_best={self.n_best} fit takes sample_weight alone besides X, y and groups. "
                f"Got {others}."
            )

    def _routed(
        self, params: dict[str, Any], scorers: Mapping[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """Return what goes to the estimator's fit, and to each scorer."""
        if not get_config()["enable_metadata_routing"]:
            return {"fit": params, "score": {}}
        fit = process_routing(self, "fit", **params).estimator.fit
        asked = {
            name: get_routing_for_object(scorer).consumes("score", params)
            for name, scorer in scorers.items()
        }
        score = {name: {key: params[key] for key in keys} for name, keys in asked.items()}
        return {"fit": dict(fit), "score": score}

    def get_metadata_routing(self) -> MetadataRouter:
        """Return who asks for which metadata: the estimator's fit, and the scorers."""
        named = self.scoring if isinstance(self.scoring, Mapping) else {"score": self.scoring}
        given = {name: each for name, each in named.items() if callable(each)}
        scorer = multiple(self.estimator, scoring=given) if given else None
        router = MetadataRouter(owner=self)
        router.add(
            estimator=self.estimator, method_mapping=MethodMapping().add(caller="fit", callee="fit")
        )
        router.add(
            scorer=scorer,
            method_mapping=MethodMapping()
            .add(caller="score", callee="score")
            .add(caller="fit", callee="score"),
        )
        return router

    def _refuse_none_left(self) -> None:
        if np.isin(self.cv_results_["state"], ("complete",)).any():
            return
        errors = [t.user_attrs[FAILURE] for t in begun(self.study_) if FAILURE in t.user_attrs]
        raise ValueError(
            f"No trial was judged on all folds. The first error: {errors[0] if errors else 'none'}."
        )

    def _choose(self, several: bool, job: Job) -> None:
        metric = self.refit if isinstance(self.refit, str) else next(iter(self._names(several)))
        if callable(self.refit):
            self.best_index_ = int(self.refit(self.cv_results_))
        else:
            ratios = [len(test) / len(train) for train, test in job.folds]
            self.best_index_ = (
                careful_trial(self.cv_results_, metric, ratios)
                if job.space.careful
                else best_trial(self.cv_results_, metric)
            )
            self.best_score_ = float(self.cv_results_[f"mean_test_{metric}"][self.best_index_])
        if self.n_best > 1:
            self.averaged_ = best_trials(self.cv_results_, metric, self.n_best)
        self.best_params_ = self.cv_results_["params"][self.best_index_]

    def _names(self, several: bool) -> list[str]:
        return list(self.scorer_) if several else ["score"]

    @contextmanager
    def _bar(self) -> Iterator[Callable[[Any], None]]:
        """Show how many trials are done, and the best value."""
        columns = [
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("trials"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[best]}"),
        ]
        with Progress(*columns, disable=not self.verbose) as progress:
            bar = progress.add_task("", total=self.n_trials, best="")

            def tell(study: Any) -> None:
                if self.verbose:
                    done = [t for t in begun(study) if t.state.is_finished()]
                    values = [t.values for t in done if t.values]
                    best = f"best {max(v[0] for v in values):.4f}" if values else ""
                    progress.update(bar, completed=len(done), best=best)

            yield tell

    @available_if(_best_has("predict_survival_function"))
    def predict_survival_function(self, X: Any, *args: Any, **params: Any) -> Any:
        """Call ``best_estimator_.predict_survival_function``.

        Parameters
        ----------
        X : DataFrame or ndarray
        *args, **params
            Of that method, such as ``times=``.
        """
        return self.best_estimator_.predict_survival_function(X, *args, **params)


def _own_params(estimator: Any) -> dict[str, Any]:
    return step_of(estimator)[1].get_params(deep=False)
