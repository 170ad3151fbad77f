from __future__ import annotations

import base64
import hashlib

import numpy as np
import pandas as pd
import pytest

from mmfusion.datasets import ChecksumError
from mmfusion.datasets._checks import check_colours, check_content, content_hash


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {"id": ["a", "b", "c"], "x": [1.5, np.nan, -2.25], "n": [1, 0, 3], "s": ["u", None, "v"]}
    )


def test_hash_by_hand() -> None:
    missing = np.iinfo(np.int64).min
    content = b"n\0" + np.array([1000, 3000], "<i8").tobytes() + b"\0\0"
    content += b"s\0" + b"u\0\1" + b"\0\0"
    content += b"x\0" + np.array([1500, missing], "<i8").tobytes() + b"\0\0"
    found = content_hash(pd.DataFrame({"x": [1.5, np.nan], "s": ["u", None], "n": [1, 3]}))
    assert found == hashlib.sha256(content).hexdigest()


def test_hash_depends_on_content_only() -> None:
    expected = content_hash(table())
    assert content_hash(table()[["s", "n", "x", "id"]]) == expected
    assert content_hash(table().astype({"x": "float32", "n": "float64"})) == expected
    assert content_hash(table().set_index(pd.Index([7, 8, 9]))) == expected
    assert content_hash(table().assign(x=[1.5001, np.nan, -2.2499])) == expected


@pytest.mark.parametrize(
    "other",
    [
        table().assign(x=[1.5, 0.0, -2.25]),
        table().assign(x=[1.501, np.nan, -2.25]),
        table().assign(n=[1, 0, 4]),
        table().assign(s=["u", "", "v"]),
        table().assign(s=["u", "nan", "v"]),
        table().rename(columns={"x": "y"}),
        table().iloc[::-1],
        table().iloc[:2],
        table().drop(columns="n"),
    ],
)
def test_hash_sees_every_difference(other: pd.DataFrame) -> None:
    assert content_hash(other) != content_hash(table())


def test_check_content_names_source_and_both_hashes() -> None:
    check_content(table(), content_hash(table()), "here")
    with pytest.raises(ChecksumError, match=f"of here .*{content_hash(table())}, expected abc .3 "):
        check_content(table(), "abc", "here")


def test_check_colours() -> None:
    known = np.array([[10, 20, 30], [250, 0, 128]], np.uint8)
    text = base64.b64encode(known.tobytes()).decode()
    check_colours(known, text, "here")
    check_colours(np.array([[12, 18, 30], [252, 0, 128]], np.uint8), text, "here")
    with pytest.raises(ChecksumError, match=r"1 of 2 images of here .* number 1"):
        check_colours(np.array([[10, 20, 30], [250, 3, 128]], np.uint8), text, "here")
    with pytest.raises(ChecksumError, match="here has 1 images, expected 2"):
        check_colours(known[:1], text, "here")
