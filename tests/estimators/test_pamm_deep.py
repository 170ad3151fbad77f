"""FusionPAMM beside networks: constant and varying over time, orthogonal, each image once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.model_selection import cross_val_score

from mmfusion.estimators import FusionPAMM
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.metrics import make_survival_scorer
from mmfusion.modalities import Image, Tabular
from mmfusion.structured import Likelihood
from mmfusion.survival import surv

pytestmark = pytest.mark.usefixtures("one_network")

DEEP = {"deep": Tabular(["a", "b"], hidden=(16,))}
QUICK: dict[str, Any] = {
    "fusion": JointFusion(dim=8, hidden=(8,)),
    "learning_rate": 0.01,
    "device": "cpu",
    "random_state": 0,
}


def draw(n: int = 1200, *, fades: bool = True, seed: int = 0) -> tuple[Any, Any, np.ndarray]:
    """Return a table, an outcome, and what a network is to find; its effect may fade in time."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "x"])
    hidden = (np.sin(2 * frame["a"]) + frame["b"]).to_numpy()
    time, step = np.full(n, np.inf), 0.02
    for start in np.arange(0, 3, step):
        effect = 1.5 * np.exp(-2 * start) if fades else 0.7
        hazard = np.exp(-0.7 + 0.5 * frame["x"] + effect * hidden)
        hit = (rng.random(n) < 1 - np.exp(-hazard * step)) & np.isinf(time)
        time[hit] = start + step * rng.uniform(0.01, 1, hit.sum())
    limit = rng.uniform(1, 3, n)
    return frame, surv(np.minimum(time, limit), time <= limit), hidden


def slopes(model: FusionPAMM, frame: pd.DataFrame, hidden: np.ndarray) -> np.ndarray:
    """Return the slope of what the networks add in `hidden`, an interval."""
    part = model.model_.structured
    rest = model._predictors(frame)[1] - part.design(frame).predict(part.final.coef)
    centred = hidden - hidden.mean()
    return centred @ rest / (centred @ centred)


