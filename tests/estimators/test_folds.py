"""Folds of late fusion, of cross-fitting and of double machine learning."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest

from mmfusion.estimators import FusionClassifier, FusionCox, FusionDiscreteTime, FusionRegressor
from mmfusion.fusion import JointFusion, LateFusion
from mmfusion.heads import GaussianHead
from mmfusion.modalities import Tabular
from mmfusion.model.dealing import deal_taught
from mmfusion.objectives import Correlation, Similarity
from mmfusion.survival import check_survival, surv
from mmfusion.training import Callback, Training

pytestmark = pytest.mark.usefixtures("one_network")

QUICK: dict[str, Any] = {"epochs": 1, "device": "cpu", "random_state": 0}
INPUTS = {"a": Tabular(["a"], hidden=()), "b": Tabular(["b"], hidden=())}
STACK = LateFusion("stack", dim=4, hidden=(), folds=4)


def draw(n: int = 80) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "x"])
    frame["arm"] = (rng.random(n) < 0.5).astype(float)
    return frame, surv(rng.exponential(size=n) + 0.1, rng.random(n) < 0.7)


class Interrupt(Callback):
    """Presses Ctrl-C once, in the first epoch of a training counted from 1."""

    left: ClassVar[int] = 0  # of the class: each fold has a copy

    def on_epoch_end(self, *args: Any, **kwargs: Any) -> None:
        Interrupt.left -= 1
        if Interrupt.left == 0:
            raise KeyboardInterrupt


# --- dealing --------------------------------------------------------------------------------------


def test_clusters_are_dealt_until_each_training_part_has_each_class() -> None:
    """Both clusters of the rare class may be held out together, in a deal or two."""
    rng = np.random.default_rng(0)
    tried = 0
    for seed in range(60):
        cluster = rng.integers(0, 7, size=100)
        labels = rng.integers(0, 2, size=100)
        labels[(cluster == 5) | (cluster == 6)] = 2
        required = {f"class {k}": labels == k for k in range(3)}
        for train, held in deal_taught(labels, required, cluster, 2, seed, "?"):
            assert set(labels[train]) == {0, 1, 2}
            assert not set(cluster[train]) & set(cluster[held])
            tried += 1
    assert tried == 120


@pytest.mark.parametrize(
    ("model", "y", "message"),
    [
        (
            FusionClassifier(INPUTS, STACK),
            ["p", "q"] * 39 + ["r", "q"],
            "Got class 'r' in 1; use L",
        ),
        (
            FusionClassifier(INPUTS, structured="x", inference="cross_fit"),
            ["p", "q"] * 39 + ["r", "q"],
            "Got class 'r' in 1; use inference='model'",
        ),
        (FusionCox(INPUTS, STACK), surv(np.arange(1, 81), np.arange(80) == 3), "Got event in 1"),
        (
            FusionCox(INPUTS, structured="x", inference="cross_fit"),
            surv(np.arange(1, 81), np.arange(80) == 3),
            "Got event in 1",
        ),
        (
            FusionDiscreteTime(INPUTS, STACK, loss="deephit", cuts=[20]),
            surv(np.arange(1, 81), np.where(np.arange(80) == 79, 2, np.arange(80) % 2)),
            "Got cause 2 in 1",
        ),
        (
            FusionRegressor(INPUTS, structured="x", inference="cross_fit", cluster="ward"),
            np.arange(80.0),
            r"at least 5 clusters, one a fold\. Got 3",
        ),
        (
            FusionRegressor(
                INPUTS, structured="arm", inference="double_ml", treatment="arm", cluster="ward"
            ),
            np.arange(80.0),
            r"at least 5 clusters, one a fold\. Got 3",
        ),
    ],
)
def test_what_cannot_be_dealt_is_said_before_training(model: Any, y: Any, message: str) -> None:
    frame, _ = draw()
    frame["ward"] = np.arange(80) % 3
    Interrupt.left = 1
    model.set_params(training__callbacks=[Interrupt()], **QUICK)
    outcome = np.array(y, dtype=object) if isinstance(y, list) else y
    with pytest.raises(ValueError, match=message):
        model.fit(frame, outcome)
    assert Interrupt.left == 1


def test_one_censored_row_is_no_cause_that_a_fold_lacks() -> None:
    frame, _ = draw()
    event = np.array([1, 2] * 40)
    event[0] = 0
    model = FusionDiscreteTime(INPUTS, STACK, loss="deephit", cuts=[20, 40, 80], **QUICK)
    model.fit(frame, surv(np.arange(1, 81), event))
    assert np.isfinite(model.predict(frame)).all()


def test_few_rows_are_dealt_without_strata() -> None:
    frame, _ = draw(12)
    model = FusionRegressor(INPUTS, structured="x", inference="cross_fit", patience=None, **QUICK)
    assert np.isfinite(model.fit(frame, frame["a"] + frame["x"]).effects_.loc["x", "se"])


# --- modalities that few rows have ----------------------------------------------------------------


@pytest.mark.parametrize("how", ["stack", "weighted"])
def test_a_modality_that_few_rows_have_is_left_out_of_the_folds(how: str) -> None:
    """It is a member all the same, of which nothing is known out of fold."""
    frame, y = draw()
    frame["rare"] = np.where(np.arange(80) % 20 == 0, 1.0 + frame["x"], np.nan)
    y["event"][::20] = True
    inputs = {**INPUTS, "rare": Tabular(["rare"], hidden=())}
    model = FusionCox(inputs, LateFusion(how, dim=4, hidden=(), folds=4), **QUICK).fit(frame, y)
    assert list(model.fusion_weights_.index) == ["a", "b", "rare"]
    assert np.isfinite(model.predict(frame)).all()
    effects = FusionCox(
        inputs, structured="x", inference="cross_fit", modality_dropout={"rare": 0.2}, **QUICK
    )
    assert np.isfinite(effects.fit(frame, y).effects_.loc["x", "se"])


# --- what is given --------------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{"fusion": STACK}, {"inference": "cross_fit"}])
def test_folds_take_whatever_fit_takes(params: dict[str, Any]) -> None:
    frame, y = draw()
    model = FusionCox(INPUTS, structured="x", **params, **QUICK).fit(frame, y)
    expected = model.predict(frame)
    for outcome, weight in ((check_survival(y), None), (y, 1.0), (y, np.ones(80))):
        model.fit(frame, outcome, sample_weight=weight)
        np.testing.assert_allclose(model.predict(frame), expected, atol=1e-6)


def test_curves_of_late_entries_are_not_weighed() -> None:
    frame, y = draw()
    late = surv(y["time"], y["event"], np.where(np.arange(80) % 3 == 0, y["time"] / 2, 0.0))
    model = FusionCox(INPUTS, LateFusion("weighted", "survival"), **QUICK)
    with pytest.raises(ValueError, match="Brier score, which is not defined for delayed entry"):
        model.fit(frame, late)
    model.set_params(fusion=LateFusion("mean", "survival", dim=4, hidden=())).fit(frame, late)


# --- Ctrl-C ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        (FusionCox, {"inference": "cross_fit"}),
        (FusionRegressor, {"inference": "cross_fit"}),
        (FusionRegressor, {"inference": "double_ml", "treatment": "arm"}),
    ],
)
@pytest.mark.parametrize("at_fit", [1, 2, 4])
def test_ctrl_c_leaves_the_effects_of_the_model(
    kind: Any, params: dict[str, Any], at_fit: int
) -> None:
    frame, y = draw()
    outcome = y if kind is FusionCox else frame["a"] + frame["arm"]
    settings = {"structured": "arm + x", "patience": None, **QUICK}
    plain = kind(INPUTS, **settings).fit(frame, outcome)
    Interrupt.left = at_fit
    model = kind(INPUTS, training=Training(callbacks=[Interrupt()]), **settings, **params)
    with pytest.warns(UserWarning, match="the effects are those of inference='model'"):
        model.fit(frame, outcome)
    assert model.interrupted_
    assert "inference model" in str(model.summary())
    if at_fit > 1:
        pd.testing.assert_frame_equal(model.effects_, plain.effects_)


# --- treatments of double machine learning --------------------------------------------------------


@pytest.mark.parametrize(
    ("formula", "treatment"),
    [
        ("x + arm:b", "arm:b"),
        ("x + `arm (0/1)`", "arm (0/1)"),
        ("x + np.log1p(arm)", "np.log1p(arm)"),
    ],
)
def test_the_treatment_is_taken_out_of_the_nuisances(formula: str, treatment: str) -> None:
    frame, _ = draw(200)
    frame["arm (0/1)"] = frame["arm"]
    y = frame["x"] + 0.5 * frame["arm"] * frame["b"] + np.random.default_rng(1).normal(size=200)
    model = FusionRegressor(
        {"a": Tabular(["a"], hidden=())},
        structured=formula,
        inference="double_ml",
        treatment=treatment,
        **QUICK,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        row = model.fit(frame, y).effects_.loc[treatment]
    assert abs(row["coef"] - (0.5 if ":" in treatment else 0.0)) < 4 * row["se"]
    assert row["se"] < 0.5


# --- folds within folds, few clusters, rows of one modality ---------------------------------------


def test_rows_of_a_modality_that_a_fold_leaves_out_are_left_out_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame, y = draw()
    frame["b"] = np.where(np.arange(80) % 16 == 0, frame["b"], np.nan)  # 5 rows
    frame.loc[frame.index[[0, 16]], "a"] = np.nan  # with b alone
    finished: list[np.ndarray] = []
    finish = GaussianHead.finish

    def spy(head: GaussianHead, eta: Any, target: Any) -> None:
        finished.append(eta.numpy()[:, 0])
        finish(head, eta, target)

    monkeypatch.setattr(GaussianHead, "finish", spy)
    model: Any = FusionRegressor(INPUTS, STACK, **QUICK).fit(frame, frame["x"])
    # The residual variance counts these rows by what is predicted of them.
    np.testing.assert_allclose(finished[-1][[0, 16]], model.predict(frame)[[0, 16]], atol=1e-6)
    model = FusionCox(INPUTS, STACK, **QUICK).fit(frame, y)
    assert np.isfinite(model.predict(frame)).all()
    paired = FusionCox(
        INPUTS, structured="x", inference="cross_fit", auxiliary=[Similarity()], **QUICK
    )
    assert np.isfinite(paired.fit(frame, y).effects_.loc["x", "se"])


def test_losses_that_a_fold_cannot_teach_are_left_out_of_it() -> None:
    frame, y = draw()
    frame.loc[frame.index[24:], "b"] = np.nan
    fusion = JointFusion(dim=4, hidden=())
    shared: dict[str, Any] = {"structured": "x", "batch_size": None, "patience": None, **QUICK}
    model = FusionCox(INPUTS, fusion, auxiliary=[Correlation()], inference="cross_fit", **shared)
    assert model.fit(frame, y).history_["correlation"].notna().all()
    assert np.isfinite(model.effects_.loc["x", "se"])


@pytest.mark.parametrize("n_clusters", [2, 3, 5])
def test_few_clusters_stop_early_too(n_clusters: int) -> None:
    frame, y = draw()
    frame["ward"] = [f"ward {k}" for k in np.arange(80) % n_clusters]
    model = FusionCox(INPUTS, structured="x", cluster="ward", **QUICK).fit(frame, y)
    assert model.history_["val_loss"].notna().all()
    frame["ward"] = [k if k else "none" for k in np.arange(80) % n_clusters]  # mixed labels
    late = LateFusion("stack", dim=4, hidden=(), folds=2)
    FusionCox(INPUTS, late, structured="x", cluster="ward", **QUICK).fit(frame, y)


def test_a_modality_of_one_cluster_is_never_held_out_whole() -> None:
    frame, y = draw(120)
    frame["ward"] = np.arange(120) % 8
    frame.loc[frame["ward"] > 1, "b"] = np.nan
    for seed in range(4):
        settings = QUICK | {"random_state": seed}
        model = FusionCox(INPUTS, structured="x", cluster="ward", inference="cross_fit", **settings)
        assert np.isfinite(model.fit(frame, y).effects_.loc["x", "se"])


def test_folds_within_folds_are_checked_before_training() -> None:
    frame, y = draw()
    frame["ward"] = np.arange(80) % 5
    late = LateFusion("stack", dim=4, hidden=(), folds=5)
    model = FusionCox(INPUTS, late, structured="x", cluster="ward", inference="cross_fit", **QUICK)
    with pytest.raises(ValueError, match=r"at least 5 clusters, one a fold\. Got 4; use LateF"):
        model.fit(frame, y)


def test_a_smooth_of_a_level_that_a_fold_lacks_is_held() -> None:
    frame, y = draw(120)
    frame["g"] = np.where(np.arange(120) % 6 == 0, "rare", "common")
    frame["ward"] = np.where(frame["g"] == "rare", 0, 1 + np.arange(120) % 9)
    model = FusionCox(
        INPUTS, structured="g + s(x, by=g, k=5)", cluster="ward", inference="cross_fit", **QUICK
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        effects = model.fit(frame, y).effects_
    assert "s(x):g[rare]" in effects.index


def test_a_formula_of_almost_as_many_columns_as_rows() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 51)), columns=["a", *(f"x{j}" for j in range(50))])
    formula = " + ".join(f"x{j}" for j in range(50))
    model = FusionRegressor({"a": Tabular(["a"])}, structured=formula, **QUICK)
    assert np.isfinite(model.fit(frame, rng.normal(size=60)).effects_["se"]).all()
    with pytest.raises(ValueError, match="must leave degrees of freedom"):
        model.fit(frame.iloc[:51], rng.normal(size=51))


def test_two_events_are_dealt_apart() -> None:
    y = surv(np.arange(1, 81), np.isin(np.arange(80), [3, 40]))
    for seed in range(20):
        folds = deal_taught(np.zeros(80, dtype=int), {"event": y["event"]}, None, 5, seed, "?")
        assert all(y["event"][train].any() for train, _ in folds)
