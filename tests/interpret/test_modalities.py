"""What modalities add: exact Shapley values, scores of their sets, variance, embeddings."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmfusion import Genes, Tabular, surv
from mmfusion.estimators import (
    FusionClassifier,
    FusionCox,
    FusionDistribution,
    FusionPretrainer,
    FusionRegressor,
)
from mmfusion.fusion import LateFusion
from mmfusion.interpret import (
    embed,
    modality_importance,
    modality_shapley,
    modality_value,
    variance_shares,
)
from mmfusion.metrics import concordance_index, integrated_brier_score
from tests.estimators.common import cohort_for, make_model
from tests.interpret.test_attribution import KINDS, LOUD, heard


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("structured", [None, "gene_3"])
def test_values_sum_to_all_less_none_and_are_the_mean_over_orders(
    kind: str, structured: str | None
) -> None:
    frame, y = cohort_for(kind)
    if kind == "classifier":
        y = np.where(np.arange(len(frame)) % 3 == 0, "a", "b")
    model = heard(make_model(kind, "gated", structured=structured, **LOUD).fit(frame, y))
    target = None if kind in ("classifier", "regressor") else ("survival", 0.5)
    found = modality_shapley(model, frame[:12], target)
    gain = (found.full - found.none).to_numpy()
    np.testing.assert_allclose(found.values.sum(axis=1), gain, atol=1e-12)
    absent = frame["image"][:12].isna()
    assert (found.values.loc[absent, "scan"] == 0).all()
    assert (found.interactions.loc[absent, ("scan", "rna")] == 0).all()
    if structured is None:
        return  # what follows asks the estimator itself

    def ask(names: list[str]) -> np.ndarray:
        if kind == "classifier":
            return np.asarray(model.decision_function(frame[:12], modalities=names))
        if kind == "regressor":
            return np.asarray(model.predict(frame[:12], modalities=names))
        return model.predict_survival_function(frame[:12], [0.5], modalities=names)[0.5].to_numpy()

    np.testing.assert_allclose(found.full, ask(["scan", "rna", "clinic"]), rtol=1e-6)
    orders = list(permutations(["scan", "rna", "clinic"]))
    for name in ("rna", "clinic"):
        steps = []
        for order in orders:
            before = list(order[: order.index(name)])
            steps.append(ask([*before, name]) - ask(before))
        np.testing.assert_allclose(found.values[name], np.mean(steps, axis=0), atol=2e-5)


def draw(n: int = 300, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Return two modalities, the first strong, the second weak, and a third that says nothing."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 6)), columns=["a0", "a1", "b0", "b1", "c0", "c1"])
    return frame, 1.5 * frame["a0"].to_numpy() + 0.5 * frame["b0"].to_numpy()


MODALITIES = {name: Tabular([f"{name}0", f"{name}1"]) for name in "abc"}


def additive(kind: Any, y: Any, frame: pd.DataFrame, **params: Any) -> Any:
    return kind(MODALITIES, n_members=0, device="cpu", **params).fit(frame, y)


def test_of_an_additive_model_they_are_its_parts_and_nothing_interacts() -> None:
    frame, eta = draw()
    y = eta + np.random.default_rng(1).normal(size=len(eta))
    model = additive(FusionRegressor, y, frame)
    found = modality_shapley(model, frame)
    effects = model.linear_effects_["coef per sd"]
    for name in "abc":
        z = frame[[f"{name}0", f"{name}1"]]
        z = (z - z.mean()) / z.std(ddof=0)
        expected = z.to_numpy() @ effects[name].to_numpy()
        np.testing.assert_allclose(found.values[name], expected, atol=1e-6)
    assert found.interactions.abs().to_numpy().max() < 1e-9
    shares = variance_shares(model, frame)
    assert shares["share"].sum() == pytest.approx(1)
    variances = found.values.var(ddof=0)
    np.testing.assert_allclose(shares["variance"], variances, rtol=1e-6)
    assert shares["share"]["a"] > 0.7
    assert shares["share"].idxmin() == "c"
    beside = additive(FusionRegressor, y, frame, structured="a0")
    assert list(variance_shares(beside, frame).index) == ["(formula)", "a", "b", "c"]
    assert variance_shares(beside, frame)["share"].sum() == pytest.approx(1)


def test_the_value_for_a_score_and_what_leaving_out_costs() -> None:
    frame, eta = draw()
    rng = np.random.default_rng(2)
    y = surv(rng.exponential(np.exp(-eta)), rng.random(len(eta)) < 0.8)
    train, test = frame[:200], frame[200:]
    model = additive(FusionCox, y[:200], train)
    found = modality_value(model, test, y[200:], n_bootstrap=60)
    assert found.metric == "harrell"
    scores = found.subsets["score"]
    assert scores["(none)"] == 0.5
    for label in ("a", "b", "a + b", "a + b + c"):
        risk = model.predict(test, modalities=label.split(" + "))
        assert scores[label] == pytest.approx(concordance_index(y[200:], risk), abs=1e-9)
    assert found.table["value"].sum() == pytest.approx(scores["a + b + c"] - 0.5)
    assert found.subsets["cost"]["a + b + c"] == 0
    cost = scores["a + b + c"] - scores["b + c"]
    assert found.subsets["cost"]["b + c"] == pytest.approx(cost)
    assert (found.table["lower"] <= found.table["value"]).all()
    assert found.table["lower"]["a"] > 0 > found.table["lower"]["c"]
    assert found.test["best"] == "a"
    assert found.test["difference"] == pytest.approx(scores["a + b + c"] - scores["a"])
    assert 0 < found.test["p"] < 1
    assert found.test["lower"] < found.test["difference"] < found.test["upper"]
    brier = modality_value(model, test, y[200:], "ibs", times=[0.2, 0.5, 1.0], n_bootstrap=5)
    curves = model.predict_survival_function(test, [0.2, 0.5, 1.0], modalities=["a"])
    expected = integrated_brier_score(y[200:], y[200:], curves, [0.2, 0.5, 1.0])
    assert brier.subsets["score"]["a"] == pytest.approx(expected)
    assert brier.table["value"]["a"] > 0  # a fall of the error

    def early_deaths_found(outcome: Any, survival: np.ndarray) -> float:
        return float(((outcome.time < 0.5) & outcome.event & (survival < 0.5)).mean())

    own = modality_value(
        model, test, y[200:], early_deaths_found, target=("survival", 0.5), n_bootstrap=5
    )
    assert own.metric == "early_deaths_found"
    assert own.subsets["score"]["a"] > own.subsets["score"]["c"]


def test_of_a_distribution_of_times_a_short_one_is_a_high_risk() -> None:
    frame, eta = draw()
    rng = np.random.default_rng(2)
    y = surv(rng.exponential(np.exp(-eta)), rng.random(len(eta)) < 0.8)
    model = additive(FusionDistribution, y, frame, family="weibull")
    found = modality_value(model, frame, y, n_bootstrap=3)
    expected = concordance_index(y, model.predict_risk(frame))
    assert found.subsets["score"]["a + b + c"] == pytest.approx(expected)
    assert expected > 0.6


def test_scores_of_classes_and_numbers() -> None:
    frame, eta = draw()
    rng = np.random.default_rng(3)
    labels = np.array(["no", "yes"])[(rng.random(len(eta)) < 1 / (1 + np.exp(-eta))).astype(int)]
    model = additive(FusionClassifier, labels, frame)
    found = modality_value(model, frame, labels, n_bootstrap=5)
    chance = model.predict_proba(frame)[np.arange(len(frame)), (labels == "yes").astype(int)]
    assert found.metric == "log_loss"
    assert found.subsets["score"]["a + b + c"] == pytest.approx(-np.log(chance).mean())
    accuracy = modality_value(model, frame, labels, "accuracy", n_bootstrap=5)
    assert accuracy.subsets["score"]["a + b + c"] == pytest.approx(model.score(frame, labels))
    numbers = additive(FusionRegressor, eta, frame)
    r2 = modality_value(numbers, frame, eta, n_bootstrap=5)
    assert r2.subsets["score"]["a + b + c"] == pytest.approx(numbers.score(frame, eta))
    assert r2.subsets["score"]["(none)"] == pytest.approx(0, abs=1e-3)
    with pytest.raises(ValueError, match="'harrell' is none of what FusionRegressor predicts"):
        modality_value(numbers, frame, eta, "harrell")


def test_permuting_a_modality_finds_what_single_columns_hide() -> None:
    rng = np.random.default_rng(4)
    hidden = rng.normal(size=400)
    frame = pd.DataFrame({f"g{j}": hidden + 0.1 * rng.normal(size=400) for j in range(8)})
    frame["x"] = rng.normal(size=400)
    y = hidden + 0.5 * rng.normal(size=400)
    modalities = {"rna": Genes("g*"), "clinic": Tabular(["x"])}
    model = FusionRegressor(modalities, n_members=0, device="cpu").fit(frame, y)
    table = modality_importance(model, frame, y)
    alone = modality_importance(model, frame, y, ["g0"])
    assert table["importance"]["rna"] > 0.5
    assert abs(table["importance"]["clinic"]) < 0.05
    assert alone["importance"]["g0"] < 0.1
    with pytest.raises(ValueError, match="Got 'ct'"):
        modality_importance(model, frame, y, ["ct"])


def test_embeddings_are_the_networks_own() -> None:
    frame, y = cohort_for("cox")
    model = make_model("cox", "concat", **LOUD).fit(frame, y)
    settings = model._settings()
    (network,) = model.model_.deep.networks.values()
    each, fused, present = network.embed(frame, settings, ["scan", "rna", "clinic"])
    whole = embed(model, frame)
    np.testing.assert_allclose(whole, fused, atol=1e-6)
    assert list(whole)[:2] == ["fused_0", "fused_1"]
    scan = embed(model, frame[["image"]], "scan")
    assert (scan.isna().all(axis=1).to_numpy() == ~present[:, 0]).all()
    np.testing.assert_allclose(scan[present[:, 0]], each["scan"][present[:, 0]], atol=1e-6)
    late = make_model("cox", LateFusion(dim=5, hidden=()), **LOUD).fit(frame, y)
    assert embed(late, frame).shape[1] >= 15
    assert embed(late, frame, "rna").shape == (len(frame), 5)
    pretrainer = FusionPretrainer({"rna": Genes("gene_*")}, epochs=1, dim=4, device="cpu")
    pretrainer.fit(frame)
    assert embed(pretrainer, frame, "rna").shape == (len(frame), 4)
    with pytest.raises(ValueError, match=r"must be one of \['scan', 'rna', 'clinic'\]"):
        embed(model, frame, "ct")
