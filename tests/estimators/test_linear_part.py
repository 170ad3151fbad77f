"""The linear part of the modalities, networks judged by all rows, wide modalities tamed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from mmfusion import Genes, Image, Tabular, surv
from mmfusion.estimators import FusionClassifier, FusionCox, FusionDiscreteTime, FusionRegressor
from mmfusion.fusion import EarlyFusion, LateFusion
from mmfusion.metrics import concordance_index
from mmfusion.objectives import Similarity
from tests.helpers import make_cohort

QUICK: dict[str, Any] = {"epochs": 4, "device": "cpu", "random_state": 0}
N = 150


def draw(n: int = N, p: int = 60, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table, genes of which some patients have none, and a linear predictor."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 2)), columns=["age", "dose"])
    frame["site"] = rng.choice(["a", "b", "c"], n)
    genes = pd.DataFrame(rng.normal(size=(n, p)), columns=[f"g{j}" for j in range(p)])
    eta = 0.6 * frame["age"].to_numpy() + genes.iloc[:, :10].sum(axis=1).to_numpy() * 0.25
    genes[rng.random(n) < 0.2] = np.nan
    return pd.concat([frame, genes], axis=1), eta


MODALITIES = {"clinic": Tabular(["age", "dose", "site"], hidden=(4,)), "rna": Genes("g*")}


def outcome(kind: type, eta: np.ndarray, seed: int = 1) -> Any:
    rng = np.random.default_rng(seed)
    if kind in (FusionCox, FusionDiscreteTime):
        time, censored = rng.exponential(np.exp(-eta)), rng.exponential(2, len(eta))
        return surv(np.minimum(time, censored), time <= censored)
    if kind is FusionRegressor:
        return eta + rng.normal(size=len(eta))
    return np.array(["no", "yes"])[(rng.random(len(eta)) < 1 / (1 + np.exp(-eta))).astype(int)]


KINDS = [FusionCox, FusionDiscreteTime, FusionClassifier, FusionRegressor]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("structured", [None, "dose"])
def test_every_estimator_has_one(kind: Any, structured: str | None, tmp_path: Path) -> None:
    frame, eta = draw()
    model = kind(MODALITIES, structured=structured, **QUICK).fit(frame, outcome(kind, eta))
    table = model.linear_effects_
    assert table.loc[("clinic", "age"), "coef"] > 0
    assert (table["se"] > 0).all()
    of = table.attrs["modalities"]
    assert list(of.index) == ["clinic", "rna", "(present)"]
    assert of["share of variance"].sum() == pytest.approx(1)
    assert ("clinic", "site=b") in table.index
    # Saved, pickled, and for rows that lack a modality.
    model.save(tmp_path / "model")
    for other in (kind.load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.predict(frame), model.predict(frame))
        pd.testing.assert_frame_equal(other.linear_effects_, table)
    some = frame.drop(columns=[f"g{j}" for j in range(60)])
    assert len(model.predict(some, modalities=["clinic"])) == len(frame)
    assert len(model.model_.deep.networks["model"].members) == 5


def test_alone_it_is_a_ridge_regression() -> None:
    """scikit-learn's with the same penalty, on the same standardised columns."""
    frame, eta = draw()
    frame = frame[["age", "dose"]]
    y = outcome(FusionRegressor, eta)
    model = FusionRegressor({"clinic": Tabular()}, n_members=0, device="cpu").fit(frame, y)
    standard = (frame - frame.mean()) / frame.std(ddof=0)
    part = model.model_.deep.linear
    peer = Ridge(alpha=1 / part.variances[0]).fit(standard, y)
    np.testing.assert_allclose(model.predict(frame), peer.predict(standard), atol=1e-6)
    coef = model.linear_effects_.loc["clinic", "coef per sd"]
    np.testing.assert_allclose(coef, peer.coef_, atol=1e-6)


def test_beside_a_formula_it_is_fitted_with_it() -> None:
    """What the formula has already is not taken away from it: predictions are the joint fit's."""
    frame, eta = draw()
    frame, y = frame[["age", "dose"]], outcome(FusionCox, eta + frame["dose"].to_numpy())
    settings: dict[str, Any] = {"n_members": 0, "device": "cpu"}
    both = FusionCox({"clinic": Tabular()}, structured="age", **settings).fit(frame, y)
    classical = FusionCox({}, structured="age").fit(frame, y)
    np.testing.assert_allclose(both.effects_["coef"], classical.effects_["coef"], atol=1e-6)
    whole = FusionCox({}, structured="age + dose").fit(frame, y)
    assert np.corrcoef(both.predict(frame), whole.predict(frame))[0, 1] > 0.999


