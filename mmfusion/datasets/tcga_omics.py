"""TCGA cancers with RNA, copy numbers and mutations (the tables of PORPOISE)."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pandas as pd
from sklearn.utils import Bunch

from mmfusion.datasets import _porpoise
from mmfusion.datasets._checks import ChecksumError, check_content, manifest
from mmfusion.datasets._store import download, github_file, locate
from mmfusion.inputs.parameters import check_choice
from mmfusion.survival import surv

# Full name, then patients and columns of RNA, copy number and mutation.
CANCERS: dict[str, tuple[str, tuple[int, int, int, int]]] = {
    "blca": ("bladder urothelial carcinoma", (373, 1554, 256, 371)),
    "brca": ("breast invasive carcinoma", (956, 1558, 1333, 21)),
    "hnsc": ("head and neck squamous cell carcinoma", (416, 1557, 477, 174)),
    "kirc": ("kidney renal clear cell carcinoma", (345, 1556, 937, 10)),
    "luad": ("lung adenocarcinoma", (453, 1555, 517, 864)),
    "ucec": ("uterine corpus endometrial carcinoma", (480, 0, 5, 1406)),
}
_SIGNATURES = "signatures.csv"


def fetch_tcga_omics(
    cancer: str,
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Bunch:
    """Fetch one TCGA cancer: age, sex, RNA, copy numbers and mutations, with overall survival.

    Source: the tables of Chen et al., "Pan-cancer integrative histology-genomic analysis via
    multimodal deep learning", Cancer Cell 40:865-878 (2022), made from cBioPortal; its repository
    at one commit. Read from ``MMFUSION_DATA/tcga_omics`` or the user's data folder; downloaded,
    converted and checked where they are in neither.

    Parameters
    ----------
    cancer : {"blca", "brca", "hnsc", "kirc", "luad", "ucec"}
        TCGA's code of the cancer. "ucec" has no RNA.
    data_home : path-like, optional
        Folder of data sets to use instead.
    download_if_missing : bool, default True
        Whether to download what is not on this machine.

    Returns
    -------
    Bunch
        ``frame``
            DataFrame indexed by patient_id: age (years), is_female (0/1), site (code of the
            hospital), oncotree_code, then ``<GENE>_rnaseq`` (z-scores with extreme outliers: clip
            them), ``<GENE>_cnv`` (-2 to 2) and ``<GENE>_mut`` (0/1).
        ``target``
            Structured array (event: bool, time: float64 in months).
        ``signatures``
            dict of six functional groups to the gene symbols in them (MSigDB families), as used for
            branches of grouped genes.
        ``DESCR``, ``source``, ``license``
            Text.

    Raises
    ------
    ValueError
        Unknown cancer: the nearest one is suggested.
    FileNotFoundError, ConnectionError
        Not on this machine, and not to be downloaded or not downloadable.
    ChecksumError
        The table differs from the known one (of kirc and luad only the size is known).

    Examples
    --------
    >>> from mmfusion.datasets import fetch_tcga_omics
    >>> hnsc = fetch_tcga_omics("hnsc")  # doctest: +SKIP
    >>> hnsc.frame.filter(like="_rnaseq").shape  # doctest: +SKIP
    (416, 1557)
    """
    check_choice("cancer", cancer, CANCERS)
    file = f"{cancer}.parquet"
    folder = locate(
        "tcga_omics",
        [_SIGNATURES, file],
        partial(_make, cancer),
        data_home=data_home,
        download_if_missing=download_if_missing,
    )
    table = pd.read_parquet(folder / file)
    _check(table, cancer, str(folder / file))
    table = table.set_index("patient_id")
    clinical = ["age", "is_female", "site", "oncotree_code"]
    molecular = _porpoise.molecular_columns(table)
    signatures = pd.read_csv(folder / _SIGNATURES)
    about, _ = CANCERS[cancer]
    return Bunch(
        frame=table[clinical + molecular],
        target=surv(table["time_months"], table["event"]),
        signatures={str(name): sorted(genes.dropna()) for name, genes in signatures.items()},
        DESCR=f"TCGA-{cancer.upper()}, {about}: {len(table)} patients, {len(molecular)} molecular "
        f"columns, {table['event'].mean():.0%} deaths. Overall survival in months.",
        source=f"{_porpoise.REPOSITORY} @ {_porpoise.COMMIT}",
        license="TCGA open-access data (cite TCGA); the repository is GPL-3.0, none of its code is "
        "used.",
    )


def _make(cancer: str, folder: Path) -> None:
    source = f"{_porpoise.REPOSITORY} tcga_{cancer}"
    table = _porpoise.download_molecular(cancer, folder)
    _check(table, cancer, source)
    table.to_parquet(folder / f"{cancer}.parquet", index=False)
    url = github_file(_porpoise.REPOSITORY, _porpoise.COMMIT, f"datasets_csv/{_SIGNATURES}")
    download(url, folder / _SIGNATURES)
    check_signatures(pd.read_csv(folder / _SIGNATURES), f"{_porpoise.REPOSITORY} {_SIGNATURES}")


def check_signatures(table: pd.DataFrame, source: str) -> None:
    """Raise unless the gene groups are the known ones."""
    check_content(table, manifest()["tcga_omics"]["signatures"], source)


def _check(table: pd.DataFrame, cancer: str, source: str) -> None:
    expected = CANCERS[cancer][1]
    columns = (len(_porpoise.molecular_columns(table, kind)) for kind in _porpoise.KINDS)
    found = (len(table), *columns)
    if found != expected:
        raise ChecksumError(
            f"{source} must have {expected[0]} patients and {expected[1:]} columns of RNA, copy "
            f"number and mutation. Got {found[0]} and {found[1:]}."
        )
    known = manifest()["tcga_omics"].get(cancer)
    if known is not None:
        check_content(table, known, source)
