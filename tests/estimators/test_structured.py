"""The structured part inside the estimators: exact start, offset, projection, refit, effects."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from lifelines import CoxPHFitter
from scipy import stats
from sklearn.base import clone

from mmfusion.estimators import FusionClassifier, FusionCox, FusionDiscreteTime, FusionRegressor
from mmfusion.fusion import JointFusion, LateFusion
from mmfusion.modalities import Genes, Tabular
from mmfusion.model import Model, Plan, Study
from mmfusion.structured import Likelihood
from mmfusion.survival import surv
from mmfusion.training import Training
from tests.estimators.common import cohort_for

pytestmark = pytest.mark.usefixtures("one_network")

DEEP = {"deep": Tabular(["z0", "z1", "z2"], hidden=(8,))}
QUICK: dict[str, Any] = {
    "epochs": 30,
    "batch_size": 64,
    "learning_rate": 0.01,
    "device": "cpu",
    "random_state": 0,
}


def draw(n: int = 300, seed: int = 0, copy: bool = False) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table whose hazard is linear in dose and sex, and in z0; z2 may carry dose."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 4)), columns=["dose", "z0", "z1", "z2"])
    frame["sex"] = rng.choice(["f", "m"], size=n)
    if copy:
        frame["z2"] = frame["dose"] + 0.3 * rng.normal(size=n)
    eta = 0.5 * frame["dose"] + 0.4 * (frame["sex"] == "m") + 0.7 * frame["z0"]
    time = rng.exponential(np.exp(-eta))
    limit = rng.exponential(3.0, size=n)
    return frame, surv(np.minimum(time, limit), time <= limit)


def test_without_modalities_it_is_the_cox_model() -> None:
    frame, y = draw()
    model = FusionCox({}, structured="dose + sex").fit(frame, y)
    table = pd.DataFrame({"dose": frame["dose"], "male": (frame["sex"] == "m").astype(float)})
    table["time"], table["event"] = y["time"], y["event"]
    fitter = CoxPHFitter().fit(table, "time", "event", fit_options={"precision": 1e-12})
    effects = model.effects_
    np.testing.assert_allclose(effects["coef"], fitter.params_, rtol=1e-6)
    np.testing.assert_allclose(effects["se"], fitter.standard_errors_, rtol=1e-5)
    np.testing.assert_allclose(effects["p"], fitter.summary["p"], rtol=1e-4)
    np.testing.assert_allclose(effects["exp(coef)"], np.exp(effects["coef"]))
    assert model.deep_share_ == 0.0
    assert model.structured_weight_ == 1.0
    at = [0.3, 0.8, 1.5]
    ours = model.predict_survival_function(frame[:20], at).to_numpy()
    theirs = fitter.predict_survival_function(table[:20], at).to_numpy().T
    np.testing.assert_allclose(ours, theirs, atol=5e-3)  # lifelines interpolates between events


def test_without_modalities_it_is_least_squares_and_logistic_regression() -> None:
    frame, _ = draw()
    rng = np.random.default_rng(1)
    design = sm.add_constant(frame[["dose", "z0"]])
    number = 3.0 + 40 * frame["dose"] + 10 * rng.normal(size=len(frame))
    ours = FusionRegressor({}, structured="dose + z0").fit(frame, number)
    theirs = sm.OLS(number, design).fit()
    np.testing.assert_allclose(ours.effects_["coef"], theirs.params, rtol=1e-6)
    np.testing.assert_allclose(ours.effects_["se"], theirs.bse, rtol=1e-5)
    np.testing.assert_allclose(ours.predict(frame), theirs.fittedvalues, rtol=1e-6)

    label = np.where(frame["dose"] + rng.logistic(size=len(frame)) > 0, "yes", "no")
    ours = FusionClassifier({}, structured="dose + z0").fit(frame, label)
    theirs = sm.Logit((label == "yes").astype(float), design).fit(disp=0)
    np.testing.assert_allclose(ours.effects_["coef"], theirs.params, rtol=1e-5)
    np.testing.assert_allclose(ours.effects_["se"], theirs.bse, rtol=1e-5)
    np.testing.assert_allclose(ours.predict_proba(frame)[:, 1], theirs.predict(), rtol=1e-5)


@pytest.mark.filterwarnings("ignore::mmfusion.model.share.UnjudgedWarning")
@pytest.mark.parametrize("kind", ["cox", "regressor", "classifier"])
def test_projection_is_exact(kind: str) -> None:
    frame, y = draw(copy=True)
    whole: Any = QUICK | {"patience": None}  # the networks are kept, whatever they add
    if kind == "cox":
        model: Any = FusionCox(DEEP, structured="dose + sex", **whole)
    elif kind == "regressor":
        model, y = (
            FusionRegressor(DEEP, structured="dose + sex", **whole),
            np.log(y["time"]),
        )
    else:
        model, y = (
            FusionClassifier(DEEP, structured="dose + sex", **whole),
            y["event"],
        )
    model.fit(frame, y)
    fitted = model.model_
    part, design = fitted.structured, fitted.structured.design(frame)
    deep = fitted.deep_predictor(frame)
    rest = deep - design.predict(part.projection)
    likelihood = Likelihood(fitted.head, fitted.head.encode(y))
    assert deep.std() > 0.01
    # Orthogonal in the mean metric of the likelihood on the way from the structured predictor ...
    classical = type(model)({}, structured="dose + sex").fit(frame, y).inference_.fit.coef
    np.testing.assert_allclose(part.final.coef, classical, atol=1e-8)
    base = design.predict(classical)
    change = likelihood.gradient(base + rest) - likelihood.gradient(base)
    joint = likelihood.information(base + rest / 2, design)
    length = np.sqrt(joint.diagonal() * (rest * change).sum())
    assert np.abs(design.pull(change) / length).max() < 1e-8
    # ... and what was taken off is given to the coefficients: nothing is lost.
    given = design.predict(classical + part.projection) + rest
    np.testing.assert_allclose(given, base + deep, atol=1e-6)


def test_a_rows_prediction_does_not_depend_on_its_neighbours() -> None:
    frame, y = draw(copy=True)
    model = FusionCox(DEEP, structured="dose + sex", **QUICK).fit(frame, y)
    whole = model.predict(frame)
    np.testing.assert_allclose(model.predict(frame[5:6]), whole[5:6], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.predict(frame[::-1]), whole[::-1], rtol=1e-5, atol=1e-6)


def test_a_copy_in_the_deep_part_does_not_distort_the_effect() -> None:
    far = {"post_hoc": 0, None: 0}
    for seed in range(5):
        frame, y = draw(400, seed, copy=True)
        classical = FusionCox({}, structured="dose").fit(frame, y).effects_.loc["dose"]
        # A strong deep part that learns from the copy alone what dose would say.
        modalities = {"copy": Tabular(["z2"], encoder="raw")}
        for how in far:
            model = FusionCox(
                modalities,
                JointFusion(hidden=()),
                structured="dose",
                orthogonalization=how,
                epochs=60,
                patience=None,
                learning_rate=0.05,
                training=Training(weight_decay=0.0),
                batch_size=None,
                device="cpu",
                random_state=seed,
            )
            coef = model.fit(frame, y).effects_.loc["dose", "coef"]
            far[how] += abs(coef - classical["coef"]) > 2 * classical["se"]
    assert far["post_hoc"] == 0


def test_two_stage_holds_the_classical_coefficients() -> None:
    frame, y = draw()
    model = FusionCox(
        DEEP, structured="dose", orthogonalization="two_stage", patience=None, **QUICK
    ).fit(frame, y)
    classical = FusionCox({}, structured="dose").fit(frame, y)
    assert model.effects_.loc["dose", "coef"] == pytest.approx(
        classical.effects_.loc["dose", "coef"], rel=1e-9
    )
    assert model.deep_share_ > 0.05


def test_noise_leaves_the_classical_model() -> None:
    frame, y = draw()
    rng = np.random.default_rng(9)
    frame[["z0", "z1", "z2"]] = rng.normal(size=(len(frame), 3))
    model = FusionCox(DEEP, structured="dose + sex", **QUICK).fit(frame, y)
    classical = FusionCox({}, structured="dose + sex").fit(frame, y)
    assert model.deep_share_ < 0.2
    assert np.corrcoef(model.predict(frame), classical.predict(frame))[0, 1] > 0.9


def test_a_useful_deep_part_helps_and_narrows_nothing_it_should_not() -> None:
    frame, y = draw(500)
    held, held_y = draw(500, seed=1)
    model = FusionCox(DEEP, structured="dose + sex", **QUICK).fit(frame, y)
    classical = FusionCox({}, structured="dose + sex").fit(frame, y)
    assert model.score(held, held_y) > classical.score(held, held_y) + 0.03
    assert model.deep_share_ > 0.2


@pytest.mark.parametrize("fusion", ["concat", LateFusion()])
def test_saved_cloned_pickled(tmp_path: Path, fusion: Any) -> None:
    frame, y = draw()
    modalities = {"a": Tabular(["z0"]), "b": Tabular(["z1", "z2"])}
    model = FusionCox(
        modalities, fusion, structured="s(dose, k=6) + sex", inference="robust", **QUICK
    ).fit(frame, y)
    model.save(tmp_path / "m")
    loaded = FusionCox.load(tmp_path / "m")
    for other in (loaded, pickle.loads(pickle.dumps(model)), clone(model).fit(frame, y)):
        np.testing.assert_array_equal(other.predict(frame), model.predict(frame))
        pd.testing.assert_frame_equal(other.effects_, model.effects_)
        pd.testing.assert_frame_equal(other.covariance_, model.covariance_)
    grid = [-1.0, 0.0, 1.0]
    effect = loaded.smooth_effect("s(dose)", grid)
    pd.testing.assert_frame_equal(effect, model.smooth_effect("s(dose)", grid))
    assert (effect["lower"] < effect["effect"]).all()
    assert 0 <= loaded.effects_test(["sex"])["p"] <= 1
    assert str(loaded.summary()) == str(model.summary())


def test_cross_fit_does_not_believe_what_was_memorised() -> None:
    # A network that memorises noise explains the training outcome; its information makes the
    # intervals too narrow. Networks that did not see the row explain nothing.
    frame, y = draw(200)
    rng = np.random.default_rng(3)
    noise = pd.DataFrame(rng.normal(size=(200, 30))).add_prefix("n")
    frame = pd.concat([frame, noise], axis=1)
    modalities = {"noise": Tabular(list(noise), hidden=(64,), dropout=0.0)}
    told = {}
    for inference in ("model", "cross_fit"):
        model = FusionCox(
            modalities,
            structured="dose",
            orthogonalization=None,
            inference=inference,
            epochs=60,
            patience=None,
            batch_size=None,
            learning_rate=0.01,
            device="cpu",
            random_state=0,
        ).fit(frame, y)
        told[inference] = model.inference_.fit.log_likelihood
    classical = FusionCox({}, structured="dose").fit(frame, y).inference_.fit
    assert told["model"] > classical.log_likelihood + 50
    assert told["cross_fit"] < classical.log_likelihood + 5


@pytest.mark.parametrize("how", ["post_hoc", "online", "two_stage"])
@pytest.mark.parametrize("kind", ["cox", "regressor", "classifier"])
def test_the_default_table_is_the_classical_models(tmp_path: Path, kind: str, how: str) -> None:
    # Its coefficients beside the residual variance of the networks would reject a true null in a
    # third of the trials.
    frame, outcome = draw(300)
    frame["site"] = np.arange(300) % 20
    estimator: Any = {"cox": FusionCox, "regressor": FusionRegressor}.get(kind, FusionClassifier)
    y: Any = {"cox": outcome, "regressor": np.log(outcome["time"])}.get(kind, outcome["event"])
    for inference, cluster in (("model", None), ("robust", None), ("model", "site")):
        asked = {"structured": "dose + sex", "inference": inference, "cluster": cluster}
        settings = QUICK | asked | {"patience": None}
        model = estimator(DEEP, orthogonalization=how, **settings).fit(frame, y)
        assert model.deep_share_ > 0.05
        classical = estimator({}, **asked).fit(frame, y)
        pd.testing.assert_frame_equal(model.effects_, classical.effects_, rtol=1e-6)
        pd.testing.assert_frame_equal(model.covariance_, classical.covariance_, rtol=1e-6)
        assert "not adjusted for the modalities" in model.effects_.attrs["estimand"]
        assert "alone" in classical.effects_.attrs["estimand"]
    profiles = frame[:2].assign(dose=[0.0, 1.0])
    pd.testing.assert_frame_equal(
        model.contrast(profiles[1:], profiles[:1]), classical.contrast(profiles[1:], profiles[:1])
    )
    model.save(tmp_path / "model")
    again = estimator.load(tmp_path / "model")
    pd.testing.assert_frame_equal(again.effects_, model.effects_)
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))


@pytest.mark.parametrize("kind", ["cox", "classifier"])
def test_a_contrast_may_be_of_what_predictions_move_by(kind: str) -> None:
    # effects_ said a hazard ratio of 2.64 where predict moved by 1.93.
    frame, y = draw(300)
    settings = QUICK | {"patience": None, "structured": "dose + sex"}
    if kind == "cox":
        model: Any = FusionCox(DEEP, **settings).fit(frame, y)
    else:
        model = FusionClassifier(DEEP, **settings).fit(frame, y["event"])
    pair = frame.iloc[[0, 0]].assign(dose=[0.0, 1.0])
    moved = model.contrast(pair[1:], pair[:1], of="predictor")
    eta = model._predictors(pair)[1][:, 0]
    assert moved["estimate"].iloc[0] == pytest.approx(eta[1] - eta[0], abs=1e-12)
    assert moved["exp(estimate)"].iloc[0] == pytest.approx(np.exp(eta[1] - eta[0]))
    reported = model.contrast(pair[1:], pair[:1])
    assert abs(reported["estimate"].iloc[0] - moved["estimate"].iloc[0]) > 0.005
    carried = model.model_.structured.projection
    assert carried.any()
    text = str(model.summary())
    columns = ["classical", "predictor", "networks"]
    header = next(line for line in text.splitlines() if line.split() == columns)
    lines = text.split(header)[1].splitlines()
    dose = next(line for line in lines if line.startswith("dose")).split()
    assert float(dose[2]) == pytest.approx(moved["estimate"].iloc[0], rel=1e-3)
    assert "networks carry" in text
    plain = type(model)({}, structured="dose + sex").fit(frame, y if kind == "cox" else y["event"])
    assert "networks" not in str(plain.summary())
    pd.testing.assert_frame_equal(
        plain.contrast(pair[1:], pair[:1], of="predictor"),
        plain.contrast(pair[1:], pair[:1])[["estimate", "exp(estimate)"]],
    )
    with pytest.raises(ValueError, match="The of parameter must be one of"):
        model.contrast(pair, pair, of="networks")


@pytest.mark.parametrize("how", ["post_hoc", "online"])
def test_the_default_table_of_a_gaussian_outcome_is_ordinary_least_squares(how: str) -> None:
    frame, _ = draw(200)
    rng = np.random.default_rng(2)
    y = 0.2 * frame["dose"] + 3 * frame["z0"] + rng.normal(size=200)  # z0 explains most of it
    model = FusionRegressor(
        DEEP, structured="dose", orthogonalization=how, **(QUICK | {"epochs": 60})
    ).fit(frame, y)
    assert model.deep_share_ > 0.5
    theirs = sm.OLS(y, sm.add_constant(frame["dose"])).fit()
    ours = model.effects_.loc["dose"]
    for name, expected in (("coef", theirs.params), ("se", theirs.bse), ("p", theirs.pvalues)):
        assert ours[name] == pytest.approx(expected["dose"], rel=1e-8)
    test = model.effects_test("dose", "likelihood_ratio", frame, y)
    plain = FusionRegressor({}, structured="dose").fit(frame, y)
    pd.testing.assert_series_equal(test, plain.effects_test("dose", "likelihood_ratio", frame, y))


def test_cross_fit_adjusts_for_chance_imbalance() -> None:
    # Projected off the design, the coefficient would be the unadjusted one beside a smaller error.
    squared = {"cross_fit": 0.0, "unadjusted": 0.0}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        frame = pd.DataFrame({"arm": rng.integers(0, 2, 200), "z": rng.normal(size=200)})
        y = 0.5 * frame["arm"] + 2 * frame["z"] + rng.normal(size=200)
        model = FusionRegressor(
            {"z": Tabular(["z"], hidden=())}, structured="arm", inference="cross_fit", **QUICK
        )
        adjusted = model.fit(frame, y).effects_.loc["arm"]
        plain = FusionRegressor({}, structured="arm").fit(frame, y).effects_.loc["arm"]
        assert adjusted["se"] < 0.7 * plain["se"]
        squared["cross_fit"] += (adjusted["coef"] - 0.5) ** 2
        squared["unadjusted"] += (plain["coef"] - 0.5) ** 2
    assert squared["cross_fit"] < 0.5 * squared["unadjusted"]


@pytest.mark.parametrize("cluster", [None, "site"])
@pytest.mark.parametrize("case", ["too much", "nothing", "the design"])
def test_cross_fit_believes_the_networks_as_far_as_they_are_right(
    monkeypatch: pytest.MonkeyPatch, case: str, cluster: str | None
) -> None:
    # A predictor that claims five times too much is a covariate like any other.
    frame, _ = draw(200)
    frame["site"] = np.arange(200) // 4
    y = 2 + 0.5 * frame["dose"] + frame["z0"] + np.random.default_rng(4).normal(size=200)
    deep, columns = {
        "too much": (5 * frame["z0"].to_numpy(), ["dose", "z0"]),
        "nothing": (np.zeros(200), ["dose"]),
        "the design": (3 - frame["dose"].to_numpy(), ["dose"]),
    }[case]
    monkeypatch.setattr(
        "mmfusion.model.inference.cross_fitted", lambda *_: {"(deep)": deep[:, None]}
    )
    settings = QUICK | {"epochs": 1, "inference": "cross_fit", "cluster": cluster}
    effects = FusionRegressor(DEEP, structured="dose", **settings).fit(frame, y).effects_
    theirs = sm.OLS(y, sm.add_constant(frame[columns]))
    options = {"groups": frame["site"], "use_correction": False}
    clustered = {"cov_type": "cluster", "cov_kwds": options, "use_t": True}
    fit = theirs.fit(**(clustered if cluster else {}))
    assert ("(deep)" in effects.index) == (case == "too much")
    own = len(effects)  # the deep coefficient among them: a fifth of what it claims is right
    unit = [1.0, 1.0, 5.0][:own]
    np.testing.assert_allclose(effects["coef"] * unit, fit.params[:own], rtol=1e-7)
    np.testing.assert_allclose(effects["se"] * unit, fit.bse[:own], rtol=1e-7 if cluster else 1e-3)
    if cluster:
        np.testing.assert_allclose(effects["p"], fit.pvalues[:own], rtol=1e-5)


def test_cross_fitting_averages_three_splits_and_adds_the_variance_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The same trial moves from p = .001 to .024 with the seed of a single split.
    frame, _ = draw(200)
    rng = np.random.default_rng(4)
    y = 2 + 0.5 * frame["dose"] + frame["z0"] + rng.normal(size=200)
    deeps = [frame["z0"].to_numpy() + rng.normal(size=200) for _ in range(3)]
    given = iter(deeps)
    shown = lambda *_: {"(deep)": next(given)[:, None]}  # noqa: E731
    monkeypatch.setattr("mmfusion.model.inference.cross_fitted", shown)
    settings = QUICK | {"epochs": 1, "inference": "cross_fit"}
    model = FusionRegressor(DEEP, structured="dose", **settings).fit(frame, y)
    fits = [sm.OLS(y, sm.add_constant(frame[["dose"]].assign(z=z))).fit() for z in deeps]
    coefs = np.array([fit.params["dose"] for fit in fits])
    line = model.effects_.loc["dose"]
    assert line["coef"] == pytest.approx(coefs.mean(), rel=1e-8)
    variance = np.mean([fit.bse["dose"] ** 2 for fit in fits]) + coefs.var()
    assert line["se"] == pytest.approx(np.sqrt(variance), rel=1e-3)
    assert coefs.std() > 0.01 * line["se"]
    assert model.covariance_.loc["dose", "dose"] == pytest.approx(line["se"] ** 2)


def test_cross_fitting_refuses_networks_that_read_the_formula() -> None:
    frame, y = draw(60)
    model = FusionCox(DEEP, structured="dose", inference="cross_fit", head="nonlinear", **QUICK)
    with pytest.raises(ValueError, match=r"must be 'additive' with inference='cross_fit'"):
        model.fit(frame, y)


def test_constants_of_the_cross_fitted_networks_say_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The partial likelihood sees no constant, so each fold's network has one of its own.
    frame, y = draw(100)
    settings = QUICK | {"epochs": 2, "inference": "cross_fit"}
    model = FusionCox(DEEP, structured="dose", **settings)
    seen = model.fit(frame, y).effects_
    inner, shifts = Model.by_member, iter(range(15))

    def shifted(self: Model, *args: Any, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        etas, present = inner(self, *args, **kwargs)
        return etas + next(shifts), present

    monkeypatch.setattr(Model, "by_member", shifted)
    pd.testing.assert_frame_equal(model.fit(frame, y).effects_, seen, rtol=1e-9)
    assert next(shifts, None) is None


@pytest.mark.parametrize("how", ["post_hoc", "online", "two_stage", None])
@pytest.mark.parametrize("kind", ["cox", "discrete", "classifier", "regressor"])
def test_rows_with_nothing_present_are_the_classical_models(
    tmp_path: Path, kind: str, how: str | None
) -> None:
    # With the baseline learned beside the networks their calibration slope was up to 1.31.
    frame, outcome = draw(300)
    frame["ward"] = np.arange(300) % 2
    frame["other"] = np.nan
    estimator: Any = {
        "cox": FusionCox,
        "discrete": FusionDiscreteTime,
        "classifier": FusionClassifier,
        "regressor": FusionRegressor,
    }[kind]
    y: Any = {"classifier": outcome["event"], "regressor": np.log(outcome["time"])}.get(
        kind, outcome
    )
    own: dict[str, Any] = {"cox": {"strata": "ward"}, "discrete": {"cuts": [0.5, 1, 2, 4]}}.get(
        kind, {}
    )
    settings = QUICK | own | {"structured": "dose + sex", "patience": None}
    model = estimator(DEEP, orthogonalization=how, **settings).fit(frame, y)
    classical = estimator({}, structured="dose + sex", **own).fit(frame, y)
    assert model.deep_share_ > 0.05
    mixed = frame.copy()
    mixed.loc[::3, ["z0", "z1", "z2"]] = np.nan
    gone = np.arange(300) % 3 == 0

    def told(of: Any, rows: pd.DataFrame, **asked: Any) -> np.ndarray:
        if kind == "classifier":
            return of.predict_proba(rows, **asked)
        if kind == "regressor":
            return of.predict(rows, **asked)[:, None]
        curves = of.predict_survival_function(rows, [0.3, 1.0, 2.0], **asked)
        areas = of.predict_restricted_mean(rows, 2.0, **asked)
        return np.column_stack([curves, areas, of.predict_quantile(rows, 0.2, **asked)])

    expected = told(classical, frame)
    np.testing.assert_allclose(told(model, frame, modalities=[]), expected, rtol=1e-6)
    np.testing.assert_allclose(told(model, mixed)[gone], expected[gone], rtol=1e-6)
    np.testing.assert_array_equal(told(model, mixed)[~gone], told(model, frame)[~gone])
    assert np.abs(told(model, frame) - expected).max() > 0.01
    model.save(tmp_path / "model")
    again = estimator.load(tmp_path / "model")
    np.testing.assert_array_equal(told(again, mixed), told(model, mixed))
    if kind == "cox":  # on one scale with the others: its mean is 0 over the training rows
        risk = model.predict(frame, modalities=[])
        np.testing.assert_allclose(np.diff(risk), np.diff(classical.predict(frame)), atol=1e-7)
        assert risk.mean() == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"structured": 3}, TypeError, "structured parameter must be a formula"),
        ({"structured": "dose + dosage"}, ValueError, "dosage"),
        ({"orthogonalization": "online?"}, ValueError, "orthogonalization parameter must be one"),
        ({"inference": "bayes"}, ValueError, "inference parameter must be one of"),
        ({"cluster": "clinic"}, ValueError, "cluster parameter must name a column"),
    ],
)
def test_bad_structured_parameters(change: dict[str, Any], error: type, message: str) -> None:
    frame, y = draw(60)
    model = FusionCox(DEEP, structured="dose", **QUICK).set_params(**change)
    with pytest.raises(error, match=message):
        model.fit(frame, y)


def test_what_has_no_structured_part_says_so() -> None:
    frame, y = draw(60)
    model = FusionCox(DEEP, **(QUICK | {"epochs": 1})).fit(frame, y)
    with pytest.raises(AttributeError, match="structured=None"):
        model.smooth_effect("s(dose)", [0.0])
    assert not hasattr(model, "effects_")


def test_an_unseen_level_is_named() -> None:
    frame, y = draw(80)
    model = FusionCox({}, structured="dose + sex").fit(frame, y)
    with pytest.raises(ValueError, match=r"sex.*'x'|'x'.*sex"):
        model.predict(frame.assign(sex="x"))


def test_a_contrast_is_the_hazard_ratio_of_two_profiles() -> None:
    frame, y = draw()
    model = FusionCox({}, structured="dose * sex").fit(frame, y)
    low = pd.DataFrame({"dose": [0.0], "sex": ["f"]})
    high = pd.DataFrame({"dose": [1.0, 2.0], "sex": ["m", "f"]}, index=["treated", "other"])
    table = model.contrast(high, low)
    coef, covariance = model.effects_["coef"], model.covariance_
    at = np.array([1.0, 1.0, 1.0])
    assert list(table.index) == ["treated", "other"]
    assert table.loc["treated", "estimate"] == pytest.approx(coef.sum())
    assert table.loc["treated", "se"] == pytest.approx(float(at @ covariance @ at) ** 0.5)
    assert table.loc["other", "exp(estimate)"] == pytest.approx(np.exp(2 * coef["dose"]))
    with pytest.raises(ValueError, match="one row or as many as X"):
        model.contrast(high, pd.concat([low, low, low]))


def test_two_stages_are_tested_as_the_classical_model_they_are() -> None:
    frame, y = draw(120)
    classical = FusionCox({}, structured="dose + sex", inference="robust").fit(frame, y)
    settings = {"structured": "dose + sex", "orthogonalization": "two_stage"} | QUICK
    model = FusionCox(DEEP, inference="robust", **settings).fit(frame, y)
    np.testing.assert_allclose(model.effects_["se"], classical.effects_["se"], rtol=1e-8)
    stages = FusionCox(DEEP, **settings).fit(frame, y)
    ratio = stages.effects_test(["dose"], "likelihood_ratio", frame, y)
    plain = FusionCox({}, structured="dose + sex").fit(frame, y)
    expected = plain.effects_test(["dose"], "likelihood_ratio", frame, y)
    assert ratio["statistic"] == pytest.approx(expected["statistic"], rel=1e-8)
    ours = model.check_proportional_hazards(frame, y)
    pd.testing.assert_frame_equal(ours, plain.check_proportional_hazards(frame, y), rtol=1e-6)


def test_after_cross_fitting_tests_and_degrees_of_freedom_are_those_of_least_squares() -> None:
    frame, _ = draw(150)
    rng = np.random.default_rng(3)
    y = frame["dose"] + 2 * frame["z0"] + rng.normal(size=150)
    model = FusionRegressor(DEEP, structured="dose", inference="cross_fit", **QUICK).fit(frame, y)
    reported = model.inference_
    assert reported.fit.n_beside == 1  # what the networks say has a coefficient of its own
    assert reported.fit.df_residual == pytest.approx(150 - 3)
    row = model.effects_.loc["dose"]
    t = stats.t(147)
    assert row["p"] == pytest.approx(2 * t.sf(abs(row["coef"] / row["se"])), rel=1e-9)
    assert row["upper"] == pytest.approx(row["coef"] + t.ppf(0.975) * row["se"], rel=1e-9)
    with pytest.raises(ValueError, match="'cross_fit'"):
        model.effects_test(["dose"], "likelihood_ratio", frame, y)


def test_an_eval_set_without_events_takes_nothing_from_the_network() -> None:
    frame, y = draw(200)
    held, its = frame[:20], surv(y["time"][:20], np.zeros(20, dtype=bool))
    with pytest.warns(UserWarning, match="holds no events"):
        model = FusionCox(DEEP, structured="dose", **QUICK).fit(frame, y, eval_set=(held, its))
    assert model.model_.deep.share.tolist() == [1.0]
    assert model.deep_share_ > 0.05


def test_few_rows_and_few_clusters_have_a_corrected_sandwich(tmp_path: Path) -> None:
    frame, y = draw(120)
    frame["site"] = np.arange(120) % 12
    asked: dict[str, Any] = {"modalities": {}, "structured": "dose + sex"}
    plain = FusionCox(**asked, inference="sandwich").fit(frame, y).effects_
    rows = FusionCox(**asked, inference="robust").fit(frame, y).effects_
    assert (rows["se"] > plain["se"]).all()  # HC3
    assert "df" not in rows
    crude = FusionCox(**asked, inference="sandwich", cluster="site").fit(frame, y)
    model = FusionCox(**asked, cluster="site").fit(frame, y)
    table = model.effects_
    assert (table["se"] > crude.effects_["se"]).all()  # CR2
    assert table["df"].between(3, 11).all()
    row = table.iloc[0]
    t = stats.t(row["df"])
    assert row["p"] == pytest.approx(2 * t.sf(abs(row["z"])))
    assert row["upper"] == pytest.approx(row["coef"] + t.ppf(0.975) * row["se"])
    pair = frame[:2].assign(dose=[0.0, 1.0], sex=frame["sex"].iloc[0])
    contrast = model.contrast(pair[1:], pair[:1])
    assert contrast["p"].iloc[0] == pytest.approx(table.loc["dose", "p"])
    assert model.effects_test("dose")["p"] == pytest.approx(table.loc["dose", "p"])
    model.save(tmp_path / "model")
    again = FusionCox.load(tmp_path / "model")
    pd.testing.assert_frame_equal(again.effects_, table)
    pd.testing.assert_frame_equal(again.contrast(pair[1:], pair[:1]), contrast)


def test_likelihood_ratios_are_refused_beside_a_sandwich() -> None:
    frame, y = draw(80)
    model = FusionCox({}, structured="dose", inference="robust").fit(frame, y)
    with pytest.raises(ValueError, match=r"must be 'wald' with .*'robust'"):
        model.effects_test(["dose"], "likelihood_ratio", frame, y)
    assert 0 <= model.effects_test(["dose"])["p"] <= 1


def test_what_is_not_a_choice_is_refused_without_a_formula_too() -> None:
    frame, y = draw(60)
    with pytest.raises(ValueError, match="inference parameter must be one of"):
        FusionCox(DEEP, inference="crossfit", **QUICK).fit(frame, y)


@pytest.mark.parametrize("kind", ["cox", "regressor"])
def test_without_penalties_the_projection_changes_no_prediction(kind: str) -> None:
    frame, y = draw(200, copy=True)
    estimator: Any = FusionCox if kind == "cox" else FusionRegressor
    outcome = y if kind == "cox" else np.log(y["time"])
    whole = [
        estimator(DEEP, structured="dose + sex", orthogonalization=how, **QUICK)
        .fit(frame, outcome)
        .predict(frame)
        for how in ("post_hoc", None)
    ]
    np.testing.assert_allclose(whole[0], whole[1], atol=1e-6)


def test_wald_tests_need_no_training_rows(tmp_path: Path) -> None:
    frame, y = draw(80)
    model = FusionCox({}, structured="dose + sex").fit(frame, y)
    model.save(tmp_path / "model")
    loaded = FusionCox.load(tmp_path / "model")
    pd.testing.assert_series_equal(loaded.effects_test(["dose"]), model.effects_test(["dose"]))
    pd.testing.assert_series_equal(loaded.effects_test("dose"), model.effects_test(["dose"]))
    with pytest.raises(ValueError, match="needs the training rows"):
        loaded.effects_test(["dose"], "likelihood_ratio")
    told = [m.effects_test(["dose"], "likelihood_ratio", frame, y) for m in (loaded, model)]
    pd.testing.assert_series_equal(*told)
    with pytest.raises(ValueError, match="must be the training rows"):
        loaded.effects_test(["dose"], "likelihood_ratio", frame[:70], y[:70])


def test_of_networks_that_no_rows_can_judge_nothing_is_kept() -> None:
    frame, y = draw(40)
    with pytest.warns(UserWarning, match="too few rows, or events"):
        model = FusionCox(DEEP, structured="dose", **QUICK).fit(frame, y)
    classical = FusionCox({}, structured="dose").fit(frame, y)
    np.testing.assert_allclose(model.predict(frame), classical.predict(frame), atol=1e-9)
    assert model.deep_share_ == 0.0
    unjudged = FusionCox(DEEP, structured="dose", **(QUICK | {"patience": None})).fit(frame, y)
    assert unjudged.deep_share_ > 0.0


def test_a_treatment_among_the_modalities_is_told_before_cross_fitting() -> None:
    frame, y = draw(120)
    inputs = {"table": Tabular(["dose", "z0"])}
    model = FusionCox(inputs, structured="dose", inference="cross_fit", **QUICK)
    with pytest.warns(UserWarning, match=r"Modality 'table' reads \['dose'\]"):
        model.fit(frame, y)


@pytest.mark.filterwarnings("ignore::mmfusion.structured.SeparationWarning")
@pytest.mark.parametrize("seed", range(4))
def test_a_level_that_only_validation_rows_have_starts_at_nothing(seed: int) -> None:
    """Whether the one row of a site is trained on, held out, or left out of a fold."""
    frame, y = cohort_for("cox", 80, missing=0.0)
    frame["site"] = np.resize(["b", "c"], 80)
    frame.iloc[7 * seed, frame.columns.get_loc("site")] = "a"  # the reference
    frame.iloc[7 * seed + 1, frame.columns.get_loc("site")] = "z"
    shared: dict[str, Any] = {"epochs": 1, "device": "cpu", "random_state": seed}
    inputs = {"rna": Genes("gene_*", hidden=(4,)), "age": Tabular(["age"], hidden=(4,))}
    classical = FusionCox({}, structured="C(site)").fit(frame, y)
    for fusion, params in (
        ("concat", {}),
        ("concat", {"inference": "cross_fit"}),
        ("concat", {"head": "nonlinear"}),
        (LateFusion("weighted", dim=4, hidden=(), folds=4), {}),
    ):
        model = FusionCox(inputs, fusion, structured="C(site)", **params, **shared).fit(frame, y)
        of_formula = [name for name in model.effects_.index if name != "(deep)"]
        assert of_formula == classical.effects_.index.tolist()
        assert np.isfinite(model.predict(frame)).all()
    constant = frame.assign(site="b", dose=1.0)
    with pytest.raises(ValueError, match=r"constant columns: 'dose' \(always 1\)"):
        FusionCox(inputs, structured="dose + age", **shared).fit(constant, y)


def test_clusters_are_checked_before_training_and_never_cut() -> None:
    frame, y = draw(80)
    frame["ward"] = np.repeat(np.arange(20), 4)
    model = FusionCox(DEEP, structured="dose", cluster="ward", **QUICK)
    study = Study.read(Plan.of(model, frame), frame, y)
    assert study.judging is not None
    wards = frame["ward"].to_numpy()
    assert not set(wards[study.rows]) & set(wards[study.judging])
    for change, message in (
        ({"ward": frame["ward"].where(frame["ward"] > 0)}, r"It is missing in 0, 1, 2, 3\."),
        ({"ward": 7}, r"two labels or more\. Got 7 alone"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(frame.assign(**change), y)


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_constant_outcome_has_the_table_of_least_squares(value: float) -> None:
    # As R's lm: a slope of 0 with a standard error of 0, and no test of 0 / 0.
    frame, _ = draw(40)
    table = FusionRegressor({}, structured="dose").fit(frame, np.full(40, value)).effects_
    np.testing.assert_array_equal(table["coef"], [value, 0.0])
    np.testing.assert_array_equal(table["se"], 0.0)
    np.testing.assert_array_equal(table["p"], [0.0 if value else np.nan, np.nan])


def test_a_fit_without_residuals_is_infinitely_far_from_none() -> None:
    frame, _ = draw(40)
    row = FusionRegressor({}, structured="dose").fit(frame, 2 * frame["dose"]).effects_.loc["dose"]
    assert row["coef"] == pytest.approx(2.0)
    assert row["p"] < 1e-12


@pytest.mark.parametrize("kind", ["regressor", "classifier"])
@pytest.mark.parametrize("seed", range(4))
def test_an_indicator_beside_its_own_smooth_is_redundant(kind: str, seed: int) -> None:
    # s(z, by=x) holds x itself; rounding of its basis must not decide.
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"x": rng.integers(0, 2, 150) * 1.0, "z": rng.uniform(0, 10**seed, 150)})
    y = frame["x"] + np.sin(frame["z"]) + rng.normal(size=150)
    estimator: Any = FusionRegressor if kind == "regressor" else FusionClassifier
    with pytest.raises(ValueError, match=r"s\(z\):x"):
        estimator({}, structured="x + s(z, by=x)").fit(frame, y if kind == "regressor" else y > 0)
    assert "s(z):x" in FusionRegressor({}, structured="s(z, by=x)").fit(frame, y).effects_.index
