"""Subjects with several rows: cutting follow-up changes nothing, and nothing leaks between rows."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from torch import Tensor, nn

from mmfusion.estimators import FusionCox, FusionRegressor
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.modalities import Image, Tabular, image
from mmfusion.model import Plan, Study
from mmfusion.model.folds import deal_study
from mmfusion.model.subjects import Subjects
from mmfusion.survival import surv
from tests.model.common import (
    TABLES,
    cut,
    fields,
    joint,
    make_cox,
    make_discrete,
    study,
    with_image,
)

TIMES = [0.5, 1.0, 2.0, 4.0, 8.0]


def curves(model: Any, frame: pd.DataFrame) -> np.ndarray:
    return model.predict_survival_function(frame, TIMES).to_numpy()


def assert_same(whole: Any, frame: Any, pieces: Any, table: Any, owner: Any, **close: Any) -> None:
    """Hold two models to each other; of a Cox model's risk only differences have a meaning."""
    expected = curves(whole, frame)
    np.testing.assert_allclose(curves(pieces, table), expected[owner], **close)
    np.testing.assert_allclose(curves(pieces, frame), expected, **close)
    risks = [model.predict(frame) for model in (whole, pieces)]
    np.testing.assert_allclose(*(risk - risk[0] for risk in risks), **close)
    if whole.structured is not None:
        pd.testing.assert_frame_equal(
            pieces.effects_, whole.effects_, rtol=close["rtol"], atol=close["atol"]
        )


def fit_both(
    whole: Any, *, subject: Any = "patient", shuffle: bool = False, weigh: bool = False, n: int = 60
) -> tuple[Any, Any, Any, Any, Any]:
    """Fit a model to whole follow-up and to pieces of it."""
    frame, y = study(n)
    table, pieces, owner = cut(frame, y, shuffle=shuffle)
    weight = np.random.default_rng(3).uniform(0.5, 2.0, n) if weigh else None
    other = clone(whole).set_params(id=subject)
    whole.fit(frame, y, sample_weight=weight)
    other.fit(table, pieces, sample_weight=None if weight is None else weight[owner])
    return whole, frame, other, table, owner


