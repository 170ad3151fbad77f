"""What the commands do once their files are read."""

from __future__ import annotations

import contextlib
import warnings
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier

from mmfusion.cli.job import Job
from mmfusion.cli.tables import check_suffix, read_table, write_table
from mmfusion.estimators import load
from mmfusion.evaluation import Comparison, compare, compare_fusion
from mmfusion.evaluation.candidates import classical_models
from mmfusion.inputs.messages import name_rows, shorten
from mmfusion.interpret import write_report
from mmfusion.interpret.report.evidence import trained_rows
from mmfusion.metrics import cause_scores, evaluation_times, score_interval
from mmfusion.metrics.scorers import curves_at
from mmfusion.modalities import infer_modalities

__all__ = ["evaluate_job", "fit_job", "predict_table", "report_job", "test_job", "tune_job"]

#: What tables call the search of the file.
TUNED = "tuned"


def fit_job(job: Job) -> None:
    """Fit, save, and show the effects."""
    model = job.estimator()
    X, y = job.X, job.y
    _announce(job)
    with _beside(job.source):
        model.fit(X, y)
    _save(model, job.output)
    if getattr(model, "structured", None) is not None:
        print(model.summary())
        write_table(model.effects_, job.output / "effects.csv")


def evaluate_job(job: Job) -> None:
    """Cross-validate beside single modalities and classical models, and the search, if any."""
    model, settings = job.estimator(), {"verbose": 0, "random_state": 0, **job.section("evaluate")}
    if job.document.values.get("tune") is not None:
        settings["others"] = {TUNED: _search(job)} | dict(settings.get("others") or {})
    X, y = job.X, job.y
    _announce(job)
    with _beside(job.source):
        found = _compare(model, X, y, job, settings)
    print(found.summary())
    write_table(found.scores, job.output / "scores.csv", index=False)
    (job.output / "comparison.md").write_text(found.summary() + "\n", encoding="utf-8")
    if len(found.models) > 1:
        write_table(found.differences(adjust="holm"), job.output / "differences.csv")
    if len(found.chosen):
        write_table(found.chosen, job.output / "chosen.csv", index=False)
    print(f"Scores of each fold: {job.output / 'scores.csv'}")


def test_job(job: Job) -> None:
    """Score the saved model on rows it has not seen."""
    model = load(job.output / "model")
    X, y = job.X, job.y
    _announce(job)
    with _beside(job.source):
        _warn_of_trained(model, X, y)
        if _of_family(model):  # of a distribution, its logarithmic score
            tables = [pd.DataFrame({"score": [model.score(X, y)]}, index=["score"])]
        elif len(getattr(model, "causes_", ())) > 1:
            tables = _cause_scores(model, X, y)
        elif job.survival:
            times = evaluation_times(y)
            tables = [
                score_interval("harrell", y, model.predict(X), strata=_strata(model, X)),
                score_interval("ibs", y, np.asarray(curves_at(model, X, times)), times=times),
            ]
        elif is_classifier(model):
            chances = pd.DataFrame(model.predict_proba(X), columns=model.classes_)
            tables = [
                score_interval("accuracy", y, model.predict(X)),
                score_interval("log_loss", y, chances),
            ]
        else:
            tables = [score_interval(name, y, model.predict(X)) for name in ("r2", "rmse")]
    table = pd.concat(tables).rename_axis("metric")
    print(table.round(4).to_string())
    write_table(table, job.output / "test_scores.csv")


def predict_table(model: Path, source: Path, output: Path, times: str, index: str) -> None:
    """Predict the rows of a table."""
    check_suffix(output)
    folder = model / "model" if (model / "model").is_dir() else model
    estimator = load(folder)
    X = read_table(source, index or None)
    if index:
        if index not in X.columns:
            raise ValueError(f"The table has no column {index!r}; it has {shorten(X.columns, 8)}.")
        X = X.set_index(index)
    output = output.absolute()
    with _beside(source.absolute()):
        predictions = _predictions(estimator, X, _times(times))
    write_table(predictions, output)
    print(f"Predictions of {len(X)} rows: {output}")


def tune_job(job: Job) -> None:
    """Search for parameters, save the best model and the trials."""
    search = _search(job)
    X, y = job.X, job.y
    _announce(job)
    with _beside(job.source):
        search.fit(X, y)
    trials = pd.DataFrame(search.cv_results_)
    write_table(trials, job.output / "trials.csv", index=False)
    print(f"Best of {len(trials)} trials: {search.best_score_:.4f} with")
    for name, value in search.best_params_.items():
        print(f"  {name}: {value}")
    _save(search.best_estimator_, job.output)


def report_job(job: Job) -> None:
    """Write the report of the saved model."""
    model = load(job.output / "model")
    X, y = job.X, job.y
    path = job.output / "report.html"
    if not hasattr(model, "report"):
        raise ValueError(
            "A report is of one model: the saved one is a mean of several trials. Tune with "
            "n_best: 1, or leave n_best out."
        )
    settings = job.section("report", known=_options(write_report, but=("model", "X", "y", "path")))
    with _beside(job.source):
        model.report(X, y, path=path, **settings)
    print(f"Report: {path}")


