"""A modality that a row lacks contributes nothing, at training and at prediction."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmfusion.estimators import FusionPretrainer
from mmfusion.fusion import EarlyFusion, LateFusion
from mmfusion.metrics import concordance_index
from mmfusion.modalities import Genes, Image, Tabular
from mmfusion.training import network_outputs, split_validation
from tests.estimators.common import FUSIONS, cohort_for, make_model, modalities, predictions

pytestmark = pytest.mark.usefixtures("one_network")

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
        (inner,) = model.model_.deep.networks.values()
        data = inner.transform(frame, torch.device("cpu"), "32-true")
        wanted = network_outputs(inner.module, data)
        absent = ~data.parts["rna"].present
        assert int(absent.sum()) == 6
        data.parts["rna"].numeric[absent] = torch.nan
        torch.testing.assert_close(network_outputs(inner.module, data), wanted, rtol=0, atol=0)


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


@pytest.mark.parametrize("fusion", ["concat", "late"])
def test_a_modality_that_only_held_out_rows_have_is_said_to_be_held_out(fusion: str) -> None:
    frame, y = cohort_for("regressor", n=90, missing=0.0)
    given = {"patience": 5, "modalities": {"rna": Genes("gene_*"), "lab": Tabular(["age", "sex"])}}
    model = make_model("regressor", fusion, **given)
    fitted_on: dict[str, Any] = {}

    def spy(*args: Any, **kwargs: Any) -> Any:
        fitted_on["held"] = split_validation(*args, **kwargs)
        return fitted_on["held"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmfusion.model.study.split_validation", spy)
        model.fit(frame, y)
    train, held = fitted_on["held"]
    lacking = without(frame, train, ["age", "sex"])
    message = (
        rf"missing in all of the {len(train)} rows. These are the {len(train)} of 90 rows .* all "
        r"that modality 'lab' needs .*\(patience=None\), give .*\(eval_set\) or leave"
    )
    with pytest.raises(ValueError, match=message):
        model.fit(lacking, y)
    model.set_params(patience=None).fit(lacking, y)
    model.set_params(patience=5).fit(lacking, y, eval_set=(frame, y))
    # Where the held-out rows are not to blame, they are not named.
    with pytest.raises(ValueError, match=r"missing in all of the \d+ rows\.$"):
        model.fit(without(frame, slice(None), ["age", "sex"]), y)
    pretrainer = FusionPretrainer(given["modalities"], epochs=1, device="cpu", random_state=0)
    one = without(frame, slice(None), ["age", "sex"])
    one[["age", "sex"]] = one[["age", "sex"]].astype(object)
    rng = np.random.default_rng(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    held = split_validation(np.zeros(90), 0.15, rng)[1]
    one.iloc[held[0], one.columns.get_loc("sex")] = "f"
    with pytest.raises(ValueError, match=r"76 of 90 rows .*\(patience=None\) or leave"):
        pretrainer.fit(one)


def test_late_fusion_averages_the_members_that_are_there() -> None:
    frame, y = cohort_for("regressor", missing=0.0)
    inputs = {"rna": Genes("gene_*", hidden=(6,)), "clinic": Tabular(["age"], hidden=(6,))}
    model = make_model("regressor", "late", modalities=inputs).fit(frame, y)
    both = model.predict(frame)
    np.testing.assert_array_equal(model.fusion_weights_, [0.5, 0.5])
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


# --- any subset, at fit and at predict ------------------------------------------------------------

EVERY = {
    **FUSIONS,
    "early pca": EarlyFusion("pca", 3, hidden=(4,)),
    "early ridge": EarlyFusion("features", 3, hidden=None),
    "late stack": LateFusion("stack", dim=6, hidden=(4,), folds=2),
}
COLUMNS = {"scan": ["image"], "rna": GENES, "clinic": ["age"]}


@pytest.fixture(scope="module", params=["cox", "classifier", "regressor"])
def apart(request: pytest.FixtureRequest) -> tuple[str, pd.DataFrame, pd.DataFrame, Any]:
    """Return rows that never have scan and genes together, and the same rows complete."""
    frame, y = cohort_for(request.param, 60, missing=0.0)
    frame["image"] = pd.Series(list(frame["image"]), frame.index, dtype=object)
    lacking = without(without(frame, slice(0, 30), ["image"]), slice(30, 60), GENES)
    lacking = without(lacking, slice(10, 14), ["age"])
    if request.param == "classifier":
        y = np.where(np.arange(60) % 2, "old", "young")
    return request.param, lacking, frame, y


def three(kind: str, fusion: str, **params: Any) -> Any:
    inputs = {**modalities(encoder="raw"), "clinic": Tabular(["age"], hidden=(4,))}
    return make_model(kind, EVERY[fusion], modalities=inputs, epochs=2, **params)


@pytest.mark.parametrize("fusion", EVERY)
def test_any_subset_also_one_never_seen(apart: tuple[Any, ...], fusion: str) -> None:
    kind, lacking, whole, y = apart
    model = three(kind, fusion, modality_dropout={"clinic": 0.4}).fit(lacking, y)
    everything = predictions(model, whole)  # scan and genes together: no training row had them
    assert np.isfinite(everything).all()
    for names in itertools.chain.from_iterable(
        itertools.combinations(COLUMNS, size) for size in (1, 2, 3)
    ):
        asked = predictions(model, whole, modalities=list(names))
        blanked = whole
        for name in COLUMNS.keys() - set(names):
            blanked = without(blanked, slice(None), COLUMNS[name])
        np.testing.assert_array_equal(asked, predictions(model, blanked))
        if len(names) == 3:
            np.testing.assert_array_equal(asked, everything)
        # The content of what is absent is never read; others' gaps are of no consequence.
        other = whole.copy()
        for name in COLUMNS.keys() - set(names):
            other[COLUMNS[name]] = other[COLUMNS[name]].iloc[::-1].to_numpy()
        np.testing.assert_array_equal(predictions(model, other, modalities=list(names)), asked)
    mixed = without(without(whole, slice(0, 20), ["image"]), slice(40, 60), ["age"])
    np.testing.assert_allclose(
        predictions(model, mixed)[20:40], everything[20:40], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("fusion", EVERY)
def test_a_row_with_nothing_has_the_formulas_prediction(fusion: str) -> None:
    frame, y = cohort_for("cox", 60, missing=0.3)
    frame["dose"] = np.linspace(-1, 1, 60)
    model = three("cox", fusion, structured="dose").fit(frame, y)
    empty = without(frame, [3, 7], ["image", "age", *GENES])
    found = model.predict(empty)
    nothing = model.predict(frame, modalities=[])
    np.testing.assert_allclose(found[[3, 7]], nothing[[3, 7]], rtol=1e-9)
    coef = np.diff(nothing) / np.diff(frame["dose"])
    np.testing.assert_allclose(coef, coef[0], rtol=1e-6)
    for names in ([], ["rna"]):
        curves = model.predict_survival_function(frame, times=[0.5], modalities=names)
        hazard = model.predict_cumulative_hazard_function(frame, times=[0.5], modalities=names)
        np.testing.assert_allclose(np.exp(-hazard), curves, rtol=1e-9)
        np.testing.assert_array_equal(
            model.predict_median(frame, modalities=names),
            model.predict_quantile(frame, 0.5, modalities=names),
        )
        area = model.predict_restricted_mean(frame, 0.5, modalities=names)
        assert ((area <= 0.5) & (area >= 0.5 * curves.iloc[:, 0])).all()
        risk = model.predict(frame, modalities=names)
        assert model.score(frame, y, modalities=names) == concordance_index(y, risk)


def test_scores_and_probabilities_of_some_modalities() -> None:
    frame, y = cohort_for("classifier", missing=0.0)
    model = three("classifier", "gated").fit(frame, y)
    proba = model.predict_proba(frame, modalities=["rna"])
    np.testing.assert_array_equal(model.predict_log_proba(frame, modalities=["rna"]), np.log(proba))
    logit = model.decision_function(frame, modalities=["rna"])
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), proba[:, 1])
    guess = model.predict(frame, modalities=["rna"])
    assert model.score(frame, y, modalities=["rna"]) == np.mean(guess == y)
    frame, y = cohort_for("regressor", missing=0.0)
    model = three("regressor", "gated").fit(frame, y)
    error = y - model.predict(frame, modalities=["clinic", "rna"])
    wanted = 1 - np.mean(error**2) / np.var(y)
    assert model.score(frame, y, modalities=["clinic", "rna"]) == pytest.approx(wanted)


def test_files_of_modalities_not_asked_for_are_not_opened() -> None:
    frame, y = cohort_for("regressor", missing=0.0)
    model = three("regressor", "concat").fit(frame, y)
    gone = frame.assign(image="no/such/file.png")
    np.testing.assert_array_equal(
        model.predict(gone, modalities=["rna"]), model.predict(frame, modalities=["rna"])
    )
    with pytest.raises(ValueError, match="cannot read the image"):
        model.predict(gone)


@pytest.mark.parametrize("fusion", EVERY)
def test_columns_of_modalities_not_asked_for_may_be_lacking(fusion: str) -> None:
    frame, y = cohort_for("cox", 60, missing=0.0)
    frame["dose"] = np.linspace(-1, 1, 60)
    frame["site"] = np.arange(60) % 2
    model = three("cox", fusion, structured="dose", strata="site").fit(frame, y)
    lacking = frame[[c for c in frame if c in ("dose", "site", *GENES)]]
    given = lacking.copy()
    for asked, part in (["rna"], lacking), ([], frame[["dose", "site"]]):
        np.testing.assert_array_equal(
            model.predict(part, modalities=asked), model.predict(frame, modalities=asked)
        )
        pd.testing.assert_frame_equal(
            model.predict_survival_function(part, modalities=asked),
            model.predict_survival_function(frame, modalities=asked),
        )
    pd.testing.assert_frame_equal(lacking, given)
    with pytest.raises(ValueError, match="not found in the table"):
        model.predict(lacking)
    for column in ("gene_3", "dose"):
        with pytest.raises(ValueError, match=f"'{column}' not found in the table"):
            model.predict(lacking.drop(columns=column), modalities=["rna"])
    with pytest.raises(ValueError, match=r"strata parameter must name a column of X\. Got 'site'"):
        model.predict_survival_function(lacking.drop(columns="site"), modalities=["rna"])
    other = lacking.assign(new=1.0)[["new", *lacking.columns[::-1]]]
    np.testing.assert_array_equal(
        model.predict(other, modalities=["rna"]), model.predict(frame, modalities=["rna"])
    )


def test_what_may_be_asked_for() -> None:
    frame, y = cohort_for("regressor", missing=0.0)
    model = three("regressor", "concat").fit(frame, y)
    known = r"\['scan', 'rna', 'clinic'\]"
    with pytest.raises(ValueError, match=rf"{known}. Got 'clinc'. Did you mean 'clinic'\?"):
        model.predict(frame, modalities=["rna", "clinc"])
    with pytest.raises(TypeError, match=r"must be a list of names .* Got 'rna'"):
        model.predict(frame, modalities="rna")
    with pytest.raises(ValueError, match=rf"empty only beside a formula .* some of {known}"):
        model.predict(frame, modalities=[])
    lacking = without(frame, [2], GENES)
    with pytest.raises(ValueError, match=r"no modality present: 'patient_2'\. .* \['rna'\]"):
        model.predict(lacking, modalities=["rna"])


@pytest.mark.parametrize("collection", [np.array, pd.Index, pd.Series, tuple, set, dict.fromkeys])
def test_any_collection_of_names_may_be_asked_for(collection: Any) -> None:
    frame, y = cohort_for("regressor", missing=0.0)
    model = three("regressor", "concat").fit(frame, y)
    names = ["clinic", "rna"]
    np.testing.assert_array_equal(
        model.predict(frame, modalities=collection(names)), model.predict(frame, modalities=names)
    )
    with pytest.raises(ValueError, match="Got 'clinc'"):
        model.predict(frame, modalities=collection(["rna", "clinc"]))
    with pytest.raises(ValueError, match="empty only beside a formula"):
        model.predict(frame, modalities=collection([]))


def test_a_member_without_events_is_refused_before_any_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame, y = cohort_for("cox", 40)
    genes = [column for column in frame if str(column).startswith("gene_")]
    frame.loc[frame.index[y["event"]], genes] = np.nan

    def trained(*_: object) -> None:
        raise AssertionError("a network was trained")

    monkeypatch.setattr("mmfusion.model.learning.train", trained)
    with pytest.raises(ValueError, match=r"that have 'rna' hold no events"):
        make_model("cox", "late").fit(frame, y)
