"""Attributions of predictions: they add up, know a linear model, give the absent nothing."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError

from mmfusion import Embedding, Genes, Image, Points, Tabular, surv
from mmfusion.estimators import (
    FusionClassifier,
    FusionCox,
    FusionDiscreteTime,
    FusionDistribution,
    FusionEnsemble,
    FusionPAMM,
    FusionRegressor,
)
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.interpret import AttributionWarning, attribute, embed, modality_shapley
from mmfusion.interpret._explained import Explained
from tests.estimators.common import cohort_for, make_model

KINDS = ["cox", "discrete", "pamm", "classifier", "regressor"]
LOUD: dict[str, Any] = {"learning_rate": 0.02, "epochs": 4, "n_members": 2}


def heard(model: Any) -> Any:
    """Let the networks have a say, whatever was judged of their few epochs."""
    model.model_.deep.share = np.full_like(model.model_.deep.share, 0.7)
    drawn = torch.Generator().manual_seed(0)
    for network in model.model_.deep.networks.values():
        for member in network.members:
            member.head.weight.data.normal_(std=1.0, generator=drawn)
    return model


def own_value(model: Any, frame: pd.DataFrame) -> np.ndarray:
    if isinstance(model, FusionClassifier):
        return np.asarray(model.decision_function(frame))
    return np.asarray(model.predict(frame))


def check_complete(model: Any, frame: pd.DataFrame, found: Any) -> None:
    total = found.by_modality().sum(axis=1)
    change = found.value - found.baseline_value
    assert (found.gap <= 0.01).all()
    assert (total - change).abs().max() <= 0.0101 * change.abs().max()
    for name, table in found.tables.items():
        assert np.allclose(table.sum(axis=1), found.by_modality()[name], rtol=1e-6)
    for name, maps in found.images.items():
        of_rows = np.bincount(found.owners[name], maps.sum((1, 2)), len(total))
        assert np.allclose(of_rows, found.by_modality()[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fusion", ["gated", "late"])
def test_the_parts_of_a_prediction_add_up_for_every_estimator(kind: str, fusion: str) -> None:
    frame, y = cohort_for(kind)
    if kind == "classifier":  # not of the age itself
        y = np.where(np.arange(len(frame)) % 3 == 0, "a", "b")
    if kind == "regressor":
        y = y + np.random.default_rng(0).normal(0, 9, len(y))
    model = heard(make_model(kind, fusion, structured="gene_3", **LOUD).fit(frame, y))
    some = frame[:10]
    found = attribute(model, some, n_steps=64)
    assert np.allclose(found.value, own_value(model, some), rtol=1e-4, atol=1e-4)
    check_complete(model, some, found)
    assert list(found.by_modality()) == ["scan", "rna", "clinic", "(formula)"]
    assert list(found.tables["clinic"]) == ["age", "sex", "stage"]
    assert list(found.tables["(formula)"]) == ["gene_3"]
    assert found.images["scan"].shape == (10, 8, 8)
    absent = some["image"].isna().to_numpy()
    assert absent.any()
    assert (found.images["scan"][absent] == 0).all()
    assert (found.by_modality().loc[absent, "scan"] == 0).all()
    assert (found.images["scan"][~absent] != 0).any((1, 2)).all()
    assert (found.by_modality()[["rna", "clinic"]] != 0).all(axis=None)


def cells(n: int = 30) -> tuple[pd.DataFrame, Any]:
    """Return a table with each kind of modality, some of each missing."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 6)), columns=[f"g{j}" for j in range(6)])
    frame["x"] = np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n))
    frame["site"] = rng.choice(["a", "b", "c"], n)
    bags = [
        [rng.integers(0, 256, (12, 10), dtype=np.uint8) for _ in range(k % 3)] for k in range(n)
    ]
    frame["bag"] = pd.Series(bags, dtype=object)
    frame["photo"] = pd.Series([rng.random((16, 16, 3), dtype=np.float32) for _ in range(n)])
    clouds = [rng.normal(size=(5 + k % 4, 3)) if k % 5 else None for k in range(n)]
    frame["cloud"] = pd.Series(clouds, dtype=object)
    frame["note"] = pd.Series(list(rng.normal(size=(n, 4))), dtype=object)
    return frame, rng.normal(size=n)


