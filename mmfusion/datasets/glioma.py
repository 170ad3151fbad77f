"""TCGA glioma: histology, clinical and molecular columns, genes, survival."""

from __future__ import annotations

import os
import zipfile
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from mmfusion.datasets import _porpoise
from mmfusion.datasets._checks import check_colours, check_content, manifest
from mmfusion.datasets._images import mean_colours, read_rgb, shrink
from mmfusion.datasets._store import download, github_archive, github_file, locate
from mmfusion.datasets._zip import open_archive
from mmfusion.inputs.parameters import check_choice
from mmfusion.survival import surv

IMAGES = ("bips-hb/Survival-XAI-ICML", "cd28209521846a8b84a899a66023051ac71ff8cc")
PROJECTS = ("luisvalesilva/multisurv", "deb35e12502f61a59726bfb543210735406d5959")

_SIZE, _QUALITY = 224, 88
_FILES = [f"images{_SIZE}", "images.csv", "genes.parquet", "clinical.csv"]
_DAYS_A_YEAR = 365
_COHORTS = ("genes", "all")
_COLUMNS = [
    *("age", "male", "idh_mutation", "codeletion_1p19q", "n_roi", "project", "race"),
    "oncotree_code",
]

_DESCRIPTION = """TCGA glioma (glioblastoma and lower-grade glioma): regions of interest of H&E
stained slides, clinical and molecular columns, genes, overall survival in days.

Cohort "genes": 490 patients with both genes and images. Cohort "all": 768 patients with images; a
patient without genes has NaN in every gene column. (A 769th patient has follow-up time 0 and is
left out, as in the folds.) Regions: 1 to 16 a patient, 224 x 224 pixels. Score by patient, never by
image.

Traps. IDH and 1p/19q status are unknown for 72 patients, 86 % of whom died: their missingness is
itself informative, and with IDH in the table images add nothing; report with and without it. The
RNA z-scores have extreme outliers (up to 3515): clip them.

Mobadersany et al., PNAS 115:E2970-E2979 (2018), selected the regions from TCGA's diagnostic slides;
Chen et al., Cancer Cell 40:865-878 (2022), put the genes together from cBioPortal."""


