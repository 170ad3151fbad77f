"""The TCGA molecular tables of the PORPOISE repository (Chen et al., Cancer Cell 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mmfusion.datasets._store import download, github_file

REPOSITORY = "mahmoodlab/PORPOISE"
COMMIT = "3390dc40e15995ba852d7a561faf0e996cf20501"

#: Column suffix of each kind of molecular measurement, and how it is stored.
KINDS = {"_rnaseq": np.float32, "_cnv": np.int8, "_mut": np.int8}

_CLINICAL = ["patient_id", "age", "site", "is_female", "oncotree_code", "time_months", "event"]

# One gene stands among the clinical columns of the BLCA table, put there by mistake (a comment in
# the repository's datasets/dataset_survival.py says so): it is no part of its gene matrix.
_STRAY = ["TPTEP1_rnaseq"]


def download_molecular(cohort: str, folder: Path) -> pd.DataFrame:
    """Download one cohort's table ("gbmlgg", "blca", ...) into `folder`, and convert it."""
    raw = folder / f"{cohort}.csv.zip"
    path = f"datasets_csv_mutsig/tcga_{cohort}_all_clean.csv.zip"
    download(github_file(REPOSITORY, COMMIT, path), raw)
    table = read_molecular(raw, drop=_STRAY if cohort == "blca" else ())
    raw.unlink()
    return table


def molecular_columns(table: pd.DataFrame, *kinds: str) -> list[str]:
    """Return the names of a table's molecular columns, of all kinds or of some."""
    suffixes = kinds or tuple(KINDS)
    return [name for name in map(str, table.columns) if name.endswith(suffixes)]


def read_molecular(path: Path, drop: Sequence[str] = ()) -> pd.DataFrame:
    """Convert a table of PORPOISE: from a row a slide to a row a patient.

    Parameters
    ----------
    path : Path
        A zipped CSV file with columns case_id, slide_id, site, is_female, oncotree_code, age,
        survival_months, censorship (1 is censored) and ``<GENE>_rnaseq``, ``_cnv``, ``_mut``.
    drop : sequence of str
        Columns to leave out.

    Returns
    -------
    DataFrame
        Sorted by patient_id: patient_id, age, site, is_female, oncotree_code, time_months, event
        (1 is death), then RNA, CNV and mutations in the order of the source.
    """
    raw = pd.read_csv(
        path,
        compression="zip",
        dtype={"site": str},
        float_precision="round_trip",
        low_memory=False,
    )
    # Older tables hold the patient in the unnamed first column, as the sample barcode.
    patient = raw["case_id"] if "case_id" in raw else raw.iloc[:, 0].str[:12]
    raw = raw.assign(patient_id=patient).drop_duplicates("patient_id").sort_values("patient_id")
    clinical = raw.rename(columns={"survival_months": "time_months"})
    clinical = clinical.assign(event=1 - raw["censorship"].astype(int))[_CLINICAL]
    raw = raw.drop(columns=list(drop), errors="ignore")
    molecular = [
        raw[molecular_columns(raw, suffix)].astype(dtype) for suffix, dtype in KINDS.items()
    ]
    return pd.concat([clinical, *molecular], axis=1).reset_index(drop=True)
