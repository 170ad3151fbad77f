"""From two tables of patients to compared, drawn and saved multimodal Cox models (``make demo``).

METABRIC (real: 1,904 patients, clinical columns and genes) and the digit cohort (800 scanned
digits as images, a table and genes; survival simulated from a known truth). On the same nested
folds: Cox regression on the clinical columns, each modality alone, early and joint fusion of all of
them, and joint fusion that is tuned inside each fold. Writes ``report.md``, ``report.html``, the
figures and a saved model, and ``digit_report.html``: the report of one model that a study hands
over.

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
    plot_differences,
    plot_risk_groups,
    plot_survival_curves,
)
from mmfusion.fusion import EarlyFusion
from mmfusion.modalities.base import Modality
from mmfusion.training import Training
from mmfusion.tuning import Nested, nested_cross_validate

CLASSICAL, JOINT, TUNED = "Cox on clinical", "joint fusion", "joint fusion, tuned"
#: Of a search: inner folds, and trials.
INNER, TRIALS = 3, 5


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
    data = load_digits_cohort(200 if fast else 800, n_genes=30, random_state=0)
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
    """Return every model by its name in the tables; one that is tuned with its space."""
    everything = cohort.modalities
    joint = FusionCox(everything, **settings)
    models: dict[str, Any] = {
        CLASSICAL: CoxRidge(Tabular(cohort.clinical, encoding="onehot")),
        **{
            f"{name} alone": FusionCox({name: modality}, **settings)
            for name, modality in everything.items()
        },
        "early fusion": FusionCox(everything, EarlyFusion(), **settings),
        JOINT: joint,
        TUNED: (joint, "default"),
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


def draw(cohort: Cohort, comparison: Comparison, curves: pd.DataFrame, to: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(16, 5), layout="constrained")
    plot_differences(comparison, CLASSICAL, axes[0])
    axes[0].set_title(f"Against {CLASSICAL}, {len(comparison.scores['fold'].unique())} folds")
    ranks = comparison.out_of_fold_rank(TUNED)
    plot_risk_groups(cohort.target, ranks, axes[1], time_label="months")
    axes[1].set_title(f"Out-of-fold risk groups: {TUNED}")
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
    nested = nested_cross_validate(
        models,
        cohort.frame,
        cohort.target,
        outer=options.folds,
        inner=INNER,
        n_trials=options.trials,
        random_state=options.seed,
        n_jobs=options.jobs,
        verbose=1,
    )
    comparison = nested.comparison
    final = models[JOINT].fit(cohort.frame, cohort.target)
    curves = save_and_load(final, cohort, options.output / f"{cohort.name}_model")
    picture = f"{cohort.name}.png"
    draw(cohort, comparison, curves, options.output / picture)
    comparison.scores.to_csv(options.output / f"{cohort.name}_scores.csv", index=False)
    nested.chosen.to_csv(options.output / f"{cohort.name}_chosen.csv", index=False)
    if cohort.truth is not None:
        hand_over(cohort, options, settings)
    print(lines(nested), flush=True)
    return f"""## {cohort.title}

{len(cohort.frame):,} patients, {events:,} events. {cohort.about}

{comparison.to_markdown(CLASSICAL)}

![{cohort.title}: differences, risk groups, survival curves]({picture})

{comparison.differences(JOINT).loc[TUNED].pipe(gain)} The search took another setting than the
untuned one in {changed(nested)} of {options.folds} folds (`{cohort.name}_chosen.csv`).

Joint fusion was then fitted on all patients, saved into `{cohort.name}_model`, loaded again, and
its risks and survival curves found equal, bit for bit.

{time.perf_counter() - started:.0f} seconds.
"""


def lines(nested: Nested) -> str:
    """Return a line a model: mean C, its difference to Cox regression, Brier score, seconds."""
    table, rows = nested.table, []
    for name in table.index:
        c = table.loc[name, "c"]
        d = c[["difference", "difference lower", "difference upper"]]
        against = "reference" if name == CLASSICAL else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*d)
        rows.append(
            f"  {name:20s}  C {c['mean']:.3f}  {against:23s}"
            f"  IBS {table.loc[name, ('ibs', 'mean')]:.3f}"
            f"  {table.loc[name, ('seconds', 'mean')]:5.1f} s a fold"
        )
    return "\n".join(rows)


def gain(row: pd.Series) -> str:
    """Return what tuning changed, with its interval."""
    text = "Tuning changed the mean C by {:+.3f}, paired interval [{:+.3f}, {:+.3f}]."
    return text.format(row["difference"], row["lower"], row["upper"])


def changed(nested: Nested) -> int:
    """Return in how many folds the search left the estimator as it is behind."""
    return int((nested.chosen["trial"] > 0).sum())


REPORT = """# mmfusion: the demo

Each model is fitted on the same {folds} folds (stratified by the event) and scored on the patients
left out. The tuned one is searched anew inside each fold's training patients: {trials} trials of
the default space on {inner} inner folds, the untuned model first; another replaces it where its
gain exceeds its standard error. C is Harrell's concordance (higher is better), the integrated Brier
score goes from the first event to where 5 % of the training patients are uncensored (lower is
better); in parentheses the standard deviation over folds, in brackets the 95 % interval of the mean
score (of the fitted models as they are). Differences are paired by fold, with the corrected
resampled t interval (Nadeau & Bengio 2003).

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
    options.trials = 2 if options.fast else TRIALS
    alone = options.fast or options.device != "cpu"
    options.jobs = options.jobs or (1 if alone else os.cpu_count())
    options.output.mkdir(parents=True, exist_ok=True)
    # joblib renews a worker whose memory has grown (kept images and features); nothing is lost.
    warnings.filterwarnings("ignore", message="A worker stopped")
    warnings.filterwarnings("ignore", message="Column 'age' has .* outside")  # a line a patient
    torch.set_num_threads(1)  # small tensors: a second thread costs more than it brings
    settings = {
        "epochs": 2 if options.fast else 60,
        "n_members": 1 if options.fast else "auto",
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

    about = REPORT.format(folds=options.folds, trials=options.trials, inner=INNER)
    report = about + "\n".join(sections)
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