ALL_KINDS = {
    "bag": Image("bag", size=8, channels="L"),
    "photo": Image("photo", size=8, encoder="test_resnet", freeze="all"),
    "cloud": Points("cloud", hidden=(8,)),
    "note": Embedding("note"),
    "rna": Genes("g*", n_components=3, hidden=(6,)),
    "coded": Tabular(["x", "site"], encoding="onehot", hidden=(6,)),
    "tokens": Tabular(["x", "site"], encoder="tokens"),
    "pieces": Tabular(["x", "site"], pieces=3, hidden=(6,)),
}


@pytest.mark.parametrize(
    "fusion",
    [
        JointFusion("concat", dim=6, hidden=(4,)),
        JointFusion("transformer", dim=8, hidden=(), at="tokens"),
        LateFusion("stack", dim=6, hidden=(4,)),
    ],
    ids=["joint", "tokens", "stack"],
)
def test_every_kind_of_modality_adds_up(fusion: Any) -> None:
    frame, y = cells()
    model = FusionRegressor(ALL_KINDS, fusion=fusion, device="cpu", random_state=0, **LOUD)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = heard(model.fit(frame, y))
    some = frame[:6]
    found = attribute(model, some, n_steps=64)
    assert np.allclose(found.value, model.predict(some), rtol=1e-4, atol=1e-4)
    check_complete(model, some, found)
    assert list(found.tables["rna"]) == [f"g{j}" for j in range(6)]
    assert list(found.tables["pieces"]) == ["x", "site"]
    assert found.owners["bag"].tolist() == [1, 2, 2, 4, 5, 5]
    assert found.images["bag"].shape == (6, 12, 10)
    assert found.points["cloud"].shape == (6, 8)
    for name, has in {"bag": some["bag"].map(len) > 0, "cloud": some["cloud"].notna()}.items():
        assert (found.by_modality().loc[~has, name] == 0).all()


