"""Others' models on the same folds with the same scorers."""

from __future__ import annotations

import lifelines
import numpy as np
import pandas as pd
import pytest
import torch
import torchtuples
from pycox.models import CoxPH, LogisticHazard
from sklearn.base import clone
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sksurv.ensemble import RandomSurvivalForest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import integrated_brier_score

from mmfusion import Tabular, surv
from mmfusion.estimators import FusionCox
from mmfusion.evaluation import (
    FunctionModel,
    LifelinesModel,
    PycoxModel,
    SurvivalKFold,
    TableFeatures,
    compare,
)
from mmfusion.metrics import concordance_index, evaluation_times, make_survival_scorer

RNG = np.random.default_rng(0)
N = 160
X = pd.DataFrame(RNG.normal(size=(N, 3)), columns=["a", "b", "c"])
RISK = X["a"] - X["b"]
Y = surv(RNG.exponential(np.exp(-RISK)), RNG.random(N) < 0.7)
TIMES = np.array([0.0, 0.1, 0.5, 0.5, 1.0])


def cox_net(n_features: int, labels: object) -> CoxPH:
    return CoxPH(torch.nn.Linear(n_features, 1, bias=False), torchtuples.optim.Adam(0.05))


def hazards(n_features: int, labels: LogisticHazard.label_transform) -> LogisticHazard:
    net = torch.nn.Linear(n_features, labels.out_features)
    return LogisticHazard(net, torchtuples.optim.Adam(0.05), duration_index=labels.cuts)


def cox_function(X: pd.DataFrame, y: np.ndarray) -> CoxPHSurvivalAnalysis:
    return CoxPHSurvivalAnalysis(ties="efron").fit(X, y)


def cox_curves(fitted: CoxPHSurvivalAnalysis, X: pd.DataFrame, times: np.ndarray) -> np.ndarray:
    return np.vstack([curve(times) for curve in fitted.predict_survival_function(X)])


ADAPTERS = {
    "cox": LifelinesModel(lifelines.CoxPHFitter()),
    "weibull": LifelinesModel(lifelines.WeibullAFTFitter()),
    "aalen": LifelinesModel(lifelines.AalenAdditiveFitter(coef_penalizer=0.1)),
    "pycox": PycoxModel(cox_net, epochs=20, random_state=0),
    "hazards": PycoxModel(hazards, LogisticHazard.label_transform(8), epochs=60, random_state=0),
    "function": FunctionModel(cox_function, lambda fitted, X: fitted.predict(X), cox_curves),
}


@pytest.mark.parametrize("name", ADAPTERS)
def test_each_ranks_rows_has_curves_and_can_be_cloned(name: str) -> None:
    model = clone(ADAPTERS[name])
    assert not hasattr(model, "event_times_")
    model.fit(X, Y)
    assert concordance_index(Y, model.predict(X)) > 0.65
    times = TIMES[1:] if name == "function" else TIMES
    curves = model.predict_survival_function(X, times=times)
    assert curves.shape == (N, len(times))
    assert curves.index.equals(X.index)
    assert ((curves >= 0) & (curves <= 1)).all(axis=None)
    if name != "aalen":  # whose hazards may be negative
        assert (curves.diff(axis=1).iloc[:, 1:] <= 1e-12).all(axis=None)
    # pycox's first hazard is one of time 0.
    assert name in ("function", "hazards") or (curves.iloc[:, 0] == 1).all()
    default = model.predict_survival_function(X)
    assert list(default.columns) == sorted(set(Y["time"][Y["event"]]))
    # A lower curve is a higher risk.
    assert np.corrcoef(model.predict(X), default.mean(axis=1))[0, 1] < -0.65
    again = clone(model).fit(X, Y)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_lifelines_models_are_lifelines_own() -> None:
    frame = X.assign(time=Y["time"], event=Y["event"])
    weibull = lifelines.WeibullAFTFitter().fit(frame, "time", "event")
    found = LifelinesModel(lifelines.WeibullAFTFitter()).fit(X, Y)
    expected = weibull.predict_survival_function(X, times=[0.1, 0.5, 1.0]).T
    np.testing.assert_allclose(
        found.predict_survival_function(X, [0.1, 0.5, 1.0]), expected, rtol=1e-9
    )
    cox = lifelines.CoxPHFitter().fit(frame, "time", "event")
    found = LifelinesModel(lifelines.CoxPHFitter()).fit(X, Y)
    np.testing.assert_allclose(found.predict(X), cox.predict_log_partial_hazard(X), rtol=1e-12)
    table = cox.predict_survival_function(X)
    steps = found.predict_survival_function(X, table.index)
    np.testing.assert_allclose(steps, table.T, rtol=1e-12)
    spline = lifelines.CoxPHFitter(baseline_estimation_method="spline", n_baseline_knots=2)
    model = LifelinesModel(spline).fit(X, Y)
    expected = model.fitter_.predict_survival_function(X, times=[0.3]).T
    np.testing.assert_allclose(model.predict_survival_function(X, [0.3]), expected)


