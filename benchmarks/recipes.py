"""The published systems of `mmfusion.recipes` on real data, beside what they must beat.

On the same folds of each data set: a ridge Cox model and a random survival forest (scikit-survival)
of the tables, a network on each modality alone, plain joint fusion, and every recipe that suits the
data. Houses (price) take the recipes of regression, beside ridge regression and a random forest;
METABRIC's patients who died within five years those of classification.
Recipes that the package does not have are left out. Each model and fold is kept in
``<output>/folds`` as soon as it is there: interrupt it and run it again.

    python -m benchmarks.recipes                                   # everything
    python -m benchmarks.recipes --data metabric blca --folds 1    # what one fold costs
    python -m benchmarks.recipes --report recipes.md               # tables of what there is so far
"""

from __future__ import annotations

import argparse
import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import is_classifier, is_regressor
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sksurv.ensemble import RandomSurvivalForest

from mmfusion import Genes, Image, Tabular
from mmfusion.datasets import (
    fetch_glioma,
    fetch_houses,
    fetch_tcga_omics,
    load_digits_cohort,
    load_metabric,
)
from mmfusion.estimators import FusionClassifier, FusionCox, FusionRegressor
from mmfusion.evaluation import (
    Comparison,
    CoxRidge,
    TableFeatures,
    compare,
    survival_stratified_folds,
)
from mmfusion.fusion import JointFusion
from mmfusion.metrics import make_survival_scorer

SEED = 0
BASELINES = {"cox_ridge": "ridge Cox", "rsf": "random survival forest"}


@dataclass(frozen=True)
class Cohort:
    """A data set: its table, outcome, modalities, folds.

    ``formula`` is for recipes with a structured part, ``views`` names the two modalities that go
    into a system of two, ``published`` holds scores of others on the same folds.
    """

    title: str
    frame: pd.DataFrame
    target: Any
    modalities: Mapping[str, Any]
    folds: list[tuple[np.ndarray, np.ndarray]]
    formula: str
    views: tuple[str, str]
    task: str = "survival"
    published: pd.DataFrame | None = None

    def chosen(self, what: str) -> dict[str, Any]:
        """Return the modalities of a kind: "all", "tables", "images" or "views"."""
        kinds = {"tables": "table", "images": "image"}
        return {
            name: modality
            for name, modality in self.modalities.items()
            if what == "all"
            or (what == "views" and name in self.views)
            or modality.kind == kinds.get(what)
        }


@dataclass(frozen=True)
class Recipe:
    """Which modalities a system reads, and what it predicts."""

    reads: str
    task: str = "survival"


RECIPES = {
    "cph": Recipe("tables"),
    "deep_surv": Recipe("tables"),
    "deep_conv_surv": Recipe("images"),
    "deep_corr_surv": Recipe("views"),
    "concat_ae": Recipe("views"),
    "cross_ae": Recipe("views"),
    "cheerla_gevaert": Recipe("all"),
    "multi_surv": Recipe("all"),
    "wide_and_deep": Recipe("all", task="classification"),
    "poelsterl_wide_deep": Recipe("images"),
    "law_two_stage": Recipe("images", task="regression"),
    "jean_transfer": Recipe("images", task="regression"),
}


def frozen(column: Any, size: int) -> Image:
    """Return images through efficientnet-lite0 with its ImageNet weights held fixed."""
    return Image(
        column,
        size=size,
        encoder="tf_efficientnet_lite0",
        pretrained="embedded",
        freeze="all",
        n_components=20,
        dropout=0.3,
    )


def glioma() -> Cohort:
    data = fetch_glioma("genes")
    folds = []
    for _, rows in data.folds[data.folds["repeat"] == 0].groupby("fold"):
        test = data.frame.index.isin(rows["patient_id"])
        folds.append((np.flatnonzero(~test), np.flatnonzero(test)))
    published = data.baselines[data.baselines["repeat"] == 0]
    names = published["modalities"].str.replace("+", " + ") + ": "
    names += published["model"].map(BASELINES)
    return Cohort(
        "TCGA glioma: clinical, RNA, histology (frozen features)",
        data.frame,
        data.target,
        {
            "clinical": Tabular(["age", "male"], hidden=()),
            "genes": Genes("*_rnaseq", n_components=20, hidden=()),
            "image": frozen("image", 224),
        },
        folds,
        formula="age + male",
        views=("genes", "image"),
        published=published.assign(model=names)[["model", "repeat", "fold", "c"]],
    )


