from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from mmfusion.modalities import Points, PointsData


def clouds(n: int = 6, d: int = 3, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(3.0, 2.0, (int(k), d)) for k in rng.integers(5, 20, n)]


def frame(cells: list[Any]) -> pd.DataFrame:
    column = np.empty(len(cells), dtype=object)
    for i, cell in enumerate(cells):
        column[i] = cell
    return pd.DataFrame({"organ": column}, index=[f"p{i}" for i in range(len(cells))])


def transformed(cells: list[Any], **params: Any) -> PointsData:
    return Points("organ", **params).fit(frame(cells)).transform(frame(cells))


def row(data: PointsData, i: int) -> np.ndarray:
    return data.points[i, : int(data.counts[i])].numpy()


def test_ragged_clouds_are_padded_and_masked() -> None:
    cells = clouds()
    data = transformed(cells)
    assert data.counts.tolist() == [len(cell) for cell in cells]
    assert data.points.shape == (6, max(map(len, cells)), 3)
    assert data.points.dtype == torch.float32
    points, there = data.inputs(torch.tensor([4, 1]))
    assert there.sum(1).tolist() == [len(cells[4]), len(cells[1])]
    assert there[0, 0]
    assert torch.equal(points[1], data.points[1])
    # Of clouds of one size there is no mask.
    assert len(transformed([cell[:5] for cell in cells]).inputs(torch.arange(6))) == 1


def test_take_is_what_transform_makes_of_the_rows() -> None:
    table = frame([*clouds(), None])
    modality = Points("organ").fit(table)
    rows = torch.tensor([6, 2, 5, 2])
    taken = modality.transform(table).take(rows)
    for mine, theirs in zip(
        taken.inputs(torch.tensor([1, 2, 3])),
        modality.transform(table).inputs(rows[1:]),
        strict=True,
    ):
        assert torch.equal(mine, theirs)
    assert taken.present.tolist() == [False, True, True, True]
    assert taken.to(torch.device("cpu")).counts.tolist() == taken.counts.tolist()


def test_missing_cells() -> None:
    cells: list[Any] = [*clouds(2), None, np.nan, pd.NA, "", "  "]
    data = transformed(cells)
    assert data.present.tolist() == [True, True] + [False] * 5
    full = transformed([cells[0], None, cells[0]])
    assert full.present.tolist() == [True, False, True]
    assert len(full.inputs(torch.tensor([0, 2]))) == 1


def test_center_keeps_size_and_takes_position_off() -> None:
    cells = clouds()
    data = transformed(cells)
    squares = []
    for i in range(6):
        np.testing.assert_allclose(row(data, i).mean(axis=0), 0.0, atol=1e-6)
        squares.append(np.square(row(data, i)).sum(axis=1).mean())
    assert np.mean(squares) == pytest.approx(1.0, rel=1e-5)
    assert np.std(squares) > 0.05
    moved = transformed([cell + np.array([100.0, -7.0, 3.0]) * i for i, cell in enumerate(cells)])
    assert torch.allclose(moved.points, data.points, atol=1e-5)
    # One scale for all: twice as large in a new row is twice as large.
    modality = Points("organ").fit(frame(cells))
    larger = modality.transform(frame([2 * cells[0]]))
    np.testing.assert_allclose(row(larger, 0), 2 * row(data, 0), rtol=1e-5, atol=1e-6)


def test_unit_takes_size_off_too() -> None:
    cells = clouds()
    data = transformed(cells, normalize="unit")
    for i in range(6):
        assert np.square(row(data, i)).sum(axis=1).mean() == pytest.approx(1.0, rel=1e-5)
    other = transformed(
        [(i + 1) * (cell - 5 * i) for i, cell in enumerate(cells)], normalize="unit"
    )
    assert torch.allclose(other.points, data.points, atol=1e-5)


