"""``marginal_effect``: two arms, each with all rows, from models that did not see the row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from lifelines.utils import restricted_mean_survival_time
from numpy.testing import assert_allclose
from scipy.special import expit
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import KFold
from statsmodels.treatment.treatment_effects import TreatmentEffect

from mmfusion.estimators import (
    FusionClassifier,
    FusionCox,
    FusionDiscreteTime,
    FusionRegressor,
)
from mmfusion.fusion import JointFusion, LateFusion
from mmfusion.modalities import Tabular
from mmfusion.model import dealing as folds_module
from mmfusion.survival import surv

QUICK: dict[str, Any] = {
    "fusion": JointFusion("concat", dim=8, hidden=(8,), dropout=0.0),
    "epochs": 6,
    "batch_size": 64,
    "learning_rate": 0.05,
    "device": "cpu",
    "random_state": 0,
}


def draw(n: int = 240, seed: int = 0, confounded: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["x", "w", "z"])
    chance = expit(frame["x"]) if confounded else 0.5
    frame["arm"] = (rng.uniform(size=n) < chance).astype(float)
    frame["y"] = 0.5 * frame["arm"] + frame["x"] + rng.normal(size=n)
    frame["ill"] = rng.uniform(size=n) < expit(0.7 * frame["arm"] + frame["x"] - 0.3)
    time = rng.exponential(np.exp(0.5 * frame["arm"] - frame["x"]))
    limit = rng.uniform(0.5, 4, n)
    frame["event"] = time <= limit
    frame["time"] = np.ceil(20 * np.minimum(time, limit)) / 20
    frame["cause"] = np.where(frame["event"], rng.integers(1, 3, n), 0)
    frame["site"] = rng.integers(0, 30, n)
    return frame


def follow_up(frame: pd.DataFrame) -> Any:
    return surv(frame["time"], frame["event"])


def fixed_folds(labels: np.ndarray, groups: Any, n_folds: int, seed: int) -> Any:
    return list(KFold(n_folds).split(labels))


def test_without_models_survival_is_compared_as_kaplan_and_meier_do() -> None:
    frame = draw()
    model = FusionCox({}, structured="arm + x", device="cpu")
    found = model.marginal_effect(
        frame, follow_up(frame), treatment="arm", horizon=2.0, times=[0.5, 2.0], splits=1
    )
    arms = [frame[frame["arm"] == arm] for arm in (0, 1)]
    control, treated = (KaplanMeierFitter().fit(f["time"], f["event"]) for f in arms)
    for at in (0.5, 2.0):
        wanted = [
            float(curve.survival_function_at_times(at).iloc[0]) for curve in (control, treated)
        ]
        line = found.table.loc[("survival difference", at)]
        assert line["unadjusted"] == pytest.approx(wanted[1] - wanted[0], abs=1e-10)
        line = found.table.loc[("survival ratio", at)]
        assert line["unadjusted"] == pytest.approx(wanted[1] / wanted[0], abs=1e-10)
        line = found.table.loc[("incidence ratio", at)]
        assert line["unadjusted"] == pytest.approx((1 - wanted[1]) / (1 - wanted[0]), abs=1e-10)
    areas = [restricted_mean_survival_time(curve, t=2.0) for curve in (control, treated)]
    line = found.table.loc[("restricted mean difference", 2.0)]
    assert line["unadjusted"] == pytest.approx(areas[1] - areas[0], abs=1e-10)
    assert line["unadjusted_se"] == pytest.approx(mean_difference_se(arms, 2.0), rel=0.01)


def mean_difference_se(arms: list[pd.DataFrame], horizon: float) -> float:
    """Return the standard error of a difference of restricted means (Greenwood's variance).

    As R's survRM2 has it: the squared area that is left at each event, times d / (r (r - d)).
    """
    total = 0.0
    for arm in arms:
        fitted = KaplanMeierFitter().fit(arm["time"], arm["event"])
        times = np.unique(arm.loc[arm["event"] & (arm["time"] <= horizon), "time"])
        survival = fitted.survival_function_at_times(times).to_numpy()
        areas = survival * np.diff(times, append=horizon)
        left = areas[::-1].cumsum()[::-1]
        at_risk = np.array([(arm["time"] >= t).sum() for t in times])
        events = np.array([((arm["time"] == t) & arm["event"]).sum() for t in times])
        total += np.sum(left**2 * events / (at_risk * (at_risk - events)))
    return float(np.sqrt(total))


@pytest.mark.parametrize("propensity", ["randomised", 0.5, "learn"])
def test_means_against_augmented_weighting_by_hand(
    monkeypatch: pytest.MonkeyPatch, propensity: Any
) -> None:
    monkeypatch.setattr(folds_module, "deal_folds", fixed_folds)
    frame = draw(confounded=propensity == "learn")
    model = FusionRegressor({}, structured="arm + x + w", device="cpu")
    found = model.marginal_effect(
        frame, frame["y"], treatment="arm", propensity=propensity, splits=1
    )
    d, y = frame["arm"].to_numpy(), frame["y"].to_numpy()
    n, means = len(d), np.zeros((2, len(d)))
    chance = np.full(n, d.mean() if propensity == "randomised" else 0.5)
    for train, held in KFold(5).split(frame):
        fit = LinearRegression().fit(frame.iloc[train][["arm", "x", "w"]], y[train])
        for arm in (0, 1):
            rows = frame.iloc[held][["arm", "x", "w"]].assign(arm=float(arm))
            means[arm, held] = fit.predict(rows)
        if propensity == "learn":
            learner = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
            learner.fit(frame.iloc[train][["x", "w"]], d[train])
            chance[held] = learner.predict_proba(frame.iloc[held][["x", "w"]])[:, 1].clip(
                0.02, 0.98
            )
    one = means[1] + d / chance * (y - means[1])
    zero = means[0] + (1 - d) / (1 - chance) * (y - means[0])
    difference = one - zero
    if propensity != "learn":
        share = d.mean() if propensity == "randomised" else 0.5
        own = [y[d == arm].mean() for arm in (0, 1)]
        plain = own[1] + d / share * (y - own[1]) - own[0] - (1 - d) / (1 - share) * (y - own[0])
        root = np.sqrt(np.where(d == 1, d.sum() / (d.sum() - 1), (n - d.sum()) / (n - d.sum() - 1)))
        a, b = ((v - v.mean()) * root for v in (plain, difference - plain))
        difference = plain - (a @ b) / (b @ b) * (difference - plain)
    line = found.table.loc["mean difference"]
    assert line["estimate"] == pytest.approx(difference.mean(), abs=1e-6)
    assert line["se"] == pytest.approx(difference.std() / np.sqrt(n), rel=0.01)
    assert line["treated"] - line["control"] == pytest.approx(line["estimate"], abs=1e-10)
    if propensity == "learn":
        assert np.isnan(line["gain"])
        assert found.propensities is not None
        assert_allclose(found.propensities.chance, chance, atol=1e-6)
        assert found.warning == ""
    else:
        assert line["gain"] == pytest.approx((line["unadjusted_se"] / line["se"]) ** 2 - 1)
        assert line["gain"] > 0.3


def test_a_confounded_effect_is_near_statsmodels_augmented_weighting() -> None:
    frame = draw(1000, confounded=True)
    model = FusionRegressor({}, structured="arm*x", device="cpu")
    found = model.marginal_effect(frame, frame["y"], treatment="arm", propensity="learn").table
    import statsmodels.api as sm

    outcome = sm.OLS.from_formula("y ~ x", frame)
    learned = sm.Logit.from_formula("arm ~ x", frame).fit(disp=False)
    other = TreatmentEffect(outcome, frame["arm"], results_select=learned).aipw(
        return_results=False
    )
    line = found.loc["mean difference"]
    assert line["estimate"] == pytest.approx(float(other[0]), abs=0.25 * line["se"])
    assert abs(line["unadjusted"] - 0.5) > 4 * line["se"]
    assert line["lower"] < 0.5 < line["upper"]


def test_risks_are_those_of_standardisation_and_of_both_arms() -> None:
    frame = draw(600)
    model = FusionClassifier({}, structured="arm + x", device="cpu")
    found = model.marginal_effect(frame, frame["ill"], treatment="arm").table
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        frame[["arm", "x"]], frame["ill"]
    )
    standard = [
        fit.predict_proba(frame[["arm", "x"]].assign(arm=arm))[:, 1].mean() for arm in (0.0, 1.0)
    ]
    line = found.loc["risk difference"]
    assert line["estimate"] == pytest.approx(standard[1] - standard[0], abs=0.15 * line["se"])
    plain = frame.groupby("arm")["ill"].mean()
    assert line["unadjusted"] == pytest.approx(plain[1] - plain[0], abs=1e-12)
    low, high = line["control"], line["treated"]
    assert found.loc["risk ratio", "estimate"] == pytest.approx(high / low, rel=1e-3)
    odds = high / (1 - high) / (low / (1 - low))
    assert found.loc["odds ratio", "estimate"] == pytest.approx(odds, rel=5e-3)
    assert (found["se"] < found["unadjusted_se"]).all()


@pytest.mark.usefixtures("two_networks")
@pytest.mark.parametrize("kind", [FusionCox, FusionDiscreteTime])
def test_networks_of_the_folds_narrow_the_interval(kind: Any) -> None:
    frame = draw(400)
    model = kind({"clinic": Tabular(["x", "w"])}, structured="arm", **QUICK)
    before = model.get_params()
    found = model.marginal_effect(frame, follow_up(frame), treatment="arm", horizon=2.0, splits=2)
    line = found.table.loc[("restricted mean difference", 2.0)]
    assert 0.15 < line["gain"] < 1.5
    assert line["lower"] < line["estimate"] < line["upper"]
    assert not hasattr(model, "is_fitted_")
    assert str(model.get_params()) == str(before)
    ratio = found.table.loc["hazard ratio"].iloc[0]
    assert 0.3 < ratio["lower"] < ratio["estimate"] < ratio["upper"] < 1.2
    assert ratio["gain"] > 0.15
    curves = found.curves
    assert curves is not None
    for arm in ("control", "treated"):
        own = curves.loc[arm]
        assert (np.diff(own["survival"]) <= 0).all()
        assert (own["band_lower"] <= own["lower"]).all()
        assert (own["lower"] <= own["survival"]).all()
        assert (own["upper"] <= own["band_upper"]).all()
    text = str(found)
    assert "restricted mean difference at 2" in text
    assert "randomised" in text


def test_competing_causes_have_an_incidence_each() -> None:
    frame = draw(300)
    model = FusionDiscreteTime(
        {"clinic": Tabular(["x", "w"])}, loss="deephit", cuts=[0.5, 1, 2, 3], **QUICK
    )
    found = model.marginal_effect(
        frame, surv(frame["time"], frame["cause"]), treatment="arm", horizon=2.0, splits=1
    ).table
    both = [found.loc[(f"incidence difference of cause {c}", 2.0)] for c in (1, 2)]
    alone = found.loc[("survival difference", 2.0)]
    total = both[0]["unadjusted"] + both[1]["unadjusted"]
    assert total == pytest.approx(-alone["unadjusted"], abs=1e-10)
    assert "hazard ratio" not in found.index.get_level_values(0)
    assert (found["se"] > 0).all()


def test_clusters_count_as_one_and_stay_together(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = draw(300)
    twice = pd.concat([frame, frame], ignore_index=True)
    twice["row"] = np.tile(np.arange(300), 2)
    model = FusionRegressor({}, structured="arm + x", device="cpu", random_state=0)
    kept = []
    real = folds_module.deal_folds

    def spy(labels: Any, groups: Any, n_folds: int, seed: int) -> Any:
        dealt = real(labels, groups, n_folds, seed)
        kept.append((groups, dealt))
        return dealt

    monkeypatch.setattr(folds_module, "deal_folds", spy)
    found = model.marginal_effect(twice, twice["y"], treatment="arm", cluster="row", splits=1)
    groups, dealt = kept[-1]
    assert all(np.intersect1d(groups[a], groups[b]).size == 0 for a, b in dealt)
    alone = model.marginal_effect(frame, frame["y"], treatment="arm", splits=1)
    line, other = (table.table.loc["mean difference"] for table in (found, alone))
    assert line["se"] == pytest.approx(other["se"], rel=0.05)
    naive = model.marginal_effect(twice, twice["y"], treatment="arm", splits=1)
    assert naive.table.loc["mean difference", "se"] == pytest.approx(other["se"] / 2**0.5, rel=0.05)
    assert found.facts["clusters"] == "300"


def test_censoring_may_follow_a_formula() -> None:
    rng = np.random.default_rng(3)
    n = 1500
    frame = pd.DataFrame({"x": rng.normal(size=n), "arm": rng.integers(0, 2, n).astype(float)})
    time = rng.exponential(np.exp(-frame["x"]))
    limit = rng.exponential(np.exp(1.0 - 1.2 * frame["x"]))  # the ill are lost early
    y = surv(np.minimum(time, limit), time <= limit)
    model = FusionCox({}, structured="arm", device="cpu")
    truth = float(np.mean(time > 1.0))
    asked: dict[str, Any] = {"treatment": "arm", "horizon": 1.0, "splits": 1}
    plain = model.marginal_effect(frame, y, **asked).table.loc[("survival difference", 1.0)]
    known = model.marginal_effect(frame, y, censoring="x", **asked)
    line = known.table.loc[("survival difference", 1.0)]
    means = [np.mean([one["control"], one["treated"]]) for one in (plain, line)]
    assert means[0] > truth + 0.02  # Kaplan & Meier's curve is too high
    assert means[1] == pytest.approx(truth, abs=0.012)  # censoring is known by its model


def test_two_levels_may_have_any_names_and_the_control_is_first() -> None:
    frame = draw()
    frame["drug"] = pd.Categorical(
        np.where(frame["arm"] == 1, "active", "placebo"), ["placebo", "active"]
    )
    model = FusionRegressor({}, structured="drug + x", device="cpu", random_state=0)
    found = model.marginal_effect(frame, frame["y"], treatment="drug", splits=1)
    numbered = FusionRegressor({}, structured="arm + x", device="cpu", random_state=0)
    other = numbered.marginal_effect(frame, frame["y"], treatment="arm", splits=1)
    pd.testing.assert_frame_equal(found.table, other.table, atol=1e-8)
    assert found.facts["treated"].startswith("active")
    text = frame.assign(drug=np.where(frame["arm"] == 1, "active", "placebo"))
    turned = model.marginal_effect(text, text["y"], treatment="drug", splits=1).table
    assert turned.loc["mean difference", "estimate"] < 0  # the alphabet's first is the control


@pytest.mark.parametrize("shape", ["easy", "absolute"])
def test_what_is_not_learned_is_flagged(shape: str) -> None:
    rng = np.random.default_rng(5)
    n = 600
    frame = pd.DataFrame(rng.normal(size=(n, 4)), columns=list("abcd"))
    steers = frame["a"] if shape == "easy" else 1.6 * (frame["a"].abs() - 0.8)
    frame["arm"] = (rng.uniform(size=n) < expit(1.2 * steers)).astype(float)
    y = 0.5 * frame["arm"] + steers + rng.normal(size=n)
    # A formula that is linear in what it reads learns the one and not the other.
    model = FusionRegressor({}, structured="arm + a + b + c + d", device="cpu")
    found = model.marginal_effect(frame, y, treatment="arm", propensity="learn", splits=1)
    line = found.table.loc["mean difference"]
    assert found.propensities is not None
    balance = found.propensities.balance
    if shape == "easy":
        assert line["lower"] < 0.5 < line["upper"]
        assert found.warning == ""
        assert abs(balance.loc["a", "before"]) > 0.5
        assert abs(balance.loc["a", "after"]) < 0.1
    else:
        assert line["lower"] > 0.5
        assert "the models have not learned a confounder" in found.warning
        assert found.propensities.left.name in (
            "a * a",
            *(f"a in its eighth {k}" for k in range(9)),
        )
        assert abs(balance["after"].iloc[0]) > 0.5
    assert list(found.propensities.losses.index) == ["treatment", "outcome"]
    assert (found.propensities.overlap["effective_rows"] <= n).all()
    assert ("Warning" in str(found)) == (shape != "easy")


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"treatment": "dose"}, ValueError, "The treatment parameter must name a column of X"),
        ({"treatment": "x"}, ValueError, "must have two levels, the control's first"),
        ({"horizon": None}, ValueError, "The horizon parameter must be given"),
        ({"horizon": 3.99}, ValueError, "The horizon parameter must be at most 3"),
        ({"horizon": -1.0}, ValueError, "horizon"),
        ({"times": [2.5]}, ValueError, "times above 0 and up to the horizon, 2"),
        ({"times": [0.001]}, ValueError, "must not lie before the first event"),
        ({"propensity": "known"}, ValueError, "The propensity parameter must be one of"),
        ({"propensity": 1.0}, ValueError, "The propensity parameter"),
        ({"folds": 1}, ValueError, "The folds parameter"),
        ({"censoring": "nothing_like_it"}, ValueError, "nothing_like_it"),
        ({"level": 95}, ValueError, "The level parameter"),
    ],
)
def test_refusals(asked: dict[str, Any], error: Any, message: str) -> None:
    frame = draw()
    given = {"treatment": "arm", "horizon": 2.0, **asked}
    with pytest.raises(error, match=message):
        FusionCox({}, structured="arm", device="cpu").marginal_effect(
            frame, follow_up(frame), **given
        )


def test_refusals_of_the_data() -> None:
    frame = draw()
    model = FusionCox({}, structured="arm", device="cpu")
    given: dict[str, Any] = {"treatment": "arm", "horizon": 2.0}
    with pytest.raises(ValueError, match="Delayed entry in"):
        model.marginal_effect(
            frame, surv(frame["time"], frame["event"], frame["time"] / 2), **given
        )
    few = frame.assign(event=frame["event"] & ((frame["arm"] == 0) | (np.arange(240) % 30 == 0)))
    with pytest.raises(ValueError, match=r"10 or more of each arm's events.*in the treated arm"):
        model.marginal_effect(few, follow_up(few), **given)
    missing = frame.assign(arm=frame["arm"].where(frame.index != 7))
    with pytest.raises(ValueError, match="It is missing in 7"):
        model.marginal_effect(missing, follow_up(missing), **given)
    reads = FusionCox({"all": Tabular(["arm", "x"])}, structured="z", **QUICK)
    with pytest.raises(ValueError, match="No modality may read the treatment 'arm'"):
        reads.marginal_effect(frame, follow_up(frame), **given)
    visits = frame.assign(patient=np.arange(240) // 2)
    with pytest.raises(ValueError, match="one row a subject"):
        FusionCox({}, structured="arm", device="cpu", id="patient").marginal_effect(
            visits, follow_up(visits), **given
        )
    with pytest.raises(ValueError, match="horizon parameter is read with survival outcomes alone"):
        FusionRegressor({}, structured="arm", device="cpu").marginal_effect(
            frame, frame["y"], treatment="arm", horizon=1.0
        )
    late = LateFusion("mean", dim=4, hidden=(), combine="survival")
    mixed = FusionCox({"a": Tabular(["x"]), "b": Tabular(["w"])}, **(QUICK | {"fusion": late}))
    with pytest.raises(ValueError, match="use combine='risk' with propensity='learn'"):
        mixed.marginal_effect(frame, follow_up(frame), propensity="learn", **given)
    three = np.arange(240) % 3
    with pytest.raises(ValueError, match="the risk of the second of two classes"):
        FusionClassifier({}, structured="arm", device="cpu").marginal_effect(
            frame, three, treatment="arm"
        )


@pytest.mark.slow
def test_intervals_cover_whatever_the_model_is() -> None:
    """A hazard ratio of .5 that a wrong formula, and noise, are read beside."""
    control = np.random.default_rng(1).normal(size=400_000)
    rates = np.exp(control)
    truth = float(np.mean(np.exp(-0.5 * rates) - np.exp(-rates)))
    covered = []
    for seed in range(60):
        rng = np.random.default_rng([2, seed])
        n = 200
        frame = pd.DataFrame({"x": rng.normal(size=n), "arm": rng.integers(0, 2, n).astype(float)})
        frame["noise"] = rng.normal(size=n)
        time = rng.exponential(np.exp(-frame["x"] + np.log(2) * frame["arm"]))
        limit = rng.uniform(0.5, 3, n)
        y = surv(np.minimum(time, limit), time <= limit)
        model = FusionCox({}, structured="arm*noise + x", device="cpu")
        found = model.marginal_effect(frame, y, treatment="arm", horizon=1.0, splits=1)
        line = found.table.loc[("survival difference", 1.0)]
        covered.append(line["lower"] <= truth <= line["upper"])
    assert 0.88 < np.mean(covered) < 1
