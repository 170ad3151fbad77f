"""Embeddings trained without an outcome: do they show a label that no model saw?

The picture of Cheerla & Gevaert (2019), drawn from `FusionPretrainer`: encoders of a patient's
modalities are trained to agree, without survival and without the label; t-SNE draws the
embeddings, coloured by the label. A picture may flatter, so numbers stand beside it: how well the
label of patients left out is told by their nearest neighbours, in the embeddings and in the inputs
they are made of, over the same folds. The encoders of a fold see its training patients only.

    python examples/embeddings.py                   # glioma: IDH mutation; a few minutes
    python examples/embeddings.py --data metabric   # oestrogen receptor; no download
    python examples/embeddings.py --objective contrastive

Glioma: RNA, copy numbers and histology, if that data is on this machine (`fetch_glioma`), without
clinical columns and mutations. METABRIC otherwise: treatments and age, and four genes.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from sklearn.manifold import TSNE
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier

from mmfusion import Genes, Image, Tabular
from mmfusion.datasets import fetch_glioma, load_metabric
from mmfusion.encoders import build_encoder
from mmfusion.estimators import FusionPretrainer
from mmfusion.modalities import Modality
from mmfusion.objectives import Contrastive, Similarity

OBJECTIVES = {
    "similarity": Similarity(1.0),
    "variance_ratio": Similarity(1.0, kind="variance_ratio"),
    "contrastive": Contrastive(1.0),
}
NEIGHBOURS = 15


@dataclass
class Cohort:
    """Patients, their modalities, and a label that is in none of them."""

    title: str
    frame: pd.DataFrame
    label: np.ndarray
    modalities: dict[str, Modality]


def histology_features(images: pd.Series, rows_at_once: int = 25) -> pd.DataFrame:
    """Return the frozen encoder's features of each patient, the mean over the regions."""
    frame = images.to_frame("image")
    image = Image("image", encoder="tf_efficientnet_lite0", pretrained="embedded", freeze="all")
    image.fit(frame)
    encoder = build_encoder(image, None).eval()
    parts = []
    with torch.no_grad():
        for first in range(0, len(frame), rows_at_once):
            part = image.transform(frame.iloc[first : first + rows_at_once])
            parts.append(encoder.features(*part.inputs(torch.arange(len(part)))))
    features = torch.cat(parts).numpy()
    names = [f"histology_{i}" for i in range(features.shape[1])]
    return pd.DataFrame(features, index=frame.index, columns=names)


def glioma(fast: bool) -> Cohort:
    data = fetch_glioma("genes", download_if_missing=False)
    frame = data.frame[data.frame["idh_mutation"].notna()]
    if fast:
        frame = frame.iloc[::8]
    label = np.where(frame["idh_mutation"] == 1, "IDH mutated", "IDH wild type")
    block = {"encoder": "mlp", "hidden": (64,), "dropout": 0.2}
    return Cohort(
        "TCGA glioma",
        pd.concat(
            [
                frame.filter(like="_rnaseq"),
                frame.filter(like="_cnv"),
                histology_features(frame["image"]),
            ],
            axis=1,
        ),
        label,
        {
            "RNA": Genes("*_rnaseq", n_components=20, **block),
            "copy numbers": Genes("*_cnv", **block),
            "histology": Genes("histology_*", n_components=20, **block),
        },
    )


def metabric(fast: bool) -> Cohort:
    data = load_metabric()
    frame = data.frame[:200] if fast else data.frame
    (receptor,) = [name for name in data.clinical if name.lower().startswith("er")]
    rest = [name for name in data.clinical if name != receptor]
    return Cohort(
        "METABRIC breast cancer",
        frame,
        np.where(frame[receptor] == 1, "ER positive", "ER negative"),
        {"treatment and age": Tabular(rest), "genes": Genes(data.genes, encoder="mlp")},
    )


def find(name: str, fast: bool) -> Cohort:
    if name != "metabric":
        try:
            return glioma(fast)
        except FileNotFoundError as error:
            if name == "glioma":
                raise
            print(f"Glioma is not on this machine ({error}); METABRIC instead.")
    return metabric(fast)


