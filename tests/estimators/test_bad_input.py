"""Each bad input has its own message, which names the column, the row or the parameter."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_validate

from mmfusion.estimators import FusionClassifier, FusionCox, FusionPAMM, FusionRegressor
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.heads import GaussianHead
from mmfusion.modalities import Genes, Image, Tabular
from mmfusion.survival import surv
from tests.estimators.common import ESTIMATORS, cohort_for, make_model


@pytest.fixture
def data() -> tuple[pd.DataFrame, np.ndarray]:
    return cohort_for("cox", missing=0.0)


def table(**params: Any) -> FusionCox:
    """Return a small model of the clinical columns alone."""
    clinic = Tabular(["age", "sex", "stage"], hidden=(4,))
    return make_model("cox", modalities={"clinic": clinic}, **{"epochs": 2, **params})


# --- outcomes ------------------------------------------------------------------------------------


def outcome(y: np.ndarray, **changes: tuple[int, float]) -> tuple[np.ndarray, ...]:
    """Return the parts of `y` with one value each replaced."""
    parts = {"time": y["time"].copy(), "event": y["event"].astype(float)}
    for part, (row, value) in changes.items():
        if part == "entry":
            parts[part] = np.zeros(len(y))
        parts[part][row] = value
    return tuple(parts.values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time": (3, -1.0)}, r"must not be negative. Got row 'patient_3' \(-1\)"),
        ({"time": (3, np.nan)}, r"must not be missing \(NaN\). Got row 'patient_3'"),
        ({"time": (3, np.inf)}, r"must be finite. Got row 'patient_3' \(inf\)"),
        ({"event": (3, 2.0)}, r"must be 0 or 1, .* Got row 'patient_3' \(2\)"),
        ({"event": (3, 0.5)}, r"must be 0 or 1, .* Got row 'patient_3' \(0.5\)"),
        ({"event": (3, np.nan)}, r"Events in y must not be missing \(NaN\). Got row 'patient_3'"),
        (
            {"entry": (3, 1e9)},
            r"must be before the time of event .* Got row 'patient_3' \(1e\+09\)",
        ),
        ({"entry": (3, np.nan)}, r"Entry times in y must not be missing .* 'patient_3'"),
    ],
)
def test_bad_outcomes_name_the_row(
    data: tuple[pd.DataFrame, np.ndarray], changes: dict[str, Any], message: str
) -> None:
    frame, y = data
    with pytest.raises(ValueError, match=message):
        table().fit(frame, outcome(y, **changes))


def test_an_entry_at_the_exit_is_refused(data: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, y = data
    with pytest.raises(ValueError, match=r"must be before .* 'patient_5'"):
        table().fit(frame, outcome(y, entry=(5, y["time"][5])))


def test_no_events(data: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, y = data
    with pytest.raises(ValueError, match=r"at least one event. Got 40 rows, all censored"):
        table().fit(frame, surv(y["time"], np.zeros(40)))


def test_a_time_of_zero_is_kept(data: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, y = data
    y["time"][2], y["event"][2] = 0.0, True
    model = table().fit(frame, y)
    assert model.event_times_[0] == 0.0
    curves = model.predict_survival_function(frame, times=[0.0, 1.0])
    assert (curves[0.0] < 1.0).all()


def test_different_lengths(data: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, y = data
    for kind in ESTIMATORS:
        X, target = cohort_for(kind, missing=0.0)
        with pytest.raises(ValueError, match=r"(40 rows|\(40\)).*39"):
            make_model(kind).fit(X, target[:-1])
    with pytest.raises(ValueError, match=r"same length. Got: time has 40, event has 39"):
        table().fit(frame, (y["time"], y["event"][:-1]))
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(39,\), expected \(40,\)"):
        table().fit(frame, y, sample_weight=np.ones(39))


@pytest.mark.parametrize("kind", ["cox", "discrete", "pamm"])
def test_scoring_an_outcome_of_another_length(kind: str) -> None:
    frame, y = cohort_for(kind, missing=0.0)
    model = make_model(kind).fit(frame, y)
    with pytest.raises(ValueError, match=r"y parameter must have as many rows as X \(40\). Got 39"):
        model.score(frame, y[:-1])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "requires y to be passed"),
        (np.ones(40), "a single column of numbers cannot tell an event from censoring"),
        (np.ones((40, 2)), r"Got an array of shape \(40, 2\). Use surv"),
        (
            pd.DataFrame({"months": np.ones(40), "event": np.ones(40)}),
            r"must be 'time', 'event' and, .* Got \['months', 'event'\]",
        ),
    ],
)
def test_what_is_no_outcome(data: tuple[pd.DataFrame, np.ndarray], y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table().fit(data[0], y)


def test_dates_and_text_are_no_times(data: tuple[pd.DataFrame, np.ndarray]) -> None:
    dates = pd.Series(pd.date_range("2020-01-01", periods=40))
    with pytest.raises(TypeError, match=r"Times in y must be numbers. Got dtype datetime64"):
        table().fit(data[0], (dates, np.ones(40)))


def test_classes_and_numbers() -> None:
    frame, y = cohort_for("classifier", missing=0.0)
    with pytest.raises(ValueError, match=r"needs at least 2 classes in y; got 1 class"):
        make_model("classifier").fit(frame, np.repeat("old", 40))
    with pytest.raises(ValueError, match=r"classes not seen in training: \['dead'\]"):
        make_model("classifier").fit(frame, y, eval_set=(frame, np.repeat("dead", 40)))
    frame, y = cohort_for("regressor", missing=0.0)
    y[3] = np.nan
    with pytest.raises(ValueError, match=r"y contains NaN, in row\(s\) 'patient_3'\. Leave"):
        make_model("regressor").fit(frame, y)


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA])
@pytest.mark.parametrize("as_list", [False, True])
def test_missing_classes_name_the_rows(missing: Any, as_list: bool) -> None:
    frame, y = cohort_for("classifier", missing=0.0)
    frame.index = frame.index.where(np.arange(40) != 5, 17)
    gaps = y.astype(object)
    gaps[[3, 5]] = missing
    gaps = gaps.tolist() if as_list else gaps
    with pytest.raises(ValueError, match=r"y contains NaN, in row\(s\) 'patient_3', 17\. Leave"):
        make_model("classifier").fit(frame, gaps)
    with pytest.raises(ValueError, match=r"y contains NaN, in row\(s\) 'patient_3', 17\. Leave"):
        make_model("classifier").fit(frame, y, eval_set=(frame, gaps))


def test_what_is_no_finite_number_names_the_rows() -> None:
    frame, y = cohort_for("regressor", missing=0.0)
    gaps = pd.Series(y, dtype="Float64")
    gaps[:7] = pd.NA
    with pytest.raises(ValueError, match=r"NaN, in row\(s\) 'patient_0', .* and 2 more"):
        make_model("regressor").fit(frame, gaps)
    y[8] = -np.inf
    with pytest.raises(ValueError, match=r"infinity, in row\(s\) 'patient_8'"):
        make_model("regressor").fit(frame, y[:, None])
    with pytest.raises(ValueError, match=r"infinity, in row\(s\) 8"):
        GaussianHead().fit_outcome(y)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-1.0, "finite numbers, none negative. Got -1.0 at position 4"),
        (np.nan, "finite numbers, none negative. Got nan at position 4"),
    ],
)
def test_bad_weights(data: tuple[pd.DataFrame, np.ndarray], weight: float, message: str) -> None:
    frame, y = data
    weights = np.ones(40)
    weights[4] = weight
    with pytest.raises(ValueError, match=message):
        table().fit(frame, y, sample_weight=weights)
    with pytest.raises(ValueError, match=r"must hold a number above zero. All are 0"):
        table().fit(frame, y, sample_weight=np.zeros(40))


def test_weights_that_leave_no_event(data: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, y = data
    with pytest.raises(ValueError, match=r"event"):
        table().fit(frame, y, sample_weight=1.0 - y["event"])


# --- tables --------------------------------------------------------------------------------------


def test_an_unknown_column_has_its_nearest_names_named(
    data: tuple[pd.DataFrame, np.ndarray],
) -> None:
    frame, y = data
    for modality in (Tabular(["agee"]), Genes(["agee"]), Image("agee")):
        with pytest.raises(ValueError, match=r"Column 'agee' not found in the table. .* 'age'"):
            make_model(modalities={"x": modality}).fit(frame, y)
    with pytest.raises(ValueError, match=r"'ENSG"):
        make_model(modalities={"x": Genes("ENSG*")}).fit(frame, y)
    for strata in ("site", ["sex", "site"]):
        message = rf"strata parameter must name a column of X. Got {re.escape(repr(strata))}"
        for given in ({}, {"modalities": None}):
            with pytest.raises(ValueError, match=message):
                table(strata=strata).set_params(**given).fit(frame, y)


def test_columns_at_predict_must_be_those_of_fit(data: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, y = data
    model = table().fit(frame, y)
    with pytest.raises(ValueError, match="Column 'sex' not found in the table"):
        model.predict(frame.drop(columns="sex"))
    np.testing.assert_array_equal(model.predict(frame.assign(new=1.0)), model.predict(frame))
    twice = pd.concat([frame, frame[["age"]]], axis=1)
    with pytest.raises(ValueError, match=r"several columns of the same name: \['age'\]"):
        table().fit(twice, y)


def test_empty_tables(data: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, y = data
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        table().fit(frame.iloc[:0], y[:0])
    model = table().fit(frame, y)
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        model.predict(frame.iloc[:0])
    with pytest.raises(ValueError, match=r"0 feature\(s\)"):
        FusionCox().fit(frame[[]], y)


def test_an_unreadable_image_is_named_with_path_and_row(
    data: tuple[pd.DataFrame, np.ndarray], tmp_path: Any
) -> None:
    frame, y = data
    broken = tmp_path / "broken.png"
    broken.write_text("this is no image")
    scan = {"scan": Image("image", size=8, channels="L")}
    for cell, what in ((str(broken), "broken.png"), (str(tmp_path / "none.png"), "none.png")):
        other = frame.assign(
            image=pd.Series([cell, *frame["image"].iloc[1:]], frame.index, dtype=object)
        )
        with pytest.raises(ValueError, match=f"Column 'image', row 'patient_0'.*{what}"):
            make_model(modalities=scan).fit(other, y)
    other = frame.assign(
        image=pd.Series([3.5, *frame["image"].iloc[1:]], frame.index, dtype=object)
    )
    with pytest.raises(ValueError, match=r"Column 'image', row 'patient_0': .* Got float"):
        make_model(modalities=scan).fit(other, y)


def test_constant_and_empty_columns(data: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, y = data
    frame = frame.assign(same=1.0, nothing=np.nan)
    model = make_model(modalities={"x": Tabular(["age", "same", "nothing"])}, epochs=2)
    with (
        pytest.warns(UserWarning, match=r"one value in the training rows to 0: 'same'"),
        pytest.warns(UserWarning, match=r"without a value in the training rows: 'nothing'"),
    ):
        model.fit(frame, y)
    risk = model.predict(frame)
    assert np.isfinite(risk).all()
    np.testing.assert_array_equal(model.predict(frame.assign(same=9.0, nothing=3.0)), risk)
    with pytest.raises(ValueError, match=r"columns 'nothing' are missing in all of the 40 rows"):
        make_model(modalities={"x": Tabular(["nothing"])}).fit(frame, y)


def test_fewer_rows_than_folds(data: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, y = data
    with pytest.raises(
        ValueError, match=r"n_splits=5 greater than the number of samples: n_samples=4"
    ):
        cross_validate(table(), frame.iloc[:4], y[:4], cv=5)


def test_unseen_categories(data: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, y = data
    model = table().fit(frame, y)
    strange = frame.assign(sex=["x", *frame["sex"].iloc[1:]])
    with pytest.warns(UserWarning, match=r"Column 'sex' holds categories .* not in the .*: 'x'"):
        found = model.predict(strange)
    np.testing.assert_array_equal(found[1:], model.predict(frame)[1:])
    assert np.isfinite(found[0])


def test_an_eval_set_that_is_no_tuple(data: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, y = data
    with pytest.raises(TypeError, match=r"eval_set parameter must be a tuple \(X, y\). Got Data"):
        table().fit(frame, y, eval_set=frame)


def test_an_unseen_stratum(data: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, y = data
    model = table(strata="sex").fit(frame, y)
    strange = frame.assign(sex=["x", *frame["sex"].iloc[1:]])
    with pytest.raises(ValueError, match=r"'x'"), pytest.warns(UserWarning, match=r"'sex'"):
        model.predict_survival_function(strange, times=[1.0])


def test_missing_strata_are_named_by_their_rows(data: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, y = data
    frame = frame.assign(site=np.arange(40) % 2.0)
    model = table(strata="site").fit(frame, y)
    gone = frame.assign(site=[0.0, np.nan, *frame["site"].iloc[2:]])
    message = "strata parameter must have no missing labels. Got some in rows 'patient_1'"
    with pytest.raises(ValueError, match=message):
        table(strata="site").fit(gone, y)
    with pytest.raises(ValueError, match=message):
        model.predict_survival_function(gone, times=[1.0])
    with pytest.raises(ValueError, match=message):
        model.predict_median(gone)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (pd.date_range("2020-01-01", periods=40), "Column 'x' holds dates"),
        ([1, "two"] * 20, "Column 'x' mixes numbers and text: 1 in row 'patient_0', 'two' in row"),
        (
            [{"a": 1}] * 40,
            "Column 'x' must hold numbers or categories. Got dict in row 'patient_0'",
        ),
        ([np.inf, *range(39)], "Column 'x' must hold finite numbers .* in row 'patient_0'"),
    ],
)
def test_wrong_dtypes(data: tuple[pd.DataFrame, np.ndarray], cells: Any, message: str) -> None:
    frame, y = data
    frame = frame.assign(x=pd.Series(list(cells), frame.index))
    with pytest.raises(ValueError, match=message):
        make_model(modalities={"x": Tabular(["x"])}).fit(frame, y)


def test_text_where_numbers_were(data: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, y = data
    model = table().fit(frame, y)
    with pytest.raises(ValueError, match=r"Column 'age' must hold numbers. Got 'old' in row"):
        model.predict(frame.assign(age="old"))
    with pytest.raises(ValueError, match=r"Column 'sex' must hold numbers. Got 'f|Got 'm"):
        make_model(modalities={"x": Genes(["sex"])}).fit(frame, y)


# --- parameters ----------------------------------------------------------------------------------

BAD_PARAMETERS: list[tuple[str, Any, type[Exception], str]] = [
    ("epochs", 0, ValueError, r"epochs parameter must be an integer in \[1, inf\]. Got 0"),
    ("epochs", 1.5, TypeError, "epochs parameter must be an integer. Got 1.5"),
    ("batch_size", 1, ValueError, "batch_size parameter must be an integer or None"),
    ("training__micro_batch_size", 0, ValueError, "micro_batch_size"),
    ("learning_rate", 0.0, ValueError, r"learning_rate parameter must be a number in \(0, inf\]"),
    ("learning_rate", "fast", TypeError, "learning_rate parameter must be a number. Got 'fast'"),
    ("learning_rate", np.nan, ValueError, "learning_rate"),
    ("training__weight_decay", -1.0, ValueError, "weight_decay"),
    ("training__warmup", 1.5, ValueError, r"warmup parameter must be a number in \[0, 1\]"),
    ("training__clip_norm", 0.0, ValueError, "clip_norm"),
    ("patience", 0, ValueError, "patience"),
    ("validation_fraction", 1.0, ValueError, r"validation_fraction .* in \(0, 1\)"),
    ("training__ema", 1.0, ValueError, r"ema .* in \(0, 1\)"),
    ("modality_dropout", 1.0, ValueError, r"modality_dropout .* in \[0, 1\)"),
    ("modality_dropout", {"scan": 1.0}, ValueError, r"modality_dropout\['scan'\] .* in \[0, 1\)"),
    ("modality_dropout", {"scan": "x"}, TypeError, r"modality_dropout\['scan'\] .* Got 'x'"),
    ("modality_dropout", {"clnic": 0.1}, ValueError, "modality_dropout .* Did you mean 'clinic'"),
    ("verbose", -1, ValueError, "verbose"),
    ("verbose", "yes", TypeError, "verbose parameter must be an integer. Got 'yes'"),
    ("device", "gpu", ValueError, "device parameter must be 'auto', 'cpu', .* Got 'gpu'"),
    ("device", "cpu:1", ValueError, "device parameter must be .* Got 'cpu:1'"),
    ("training__precision", "16", ValueError, "precision parameter must be one of .* Got '16'"),
    (
        "training__callbacks",
        [print],
        TypeError,
        "callbacks parameter must be a list of .*Callback objects",
    ),
    ("training__callbacks", print, TypeError, "callbacks parameter must"),
    ("training", {"ema": 0.9}, TypeError, r"must be a mmfusion.*Training object or None. Got {"),
    ("ties", "exact", ValueError, "ties parameter must be one of .*'efron', 'breslow'"),
    ("ties", "efrn", ValueError, "Did you mean 'efron'?"),
    ("fusion", "gatd", ValueError, "Got 'gatd'. Did you mean 'gated'"),
    ("fusion", 3, TypeError, "fusion parameter must be one of .* Got 3"),
    ("fusion", EarlyFusion, TypeError, "fusion parameter must be one of"),
    ("fusion", JointFusion("concatt"), ValueError, "Did you mean 'concat'"),
    ("fusion", JointFusion(dim=0), ValueError, "dim parameter of JointFusion"),
    ("fusion", EarlyFusion(hidden=(0,)), ValueError, "hidden parameter of EarlyFusion"),
    ("fusion", LateFusion(dropout=1.0), ValueError, "dropout parameter of LateFusion"),
    ("modalities", {}, ValueError, "must hold at least one modality"),
    ("modalities", [Tabular()], TypeError, "must be a dict of name to Tabular"),
    ("modalities", {"a__b": Tabular()}, ValueError, "without '__' and '.'. Got 'a__b'"),
    ("modalities", {"a": "age"}, TypeError, "Modality 'a' must be a Tabular, .* Got 'age'"),
    ("modalities", {"a": Tabular}, TypeError, "Modality 'a' must be"),
    ("modalities", {"a": Tabular(["age"], encoder="mpl")}, ValueError, "Did you mean 'mlp'"),
    ("modalities", {"a": Genes("gene_*", encoder="sn")}, ValueError, "Did you mean 'snn'"),
    ("modalities", {"a": Image("image", encoder="resnet81")}, ValueError, "mean .*'resnet18'"),
    ("modalities", {"a": Image("image", size=0)}, ValueError, "size parameter of Image"),
    ("modalities", {"a": Image("image", channels="RGBA")}, ValueError, "channels parameter of"),
    ("modalities", {"a": Image("image", freeze="some")}, ValueError, "freeze parameter of Image"),
    ("modalities", {"a": Tabular(["age"], encoding="hot")}, ValueError, "encoding parameter of"),
    ("random_state", "seed", ValueError, "seed"),
]


@pytest.mark.parametrize(("name", "value", "error", "message"), BAD_PARAMETERS)
def test_bad_parameters(
    data: tuple[pd.DataFrame, np.ndarray],
    name: str,
    value: Any,
    error: type[Exception],
    message: str,
) -> None:
    model = table().set_params(**{name: value})  # nothing is checked before fit
    with pytest.raises(error, match=message):
        model.fit(*data)


@pytest.mark.parametrize("device", ["cuda:99", "cuda:7", "mps"])
def test_a_device_that_is_not_there(data: tuple[pd.DataFrame, np.ndarray], device: str) -> None:
    with pytest.raises(ValueError, match=f"device={device!r} was asked for, but this machine has"):
        table(device=device).fit(*data)


@pytest.mark.parametrize("fusion", ["early", "late"])
def test_layers_of_a_modality_name_it(data: tuple[pd.DataFrame, np.ndarray], fusion: str) -> None:
    clinic = Tabular(["age", "sex"], hidden=8)  # type: ignore[arg-type]
    model = make_model(fusion=fusion, modalities={"clinic": clinic})
    message = r"Modality 'clinic': The hidden parameter of Tabular must be .* Got 8\."
    with pytest.raises(ValueError, match=message):
        model.fit(*data)
    with pytest.raises(ValueError, match=message):
        model._validate_params()


def test_unknown_nested_parameters() -> None:
    model = make_model()
    with pytest.raises(ValueError, match=r"no modality 'ct'; there are .*'clinic', 'rna', 'scan'"):
        model.set_params(modalities__ct__size=32)
    with pytest.raises(ValueError, match=r"Invalid parameter 'sizes' for estimator Image"):
        model.set_params(modalities__scan__sizes=32)
    with pytest.raises(ValueError, match=r"Invalid parameter"):
        model.set_params(fusion__width=32)  # "concat" is a name, with no parameters


# --- before fit, and arguments of predictions ----------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "method", "arguments"),
    [
        (FusionCox, "predict", ()),
        (FusionCox, "predict_survival_function", ()),
        (FusionCox, "predict_cumulative_hazard_function", ()),
        (FusionCox, "predict_median", ()),
        (FusionCox, "predict_quantile", (0.5,)),
        (FusionCox, "predict_restricted_mean", (1.0,)),
        (FusionCox, "score", (None,)),
        (FusionClassifier, "predict", ()),
        (FusionClassifier, "predict_proba", ()),
        (FusionClassifier, "predict_log_proba", ()),
        (FusionClassifier, "decision_function", ()),
        (FusionClassifier, "score", (None,)),
        (FusionRegressor, "predict", ()),
        (FusionRegressor, "score", (None,)),
    ],
)
def test_predictions_before_fit(
    data: tuple[pd.DataFrame, np.ndarray], estimator: type, method: str, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(NotFittedError, match=f"This {estimator.__name__} instance is not fitted"):
        getattr(estimator(), method)(data[0], *arguments)


@pytest.mark.parametrize("name", ["network_", "event_times_", "history_", "scale_", "modalities_"])
def test_fitted_attributes_before_fit(name: str) -> None:
    for estimator in ESTIMATORS.values():
        assert not hasattr(estimator(), name)


def test_saving_before_fit(tmp_path: Any) -> None:
    with pytest.raises(NotFittedError, match=r"not fitted"):
        FusionCox().save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        (
            "predict_survival_function",
            ([-1.0],),
            "times parameter must hold finite times, none neg",
        ),
        ("predict_survival_function", ([np.nan],), "times parameter"),
        ("predict_survival_function", ([],), "times parameter"),
        ("predict_cumulative_hazard_function", ([[1.0]],), "times parameter"),
        ("predict_quantile", (0.0,), r"q parameter must be a number in \(0, 1\). Got 0.0"),
        ("predict_quantile", (1.0,), "q parameter"),
        ("predict_restricted_mean", (0.0,), r"horizon parameter must be a number in \(0, inf\)"),
        ("predict_restricted_mean", (np.inf,), "horizon parameter"),
    ],
)
def test_bad_arguments_of_predictions(
    data: tuple[pd.DataFrame, np.ndarray], method: str, arguments: tuple[Any, ...], message: str
) -> None:
    frame, y = data
    model = table(epochs=1).fit(frame, y)
    with pytest.raises(ValueError, match=message):
        getattr(model, method)(frame, *arguments)


def test_scoring_censored_rows_only(data: tuple[pd.DataFrame, np.ndarray]) -> None:
    frame, y = data
    model = table(epochs=1).fit(frame, y)
    with pytest.raises(ValueError, match=r"at least one event"):
        model.score(frame, surv(y["time"], np.zeros(40)))


@pytest.mark.parametrize("size", [1e200, 1e-200])
@pytest.mark.parametrize("kind", [FusionCox, FusionPAMM, FusionRegressor])
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_outcomes_without_squares(kind: Any, size: float) -> None:
    """Their squares overflow, or all are 0: R² was 1, the risk of PAMM constant."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=20)})
    y = rng.exponential(size=20).clip(max=2)
    y = y if kind is FusionRegressor else surv(y, np.ones(20))
    kind(modalities={}, structured="x").fit(frame, y)
    big = y * size if kind is FusionRegressor else surv(y["time"] * size, y["event"])
    with pytest.raises(ValueError, match=r"largest value lies between 1e-30 and 1e\+30. Got 2e"):
        kind(modalities={}, structured="x").fit(frame, big)
