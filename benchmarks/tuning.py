"""Is a search worth its time? The default space against untuned defaults and tuned rivals.

On the same outer folds of each cohort, each search inside the training rows, with as many trials
and inner folds: our estimator as it comes, the same with ``space="default"``, the mean of the best
three trials of that search (its seconds are those of three fits more), ridge Cox (logistic
or linear regression) and a random forest. Two things that a search tries first are shown without
one, since they cost less than it: numbers of tables in eight pieces and, of many rows, where "auto"
is one network, five networks. Differences are paired; the seconds are of an outer
fold, search and all.

What is finished is kept in a folder (`--kept`): an interrupted run goes on where it stopped.

    nice -n 19 python -m benchmarks.tuning                    # hours of one core
    python -m benchmarks.tuning --data NKI70 --trials 20
    python -m benchmarks.tuning --data SUPPORT --without forest   # slow of many rows
    python -m benchmarks.tuning --report                      # only the table
    python -m benchmarks.tuning --epochs                      # epochs="cv" beside the default
    python -m benchmarks.tuning --pieces --data rossi WHAS500 # numbers in pieces, no search
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import torch
from optuna.distributions import FloatDistribution, IntDistribution
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sksurv.ensemble import RandomSurvivalForest

from benchmarks import defaults
from mmfusion import Tabular
from mmfusion.estimators import FusionClassifier, FusionCox, FusionRegressor
from mmfusion.evaluation import Comparison, CoxRidge
from mmfusion.tuning import FusionSearchCV, nested_cross_validate
from mmfusion.tuning.default_space import FEW

FOLDER = Path(__file__).parent / "results"
RESULTS = FOLDER / "tuning.csv"
EPOCHS = FOLDER / "epochs_cv.csv"
IN_PIECES = FOLDER / "pieces.csv"
SMALL = ("TRANSBIG", "rossi", "WHAS500", "NKI70")
DATA = ("SUPPORT", "five years", "GBSG2", "houses", "TRANSBIG", "WHAS500", "NKI70")
UNTUNED, TUNED, LINEAR, FOREST = "ours, untuned", "ours, tuned", "ridge, tuned", "forest, tuned"
#: The mean of the best trials of the same search.
MEAN, N_BEST = "ours, mean of the best three", 3
#: What a search finds first where the default is one network.
FIVE = "ours, five networks"
PIECES = "ours, numbers in eight pieces"
INNER = 3
SCORES = {
    "survival": ["c", "ibs"],
    "classification": ["neg_log_loss", "accuracy"],
    "regression": ["r2", "rmse"],
}


def candidates(cohort: Any) -> dict[str, Any]:
    """Return the models, those that are tuned with their spaces."""
    ours = {
        "survival": FusionCox,
        "classification": FusionClassifier,
        "regression": FusionRegressor,
    }[cohort.task](cohort.modalities, device="cpu", random_state=0)
    columns = defaults.columns(cohort)
    linear: Any
    if cohort.task == "survival":
        linear = CoxRidge(cohort.modalities)
        penalty = {"penalizer": FloatDistribution(1e-4, 10.0, log=True)}
        forest = RandomSurvivalForest(100, random_state=0)
    elif cohort.task == "classification":
        linear = make_pipeline(columns, LogisticRegression(max_iter=1000))
        penalty = {"logisticregression__C": FloatDistribution(1e-3, 100.0, log=True)}
        forest = RandomForestClassifier(100, random_state=0)
    else:
        linear = make_pipeline(columns, Ridge())
        penalty = {"ridge__alpha": FloatDistribution(1e-2, 1e4, log=True)}
        forest = RandomForestRegressor(100, random_state=0)
    step = type(forest).__name__.lower()
    many = len(cohort.frame) > FEW
    tables = [name for name, m in cohort.modalities.items() if isinstance(m, Tabular)]
    pieces = {f"modalities__{name}__pieces": 8 for name in tables}
    return {
        UNTUNED: ours,
        PIECES: clone(ours).set_params(**pieces),
        **({FIVE: clone(ours).set_params(n_members=5)} if many else {}),
        TUNED: (ours, "default"),
        LINEAR: (linear, penalty),
        FOREST: (
            make_pipeline(columns, forest),
            {
                f"{step}__min_samples_leaf": IntDistribution(3, 50, log=True),
                f"{step}__max_features": FloatDistribution(0.05, 1.0, log=True),
                f"{step}__max_depth": [None, 3, 5, 8],
            },
        ),
    }


def pieces(names: list[str], asked: argparse.Namespace) -> None:
    """Compare numbers in pieces with the default that has none, without a search."""
    for name in names:
        cohort = defaults.COHORTS[name]()
        models = {key: candidates(cohort)[key] for key in (UNTUNED, PIECES)}
        first, second = SCORES[cohort.task]
        nested = nested_cross_validate(
            models,
            cohort.frame,
            cohort.target,
            n_repeats=asked.repeats,
            scoring=[first, second],
            cache=asked.kept / f"{name}.cache",
        )
        found = nested.comparison.scores.rename(columns={first: "first", second: "second"})
        keep(found.assign(data=name, scores=f"{first}, {second}"), IN_PIECES)
        print(f"{name} done", flush=True)
    for name, of_data in pd.read_csv(IN_PIECES).groupby("data", sort=False):
        print(f"| {name} | {of_data['scores'].iloc[0]} | ", end="")
        kept = of_data.drop(columns=["data", "scores"]).reset_index(drop=True)
        comparison = Comparison(kept, pd.DataFrame(), UNTUNED)
        means = kept.groupby("model")[["first", "second", "seconds"]].mean()
        cells = []
        for score in ("first", "second"):
            cells += [f"{means.loc[model, score]:.3f}" for model in (UNTUNED, PIECES)]
            cells.append(interval(comparison.differences(metric=score).loc[PIECES]))
        cells += [f"{means.loc[model, 'seconds']:.0f}" for model in (UNTUNED, PIECES)]
        print(" | ".join(cells), "|")


def keep(found: pd.DataFrame, path: Path) -> None:
    """Write a cohort's scores in the place of those that it had."""
    before = pd.read_csv(path) if path.exists() else pd.DataFrame({"data": []})
    kept = before[before["data"] != found["data"].iloc[0]]
    pd.concat([kept, found] if len(kept) else [found]).to_csv(path, index=False)