def test_a_frozen_encoder_of_what_stays_as_it_is_runs_once(monkeypatch: Any) -> None:
    frame, y = cells()
    kinds = {name: ALL_KINDS[name] for name in ("photo", "rna")}
    model = heard(FusionRegressor(kinds, device="cpu", random_state=0, **LOUD).fit(frame, y))
    some, seen = frame[:6], []
    (network,) = model.model_.deep.networks.values()
    encoder = network.encoders["photo"]
    source = getattr(encoder, "source", encoder)
    features = source.features
    monkeypatch.setattr(source, "features", lambda *a: seen.append(len(a[0])) or features(*a))
    found = attribute(model, some, "rna", n_steps=64)
    assert sum(seen) == 6
    check_complete(model, some, found)
    assert np.allclose(found.value, model.predict(some), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("reduce", ["pca", "features", None])
def test_early_fusion_adds_up(reduce: Any) -> None:
    frame, y = cells()
    modalities = {"rna": Genes("g*"), "clinic": Tabular(["x", "site"])}
    options = {} if reduce is None else {"reduce": reduce, "n_components": 3}
    fusion = EarlyFusion(hidden=(6,), **options)
    loud = LOUD | {"n_members": 1 if reduce == "features" else 2}
    model = FusionRegressor(modalities, fusion=fusion, device="cpu", random_state=0, **loud)
    model = heard(model.fit(frame, y))
    found = attribute(model, frame)
    assert np.allclose(found.value, model.predict(frame), rtol=1e-4, atol=1e-5)
    check_complete(model, frame, found)
    assert found.tables["clinic"]["site"].abs().max() > 0


def test_a_linear_model_is_coefficient_times_value_less_baseline() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(50, 10, size=(80, 3)), columns=["age", "dose", "g"])
    frame["site"] = rng.choice(["a", "b", "c"], 80)
    eta = 0.1 * frame["age"] - 0.05 * frame["dose"] + (frame["site"] == "b")
    y = surv(rng.exponential(np.exp(-eta)), rng.random(80) < 0.8)
    modalities = {"clinic": Tabular(["age", "dose", "site"])}
    model = FusionCox(modalities, structured="g", n_members=0, device="cpu").fit(frame, y)
    effects = model.linear_effects_["coef"]
    found = attribute(model, frame).tables
    for name in ("age", "dose"):
        sd = frame[name].std(ddof=0)
        expected = effects["clinic", name] / sd * (frame[name] - frame[name].mean())
        np.testing.assert_allclose(found["clinic"][name], expected, atol=1e-6)
    bits = pd.get_dummies(frame["site"]).astype(float)
    bits = bits - bits.mean()
    expected = sum(effects["clinic", f"site={level}"] * bits[level] for level in "abc")
    np.testing.assert_allclose(found["clinic"]["site"], expected, atol=1e-6)
    moves = model.model_.structured.moves
    expected = moves[0] * (frame["g"] - frame["g"].mean())
    np.testing.assert_allclose(found["(formula)"]["g"], expected, atol=1e-6)
    zero = attribute(model, frame, baseline="zero").tables
    expected = effects["clinic", "age"] / frame["age"].std(ddof=0) * frame["age"]
    np.testing.assert_allclose(zero["clinic"]["age"], expected, atol=1e-5)
    row = attribute(model, frame, baseline=frame[3:4]).tables
    expected = (
        effects["clinic", "age"] / frame["age"].std(ddof=0) * (frame["age"] - frame["age"].iloc[3])
    )
    np.testing.assert_allclose(row["clinic"]["age"], expected, atol=1e-6)
    both = attribute(
        model, frame, baseline=frame
    ).tables  # the mean of the table, in a linear model
    np.testing.assert_allclose(
        both["clinic"]["age"], attribute(model, frame).tables["clinic"]["age"], atol=1e-6
    )


def formulas(n: int = 120) -> tuple[pd.DataFrame, Any]:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"])
    frame["arm"] = rng.choice(["placebo", "drug"], n)
    frame["exposure"] = rng.uniform(1, 2, n)
    frame["centre"] = rng.choice(["north", "south"], n)
    eta = 0.5 * frame["a"] * frame["b"] + (frame["arm"] == "drug")
    time = np.ceil(10 * rng.exponential(np.exp(-eta))) / 10
    return frame, surv(time, rng.random(n) < 0.8)


def test_terms_of_several_columns_are_shared_out_and_offsets_known() -> None:
    frame, y = formulas()
    text = "a*b + s(c, k=5) + C(arm) + offset(log(exposure))"
    model = FusionCox({}, structured=text).fit(frame, y)
    found = attribute(model, frame)
    table = found.tables["(formula)"]
    assert set(table) == {"a", "b", "c", "arm", "exposure"}
    np.testing.assert_allclose(table.sum(axis=1), found.value - found.baseline_value, atol=1e-9)
    coef = model.effects_["coef"]
    at = frame[["a", "b"]].mean()
    # Of a product each has half of what both change, beside what it changes alone.
    a, b = frame["a"], frame["b"]
    expected = coef["a"] * (a - at["a"]) + coef["a:b"] * (a - at["a"]) * (b + at["b"]) / 2
    np.testing.assert_allclose(table["a"], expected, atol=1e-9)
    offset = np.log(frame["exposure"]) - np.log(frame["exposure"].mean())
    np.testing.assert_allclose(table["exposure"], offset, atol=1e-9)
    common = frame["arm"].mode()[0]
    assert (table.loc[frame["arm"] == common, "arm"] == 0).all()
    smooth = model.smooth_effect("s(c)", pd.DataFrame({"c": [*frame["c"], frame["c"].mean()]}))
    effect = smooth["effect"].to_numpy()
    np.testing.assert_allclose(table["c"], effect[:-1] - effect[-1], atol=1e-9)


