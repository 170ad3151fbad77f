from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image as PILImage

from mmfusion.modalities import Genes, Image, Points, Tabular, infer_modalities


def numbers(n_rows: int, labels: list) -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=(n_rows, len(labels)))
    return pd.DataFrame(values, columns=labels)


@pytest.mark.parametrize(
    "cells",
    [
        ["a.png", None, "b.JPG"],
        [Path("a.tif"), Path("b.tif"), None],
        [["a.png", "b.png"], [], None],
        [np.zeros((4, 4)), None, np.zeros((4, 4, 3))],
        [[np.zeros((4, 4))], None, None],
        [torch.zeros(1, 4, 4), None, None],
        [PILImage.new("L", (4, 4)), None, None],
        [np.array(["a.png", "b.png"], dtype=object), None, None],
        ["a.png", "b.png", "not there"],
    ],
)
def test_image_columns(cells):
    frame = pd.DataFrame({"age": [1.0, 2.0, 3.0], "ct": pd.Series(cells, dtype=object)})
    found = infer_modalities(frame)
    assert list(found) == ["table", "ct"]
    assert isinstance(found["ct"], Image)
    assert found["ct"].column == "ct"
    assert found["table"].columns == ["age"]


@pytest.mark.parametrize(
    "cells",
    [
        [np.array([[0.0, 2.0, 0.5]]), None, np.ones((7, 3))],
        [torch.full((5, 3), -1.0, requires_grad=True), None, None],
    ],
)
def test_clouds_that_cannot_be_images_are_points(cells):
    frame = pd.DataFrame({"age": [1.0, 2.0, 3.0], "organ": pd.Series(cells, dtype=object)})
    found = infer_modalities(frame)
    assert list(found) == ["table", "organ"]
    assert isinstance(found["organ"], Points)
    named = frame.rename(columns={"organ": "table"})
    assert list(infer_modalities(named)) == ["table", "table points"]


@pytest.mark.parametrize(
    "cells",
    [
        [np.ones((7, 3)), np.zeros((7, 3))],  # floats in [0, 1]: a grey image
        [np.full((7, 3), 9), np.full((7, 3), 200)],
        [np.full((7, 3), 2.0), np.full((7, 4), 2.0)],
        [np.full((7, 3), 2.0), "a.png"],
        [np.full((7, 3, 3), 2.0), np.full((7, 3), 2.0)],
    ],
)
def test_what_may_be_an_image_is_no_cloud(cells):
    frame = pd.DataFrame({"age": [1.0, 2.0], "ct": pd.Series(cells, dtype=object)})
    assert isinstance(infer_modalities(frame)["ct"], Image)


@pytest.mark.parametrize("cells", [["a", "b.png", "c"], [None] * 3, ["a.csv", "b.csv", "c.csv"]])
def test_other_text_is_no_image(cells):
    frame = pd.DataFrame({"age": [1.0, 2.0, 3.0], "note": cells})
    assert list(infer_modalities(frame)) == ["table"]


def test_gene_like_columns_make_one_modality_and_the_rest_the_table():
    genes = [f"G{i}_rnaseq" for i in range(15)] + [f"G{i}_mut" for i in range(5)]
    frame = numbers(4, ["age", *genes]).assign(sex=["f", "m", "f", "m"])
    found = infer_modalities(frame)
    assert list(found) == ["table", "genes"]
    assert isinstance(found["genes"], Genes)
    assert found["genes"].columns == genes
    assert isinstance(found["table"], Tabular)
    assert found["table"].columns == ["age", "sex"]
    assert list(infer_modalities(frame.drop(columns=genes[0]))) == ["table"]  # 19 are too few


@pytest.mark.parametrize(
    "name", ["ENSG{:011d}", "ENSMUSG{:011d}.2", "cg{:08d}", "hsa-mir-{}", "gene_{}"]
)
def test_identifiers_of_measurements(name):
    labels = [name.format(i) for i in range(20)]
    assert list(infer_modalities(numbers(3, labels))) == ["genes"]


def test_many_numbers_are_wide():
    assert list(infer_modalities(numbers(3, list(range(200))))) == ["table"]
    frame = numbers(3, list(range(201))).assign(sex=["f", "m", "f"])
    found = infer_modalities(frame)
    assert list(found) == ["table", "wide"]
    assert found["table"].columns == ["sex"]
    assert found["wide"].columns == list(range(201))


