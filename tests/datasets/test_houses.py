from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mmfusion.datasets import ChecksumError, fetch_houses, houses
from mmfusion.datasets._checks import check_colours, content_hash, manifest
from mmfusion.datasets._images import mean_colours
from tests.datasets.network import Network, zip_of

URL = "https://codeload.github.com/emanhamed/Houses-dataset/zip/5e14821"

# Three lines of the public HousesInfo.txt: blanks single and double.
INFO = "4 4 4053 85255 869500\n4 3 3343 36372 865200\n3 2.5 1808 96019  219800\n"
EXPECTED = pd.DataFrame(
    {
        "house_id": [1, 2, 3],
        "bedrooms": [4, 4, 3],
        "bathrooms": [4, 3, 2.5],
        "area": [4053, 3343, 1808],
        "zipcode": [85255, 36372, 96019],
        "price": [869500, 865200, 219800],
    }
)


def test_houses(data_dir: Path) -> None:
    data = fetch_houses()
    assert data.frame.shape == (535, 8)
    assert data.target.dtype == np.float64
    assert (data.target.min(), data.target.max()) == (22_000, 5_858_000)
    assert data.frame.loc[1, "zipcode"] == "85255"
    paths = [Path(path) for path in data.frame[data.images].to_numpy().ravel()]
    assert len(set(paths)) == 4 * 535
    assert all(path.is_absolute() and path.exists() for path in paths)
    with Image.open(data.frame.loc[100, "kitchen_image"]) as image:
        assert (image.size, image.mode) == ((128, 128), "RGB")
    assert data.frame.loc[100, "kitchen_image"].endswith("100_kitchen.jpg")


@pytest.mark.slow
def test_the_known_colours_are_those_of_the_photographs(data_dir: Path) -> None:
    table = pd.read_csv(data_dir / "houses" / "houses.csv")
    paths = houses.image_paths(data_dir / "houses", table["house_id"])
    check_colours(mean_colours(paths), manifest()["houses"]["colours"], "photographs")


def photograph(colour: tuple[int, int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (300, 200), colour).save(buffer, format="JPEG")
    return buffer.getvalue()


def archive(comment: str) -> tuple[bytes, np.ndarray]:
    files = {"Houses-dataset-5e14821/README.md": b"#"}
    files["Houses-dataset-5e14821/Houses Dataset/HousesInfo.txt"] = INFO.encode()
    colours = []
    for house in (1, 2, 3):
        for room in ("frontal", "bedroom", "bathroom", "kitchen"):
            colours.append((40 * house, 10 * len(room), 90))
            name = f"Houses-dataset-5e14821/Houses Dataset/{house}_{room}.jpg"
            files[name] = photograph(colours[-1])
    return zip_of(files, comment), np.array(colours, np.uint8)


def test_download(network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    network.files[URL], colours = archive("5e14821" + "0" * 33)
    known = {
        "table": content_hash(EXPECTED),
        "colours": base64.b64encode(colours.tobytes()).decode(),
    }
    monkeypatch.setattr(houses, "manifest", lambda: {"houses": known})
    data = fetch_houses()
    assert data.target.tolist() == [869500, 865200, 219800]
    assert data.frame["bathrooms"].tolist() == [4, 3, 2.5]
    with Image.open(data.frame.loc[2, "bathroom_image"]) as image:
        assert image.size == (128, 128)
        mean = np.asarray(image).mean(axis=(0, 1))
    np.testing.assert_allclose(mean, [80, 80, 90], atol=2)
    folder = tmp_path / "user" / "houses"
    assert sorted(path.name for path in folder.iterdir()) == ["houses.csv", "images128"]


@pytest.mark.parametrize("wrong", ["table", "colours", "commit", "zip"])
def test_what_is_not_the_known_leaves_nothing(
    network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: str
) -> None:
    content, colours = archive("5e14821" if wrong != "commit" else "0123456")
    network.files[URL] = content if wrong != "zip" else b"<html>"
    if wrong == "colours":
        colours[7] += 10
    known = {
        "table": content_hash(EXPECTED) if wrong != "table" else "0" * 64,
        "colours": base64.b64encode(colours.tobytes()).decode(),
    }
    monkeypatch.setattr(houses, "manifest", lambda: {"houses": known})
    message = {
        "table": "expected 0000",
        "colours": "1 of 12 images .* number 7",
        "commit": "of commit '0123456', expected '5e14821'",
        "zip": "not a zip file",
    }
    with pytest.raises(ChecksumError, match=message[wrong]):
        fetch_houses()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
