"""From two tables of patients to compared, drawn and saved multimodal Cox models (``make demo``).

METABRIC (real: 1,904 patients, clinical columns and genes) and the digit cohort (1,797 scanned
digits as images, a table and genes; survival simulated from a known truth). On the same folds:
Cox regression on the clinical columns, a network on each modality alone, and early, joint and late
fusion of all of them. Writes ``report.md``, ``report.html``, the figures and a saved model, and
``digit_report.html``: the report of one model that a study hands over.

    python examples/demo.py --output out/demo
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from markdown_it import MarkdownIt
from sklearn.base import BaseEstimator

from mmfusion import Genes, Image, Tabular
from mmfusion.datasets import load_digits_cohort, load_metabric
from mmfusion.estimators import FusionCox
from mmfusion.evaluation import (
    Comparison,
    CoxRidge,
    compare,
    plot_differences,
    plot_risk_groups,
    plot_survival_curves,
    survival_stratified_folds,
)
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.modalities.base import Modality
from mmfusion.training import Training

CLASSICAL = "Cox on clinical"
JOINT = {"joint fusion, concat": "concat", "joint fusion, gated": "gated"}


@dataclass
class Cohort:
    """A cohort of the demo: its table, its outcome and what its columns hold."""

    title: str
    about: str
    frame: pd.DataFrame
    target: np.ndarray
    clinical: list[str]
    modalities: dict[str, Modality]
    truth: Any = None

    @property
    def name(self) -> str:
        return self.title.split()[0].lower()


class Oracle(BaseEstimator):
    """The true model of a simulated cohort: no other can be expected to rank patients better."""

    def __init__(self, truth: Any) -> None:
        self.truth = truth

    def fit(self, X: pd.DataFrame, y: np.ndarray) -> Self:
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        return self.truth.log_hazard.loc[X.index, "total"].to_numpy()

    def predict_survival_function(self, X: pd.DataFrame, times: np.ndarray) -> pd.DataFrame:
        return self.truth.survival_function(times).loc[X.index]


def metabric(fast: bool) -> Cohort:
    data = load_metabric()
    rows = slice(300 if fast else None)
    return Cohort(
        "METABRIC breast cancer",
        "Real patients. Clinical: age, treatments, oestrogen receptor. Genes: "
        f"{', '.join(data.genes)}. Outcome: overall survival.",
        data.frame[rows],
        data.target[rows],
        data.clinical,
        {
            "clinical": Tabular(data.clinical, hidden=(32,)),
            "genes": Genes(data.genes, encoder="mlp", hidden=(32,)),
        },
    )


def digits(fast: bool) -> Cohort:
    data = load_digits_cohort(200 if fast else None, n_genes=30, random_state=0)
    clinical = ["age", "sex", "treatment", "stage"]
    return Cohort(
        "Digit cohort",
        "Simulated survival of known truth. The image is a scanned handwritten digit, whose value "
        "raises the hazard; age, sex, treatment and stage, and three of 30 genes, have effects of "
        "their own. The oracle knows the true hazards: chance leaves it below 1.",
        data.frame,
        data.target,
        clinical,
        {
            "clinical": Tabular(clinical, hidden=(32,)),
            "genes": Genes("gene_*", hidden=(32,)),
            "image": Image("image", size=8, channels="L"),
        },
        data.truth,
    )


def make_models(cohort: Cohort, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return every model of the comparison by its name in the tables."""
    everything = cohort.modalities
    models: dict[str, Any] = {
        CLASSICAL: CoxRidge(Tabular(cohort.clinical, encoding="onehot")),
        **{
            f"{name} alone": FusionCox({name: modality}, JointFusion(), **settings)
            for name, modality in everything.items()
        },
        "early fusion": FusionCox(everything, EarlyFusion(), **settings),
        **{
            name: FusionCox(everything, operator, modality_dropout=0.2, **settings)
            for name, operator in JOINT.items()
        },
        "late fusion": FusionCox(everything, LateFusion(), **settings),
    }
    if cohort.truth is not None:
        models["oracle"] = Oracle(cohort.truth)
    return models


def save_and_load(model: FusionCox, cohort: Cohort, folder: Path) -> pd.DataFrame:
    """Save and load a fitted model, insist on equal predictions, return some survival curves."""
    model.save(folder)
    loaded = FusionCox.load(folder)
    risk = model.predict(cohort.frame)
    np.testing.assert_array_equal(loaded.predict(cohort.frame), risk)
    # Five patients, from the lowest to the highest predicted risk.
    chosen = np.argsort(risk)[np.linspace(0, len(risk) - 1, 5).round().astype(int)]
    curves = loaded.predict_survival_function(cohort.frame.iloc[chosen])
    expected = model.predict_survival_function(cohort.frame.iloc[chosen])
    pd.testing.assert_frame_equal(curves, expected, check_exact=True)
    return curves


def draw(cohort: Cohort, comparison: Comparison, best: str, curves: pd.DataFrame, to: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(16, 5), layout="constrained")
    plot_differences(comparison, CLASSICAL, axes[0])
    axes[0].set_title(f"Against {CLASSICAL}, {len(comparison.scores['fold'].unique())} folds")
    plot_risk_groups(cohort.target, comparison.out_of_fold_rank(best), axes[1], time_label="months")
    axes[1].set_title(f"Out-of-fold risk groups: {best}")
    labels = [f"patient {label}" for label in curves.index]
    plot_survival_curves(curves, axes[2], labels=labels, time_label="months")
    axes[2].set_title("Five patients, lowest to highest risk")
    figure.savefig(to, dpi=110)
    plt.close(figure)


