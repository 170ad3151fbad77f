"""Is the structured predictor better held or updated while the networks train?

In `FusionCox` the classical model's predictor is a held offset of the networks, and its
coefficients are fitted again afterwards. The alternative lets the networks' optimiser move them
from the first step: here by a linear path of the same columns (a raw modality beside the others,
no hidden layer after fusion), which adds a correction to the offset. Both, and the classical model
alone, on the same folds.

    python -m benchmarks.offset --output offset.md
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import pandas as pd
import torch

from mmfusion import Genes, Image, Tabular
from mmfusion.datasets import fetch_tcga_omics, load_digits_cohort, load_metabric
from mmfusion.estimators import FusionCox
from mmfusion.evaluation import compare, survival_stratified_folds
from mmfusion.fusion import JointFusion

#: A case: table, outcome, formula, its numeric columns, deep modalities.
Case = tuple[pd.DataFrame, object, str, list[str], dict]


def cases() -> dict[str, Case]:
    """Return the cohorts."""
    metabric = load_metabric()
    clinical = ["age", "hormone_treatment", "radiotherapy", "chemotherapy", "er_positive"]
    genes = [column for column in metabric.frame if column not in clinical]
    digits = load_digits_cohort(n=800, random_state=0)
    hnsc = fetch_tcga_omics("hnsc")
    return {
        "METABRIC": (
            metabric.frame,
            metabric.target,
            " + ".join(clinical),
            clinical,
            {"genes": Genes(genes), "clinical": Tabular(clinical)},
        ),
        "digit cohort": (
            digits.frame,
            digits.target,
            "age + treatment + C(stage)",
            ["age", "treatment", "stage"],
            {"scan": Image("image", size=8, channels="L"), "rna": Genes("gene_*")},
        ),
        "TCGA HNSC": (
            hnsc.frame,
            hnsc.target,
            "age + is_female",
            ["age", "is_female"],
            {"rna": Genes("*_rnaseq", n_components=20)},
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    parts = []
    for name, (frame, y, formula, columns, deep) in cases().items():
        # One network: what is compared is how it is trained.
        settings = {"structured": formula, "linear": False, "n_members": 1}
        settings |= {"device": "cpu", "random_state": 0}
        fusion = JointFusion(hidden=())
        wide = {"wide": Tabular(columns, encoder="raw", encoding="onehot")}
        table = compare(
            {
                "held": FusionCox(deep, fusion, **settings),
                "updated": FusionCox(deep | wide, fusion, **settings),
                "classical alone": FusionCox({}, **settings),
            },
            frame,
            y,
            survival_stratified_folds(y, 5, arguments.repeats, random_state=0),
        )
        parts.append(f"### {name}\n\n{table.to_markdown('held')}\n")
        print(parts[-1], flush=True)
    if arguments.output:
        arguments.output.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
