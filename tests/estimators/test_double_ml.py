"""``inference="double_ml"``: nuisance networks fold by fold, and what is reported of them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold

from mmfusion.estimators import FusionClassifier, FusionCox, FusionRegressor
from mmfusion.modalities import Tabular
from mmfusion.model import dealing as folds_module
from mmfusion.model.confounding import omitted_bias, robustness_value
from mmfusion.survival import surv

pytestmark = pytest.mark.usefixtures("one_network")

QUICK: dict[str, Any] = {
    "epochs": 8,
    "batch_size": 128,
    "learning_rate": 0.05,
    "device": "cpu",
    "random_state": 0,
}
DML: dict[str, Any] = {"inference": "double_ml", "treatment": "arm"}


def draw(n: int = 300, seed: int = 0) -> pd.DataFrame:
    """Return a table whose treatment (arm, dose) follows x; the outcome follows both."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["x", "w", "z"])
    frame["arm"] = (rng.uniform(size=n) < expit(frame["x"])).astype(float)
    frame["dose"] = frame["x"] + rng.normal(size=n)
    frame["y"] = 0.5 * frame["arm"] + frame["x"] + 0.3 * frame["w"] + rng.normal(size=n)
    frame["ill"] = rng.uniform(size=n) < expit(0.7 * frame["arm"] + frame["x"] - 0.5)
    frame["site"] = rng.integers(0, 40, size=n)
    return frame


def fixed_folds(labels: np.ndarray, cluster: Any, n_folds: int, seed: int) -> Any:
    return list(KFold(5).split(labels))


def sandwich(shares: np.ndarray) -> float:
    return float(np.sqrt(np.sum(shares**2)))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("treatment", ["arm", "dose"])
def test_gaussian_against_scikit_learn(
    monkeypatch: pytest.MonkeyPatch, treatment: str, weighted: bool
) -> None:
    monkeypatch.setattr(folds_module, "deal_folds", fixed_folds)
    frame = draw()
    weight = np.random.default_rng(5).uniform(0.5, 2, size=len(frame)) if weighted else None
    model = FusionRegressor({}, structured=f"{treatment} + x + w", **DML)
    model.set_params(treatment=treatment).fit(frame, frame["y"], weight)
    X, d, y = frame[["x", "w"]], frame[treatment].to_numpy(), frame["y"].to_numpy()
    w = np.ones(len(frame)) if weight is None else weight
    u, v = y.copy(), d.copy()
    for train, held in KFold(5).split(X):
        rows = X.iloc[train], X.iloc[held]
        u[held] -= LinearRegression().fit(rows[0], y[train], w[train]).predict(rows[1])
        if treatment == "arm":
            chance = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
            v[held] -= chance.fit(rows[0], d[train], w[train]).predict_proba(rows[1])[:, 1]
        else:
            v[held] -= LinearRegression().fit(rows[0], d[train], w[train]).predict(rows[1])
    theta = np.sum(w * v * u) / np.sum(w * v * v)
    row = model.effects_.loc[treatment]
    assert row["coef"] == pytest.approx(theta, rel=1e-5)
    assert row["se"] == pytest.approx(
        sandwich(w * v * (u - theta * v)) / np.sum(w * v * v), rel=1e-5
    )
    # Frisch & Waugh: with linear functions it is least squares, but for the folds.
    ols = FusionRegressor({}, structured=f"{treatment} + x + w").fit(frame, frame["y"], weight)
    if treatment == "dose":
        assert abs(row["coef"] - ols.effects_.loc["dose", "coef"]) < 0.15 * row["se"]
    others = ["Intercept", "x", "w"]
    pd.testing.assert_frame_equal(model.effects_.loc[others], ols.effects_.loc[others])


