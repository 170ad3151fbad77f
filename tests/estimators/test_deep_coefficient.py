"""What the networks add: its coefficient, its share of the predictor; and spreads of levels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from sklearn.base import clone

from mmfusion import Tabular, surv
from mmfusion.estimators import FusionClassifier, FusionCox, FusionRegressor
from mmfusion.fusion import LateFusion

N = 240
RNG = np.random.default_rng(0)
X = pd.DataFrame(RNG.normal(size=(N, 5)), columns=["x", "z0", "z1", "n0", "n1"])
ETA = 0.5 * X["x"] + X["z0"]
Y = surv(RNG.exponential(np.exp(-ETA)), RNG.random(N) < 0.8)
TABLES = {"told": Tabular(["z0", "z1"], hidden=()), "noise": Tabular(["n0", "n1"], hidden=())}
FAST: Any = {"epochs": 15, "random_state": 0, "device": "cpu"}


def test_the_table_says_what_networks_add_and_how_far_they_are_right(tmp_path: Path) -> None:
    model = FusionCox(TABLES, structured="x", inference="cross_fit", **FAST).fit(X, Y)
    model.save(tmp_path / "model")
    for one in (model, FusionCox.load(tmp_path / "model")):
        row = one.effects_.loc["(deep)"]
        assert row["p"] < 1e-6
        assert row["lower"] < row["coef"] < row["upper"]
        assert np.isnan(row["exp(coef)"])
        text = str(one.summary())
        assert "(deep)" in text
        assert "1 where they are right" in text
        assert one.covariance_.index.tolist() == ["x"]
    plain = FusionCox(TABLES, structured="x", **FAST).fit(X, Y)
    assert "(deep)" not in plain.effects_.index


def test_of_late_fusion_each_modality_has_its_own() -> None:
    late = LateFusion("mean")
    model = FusionCox(TABLES, late, structured="x", inference="cross_fit", **FAST).fit(X, Y)
    effects = model.effects_
    assert effects.index.tolist() == ["x", "(deep: told)", "(deep: noise)"]
    assert effects.loc["(deep: told)", "p"] < 1e-6
    assert effects.loc["(deep: noise)", "p"] > 0.01
    classes = FusionClassifier(TABLES, late, structured="x", inference="cross_fit", **FAST)
    three = np.digitize(X["z0"] + RNG.normal(size=N), [-0.7, 0.7])
    index = classes.fit(X, three).effects_.index
    assert index[-2:].tolist() == [("(deep: told)", ""), ("(deep: noise)", "")]


@pytest.mark.parametrize("orthogonalization", ["post_hoc", "two_stage", "online", None])
def test_the_share_can_be_reproduced_as_its_docstring_says(orthogonalization: Any) -> None:
    model = FusionCox(
        {"told": Tabular(["z0", "z1"])}, structured="x", orthogonalization=orthogonalization, **FAST
    ).fit(X, Y)
    s = model.contrast(X, X[:1])["estimate"]
    d = model.predict(X) - s
    assert 0.001 < model.deep_share_ < 0.95
    assert model.deep_share_ == pytest.approx(d.var() / (s.var() + d.var()))
    assert model.structured_weight_ == pytest.approx(1 - model.deep_share_)
    if orthogonalization == "post_hoc":
        crossed = clone(model).set_params(inference="cross_fit").fit(X, Y)
        assert crossed.deep_share_ == pytest.approx(model.deep_share_)


def test_random_intercepts_report_their_standard_deviation(tmp_path: Path) -> None:
    site = RNG.integers(0, 30, N)
    frame = X.assign(site=site.astype(str))
    y = 1 + 0.5 * X["x"] + 0.8 * RNG.normal(size=30)[site] + RNG.normal(size=N)
    model = FusionRegressor(modalities={}, structured="x + re(site)").fit(frame, y)
    other = smf.mixedlm("y ~ x", frame.assign(y=y), groups=frame["site"]).fit(reml=True)
    sd = float(np.sqrt(other.cov_re.to_numpy()[0, 0]))
    model.save(tmp_path / "model")
    for one in (model, FusionRegressor.load(tmp_path / "model")):
        assert one.effects_.loc["re(site)", "sd"] == pytest.approx(sd, rel=1e-3)
        assert np.isnan(one.effects_.loc["x", "sd"])
        assert "standard deviation of a random effect" in str(one.summary())
    plain = FusionRegressor(modalities={}, structured="x").fit(frame, y)
    assert "sd" not in plain.effects_


@pytest.mark.parametrize("orthogonalization", ["post_hoc", "online", "two_stage"])
def test_effects_are_the_classical_models_and_predictions_those_beside_the_networks(
    orthogonalization: Any,
) -> None:
    frame = X.assign(x=X["x"] + X["z0"])  # the networks share something with the column
    settings: Any = {"structured": "x", **FAST, "epochs": 40}
    model = FusionCox(
        {"told": Tabular(["z0", "z1"])}, orthogonalization=orthogonalization, **settings
    ).fit(frame, Y)
    classical = FusionCox(modalities={}, structured="x").fit(frame, Y)
    pd.testing.assert_frame_equal(model.effects_, classical.effects_, rtol=1e-6)
    assert "not adjusted for the modalities" in model.effects_.attrs["estimand"]
    assert "with the same modalities differ by what" in str(model.summary())
    one, other = frame[:1], frame[:1].assign(x=frame["x"][0] + 1)
    contrast = model.contrast(other, one)["estimate"].item()
    assert contrast == pytest.approx(classical.effects_["coef"].item(), rel=1e-6)
    if orthogonalization == "online":  # whose networks read the column too, to take it off
        return
    moved = model.predict(other) - model.predict(one)
    by_predictor = model.contrast(other, one, of="predictor")["estimate"].item()
    assert moved == pytest.approx(by_predictor, rel=1e-5)
    alone = model.predict(other, modalities=[]) - model.predict(one, modalities=[])
    assert alone == pytest.approx(contrast, rel=1e-5)