def inputs(pretrainer: FusionPretrainer, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return what each encoder reads: numbers, and categories one-hot."""
    found = {}
    for name, modality in pretrainer.modalities_.items():
        data = modality.transform(frame)
        codes = [np.eye(c)[data.categories[:, i]] for i, c in enumerate(modality.cardinalities_)]
        found[name] = np.hstack([data.numeric.numpy(), *codes])
    return found


def embeddings(pretrainer: FusionPretrainer, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    names = pretrainer.get_feature_names_out()
    values = pretrainer.transform(frame)
    return {
        name: values[
            :,
            [
                column.rpartition("_")[0] == name and column.rpartition("_")[2].isdigit()
                for column in names
            ],
        ]
        for name in pretrainer.modalities_
    }


def accuracies(
    train: dict[str, np.ndarray], test: dict[str, np.ndarray], y: np.ndarray, truth: np.ndarray
) -> dict[str, float]:
    """Return the balanced accuracy of the nearest neighbours, by all and by each modality."""
    pairs = {name: (train[name], test[name]) for name in train}
    whole = {"all": (np.hstack(list(train.values())), np.hstack(list(test.values())))}
    result = {}
    for name, (a, b) in {**whole, **pairs}.items():
        model = KNeighborsClassifier(NEIGHBOURS, metric="cosine").fit(a, y)
        result[name] = balanced_accuracy_score(truth, model.predict(b))
    return result


def draw(cohort: Cohort, views: dict[str, np.ndarray], path: Path) -> None:
    figure, axes = plt.subplots(1, len(views), figsize=(5.2 * len(views), 4.8))
    for axis, (title, values) in zip(axes, views.items(), strict=True):
        perplexity = min(30.0, len(values) / 4)
        points = TSNE(metric="cosine", perplexity=perplexity, random_state=0).fit_transform(values)
        for name in np.unique(cohort.label):
            rows = cohort.label == name
            axis.scatter(*points[rows].T, s=9, alpha=0.7, label=f"{name} ({rows.sum()})")
        axis.set(title=title, xticks=[], yticks=[])
    axes[0].legend(frameon=False, loc="best")
    figure.suptitle(f"{cohort.title}: t-SNE, coloured by a label that no encoder saw")
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", choices=["auto", "glioma", "metabric"], default="auto")
    parser.add_argument("--objective", choices=sorted(OBJECTIVES), default="similarity")
    parser.add_argument("--output", type=Path, default=Path("out/embeddings"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*Genes leaves out.*")

    started = time.perf_counter()
    cohort = find(arguments.data, arguments.fast)
    folds = StratifiedKFold(2 if arguments.fast else 5, shuffle=True, random_state=arguments.seed)
    scores = []
    for fold, (train, test) in enumerate(folds.split(cohort.frame, cohort.label)):
        pretrainer = FusionPretrainer(
            cohort.modalities,
            [OBJECTIVES[arguments.objective]],
            dim=32,
            epochs=3 if arguments.fast else 60,
            patience=None,
            batch_size=128,
            random_state=arguments.seed,
        ).fit(cohort.frame.iloc[train])
        seen, unseen = cohort.frame.iloc[train], cohort.frame.iloc[test]
        for what, read in (("inputs", inputs), ("embeddings", embeddings)):
            found = accuracies(
                read(pretrainer, seen),
                read(pretrainer, unseen),
                cohort.label[train],
                cohort.label[test],
            )
            scores += [
                {"of": what, "modality": name, "fold": fold, "accuracy": value}
                for name, value in found.items()
            ]
    table = pd.DataFrame(scores)

    last = {"inputs": inputs(pretrainer, unseen), "embeddings": embeddings(pretrainer, unseen)}
    cohort.label = cohort.label[test]  # the picture is of patients that the encoders did not see
    means = table.groupby(["of", "modality"])["accuracy"].mean()
    arguments.output.mkdir(parents=True, exist_ok=True)
    draw(
        cohort,
        {
            f"{what}: balanced accuracy of neighbours {means[what, 'all']:.3f}": np.hstack(
                list(parts.values())
            )
            for what, parts in last.items()
        },
        arguments.output / "embeddings.png",
    )
    table.to_csv(arguments.output / "accuracies.csv", index=False)
    wide = table.pivot(index=["modality", "fold"], columns="of", values="accuracy")
    wide["difference"] = wide["embeddings"] - wide["inputs"]
    lines = ["| modality | inputs | embeddings | difference (sd over folds) |", "|---|---|---|---|"]
    for name, rows in wide.groupby("modality", sort=False):
        lines.append(
            f"| {name} | {rows['inputs'].mean():.3f} | {rows['embeddings'].mean():.3f} | "
            f"{rows['difference'].mean():+.3f} ({rows['difference'].std():.3f}) |"
        )
    note = (
        f"{cohort.title}, objective {arguments.objective}: balanced accuracy of the "
        f"{NEIGHBOURS} nearest neighbours for a label the encoders did not see, "
        f"{table['fold'].nunique()} folds of {len(cohort.frame)} patients. "
        f"{(time.perf_counter() - started) / 60:.1f} minutes."
    )
    text = "\n".join([note, "", *lines, ""])
    (arguments.output / "results.md").write_text(text, encoding="utf-8")
    print(f"{text}\nWritten to {arguments.output}.")


if __name__ == "__main__":
    main()
