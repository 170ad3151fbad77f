"""Training through the estimators: seeds, early stopping, averages, callbacks, exactness."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lifelines import CoxPHFitter
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mmfusion.estimators import FusionCox, FusionRegressor
from mmfusion.fusion import JointFusion
from mmfusion.metrics import concordance_index
from mmfusion.modalities import Image, Tabular
from mmfusion.survival import surv
from mmfusion.training import Callback, Training, TrainingDivergedError, TrainingState, trainer
from tests.estimators.common import ESTIMATORS, FUSIONS, cohort_for, make_model, predictions

pytestmark = pytest.mark.usefixtures("one_network")


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.network_.state_dict().items()}


def assert_same_weights(a: Any, b: Any, **tolerance: float) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], **(tolerance or {"rtol": 0, "atol": 0}))


# --- seeds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("fusion", ["gated", "late"])
def test_the_same_seed_gives_the_same_weights(kind: str, fusion: str) -> None:
    frame, y = cohort_for(kind)
    options = {"modality_dropout": 0.3, "patience": 2, "validation_fraction": 0.25}
    first = make_model(kind, fusion, **options).fit(frame, y)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    second = make_model(kind, fusion, **options).fit(frame, y)
    assert_same_weights(first, second)
    pd.testing.assert_frame_equal(
        first.history_.drop(columns="seconds"), second.history_.drop(columns="seconds")
    )
    other = make_model(kind, fusion, **options, random_state=1).fit(frame, y)
    assert any(
        not torch.equal(value, weights(other)[name]) for name, value in weights(first).items()
    )


def test_the_users_random_numbers_go_on_as_if_nothing_had_happened() -> None:
    frame, y = cohort_for()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    wanted = torch.rand(3), np.random.random(3)  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    model = make_model(modality_dropout=0.3).fit(frame, y)
    model.predict(frame)
    assert torch.equal(torch.rand(3), wanted[0])
    np.testing.assert_array_equal(np.random.random(3), wanted[1])  # noqa: NPY002


def test_a_random_state_object_moves_on() -> None:
    frame, y = cohort_for()
    state = np.random.RandomState(0)
    model = make_model(random_state=state)
    first = model.fit(frame, y).predict(frame)
    assert not np.allclose(model.fit(frame, y).predict(frame), first)


def test_fitting_changes_neither_the_users_modalities_nor_the_frame() -> None:
    frame, y = cohort_for()
    before = frame.copy()
    model = make_model()
    model.fit(frame, y)
    assert not hasattr(model.modalities["clinic"], "columns_")
    assert hasattr(model.modalities_["clinic"], "columns_")
    pd.testing.assert_frame_equal(frame, before)


# --- validation, early stopping, averages --------------------------------------------------------


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_early_stopping_restores_the_best_epoch(kind: str) -> None:
    frame, y = cohort_for(kind, 60)
    held, held_y = cohort_for(kind, 40, random_state=1)
    model = make_model(kind, epochs=60, patience=3, learning_rate=0.02, training=Training(ema=None))
    model.fit(frame, y, eval_set=(held, held_y))
    history = model.history_
    assert len(history) < 60
    assert len(history) == model.best_epoch_ + 3
    target = model._head.encode(held_y, index=held.index, strata=None)
    part = model.model_.structured
    offset = part.pool_offset(part.network_offset(part.design(held)))
    eta = offset + torch.from_numpy(model.model_.members(held)[0][:, 0])
    found = float(model._head.loss(eta, target))
    lowest = history["val_loss"].min()
    if model.best_epoch_ == 0:  # only beside a model by itself, as a PAMM's baseline is
        assert part.begun
        assert found == pytest.approx(float(model._head.loss(offset, target)), rel=1e-12)
        assert found < lowest
    else:
        assert model.best_epoch_ == history.loc[history["val_loss"].idxmin(), "epoch"]
        assert found == pytest.approx(lowest, rel=1e-5)


def test_without_patience_all_rows_are_trained_on_for_all_epochs() -> None:
    frame, y = cohort_for("regressor", 60)
    model = make_model("regressor", epochs=5, patience=None).fit(frame, y)
    assert list(model.history_) == ["epoch", "loss", "learning_rate", "seconds"]
    assert model.history_["epoch"].tolist() == [1, 2, 3, 4, 5]
    assert model.best_epoch_ == 5
    assert model.interrupted_ is False


@pytest.mark.parametrize(
    ("kind", "score"),
    [("cox", "val_c_index"), ("classifier", "val_accuracy"), ("regressor", "val_r2")],
)
def test_history_has_loss_and_score_of_the_validation_rows(kind: str, score: str) -> None:
    frame, y = cohort_for(kind, 80)
    model = make_model(kind, epochs=4, patience=4, validation_fraction=0.25).fit(frame, y)
    columns = ["epoch", "loss", "learning_rate", "val_loss", score, "seconds"]
    assert list(model.history_) == columns
    assert model.history_.notna().all().all()
    late = make_model(kind, "late", epochs=2, patience=2, validation_fraction=0.25).fit(frame, y)
    assert list(late.history_) == [*columns, "model"]
    assert late.history_.groupby("model").size().to_dict() == {"scan": 2, "rna": 2, "clinic": 2}


def test_a_small_validation_part_is_trained_on_instead() -> None:
    frame, y = cohort_for("regressor", 40)  # 15 % are 6 rows, fewer than 8
    model = make_model("regressor", patience=2).fit(frame, y)
    assert "val_loss" not in model.history_
    assert len(model.history_) == 3


def test_validation_rows_are_not_trained_on() -> None:
    frame, y = cohort_for("regressor", 60)
    seen: list[pd.DataFrame] = []

    class Spy(Tabular):
        def fit(self, frame: pd.DataFrame) -> Any:
            seen.append(frame)
            return super().fit(frame)

    model = make_model("regressor", modalities={"x": Spy(["age"])}, patience=3)
    model.set_params(validation_fraction=0.25).fit(frame, y)
    assert [len(part) for part in seen] == [45]
    seen.clear()
    model.fit(frame, y, eval_set=(frame.iloc[:10], y[:10]))
    assert [len(part) for part in seen] == [60]


def test_the_average_of_the_weights_is_what_is_kept() -> None:
    frame, y = cohort_for("regressor", 40, missing=0.0)
    seen: list[dict[str, torch.Tensor]] = []

    class Watch(Callback):
        def on_epoch_end(self, state: TrainingState) -> None:
            seen.append({k: v.clone() for k, v in state.network.state_dict().items()})

    options = {"batch_size": None, "epochs": 4, "training": Training(callbacks=[Watch()], ema=0.3)}
    model = make_model("regressor", "concat", **options).fit(frame, y)
    # One step an epoch: the first sets the average; the decay is short of 0.3 at first.
    average = seen[0]
    for state, decay in zip(seen[1:], (3 / 12, 0.3, 0.3), strict=True):
        average = {k: decay * average[k] + (1 - decay) * v for k, v in state.items()}
    for name, value in weights(model).items():
        torch.testing.assert_close(value, average[name], rtol=1e-5, atol=1e-7)
    assert any(not torch.equal(v, seen[-1][k]) for k, v in weights(model).items())


def test_averaged_weights_forget_the_untrained_ones_in_a_short_training() -> None:
    # A plain decay of 0.98 would leave 0.98 ** 49 = 37 % of the coefficients to the first step's.
    frame, y = cohort_for("cox", 150, missing=0.0)
    raw = {"table": Tabular(["age"], encoder="raw")}
    options = {"batch_size": None, "patience": None, "epochs": 50, "learning_rate": 0.05}
    coefficients = [
        FusionCox(
            raw, JointFusion(hidden=()), **options, training=Training(ema=ema), random_state=0
        )
        .fit(frame, y)
        .network_.head.weight.item()
        for ema in (0.98, None)
    ]
    assert coefficients[0] == pytest.approx(coefficients[1], rel=0.05)


# --- callbacks, interruption, divergence, output -------------------------------------------------


class Log(Callback):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def on_fit_begin(self, state: TrainingState) -> None:
        self.log.append(f"{self.name} begins")

    def on_epoch_end(self, state: TrainingState) -> None:
        self.log.append(f"{self.name} {state.record['epoch']}/{state.epochs}")

    def on_fit_end(self, state: TrainingState) -> None:
        self.log.append(f"{self.name} ends after {len(state.history)}")


def test_callbacks_run_in_their_order() -> None:
    frame, y = cohort_for()
    log: list[str] = []
    training = Training(callbacks=[Log("a", log), Log("b", log)])
    make_model(epochs=2, training=training).fit(frame, y)
    assert log == [
        *("a begins", "b begins", "a 1/2", "b 1/2", "a 2/2", "b 2/2"),
        *("a ends after 2", "b ends after 2"),
    ]


def test_a_callback_stops_the_training() -> None:
    class StopAfterTwo(Callback):
        def on_epoch_end(self, state: TrainingState) -> None:
            state.stop = state.record["epoch"] == 2

    frame, y = cohort_for()
    model = make_model(epochs=50, training=Training(callbacks=[StopAfterTwo()])).fit(frame, y)
    assert len(model.history_) == 2
    assert model.interrupted_ is False


class InterruptAt(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, state: TrainingState) -> None:
        if state.record["epoch"] == self.epoch:
            raise KeyboardInterrupt


def test_ctrl_c_keeps_the_best_weights_and_the_model_is_usable() -> None:
    frame, y = cohort_for("cox", 60)
    held = cohort_for("cox", 40, random_state=1)
    log: list[str] = []
    options = {"patience": 60, "learning_rate": 0.05, "epochs": 60}
    training = Training(callbacks=[InterruptAt(12), Log("a", log)])
    model = make_model(training=training, **options)
    with pytest.warns(UserWarning, match=r"interrupted .* the weights of epoch \d+ are kept"):
        model.fit(frame, y, eval_set=held)
    assert model.interrupted_
    assert len(model.history_) == 12
    assert log[-1] == "a ends after 12"
    assert model.best_epoch_ == model.history_["val_loss"].idxmin() + 1 < 12
    assert np.isfinite(predictions(model, frame)).all()

    # The same weights as of a training that was told to stop there.
    class Stop(Callback):
        def on_epoch_end(self, state: TrainingState) -> None:
            state.stop = state.record["epoch"] == model.best_epoch_

    same = make_model(training=Training(callbacks=[Stop()]), **options)
    same.fit(frame, y, eval_set=held)
    assert_same_weights(model, same)


@pytest.mark.parametrize("ema", [None, 0.98])
def test_ctrl_c_in_the_midst_of_an_epoch_keeps_the_last_whole_one(
    ema: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, y = cohort_for("regressor")  # 3 batches an epoch
    taken, step = 0, trainer._Loop.step

    def interrupted(self: Any, *args: Any) -> torch.Tensor:
        nonlocal taken
        taken += 1
        if taken == 9:
            raise KeyboardInterrupt
        return step(self, *args)

    class Stop(Callback):
        def on_epoch_end(self, state: TrainingState) -> None:
            state.stop = state.record["epoch"] == 2

    model = make_model("regressor", epochs=5, training=Training(ema=ema))
    with monkeypatch.context() as patch:
        patch.setattr(trainer._Loop, "step", interrupted)
        with pytest.warns(UserWarning, match=r"in epoch 3; the weights of epoch 2 are kept"):
            model.fit(frame, y)
    assert model.best_epoch_ == len(model.history_) == 2
    same = clone(model).set_params(training__callbacks=[Stop()]).fit(frame, y)
    assert_same_weights(model, same)


def test_ctrl_c_before_the_first_epoch_is_done_is_an_interrupt() -> None:
    class Now(Callback):
        def on_fit_begin(self, state: TrainingState) -> None:
            raise KeyboardInterrupt

    frame, y = cohort_for()
    with pytest.raises(KeyboardInterrupt):
        make_model(training=Training(callbacks=[Now()])).fit(frame, y)


def test_an_error_in_a_callback_comes_through_and_ends_the_others() -> None:
    class Fails(Callback):
        def on_epoch_end(self, state: TrainingState) -> None:
            raise RuntimeError("mine")

    frame, y = cohort_for()
    log: list[str] = []
    training = Training(callbacks=[Log("a", log), Fails()])
    with pytest.raises(RuntimeError, match=r"mine"):
        make_model(training=training).fit(frame, y)
    assert log == ["a begins", "a 1/3", "a ends after 1"]


def test_a_loss_that_diverges_names_epoch_and_batch() -> None:
    class Poison(Callback):
        def on_epoch_end(self, state: TrainingState) -> None:
            with torch.no_grad():
                next(state.network.parameters()).fill_(torch.nan)

    frame, y = cohort_for("regressor", missing=0.0)
    with pytest.raises(TrainingDivergedError, match=r"nan in epoch 2, batch 1 of 3\. Lower learn"):
        make_model("regressor", training=Training(callbacks=[Poison()])).fit(frame, y)
    steep = {"learning_rate": 1e30, "training": Training(clip_norm=None)}
    with pytest.raises(TrainingDivergedError, match=r"epoch"):
        make_model("regressor", "concat", **steep).fit(frame, y)


@pytest.mark.parametrize(("verbose", "shown"), [(0, ""), (1, "epochs"), (2, "epoch    3  loss")])
def test_verbose(verbose: int, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    frame, y = cohort_for()
    make_model(verbose=verbose).fit(frame, y)
    out = capsys.readouterr().out
    assert (out == "") if verbose == 0 else (shown in out)
    if verbose == 1:
        assert "3/3" in out


# --- exactness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("fusion", ["concat", "gated", "early"])
def test_micro_batches_train_the_same_weights(kind: str, fusion: str) -> None:
    """Without dropout (whose masks are drawn a chunk at a time) the weights are the same."""
    frame, y = cohort_for(kind, 40, missing=0.3)
    strategy = clone(FUSIONS[fusion]).set_params(dropout=0.0)
    model = make_model(kind, strategy, batch_size=20, epochs=2)
    model.set_params(training=Training(weight_decay=0.0))
    for modality in ("rna", "clinic"):
        model.set_params(**{f"modalities__{modality}__dropout": 0.0})
    whole = clone(model).fit(frame, y)
    chunked = clone(model).set_params(training__micro_batch_size=6).fit(frame, y)
    assert_same_weights(whole, chunked, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(
        chunked.history_["loss"], whole.history_["loss"], rtol=1e-4, atol=1e-6
    )


def test_micro_batches_with_dropout_train() -> None:
    frame, y = cohort_for("cox", 40)
    options = {"batch_size": None, "modality_dropout": 0.3, "epochs": 5}
    options["training"] = Training(micro_batch_size=7)
    first = make_model(**options).fit(frame, y)
    assert_same_weights(first, make_model(**options).fit(frame, y))
    assert np.isfinite(predictions(first, frame)).all()


def linear_cox(**params: Any) -> FusionCox:
    given = {
        "epochs": 300,
        "batch_size": None,
        "patience": None,
        "learning_rate": 0.05,
        "training": Training(weight_decay=0.0, clip_norm=None),
        "random_state": 0,
        "device": "cpu",
        **params,
    }
    return FusionCox({"x": Tabular(encoder="raw")}, JointFusion(hidden=()), **given)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Return 150 rows with ties, entry times, a stratum, weights."""
    rng = np.random.default_rng(0)
    n = 150
    frame = pd.DataFrame(
        {"a": rng.normal(size=n), "b": rng.normal(size=n), "c": rng.random(n) < 0.4}
    )
    frame["c"] = frame["c"].astype(float)
    eta = 0.9 * frame["a"] - 0.5 * frame["b"] + 0.7 * frame["c"]
    site = rng.integers(0, 3, n)
    time = rng.exponential(np.exp(-eta) * (1.0 + site))
    frame["time"] = np.ceil(6 * time) / 6
    frame["event"] = rng.random(n) < 0.7
    frame["entry"] = np.where(rng.random(n) < 0.4, 0.5 * frame["time"] * rng.random(n), 0.0)
    frame["site"] = site
    frame["weight"] = rng.integers(1, 4, n).astype(float)
    return frame