def test_lifelines_takes_weights_entries_and_formulas() -> None:
    entry = 0.3 * Y["time"]
    y = surv(Y["time"], Y["event"], entry)
    weight = RNG.integers(1, 3, N).astype(float)
    frame = X.assign(time=Y["time"], event=Y["event"], entry=entry, weight=weight)
    expected = lifelines.CoxPHFitter().fit(
        frame, "time", "event", entry_col="entry", weights_col="weight", formula="a + b"
    )
    model = LifelinesModel(lifelines.CoxPHFitter(), {"formula": "a + b"})
    model.fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(model.fitter_.params_, expected.params_, rtol=1e-9)


def test_pycox_trains_all_rows_without_patience_and_leaves_the_global_states_alone() -> None:
    model = PycoxModel(cox_net, epochs=300, patience=None, random_state=1, batch_size=N)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    model.fit(X, Y)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    # A linear net on all rows, trained long, is the Cox model (Breslow; here are no ties).
    frame = X.assign(time=Y["time"], event=Y["event"])
    expected = lifelines.CoxPHFitter().fit(frame, "time", "event").params_
    weights = next(iter(model.model_.net.parameters())).detach().numpy().ravel()
    np.testing.assert_allclose(weights, expected, atol=0.02)


def test_all_stand_on_the_same_folds_with_the_same_scores() -> None:
    models = {
        "ours": FusionCox({}, structured="a + b + c"),
        "lifelines": ADAPTERS["cox"],
        "scikit-survival": CoxPHSurvivalAnalysis(ties="efron"),
        "function": ADAPTERS["function"],
        "forest in a Pipeline": make_pipeline(
            StandardScaler(), RandomSurvivalForest(10, random_state=0)
        ),
        "table": make_pipeline(
            TableFeatures({"t": Tabular(list("abc"))}), LifelinesModel(lifelines.CoxPHFitter())
        ),
        "hazards": ADAPTERS["hazards"],
        "risk alone": FunctionModel(cox_function, lambda fitted, X: fitted.predict(X)),
    }
    found = compare(models, X, Y, SurvivalKFold(3, random_state=0), error_score="raise")
    wide = {name: found.by_fold(name) for name in ("c", "ibs")}
    for name in ("lifelines", "scikit-survival", "function", "table"):
        for score in ("c", "ibs"):
            np.testing.assert_allclose(wide[score][name], wide[score]["ours"], rtol=1e-5)
    assert wide["ibs"]["forest in a Pipeline"].between(0.02, 0.25).all()
    assert wide["ibs"]["hazards"].between(0.02, 0.25).all()
    assert wide["ibs"]["risk alone"].isna().all()


def test_our_scorers_read_scikit_survivals_estimators_as_they_are() -> None:
    times = evaluation_times(Y)[5:40:5]
    scorers = {
        "harrell": make_survival_scorer("harrell"),
        "ibs": make_survival_scorer("ibs", times=times, y_train=Y),
        "antolini": make_survival_scorer("antolini"),
    }
    folds = list(SurvivalKFold(3, random_state=0).split(X, Y))
    model = CoxPHSurvivalAnalysis(ties="efron")
    found = cross_validate(model, X, Y, cv=folds, scoring=scorers, error_score="raise")
    train, test = folds[0]
    fitted = model.fit(X.iloc[train], Y[train])
    curves = cox_curves(fitted, X.iloc[test], times)
    expected = integrated_brier_score(Y, Y[test], curves, times)
    np.testing.assert_allclose(-found["test_ibs"][0], expected, rtol=0.02)  # ties at G(t-)
    ours = cross_validate(
        FusionCox({}, structured="a + b + c"), X, Y, cv=folds, scoring=scorers, error_score="raise"
    )
    for name in scorers:
        np.testing.assert_allclose(found[f"test_{name}"], ours[f"test_{name}"], rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (PycoxModel(cox_net, epochs=0), "The epochs parameter must be an integer"),
        (PycoxModel(cox_net, validation_fraction=1.0), "The validation_fraction parameter"),
        (FunctionModel(cox_function, lambda fitted, X: X), r"return an array of shape \(160,\)"),
    ],
)
def test_what_does_not_fit_is_an_error(model: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.fit(X, Y).predict(X)  # type: ignore[attr-defined]


def test_pycox_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="takes no delayed entry"):
        ADAPTERS["pycox"].fit(X, surv(Y["time"], Y["event"], 0.5 * Y["time"]))
    with pytest.raises(ValueError, match="put TableFeatures before it"):
        ADAPTERS["pycox"].fit(X.mask(X > 2), Y)
