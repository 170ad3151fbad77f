"""Structured parts of several predictors, nonlinear heads and the cell in the network."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from mmfusion.estimators import FusionClassifier, FusionCox, FusionRegressor
from mmfusion.fusion import JointFusion, LateFusion
from mmfusion.modalities import Tabular
from mmfusion.survival import surv
from mmfusion.training import Training

pytestmark = pytest.mark.usefixtures("one_network")

QUICK: dict[str, Any] = {
    "epochs": 30,
    "batch_size": 64,
    "learning_rate": 0.01,
    "device": "cpu",
    "random_state": 0,
}
DEEP = {"deep": Tabular(["c", "d"], hidden=(8,))}


def draw(n: int = 400, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table and three classes, of which one depends on sin(d), another on c."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 4)), columns=list("abcd"))
    frame["g"] = rng.choice(["u", "v"], size=n)
    second = 0.5 + frame["a"] - 0.3 * frame["b"] + np.sin(2 * frame["d"])
    third = -0.2 + 0.7 * (frame["g"] == "v") + 0.5 * frame["c"]
    logits = np.column_stack([np.zeros(n), second, third])
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return frame, np.array([rng.choice(["A", "B", "C"], p=p) for p in share])


def test_without_modalities_three_classes_are_multinomial_regression() -> None:
    frame, y = draw()
    model = FusionClassifier({}, structured="a + b + g").fit(frame, y)
    design = pd.DataFrame({"one": 1.0, "a": frame["a"], "b": frame["b"]})
    design["g"] = (frame["g"] == "v").astype(float)
    theirs = sm.MNLogit(pd.Categorical(y).codes, design).fit(disp=0)
    ours = model.effects_
    assert ours.index.names == ["term", "parameter"]
    np.testing.assert_allclose(ours["coef"], theirs.params.to_numpy().T.ravel(), rtol=1e-6)
    np.testing.assert_allclose(ours["se"], theirs.bse.to_numpy().T.ravel(), rtol=1e-5)
    np.testing.assert_allclose(model.predict_proba(frame), theirs.predict(), atol=1e-8)
    assert ours.loc[("a", "B"), "coef"] == pytest.approx(1.0, abs=0.4)
    assert model.covariance_.loc["a [B]", "a [B]"] == pytest.approx(ours.loc[("a", "B"), "se"] ** 2)


def test_a_term_of_three_classes_is_tested_on_all_of_them() -> None:
    frame, y = draw()
    model = FusionClassifier({}, structured="a + b + g").fit(frame, y)
    test = model.effects_test(["a"], "likelihood_ratio", frame, y)
    smaller = FusionClassifier({}, structured="b + g").fit(frame, y)
    gain = 2 * (
        model.model_.structured.final.log_likelihood
        - smaller.model_.structured.final.log_likelihood
    )
    assert test["df"] == pytest.approx(2)
    assert test["statistic"] == pytest.approx(gain, rel=1e-8)


def test_smooth_effects_of_three_classes() -> None:
    frame, y = draw(800)
    model = FusionClassifier({}, structured="a + s(d)").fit(frame, y)
    grid = np.linspace(-1.5, 1.5, 30)
    curve = model.smooth_effect("s(d)", grid, parameter="B")["effect"]
    assert np.corrcoef(curve, np.sin(2 * grid))[0, 1] > 0.95
    assert model.effects_.loc[("s(d)", "B"), "edf"] > 3
    with pytest.raises(ValueError, match=r"parameter= must be one of \['B', 'C'\]"):
        model.smooth_effect("s(d)", grid)


@pytest.mark.parametrize("orthogonalization", ["post_hoc", "online", "two_stage", None])
@pytest.mark.parametrize("head", ["additive", "nonlinear"])
def test_three_classes_beside_a_network(
    head: str, orthogonalization: str | None, tmp_path: Path
) -> None:
    frame, y = draw()
    settings = QUICK | {"patience": None}
    model = FusionClassifier(
        DEEP, structured="a + b + g", head=head, orthogonalization=orthogonalization, **settings
    ).fit(frame, y)
    share = model.predict_proba(frame)
    assert model.deep_share_ > 0.02
    np.testing.assert_allclose(model.predict_proba(frame[3:4]), share[3:4], rtol=1e-4)
    model.save(tmp_path / "model")
    loaded = FusionClassifier.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.predict_proba(frame), share, rtol=1e-6)
    pd.testing.assert_frame_equal(loaded.effects_, model.effects_)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(model)).predict_proba(frame), share)


@pytest.mark.parametrize("kind", ["cox", "regressor", "late"])
def test_the_cell_leaves_nothing_of_the_design_in_the_network(kind: str) -> None:
    rng = np.random.default_rng(1)
    frame, _ = draw(300)
    frame["c"] = frame["a"] + 0.3 * frame["c"]  # the networks could say what a says
    number = frame["a"] + np.sin(2 * frame["d"]) + 0.5 * rng.normal(size=300)
    settings = {"structured": "a + g", "orthogonalization": "online"} | QUICK
    if kind == "cox":
        time = rng.exponential(np.exp(-number))
        model: Any = FusionCox(DEEP, **settings).fit(frame, surv(time, np.ones(300, dtype=bool)))
    elif kind == "regressor":
        model = FusionRegressor(DEEP, **settings).fit(frame, number)
    else:
        two = {"one": Tabular(["c"]), "two": Tabular(["d"])}
        model = FusionRegressor(two, LateFusion(), **settings).fit(frame, number)
    deep = model.model_.deep_predictor(frame)[:, 0]
    assert deep.std() > 0.05
    design = np.column_stack([np.ones(300), frame["a"], frame["g"] == "v"])
    lengths = np.linalg.norm(design, axis=0) * np.linalg.norm(deep)
    assert np.abs(design.T @ deep / lengths).max() < 1e-6


def test_the_cell_needs_batches_longer_than_the_design_is_wide() -> None:
    frame, y = draw(100)
    settings = QUICK | {"batch_size": 8}
    model = FusionClassifier(
        DEEP, structured="a + b + s(c)", orthogonalization="online", **settings
    )
    with pytest.raises(ValueError, match=r"batch_size parameter must be at least 24.*online"):
        model.fit(frame, y)


def test_a_nonlinear_head_learns_interactions_that_an_additive_one_cannot() -> None:
    rng = np.random.default_rng(2)
    frame, _ = draw(600)
    y = frame["a"] + 1.5 * frame["a"] * frame["d"] + 0.3 * rng.normal(size=600)
    scores = {}
    for head in ("additive", "nonlinear"):
        model = FusionRegressor(
            {"deep": Tabular(["d"])},
            JointFusion(hidden=(32,), dropout=0.0),
            structured="a",
            head=head,
            **(QUICK | {"epochs": 60}),
        )
        scores[head] = model.fit(frame[:400], y[:400]).score(frame[400:], y[400:])
    assert scores["nonlinear"] > 0.8
    assert scores["nonlinear"] > scores["additive"] + 0.2


def test_an_unknown_head_is_refused() -> None:
    frame, y = draw(60)
    with pytest.raises(ValueError, match="head parameter must be one of"):
        FusionClassifier(DEEP, structured="a", head="linear", **QUICK).fit(frame, y)


def test_contrasts_of_three_classes_are_theirs() -> None:
    frame, y = draw()
    model = FusionClassifier({}, structured="a + b").fit(frame, y)
    profile = pd.DataFrame({"a": [1.0], "b": [0.0]}, index=["p"])
    table = model.contrast(profile, profile.assign(a=0.0))
    assert list(table.index) == [("p", "B"), ("p", "C")]
    coef = model.effects_["coef"]
    np.testing.assert_allclose(table["estimate"], [coef["a", "B"], coef["a", "C"]])
    same = model.contrast(profile, profile)
    assert (same["estimate"] == 0).all()
    with pytest.raises(ValueError, match="level parameter"):
        model.contrast(profile, profile, level=95)


def test_a_number_added_to_all_logits_is_no_deep_share() -> None:
    frame, y = draw()
    model = FusionClassifier(DEEP, structured="a", **(QUICK | {"patience": None})).fit(frame, y)
    part, head = model.model_.structured, model.model_.head
    deep, design, target = model.model_.deep_predictor(frame), part.design(frame), head.encode(y)
    part.settle(design, deep, head, target)
    share = part.variances[1]
    part.settle(design, deep + 3 * frame["b"].to_numpy()[:, None], head, target)
    assert part.variances[1] == pytest.approx(share, abs=1e-3)


def test_the_cell_takes_whole_batches() -> None:
    frame, y = draw(100)
    settings = QUICK | {"training": Training(micro_batch_size=32)}
    model = FusionClassifier(DEEP, structured="a", orthogonalization="online", **settings)
    with pytest.raises(ValueError, match="micro_batch_size parameter must be None"):
        model.fit(frame, y)
