"""The mean of several fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from mmfusion import Genes, Tabular
from mmfusion.estimators import (
    FusionClassifier,
    FusionCox,
    FusionDiscreteTime,
    FusionDistribution,
    FusionEnsemble,
    FusionRegressor,
    load,
)
from mmfusion.metrics import concordance_index, log_score, make_survival_scorer
from mmfusion.survival import surv
from tests.helpers import make_cohort

FRAME, Y = make_cohort(90)
MODALITIES = {"clinic": Tabular(["age", "sex"]), "rna": Genes("gene_*")}
FEW = {"n_members": 1, "epochs": 2, "linear": False}
COX = FusionCox(MODALITIES, **FEW)


def test_curves_and_risks_are_the_members_means() -> None:
    settings = [{"fusion": "gated"}, {"fusion": "concat", "epochs": 1}]
    model = FusionEnsemble(COX, 3, settings=settings, random_state=0).fit(FRAME, Y)
    members = model.estimators_
    assert [one.fusion for one in members] == ["gated", "concat", "gated"]
    assert [one.epochs for one in members] == [2, 1, 2]
    assert len({one.random_state for one in members}) == 3
    each = np.array([one.predict(FRAME) for one in members])
    np.testing.assert_allclose(model.predict(FRAME), each.mean(axis=0))
    np.testing.assert_allclose(model.spread(FRAME), each.std(axis=0))
    assert (model.spread(FRAME) > 0).all()
    curves = [one.predict_survival_function(FRAME, [0.2, 1.0]) for one in members]
    found = model.predict_survival_function(FRAME, [0.2, 1.0])
    np.testing.assert_allclose(found, np.mean(curves, axis=0))
    np.testing.assert_allclose(model.spread(FRAME, [0.2, 1.0]), np.std(curves, axis=0))
    assert found.index.equals(FRAME.index)
    assert model.score(FRAME, Y) == concordance_index(Y, model.predict(FRAME))
    again = clone(model).fit(FRAME, Y)
    np.testing.assert_array_equal(again.predict(FRAME), model.predict(FRAME))


def test_classes_are_those_of_the_mean_probability_and_numbers_the_mean() -> None:
    stage = FRAME["sex"].to_numpy()
    X = FRAME.drop(columns="sex")
    inner = FusionClassifier({"clinic": Tabular(["age"])}, **FEW)
    model = FusionEnsemble(inner, 2, random_state=0).fit(X, stage)
    each = np.array([one.predict_proba(X) for one in model.estimators_])
    np.testing.assert_allclose(model.predict_proba(X), each.mean(axis=0))
    np.testing.assert_allclose(model.spread(X), each.std(axis=0))
    assert set(model.predict(X)) <= {"f", "m"}
    assert model.score(X, stage) == (model.predict(X) == stage).mean()
    assert not hasattr(model, "predict_survival_function")
    numbers = FusionEnsemble(FusionRegressor({"rna": MODALITIES["rna"]}, **FEW), 2, random_state=0)
    numbers.fit(FRAME, FRAME["age"], sample_weight=np.ones(90))
    each = np.array([one.predict(FRAME) for one in numbers.estimators_])
    np.testing.assert_allclose(numbers.predict(FRAME), each.mean(axis=0))
    assert not hasattr(numbers, "predict_proba")
    scores = cross_val_score(numbers, FRAME, FRAME["age"].to_numpy(), cv=2, error_score="raise")
    assert np.isfinite(scores).all()


def test_members_that_predict_times_have_the_risks_curves_and_score_of_their_mixture() -> None:
    inner = FusionDistribution({"rna": MODALITIES["rna"]}, family="weibull", **FEW)
    model = FusionEnsemble(inner, 2, settings=[{"epochs": 2}, {"epochs": 9}], random_state=0)
    assert not hasattr(model, "predict_risk")  # before fit nobody knows
    model.fit(FRAME, Y)
    members = model.estimators_
    risks = [one.predict_risk(FRAME) for one in members]
    np.testing.assert_allclose(model.predict_risk(FRAME), np.mean(risks, axis=0))
    curves = [one.predict_survival_function(FRAME, [0.2]) for one in members]
    np.testing.assert_allclose(model.predict_survival_function(FRAME, [0.2]), sum(curves) / 2)
    weights = np.linspace(0.5, 2.0, 90)
    densities = [np.exp(log_score(Y, one.predict_distribution(FRAME))) for one in members]
    expected = np.average(np.log(np.mean(densities, axis=0)), weights=weights)
    assert model.score(FRAME, Y, weights) == pytest.approx(expected, rel=1e-6)
    assert make_survival_scorer("harrell")(model, FRAME, Y) == concordance_index(
        Y, model.predict_risk(FRAME)
    )


def test_the_score_is_the_members_own() -> None:
    weights = np.linspace(0.5, 2.0, 90)
    causes = surv(Y["time"], np.where(Y["event"], 1 + (FRAME["sex"] == "f"), 0))
    competing = FusionDiscreteTime(MODALITIES, loss="deephit", n_intervals=4, **FEW)
    for inner, y in ((COX, Y), (competing, causes)):
        model = FusionEnsemble(inner, 1, random_state=0).fit(FRAME, y)
        one = model.estimators_[0]
        assert model.score(FRAME, y, weights) == one.score(FRAME, y, weights)
        assert model.score(FRAME, y, weights) != model.score(FRAME, y)
    asked = {"modalities": ["clinic"]}
    np.testing.assert_array_equal(model.predict(FRAME, **asked), one.predict(FRAME, **asked))
    curves = model.predict_survival_function(FRAME, **asked)
    np.testing.assert_array_equal(curves, one.predict_survival_function(FRAME, **asked))


def test_wrong_parameters_are_named() -> None:
    for other in (Ridge(), make_pipeline(COX)):
        with pytest.raises(TypeError, match="The estimator parameter must be an estimator of mmf"):
            FusionEnsemble(other).fit(FRAME, Y)
    with pytest.raises(TypeError, match="The settings parameter must be a list of dicts"):
        FusionEnsemble(COX, settings={"epochs": 2}).fit(FRAME, Y)
    with pytest.raises(ValueError, match="The n_members parameter"):
        FusionEnsemble(COX, 0).fit(FRAME, Y)
    with pytest.raises(ValueError, match="Invalid parameter 'fusoin'"):
        FusionEnsemble(COX, settings=[{"fusoin": "gated"}]).fit(FRAME, Y)


def test_a_saved_ensemble_predicts_the_same_and_can_be_fitted_again(tmp_path: Path) -> None:
    settings = [{"fusion": "gated"}, {"fusion": "concat"}]
    model = FusionEnsemble(COX, 2, settings=settings, random_state=0).fit(FRAME, Y)
    model.save(tmp_path / "ensemble")
    loaded = FusionEnsemble.load(tmp_path / "ensemble")
    np.testing.assert_array_equal(loaded.predict(FRAME), model.predict(FRAME))
    np.testing.assert_array_equal(loaded.spread(FRAME), model.spread(FRAME))
    again = clone(loaded).fit(FRAME, Y)
    np.testing.assert_array_equal(again.predict(FRAME), model.predict(FRAME))
    model.save(tmp_path / "ensemble")  # in its own place
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/plan.txt").write_text("mine")
    with pytest.raises(ValueError, match="is no saved estimator"):
        model.save(tmp_path / "notes")
    model.estimators_[0].save(tmp_path / "one")
    model.save(tmp_path / "one")  # one and several take each other's place
    np.testing.assert_array_equal(load(tmp_path / "one").predict(FRAME), model.predict(FRAME))
    model.estimators_[0].save(tmp_path / "one")
    assert isinstance(load(tmp_path / "one"), FusionCox)
    model.save(tmp_path / "two")
    (tmp_path / "two/notes.txt").write_text("mine")
    for each in (model, model.estimators_[0]):
        with pytest.raises(ValueError, match=r"is no saved estimator .*'notes.txt'"):
            each.save(tmp_path / "two")
    assert (tmp_path / "notes/plan.txt").read_text() == "mine"
    with pytest.raises(FileNotFoundError, match="holds no saved ensemble"):
        FusionEnsemble.load(tmp_path)
    (tmp_path / "ensemble/ensemble.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        FusionEnsemble.load(tmp_path / "ensemble")


def test_of_several_causes_it_has_their_mean_incidences() -> None:
    y = surv(Y["time"], Y["event"] * (1 + (FRAME["age"] > 60)))
    inner = FusionDiscreteTime(MODALITIES, loss="deephit", n_intervals=4, **FEW)
    model = FusionEnsemble(inner, 2, random_state=0).fit(FRAME, y)
    assert model.causes_.tolist() == [1, 2]
    found = [model.predict_cumulative_incidence_function(FRAME, [0.5], c)[0.5] for c in (1, 2)]
    alive = model.predict_survival_function(FRAME, [0.5])[0.5]
    np.testing.assert_allclose(sum(found), 1 - alive, rtol=1e-5)
    each = [m.predict_cumulative_incidence_function(FRAME, [0.5], 2) for m in model.estimators_]
    np.testing.assert_allclose(found[1], np.mean(each, axis=0)[:, 0])
    assert not hasattr(FusionEnsemble(COX, 2), "predict_cumulative_incidence_function")