def test_none_moves_and_scales_all_as_one() -> None:
    cells = clouds()
    modality = Points("organ", normalize=None).fit(frame(cells))
    data = modality.transform(frame(cells))
    expected = (cells[0] - modality.center_) / modality.scale_
    np.testing.assert_allclose(row(data, 0), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(modality.center_, np.mean([c.mean(0) for c in cells], 0))
    squares = [np.square(row(data, i)).sum(axis=1).mean() for i in range(6)]
    assert np.mean(squares) == pytest.approx(1.0, rel=1e-5)
    moved = modality.transform(frame([cells[0] + 1.0]))
    assert np.abs(row(moved, 0) - row(data, 0)).min() > 0.1


def test_what_is_fitted_comes_from_the_training_rows() -> None:
    cells = clouds()
    modality = Points("organ").fit(frame(cells))
    alone = modality.transform(frame(cells[:1]))
    among = modality.transform(frame([*cells, 1e3 * cells[1]]))
    np.testing.assert_array_equal(row(alone, 0), row(among, 0))
    assert modality.scale_ == Points("organ").fit(frame(cells)).scale_


def test_features_of_points_are_standardised() -> None:
    cells = [np.column_stack([cell, 50 + 9 * cell[:, 0], np.ones(len(cell))]) for cell in clouds()]
    data = transformed(cells)
    features = np.concatenate([row(data, i)[:, 3:] for i in range(6)])
    np.testing.assert_allclose(features.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(features.std(axis=0), [1.0, 0.0], atol=1e-5)
    planar = transformed(clouds(d=2))
    assert planar.points.shape[2] == 2


@pytest.mark.parametrize("seed", range(3))
def test_a_large_cloud_is_cut_the_same_way_whatever_its_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cloud = rng.normal(size=(500, 3))
    one = transformed([cloud], n_points=100)
    other = transformed([rng.permutation(cloud)], n_points=100)
    assert one.points.shape == (1, 100, 3)
    assert torch.allclose(one.points, other.points, atol=1e-6)
    # A part of the whole, of the same make (the centroid is that of the whole).
    whole = {tuple(point) for point in np.round(row(transformed([cloud]), 0), 5)}
    assert {tuple(point) for point in np.round(row(one, 0), 5)} <= whole
    assert abs(row(one, 0).mean()) < 0.2
    small = rng.normal(size=(100, 3))
    assert transformed([small], n_points=100).counts.tolist() == [100]


@pytest.mark.parametrize("as_text", [True, False])
def test_files(tmp_path: Path, as_text: bool) -> None:
    cells = clouds(3)
    np.save(tmp_path / "a.npy", cells[0])
    np.savetxt(tmp_path / "b.csv", cells[1], delimiter=",")
    pd.DataFrame(cells[2], columns=["x", "y", "z"]).to_csv(tmp_path / "c.CSV", index=False)
    paths: list[Any] = ["a.npy", "b.csv", "c.CSV"]
    if not as_text:
        paths = [Path(path) for path in paths]
    read = transformed(paths, root=tmp_path)
    assert torch.allclose(read.points, transformed(cells).points, atol=1e-6)
    here = [str(tmp_path / path) for path in paths]
    assert torch.equal(transformed(here).points, read.points)


@pytest.mark.parametrize("names", [["x", "y", "z"], None])
def test_a_file_with_the_index_of_pandas_is_refused(tmp_path: Path, names: Any) -> None:
    path = tmp_path / "indexed.csv"
    pd.DataFrame(clouds(1)[0], columns=names).to_csv(path)
    with pytest.raises(ValueError, match=r"row 'p0'.*indexed\.csv'.*index=False"):
        transformed([path])


def test_tensors_and_whole_numbers() -> None:
    whole = np.arange(12).reshape(4, 3)
    tensor = torch.from_numpy(whole.astype(np.float32))
    data = transformed([whole, tensor.requires_grad_(), tensor.bfloat16()])
    assert torch.equal(data.points[0], data.points[1])
    assert torch.equal(data.points[0], data.points[2])


def test_one_point_a_cloud() -> None:
    for normalize in ("center", "unit", None):
        data = transformed([np.full((1, 3), 5.0), np.full((1, 3), 5.0)], normalize=normalize)
        assert torch.equal(data.points, torch.zeros(2, 1, 3))


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (np.zeros(3), r"must have shape \(k, d\).*Got shape \(3,\)"),
        (np.zeros((0, 3)), r"at least 1 point.*\(0, 3\)"),
        (np.zeros((4, 1)), r"at least 2 numbers.*\(4, 1\)"),
        (np.zeros((4, 2)), "the same columns. Got 2, and 3 in row 'p0'"),
        (
            np.array([[0, 1, 2], [3, np.nan, 5]]),
            r"finite numbers. Got \[3.0, nan, 5.0\] in point 1",
        ),
        (np.full((2, 3), np.inf), "finite"),
        (np.array([["a", "b"]]), "must hold numbers. Got <U1"),
        (np.zeros((2, 3), dtype=complex), "must hold numbers. Got complex"),
        ([[0.0, 1.0, 2.0]], "Got list"),
        (3.0, "Got float"),
        ("missing.npy", "No such file.*missing.npy"),
        ("cloud.ply", r"read from .npy and .csv files. Got 'cloud.ply'"),
    ],
)
def test_a_bad_cloud_is_named_with_its_row(cell: Any, message: str) -> None:
    table = frame([np.zeros((4, 3)), cell])
    with pytest.raises(ValueError, match=rf"Column 'organ', row 'p1': .*{message}"):
        Points("organ").fit(table)
    modality = Points("organ").fit(frame([np.ones((4, 3))]))
    message = message.replace("row 'p0'", "the training rows")
    with pytest.raises(ValueError, match=rf"Column 'organ', row 'p1': .*{message}"):
        modality.transform(table)


