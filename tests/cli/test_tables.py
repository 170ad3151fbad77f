"""Tables of the command line keep the names of their rows, and each row is one row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mmfusion.cli.tables import read_table
from mmfusion.cli.work import predict_table
from mmfusion.estimators import FusionClassifier


def test_names_of_rows_keep_their_zeros(tmp_path: Path) -> None:
    path = tmp_path / "patients.csv"
    path.write_text("patient,site,age\n007,01,61\n010,02,70\n", encoding="utf-8")
    assert read_table(path, "patient")["patient"].tolist() == ["007", "010"]
    assert read_table(path, "age")["age"].tolist() == [61, 70]
    assert read_table(path)["patient"].tolist() == [7, 10]


def test_classes_of_rows_of_the_same_name(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"x": np.arange(40.0) % 7, "patient": [f"{k // 2:03d}" for k in range(40)]}
    )
    model = FusionClassifier(modalities={}, structured="x").fit(frame, np.arange(40) % 2)
    model.save(tmp_path / "model")
    frame.to_csv(tmp_path / "t.csv", index=False)
    predict_table(tmp_path, tmp_path / "t.csv", tmp_path / "out.csv", "", "patient")
    found = pd.read_csv(tmp_path / "out.csv", dtype={"patient": str})
    assert found["patient"].tolist() == frame["patient"].tolist()
    np.testing.assert_allclose(found["probability of 1"], model.predict_proba(frame)[:, 1])
