"""Does fusion pay? Every way of fusing beside each modality alone and the classical models.

On the same repeated folds: ridge Cox on the tables, each modality alone, and early, joint and late
fusion of all of them. Differences are paired, with intervals that allow for training sets that
overlap. Interrupt it and run it again: it goes on where it stopped.

    python examples/compare_fusion.py                     # digit cohort, half with a gap
    python examples/compare_fusion.py --data glioma       # TCGA: histology and genes
    python examples/compare_fusion.py --fast              # two folds, two epochs, for a first look

It ends in a table (``results.md``), the scores of every fold (``scores.csv``) and a figure.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import pandas as pd

from mmfusion import Genes, Image, Tabular
from mmfusion.datasets import fetch_glioma, load_digits_cohort
from mmfusion.estimators import FusionCox
from mmfusion.evaluation import compare_fusion, plot_comparison
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.training import Training


def digits(fast: bool) -> tuple[pd.DataFrame, Any, dict[str, Any], dict[str, Any]]:
    """Return the digit cohort; a quarter of the patients lack the image, another the genes."""
    data = load_digits_cohort(200 if fast else None, n_genes=30, missing=0.25, random_state=0)
    modalities = {
        "clinical": Tabular(["age", "sex", "treatment", "stage"], hidden=(32,)),
        "genes": Genes("gene_*", hidden=(32,)),
        "image": Image("image", size=8, channels="L"),
    }
    settings = {"epochs": 60, "modality_dropout": 0.2}
    return data.frame, data.target, modalities, settings


def glioma(fast: bool) -> tuple[pd.DataFrame, Any, dict[str, Any], dict[str, Any]]:
    """Return the glioma patients with genes; images through a frozen encoder."""
    data = fetch_glioma("genes")
    modalities = {
        "clinical": Tabular(["age", "male"], hidden=(), dropout=0.3),
        "genes": Genes("*_rnaseq", n_components=20, hidden=(), dropout=0.3),
        "image": Image(
            "image",
            size=224,
            encoder="tf_efficientnet_lite0",
            pretrained="embedded",
            freeze="all",
            n_components=20,
            dropout=0.3,
        ),
    }
    rows = slice(100 if fast else None)
    settings = {
        "batch_size": None,
        "patience": None,
        "epochs": 60,
        "learning_rate": 1e-2,
        "training": Training(weight_decay=1.0, ema=None),
    }
    return data.frame[rows], data.target[rows], modalities, settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", choices=["digits", "glioma"], default="digits")
    parser.add_argument("--output", type=Path, default=Path("out/compare_fusion"))
    parser.add_argument("--n-jobs", type=int, default=None, help="fits at once")
    parser.add_argument("--fast", action="store_true")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*constant.*")

    frame, target, modalities, settings = {"digits": digits, "glioma": glioma}[arguments.data](
        arguments.fast
    )
    model = FusionCox(modalities, JointFusion("concat", dim=16, hidden=()), **settings)
    if arguments.fast:
        model.set_params(epochs=2)
    comparison = compare_fusion(
        model,
        frame,
        target,
        operators=["sum", "gated"],
        strategies=[EarlyFusion(), LateFusion(dim=16, hidden=())],
        cv=2 if arguments.fast else 5,
        n_repeats=1 if arguments.fast else 3,
        cache=arguments.output / "folds",
        random_state=0,
        n_jobs=arguments.n_jobs,
    )
    comparison.scores.to_csv(arguments.output / "scores.csv", index=False)
    events = int(target["event"].sum())
    title = f"Cohort `{arguments.data}`: {len(frame)} patients, {events} events."
    text = f"{title} {comparison.summary()}\n"
    (arguments.output / "results.md").write_text(text, encoding="utf-8")
    plot_comparison(comparison).savefig(arguments.output / "comparison.png", dpi=150)
    print(f"{text}\nWritten to {arguments.output}.")


if __name__ == "__main__":
    main()