def metabric() -> Cohort:
    data = load_metabric()
    return Cohort(
        "METABRIC: clinical columns, four genes",
        data.frame,
        data.target,
        {"clinical": Tabular(data.clinical), "genes": Genes(data.genes, encoder="mlp")},
        survival_stratified_folds(data.target, 5, random_state=SEED),
        formula="age + chemotherapy + hormone_treatment + radiotherapy + er_positive",
        views=("clinical", "genes"),
    )


def five_years() -> Cohort:
    data = load_metabric()
    # Who was censored before has no class.
    known = (data.target["time"] >= 60) | data.target["event"]
    frame, target = data.frame[known], data.target[known]
    died = np.where(target["event"] & (target["time"] < 60), "died", "alive")
    folds = StratifiedKFold(5, shuffle=True, random_state=SEED)
    return Cohort(
        "METABRIC, died within five years: clinical columns, four genes",
        frame,
        died,
        {"clinical": Tabular(data.clinical), "genes": Genes(data.genes, encoder="mlp")},
        list(folds.split(frame, died)),
        formula="age * chemotherapy + hormone_treatment + radiotherapy * er_positive",
        views=("clinical", "genes"),
        task="classification",
    )


def omics(cancer: str) -> Cohort:
    data = fetch_tcga_omics(cancer)
    return Cohort(
        f"TCGA {cancer.upper()}: clinical, RNA",
        data.frame,
        data.target,
        {
            "clinical": Tabular(["age", "is_female"], hidden=()),
            "genes": Genes("*_rnaseq", n_components=20, hidden=()),
        },
        survival_stratified_folds(data.target, 5, random_state=SEED),
        formula="age + is_female",
        views=("clinical", "genes"),
    )


def digits() -> Cohort:
    data = load_digits_cohort(n=600, n_genes=30, random_state=SEED)
    return Cohort(
        "Digit cohort (real scans, simulated survival): table, genes, images",
        data.frame,
        data.target,
        {
            "clinical": Tabular(["age", "sex", "treatment", "stage"], hidden=(32,)),
            "genes": Genes("gene_*", hidden=(32,)),
            "image": Image("image", size=8, channels="L"),
        },
        survival_stratified_folds(data.target, 5, random_state=SEED),
        formula="age + C(sex) + treatment + C(stage)",
        views=("genes", "image"),
    )


def houses() -> Cohort:
    data = fetch_houses()
    dealer = KFold(5, shuffle=True, random_state=SEED)
    return Cohort(
        "Houses: attributes, four photographs (frozen features), log price",
        data.frame.assign(log_area=np.log(data.frame["area"])),
        np.log(data.target),
        {
            "attributes": Tabular(["bedrooms", "bathrooms", "log_area"], hidden=()),
            "photographs": frozen(data.images, 128),
        },
        list(dealer.split(data.frame)),
        formula="bedrooms + bathrooms + log_area",
        views=("attributes", "photographs"),
        task="regression",
    )


COHORTS: dict[str, Callable[[], Cohort]] = {
    "glioma": glioma,
    "metabric": metabric,
    "five_years": five_years,
    "blca": lambda: omics("blca"),
    "hnsc": lambda: omics("hnsc"),
    "digits": digits,
    "houses": houses,
}


def classical(cohort: Cohort) -> dict[str, Any]:
    """Return the models of the tables that need no network."""
    tables = cohort.chosen("tables")
    if cohort.task == "regression":
        features = TableFeatures(tables)
        forest = RandomForestRegressor(300, min_samples_leaf=5, random_state=SEED)
        return {
            "tables: ridge regression": make_pipeline(features, RidgeCV(np.logspace(-2, 4, 13))),
            "tables: random forest": make_pipeline(features, forest),
        }
    if cohort.task == "classification":
        features = TableFeatures(tables)
        forest = RandomForestClassifier(300, min_samples_leaf=5, random_state=SEED)
        logistic = LogisticRegressionCV(
            l1_ratios=(0,), scoring="neg_log_loss", max_iter=1000, use_legacy_attributes=False
        )
        return {
            "tables: logistic ridge": make_pipeline(features, StandardScaler(), logistic),
            "tables: random forest": make_pipeline(features, forest),
        }
    forest = RandomSurvivalForest(100, min_samples_leaf=10, random_state=SEED)
    ridge = GridSearchCV(
        CoxRidge(tables),
        {"penalizer": [0.001, 0.01, 0.1, 1.0]},
        scoring=make_survival_scorer("harrell"),
        cv=KFold(3, shuffle=True, random_state=SEED),
    )
    return {
        "tables: ridge Cox": ridge,
        "tables: random survival forest": make_pipeline(TableFeatures(tables), forest),
    }


