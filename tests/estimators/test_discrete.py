"""FusionDiscreteTime: causes, delayed entry, bad input, saving, and real data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from mmfusion.datasets import load_metabric
from mmfusion.estimators import FusionDiscreteTime
from mmfusion.fusion import JointFusion, LateFusion
from mmfusion.heads.discrete import LOSSES
from mmfusion.metrics import concordance_index, evaluation_times, integrated_brier_score
from mmfusion.modalities import Tabular
from mmfusion.survival import kaplan_meier, surv

pytestmark = pytest.mark.usefixtures("one_network")


def small(loss: str = "logistic_hazard", **params: Any) -> FusionDiscreteTime:
    """Return a linear model of one table, trained a while."""
    given = {
        "fusion": JointFusion(hidden=()),
        "n_intervals": 5,
        "epochs": 60,
        "batch_size": None,
        "patience": None,
        "learning_rate": 0.05,
        "device": "cpu",
        "random_state": 0,
        **params,
    }
    return FusionDiscreteTime({"table": Tabular(encoder="raw")}, loss=loss, **given)


def two_causes(n: int = 300) -> tuple[pd.DataFrame, np.ndarray]:
    """Return rows in which ``a`` brings cause 1 and ``b`` cause 2."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(n, 2)), columns=["a", "b"])
    times = rng.exponential(np.exp(-1.5 * X.to_numpy()))
    censoring = rng.exponential(3.0, n)
    time = np.minimum(times.min(1), censoring)
    return X, surv(time, np.where(times.min(1) < censoring, times.argmin(1) + 1, 0))


@pytest.fixture(scope="module")
def competing() -> tuple[FusionDiscreteTime, pd.DataFrame, np.ndarray]:
    X, y = two_causes()
    return small("deephit", alpha=0.5).fit(X, y), X, y


def test_each_cause_has_its_own_incidence(
    competing: tuple[FusionDiscreteTime, pd.DataFrame, np.ndarray],
) -> None:
    model, X, y = competing
    assert model.causes_.tolist() == [1, 2]
    times = np.array([0.1, 0.4, 1.0])
    incidence = {
        cause: model.predict_cumulative_incidence_function(X, times, cause) for cause in (1, 2)
    }
    total = incidence[1] + incidence[2] + model.predict_survival_function(X, times)
    np.testing.assert_allclose(total, 1.0)
    pd.testing.assert_index_equal(incidence[1].index, X.index)
    for cause in (1, 2):
        own = surv(y["time"], y["event"] == cause)
        right = concordance_index(own, incidence[cause][0.4])
        wrong = concordance_index(own, incidence[3 - cause][0.4])
        assert right > 0.75 > 0.6 > wrong
    # Risk and score are of any event.
    assert model.score(X, y) == concordance_index(surv(y["time"], y["event"] > 0), model.predict(X))


def test_incidences_are_calibrated_in_the_large(
    competing: tuple[FusionDiscreteTime, pd.DataFrame, np.ndarray],
) -> None:
    _, X, y = competing
    model = small("deephit", alpha=1.0).fit(X, y)
    time, event = y["time"], y["event"]
    curve = kaplan_meier(time, event > 0)
    order = np.argsort(time)
    # Aalen & Johansen's estimate of cause 1 until 0.5.
    at_risk = len(time) - np.arange(len(time))
    jumps = curve.left(time[order]) * (event[order] == 1) / at_risk
    wanted = jumps[time[order] <= 0.5].sum()
    found = model.predict_cumulative_incidence_function(X, [0.5], 1).to_numpy().mean()
    assert found == pytest.approx(wanted, abs=0.03)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_and_comes_back_from_a_folder(loss: str, tmp_path: Path) -> None:
    X, y = two_causes()
    y = y if loss == "deephit" else surv(y["time"], y["event"] > 0)
    model = small(loss, fusion=LateFusion(dim=8, hidden=(8,)), epochs=40)
    model.set_params(modalities={"a": Tabular(["a"]), "b": Tabular(["b"])})
    model.fit(X, y)
    assert model.score(X, y) > 0.65
    model.save(tmp_path / "model")
    again = FusionDiscreteTime.load(tmp_path / "model")
    np.testing.assert_array_equal(again.cuts_, model.cuts_)
    np.testing.assert_array_equal(again.causes_, model.causes_)
    curves = [m.predict_survival_function(X, [0.1, 1.0]) for m in (again, model)]
    pd.testing.assert_frame_equal(*curves)
    incidences = [m.predict_cumulative_incidence_function(X) for m in (again, model)]
    pd.testing.assert_frame_equal(*incidences)
    assert repr(clone(again)) == repr(clone(model))


