"""Write mmfusion/datasets/manifest.json and glioma_baselines.csv from the data in MMFUSION_DATA.

For maintainers, when a data set changes: ``python tests/datasets/write_manifest.py``.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pandas as pd

import mmfusion.datasets
from mmfusion.datasets import deepsurv, houses, metabric, tcga_omics
from mmfusion.datasets._checks import content_hash
from mmfusion.datasets._images import mean_colours

DATA = Path(os.environ.get("MMFUSION_DATA", ""))
PACKAGE = Path(mmfusion.datasets.__file__).parent


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, float_precision="round_trip")


def colours(paths: list[Path]) -> str:
    return base64.b64encode(mean_colours(paths).tobytes()).decode()


def glioma() -> dict[str, object]:
    folder = DATA / "tcga_gbmlgg"
    images = read(folder / "images.csv")
    folds = read(folder / "folds.csv").sort_values("patient_id")
    return {
        "clinical": content_hash(read(folder / "clinical.csv")),
        "genes": content_hash(pd.read_parquet(folder / "genes.parquet").reset_index()),
        "images": content_hash(images),
        "colours": colours([folder / "images224" / name for name in images["image"]]),
        "folds": {
            cohort: ["".join(map(str, part["fold"])) for _, part in table.groupby("repeat")]
            for cohort, table in folds.groupby("cohort")
        },
    }


def benchmark_tables() -> dict[str, str]:
    hashes = {}
    for name, (file, _, columns, _) in deepsurv.TABLES.items():
        table = read(DATA / "tabular_survival" / file)
        table.columns = [*columns, "time", "event", "split"]
        hashes[name] = content_hash(table)
    return hashes


def omics() -> dict[str, str]:
    files = {name: DATA / "tcga_omics" / f"{name}.parquet" for name in tcga_omics.CANCERS}
    known = {n: content_hash(pd.read_parquet(p)) for n, p in files.items() if p.exists()}
    return known | {"signatures": content_hash(read(DATA / "tcga_omics" / "signatures.csv"))}


def metabric_hash() -> str:
    table = read(DATA / "tabular_survival" / "metabric.csv").drop(columns="split")
    table.columns = [*metabric.GENES, *metabric.CLINICAL, "time", "event"]
    return content_hash(table)


def house_hashes() -> dict[str, str]:
    table = read(DATA / "houses" / "houses.csv")
    paths = houses.image_paths(DATA / "houses", table["house_id"])
    return {"table": content_hash(table), "colours": colours(paths)}


if __name__ == "__main__":
    manifest = {
        "deepsurv": benchmark_tables(),
        "glioma": glioma(),
        "houses": house_hashes(),
        "metabric": metabric_hash(),
        "tcga_omics": omics(),
    }
    (PACKAGE / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    read(DATA / "tcga_gbmlgg" / "baselines.csv").to_csv(
        PACKAGE / "glioma_baselines.csv", index=False
    )
