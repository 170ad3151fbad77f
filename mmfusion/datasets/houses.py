"""Houses: four photographs, four attributes, the price."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pandas as pd
from sklearn.utils import Bunch

from mmfusion.datasets._checks import check_colours, check_content, manifest
from mmfusion.datasets._images import mean_colours, shrink
from mmfusion.datasets._store import download, github_archive, locate
from mmfusion.datasets._zip import open_archive

REPOSITORY = "emanhamed/Houses-dataset"
COMMIT = "5e14821"

ROOMS = ("frontal", "bedroom", "bathroom", "kitchen")
_COLUMNS = ["bedrooms", "bathrooms", "area", "zipcode", "price"]
_SIZE, _QUALITY = 128, 85

_DESCRIPTION = """535 houses in California and elsewhere in the United States, each with four
photographs (front, bedroom, bathroom, kitchen; 128 x 128 pixels here, aspect not kept), numbers of
bedrooms and bathrooms, area (square feet) and zip code. Target: the price, 22,000 to 5,858,000
dollars. Ahmed & Moustafa, "House price estimation from visual and textual features", IJCCI 2016."""


def fetch_houses(
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Bunch:
    """Fetch 535 houses: photographs, attributes and price (regression).

    Source: Ahmed & Moustafa, IJCCI 2016, pages 62-68; its repository at one commit. Read from
    ``MMFUSION_DATA/houses`` or the user's data folder; downloaded (190 MB), shrunk and checked
    where it is in neither.

    Parameters
    ----------
    data_home : path-like, optional
        Folder of data sets to use instead.
    download_if_missing : bool, default True
        Whether to download what is not on this machine.

    Returns
    -------
    Bunch
        ``frame``
            DataFrame indexed by house_id: bedrooms, bathrooms, area (square feet), zipcode (text:
            it is a code), and frontal_image, bedroom_image, bathroom_image, kitchen_image
            (absolute paths). The four photographs as one bag:
            ``frame[images].apply(list, axis=1)``.
        ``target``
            Prices in dollars, float64, shape (535,).
        ``images``
            Names of the four image columns.
        ``DESCR``, ``source``, ``license``
            Text.

    Raises
    ------
    FileNotFoundError, ConnectionError
        Not on this machine, and not to be downloaded or not downloadable.
    ChecksumError
        The table or, after a download, the photographs differ from the known ones.

    Examples
    --------
    >>> from mmfusion.datasets import fetch_houses
    >>> houses = fetch_houses()  # doctest: +SKIP
    >>> houses.frame.shape, float(houses.target[0])  # doctest: +SKIP
    ((535, 8), 869500.0)
    """
    folder = locate(
        "houses",
        [f"images{_SIZE}", "houses.csv"],
        _make,
        data_home=data_home,
        download_if_missing=download_if_missing,
    )
    table = pd.read_csv(folder / "houses.csv", float_precision="round_trip")
    check_content(table, manifest()["houses"]["table"], str(folder / "houses.csv"))
    frame = table.set_index("house_id")
    price = frame.pop("price").to_numpy("float64")
    frame["zipcode"] = frame["zipcode"].astype(str).str.zfill(5)
    images = [f"{room}_image" for room in ROOMS]
    for column, room in zip(images, ROOMS, strict=True):
        paths = [folder / f"images{_SIZE}" / f"{house}_{room}.jpg" for house in frame.index]
        frame[column] = [str(path) for path in paths]
    return Bunch(
        frame=frame,
        target=price,
        images=images,
        DESCR=_DESCRIPTION,
        source=f"{REPOSITORY} @ {COMMIT}",
        license="None stated; the repository allows use with citation. Do not redistribute the "
        "photographs.",
    )


def _make(folder: Path) -> None:
    raw = folder / "houses.zip"
    download(github_archive(REPOSITORY, COMMIT), raw)
    with open_archive(raw, COMMIT) as archive:
        table = convert(archive, folder)
    raw.unlink()
    check_content(table, manifest()["houses"]["table"], REPOSITORY)
    check_colours(
        mean_colours(image_paths(folder, table["house_id"])),
        manifest()["houses"]["colours"],
        REPOSITORY,
    )
    table.to_csv(folder / "houses.csv", index=False)


def convert(archive: zipfile.ZipFile, folder: Path) -> pd.DataFrame:
    """Write the photographs of the repository's archive into `folder`; return its table.

    ``HousesInfo.txt`` has a line a house, in order of their numbers: bedrooms, bathrooms, area, zip
    code, price, separated by one or more blanks.
    """
    from tqdm.auto import tqdm  # only a download shows a bar

    root = f"{archive.namelist()[0].split('/')[0]}/Houses Dataset"
    with archive.open(f"{root}/HousesInfo.txt") as file:
        table = pd.read_csv(file, sep=r"\s+", header=None, names=_COLUMNS)
    table.insert(0, "house_id", range(1, len(table) + 1))
    (folder / f"images{_SIZE}").mkdir()
    paths = image_paths(folder, table["house_id"])
    for path in tqdm(paths, desc="photographs", disable=None):
        with archive.open(f"{root}/{path.name}") as file:
            shrink(file, path, _SIZE, _QUALITY)
    return table


def image_paths(folder: Path, houses: pd.Series) -> list[Path]:
    """Return the paths of all photographs, house by house."""
    images = folder / f"images{_SIZE}"
    return [images / f"{house}_{room}.jpg" for house in houses for room in ROOMS]