@pytest.mark.parametrize("treatment", ["arm", "dose"])
def test_binomial_against_scikit_learn(monkeypatch: pytest.MonkeyPatch, treatment: str) -> None:
    monkeypatch.setattr(folds_module, "deal_folds", fixed_folds)
    frame = draw(400)
    model = FusionClassifier({}, structured=f"{treatment} + x", **DML)
    model.set_params(treatment=treatment).fit(frame, frame["ill"])
    X, d, y = frame[["x"]], frame[treatment].to_numpy(), frame["ill"].to_numpy()
    chance, m = np.zeros(len(y)), np.zeros(len(y))
    options = {"C": np.inf, "tol": 1e-10, "max_iter": 1000}
    for train, held in KFold(5).split(X):
        rest = X.iloc[held]
        fitted = LogisticRegression(**options).fit(X.iloc[train], y[train])
        chance[held] = fitted.predict_proba(rest)[:, 1]
        well = train[~y[train]]
        if treatment == "arm":
            fitted = LogisticRegression(**options).fit(X.iloc[well], d[well])
            m[held] = fitted.predict_proba(rest)[:, 1]
        else:
            m[held] = LinearRegression().fit(X.iloc[well], d[well]).predict(rest)

    def scores(theta: float) -> np.ndarray:
        # As Liu, Zhang & Zhou write it, with a weight that is a function of x.
        if treatment == "arm":
            r = logit(chance) - np.log(1 - m + m * np.exp(theta))
        else:
            r = logit(chance) - theta * m - np.log(np.mean(np.exp(theta * (d - m)[~y])))
        phi = (1 - chance) * np.exp(theta * m)
        return phi * (y * np.exp(-theta * d) - (1 - y) * np.exp(r)) * (d - m)

    theta = brentq(lambda value: scores(value).sum(), -3, 3)
    slope = np.sum(y * (1 - chance) * (d - m) ** 2 * np.exp(-theta * (d - m)))
    row = model.effects_.loc[treatment]
    assert row["coef"] == pytest.approx(theta, rel=1e-4)
    assert row["se"] == pytest.approx(sandwich(scores(theta)) / slope, rel=1e-4)
    assert row["exp(coef)"] == pytest.approx(np.exp(theta), rel=1e-4)


@pytest.mark.parametrize("binomial", [False, True])
def test_networks_remove_confounding_that_the_formula_does_not_know(binomial: bool) -> None:
    rng = np.random.default_rng(1)
    n = 1200
    frame = pd.DataFrame({"z": rng.uniform(-2, 2, size=n)})
    hidden = np.abs(frame["z"]) - 1
    frame["arm"] = (rng.uniform(size=n) < expit(2 * hidden)).astype(float)
    eta = 0.5 * frame["arm"] + 2 * hidden
    kind: Any = FusionClassifier if binomial else FusionRegressor
    y = rng.uniform(size=n) < expit(eta) if binomial else eta + rng.normal(size=n)
    model = kind({"z": Tabular(["z"], hidden=(16,))}, structured="arm", **DML, **QUICK).fit(
        frame, y
    )
    row = model.effects_.loc["arm"]
    plain = kind({}, structured="arm").fit(frame, y).effects_.loc["arm"]
    assert abs(plain["coef"] - 0.5) > 5 * plain["se"]
    assert abs(row["coef"] - 0.5) < 2.5 * row["se"]
    assert row["se"] < 0.2


def test_a_cluster_counts_as_one_and_stays_in_one_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each site twice over: the standard error is that of half the rows.
    frame = draw(200)
    frame["site"] = np.arange(200)
    twice = pd.concat([frame, frame], ignore_index=True)
    groups = []
    inner = folds_module.deal_folds

    def watched(labels: np.ndarray, cluster: Any, n_folds: int, seed: int) -> Any:
        for train, held in inner(labels, cluster, n_folds, seed):
            if cluster is None:
                cluster = np.arange(len(labels))
            groups.append(set(cluster[train]) & set(cluster[held]))
            yield train, held

    monkeypatch.setattr(folds_module, "deal_folds", watched)
    settings = {"structured": "arm + x", "random_state": 0, **DML}
    one = FusionRegressor({}, **settings).fit(frame, frame["y"]).effects_.loc["arm", "se"]
    plain = FusionRegressor({}, cluster="site", **settings).fit(twice, twice["y"])
    assert groups == [set()] * 2 * 3 * 5
    assert plain.effects_.loc["arm", "se"] == pytest.approx(one, rel=0.05)