@pytest.mark.parametrize("content", [b"", b"no numbers", b"\x93NUMPY"])
@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(content)
    with pytest.raises(ValueError, match="Column 'organ', row 'p0': "):
        Points("organ", root=tmp_path).fit(frame([f"a.{suffix}"]))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_points": 0}, "n_points parameter of Points must be a positive integer. Got 0"),
        ({"n_points": 10.5}, "n_points"),
        (
            {"normalize": True},
            "normalize parameter of Points must be one of 'center', 'unit', None",
        ),
        ({"hidden": ()}, "hidden parameter of Points"),
        ({"hidden": (64, 0)}, "hidden parameter of Points"),
        ({"jitter": -0.1}, "jitter parameter of Points must be a number, 0 or more"),
        ({"jitter": "much"}, "jitter"),
        ({"column": "organs"}, "'organs' not found.*Nearest.*'organ'"),
    ],
)
def test_bad_parameters(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Points(**{"column": "organ", **params}).fit(frame(clouds()))


def test_no_cloud_at_all_and_not_fitted() -> None:
    with pytest.raises(ValueError, match="'organ' is missing in all of the 2 rows"):
        Points("organ").fit(frame([None, np.nan]))
    with pytest.raises(NotFittedError):
        Points("organ").transform(frame(clouds()))
    with pytest.raises(TypeError, match="pandas DataFrame"):
        Points("organ").fit(clouds())  # type: ignore[arg-type]


def test_clone_and_pickle() -> None:
    modality = Points("organ", n_points=12, normalize="unit", jitter=0.1).fit(frame(clouds()))
    again = pickle.loads(pickle.dumps(modality))
    assert torch.equal(
        again.transform(frame(clouds())).points, modality.transform(frame(clouds())).points
    )
    assert clone(modality).get_params() == modality.get_params()
    assert not hasattr(clone(modality), "columns_")


def test_none_of_some_rows_has_a_cloud() -> None:
    modality = Points("organ").fit(frame(clouds()))
    data = modality.transform(frame([None, None]))
    assert len(data) == 2
    assert not data.present.any()