def fetch_glioma(
    cohort: str = "genes",
    *,
    image_size: int | None = None,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Bunch:
    """Fetch TCGA glioma: histology images, clinical columns, genes, survival; folds and baselines.

    Read from ``MMFUSION_DATA/tcga_gbmlgg`` or the user's data folder. Where it is in neither it is
    downloaded from three public repositories at fixed commits (of the images the whole, which is
    large), converted, and checked against the hashes of the known tables and the mean colours of
    the known images.

    Parameters
    ----------
    cohort : {"genes", "all"}, default "genes"
        The 490 patients with genes and images, or all 768 with images.
    image_size : int, optional
        Return the regions as uint8 arrays (image_size, image_size, 3); by default as absolute
        paths.
    data_home : path-like, optional
        Folder of data sets to use instead.
    download_if_missing : bool, default True
        Whether to download what is not on this machine.

    Returns
    -------
    Bunch
        ``frame``
            DataFrame indexed by patient_id, sorted: age (years), male, idh_mutation,
            codeletion_1p19q (0/1, NaN unknown), n_roi (number of regions), project ("GBM", "LGG"),
            race, oncotree_code, image (list of the patient's regions), then 1,544
            ``<GENE>_rnaseq`` (z-scores), 30 ``_cnv`` (-2 to 2) and 16 ``_mut`` (0/1), float32.
        ``target``
            Structured array (event: bool, time: float64 in days).
        ``folds``
            DataFrame (cohort, repeat, fold, patient_id): the test patients of each fold, 3 x 5
            patient-level folds of this cohort.
        ``baselines``
            DataFrame (cohort, modalities, model, repeat, fold, c): Harrell's C of ridge Cox models
            and random survival forests on these folds, for paired comparison.
        ``split``
            Series of "train" and "test": the split of the images' source.
        ``DESCR``, ``source``, ``license``
            Text.

    Raises
    ------
    ValueError
        Unknown cohort, or a size that is no positive integer.
    FileNotFoundError, ConnectionError
        Not on this machine, and not to be downloaded or not downloadable.
    ChecksumError
        A table or, after a download, the images differ from the known ones.

    Examples
    --------
    >>> from mmfusion.datasets import fetch_glioma
    >>> glioma = fetch_glioma("genes")  # doctest: +SKIP
    >>> len(glioma.frame), int(glioma.target["event"].sum())  # doctest: +SKIP
    (490, 151)
    """
    check_choice("cohort", cohort, _COHORTS)
    if image_size is not None and (not isinstance(image_size, int) or image_size < 1):
        raise ValueError(f"The image_size parameter must be a positive int. Got {image_size!r}.")
    folder = locate(
        "tcga_gbmlgg",
        _FILES,
        _make,
        data_home=data_home,
        download_if_missing=download_if_missing,
    )
    clinical = pd.read_csv(folder / "clinical.csv", float_precision="round_trip")
    genes = pd.read_parquet(folder / "genes.parquet")
    images = pd.read_csv(folder / "images.csv")
    _check(clinical, genes, images, str(folder))

    clinical = clinical.set_index("patient_id")
    keep = clinical["has_genes"] if cohort == "genes" else clinical["time_days"] > 0
    clinical = clinical[keep]
    frame = clinical[_COLUMNS].copy()
    paths = images["image"].map(lambda name: folder / f"images{_SIZE}" / name)
    frame["image"] = _bags(paths.groupby(images["patient_id"]).agg(list)[frame.index], image_size)
    molecular = genes[_porpoise.molecular_columns(genes)].reindex(frame.index)
    frame = pd.concat([frame, molecular], axis=1)
    return Bunch(
        frame=frame,
        target=surv(clinical["time_days"], clinical["event"]),
        folds=_folds(cohort, frame.index),
        baselines=_baselines(cohort),
        split=clinical["split"],
        DESCR=_DESCRIPTION,
        source=", ".join(
            f"{repository} @ {commit}"
            for repository, commit in (
                IMAGES,
                (_porpoise.REPOSITORY, _porpoise.COMMIT),
                PROJECTS,
            )
        ),
        license="TCGA open-access data (no restriction on redistribution; cite TCGA). Of the "
        "repositories the first states no licence, the second is GPL-3.0, the third MIT; none of "
        "their code is used.",
    )


def _bags(paths: pd.Series, image_size: int | None) -> pd.Series:
    if image_size is None:
        return paths.map(lambda bag: [str(path) for path in bag])
    return paths.map(lambda bag: [read_rgb(path, image_size) for path in bag])


def _folds(cohort: str, patients: pd.Index) -> pd.DataFrame:
    # One digit a patient, in sorted order: its fold, a string a repeat.
    repeats = manifest()["glioma"]["folds"][cohort]
    parts = [
        pd.DataFrame({"repeat": repeat, "fold": list(map(int, digits)), "patient_id": patients})
        for repeat, digits in enumerate(repeats)
    ]
    folds = pd.concat(parts).sort_values(["repeat", "fold", "patient_id"], ignore_index=True)
    folds.insert(0, "cohort", cohort)
    return folds


def _baselines(cohort: str) -> pd.DataFrame:
    with files(__package__).joinpath("glioma_baselines.csv").open("rb") as file:
        table = pd.read_csv(file)
    return table[table["cohort"] == cohort].reset_index(drop=True)


def _check(clinical: pd.DataFrame, genes: pd.DataFrame, images: pd.DataFrame, source: str) -> None:
    known = manifest()["glioma"]
    check_content(clinical, known["clinical"], f"{source} clinical.csv")
    check_content(genes.reset_index(), known["genes"], f"{source} genes.parquet")
    check_content(images, known["images"], f"{source} images.csv")


def _make(folder: Path) -> None:
    projects = folder / "projects.tsv"
    download(github_file(*PROJECTS, "data/clinical_data.tsv"), projects)
    molecular = _porpoise.download_molecular("gbmlgg", folder)
    raw = folder / "images.zip"
    download(github_archive(*IMAGES), raw)
    with open_archive(raw, IMAGES[1]) as archive:
        images = list_images(archive)
        table = read_clinical(archive)
        clinical = join_clinical(table, images, molecular, pd.read_csv(projects, sep="\t"))
        genes = molecular.drop(columns=["age", "site", "is_female", "oncotree_code"])
        genes = genes.set_index("patient_id").astype("float32").astype({"event": "int8"})
        _check(clinical, genes, images, IMAGES[0])  # before the long part
        write_images(archive, images, folder / f"images{_SIZE}")
    raw.unlink()
    projects.unlink()
    check_colours(
        mean_colours(folder / f"images{_SIZE}" / name for name in images["image"]),
        manifest()["glioma"]["colours"],
        IMAGES[0],
    )
    genes.to_parquet(folder / "genes.parquet")
    images.to_csv(folder / "images.csv", index=False)
    clinical.to_csv(folder / "clinical.csv", index=False)


def list_images(archive: zipfile.ZipFile) -> pd.DataFrame:
    """List the regions in the archive: ``real_data/data/full/{train,test}/<slide>_<k>.png``.

    Returns
    -------
    DataFrame
        patient_id, image (name given here), roi (0, 1, ... in the order of the source's names),
        source_roi (the source's file name), split; sorted by patient and source_roi.
    """
    rows = []
    for member in archive.namelist():
        parts = member.split("/")
        if parts[1:4] == ["real_data", "data", "full"] and member.endswith(".png"):
            rows.append({"patient_id": parts[-1][:12], "source_roi": parts[-1], "split": parts[4]})
    images = pd.DataFrame(rows, columns=["patient_id", "source_roi", "split"])
    images = images.sort_values(["patient_id", "source_roi"], ignore_index=True)
    images["roi"] = images.groupby("patient_id").cumcount()
    images["image"] = images["patient_id"] + "_" + images["roi"].astype(str) + ".jpg"
    return images[["patient_id", "image", "roi", "source_roi", "split"]]


def read_clinical(archive: zipfile.ZipFile) -> pd.DataFrame:
    """Read the clinical table of the images' archive, a row a patient, in plain units.

    The source has a row an image, age in hundreds of years, "Survival.months" in years (of 365
    days), "censored" 0 for death, and -1 for an unknown mutation.

    Returns
    -------
    DataFrame
        Indexed by patient_id: age (years), male, idh_mutation, codeletion_1p19q (NaN unknown),
        time_days, event.
    """
    root = archive.namelist()[0].split("/")[0]
    with archive.open(f"{root}/real_data/data/deephit_tabular_data.csv") as file:
        raw = pd.read_csv(file, float_precision="round_trip")
    table = pd.DataFrame(
        {
            "patient_id": raw["full_path"].str[:12],
            "age": np.rint(100 * raw["Age (at index)"]).astype(int),
            "male": raw["gender"].astype(int),
            "idh_mutation": raw["idh.mutation"].where(raw["idh.mutation"] >= 0),
            "codeletion_1p19q": raw["codeletion"].where(raw["codeletion"] >= 0),
            "time_days": np.rint(_DAYS_A_YEAR * raw["Survival.months"]).astype(int),
            "event": 1 - raw["censored"].astype(int),
        }
    )
    return table.drop_duplicates("patient_id").set_index("patient_id").sort_index()


def join_clinical(
    table: pd.DataFrame, images: pd.DataFrame, molecular: pd.DataFrame, projects: pd.DataFrame
) -> pd.DataFrame:
    """Join what three sources know of each patient with images.

    Parameters
    ----------
    table : DataFrame
        From `read_clinical`.
    images : DataFrame
        From `list_images`.
    molecular : DataFrame
        The genes: which patients have any, and their oncotree_code.
    projects : DataFrame
        multisurv's clinical table: submitter_id, project_id, race.

    Returns
    -------
    DataFrame
        A row a patient, sorted by patient_id.
    """
    by_patient = images.groupby("patient_id")
    split, n_roi = by_patient["split"].first(), by_patient.size()
    oncotree = molecular.set_index("patient_id")["oncotree_code"]
    known = projects.drop_duplicates("submitter_id").set_index("submitter_id")
    joined = table.reindex(n_roi.index).assign(
        split=split,
        n_roi=n_roi,
        oncotree_code=oncotree.reindex(n_roi.index),
        has_genes=n_roi.index.isin(oncotree.index),
        project=known["project_id"].reindex(n_roi.index),
        race=known["race"].reindex(n_roi.index),
    )
    return joined.rename_axis("patient_id").reset_index()


def write_images(archive: zipfile.ZipFile, images: pd.DataFrame, folder: Path) -> None:
    """Write each region of the archive as an RGB JPEG of 224 x 224 pixels."""
    from tqdm.auto import tqdm  # only a download shows a bar

    root = archive.namelist()[0].split("/")[0]
    folder.mkdir()
    rows = images[["split", "source_roi", "image"]].itertuples(index=False)
    for split, source, name in tqdm(rows, total=len(images), desc="regions", disable=None):
        with archive.open(f"{root}/real_data/data/full/{split}/{source}") as file:
            shrink(file, folder / name, _SIZE, _QUALITY)
