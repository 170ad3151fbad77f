"""Histology, genes and clinical columns of real glioma patients: what does each add?

TCGA glioblastoma and lower grade glioma (`mmfusion.datasets.fetch_glioma`). Each combination of
modalities is fitted on the training rows of the data's own 3 x 5 folds and scored on the patients
left out, beside ridge Cox and random survival forest baselines of the very same folds. IDH status
is in no model. The models are `FusionCox` as it comes: nothing but its modalities is named.

    python examples/glioma.py                       # cohort "genes": 490 patients, about 11 minutes
    python examples/glioma.py --cohort all          # 768 patients, image and age/sex
    python examples/glioma.py --fine-tune           # adds a fine-tuned encoder, on the first repeat
    python examples/glioma.py --fast                # two folds, for a first look

It ends in a table (``results.md``), the scores of every fold (``scores.csv``) and a figure.
"""

from __future__ import annotations

import argparse
import time
import warnings
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmfusion import Genes, Image, Tabular
from mmfusion.datasets import fetch_glioma
from mmfusion.estimators import FusionCox
from mmfusion.evaluation import Comparison, compare, plot_differences
from mmfusion.training import Training

BASELINES = {"cox_ridge": "ridge Cox", "rsf": "random survival forest"}


def modalities(freeze: Any = "all", size: int = 224) -> dict[str, Any]:
    """Return the three modalities; the genes are RNA only, without copy numbers or mutations."""
    image = Image(
        "image",
        size=size,
        encoder="tf_efficientnet_lite0",
        pretrained="embedded",
        freeze=freeze,
        # A backbone that is trained moves a hundred times more slowly than the new layers: at a
        # tenth it forgets what it knew (see docs/results.md).
        learning_rate_scale=None if freeze == "all" else 0.01,
    )
    return {"clinical": Tabular(["age", "male"]), "genes": Genes("*_rnaseq"), "image": image}


def fine_tuned(chosen: dict[str, Any], seed: int, epochs: int) -> FusionCox:
    """Return a model whose image encoder is trained too, in its last stages."""
    return FusionCox(
        chosen,
        batch_size=128,
        epochs=epochs,
        n_members=1,  # five networks would train the encoder five times
        training=Training(micro_batch_size=32),
        random_state=seed,
        verbose=2,
    )


def index_folds(
    data: Any, cohort: str, repeats: int, folds: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the data's own folds as (train, test) positions."""
    named = data.folds[(data.folds["repeat"] < repeats) & (data.folds["fold"] < folds)]
    result = []
    for _, rows in named.groupby(["repeat", "fold"]):
        test = data.frame.index.isin(rows["patient_id"])
        result.append((np.flatnonzero(~test), np.flatnonzero(test)))
    return result


def with_baselines(comparison: Comparison, baselines: pd.DataFrame) -> Comparison:
    """Return the comparison with the published baselines of the same folds added."""
    keys = comparison.scores[["repeat", "fold", "n_train", "n_test"]].drop_duplicates()
    rows = baselines.merge(keys, on=["repeat", "fold"])
    names = rows["modalities"].str.replace("+", " + ") + ": " + rows["model"].map(BASELINES)
    rows = rows.assign(model=names)[["model", "repeat", "fold", "n_train", "n_test", "c"]]
    scores = comparison.scores[["model", "repeat", "fold", "n_train", "n_test", "c"]]
    return Comparison(pd.concat([scores, rows], ignore_index=True), comparison.risks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cohort", choices=["genes", "all"], default="genes")
    parser.add_argument("--output", type=Path, default=Path("out/glioma"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n-jobs", type=int, default=None, help="folds at once")
    parser.add_argument("--fine-tune", action="store_true")
    parser.add_argument("--fast", action="store_true")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*constant.*")

    data = fetch_glioma(arguments.cohort)
    repeats, n_folds = (1, 2) if arguments.fast or arguments.fine_tune else (3, 5)
    if arguments.fine_tune and not arguments.fast:
        n_folds = 5
    folds = index_folds(data, arguments.cohort, repeats, n_folds)
    available = modalities()
    if arguments.cohort == "all":  # a third of these patients have no genes
        del available["genes"]
    models: dict[str, Any] = {}
    for k in range(1, len(available) + 1):
        for names in combinations(available, k):
            if not (arguments.fine_tune and k < len(available)):
                models[" + ".join(names)] = FusionCox(
                    {n: available[n] for n in names}, random_state=arguments.seed
                )
    everything = " + ".join(available)
    if arguments.fine_tune:
        trained = modalities(freeze=5, size=112)
        chosen = {name: trained[name] for name in available}
        small = modalities(size=112)
        models[f"{everything}, 112 px"] = FusionCox(
            {name: small[name] for name in available}, random_state=arguments.seed
        )
        models[f"{everything}, 112 px, fine-tuned"] = fine_tuned(
            chosen, arguments.seed, epochs=2 if arguments.fast else 8
        )

    started = time.perf_counter()
    comparison = compare(
        models,
        data.frame,
        data.target,
        folds,
        n_jobs=arguments.n_jobs,
        verbose=1,
    )
    comparison = with_baselines(comparison, data.baselines)
    arguments.output.mkdir(parents=True, exist_ok=True)
    comparison.scores.to_csv(arguments.output / "scores.csv", index=False)
    table = comparison.to_markdown(reference=everything)
    note = (
        f"TCGA glioma, cohort `{arguments.cohort}`: {len(data.frame)} patients, "
        f"{int(data.target['event'].sum())} deaths, {len(folds)} folds; Harrell's C. "
        f"Differences are paired, model minus `{everything}`. "
        f"{(time.perf_counter() - started) / 60:.0f} minutes."
    )
    (arguments.output / "results.md").write_text(f"{note}\n\n{table}\n", encoding="utf-8")
    figure = plot_differences(comparison, reference=everything).figure
    figure.savefig(arguments.output / "differences.png", dpi=150, bbox_inches="tight")
    print(f"{note}\n\n{table}\n\nWritten to {arguments.output}.")


if __name__ == "__main__":
    main()