@pytest.mark.parametrize("use", [{"head": "nonlinear"}, {"orthogonalization": "online"}])
def test_networks_that_read_the_formula_add_up(use: dict[str, Any]) -> None:
    frame, y = formulas()
    modalities = {"clinic": Tabular(["b", "c"], hidden=(6,))}
    model = heard(
        FusionCox(
            modalities, structured="a + C(arm)", device="cpu", random_state=0, **use, **LOUD
        ).fit(frame, y)
    )
    found = attribute(model, frame[:20])
    assert np.allclose(found.value, model.predict(frame[:20]), rtol=1e-4, atol=1e-5)
    check_complete(model, frame[:20], found)
    assert attribute(model, frame[:20], method="occlusion").tables["(formula)"]["a"].abs().min() > 0


def test_rows_that_the_formula_alone_predicts_and_strata() -> None:
    frame, y = formulas()
    frame.loc[:5, ["b", "c"]] = np.nan
    modalities = {"clinic": Tabular(["b", "c"], hidden=(6,), indicators=False)}
    params = {"device": "cpu", "random_state": 0, "strata": "centre", **LOUD}
    model = heard(FusionCox(modalities, structured="a + C(arm)", **params).fit(frame, y))
    for target in (None, ("survival", 0.5)):
        found = attribute(model, frame[:12], target=target)
        check_complete(model, frame[:12], found)
        assert (found.tables["clinic"][:6] == 0).all(axis=None)
        if target:
            expected = model.predict_survival_function(frame[:12], times=[0.5])[0.5]
        else:
            expected = model.predict(frame[:12])
        np.testing.assert_allclose(found.value, expected, rtol=1e-5)


def test_targets_are_what_the_estimators_predict() -> None:
    frame, y = formulas()
    modalities = {"clinic": Tabular(["a", "b", "arm"], hidden=(6,))}
    params: dict[str, Any] = {"device": "cpu", "random_state": 0, **LOUD}
    cox = heard(FusionCox(modalities, **params).fit(frame, y))
    some = frame[:8]
    survival = attribute(cox, some, target=("survival", 0.7))
    expected = cox.predict_survival_function(some, times=[0.7])[0.7]
    np.testing.assert_allclose(survival.value, expected, rtol=1e-5)
    check_complete(cox, some, survival)
    causes = np.where(y["event"], 1 + np.arange(len(y)) % 2, 0)
    competing = surv(y["time"], causes)
    pamm = heard(FusionPAMM(modalities, n_intervals=6, **params).fit(frame, competing))
    found = attribute(pamm, some, target=("cumulative_incidence", 2, 0.7))
    expected = pamm.predict_cumulative_incidence_function(some, times=[0.7], cause=2)[0.7]
    np.testing.assert_allclose(found.value, expected, rtol=1e-5)
    check_complete(pamm, some, found)
    discrete = heard(FusionDiscreteTime(modalities, n_intervals=5, **params).fit(frame, y))
    found = attribute(discrete, some, target=("quantile", 0.3))
    np.testing.assert_allclose(found.value, discrete.predict_quantile(some, 0.3), rtol=1e-5)
    name = discrete.model_.head.grid.names[1]
    found = attribute(discrete, some, target=("parameter", name))
    np.testing.assert_allclose(found.value, discrete._predictors(some)[1][:, 1], rtol=1e-5)
    check_complete(discrete, some, found)
    labels = np.array(["x", "y", "z"])[np.arange(len(frame)) % 3]
    classes = heard(FusionClassifier(modalities, **params).fit(frame, labels))
    found = attribute(classes, some, target=("class", "y"))
    np.testing.assert_allclose(found.value, classes.predict_proba(some)[:, 1], rtol=1e-5)
    check_complete(classes, some, found)
    with pytest.raises(ValueError, match=r'\("class", label\).*\[\'x\', \'y\', \'z\'\]'):
        attribute(classes, some)