@pytest.mark.parametrize("arm", ["number", "text"])
def test_saved_cloned_pickled(tmp_path: Path, arm: str) -> None:
    frame = draw()
    y = frame.pop("y")
    if arm == "text":
        frame["arm"] = np.where(frame["arm"] == 1, "new", "control")
    name = "arm" if arm == "number" else "arm[T.new]"
    modalities = {"z": Tabular(["z"], hidden=(4,))}
    model = FusionRegressor(modalities, structured="arm + s(x, k=5)", **DML, **QUICK)
    model.fit(frame, y)
    assert clone(model).get_params()["treatment"] == "arm"
    model.save(tmp_path / "m")
    loaded = FusionRegressor.load(tmp_path / "m")
    for other in (loaded, pickle.loads(pickle.dumps(model)), clone(model).fit(frame, y)):
        pd.testing.assert_frame_equal(other.effects_, model.effects_)
        pd.testing.assert_frame_equal(other.covariance_, model.covariance_)
        np.testing.assert_array_equal(other.predict(frame), model.predict(frame))
    effects, covariance = model.effects_, model.covariance_
    assert covariance.notna().all().all()
    assert covariance.loc[name, name] == pytest.approx(effects.loc[name, "se"] ** 2)
    test = model.effects_test(["arm"])
    assert test["p"] == pytest.approx(effects.loc[name, "p"])
    assert "double_ml" in str(loaded.summary())
    with pytest.raises(ValueError, match="must be 'wald'"):
        model.effects_test(["arm"], "likelihood_ratio", frame, y)
    # It predicts as the model does; the other rows are the model's.
    same = clone(model).set_params(inference="model", treatment=None).fit(frame, y)
    np.testing.assert_array_equal(same.predict(frame), model.predict(frame))
    pd.testing.assert_frame_equal(effects.drop(name), same.effects_.drop(name))