def _search(job: Job) -> Any:
    """Return the search of the file, not begun; what is finished is kept in the output folder."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    from mmfusion.tuning import FusionSearchCV

    kinds = (CategoricalDistribution, FloatDistribution, IntDistribution)
    known = _options(FusionSearchCV, but=("estimator",))
    settings = {"random_state": 0, **job.section("tune", kinds, known)}
    storage = str(settings.get("storage") or "search.journal")
    if "://" not in storage:
        job.output.mkdir(parents=True, exist_ok=True)
        storage = str(job.output / storage)
    return FusionSearchCV(job.estimator(), **{**settings, "storage": storage})


def _compare(model: Any, X: pd.DataFrame, y: Any, job: Job, settings: dict[str, Any]) -> Comparison:
    """Return the estimator beside others; of a single modality beside classical models."""
    modalities = infer_modalities(X) if model.modalities is None else model.modalities
    single = len(modalities) == 1
    known = _options(compare, but=("models", "X", "y", "folds", "task"))
    known += ["cv", "random_state", "others"]
    if not single:
        known = _options(compare_fusion, but=("estimator", "X", "y"))
    job.section("evaluate", known=known)
    if not single:
        return compare_fusion(model, X, y, **settings)
    task = "classification" if is_classifier(model) else "regression"
    task = "survival" if job.survival else task
    seed = settings.pop("random_state")
    if model.random_state is None:
        model.set_params(random_state=seed)
    folds = settings.pop("cv", 5)
    models = {type(model).__name__: model, **classical_models(model, modalities, task, seed)}
    models |= settings.pop("others", {})
    return compare(models, X, y, folds, task=task, **settings)


def _predictions(model: Any, X: pd.DataFrame, times: list[float]) -> pd.DataFrame:
    if hasattr(model, "predict_survival_function"):
        name = "mean" if _of_family(model) else "risk"
        table = pd.DataFrame({name: model.predict(X)}, index=X.index)
        if times:  # side by side: the index may name several rows alike
            curves = model.predict_survival_function(X, times=times)
            curves.columns = [f"survival at {_number(time)}" for time in times]
            table = pd.concat([table, curves], axis=1)
        return table
    if times:
        raise ValueError(f"A {type(model).__name__} has no survival: leave --times out.")
    if is_classifier(model):
        table = pd.DataFrame({"class": model.predict(X)}, index=X.index)
        names = [f"probability of {name}" for name in model.classes_]
        chances = pd.DataFrame(model.predict_proba(X), index=X.index, columns=names)
        return pd.concat([table, chances], axis=1)  # side by side, as above
    return pd.DataFrame({"prediction": model.predict(X)}, index=X.index)


def _of_family(model: Any) -> bool:
    """Whether it is a distribution, or a mean of several, whose `predict` is a mean."""
    return hasattr(getattr(model, "estimator", model), "family")


def _warn_of_trained(model: Any, X: pd.DataFrame, y: Any) -> None:
    """Warn of rows that are training rows, in which scores are too good."""
    known = trained_rows(getattr(model, "estimators_", [model])[0], X, y)  # a mean's are the same
    if known is not None and known.rows.any():
        by_chance = "" if known.sure else " It may be by chance."
        warnings.warn(
            f"{known.rows.sum()} of {len(X)} rows are like rows that the model was trained on, the "
            f"outcome too: {name_rows(X, known.rows)}.{by_chance} Scores of rows that it has seen "
            "are too good.",
            UserWarning,
            stacklevel=2,
        )


def _cause_scores(model: Any, X: pd.DataFrame, y: Any) -> list[pd.DataFrame]:
    """Return the scores of each cause that the rows have, by the median time of their events."""
    had = y["event"] > 0
    time = float(np.median(y["time"][had])) if had.any() else np.nan
    tables = []
    for cause in np.intersect1d(model.causes_, y["event"]):
        incidence = model.predict_cumulative_incidence_function(X, [time], int(cause))
        scores = cause_scores(y, incidence.iloc[:, 0], time, int(cause))
        scores.index = pd.Index([f"{n}, cause {cause} by {_number(time)}" for n in scores.index])
        tables.append(scores)
    if not tables:
        raise ValueError(f"The table has no event of the model's causes {model.causes_.tolist()}.")
    return tables


def _times(text: str) -> list[float]:
    try:
        times = [float(part) for part in text.replace(",", " ").split()]
    except ValueError as error:
        raise ValueError(f"--times must be numbers with commas between. Got {text!r}.") from error
    return list(dict.fromkeys(times))


def _number(value: float) -> str:
    """Return a number as it is written, all its digits, without an exponent."""
    return np.format_float_positional(value, trim="-")


def _options(function: Any, but: tuple[str, ...]) -> list[str]:
    """Return the names of a function's parameters, but for those that a command gives."""
    return [name for name in signature(function).parameters if name not in but]


def _strata(model: Any, X: pd.DataFrame) -> Any:
    name = getattr(model, "strata", None)
    return None if name is None else X[name]


def _announce(job: Job) -> None:
    events = f", {int((job.y['event'] > 0).sum())} events" if job.survival else ""
    print(f"{job.source.name}: {len(job.X)} rows{events}, {job.X.shape[1]} columns.", flush=True)


def _save(model: Any, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    model.save(output / "model")
    print(f"Saved: {output / 'model'}")


def _beside(table: Path) -> contextlib.AbstractContextManager[None]:
    """Let relative paths, of images in a table, start from the table's folder."""
    return contextlib.chdir(table.parent)