def test_rows_of_one_subject_share_what_the_networks_say() -> None:
    rng = np.random.default_rng(3)
    n = 40
    frame = pd.DataFrame({"patient": np.repeat(np.arange(n), 2), "x": rng.normal(size=2 * n)})
    frame["g"] = np.repeat(rng.normal(size=n), 2)
    entry = np.tile([0.0, 1.0], n)
    y = surv(entry + rng.uniform(0.5, 1, 2 * n), (np.arange(2 * n) % 2 == 1), entry)
    model = FusionCox(
        {"m": Tabular(["g"], hidden=(4,))}, structured="x", id="patient", device="cpu", **LOUD
    )
    model = heard(model.fit(frame, y))
    found = attribute(model, frame)
    check_complete(model, frame, found)
    np.testing.assert_allclose(found.value, model.predict(frame), rtol=1e-5, atol=1e-6)
    g = found.tables["m"]["g"].to_numpy()
    np.testing.assert_allclose(g[::2], g[1::2], rtol=1e-6)


@pytest.mark.parametrize(
    "method", ["gradient_shap", "shapley_sampling", "occlusion", "input_x_gradient"]
)
def test_other_methods_agree_where_the_prediction_is_linear(method: str) -> None:
    frame, y = formulas()
    modalities = {"clinic": Tabular(["a", "b", "arm"])}
    model = FusionRegressor(modalities, structured="c", n_members=0, device="cpu").fit(
        frame, y["time"]
    )
    expected = attribute(model, frame[:9])
    found = attribute(model, frame[:9], method=method)
    for name, table in expected.tables.items():
        pd.testing.assert_frame_equal(found.tables[name], table, atol=1e-6)
    assert (found.gap < 1e-6).all()


def test_one_modality_leaves_the_others_as_they_are() -> None:
    frame, y = cohort_for("cox")
    model = heard(make_model("cox", "gated", **LOUD).fit(frame, y))
    found = attribute(model, frame[:6], modality="rna", batch_size=4)
    assert list(found.by_modality()) == ["rna"]
    check_complete(model, frame[:6], found)
    swapped = frame[:6].copy()
    swapped[[f"gene_{j}" for j in range(10)]] = model.modalities_["rna"].mean_
    np.testing.assert_allclose(found.baseline_value, model.predict(swapped), atol=1e-5)
    blurred = attribute(model, frame[:6], modality=["scan"], baseline="blur")
    check_complete(model, frame[:6], blurred)


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_shap", "occlusion"])
def test_no_more_rows_and_steps_than_a_batch_are_held_at_once(
    method: str, monkeypatch: Any
) -> None:
    frame, y = formulas()
    modalities = {"clinic": Tabular(["a", "b", "arm"], hidden=(6,))}
    model = heard(FusionCox(modalities, device="cpu", random_state=0, **LOUD).fit(frame, y))
    some, seen = frame[:25], []
    outputs = Explained._outputs
    monkeypatch.setattr(
        Explained, "_outputs", lambda *args: seen.append(len(args[3])) or outputs(*args)
    )
    whole = attribute(model, some, method=method).tables["clinic"]
    assert max(seen) >= 25
    seen.clear()
    apart = attribute(model, some, method=method, batch_size=7).tables["clinic"]
    assert max(seen) <= 7
    pd.testing.assert_frame_equal(apart, whole, rtol=1e-4, atol=1e-6)


