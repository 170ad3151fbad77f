"""What a survival model of real glioma patients looks at: genes, regions, modalities, over time.

A Cox model of histology, RNA and age and sex (TCGA, `mmfusion.datasets.fetch_glioma`; IDH status is
in no model) is fitted on three quarters of the patients. Of the others: which genes speak for a
risk, which regions of an image, what each modality is worth, how all of it changes over time, and
the report to hand over. One page of figures.

    python examples/interpret.py                  # glioma: two and a half minutes of one core
    python examples/interpret.py --data digits    # the simulated digit cohort, without download
    python examples/interpret.py --fast           # a check: digits, a few patients and epochs
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mmfusion import Genes, Image, Tabular
from mmfusion.datasets import fetch_glioma, load_digits_cohort
from mmfusion.estimators import FusionCox
from mmfusion.interpret import attribute, attribute_over_time, modality_value
from mmfusion.interpret.plots import (
    plot_attribution_bars,
    plot_attribution_image,
    plot_attribution_over_time,
    plot_effects,
    plot_risk_groups,
    plot_shapley,
)


class Data(NamedTuple):
    """A cohort with its model; `picture` reads the image in a cell."""

    frame: pd.DataFrame
    target: np.ndarray
    model: FusionCox
    unit: str
    horizon: float
    picture: Any


def glioma(epochs: int, seed: int) -> Data:
    from PIL import Image as Picture

    data = fetch_glioma("genes")
    encoder = {"encoder": "tf_efficientnet_lite0", "pretrained": "embedded", "freeze": "all"}
    model = FusionCox(
        {
            "histology": Image("image", size=224, n_components=20, dropout=0.3, **encoder),
            "rna": Genes("*_rnaseq", hidden=(32,), dropout=0.3),
        },
        structured="age + male",
        n_members=2,  # five by default: half the time, and maps of fewer networks to average
        epochs=epochs,
        random_state=seed,
    )

    def picture(cell: Any) -> np.ndarray:
        first = cell[0] if isinstance(cell, list) else cell
        return np.asarray(Picture.open(first).convert("RGB"))

    return Data(data.frame, data.target, model, "days", 730.0, picture)


def digits(n: int | None, epochs: int, seed: int) -> Data:
    data = load_digits_cohort(n, n_genes=30, random_state=seed)
    model = FusionCox(
        {
            "image": Image("image", size=8, channels="L"),
            "rna": Genes("gene_*", hidden=(32,)),
            "lab": Tabular(["sex", "treatment"]),
        },
        structured="age + C(stage)",
        epochs=epochs,
        random_state=seed,
    )
    return Data(data.frame, data.target, model, "months", 24.0, np.asarray)


def draw(data: Data, test: pd.DataFrame, y: np.ndarray, n_bootstrap: int, to: Path) -> pd.DataFrame:
    """Draw the page; return what each gene adds, a row a patient."""
    model = data.model
    image = next(name for name, one in model.modalities_.items() if one.kind == "image")
    risk = model.predict(test)
    found = attribute(model, test, "rna")
    genes = found.tables["rna"]
    worst = int(np.argmax(np.where(test["image"].notna(), risk, -np.inf)))
    patient = test.iloc[[worst]]  # the backbone of images is slow: of one patient alone
    found_there = attribute(model, patient, image, max_steps=64)
    maps = found_there.images[image]
    times = np.linspace(data.horizon / 6, data.horizon, 6)
    values = attribute_over_time(model, patient, times, ["rna", "(formula)"]).values
    gaps = f"{found.gap.max():.2%} of genes, {found_there.gap.max():.2%} of the image"
    print(f"Completeness gap: at most {gaps}", flush=True)

    figure, axes = plt.subplots(2, 3, figsize=(17, 9.5), layout="constrained")
    plot_risk_groups(y, risk, axes[0, 0], time_label=data.unit)
    axes[0, 0].set_title("Patients that the model has not seen, by predicted risk")
    plot_effects(model, ax=axes[0, 1])
    axes[0, 1].set_title("Effects of the formula")
    worth = modality_value(model, test, y, n_bootstrap=n_bootstrap)
    plot_shapley(worth.table, axes[0, 2], label="share of Harrell's C (Shapley value)")
    axes[0, 2].set_title("What each modality is worth")
    plot_attribution_bars(genes, axes[1, 0])
    axes[1, 0].set_title("Genes, over all patients")
    shown = np.asarray(maps[0])
    picture = data.picture(test["image"].iloc[worst])
    plot_attribution_image(picture, shown.reshape(-1, *shown.shape[-2:])[0], axes[1, 1])
    axes[1, 1].set_title("The image of the patient at highest risk")
    plot_attribution_over_time(curves_of(values), axes[1, 2], time_label=data.unit)
    axes[1, 2].set_title("The same patient: what moves survival, over time")
    figure.savefig(to, dpi=110)
    plt.close(figure)
    return genes


def curves_of(values: pd.DataFrame) -> pd.DataFrame:
    """Return one subject's attributions as a table with a row a time, a column a feature."""
    return values.pivot_table("value", index="time", columns="feature", aggfunc="sum")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=["glioma", "digits"])
    parser.add_argument("--output", type=Path, default=Path("out/interpret"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="digits, few patients and epochs")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", category=UserWarning)
    epochs = 2 if options.fast else 60
    if (options.data or ("digits" if options.fast else "glioma")) == "digits":
        data = digits(160 if options.fast else None, epochs, options.seed)
    else:
        data = glioma(epochs, options.seed)
    rows = np.random.default_rng(options.seed).permutation(len(data.frame))
    train, test = np.split(rows, [3 * len(rows) // 4])
    data.model.fit(data.frame.iloc[train], data.target[train])
    unseen, y = data.frame.iloc[test], data.target[test]
    print(f"Harrell's C of {len(test)} new patients: {data.model.score(unseen, y):.3f}", flush=True)
    genes = draw(data, unseen, y, 20 if options.fast else 200, options.output / "page.png")
    genes.abs().mean().sort_values(ascending=False).to_csv(options.output / "genes.csv")
    data.model.report(unseen, y, options.output / "report.html", {"time_unit": data.unit})
    print(f"The page, the genes and the report: {options.output}")


if __name__ == "__main__":
    main()