def pictures(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table with an image in the place of two columns: the shades of its halves."""
    shades = np.repeat(np.clip(128 + 40 * frame[["a", "b"]].to_numpy(), 0, 255), 4, axis=1)
    noise = np.random.default_rng(1).normal(scale=8, size=(len(frame), 8, 8))
    images = np.clip(shades[:, None] + noise, 0, 255).astype(np.uint8)
    return frame[["x"]].assign(image=list(images))


@pytest.mark.slow
def test_an_image_whose_effect_fades_is_found_where_it_may() -> None:
    frame, y, hidden = draw()
    frame = pictures(frame)
    scan = {"scan": Image("image", size=8, channels="L", encoder="cnn")}
    given = {"structured": "x", "n_intervals": 20, "n_members": 1, "epochs": 40, **QUICK}
    constant = FusionPAMM(scan, **given).fit(frame, y)
    varying = FusionPAMM(scan, deep_time_varying=True, **given).fit(frame, y)
    assert len(constant._head.deep_basis) == 1
    assert len(varying._head.deep_basis) == 4
    assert np.ptp(slopes(constant, frame, hidden)) < 1e-6
    found = slopes(varying, frame, hidden)
    truth = 1.5 * np.exp(-2 * varying._head.grid.coordinates["t"])
    errors = [np.abs(one - truth).mean() for one in (found, slopes(constant, frame, hidden))]
    assert errors[0] < 0.2 < 0.4 < errors[1]
    assert found[0] > 1.0 > 0.4 > found[-3]
    # The formula's effects are those of the classical model, whatever the networks do.
    alone = FusionPAMM({}, structured="x", n_intervals=20).fit(frame, y)
    assert_allclose(varying.effects_.loc["x", "coef"], alone.effects_.loc["x", "coef"], rtol=1e-6)


@pytest.mark.parametrize("formula", ["x", "x + tv(a)"])
def test_what_is_left_of_the_networks_is_orthogonal_to_all_terms_in_time(formula: str) -> None:
    frame, y, _ = draw(400)
    model = FusionPAMM(
        DEEP, structured=formula, deep_time_varying=True, n_intervals=10, epochs=20, **QUICK
    ).fit(frame, y)
    part = model.model_.structured
    design = part.design(frame)
    eta = design.predict(part.start.coef if part.started_on_all else part.reported.coef)
    deep = model.model_.deep_predictor(frame)
    assert np.abs(deep).max() > 0.01
    rest = deep - design.predict(part.projection)
    likelihood = Likelihood(model._head, model._head.encode(y))
    moved = likelihood.gradient(eta + rest) - likelihood.gradient(eta)
    size = np.abs(design.pull(np.abs(moved))).max()
    assert size > 1.0
    assert_allclose(design.pull(moved), 0.0, atol=1e-6 * size)


def test_each_image_is_encoded_once_an_epoch_whatever_the_intervals() -> None:
    rng = np.random.default_rng(0)
    n, seen = 24, []

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(16, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.training:
                seen.append(len(x))
            return self.layer(x.flatten(1))

    images = rng.integers(0, 256, (n, 4, 4), dtype=np.uint8)
    frame = pd.DataFrame({"image": list(images), "x": rng.normal(size=n), "id": np.arange(n)})
    rows = pd.concat([frame, frame.assign(x=frame["x"] + 1)], ignore_index=True)
    end = rng.uniform(1, 4, n)
    y = surv(
        np.concatenate([end / 2, end]),
        np.concatenate([np.zeros(n), np.ones(n)]),
        np.concatenate([np.zeros(n), end / 2]),
    )
    scan = Image("image", size=4, channels="L", encoder=Net)
    for n_intervals in (1, 20):
        seen.clear()
        FusionPAMM(
            {"scan": scan},
            structured="x",
            id="id",
            n_intervals=n_intervals,
            deep_time_varying=True,
            epochs=3,
            patience=None,
            batch_size=8,
            **{**QUICK, "fusion": "concat"},
        ).fit(rows, y)
        assert sum(seen) == 3 * n


@pytest.mark.parametrize(
    "fusion",
    [
        EarlyFusion("pca", hidden=None),
        EarlyFusion(hidden=(8,)),
        LateFusion("mean", dim=4, hidden=()),
        LateFusion("stack", dim=4, hidden=(), folds=3),
    ],
    ids=["ridge", "early", "mean", "stack"],
)
def test_every_fusion_finds_a_constant_effect(fusion: Any) -> None:
    frame, y, hidden = draw(400, fades=False)
    inputs = {"one": Tabular(["a"], hidden=(8,)), "two": Tabular(["b"], hidden=(8,))}
    given = {**QUICK, "fusion": fusion, "epochs": 25, "n_intervals": 6}
    model = FusionPAMM(inputs, structured="x", **given).fit(frame, y)
    alone = FusionPAMM({}, structured="x", n_intervals=6).fit(frame, y)
    assert model.score(frame, y) > alone.score(frame, y) + 0.03
    found = slopes(model, frame, hidden)
    assert (found > 0.05).all()


@pytest.mark.parametrize("inference", ["robust", "cross_fit"])
def test_inference_is_that_of_every_structured_part(inference: str) -> None:
    frame, y, _ = draw(400, fades=False)
    model = FusionPAMM(
        DEEP, structured="x", inference=inference, n_intervals=8, epochs=15, **QUICK
    ).fit(frame, y)
    effect = model.effects_.loc["x"]
    assert abs(effect["coef"] - 0.5) < 4 * effect["se"]
    assert model.predict_band(frame[:2]).notna().all().all()


def test_a_linear_part_of_the_formulas_columns_stays_where_it_is() -> None:
    """A smooth of few values separates events, were it not for its penalty: no step is endless."""
    file = Path(__file__).parents[1] / "agreement" / "fixtures" / "pamm.json"
    tumour = pd.DataFrame(json.loads(file.read_text())["data"]["tumor"])
    y = surv(tumour["time"], tumour["event"] == 1)
    columns = ["age", "charlson_score"]
    given = {"structured": "s(age) + s(charlson_score, k=5)", "n_intervals": 10}
    model = FusionPAMM({"table": Tabular(columns)}, n_members=0, device="cpu", **given)
    model.fit(tumour[columns], y)
    alone = FusionPAMM({}, **given).fit(tumour[columns], y)
    curves = [m.predict_survival_function(tumour[columns], [500, 1500]) for m in (model, alone)]
    assert_allclose(*curves, atol=0.02)


def test_causes_have_networks_of_their_own() -> None:
    frame, y, _ = draw(400, fades=False)
    cause = np.where(y["event"], np.random.default_rng(1).integers(1, 3, len(y)), 0)
    y = surv(y["time"], cause)
    model = FusionPAMM(DEEP, n_intervals=6, epochs=10, deep_time_varying=True, **QUICK)
    model.fit(frame, y)
    assert len(model._head.deep_basis) == 8
    times = [0.5, 1.0, 2.0]
    total = model.predict_survival_function(frame, times)
    for number in (1, 2):
        total = total + model.predict_cumulative_incidence_function(frame, times, number)
    assert_allclose(total, 1.0, atol=1e-12)


def test_it_is_scored_and_saved_as_every_survival_estimator(tmp_path: Any) -> None:
    frame, y, _ = draw(160, fades=False)
    model = FusionPAMM(DEEP, structured="x", n_intervals=6, epochs=3, **QUICK)
    for metric, low, high in (("ibs", -0.3, 0), ("antolini", 0.5, 1)):
        scorer = make_survival_scorer(metric, times=[0.3, 0.6, 0.9])
        scores = cross_val_score(model, frame, y, scoring=scorer, cv=2)
        assert ((scores > low) & (scores < high)).all()
    model.fit(frame, y).save(tmp_path / "model")
    again = FusionPAMM.load(tmp_path / "model")
    assert_allclose(
        again.predict_survival_function(frame), model.predict_survival_function(frame), rtol=1e-6
    )