def test_a_loaded_model_says_the_same_and_is_left_as_it_is(tmp_path: Path) -> None:
    frame, y = cohort_for("cox")
    model = make_model("cox", "gated", structured="age", **LOUD).fit(frame, y)
    before = model.predict(frame)
    model.save(tmp_path / "model")
    loaded = FusionCox.load(tmp_path / "model")
    found, other = attribute(model, frame[:5]), attribute(loaded, frame[:5])
    for name, table in found.tables.items():
        pd.testing.assert_frame_equal(other.tables[name], table)
    np.testing.assert_array_equal(model.predict(frame), before)


def test_steps_run_out_with_a_warning() -> None:
    frame, y = cohort_for("cox")
    model = heard(make_model("cox", "gated", **LOUD).fit(frame, y))
    with pytest.warns(AttributionWarning, match="miss the change of the prediction"):
        found = attribute(model, frame[:5], n_steps=1, max_steps=1)
    assert found.gap.max() > 0.01


def test_bad_input_is_told() -> None:
    frame, y = cohort_for("cox")
    model = make_model("cox", "gated", epochs=1).fit(frame, y)
    with pytest.raises(ValueError, match=r"must name some of \['scan', 'rna', 'clinic'\]"):
        attribute(model, frame, modality="ct")
    with pytest.raises(TypeError, match=r"options \['n_steps'.*Got 'steps'"):
        attribute(model, frame, steps=3)
    with pytest.raises(ValueError, match="n_steps option must be a positive integer"):
        attribute(model, frame, n_steps=0)
    with pytest.raises(ValueError, match="The target parameter must be one of"):
        attribute(model, frame, target=("risk",))
    with pytest.raises(ValueError, match="follow-up of the training"):
        attribute(model, frame, target=("survival", 1e6))
    with pytest.raises(ValueError, match="CoxHead"):
        attribute(model, frame, target=("class", "a"))
    with pytest.raises(ValueError, match="modality_shapley"):
        attribute(model, frame, baseline="absent")
    with pytest.raises(TypeError, match="DataFrame of rows"):
        attribute(model, frame, baseline=0.0)
    with pytest.raises(ValueError, match=r"deep_lift.*integrated_gradients"):
        attribute(heard(model), frame[:5], method="deep_lift")
    with pytest.raises(NotFittedError):
        attribute(FusionCox(), frame)
    several = FusionEnsemble(model, 1).fit(frame, y)
    for ask in (attribute, modality_shapley, embed):
        with pytest.raises(TypeError, match="Got FusionEnsemble: look at each of its estimators_"):
            ask(several, frame)


def test_distributions_are_attributed_by_mean_parameter_quantile_curve_and_level() -> None:
    frame, y = formulas()
    modalities = {"clinic": Tabular(["a", "b", "arm"], hidden=(6,))}
    params: dict[str, Any] = {"device": "cpu", "random_state": 0, **LOUD}
    both = {"structured": {"loc": "c", "scale": "a"}, "deep": ("loc", "scale")}
    some = frame[:8]
    normal = heard(FusionDistribution(modalities, **both, **params).fit(frame, y["time"]))
    weibull = heard(FusionDistribution(modalities, family="weibull", **params).fit(frame, y))
    levels = np.digitize(y["time"], [0.3, 0.8])
    ordinal = heard(FusionDistribution(modalities, family="ordinal", **params).fit(frame, levels))
    for model, target, expected in (
        (normal, None, normal.predict(some)),
        (normal, ("parameter", "scale"), normal.predict_parameters(some)["scale"]),
        (normal, ("quantile", 0.9), normal.predict_quantile(some, 0.9)),
        (weibull, ("survival", 0.5), weibull.predict_survival_function(some, [0.5])[0.5]),
        (ordinal, ("class", 1), ordinal.predict_proba(some)[:, 1]),
    ):
        found = attribute(model, some, target=target)
        np.testing.assert_allclose(found.value, expected, rtol=1e-5)
        check_complete(model, some, found)
