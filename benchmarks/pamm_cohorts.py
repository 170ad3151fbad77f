"""Piecewise-exponential models on real patients, beside Cox models, networks and a forest.

METABRIC, GBSG2 (lifelines' copy), the tumour data of R's pammtools (the fixture of its agreement
tests) and glioma with histology features: a frozen efficientnet-lite0 with ImageNet weights, the
mean over a patient's regions, as principal components of the training rows. On the same five folds
of each: the additive formula in a Cox model and in `FusionPAMM`; the same with an effect that
varies over time for each column of 0 and 1; both beside networks; DeepSurv, DeepHit, and
scikit-survival's forest. Nothing is tuned. Harrell's C, Antolini's C (curves may cross), integrated
Brier score; differences to the additive Cox model are paired.

    python -m benchmarks.pamm_cohorts                        # everything
    python -m benchmarks.pamm_cohorts --data gbsg2           # one data set
    python -m benchmarks.pamm_cohorts --report cohorts.md    # tables of what there is so far

``--output benchmarks/results/pamm_cohorts --report FILE`` prints what docs/results.md shows.
"""

# ruff: noqa: E402 - the number of threads is read when NumPy and Torch are imported
from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
import pandas as pd
import torch
from lifelines.datasets import load_gbsg2
from sklearn.pipeline import make_pipeline
from sksurv.ensemble import RandomSurvivalForest

from mmfusion import Genes, Image, Tabular, surv
from mmfusion.datasets import fetch_glioma, load_metabric
from mmfusion.estimators import FusionCox, FusionDiscreteTime, FusionPAMM
from mmfusion.evaluation import Comparison, TableFeatures, compare, survival_stratified_folds
from mmfusion.evaluation.paired import METRICS, TestFold
from mmfusion.fusion import EarlyFusion
from mmfusion.metrics import concordance_index_antolini
from mmfusion.recipes import ImageFeatures, deep_pamm, deep_surv

torch.set_num_threads(1)

TUMOUR = Path(__file__).parent.parent / "tests" / "agreement" / "fixtures" / "pamm.json"
REFERENCE = "Cox, additive"


@dataclass(frozen=True)
class Cohort:
    """A data set: columns of numbers have smooth effects, those of 0 and 1 may vary over time."""

    title: str
    frame: pd.DataFrame
    target: Any
    smooth: list[str]
    binary: list[str]
    others: str
    modalities: Mapping[str, Any]
    folds: list[tuple[np.ndarray, np.ndarray]]

    def formula(self, *, varies: bool = False) -> str:
        parts = [f"s({name})" for name in self.smooth] + ([self.others] if self.others else [])
        return " + ".join(parts + [f"tv({name})" if varies else name for name in self.binary])


