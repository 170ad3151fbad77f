"""Vectors that another model computed, in cells, in files, in columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmfusion import Embedding, Tabular, surv
from mmfusion.estimators import FusionCox
from mmfusion.modalities import infer_modalities

VECTORS = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)


def written(folder: Path, kind: str) -> list[str]:
    paths = []
    for number, vector in enumerate(VECTORS):
        path = folder / f"v{number}{kind}"
        if kind == ".npy":
            np.save(path, vector)
        elif kind == ".npz":
            np.savez(path, vector=vector)
        elif kind == ".pt":
            torch.save(torch.from_numpy(vector), path)
        else:
            h5py = pytest.importorskip("h5py")
            with h5py.File(path, "w") as file:
                file["features"] = vector
        paths.append(path.name)
    return paths


def expected() -> np.ndarray:
    block = pd.DataFrame(VECTORS).add_prefix("v")
    return Embedding("v*").fit(block).transform(block).numeric.numpy()


@pytest.mark.parametrize("kind", [".npy", ".npz", ".pt", ".h5"])
def test_files(kind: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"uni": written(tmp_path, kind)})
    frame.loc[30] = [None]
    data = Embedding("uni", root=tmp_path).fit(frame).transform(frame)
    np.testing.assert_allclose(data.numeric[:30], expected(), atol=1e-6)
    assert data.present.tolist() == [True] * 30 + [False]


@pytest.mark.parametrize("make", [list, tuple, torch.from_numpy, lambda v: v.astype(float)])
def test_cells(make: Any) -> None:
    frame = pd.DataFrame({"uni": pd.Series([make(v) for v in VECTORS], dtype=object)})
    modality = Embedding("uni").fit(frame)
    assert modality.columns_ == ["uni"]
    assert modality.feature_labels_[0] == "uni_0"
    np.testing.assert_allclose(modality.transform(frame).numeric, expected(), atol=1e-6)


def test_bags_are_averaged() -> None:
    bags = [np.stack([v - 1, v + 1, v]) for v in VECTORS]
    frame = pd.DataFrame({"uni": pd.Series(bags, dtype=object)})
    np.testing.assert_allclose(
        Embedding("uni").fit(frame).transform(frame).numeric, expected(), atol=1e-5
    )
    frame.at[3, "uni"] = np.zeros((0, 6))
    assert not Embedding("uni").fit(frame).transform(frame).present[3]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (np.zeros(5), r"row 2: the vector must have 6 numbers, as in row 0\. Got 5"),
        (np.zeros((2, 2, 2)), r"row 2: a vector has one dimension.*shape \(2, 2, 2\)"),
        (np.array([np.inf] * 6), "row 2: a vector must hold finite numbers"),
        ({"a": 1}, "row 2: a cell must hold a vector .* Got dict"),
        ("gone.npy", "row 2: .*gone.npy"),
        ("notes.txt", r"row 2: the file 'notes.txt' must end in \.npy"),
    ],
)
def test_bad_cells(cell: Any, message: str) -> None:
    cells = list(VECTORS)
    cells[2] = cell
    frame = pd.DataFrame({"uni": pd.Series(cells, dtype=object)})
    with pytest.raises(ValueError, match=f"Column 'uni', {message}"):
        Embedding("uni").fit(frame)


def test_another_width_than_at_fit() -> None:
    frame = pd.DataFrame({"uni": pd.Series(list(VECTORS), dtype=object)})
    modality = Embedding("uni").fit(frame)
    other = pd.DataFrame({"uni": pd.Series([np.zeros(7)], dtype=object)})
    with pytest.raises(ValueError, match=r"6 numbers, as in the training rows\. Got 7"):
        modality.transform(other)


def test_an_array_of_several_needs_a_key(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=VECTORS[0], two=VECTORS[1])
    frame = pd.DataFrame({"uni": ["a.npz", "a.npz"]})
    with pytest.raises(ValueError, match="the key parameter of Embedding must name one"):
        Embedding("uni", root=tmp_path).fit(frame)


def test_no_vector_at_all() -> None:
    frame = pd.DataFrame({"uni": pd.Series([None, None], dtype=object)})
    with pytest.raises(ValueError, match="needs a training row with a vector"):
        Embedding("uni").fit(frame)


def test_a_table_says_what_to_do_with_a_vector() -> None:
    frame = pd.DataFrame({"uni": pd.Series(list(VECTORS), dtype=object)})
    with pytest.raises(ValueError, match=r"Embedding\('uni'\)"):
        Tabular().fit(frame)


def test_in_a_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    y = surv(rng.exponential(np.exp(-VECTORS[:, 0])), np.ones(30, bool))
    frame = pd.DataFrame({"age": rng.normal(size=30), "uni": pd.Series(list(VECTORS))})
    found = infer_modalities(frame)
    assert isinstance(found["uni"], Embedding)
    model = FusionCox(epochs=2, device="cpu", random_state=0).fit(frame, y)
    assert ("uni", "uni_0") in model.linear_effects_.index
    model.save(tmp_path / "model")
    again = FusionCox.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))