def test_it_may_be_left_out() -> None:
    frame, eta = draw()
    model = FusionCox(MODALITIES, linear=False, **QUICK).fit(frame, outcome(FusionCox, eta))
    with pytest.raises(AttributeError, match="fitted without it"):
        _ = model.linear_effects_


@pytest.mark.parametrize(
    "fusion", ["concat", "gated", "attention", LateFusion(), LateFusion("weighted"),
               LateFusion("stack"), EarlyFusion(), EarlyFusion("pca", n_components=5)]
)  # fmt: skip
def test_noise_beside_signal_takes_nothing_away(fusion: Any) -> None:
    """Two hundred columns of noise as a further modality, for each way to fuse."""
    rng = np.random.default_rng(7)
    frame, _ = draw(300, 2)
    eta = 0.9 * frame["age"].to_numpy() - 0.6 * frame["dose"].to_numpy()
    noise = pd.DataFrame(rng.normal(size=(300, 200))).add_prefix("n")
    frame, y = pd.concat([frame, noise], axis=1), outcome(FusionCox, eta)
    modalities = {"clinic": Tabular(["age", "dose"], hidden=(8,)), "noise": Genes("n*")}
    model = FusionCox(modalities, fusion, epochs=8, device="cpu", random_state=0)
    model.fit(frame[:200], y[:200])
    truth = concordance_index(y[200:], eta[200:])
    assert model.score(frame[200:], y[200:]) > truth - 0.02


def test_a_trained_image_encoder_offers_nothing() -> None:
    frame, y = make_cohort(60)
    scan = {"scan": Image("image", size=8, channels="L")}
    frame = frame[frame["image"].notna()]
    model = FusionCox(scan, **QUICK).fit(frame, y[: len(frame)])
    assert model.model_.deep.linear.coef == {}
    assert model.linear_effects_.empty


def test_members_are_averaged_and_judged_by_all_rows() -> None:
    frame, eta = draw()
    y = outcome(FusionCox, eta)
    model = FusionCox(MODALITIES, n_members=3, **QUICK).fit(frame, y)
    network = model.model_.deep.networks["model"]
    assert len(network.members) == 3
    from mmfusion.training import network_outputs

    data = network.transform(frame, next(network.module.parameters()).device, "32-true")
    each = [network_outputs(member, data).numpy() for member in network.members]
    looked = model.model_.deep.outputs([data], model.model_.settings, frame.index)[0][0]
    np.testing.assert_allclose(looked, np.mean(each, axis=0), atol=1e-6)
    assert 0 <= float(model.model_.deep.share[0]) <= 1
    assert "val_loss" in model.history_


@pytest.mark.parametrize(("given", "expected"), [(0, 1), (1, 1), (2, 2), ("auto", 5)])
def test_number_of_members(given: Any, expected: int) -> None:
    frame, eta = draw(60, 3)
    model = FusionRegressor(MODALITIES, n_members=given, **QUICK)
    model.fit(frame, outcome(FusionRegressor, eta))
    assert len(model.model_.deep.networks["model"].members) == expected
    assert (model.model_.deep.share[0] == 0) or given != 0


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "five"])
def test_wrong_number_of_members(wrong: Any) -> None:
    frame, eta = draw(30, 3)
    with pytest.raises(ValueError, match="n_members parameter must be a number of networks"):
        FusionRegressor(MODALITIES, n_members=wrong).fit(frame, outcome(FusionRegressor, eta))


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"auxiliary": [Similarity(weight=0.1)]}, "auxiliary losses"),
        ({"fusion": EarlyFusion("features", n_components=3)}, "chooses inputs by the outcome"),
        ({"fusion": LateFusion(combine="survival")}, "combine='survival'"),
    ],
)
def test_members_that_cannot_be_judged(given: dict[str, Any], what: str) -> None:
    """They are refused, and not trained without what was asked for."""
    frame, eta = draw(40, 3)
    model = FusionCox(MODALITIES, n_members=3, **given, **QUICK)
    with pytest.raises(ValueError, match=rf"n_members parameter must be 0, 1.*{what}.*Got 3"):
        model.fit(frame, outcome(FusionCox, eta))


def test_members_beside_an_eval_set() -> None:
    frame, eta = draw(60, 3)
    y = outcome(FusionRegressor, eta)
    model = FusionRegressor(MODALITIES, n_members=3, **QUICK)
    with pytest.raises(ValueError, match="must be 0, 1 or 'auto' with an eval_set"):
        model.fit(frame[:40], y[:40], eval_set=(frame[40:], y[40:]))


