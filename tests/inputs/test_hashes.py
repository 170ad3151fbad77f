"""A row's hash is that of its cells, however they are stored."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd

from mmfusion.inputs.hashes import row_hashes


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.normal(60, 10, 50),
            "count": rng.integers(0, 9, 50),
            "ill": rng.random(50) < 0.5,
            "stage": rng.choice(["I", "II"], 50),
        }
    )


def test_rows_differ_and_repeat() -> None:
    frame = table()
    hashes = row_hashes(frame)
    assert hashes.dtype == np.uint64
    assert len(np.unique(hashes)) == 50
    np.testing.assert_array_equal(row_hashes(frame.iloc[::-1]), hashes[::-1])
    frame.loc[3, "stage"] = "III"
    assert np.flatnonzero(row_hashes(frame) != hashes).tolist() == [3]


def test_order_type_and_a_text_file_change_nothing() -> None:
    frame = table()
    hashes = row_hashes(frame)
    again = pd.read_csv(io.StringIO(frame.to_csv(index=False)))[["stage", "ill", "age", "count"]]
    again = again.astype({"stage": "category", "count": float, "ill": "boolean"})
    np.testing.assert_array_equal(row_hashes(again), hashes)


def test_a_value_counts_in_its_own_column() -> None:
    one, two = row_hashes({"a": [1.0], "b": [2.0]}), row_hashes({"a": [2.0], "b": [1.0]})
    assert one != two


def test_missing_cells_are_alike_and_zeros_too() -> None:
    assert row_hashes({"a": [np.nan]}) == row_hashes({"a": pd.array([pd.NA], "Float64")})
    assert row_hashes({"a": [None]}) == row_hashes({"a": pd.Series([np.nan], dtype=object)})
    assert row_hashes({"a": [0.0]}) == row_hashes({"a": [-0.0]})


def test_images_and_lists_count_by_their_values() -> None:
    images = [np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8), np.zeros((4, 1), np.uint8)]
    column = pd.Series([*images, images[0].copy(), ["a", "b"], ["a", "c"]], dtype=object)
    hashes = row_hashes({"image": column})
    assert hashes[0] == hashes[3]
    assert len(np.unique(hashes)) == 5


def test_hashes_are_spread_evenly() -> None:
    hashes = row_hashes({"a": np.arange(20_000)})
    low = (hashes >> np.uint64(60)).astype(int)
    counts = np.bincount(low, minlength=16)
    assert ((counts - 1250) ** 2 / 1250).sum() < 45  # chi2 of 15 df: p > 1e-4
