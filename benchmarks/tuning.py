"""Is a search worth its time? The default space against untuned defaults and tuned rivals.

On the same outer folds of each cohort, each search inside the training rows, with as many trials
and inner folds: FusionCox as it comes, FusionCox with ``space="default"``, ridge Cox and a random
survival forest. Differences are paired; the seconds are of an outer fold, search and all.

What is finished is kept in a folder (`--kept`): an interrupted run goes on where it stopped.

    nice -n 19 python -P benchmarks/tuning.py                    # most of an hour
    python -P benchmarks/tuning.py --data NKI70 --trials 20
    python -P benchmarks/tuning.py --report                      # only the table
    python -P benchmarks/tuning.py --epochs                      # epochs="cv" beside the default
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import torch
from optuna.distributions import FloatDistribution, IntDistribution
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sksurv.ensemble import RandomSurvivalForest

from mmfusion.estimators import FusionCox
from mmfusion.evaluation import Comparison, CoxRidge
from mmfusion.tuning import nested_cross_validate

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "tuning.csv"
EPOCHS = HERE / "results" / "epochs_cv.csv"
SMALL = ("NKI70", "TRANSBIG", "WHAS500", "rossi")
DATA = ("NKI70", "TRANSBIG", "WHAS500")
UNTUNED, TUNED = "FusionCox, untuned", "FusionCox, tuned"


def load(name: str) -> Any:
    """Return another script of this folder as a module."""
    spec = importlib.util.spec_from_file_location(f"_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


defaults = load("defaults")


def candidates(cohort: Any) -> dict[str, Any]:
    """Return the models, those that are tuned with their spaces."""
    model = FusionCox(cohort.modalities, device="cpu", random_state=0)
    forest = make_pipeline(defaults.columns(cohort), RandomSurvivalForest(100, random_state=0))
    leaf = "randomsurvivalforest__min_samples_leaf"
    return {
        UNTUNED: model,
        TUNED: (model, "default"),
        "ridge Cox, tuned": (
            CoxRidge(cohort.modalities),
            {"penalizer": FloatDistribution(1e-4, 10.0, log=True)},
        ),
        "random survival forest, tuned": (
            forest,
            {
                leaf: IntDistribution(3, 50, log=True),
                "randomsurvivalforest__max_features": FloatDistribution(0.05, 1.0, log=True),
                "randomsurvivalforest__max_depth": [None, 3, 5, 8],
            },
        ),
    }


def run(name: str, trials: int, repeats: int, kept: Path) -> pd.DataFrame:
    """Return the scores of all candidates in the outer folds of a cohort."""
    cohort = defaults.COHORTS[name]()
    nested = nested_cross_validate(
        candidates(cohort),
        cohort.frame,
        cohort.target,
        outer=5,
        n_repeats=repeats,
        inner=2,
        n_trials=trials,
        scoring=["c", "ibs"],
        storage=kept / name,
        cache=kept / f"{name}.cache",
    )
    for model, failure in nested.comparison.failures.items():
        print(f"{name}: {model} {failure}")
    parts = nested.chosen[nested.chosen["model"] == TUNED]
    found = nested.comparison.scores.assign(trials=trials)
    inner = parts.set_index(["model", "repeat", "fold"])["inner score"]
    found = found.join(inner.rename("inner_c"), on=["model", "repeat", "fold"])
    return found.assign(data=name)


def report() -> None:
    """Print each cohort's means, and differences to the untuned default with their intervals."""
    scores = pd.read_csv(RESULTS)
    lines = []
    for name, of_data in scores.groupby("data", sort=False):
        kept = of_data[["model", "repeat", "fold", "n_train", "n_test", "c", "ibs", "seconds"]]
        comparison = Comparison(kept.reset_index(drop=True), pd.DataFrame(), UNTUNED)
        table = comparison.table()
        for model in comparison.models:
            row = {"data": name, "model": model, "trials": int(of_data["trials"].iloc[0])}
            row |= {"C": table.loc[model, ("c", "mean")], "IBS": table.loc[model, ("ibs", "mean")]}
            if model != UNTUNED:
                for score in ("c", "ibs"):
                    d = comparison.differences(metric=score).loc[model]
                    row[f"{score} difference"] = (
                        f"{d['difference']:+.3f} [{d['lower']:+.3f}, {d['upper']:+.3f}]"
                    )
            inner = of_data.loc[of_data["model"] == model, "inner_c"].mean()
            row["inner C"] = inner
            row["seconds a fold"] = table.loc[model, ("seconds", "mean")]
            lines.append(row)
    with pd.option_context("display.width", 200, "display.max_columns", None):
        print(pd.DataFrame(lines).round(3).to_string(index=False))


def epochs() -> None:
    """Compare ``epochs="cv"`` with the default and with one network on the same folds."""
    EPOCHS.unlink(missing_ok=True)
    for name in SMALL:
        cohort = defaults.COHORTS[name]()
        model = FusionCox(cohort.modalities, device="cpu", random_state=0)
        models = {
            UNTUNED: model,
            'epochs="cv"': clone(model).set_params(epochs="cv"),
            "n_members=1": clone(model).set_params(n_members=1),
        }
        nested = nested_cross_validate(
            models, cohort.frame[cohort.read], cohort.target, scoring=["c", "ibs"]
        )
        found = nested.comparison.scores.assign(data=name)
        found.to_csv(EPOCHS, mode="a", index=False, header=not EPOCHS.exists())
        print(name, nested.comparison.to_markdown(), sep="\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=DATA, choices=list(defaults.COHORTS))
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--kept", type=Path, default=Path(tempfile.gettempdir()) / "tuning")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--epochs", action="store_true")
    args = parser.parse_args()
    if args.epochs:
        torch.set_num_threads(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            epochs()
        return
    if not args.report:
        torch.set_num_threads(1)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        args.kept.mkdir(parents=True, exist_ok=True)
        for name in args.data:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = run(name, args.trials, args.repeats, args.kept)
            before = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame({"data": []})
            kept = before[before["data"] != name]
            pd.concat([kept, found] if len(kept) else [found]).to_csv(RESULTS, index=False)
            print(f"{name} done", flush=True)
    report()


if __name__ == "__main__":
    main()