@pytest.mark.parametrize("strata", [None, "site"])
@pytest.mark.parametrize("entry", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_linear_model_is_that_of_lifelines(
    table: pd.DataFrame, strata: str | None, entry: bool, weighted: bool
) -> None:
    X = table[["a", "b", "c"] + ([strata] if strata else [])]
    y = surv(table["time"], table["event"], table["entry"] if entry else None)
    weight = table["weight"] if weighted else None
    model = linear_cox(strata=strata)
    model.set_params(modalities__x__columns=["a", "b", "c"])
    model.fit(X, y, sample_weight=weight)

    columns = ["a", "b", "c", "time", "event"]
    columns += [strata] if strata else []
    columns += ["entry"] if entry else []
    columns += ["weight"] if weighted else []
    reference = CoxPHFitter().fit(
        table[columns],
        "time",
        "event",
        strata=strata,
        entry_col="entry" if entry else None,
        weights_col="weight" if weighted else None,
        robust=weighted,
    )
    wanted = table[["a", "b", "c"]].to_numpy() @ reference.params_.loc[["a", "b", "c"]].to_numpy()
    risk = model.predict(X)
    assert np.corrcoef(risk, wanted)[0, 1] > 0.999
    np.testing.assert_allclose(risk - risk.mean(), wanted - wanted.mean(), atol=0.02)
    site = table["site"] if strata else None
    found, exact = (concordance_index(y, values, strata=site) for values in (risk, wanted))
    assert abs(found - exact) < 1e-3
    assert model.score(X, y) == found


def test_survival_curves_of_a_linear_model_are_those_of_lifelines(table: pd.DataFrame) -> None:
    X = table[["a", "b", "c"]]
    rng = np.random.default_rng(1)  # without ties: lifelines has Efron's coefficients
    table = table.assign(time=table["time"] + rng.random(len(table)) / 100)
    model = linear_cox().fit(X, surv(table["time"], table["event"]))
    reference = CoxPHFitter(baseline_estimation_method="breslow").fit(
        table[["a", "b", "c", "time", "event"]], "time", "event"
    )
    times = np.quantile(table.loc[table["event"], "time"], [0.2, 0.5, 0.8], method="nearest")
    found = model.predict_survival_function(X, times=times).to_numpy()
    wanted = reference.predict_survival_function(X, times=times).to_numpy().T
    np.testing.assert_allclose(found, wanted, atol=0.005)


def test_weights_are_repetitions(table: pd.DataFrame) -> None:
    """Breslow's likelihood with weights is that of repeated rows (no scaling: it is of rows)."""
    X, y = table[["a", "b", "c"]], surv(table["time"], table["event"])
    weight = table["weight"].astype(int)
    rows = np.repeat(np.arange(len(X)), weight)
    model = linear_cox(ties="breslow", epochs=100)
    model.set_params(modalities__x__scale=False)
    weighted = clone(model).fit(X, y, sample_weight=weight).predict(X)
    repeated = clone(model).fit(X.iloc[rows], y[rows]).predict(X)
    np.testing.assert_allclose(
        weighted - weighted.mean(), repeated - repeated.mean(), rtol=1e-3, atol=1e-4
    )


def test_regression_without_hidden_layers_is_least_squares(table: pd.DataFrame) -> None:
    X, y = table[["a", "b", "c"]], table["time"].to_numpy()
    known = FusionRegressor().get_params(deep=False)
    params = {k: v for k, v in linear_cox().get_params(deep=False).items() if k in known}
    model = FusionRegressor(**params).fit(X, y)
    design = np.column_stack([np.ones(len(X)), X.to_numpy()])
    wanted = design @ np.linalg.lstsq(design, y, rcond=None)[0]
    np.testing.assert_allclose(model.predict(X), wanted, atol=0.01 * y.std())
    assert model.scale_ == pytest.approx(np.sqrt(np.mean((y - wanted) ** 2)), rel=1e-3)


# --- scikit-learn --------------------------------------------------------------------------------


def test_nested_parameters_in_a_search() -> None:
    frame, y = cohort_for("cox", 40)
    model = make_model(fusion=JointFusion(dim=4, hidden=(4,)), epochs=1)
    grid = {"modalities__rna__hidden": [(3,), (5,)], "fusion__dim": [4, 7]}
    search = GridSearchCV(model, grid, cv=KFold(2, shuffle=True, random_state=0))
    search.fit(frame, y)
    assert len(search.cv_results_["params"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_
    assert best.modalities["rna"].hidden == search.best_params_["modalities__rna__hidden"]
    assert best.fusion.dim == search.best_params_["fusion__dim"]
    assert model.modalities["rna"].hidden == (6,)  # the user's own is as it was
    assert model.fusion.dim == 4
    shapes = {tuple(value.shape) for value in best.network_.state_dict().values()}
    assert (best.modalities["rna"].hidden[0], 10) in shapes


def test_modalities_are_parameters() -> None:
    model = make_model()
    params = model.get_params()
    assert params["modalities__scan__size"] == 8
    assert params["modalities__scan"] is model.modalities["scan"]
    model.set_params(modalities__scan=Tabular(["age"]), modalities__rna__dropout=0.0)
    assert list(model.modalities) == ["scan", "rna", "clinic"]
    assert isinstance(model.modalities["scan"], Tabular)
    assert model.modalities["rna"].dropout == 0.0
    copy = clone(model)
    assert copy.modalities is not model.modalities
    assert copy.modalities["rna"] is not model.modalities["rna"]
    assert copy.modalities["rna"].dropout == 0.0


def test_setting_a_parameter_of_a_clone_leaves_the_original() -> None:
    model = make_model()
    clone(model).set_params(modalities__rna__dropout=0.9, fusion=FUSIONS["gated"])
    assert model.modalities["rna"].dropout == 0.25


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_pipelines_and_folds(kind: str) -> None:
    frame, y = cohort_for(kind, 40)
    pipeline = make_pipeline(FunctionTransformer(), make_model(kind, epochs=1))
    found = cross_validate(pipeline, frame, y, cv=KFold(2, shuffle=True, random_state=0))
    assert np.isfinite(found["test_score"]).all()


def test_modalities_are_inferred_from_a_bare_table() -> None:
    frame, y = cohort_for()
    model = FusionCox(epochs=1, strata="sex", device="cpu", random_state=0).fit(frame, y)
    assert set(model.modalities_) == {"table", "image"}
    assert "sex" not in model.modalities_["table"].columns_  # it is the stratum


def test_eval_set_may_be_all_censored() -> None:
    frame, y = cohort_for()
    censored = surv(y["time"], np.zeros(len(y)))
    with pytest.warns(UserWarning, match=r"eval_set holds no events.* all 3 epochs"):
        model = make_model(patience=2).fit(frame, y, eval_set=(frame, censored))
    assert "val_loss" not in model.history_
    assert np.isfinite(predictions(model, frame)).all()


@pytest.mark.gpu
def test_a_gpu_trains_what_the_cpu_trains() -> None:
    frame, y = cohort_for("cox", 80)
    cpu = make_model(epochs=5).fit(frame, y)
    gpu = make_model(epochs=5, device="cuda").fit(frame, y)
    assert abs(cpu.score(frame, y) - gpu.score(frame, y)) < 0.1
    mixed = make_model(epochs=5, device="cuda", training=Training(precision="bf16-mixed"))
    assert np.isfinite(predictions(mixed.fit(frame, y), frame)).all()


def test_moving_average_with_kept_features(cohort) -> None:
    # Constant features once had an infinite scale, which an average turns into NaN.
    frame, y = cohort
    image = Image("image", size=32, encoder="test_resnet", freeze="all", n_components=3)
    inputs = {"scan": image, "table": Tabular(["age", "sex"])}
    model = FusionCox(inputs, training=Training(ema=0.9), epochs=4)
    model.set_params(device="cpu", random_state=0).fit(frame, y)
    assert np.isfinite(model.predict(frame)).all()
    assert model.history_["loss"].notna().all()


@pytest.mark.parametrize("fusion", ["gated", "late"])
@pytest.mark.parametrize("search", ["grid", "cross_validate", "pipeline"])
def test_ctrl_c_stops_a_search(search: str, fusion: str) -> None:
    """A model that is half trained would be ranked, and the other candidates fitted."""
    frame, y = cohort_for()
    begun = []

    class Counted(InterruptAt):  # scikit-learn clones it
        def on_fit_begin(self, state: TrainingState) -> None:
            begun.append(state)

    model = make_model("cox", fusion, training=Training(callbacks=[Counted(2)]))
    grid = {"learning_rate": [1e-3, 3e-3]}
    fits: dict[str, Callable[[], Any]] = {
        "grid": lambda: GridSearchCV(model, grid, cv=2).fit(frame, y),
        "cross_validate": lambda: cross_validate(model, frame, y, cv=2),
        "pipeline": lambda: cross_val_score(make_pipeline("passthrough", model), frame, y, cv=2),
    }
    with pytest.warns(UserWarning, match="interrupted"), pytest.raises(KeyboardInterrupt):
        fits[search]()
    assert len(begun) == 1
    with pytest.warns(UserWarning, match="interrupted"):  # alone, or in a pipeline, it is kept
        assert make_pipeline("passthrough", model).fit(frame, y)[-1].interrupted_
