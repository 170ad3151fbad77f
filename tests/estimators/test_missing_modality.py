"""A modality that a row lacks contributes nothing, at training and at prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmfusion.modalities import Genes, Image, Tabular
from mmfusion.training import predict_eta
from tests.estimators.common import FUSIONS, cohort_for, make_model, modalities, predictions

GENES = [f"gene_{i}" for i in range(10)]


def without(frame: pd.DataFrame, rows: Any, columns: list[str]) -> pd.DataFrame:
    frame = frame.copy()
    for column in columns:
        cells = frame[column].astype(object)
        cells.iloc[rows] = None
        frame[column] = cells if column in ("image", "sex") else pd.to_numeric(cells)
    return frame


@pytest.fixture(scope="module", params=FUSIONS)
def fitted(request: pytest.FixtureRequest) -> tuple[Any, pd.DataFrame]:
    frame, y = cohort_for("cox", missing=0.3)
    frame = without(frame, slice(0, 6), GENES)
    images = [np.full((8, 8), 9 * i, np.uint8) for i in range(6)]
    frame["image"] = pd.Series([*images, *frame["image"].iloc[6:]], frame.index, dtype=object)
    return make_model("cox", request.param).fit(frame, y), frame


def test_what_a_missing_cell_holds_is_never_read(fitted: tuple[Any, pd.DataFrame]) -> None:
    model, frame = fitted
    wanted = predictions(model, without(frame, [8], ["image"]))
    for cell in (np.nan, "", [], pd.NA, float("nan"), ()):
        other = frame.copy()
        other["image"] = pd.Series(
            [cell if i == 8 else value for i, value in enumerate(frame["image"])],
            index=frame.index,
            dtype=object,
        )
        np.testing.assert_array_equal(predictions(model, other), wanted)


def test_nothing_of_the_tensors_of_absent_rows_is_read(fitted: tuple[Any, pd.DataFrame]) -> None:
    _, frame = fitted
    for fusion in ("concat", "sum", "gated", "early"):
        model = make_model("cox", fusion, epochs=1).fit(frame, cohort_for("cox")[1])
        (inner,) = model._models.values()
        data = inner.transform(frame, torch.device("cpu"), "32-true")
        wanted = predict_eta(inner.network, data)
        absent = ~data.parts["rna"].present
        assert int(absent.sum()) == 6
        data.parts["rna"].numeric[absent] = torch.nan
        torch.testing.assert_close(predict_eta(inner.network, data), wanted, rtol=0, atol=0)


def test_rows_do_not_depend_on_what_other_rows_lack(fitted: tuple[Any, pd.DataFrame]) -> None:
    model, frame = fitted
    whole = predictions(model, frame)
    others = [row for row in range(len(frame)) if row % 3]
    for columns in (["image"], GENES):
        lacking = [row for row in range(6, len(frame)) if row % 3 == 0]
        found = predictions(model, without(frame, lacking, columns))
        np.testing.assert_allclose(found[others], whole[others], rtol=1e-5, atol=1e-6)
    alone = np.concatenate([predictions(model, frame.iloc[[row]]) for row in range(10)])
    np.testing.assert_allclose(alone, whole[:10], rtol=1e-5, atol=1e-6)


def test_an_absent_modality_matters_where_it_was_there(fitted: tuple[Any, pd.DataFrame]) -> None:
    model, frame = fitted
    there = np.flatnonzero(frame["image"].notna())
    with_image = model.predict(frame.iloc[there])
    lacking = model.predict(without(frame, slice(None), ["image"]).iloc[there])
    assert np.isfinite(lacking).all()
    assert not np.allclose(with_image, lacking, atol=1e-4)


@pytest.mark.parametrize("kind", ["cox", "classifier", "regressor"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_modality_dropout_trains(kind: str, fusion: str) -> None:
    frame, y = cohort_for(kind, missing=0.2)
    plain = make_model(kind, fusion).fit(frame, y)
    dropped = make_model(kind, fusion, modality_dropout=0.5).fit(frame, y)
    assert np.isfinite(predictions(dropped, frame)).all()
    assert np.isfinite(dropped.history_["loss"]).all()
    assert not np.allclose(predictions(dropped, frame), predictions(plain, frame), atol=1e-7)


def test_modality_dropout_makes_absence_less_harmful() -> None:
    """With the image the only signal, a model that met rows without it does not go astray."""
    frame, y = cohort_for("regressor", 120, missing=0.0)
    brightness = np.array([image.mean() for image in frame["image"]])
    scan = Image("image", size=4, channels="L", encoder="raw")
    inputs = {"scan": scan, "clinic": Tabular(["age"])}
    y = brightness + frame["age"].to_numpy()
    lacking = frame.assign(image=pd.Series([None] * len(frame), frame.index, dtype=object))
    errors = {}
    for rate in (0.0, 0.4):
        model = make_model(
            "regressor",
            "concat",
            modalities=inputs,
            modality_dropout=rate,
            epochs=40,
            batch_size=50,
            learning_rate=1e-2,
        ).fit(frame, y)
        errors[rate] = np.mean((model.predict(lacking) - y) ** 2)
    assert errors[0.4] < errors[0.0]


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("encoder", ["cnn", "resnet10t"])
def test_one_row_with_an_image_is_enough(fusion: str, encoder: str) -> None:
    """Batches without any image and with a single one train; batch norm has no say."""
    frame, y = cohort_for("regressor", missing=0.0)
    frame = without(frame, slice(1, None), ["image"])
    inputs = modalities(encoder=encoder, size=32)
    model = make_model("regressor", fusion, modalities=inputs, epochs=1).fit(frame, y)
    assert np.isfinite(model.predict(frame)).all()
    lacking = frame.iloc[1:]
    assert np.isfinite(model.predict(lacking)).all()


def test_an_image_that_no_training_row_has_is_refused() -> None:
    frame, y = cohort_for("cox")
    frame = without(frame, slice(None), ["image"])
    with pytest.raises(ValueError, match=r"column 'image' is missing in all of the 40 rows"):
        make_model().fit(frame, y)


def test_late_fusion_averages_the_members_that_are_there() -> None:
    frame, y = cohort_for("regressor", missing=0.0)
    inputs = {"rna": Genes("gene_*", hidden=(6,)), "clinic": Tabular(["age"], hidden=(6,))}
    model = make_model("regressor", "late", modalities=inputs).fit(frame, y)
    both = model.predict(frame)
    rna = model.predict(frame.assign(age=np.nan))
    clinic = model.predict(without(frame, slice(None), GENES))
    np.testing.assert_allclose(both, (rna + clinic) / 2, rtol=1e-6)


def test_a_row_with_nothing_is_named_at_fit_and_at_predict() -> None:
    frame, y = cohort_for("cox", missing=0.0)
    empty = without(frame, [3, 7], ["image", "age", "sex", *GENES])
    empty["stage"] = empty["stage"].astype(object)
    empty.iloc[[3, 7], empty.columns.get_loc("stage")] = None
    for fusion in FUSIONS:
        with pytest.raises(ValueError, match=r"'patient_3', 'patient_7'"):
            make_model("cox", fusion).fit(empty, y)
        model = make_model("cox", fusion, epochs=1).fit(frame, y)
        with pytest.raises(ValueError, match=r"no modality present: 'patient_3', 'patient_7'"):
            model.predict(empty)
        with pytest.raises(ValueError, match=r"no modality present: 'patient_3', 'patient_7'"):
            make_model("cox", fusion, epochs=1).fit(frame, y, eval_set=(empty, y))