def run(name: str, asked: argparse.Namespace) -> pd.DataFrame:
    """Return the scores of all candidates in the outer folds of a cohort."""
    cohort, kept, trials = defaults.COHORTS[name](), asked.kept, asked.trials
    models = candidates(cohort)
    if asked.without:
        del models[FOREST]
    first, second = SCORES[cohort.task]
    models[MEAN] = FusionSearchCV(
        *models[TUNED],
        cv=INNER,
        n_trials=trials,
        scoring=first,
        n_best=N_BEST,
        storage=kept / name,
        random_state=0,
    )
    nested = nested_cross_validate(
        models,
        cohort.frame,
        cohort.target,
        outer=5,
        n_repeats=asked.repeats,
        inner=INNER,
        n_trials=trials,
        scoring=[first, second],
        storage=kept / name,
        cache=kept / f"{name}.cache",
    )
    for model, failure in nested.comparison.failures.items():
        print(f"{name}: {model} {failure}")
    print(nested.chosen.to_string(), flush=True)
    parts = nested.chosen[nested.chosen["model"] == TUNED]
    found = nested.comparison.scores.rename(columns={first: "first", second: "second"})
    inner = parts.set_index(["model", "repeat", "fold"])[["inner score", "trial"]]
    inner = inner.rename(columns={"inner score": "inner", "trial": "chosen"})
    found = found.join(inner, on=["model", "repeat", "fold"])
    return found.assign(data=name, trials=trials, scores=f"{first}, {second}")


def report() -> None:
    """Print each cohort's means, and differences to the untuned default with their intervals."""
    scores = pd.read_csv(RESULTS)
    lines = []
    for name, of_data in scores.groupby("data", sort=False):
        keys = ["model", "repeat", "fold", "n_train", "n_test", "first", "second", "seconds"]
        kept = of_data[keys].reset_index(drop=True)
        comparison = Comparison(kept, pd.DataFrame(), UNTUNED)
        table = comparison.table()
        for model in comparison.models:
            trials = f"{name}, {int(of_data['trials'].iloc[0])} trials"
            row = [trials, of_data["scores"].iloc[0], model]
            for score in ("first", "second"):
                d = comparison.differences(metric=score)
                row.append(f"{table.loc[model, (score, 'mean')]:.3f}")
                row.append("-" if model == UNTUNED else interval(d.loc[model]))
            taken = of_data.loc[of_data["model"] == model, "chosen"].dropna()
            ours = model == TUNED
            row.append(f"{int((taken > 0).sum())} of {len(taken)}" if ours else "-")
            row.append(f"{table.loc[model, ('seconds', 'mean')]:.0f}")
            lines.append(row)
    head = ["data", "scores", "model", "first", "difference", "second", "difference"]
    head += ["changed", "seconds a fold"]
    for line in [head, ["---"] * len(head), *lines]:
        print("| " + " | ".join(line) + " |")


def interval(row: pd.Series) -> str:
    """Return a difference with its interval."""
    return "{:+.4f} [{:+.4f}, {:+.4f}]".format(*row[["difference", "lower", "upper"]])


def epochs(kept: Path) -> None:
    """Compare ``epochs="cv"`` with five networks and with one, beside the linear part and alone."""
    EPOCHS.unlink(missing_ok=True)
    for name in SMALL:
        cohort = defaults.COHORTS[name]()
        model = FusionCox(cohort.modalities, device="cpu", random_state=0)
        alone = clone(model).set_params(linear=False)  # where networks count whatever they say
        models = {
            UNTUNED: model,
            'epochs="cv"': clone(model).set_params(epochs="cv"),
            "n_members=1": clone(model).set_params(n_members=1),
            "networks alone, five": clone(alone).set_params(n_members=5),
            'networks alone, epochs="cv"': clone(alone).set_params(epochs="cv"),
            "networks alone, n_members=1": clone(alone).set_params(n_members=1),
        }
        nested = nested_cross_validate(
            models,
            cohort.frame[cohort.read],
            cohort.target,
            scoring=["c", "ibs"],
            cache=kept / "epochs.cache",
        )
        found = nested.comparison.scores.assign(data=name)
        found.to_csv(EPOCHS, mode="a", index=False, header=not EPOCHS.exists())
        print(name, nested.comparison.to_markdown(UNTUNED), sep="\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=DATA, choices=list(defaults.COHORTS))
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir()) / "tuning")
    parser.add_argument("--without", choices=["forest"])
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--epochs", action="store_true")
    parser.add_argument("--pieces", action="store_true")
    args = parser.parse_args()
    if args.pieces:
        torch.set_num_threads(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pieces([] if args.report else args.data, args)
        return
    if args.epochs:
        torch.set_num_threads(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            epochs(args.kept)
        return
    if not args.report:
        torch.set_num_threads(1)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        args.kept.mkdir(parents=True, exist_ok=True)
        for name in args.data:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = run(name, args)
            keep(found, RESULTS)
            print(f"{name} done", flush=True)
    report()


if __name__ == "__main__":
    main()