def folds_of(target: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    return survival_stratified_folds(target, 5, random_state=0)


def metabric() -> Cohort:
    data = load_metabric()
    binary = [name for name in data.clinical if name != "age"]
    return Cohort(
        "METABRIC: four genes, five clinical columns",
        data.frame,
        data.target,
        ["age", *data.genes],
        binary,
        "",
        {"clinical": Tabular(data.clinical), "genes": Genes(data.genes)},
        folds_of(data.target),
    )


def gbsg2() -> Cohort:
    data = load_gbsg2()
    target = surv(data["time"], data["cens"] == 1)
    frame = data.drop(columns=["time", "cens"]).assign(
        horTh=(data["horTh"] == "yes").astype(int),
        menostat=(data["menostat"] == "Post").astype(int),
    )
    counts = ["pnodes", "progrec", "estrec"]
    frame[counts] = np.log1p(frame[counts])
    return Cohort(
        "GBSG2: eight clinical columns",
        frame,
        target,
        ["age", "tsize", *counts],
        ["horTh", "menostat"],
        "C(tgrade)",
        {"clinical": Tabular(list(frame.columns))},
        folds_of(target),
    )


def tumour() -> Cohort:
    data = pd.DataFrame(json.loads(TUMOUR.read_text(encoding="utf-8"))["data"]["tumor"])
    target = surv(data["time"], data["event"] == 1)
    frame = data.drop(columns=["time", "event"]).assign(
        metastases=(data["metastases"] == "yes").astype(int),
        sex=(data["sex"] == "male").astype(int),
    )
    return Cohort(
        "Tumour data of pammtools: five clinical columns",
        frame,
        target,
        ["age"],
        ["sex", "complications", "metastases"],
        "s(charlson_score, k=5)",
        {"clinical": Tabular(list(frame.columns))},
        folds_of(target),
    )


def glioma() -> Cohort:
    data = fetch_glioma("all")
    frozen = Image(
        "image", size=224, encoder="tf_efficientnet_lite0", pretrained="embedded", freeze="all"
    )
    features = ImageFeatures(frozen).fit_transform(data.frame)
    names = [f"histology_{j}" for j in range(features.shape[1])]
    histology = pd.DataFrame(features, columns=names, index=data.frame.index)
    folds = []
    for _, rows in data.folds[data.folds["repeat"] == 0].groupby("fold"):
        test = data.frame.index.isin(rows["patient_id"])
        folds.append((np.flatnonzero(~test), np.flatnonzero(test)))
    return Cohort(
        "TCGA glioma: age, sex, histology features",
        pd.concat([data.frame[["age", "male"]], histology], axis=1),
        data.target,
        ["age"],
        ["male"],
        "",
        {
            "clinical": Tabular(["age", "male"]),
            "histology": Genes("histology_*", n_components=20, hidden=()),
        },
        folds,
    )


COHORTS: dict[str, Callable[[], Cohort]] = {
    "gbsg2": gbsg2,
    "tumour": tumour,
    "glioma": glioma,
    "metabric": metabric,
}


def models(cohort: Cohort) -> dict[str, Any]:
    """Return every model of a data set, with its defaults."""
    formula, varies = cohort.formula(), cohort.formula(varies=True)
    inputs = dict(cohort.modalities)
    seed: dict[str, Any] = {"random_state": 0, "device": "cpu"}
    return {
        REFERENCE: FusionCox({}, structured=formula),
        "PAMM, additive": FusionPAMM({}, structured=formula),
        "PAMM, effects vary over time": FusionPAMM({}, structured=varies),
        "Cox, additive + networks": FusionCox(inputs, structured=formula, **seed),
        "PAMM, additive + networks": deep_pamm(formula, inputs, **seed),
        "DeepSurv": deep_surv(inputs, **seed),
        "DeepHit": FusionDiscreteTime(
            inputs, EarlyFusion(hidden=(32, 32), dropout=0.1), loss="deephit", **seed
        ),
        "random survival forest": make_pipeline(
            TableFeatures(inputs), RandomSurvivalForest(100, min_samples_leaf=10, random_state=0)
        ),
    }


def antolini(fold: TestFold) -> float:
    times = np.unique(fold.y.time[fold.y.event])
    return concordance_index_antolini(fold.y, fold.survival(times), times)


def run(name: str, output: Path, without: list[str]) -> None:
    """Score every model of a data set, but for some, and write its scores."""
    cohort = COHORTS[name]()
    print(f"{cohort.title}: {len(cohort.frame)} rows; {cohort.formula(varies=True)}", flush=True)
    comparison = compare(
        {name: model for name, model in models(cohort).items() if name not in without},
        cohort.frame,
        cohort.target,
        cohort.folds,
        metrics={"c": METRICS["c"], "antolini": antolini, "ibs": METRICS["ibs"]},
        cache=output / "folds",
        verbose=1,
    )
    comparison.scores.to_csv(output / f"{name}.csv", index=False, float_format="%.6g")
    (output / f"{name}.txt").write_text(cohort.title, encoding="utf-8")
    for model, failure in comparison.failures.items():
        print(model, failure)
    print(table(comparison.scores), flush=True)


def table(scores: pd.DataFrame) -> str:
    """Return the table without seconds: what else the machine did is in them."""
    shown = scores.drop(columns="seconds")
    return Comparison(shown, pd.DataFrame(), reference=REFERENCE).to_markdown()


def report(output: Path) -> str:
    """Return the tables of every data set that has been scored."""
    parts = []
    for name in COHORTS:
        file = output / f"{name}.csv"
        if file.exists():
            title = (output / f"{name}.txt").read_text(encoding="utf-8")
            scores = pd.read_csv(file)
            rows = int(scores[["n_train", "n_test"]].iloc[0].sum())
            parts.append(f"### {title}\n\n{rows} rows.\n\n{table(scores)}\n")
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", choices=list(COHORTS), default=list(COHORTS))
    parser.add_argument("--without", nargs="+", default=[], help="models to leave out")
    parser.add_argument("--output", type=Path, default=Path("out/pamm_cohorts"))
    parser.add_argument("--report", type=Path, help="only write the tables of what there is")
    arguments = parser.parse_args()
    if arguments.report:
        arguments.report.write_text(report(arguments.output), encoding="utf-8")
        return
    warnings.simplefilter("ignore")
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.data:
        run(name, arguments.output, arguments.without)


if __name__ == "__main__":
    main()