def test_identifiers_are_left_out_with_a_warning():
    frame = numbers(10, ["age"]).assign(patient=[f"p{i}" for i in range(10)])
    with pytest.warns(UserWarning, match=r"identifiers and are left out: 'patient'"):
        assert infer_modalities(frame)["table"].columns == ["age"]
    short = frame.iloc[:9]  # nine different words may well be categories
    assert infer_modalities(short)["table"].columns == ["age", "patient"]


def test_names_do_not_clash():
    frame = pd.DataFrame({"age": [1.0, 2.0], "table": ["a.png", "b.png"]})
    assert list(infer_modalities(frame)) == ["table", "table image"]


def test_what_is_inferred_can_be_fitted():
    images = [np.zeros((8, 8), dtype=np.uint8)] * 12
    frame = numbers(12, ["age", *[f"g{i}_cnv" for i in range(20)]])
    frame = frame.assign(stage=["I", "II", "III"] * 4, scan=images)
    for modality in infer_modalities(frame).values():
        assert modality.fit(frame).transform(frame).present.all()


def test_nothing_to_infer():
    with (
        pytest.warns(UserWarning, match=r"identifiers"),
        pytest.raises(ValueError, match=r"No column of the table can be a modality: it has 'id'"),
    ):
        infer_modalities(pd.DataFrame({"id": [f"p{i}" for i in range(10)]}))
    with pytest.raises(ValueError, match=r"it has no columns"):
        infer_modalities(pd.DataFrame())
    with pytest.raises(TypeError, match=r"Got ndarray"):
        infer_modalities(np.zeros((2, 2)))


def test_the_table_is_not_changed():
    frame = numbers(3, ["age"]).assign(ct=["a.png", None, "b.png"])
    before = frame.copy(deep=True)
    infer_modalities(frame)
    pd.testing.assert_frame_equal(frame, before)


def block(names: list[str], rng: np.random.Generator, n: int = 40) -> pd.DataFrame:
    return pd.DataFrame(rng.normal(size=(n, len(names))), columns=names)


SYMBOLS = [a + b + c for a in "ABCDEFG" for b in "HIJKLM" for c in "NOPQRS"]  # no common pattern


@pytest.mark.parametrize(
    "names", [[f"f{i}" for i in range(250)], [f"probe_{i}_at" for i in range(250)], SYMBOLS]
)
def test_clinical_columns_beside_a_wide_block_stay_a_table(names: list[str]) -> None:
    rng = np.random.default_rng(0)
    clinical = pd.DataFrame(
        {
            "age": rng.normal(60, 10, 40),
            "Tumor.grade": rng.normal(size=40),
            "female": rng.integers(0, 2, 40),
            "visits": rng.integers(0, 99, 40),
            "ward": np.where(rng.random(40) < 0.5, "a", "b"),
        }
    )
    frame = pd.concat([clinical[["age"]], block(names, rng), clinical.drop(columns="age")], axis=1)
    with pytest.warns(
        UserWarning, match=r"more than 200 numeric columns.*'age'.* stay in the table"
    ):
        found = infer_modalities(frame)
    assert list(found) == ["table", "wide"]
    assert found["wide"].columns == names
    assert sorted(found["table"].columns) == sorted(clinical.columns)


def test_a_block_of_counts_or_of_clinical_names_is_a_block() -> None:
    rng = np.random.default_rng(0)
    counts = pd.DataFrame(rng.poisson(30, (40, len(SYMBOLS))), columns=SYMBOLS)
    mutations = pd.DataFrame(rng.integers(0, 2, (40, len(SYMBOLS))), columns=SYMBOLS)
    doses = block([f"dose_{i}" for i in range(300)], rng)
    for wide in (counts, mutations, doses):
        with pytest.warns(UserWarning, match="none stays in the table"):
            found = infer_modalities(wide)
        assert list(found) == ["wide"]
    with pytest.warns(UserWarning, match="'age' stay in the table"):
        found = infer_modalities(counts.assign(age=rng.normal(60, 10, 40)))
    assert found["table"].columns == ["age"]


def test_inference_of_a_very_wide_table_is_quick() -> None:
    rng = np.random.default_rng(0)
    names = [f"{'ABCDEFG'[i % 7]}{'HIJKLM'[i % 6]}{'NOPQR'[i % 5]}{i}x" for i in range(10_000)]
    frame = block(names, rng, 200)
    started = time.process_time()
    with pytest.warns(UserWarning, match="10000"):
        infer_modalities(frame)
    assert time.process_time() - started < 3.0