def hand_over(cohort: Cohort, options: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    """Fit on two thirds of the patients, and write the report of the others."""
    others = {name: one for name, one in cohort.modalities.items() if name != "clinical"}
    model = FusionCox(others, structured="treatment + sex + s(age) + C(stage)", **settings)
    rows = 2 * len(cohort.frame) // 3
    model.fit(cohort.frame[:rows], cohort.target[:rows])
    path = options.output / f"{cohort.name}_report.html"
    meta = {
        "title": f"{cohort.title}: a Cox model of image, genes and clinical columns",
        "time_unit": "months",
        "source": cohort.about,
        "objective": "Development and evaluation, as a demonstration.",
    }
    written = model.report(cohort.frame[rows:], cohort.target[rows:], path, meta)
    written.tripod.to_csv(options.output / f"{cohort.name}_tripod.csv", index=False)
    print(f"A report to hand over: {path}", flush=True)


def study(cohort: Cohort, options: argparse.Namespace, settings: Mapping[str, Any]) -> str:
    """Compare the models on a cohort, save the best joint one, return the report's section."""
    started = time.perf_counter()
    events = int(cohort.target["event"].sum())
    print(f"\n{cohort.title}: {len(cohort.frame):,} patients, {events:,} events", flush=True)
    models = make_models(cohort, settings)
    folds = survival_stratified_folds(
        cohort.target, options.folds, n_repeats=1, random_state=options.seed
    )
    comparison = compare(models, cohort.frame, cohort.target, folds, n_jobs=options.jobs, verbose=1)
    best = max(JOINT, key=comparison.table()["c"]["mean"].get)  # type: ignore[arg-type]
    final = models[best].fit(cohort.frame, cohort.target)
    curves = save_and_load(final, cohort, options.output / f"{cohort.name}_model")
    picture = f"{cohort.name}.png"
    draw(cohort, comparison, best, curves, options.output / picture)
    comparison.scores.to_csv(options.output / f"{cohort.name}_scores.csv", index=False)
    if cohort.truth is not None:
        hand_over(cohort, options, settings)
    table = comparison.to_markdown(CLASSICAL)
    print(comparison.table()[["c", "ibs"]].round(3).to_string(), flush=True)
    return f"""## {cohort.title}

{len(cohort.frame):,} patients, {events:,} events. {cohort.about}

{table}

![{cohort.title}: differences, risk groups, survival curves]({picture})

The joint model with the higher mean C ({best}) was then fitted on all patients, saved into
`{cohort.name}_model`, loaded again, and its risks and survival curves found equal, bit for bit.
(It was chosen on these folds, so that its score in them is slightly optimistic.)

{time.perf_counter() - started:.0f} seconds.
"""


REPORT = """# mmfusion: the demo

Each model is fitted on the same {folds} folds (stratified by the event) and scored on the patients
left out. C is Harrell's concordance (higher is better), the integrated Brier score goes from the
first event to where 5 % of the training patients are uncensored (lower is better); in
parentheses the standard deviation over folds, in brackets the 95 % interval of the mean score (of
the fitted models as they are). Differences are paired by fold, with the corrected resampled t
interval (Nadeau & Bengio 2003). Joint fusion hides a modality now and then while it trains
(`modality_dropout=0.2`, chosen on another draw of the digit cohort); all else is the same for all
networks.

"""

HTML_HEAD = """<!doctype html><meta charset="utf-8"><title>mmfusion: the demo</title>
<style>body { font-family: sans-serif; margin: 2em } img { max-width: 100% }
td, th { padding: .2em .8em; text-align: left }</style>
"""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("out/demo"))
    parser.add_argument("--fast", action="store_true", help="a few patients and epochs: a check")
    parser.add_argument("--folds", type=int, help="5 by default")
    parser.add_argument("--jobs", type=int, help="fits at once; all cores by default, 1 on a GPU")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, mps or auto")
    parser.add_argument("--precision", default="32-true", help="32-true or bf16-mixed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    options.folds = options.folds or (2 if options.fast else 5)
    alone = options.fast or options.device != "cpu"
    options.jobs = options.jobs or (1 if alone else os.cpu_count())
    options.output.mkdir(parents=True, exist_ok=True)
    # joblib renews a worker whose memory has grown (kept images and features); nothing is lost.
    warnings.filterwarnings("ignore", message="A worker stopped")
    torch.set_num_threads(1)  # small tensors: a second thread costs more than it brings
    settings = {
        "epochs": 2 if options.fast else 60,
        "device": options.device,
        "training": Training(precision=options.precision),
        "random_state": options.seed,
    }
    sections = []
    cohorts: list[Callable[[bool], Cohort]] = [metabric, digits]
    for load in cohorts:
        try:
            cohort = load(options.fast)
        except FileNotFoundError as missing:
            print(f"\nLeft out: {missing}", flush=True)
            sections.append(f"## Left out\n\n{missing}\n")
            continue
        sections.append(study(cohort, options, settings))

    report = REPORT.format(folds=options.folds) + "\n".join(sections)
    (options.output / "report.md").write_text(report, encoding="utf-8")
    page = MarkdownIt().enable("table").render(report)
    (options.output / "report.html").write_text(HTML_HEAD + page, encoding="utf-8")
    print(
        f"\nReport, figures and models: {options.output}\n"
        "Next, real histology (TCGA glioma: images, genes, age and sex):\n"
        "    python examples/glioma.py --help"
    )


if __name__ == "__main__":
    main()