def test_rows_that_no_fold_judges_have_no_voice() -> None:
    """A modality whose events lie in one fold: its network saw all rows, and is left out."""
    frame, eta = draw(100, 3)
    y = outcome(FusionCox, eta)
    frame[["g0", "g1", "g2"]] = np.random.default_rng(0).normal(size=(100, 3))
    # Of those who have genes one has an event: no fold can teach its networks and judge them.
    some = [np.flatnonzero(y["event"])[0], *np.flatnonzero(~y["event"])[:20]]
    frame.loc[~np.isin(np.arange(100), some), ["g0", "g1", "g2"]] = np.nan
    model = FusionCox(
        {"rna": Genes("g*")}, structured="age", linear=False, n_members=5, epochs=40, device="cpu",
        random_state=0,
    ).fit(frame, y)  # fmt: skip
    assert model.model_.deep.share[0] == 0


def test_without_anything_to_predict_from() -> None:
    frame, eta = draw(30, 3)
    model = FusionRegressor(MODALITIES, n_members=0, linear=False)
    with pytest.raises(ValueError, match="may be 0 only beside a linear part"):
        model.fit(frame, outcome(FusionRegressor, eta))


def test_too_few_rows_for_folds_are_judged_by_none() -> None:
    frame, eta = draw(4, 3)
    with pytest.warns(UserWarning, match="too few rows"):
        model = FusionRegressor({"clinic": Tabular(["age", "dose"])}, **QUICK).fit(frame, eta)
    assert np.isfinite(model.predict(frame)).all()


def test_networks_see_components_of_what_is_wide() -> None:
    frame, eta = draw(120, 100)
    y = outcome(FusionCox, eta)
    model = FusionCox(MODALITIES, **QUICK).fit(frame, y)
    assert model.modalities_["rna"].n_seen_ == 8  # a tenth of the events, at least 8
    assert repr(model.modalities_["rna"]) == "Genes(columns='g*')  # networks see 8 components"
    assert not hasattr(model.modalities_["clinic"], "n_seen_")
    whole = {**MODALITIES, "rna": Genes("g*", n_components=None)}
    model = FusionCox(whole, **QUICK).fit(frame, y)
    assert not hasattr(model.modalities_["rna"], "n_seen_")


@pytest.mark.parametrize(
    "fusion",
    ["concat", EarlyFusion(), EarlyFusion("pca", n_components=5), LateFusion("stack", folds=2)],
)
def test_networks_see_nothing_of_what_says_nothing(fusion: Any, tmp_path: Path) -> None:
    """Of wide noise, before and after saving; of genes they see components."""
    frame, eta = draw(120, 60)
    rng = np.random.default_rng(2)
    noise = pd.DataFrame(rng.permuted(frame.filter(like="g").fillna(0), axis=0)).add_prefix("n")
    frame = pd.concat([frame, noise], axis=1)
    modalities = {**MODALITIES, "noise": Genes("n*")}
    y = outcome(FusionCox, eta)
    model = FusionCox(modalities, fusion, n_members=2, **QUICK).fit(frame, y)
    assert model.linear_effects_.attrs["modalities"]["edf"]["noise"] < 0.5
    assert repr(model.modalities_["noise"]).endswith("# networks see 0 components")
    assert model.modalities_["rna"].n_shown != 0
    model.save(tmp_path / "model")
    for part in (model, FusionCox.load(tmp_path / "model")):
        deep, settings = part.model_.deep, part.model_.settings
        first = [one[0] for one in deep.outputs(deep.look(frame, settings), settings, frame.index)]
        moved = frame.assign(**{name: -frame[name] for name in noise})
        other = [one[0] for one in deep.outputs(deep.look(moved, settings), settings, frame.index)]
        np.testing.assert_array_equal(first, other)


@pytest.mark.slow
def test_of_a_shuffled_outcome_networks_are_left_out() -> None:
    """In four of five repeats and more; concordance on new rows is that of chance."""
    shares, scores = [], []
    for seed in range(20):
        frame, eta = draw(240, 10, seed)
        y = outcome(FusionCox, np.random.default_rng(seed).permutation(eta), seed)
        params: dict[str, Any] = {"epochs": 30, "device": "cpu"}
        model = FusionCox(MODALITIES, random_state=seed, **params)
        model.fit(frame[:160], y[:160])
        shares.append(float(model.model_.deep.share[0]))
        scores.append(model.score(frame[160:], y[160:]))
    assert np.mean(np.array(shares) == 0) >= 0.8
    assert abs(np.mean(scores) - 0.5) < 3 * np.std(scores) / np.sqrt(20)