# --- cutting changes nothing ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"ties": "breslow"},
        {"strata": "site"},
        {"structured": "x * C(site)"},
        {"cluster": "patient"},
        {"cluster": "patient", "inference": "robust"},
    ],
)
@pytest.mark.parametrize("weigh", [False, True])
def test_a_formula_of_cut_follow_up_is_that_of_the_whole(
    given: dict[str, Any], weigh: bool
) -> None:
    """In any order of the rows; Newton's method stops within 1e-8 of the same maximum."""
    found = fit_both(make_cox(**given), shuffle=True, weigh=weigh)
    assert_same(*found, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("loss", ["logistic_hazard", "pc_hazard"])
def test_a_formula_of_hazards_in_intervals_too(loss: str) -> None:
    """A follow-up that is cut within an interval is counted in it once."""
    found = fit_both(make_discrete(loss=loss), shuffle=True, weigh=True)
    assert_same(*found, rtol=1e-6, atol=1e-8)


NETWORKS: dict[str, dict[str, Any]] = {
    "whole risk set": {},
    "batches": {"batch_size": 16},
    "two_stage": {"orthogonalization": "two_stage"},
    "not projected": {"orthogonalization": None, "strata": "site"},
    "linear part": {"linear": True},
    "members": {"linear": True, "n_members": 3},
    "members without a formula": {"linear": True, "n_members": 3, "structured": None},
    "no formula": {"structured": None, "fusion": joint(operator="gated")},
    "late": {"fusion": LateFusion(dim=4, hidden=()), "structured": None},
    "early": {"fusion": EarlyFusion(hidden=(4,), dropout=0.0)},
    "components": {"fusion": EarlyFusion("pca", n_components=2, hidden=(4,), dropout=0.0)},
    "chosen features": {"fusion": EarlyFusion("features", n_components=2, hidden=(), dropout=0.0)},
    "ridge": {"fusion": EarlyFusion("pca", n_components=2, hidden=None), "structured": None},
    "ridge beside a formula": {"fusion": EarlyFusion("pca", n_components=2, hidden=None)},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_cut_follow_up_are_those_of_the_whole(name: str) -> None:
    """The partial likelihood is that of the whole; networks are trained in float32, so 1e-3."""
    given = {"modalities": TABLES, "fusion": joint(dropout=0.0), **NETWORKS[name]}
    if name.startswith("ridge"):
        close = {"rtol": 1e-5, "atol": 1e-6}
    else:
        close = {"rtol": 1e-3, "atol": 1e-4}
    assert_same(*fit_both(make_cox(**given)), **close)


def test_a_network_beside_hazards_in_intervals() -> None:
    """The mean loss is over rows: AdamW does not see its unit, but its epsilon does, so 1e-2."""
    model = make_discrete(modalities=TABLES, fusion=joint(dropout=0.0))
    model.set_params(training__clip_norm=None)
    assert_same(*fit_both(model), rtol=1e-2, atol=1e-3)


# --- no subject on both sides --------------------------------------------------------------------


def read(model: FusionCox, table: pd.DataFrame, y: Any, **given: Any) -> Study:
    return Study.read(Plan.of(model, table), table, y, **given)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("strata", [None, "site"])
def test_no_subject_judges_that_is_trained_on(seed: int, shuffle: bool, strata: Any) -> None:
    table, y, owner = cut(*study(80, seed), shuffle=shuffle)
    model = make_cox(modalities=TABLES, patience=3, id="patient", strata=strata, random_state=seed)
    found = read(model, table, y)
    assert found.judging is not None
    assert found.judges is not None
    assert not set(owner[found.rows]) & set(owner[found.judging])
    np.testing.assert_array_equal(np.sort([*found.rows, *found.judging]), np.arange(len(table)))
    share = len(found.judging) / len(table)
    assert 0.08 < share < 0.22  # about validation_fraction, 0.15, of the rows
    assert found.judges.table.equals(table.iloc[found.judging])
    without = read(clone(model).set_params(id=None, cluster="site"), table, y)
    assert without.judging is not None


def test_rows_of_a_subject_without_id_stand_on_both_sides() -> None:
    """What id= is for; the test above can fail."""
    table, y, owner = cut(*study(80))
    model = make_cox(modalities=TABLES, patience=3)
    with pytest.warns(UserWarning, match="start-stop"):
        found = read(model, table, y)
    assert set(owner[found.rows]) & set(owner[found.judging])  # type: ignore[index]


def test_subjects_too_large_to_be_held_out_are_trained_on() -> None:
    """Three subjects of ten rows each: a share of 0.15 is less than half of one."""
    frame, _ = study(30)
    frame["patient"] = np.repeat(["a", "b", "c"], 10)
    y = surv(np.arange(1, 31), np.ones(30, bool), np.arange(30))
    found = read(make_cox(modalities=TABLES, patience=3, id="patient"), frame, y)
    assert found.judging is None
    assert len(found.rows) == 30


def test_few_subjects_of_many_rows_judge_nothing() -> None:
    """Fewer than eight subjects, though more than eight rows."""
    frame, _ = study(100)
    frame["patient"] = np.repeat(np.arange(20), 5)
    y = surv(np.tile([1, 2, 3, 4, 5], 20), np.ones(100, bool), np.tile([0, 1, 2, 3, 4], 20))
    found = read(make_cox(modalities=TABLES, patience=3, id="patient"), frame, y)
    assert found.judging is None


@pytest.mark.parametrize("cluster", [None, "patient", "ward"])
@pytest.mark.parametrize("n_folds", [2, 5])
def test_folds_keep_subjects_together(n_folds: int, cluster: Any) -> None:
    table, y, owner = cut(*study(), shuffle=True)
    table["ward"] = owner // 6
    found = read(make_cox(id="patient", cluster=cluster), table, y)
    for train, held in deal_study(found, n_folds, "another"):
        assert not set(owner[train]) & set(owner[held])
        assert not set(owner[train] // 6) & set(owner[held] // 6) or cluster != "ward"


@pytest.mark.parametrize(
    "given",
    [
        {"inference": "cross_fit"},
        {"fusion": LateFusion("stack", dim=4, hidden=(), folds=3)},
        {"fusion": LateFusion("weighted", dim=4, hidden=(), folds=3), "patience": 2},
        {"fusion": LateFusion("stack", dim=4, hidden=(), folds=2), "inference": "cross_fit"},
    ],
)
def test_networks_of_folds_see_no_row_of_a_held_out_subject(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmfusion.model import fit

    dealt: list[tuple[set[str], set[str]]] = []
    table, y, _ = cut(*study(), shuffle=True)
    names = table["patient"].to_numpy()

    def watch(plan: Plan, of_part: Study) -> Any:
        chosen = set(of_part.all.table["patient"])
        rows = of_part.all.subjects
        trained = set(rows.table(of_part.all.table)["patient"])
        assert chosen == trained
        dealt.append((chosen, set(names) - chosen))
        # All rows of each of the part's subjects, and none of another.
        assert len(of_part.all) == int(np.isin(names, list(chosen)).sum())
        return own(plan, of_part)

    own = fit.fit_part
    monkeypatch.setattr(fit, "fit_part", watch)
    make_cox(modalities=TABLES, id="patient", **given).fit(table, y)
    assert len(dealt) >= 3
    assert all(held for _, held in dealt)


def test_too_few_subjects_for_folds() -> None:
    table, y, owner = cut(*study())
    table["patient"] = owner % 4
    model = make_cox(modalities={"b": TABLES["b"]}, id="patient", inference="cross_fit")
    table["b0"] = table["patient"].astype(float)
    with pytest.raises(ValueError, match=r"at least 5 subjects, one a fold\. Got 4; use inference"):
        model.fit(table, y)


# --- what networks see ---------------------------------------------------------------------------


class Counting(nn.Module):
    """Counts the images that go through it."""

    seen = 0

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))

    def forward(self, pixels: Tensor) -> Tensor:
        Counting.seen += len(pixels)
        return self.layers(pixels)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the images that were decoded, in their order."""
    calls: list[Any] = []

    def decode(source: Any, *how: Any) -> Any:
        calls.append(source)
        return own(source, *how)

    own = image.decode
    monkeypatch.setattr(image, "decode", decode)
    Counting.seen = 0
    return calls


@pytest.mark.parametrize("batch_size", [None, 16])
def test_a_subject_s_image_is_decoded_and_encoded_once(
    batch_size: int | None, decoded: list[Any]
) -> None:
    """Encoded once an epoch and once in the end, however many rows the subject has.

    Two blank images more tell the width of the encoder.
    """
    frame, y = study()
    table, pieces, _ = cut(frame, y)
    # Rows of a subject hold copies: nothing but id= tells that they are one image.
    table["image"] = pd.Series(
        [None if cell is None else cell.copy() for cell in table["image"]], table.index, object
    )
    there = int(frame["image"].notna().sum())
    model = make_cox(modalities=with_image(Counting), batch_size=batch_size, id="patient", epochs=3)
    model.fit(table, pieces)
    assert len(decoded) == there
    assert Counting.seen == 2 + there * (model.epochs + 1)
    decoded.clear()
    Counting.seen = 0
    model.predict(table)
    assert len(decoded) == Counting.seen == there


def test_an_image_in_any_row_of_a_subject_is_the_subject_s() -> None:
    """At fit, where it teaches, and at predict."""
    frame, y = study()
    table, pieces, owner = cut(frame, y)
    model = make_cox(modalities=with_image(), id="patient")
    expected = model.fit(table, pieces).predict(table)
    last = np.append(owner[1:] != owner[:-1], True)
    moved = table.copy()
    for missing in (None, np.nan, "", []):
        cells = [cell if end else missing for cell, end in zip(table["image"], last, strict=True)]
        moved["image"] = pd.Series(cells, table.index, object)
        np.testing.assert_allclose(model.predict(moved), expected, rtol=1e-6)
        again = clone(model).fit(moved, pieces)
        np.testing.assert_allclose(again.predict(moved), expected, rtol=1e-5)
    # Where no id is known, a row has its own cells alone.
    unknown = moved.assign(patient=None)
    assert not np.allclose(model.predict(unknown), expected)
    alone = model.predict(unknown.loc[last])
    np.testing.assert_allclose(alone, expected[last], rtol=1e-6)
    # An unknown id is nobody else's.
    some = moved.assign(patient=moved["patient"].where(moved["patient"] != "p000"))
    others = (table["patient"] != "p000").to_numpy()
    np.testing.assert_allclose(model.predict(some)[others], expected[others], rtol=1e-6)


def test_categories_of_a_subject_keep_their_dtype() -> None:
    levels = pd.CategoricalDtype(["low", "mid", "high"], ordered=True)
    table = pd.DataFrame(
        {
            "who": ["a", "a", "b", "c", "b"],
            "level": pd.Series([None, "mid", "high", None, "high"], dtype=levels),
            "count": pd.array([None, 3, 1, 2, 1], dtype="Int64"),
            "text": pd.array([None, "u", "v", "w", "v"], dtype="string"),
            "number": [np.nan, 1.5, 2.5, 3.5, 2.5],
        }
    )
    found = Subjects.read("who", table).table(table)
    assert found["who"].tolist() == ["a", "b", "c"]
    assert found.dtypes.drop("who").equals(table.dtypes.drop("who"))
    assert found["level"].tolist()[:2] == ["mid", "high"]
    assert found["level"].isna().tolist() == [False, False, True]
    assert found["count"].tolist() == [3, 1, 2]
    assert found["text"].tolist() == ["u", "v", "w"]
    assert found["number"].tolist() == [1.5, 2.5, 3.5]


@pytest.mark.parametrize("when", ["fit", "predict", "eval_set"])
@pytest.mark.parametrize("column", ["a1", "image"])
def test_a_column_that_changes_within_a_subject_is_refused(column: str, when: str) -> None:
    table, y, owner = cut(*study())
    model = make_cox(modalities=with_image(), id="patient", patience=2)
    position = int(np.flatnonzero(owner == 7)[1])  # the second row of a subject
    changed = table.copy()
    cells = table[column].tolist()
    first = np.zeros((4, 4), np.uint8)
    cells[position - 1] = first if column == "image" else 1.0
    cells[position] = first + 1 if column == "image" else 2.0
    changed[column] = pd.Series(cells, table.index)
    name = "scan" if column == "image" else "a"
    message = rf"Modality '{name}' reads column '{column}', which changes .* row 'line {position}'"
    if when != "fit":
        other, other_y, _ = cut(*study(seed=5))
        other["patient"] = "other " + other["patient"]
        model.fit(other, other_y)
    asks = {
        "fit": lambda: model.fit(changed, y),
        "predict": lambda: model.predict(changed),
        "eval_set": lambda: model.fit(other, other_y, eval_set=(changed, y)),
    }
    with pytest.raises(ValueError, match=message):
        asks[when]()


def test_other_modalities_may_change_where_they_are_not_asked_for() -> None:
    table, y, _ = cut(*study())
    model = make_cox(modalities=TABLES, id="patient").fit(table, y)
    changed = table.assign(b0=np.arange(len(table)))
    expected = model.predict(table, modalities=["a"])
    np.testing.assert_array_equal(model.predict(changed, modalities=["a"]), expected)


@pytest.mark.parametrize("kind", ["PIL", "tensor", "list", "float16"])
def test_equal_images_are_no_change(kind: str) -> None:
    """Whatever holds the pixels; and large ones are compared whole, not as they are printed."""
    import torch
    from PIL import Image as PILImage

    make: Any = {
        "PIL": PILImage.fromarray,
        "tensor": torch.from_numpy,
        "list": lambda pixels: [pixels, pixels.T.copy()],
        "float16": lambda pixels: (pixels / 255).astype(np.float16),
    }[kind]
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60), dtype=np.uint8)
    other = pixels.copy()
    other[30, 30] += 1
    modality = Image("image", size=8, channels="L")
    cells = [make(pixels.copy()), make(pixels.copy()), make(other)]
    table = pd.DataFrame({"who": [1, 1, 2], "image": pd.Series(cells, dtype=object)})
    modality.fit(table)
    Subjects.read("who", table).refuse_changes({"scan": modality}, table)
    table["who"] = 1
    with pytest.raises(ValueError, match="changes within a subject \\(in row 2\\)"):
        Subjects.read("who", table).refuse_changes({"scan": modality}, table)


@pytest.mark.parametrize("given", [{"head": "nonlinear"}, {"orthogonalization": "online"}])
def test_networks_that_read_the_formula_need_one_row_a_subject(given: dict[str, Any]) -> None:
    frame, y = study()
    table, pieces, _ = cut(frame, y)
    model = make_cox(modalities=TABLES, id="patient", **given)
    with pytest.raises(ValueError, match="The networks see each subject once"):
        model.fit(table, pieces)
    assert np.isfinite(model.fit(frame, y).predict(frame)).all()
    if "head" in given:
        with pytest.raises(ValueError, match="The networks see each subject once"):
            model.predict(table)


# --- the column ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "int", "float", "categorical", "date"])
def test_any_labels_name_subjects(kind: str) -> None:
    frame, y = study()
    table, pieces, owner = cut(frame, y, shuffle=True)
    expected = make_cox(modalities=TABLES, id="patient").fit(table, pieces).predict(table)
    labels: Any = {
        "text": [f"{k}" for k in owner],
        "int": 1000 - owner,
        "float": owner / 7,
        "categorical": pd.Categorical([f"{k}" for k in owner]),
        "date": pd.Timestamp("2020-01-01") + pd.to_timedelta(owner, unit="D"),
    }[kind]
    table["patient"] = labels
    model = make_cox(modalities=TABLES, id="patient").fit(table, pieces)
    np.testing.assert_array_equal(model.predict(table), expected)


def test_a_missing_id_is_refused_with_its_rows() -> None:
    table, y, _ = cut(*study())
    table.iloc[[3, 8], 0] = None
    with pytest.raises(ValueError, match=r"id column 'patient' must .* 'line 3', 'line 8'"):
        make_cox(id="patient").fit(table, y)
    with pytest.raises(ValueError, match=r"id parameter must name a column of X\. Got 'patiens'"):
        make_cox(id="patiens").fit(table, y)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"modalities": TABLES, "patience": 2},
        {"modalities": TABLES, "structured": None},
        {"modalities": TABLES, "fusion": LateFusion("stack", dim=4, hidden=(), folds=3)},
        {"modalities": TABLES, "inference": "cross_fit"},
        {"modalities": TABLES, "head": "nonlinear"},
    ],
)
def test_id_without_repeated_rows_changes_no_bit(given: dict[str, Any]) -> None:
    frame, y = study()
    given = {"batch_size": 16, **given}
    plain = make_cox(**given).fit(frame, y)
    named = make_cox(**given, id="patient").fit(frame, y)
    np.testing.assert_array_equal(named.predict(frame), plain.predict(frame))
    np.testing.assert_array_equal(curves(named, frame), curves(plain, frame))
    if plain.structured is not None:
        pd.testing.assert_frame_equal(named.effects_, plain.effects_, check_exact=True)


def test_id_of_a_regression_of_visits() -> None:
    """A visit a row: the networks see a patient once, and the outcome is each visit's own."""
    frame, _ = study(80)
    table = frame.iloc[np.repeat(np.arange(80), 3)].reset_index(drop=True)
    rng = np.random.default_rng(0)
    table["x"] = rng.normal(size=len(table))
    y = 2 * table["x"] + table["a0"] + rng.normal(0, 0.1, len(table))
    settings: dict[str, Any] = {"batch_size": 16, "epochs": 60, "patience": 10, "device": "cpu"}
    model = FusionRegressor(
        TABLES, joint(), structured="x", id="patient", cluster="patient", random_state=0, **settings
    ).fit(table, y)
    assert model.score(table, y) > 0.9
    assert model.effects_.loc["x", "coef"] == pytest.approx(2, abs=0.1)


def test_a_subject_lies_in_one_cluster() -> None:
    table, y, owner = cut(*study())
    model = make_cox(id="patient", cluster="ward")
    table["ward"] = owner // 10
    assert model.fit(table, y).effects_["se"].notna().all()
    position = int(np.flatnonzero(owner == 7)[1])
    table.iloc[position, table.columns.get_loc("ward")] = 5
    with pytest.raises(ValueError, match=rf"cluster column must have one .* row 'line {position}'"):
        model.fit(table, y)


def test_an_eval_set_has_subjects_of_its_own() -> None:
    frame, y = study()
    held, held_y = study(40, seed=5)
    held["patient"] = "held " + held["patient"]
    table, pieces, _ = cut(frame, y)
    judging, judging_y, owner = cut(held, held_y, shuffle=True)
    model = make_cox(modalities=TABLES, fusion=joint(dropout=0.0), patience=3, epochs=8)
    whole = clone(model).fit(frame, y, eval_set=(held, held_y))
    cut_up = clone(model).set_params(id="patient")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cut_up.fit(table, pieces, eval_set=(judging, judging_y))
    np.testing.assert_allclose(
        cut_up.history_["val_loss"], whole.history_["val_loss"], rtol=1e-4, atol=1e-5
    )
    assert_same(whole, held, cut_up, judging, owner, rtol=2e-3, atol=2e-4)
    judging.loc[judging["patient"] == "held p003", "patient"] = "p003"
    with pytest.warns(UserWarning, match=r"eval_set holds rows of subjects that are trained on"):
        clone(cut_up).fit(table, pieces, eval_set=(judging, judging_y))


def test_an_array_has_no_column_of_names() -> None:
    frame, y = study()
    table, pieces, owner = cut(frame, y)
    values = np.column_stack([owner, table[["a0", "a1", "b0"]].to_numpy()])
    given = {"modalities": None, "structured": None}
    with pytest.raises(ValueError, match=r"id parameter must name a column of X\. Got 'patient'"):
        make_cox(**given, id="patient").fit(values, pieces)
    model = make_cox(**given, id=0).fit(values, pieces)
    assert model.modalities_["table"].columns_ == [1, 2, 3]
    values[:, 0] = owner[::-1]
    with pytest.raises(ValueError, match="reads column 1, which changes within a subject"):
        model.predict(values)


def test_inferred_modalities_leave_the_id_out() -> None:
    table, y, _ = cut(*study())
    model = make_cox(modalities=None, structured=None, id="patient", strata="site").fit(table, y)
    read = {name for modality in model.modalities_.values() for name in modality.columns_}
    assert not read & {"patient", "site"}
    assert {"a0", "a1", "b0", "image"} <= read


def test_a_model_with_id_is_pickled_cloned_and_saved(tmp_path: Any) -> None:
    table, y, _ = cut(*study())
    model = make_cox(modalities=with_image(), id="patient").fit(table, y)
    assert clone(model).id == "patient"
    model.save(tmp_path / "model")
    for again in (pickle.loads(pickle.dumps(model)), FusionCox.load(tmp_path / "model")):
        assert again.id == "patient"
        np.testing.assert_array_equal(again.predict(table), model.predict(table))
        asked = table.drop(columns=["b0"])
        np.testing.assert_array_equal(
            again.predict(asked, modalities=["scan", "a"]),
            model.predict(table, modalities=["scan", "a"]),
        )


# --- the warning ---------------------------------------------------------------------------------


def warned(model: Any, table: Any, y: Any) -> bool:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(table, y)
    mine = [one for one in caught if "start-stop" in str(one.message)]
    assert all(one.filename == __file__ for one in mine)
    return bool(mine)


@pytest.mark.parametrize("make", [make_cox, make_discrete])
@pytest.mark.parametrize("shuffle", [False, True])
def test_start_stop_rows_without_a_subject_are_warned_of(make: Any, shuffle: bool) -> None:
    frame, y = study(entry=False)
    table, pieces, _ = cut(frame, y, shuffle=shuffle)
    assert warned(make(), table, pieces)
    assert not warned(make(id="patient"), table, pieces)
    assert not warned(make(cluster="patient"), table, pieces)
    assert not warned(make(), frame, y)


def test_delayed_entry_is_not_warned_of() -> None:
    frame, y = study(200)
    assert not warned(make_cox(), frame, y)
    time, event, _ = fields(y)
    born = np.random.default_rng(0).integers(20 * 365, 70 * 365, 200)
    days = np.ceil(time * 100)
    assert not warned(make_cox(), frame, surv(born + days, event, born))


def test_start_stop_rows_on_the_age_scale_are_warned_of() -> None:
    frame, y = study()
    time, event, begin = fields(y)
    born = np.random.default_rng(0).uniform(20, 70, len(time))
    table, pieces, _ = cut(frame, surv(born + time, event, born + begin))
    assert warned(make_cox(), table, pieces)


def test_linear_fusion_is_checked_too() -> None:
    """Modalities of one subject in rows that the table of subjects puts together."""
    table, y, owner = cut(*study())
    last = np.append(owner[1:] != owner[:-1], True)
    scattered = table.assign(b0=table["b0"].where(last))
    model = make_cox(modalities={"b": Tabular(["b0"])}, fusion=JointFusion(hidden=()), id="patient")
    expected = clone(model).fit(table, y).predict(table)
    np.testing.assert_array_equal(model.fit(scattered, y).predict(scattered), expected)
