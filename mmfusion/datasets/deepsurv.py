"""The four benchmark tables of DeepSurv, with its published splits."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from mmfusion.datasets import metabric
from mmfusion.datasets._checks import check_content, manifest
from mmfusion.datasets._store import download, github_file, locate
from mmfusion.inputs.parameters import check_choice
from mmfusion.survival import surv

REPOSITORY = "jaredleekatzman/DeepSurv"
COMMIT = "41eed003e5b892c81e7855e400861fa7a2d9da4f"

# File here, path in the repository, columns (the HDF5 files hold no names), unit of time.
TABLES: dict[str, tuple[str, str, list[str], str]] = {
    "whas": (
        "whas.csv",
        "whas/whas_train_test.h5",
        [f"x{i}" for i in range(6)],
        "days",
    ),
    "support": (
        "support.csv.gz",
        "support/support_train_test.h5",
        [
            *("age", "sex", "race", "n_comorbidities", "diabetes", "dementia", "cancer"),
            *("mean_bp", "heart_rate", "resp_rate", "temperature", "sodium", "wbc", "creatinine"),
        ],
        "days",
    ),
    "metabric": (
        "metabric.csv",
        "metabric/metabric_IHC4_clinical_train_test.h5",
        metabric.GENES + metabric.CLINICAL,
        "months",
    ),
    "gbsg": (
        "gbsg.csv",
        "gbsg/gbsg_cancer_train_test.h5",
        ["hormone_therapy", "tumor_size_cat", "menopausal", "age", "n_pos_nodes", "PGR", "ER"],
        "months",
    ),
}

_ABOUT = {
    "whas": "Worcester Heart Attack Study: 1,638 patients after a myocardial infarction. The "
    "columns are not named in the source; x1 looks like an age.",
    "support": "SUPPORT: 8,873 seriously ill adults in hospital (Knaus et al., 1995).",
    "metabric": metabric.DESCRIPTION,
    "gbsg": "Breast cancer: 1,546 patients of the Rotterdam tumour bank (train) and 686 of the "
    "German Breast Cancer Study Group (test).",
}


def fetch_deepsurv(
    name: str,
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Bunch:
    """Fetch one of DeepSurv's benchmark tables, with the train/test split of the publication.

    Source: Katzman et al., "DeepSurv", BMC Medical Research Methodology 18:24 (2018); the HDF5
    files of its repository at one commit. Read from ``MMFUSION_DATA/tabular_survival`` or the
    user's data folder; downloaded, converted and checked where they are in neither.

    Parameters
    ----------
    name : {"whas", "support", "metabric", "gbsg"}
        Which one.
    data_home : path-like, optional
        Folder of data sets to use instead.
    download_if_missing : bool, default True
        Whether to download what is not on this machine.

    Returns
    -------
    Bunch
        ``frame``
            DataFrame, a row a patient: covariates. Names in support and gbsg are inferred from the
            values and from pycox's documentation, those of whas are unknown.
        ``target``
            Structured array (event: bool, time: float64; unit in ``time_unit``).
        ``split``
            Series of "train" and "test".
        ``time_unit``, ``DESCR``, ``source``, ``license``
            Text.

    Raises
    ------
    ValueError
        Unknown name: the nearest one is suggested.
    FileNotFoundError, ConnectionError
        Not on this machine, and not to be downloaded or not downloadable.
    ChecksumError
        The table differs from the known one.

    Examples
    --------
    >>> from mmfusion.datasets import fetch_deepsurv
    >>> whas = fetch_deepsurv("whas")  # doctest: +SKIP
    >>> whas.split.value_counts().to_dict()  # doctest: +SKIP
    {'train': 1310, 'test': 328}
    """
    check_choice("name", name, TABLES)
    file, _, columns, unit = TABLES[name]
    folder = locate(
        "tabular_survival",
        [file],
        partial(_make, name),
        data_home=data_home,
        download_if_missing=download_if_missing,
    )
    table = pd.read_csv(folder / file, float_precision="round_trip")
    # By position: files made by earlier hands call the genes of METABRIC gene0 to gene3.
    table.columns = [*columns, "time", "event", "split"]
    check_content(table, manifest()["deepsurv"][name], str(folder / file))
    return Bunch(
        frame=table[columns],
        target=surv(table["time"], table["event"]),
        split=table["split"],
        time_unit=unit,
        DESCR=_ABOUT[name] + f"\n\nTime in {unit}; {table['event'].mean():.1%} events.",
        source=f"{REPOSITORY} @ {COMMIT}",
        license="MIT (the repository)",
    )


def _make(name: str, folder: Path) -> None:
    file, path, columns, _ = TABLES[name]
    raw = folder / f"{name}.h5"
    download(github_file(REPOSITORY, COMMIT, f"experiments/data/{path}"), raw)
    table = convert(raw, columns)
    raw.unlink()
    check_content(table, manifest()["deepsurv"][name], f"{REPOSITORY} {path}")
    table.to_csv(folder / file, index=False, float_format="%.6g")


def convert(path: Path, columns: list[str]) -> pd.DataFrame:
    """Convert a file of DeepSurv: groups "train" and "test", each with arrays x, t and e.

    Returns
    -------
    DataFrame
        The columns given, time, event (0/1) and split, the training rows first; six digits.
    """
    try:  # here, because nothing else needs it
        import h5py  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("Converting DeepSurv's files needs h5py: pip install h5py.") from error
    parts = []
    with h5py.File(path, "r") as file:
        for split in ("train", "test"):
            group = file[split]
            part = pd.DataFrame(np.asarray(group["x"], np.float64), columns=columns)
            part["time"] = np.asarray(group["t"], np.float64)
            part = part.map(lambda value: float(f"{value:.6g}"))
            part["event"] = np.asarray(group["e"]).astype(int)
            parts.append(part.assign(split=split))
    return pd.concat(parts, ignore_index=True)