def networks(cohort: Cohort) -> dict[str, Any]:
    """Return a network on each modality alone and one on all of them, of the same settings."""
    estimators = {"regression": FusionRegressor, "classification": FusionClassifier}
    estimator: Any = estimators.get(cohort.task, FusionCox)
    settings = {"fusion": JointFusion("concat", dim=16, hidden=()), "random_state": SEED}
    models = {
        f"{name} alone": estimator({name: modality}, **settings)
        for name, modality in cohort.modalities.items()
    }
    return models | {"joint fusion, concat": estimator(cohort.modalities, **settings)}


def published_systems(cohort: Cohort) -> dict[str, Any]:
    """Return the recipes of the package that suit the data."""
    try:
        recipes: Any = importlib.import_module("mmfusion.recipes")
    except ModuleNotFoundError:
        print("There is no mmfusion.recipes: recipes are left out.")
        return {}
    models = {}
    for name, recipe in RECIPES.items():
        make = getattr(recipes, name, None)
        modalities = cohort.chosen(recipe.reads)
        if recipe.task != cohort.task or not modalities:
            continue
        if make is None:
            print(f"There is no recipe {name!r}: left out.")
            continue
        available = {
            "modalities": modalities,
            "image": next(iter(modalities.values())),
            "structured": cohort.formula,
        }
        asked = {key: available[key] for key in signature(make).parameters if key in available}
        model = make(**asked, random_state=SEED)
        task = "classification" if is_classifier(model) else "survival"
        task = "regression" if is_regressor(model) else task
        if task != cohort.task:
            print(f"Recipe {name!r} is for {task}: left out.")
            continue
        models[name] = model
    return models


def run(name: str, output: Path, n_folds: int, n_jobs: int | None) -> None:
    """Score every model of a data set and write its table of scores."""
    cohort = COHORTS[name]()
    print(f"{cohort.title}: {len(cohort.frame)} rows.", flush=True)
    models = classical(cohort) | networks(cohort) | published_systems(cohort)
    comparison = compare(
        models,
        cohort.frame,
        cohort.target,
        cohort.folds[:n_folds],
        task=cohort.task,
        cache=output / "folds",
        error_score=np.nan,
        n_jobs=n_jobs,
        verbose=1,
    )
    scores = comparison.scores
    if cohort.published is not None:
        keys = scores[["repeat", "fold", "n_train", "n_test"]].drop_duplicates()
        scores = pd.concat([scores, cohort.published.merge(keys, on=["repeat", "fold"])])
    scores.to_csv(output / f"{name}.csv", index=False)
    (output / f"{name}.txt").write_text(cohort.title, encoding="utf-8")
    print(table(scores), flush=True)


def table(scores: pd.DataFrame) -> str:
    """Return mean (sd) a model and paired differences to joint fusion; of one fold the scores."""
    shared = [c for c in scores if scores[c].notna().any() and c not in ("ibs", "seconds")]
    comparison = Comparison(scores[shared], pd.DataFrame(), reference="joint fusion, concat")
    several = len(scores[["repeat", "fold"]].drop_duplicates()) > 1
    if several:
        return comparison.to_markdown(adjust="holm")
    one = comparison.table().xs("mean", axis=1, level=1).round(3).to_string()
    return f"```\n{one}\n```"


def report(output: Path) -> str:
    """Return the tables of every data set that has been scored."""
    parts = []
    for name in COHORTS:
        file = output / f"{name}.csv"
        if file.exists():
            scores = pd.read_csv(file)
            folds = len(scores[["repeat", "fold"]].drop_duplicates())
            title = (output / f"{name}.txt").read_text(encoding="utf-8")
            rows = int(scores[["n_train", "n_test"]].iloc[0].sum())
            parts.append(f"### {title}\n\n{rows} rows, {folds} folds.\n\n{table(scores)}\n")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", choices=list(COHORTS), default=list(COHORTS))
    parser.add_argument("--output", type=Path, default=Path("out/recipes"))
    parser.add_argument("--folds", type=int, default=5, help="of the five, the first so many")
    parser.add_argument("--n-jobs", type=int, default=None, help="fits at once")
    parser.add_argument("--report", type=Path, help="only write the tables of what there is")
    arguments = parser.parse_args()
    if arguments.report:
        arguments.report.write_text(report(arguments.output), encoding="utf-8")
        return
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*(constant|one value).*")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.data:
        run(name, arguments.output, arguments.folds, arguments.n_jobs)


if __name__ == "__main__":
    main()
