from __future__ import annotations

import sys
from http.client import IncompleteRead
from pathlib import Path

import pytest

from mmfusion.datasets import _store, fetch_deepsurv, fetch_glioma, fetch_houses, fetch_tcga_omics
from tests.datasets.network import Network

URL = _store.github_file("owner/name", "0123abc", "data/table.csv")


def write(folder: Path) -> None:
    (folder / "a.csv").write_text("made")
    (folder / "images").mkdir()
    (folder / "images" / "1.jpg").write_text("image")


def test_the_named_folder_comes_before_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_store, "user_data_folder", lambda: tmp_path / "user")
    monkeypatch.delenv("MMFUSION_DATA", raising=False)
    assert _store.data_homes() == [tmp_path / "user"]
    monkeypatch.setenv("MMFUSION_DATA", str(tmp_path / "named"))
    assert _store.data_homes() == [tmp_path / "named", tmp_path / "user"]
    assert _store.data_homes(tmp_path / "given") == [tmp_path / "given"]

    for home in ("user", "named"):
        (tmp_path / home / "set").mkdir(parents=True)
        (tmp_path / home / "set" / "a.csv").touch()
    assert _store.find("set", ["a.csv"]) == tmp_path / "named" / "set"
    (tmp_path / "user" / "set" / "b.csv").touch()
    assert _store.find("set", ["a.csv", "b.csv"]) == tmp_path / "user" / "set"
    assert _store.find("set", ["c.csv"]) is None


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_DATA_HOME", "mmfusion"),
        ("win32", "LOCALAPPDATA", "mmfusion"),
        ("darwin", None, "Library/Application Support/mmfusion"),
    ],
)
def test_user_data_folder(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    platform: str,
    variable: str | None,
    expected: str,
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path))
    assert _store.user_data_folder() == tmp_path / expected


def test_what_is_missing_is_made_once(network: Network, tmp_path: Path) -> None:
    made = _store.locate("set", ["images", "a.csv"], write)
    assert made == tmp_path / "user" / "set"
    assert sorted(path.name for path in made.iterdir()) == ["a.csv", "images"]

    def fail(folder: Path) -> None:
        raise AssertionError("made twice")

    assert _store.locate("set", ["images", "a.csv"], fail) == made


def test_an_incomplete_data_set_is_made_anew(network: Network, tmp_path: Path) -> None:
    old = tmp_path / "user" / "set" / "images"
    old.mkdir(parents=True)
    (old / "old.jpg").touch()
    made = _store.locate("set", ["images", "a.csv"], write)
    assert [path.name for path in (made / "images").iterdir()] == ["1.jpg"]


def test_nothing_is_kept_when_making_fails(network: Network, tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise ValueError("not converted")

    with pytest.raises(ValueError, match="not converted"):
        _store.locate("set", ["images", "a.csv"], fail)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_named_folder_that_cannot_be_written_to_is_passed_over(
    network: Network, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MMFUSION_DATA", str(tmp_path / "file"))  # no folder can be made in a file
    assert _store.locate("set", ["a.csv"], write) == tmp_path / "user" / "set"
    with pytest.raises(PermissionError, match=r"written nowhere.*MMFUSION_DATA"):
        _store.locate("set", ["a.csv"], write, data_home=tmp_path / "file")


def test_download(network: Network, tmp_path: Path) -> None:
    network.files[URL] = bytes(range(256)) * 1000  # more than one block
    _store.download(URL, tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_bytes() == network.files[URL]
    network.lengths[URL] = None  # GitHub does not announce the length of an archive
    _store.download(URL, tmp_path / "other.csv")
    assert (tmp_path / "other.csv").read_bytes() == network.files[URL]


def test_a_download_that_ends_early_leaves_nothing(network: Network, tmp_path: Path) -> None:
    network.files[URL] = b"half"
    network.lengths[URL] = 8
    with pytest.raises(ConnectionError, match=r"table\.csv .* after 4 of 8 bytes"):
        _store.download(URL, tmp_path / "table.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [TimeoutError("timed out"), IncompleteRead(b"")])
def test_a_download_that_breaks_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def urlopen(request: object, timeout: float) -> object:
        raise error

    monkeypatch.setattr(_store, "urlopen", urlopen)
    with pytest.raises(ConnectionError, match=r"raw\.githubusercontent\.com/owner/name/0123abc/"):
        _store.download(URL, tmp_path / "table.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fetch", "url", "expected"),
    [
        (lambda **k: fetch_glioma(**k), "luisvalesilva/multisurv/deb35e1", "tcga_gbmlgg/"),
        (lambda **k: fetch_tcga_omics("kirc", **k), "mahmoodlab/PORPOISE/3390dc4", "kirc.parquet"),
        (lambda **k: fetch_deepsurv("whas", **k), "jaredleekatzman/DeepSurv/41eed00", "whas.csv"),
        (lambda **k: fetch_houses(**k), "emanhamed/Houses-dataset/zip/5e14821", "houses.csv"),
    ],
)
def test_offline_every_fetcher_says_what_failed_and_what_to_do(
    network: Network, tmp_path: Path, fetch: object, url: str, expected: str
) -> None:
    with pytest.raises(ConnectionError) as caught:
        fetch()
    message = str(caught.value)
    assert network.asked[0] in message
    assert url in message
    assert expected in message
    assert "MMFUSION_DATA" in message
    assert str(tmp_path / "user") in message
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

    asked = len(network.asked)
    with pytest.raises(FileNotFoundError, match=r"download_if_missing=False.*MMFUSION_DATA"):
        fetch(download_if_missing=False)
    assert len(network.asked) == asked