def test_inferred_modalities_leave_the_treatment_out() -> None:
    frame = draw(100)[["x", "w", "arm", "y"]]
    y = frame.pop("y")
    model = FusionRegressor(structured="arm", **DML, **(QUICK | {"epochs": 1})).fit(frame, y)
    assert [m.columns_ for m in model.modalities_.values()] == [["x", "w"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"treatment": None}, "treatment parameter must name a term"),
        ({"treatment": "therapy"}, r"must name a term of the formula .* one of \['arm', 'x'\]"),
        ({"structured": "C(site) + x", "treatment": "C(site)"}, "one coefficient.*has 39"),
        ({"structured": "s(dose) + x", "treatment": "s(dose)"}, "one coefficient.*smooth"),
        ({"structured": "arm * x"}, "'arm:x' must not read"),
        ({"structured": None}, "needs a formula"),
        ({"modalities": {"t": Tabular(["arm", "z"])}}, "modality 't' reads"),
    ],
)
def test_bad_input_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    def no_training(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("trained")

    monkeypatch.setattr("mmfusion.model.learning.Prepared.train", no_training)
    frame = draw()
    model = FusionRegressor({"z": Tabular(["z"])}, structured="arm + x", **DML, **QUICK)
    with pytest.raises(ValueError, match=message):
        model.set_params(**change).fit(frame, frame["y"])


def test_other_outcomes_and_rare_treatments_are_refused() -> None:
    frame = draw(60)
    with pytest.raises(ValueError, match="Gaussian and binomial"):
        FusionCox({}, structured="arm", inference="double_ml").fit(
            frame, surv(np.arange(1.0, 61), frame["ill"])
        )
    frame["arm"] = (np.arange(60) < 3).astype(float)
    with pytest.raises(ValueError, match=r"5 rows or more with each value .* Got 3"):
        FusionRegressor({}, structured="arm + x", **DML).fit(frame, frame["y"])
    frame["arm"] = 2 * frame["x"] + 1
    with pytest.raises(ValueError, match=r"collinear|arm"):
        FusionRegressor({}, structured="arm + x", **DML).fit(frame, frame["y"])


def test_a_treatment_is_for_double_machine_learning_alone() -> None:
    frame = pd.DataFrame({"dose": [0.0, 1.0] * 20, "y": np.arange(40.0)})
    model = FusionRegressor({}, structured="dose", treatment="dose")
    with pytest.raises(ValueError, match=r"read with inference='double_ml' alone.* Got 'dose'"):
        model.fit(frame, frame["y"])


@pytest.mark.parametrize("binomial", [False, True])
def test_what_was_learned_is_told(binomial: bool, tmp_path: Path) -> None:
    frame = draw(600)
    kind: Any = FusionClassifier if binomial else FusionRegressor
    y = frame["ill"] if binomial else frame["y"]
    model = kind({}, structured="arm + x + w", **DML).fit(frame, y)
    found = model.confounding_
    table = found.table
    assert found.warning == ""
    assert table["treatment: explained"] == pytest.approx(
        1 - table["treatment: log loss"] / table["treatment: log loss of a constant"]
    )
    assert 0.05 < table["treatment: explained"] < 0.3
    measure = "log loss" if binomial else "squared error"
    assert table[f"outcome: {measure}"] < table[f"outcome: {measure} of a constant"]
    text = str(model.summary())
    assert "In rows that they did not see, the models explain" in text
    assert "Warning" not in text
    assert ("robustness value" in table) == (not binomial)
    model.save(tmp_path / "m")
    again = kind.load(tmp_path / "m").confounding_
    pd.testing.assert_series_equal(again.table, table)
    with pytest.raises(AttributeError, match="without inference='double_ml'"):
        kind({}, structured="arm + x").fit(frame, y).confounding_


def test_the_robustness_value_is_cinelli_and_hazletts() -> None:
    """Of least squares: a confounder of that strength, made to measure, takes the effect away."""
    rng = np.random.default_rng(0)
    n = 4000
    d = rng.normal(size=n)
    y = 0.3 * d + rng.normal(size=n)
    v, u = d - d.mean(), y - y.mean()
    coef = v @ u / (v @ v)
    rest = u - coef * v
    se = rest.std() / v.std() / np.sqrt(n)
    value = robustness_value(coef, se, n)
    assert omitted_bias(rest, v, value, value) == pytest.approx(abs(coef), rel=1e-3)
    assert robustness_value(coef, se, n, 1.96) < value
    assert robustness_value(0.0, se, n) == 0.0
    # A confounder that explains this share of both.
    e = rng.normal(size=n)
    for other in (v, rest):
        e -= (e @ other) / (other @ other) * other
    z = np.sqrt(value) * v / v.std() + np.sqrt(1 - value) * e / e.std()
    z += np.sqrt(value / (1 - value)) * np.sqrt(1 - value) * rest / rest.std()
    z -= z.mean()
    beside = v - (v @ z) / (z @ z) * z
    adjusted = beside @ u / (beside @ beside)
    assert abs(adjusted) < 0.3 * abs(coef)


def test_a_confounder_that_is_not_learned_is_named() -> None:
    rng = np.random.default_rng(3)
    n = 600
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["x", "w", "z"])
    hidden = frame["x"] * frame["w"]
    frame["arm"] = (rng.uniform(size=n) < expit(hidden)).astype(float)
    y = 0.5 * frame["arm"] + hidden + rng.normal(size=n)
    model = FusionRegressor({}, structured="arm + x + w + z", **DML).fit(frame, y)
    row = model.effects_.loc["arm"]
    assert row["lower"] > 0.5
    assert "w * x goes together" in model.confounding_.warning
    assert model.confounding_.table["left: feature"] == "w * x"
    assert "Warning: w * x goes together" in str(model.summary())
    assert model.effects_.attrs["warning"] == model.confounding_.warning