def test_late_entries_do_not_count_before_they_enter() -> None:
    """Of subjects that are seen from half their life on, the plain curve is too high."""
    rng = np.random.default_rng(0)
    n = 1500
    time = rng.exponential(size=n)
    entry = rng.uniform(0, 1.5, n)
    seen = time > entry
    X = pd.DataFrame({"noise": rng.normal(size=n)})[seen]
    time, entry = time[seen], entry[seen]
    event = np.ones(len(time), dtype=int)
    times = [0.5, 1.0, 1.5]
    for loss in ("logistic_hazard", "mtlr", "pc_hazard"):
        model = small(loss, cuts=np.linspace(0, 3, 31), epochs=5, learning_rate=0.01)
        right = model.fit(X, surv(time, event, entry)).predict_survival_function(X, times)
        wrong = model.fit(X, surv(time, event)).predict_survival_function(X, times)
        np.testing.assert_allclose(right.mean(), np.exp(-np.array(times)), atol=0.06)
        assert (wrong.mean().to_numpy() > np.exp(-np.array(times)) + 0.15).all()


def test_curves_may_cross() -> None:
    """A treatment that helps late and harms early: proportional hazards have one sign."""
    rng = np.random.default_rng(0)
    treated = np.repeat([0.0, 1.0], 400)
    early = rng.exponential(np.where(treated, 0.8, 1.6))
    late = 0.5 + rng.exponential(np.where(treated, 4.0, 0.7))
    time = np.where(early < 0.5, early, late)
    X = pd.DataFrame({"treated": treated})
    model = small(n_intervals=10, epochs=200).fit(X, surv(time, np.ones(800, dtype=int)))
    curves = model.predict_survival_function(X.iloc[[0, -1]], times=[0.4, 3.0]).to_numpy()
    truth = [kaplan_meier(time[treated == arm], np.ones(400))([0.4, 3.0]) for arm in (0, 1)]
    np.testing.assert_allclose(curves, truth, atol=0.06)
    assert curves[0, 0] > curves[1, 0]
    assert curves[0, 1] < curves[1, 1]


def test_default_times_are_the_cuts_and_risk_is_the_restricted_mean() -> None:
    X, y = two_causes(100)
    y = surv(y["time"], y["event"] > 0)
    model = small("pmf", cuts=[0.1, 0.3, 1.0], epochs=5).fit(X, y)
    assert model.predict_survival_function(X).columns.tolist() == [0.0, 0.1, 0.3, 1.0]
    np.testing.assert_array_equal(model.predict(X), -model.predict_restricted_mean(X, 1.0))
    whole = model.predict_cumulative_incidence_function(X) + model.predict_survival_function(X)
    np.testing.assert_allclose(whole, 1.0)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"loss": "logistic"}, ValueError, r"Did you mean 'logistic_hazard'\?"),
        ({"n_intervals": 0}, ValueError, r"n_intervals parameter must be an integer in \[1, inf\]"),
        ({"n_intervals": 2.0}, TypeError, "n_intervals parameter must be an integer"),
        ({"cuts": [3.0, 2.0]}, ValueError, "cuts parameter must be strictly increasing"),
        ({"scheme": "quantile"}, ValueError, r"scheme .* Did you mean 'quantiles'\?"),
        ({"interpolation": "linear"}, ValueError, "interpolation parameter must be one of"),
        ({"alpha": 1.5}, ValueError, r"alpha parameter must be a number in \[0, 1\]"),
        ({"sigma": 0.0}, ValueError, r"sigma parameter must be a number in \[0.01, inf\]"),
        (
            {"loss": "deephit", "structured": "a"},
            ValueError,
            "loss parameter must be one of .* with a formula.* Got 'deephit'",
        ),
    ],
)
def test_bad_parameters(params: dict[str, Any], error: type[Exception], message: str) -> None:
    X, y = two_causes(40)
    with pytest.raises(error, match=message):
        small().set_params(**params).fit(X, surv(y["time"], y["event"] > 0))


def test_bad_outcomes() -> None:
    X, y = two_causes(60)
    with pytest.raises(ValueError, match="this model knows no competing causes"):
        small().fit(X, y)
    model = small("deephit", epochs=2).fit(X, y)
    with pytest.raises(ValueError, match=r"cause parameter must be one of \[1, 2\]. Got 3"):
        model.predict_cumulative_incidence_function(X, cause=3)
    renamed = surv(y["time"], np.where(y["event"] == 2, 3, y["event"]))
    stopped = small("deephit", patience=5, epochs=2).fit(X, y, eval_set=(X, y))
    assert {"val_loss", "val_c_index"} <= set(stopped.history_)
    with pytest.raises(ValueError, match=r"cause seen in training: \[1, 2\]"):
        small("deephit", patience=5).fit(X, y, eval_set=(X, renamed))


@pytest.mark.slow
def test_metabric_beats_the_constant_model() -> None:
    metabric = load_metabric()
    order = np.random.default_rng(0).permutation(len(metabric.frame))
    train, test = order[:1500], order[1500:]
    X, y = metabric.frame, metabric.target
    times = evaluation_times(y[train])
    curve = kaplan_meier(y[train]["time"], y[train]["event"])(times)
    constant = integrated_brier_score(y[train], y[test], np.tile(curve, (len(test), 1)), times)
    for loss in LOSSES:
        model = FusionDiscreteTime(loss=loss, random_state=0, device="cpu")
        model.fit(X.iloc[train], y[train])
        assert model.score(X.iloc[test], y[test]) > 0.60
        survival = model.predict_survival_function(X.iloc[test], times)
        assert integrated_brier_score(y[train], y[test], survival, times) < constant
