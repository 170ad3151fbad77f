"""Early fusion: each modality reduced by what its training rows say, then one model."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from mmfusion.estimators import FusionCox, FusionRegressor
from mmfusion.fusion import EarlyFusion
from mmfusion.heads import CategoricalHead, CoxHead, GaussianHead
from mmfusion.modalities import Genes, Image, Tabular
from tests.estimators.common import ESTIMATORS, cohort_for, make_model, modalities, predictions

pytestmark = pytest.mark.usefixtures("one_network")

GENES = [f"gene_{i}" for i in range(10)]
STRATEGIES = {
    "pca": EarlyFusion("pca", 4, hidden=(6,)),
    "pca share": EarlyFusion("pca", 0.8, hidden=()),
    "features": EarlyFusion("features", 4, hidden=(6,)),
    "features share": EarlyFusion("features", 0.5, hidden=None),
    "ridge": EarlyFusion("pca", 4, hidden=None),
}


def network(model: Any) -> Any:
    """Return the one network of a fitted estimator."""
    return model.model_.deep.networks["model"]


def reduced(model: Any, frame: pd.DataFrame, name: str) -> np.ndarray:
    """Return what the model makes of a modality before fusion."""
    inner = network(model)
    data = inner.transform(frame, torch.device("cpu"), "32-true")
    part = data.parts[name]
    inner.module.eval()
    with torch.no_grad():
        return inner.module.encoders[name].project(part.numeric[part.present]).numpy()


def test_components_are_scikit_learns_of_the_training_rows() -> None:
    frame, y = cohort_for("regressor", 80, missing=0.0)
    frame.loc[frame.index[:9], GENES] = np.nan
    inputs = {"rna": Genes("gene_*", clip=None), "age": Tabular(["age"])}
    strategy = EarlyFusion("pca", 4)
    model = make_model("regressor", strategy, modalities=inputs, epochs=1).fit(frame, y)
    there = frame[GENES].dropna()
    scaled = StandardScaler().fit_transform(there)
    assert abs(scaled).max() < 5  # nothing is clipped
    pca = PCA(4).fit(scaled)
    signs = np.sign(pca.components_[np.arange(4), abs(pca.components_).argmax(1)])
    wanted = pca.transform(scaled) * signs / pca.explained_variance_[0] ** 0.5
    np.testing.assert_allclose(reduced(model, frame, "rna"), wanted, atol=1e-4)
    assert reduced(model, frame, "age").shape == (80, 1)  # all it has


def test_a_share_of_the_variance_is_met() -> None:
    frame, y = cohort_for("regressor", 80, missing=0.0)
    model = make_model("regressor", STRATEGIES["pca share"], epochs=1).fit(frame, y)
    for name in ("rna", "scan", "clinic"):
        wanted = network(model).encoders[name]
        assert 0 < wanted.width < wanted.feature_width
    variance = PCA().fit(StandardScaler().fit_transform(frame[GENES])).explained_variance_ratio_
    width = network(model).encoders["rna"].width
    assert variance[:width].sum() > 0.79  # of standardised genes (winsorised moments differ a bit)


@pytest.mark.parametrize("name", STRATEGIES)
def test_nothing_is_learned_from_rows_held_out(name: str) -> None:
    frame, y = cohort_for("regressor", 80, missing=0.2)
    options = {"patience": 2, "validation_fraction": 0.25, "epochs": 1}
    seen: list[pd.Index] = []

    class Spy(Tabular):
        def fit(self, frame: pd.DataFrame) -> Any:
            seen.append(frame.index)
            return super().fit(frame)

    inputs = {**modalities(encoder="raw"), "spy": Spy(["age"])}
    model = make_model("regressor", STRATEGIES[name], modalities=inputs, **options).fit(frame, y)
    other = frame.copy()
    held = ~other.index.isin(seen[0])
    assert held.sum() == (0 if STRATEGIES[name].hidden is None else 20)  # a ridge needs none
    other.loc[held, GENES] = 100.0 * other.loc[held, GENES].to_numpy()[::-1]
    again = clone(model).fit(other, y)
    for part in ("rna", "scan", "clinic"):
        mine, theirs = (
            m.model_.deep.networks["model"].encoders[part].state_dict() for m in (model, again)
        )
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(value, theirs[key]) for key, value in mine.items())


def test_features_are_those_that_say_most() -> None:
    frame, y = cohort_for("cox", 300, missing=0.0)
    inputs = {"rna": Genes("gene_*"), "clinic": Tabular(["age", "sex"])}
    model = make_model("cox", EarlyFusion("features", 2), modalities=inputs, epochs=1)
    model.fit(frame, y)
    assert network(model).encoders["rna"].chosen.tolist() == [
        0,
        1,
    ]  # the truth
    beside = make_model(
        "cox",
        EarlyFusion("features", 1),
        modalities=inputs,
        epochs=1,
        structured="gene_0",
    ).fit(frame, y)
    assert network(beside).encoders["rna"].chosen.tolist() == [1]  # 0 is told already


@pytest.mark.parametrize("kind", ["cox", "classifier", "three classes", "regressor"])
def test_relevance_is_the_robust_score_test(kind: str) -> None:
    rng = np.random.default_rng(0)
    n, p = 120, 4
    x = rng.normal(size=(n, p))
    x[:, 3] = 2.0  # constant
    eta = 0.8 * x[:, 0]
    head: Any
    centred = x - x.mean(0)
    if kind == "cox":
        time, event = rng.exponential(np.exp(-eta)), rng.random(n) < 0.8
        head = CoxHead()
        target = head.fit_outcome((time, event))
        scores = np.zeros((n, p))  # Lin & Wei's, row by row from the definition
        for i in range(n):
            means = {k: x[time >= time[k]].mean(0) for k in np.flatnonzero(event)}
            if event[i]:
                scores[i] += x[i] - means[i]
            for k, mean in means.items():
                if time[k] <= time[i]:
                    scores[i] -= (x[i] - mean) / (time >= time[k]).sum()
        wanted = scores.sum(0) ** 2 / np.maximum((scores**2).sum(0), 1e-300)
    elif kind == "regressor":
        y = eta + rng.normal(size=n)
        head = GaussianHead()
        target = head.fit_outcome(y)
        scores = (y - y.mean())[:, None] * centred
        wanted = scores.sum(0) ** 2 / np.maximum((scores**2).sum(0), 1e-300)
    else:
        k = 2 if kind == "classifier" else 3
        y = np.digitize(eta + rng.logistic(size=n), [0.0, 1.0][: k - 1])
        head = CategoricalHead()
        target = head.fit_outcome(y)
        shares = np.bincount(y) / n
        residual = (y[:, None] == np.arange(k)) - shares
        each = residual[:, 1:] if k == 2 else residual
        scores = each[:, :, None] * centred[:, None]
        wanted = (scores.sum(0) ** 2 / np.maximum((scores**2).sum(0), 1e-300)).sum(0)
    null = head.initial(target).expand(n, -1)
    found = head.relevance(null, target, torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found[:3], wanted[:3], rtol=1e-6)
    assert found[3] == pytest.approx(0.0, abs=1e-9)
    assert found[0] == max(found)


def test_without_a_network_it_is_a_ridge_with_its_own_penalty_a_modality() -> None:
    """At the penalties it chose, the coefficients solve the penalised normal equations."""
    frame, y = cohort_for("regressor", 150, missing=0.0)
    y = y / 10 + frame["gene_0"].to_numpy() + np.random.default_rng(3).normal(size=150)
    inputs = {"rna": Genes("gene_*", clip=None), "age": Tabular(["age"])}
    model = FusionRegressor(inputs, EarlyFusion("pca", 6, hidden=None), device="cpu").fit(frame, y)
    assert model.history_.empty
    x = np.column_stack([reduced(model, frame, name) for name in inputs]).astype(float)
    weight = model.network_.head.weight.detach().double().numpy()[0]
    assert not weight[7:].any()  # nobody lacks anything: the presence bits say nothing
    coef = weight[:7] * y.std()
    residual = y - y.mean() - (x - x.mean(0)) @ coef
    gradient = (x - x.mean(0)).T @ residual  # = sp_m beta_m within a modality
    penalties = gradient / coef
    np.testing.assert_allclose(penalties[:6], penalties[0], rtol=2e-2)
    assert penalties[0] > 0
    np.testing.assert_allclose(model.predict(frame), y - residual, atol=1e-3)
    least_squares = np.linalg.lstsq(x - x.mean(0), y - y.mean(), rcond=None)[0]
    assert np.linalg.norm(coef[:6]) < np.linalg.norm(least_squares[:6])


def test_the_ridge_goes_beside_a_formula_and_meets_missing_rows() -> None:
    frame, y = cohort_for("cox", 150, missing=0.3)
    strategy = EarlyFusion("pca", 5, hidden=None)
    inputs = modalities(encoder="raw")
    model = FusionCox(inputs, strategy, structured="age", device="cpu", random_state=0)
    model.fit(frame, y)
    classical = FusionCox({}, structured="age").fit(frame, y)
    assert model.score(frame, y) > classical.score(frame, y) + 0.05
    assert np.isfinite(model.predict(frame, modalities=["rna"])).all()
    with pytest.raises(ValueError, match=r"hidden=None\) needs an outcome with one predictor"):
        make_model("classifier", strategy).fit(frame, np.arange(150) % 3)


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.filterwarnings("ignore:The likelihood rises")  # a class that age decides
def test_saved_cloned_pickled(kind: str, name: str, tmp_path: Path) -> None:
    frame, y = cohort_for(kind, 48, missing=0.3)
    if kind == "discrete" and STRATEGIES[name].hidden is None:
        with pytest.raises(ValueError, match="needs an outcome with one predictor"):
            make_model(kind, STRATEGIES[name]).fit(frame, y)
        return
    inputs = {**modalities(), "onehot": Tabular(["stage"], encoding="onehot")}
    model = make_model(kind, STRATEGIES[name], modalities=inputs, epochs=1).fit(frame, y)
    found = predictions(model, frame)
    assert np.isfinite(found).all()
    model.save(tmp_path / "m")
    loaded = ESTIMATORS[kind].load(tmp_path / "m")
    for other in (loaded, pickle.loads(pickle.dumps(model)), clone(model).fit(frame, y)):
        np.testing.assert_array_equal(predictions(other, frame), found)


def test_frozen_features_of_images_are_reduced() -> None:
    frame, y = cohort_for("regressor", 60, missing=0.2)
    scan = Image("image", size=32, channels="L", encoder="resnet10t", freeze="all")
    inputs = {"scan": scan, "age": Tabular(["age"])}
    model = make_model("regressor", EarlyFusion("pca", 3), modalities=inputs, epochs=1)
    model.fit(frame, y)
    encoder = network(model).encoders["scan"]
    assert (encoder.feature_width, encoder.width) == (512, 3)
    assert reduced(model, frame, "scan").shape == (frame["image"].notna().sum(), 3)


def test_one_row_with_an_image_is_enough(tmp_path: Path) -> None:
    frame, y = cohort_for("regressor", missing=0.0)
    frame["image"] = [frame["image"].iloc[0]] + [None] * 39
    for strategy in STRATEGIES.values():
        model = make_model("regressor", strategy, epochs=1).fit(frame, y)
        assert np.isfinite(model.predict(frame)).all()
        model.save(tmp_path / "m")
        loaded = FusionRegressor.load(tmp_path / "m")
        np.testing.assert_array_equal(loaded.predict(frame), model.predict(frame))
