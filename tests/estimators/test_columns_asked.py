"""A fitted model asks for the columns that it reads, by name, and ignores others."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from mmfusion import Genes, Tabular, surv
from mmfusion.estimators import (
    FusionClassifier,
    FusionCox,
    FusionDiscreteTime,
    FusionPretrainer,
    FusionRegressor,
)

N = 80
RNG = np.random.default_rng(0)
X = pd.DataFrame(
    {
        "age": RNG.normal(60, 10, N),
        "arm": np.arange(N) % 2,
        "site": np.where(RNG.random(N) < 0.5, "a", "b"),
        "note": [object() for _ in range(N)],  # which nothing reads
        **{f"g{i}": RNG.normal(size=N) for i in range(4)},
    }
)
Y = surv(RNG.exponential(size=N), RNG.random(N) < 0.8)
GENES = {"rna": Genes("g?")}
FAST = {"epochs": 2, "random_state": 0, "device": "cpu"}
READ = ["age", "arm", "g0", "g1", "g2", "g3"]


def fitted(kind: Any, **changes: Any) -> Any:
    y: Any = {FusionClassifier: Y["event"], FusionRegressor: Y["time"]}.get(kind, Y)
    return kind(GENES, **{"structured": "age + arm", **FAST, **changes}).fit(X, y)


@pytest.mark.parametrize(
    "kind",
    [FusionCox, FusionDiscreteTime, FusionClassifier, FusionRegressor],
    ids=lambda k: k.__name__,
)
def test_every_method_goes_by_name(kind: Any) -> None:
    model = fitted(kind)
    y: Any = {FusionClassifier: Y["event"], FusionRegressor: Y["time"]}.get(kind, Y)
    few, shuffled = X[READ], X.assign(more=1.0)[["more", *X.columns[::-1]]]
    methods = ["predict", "score", "predict_proba", "decision_function"]
    methods += ["predict_survival_function", "predict_median", "predict_quantile"]
    asked = [name for name in methods if hasattr(model, name)]
    assert len(asked) >= 2
    more = {"score": (y,), "predict_quantile": (0.3,)}
    for name in asked:
        expected = np.asarray(getattr(model, name)(X, *more.get(name, ())))
        for table in (few, shuffled):
            found = getattr(model, name)(table, *more.get(name, ()))
            np.testing.assert_array_equal(np.asarray(found), expected, err_msg=name)
    with pytest.raises(ValueError, match="Column 'g2' not found in the table"):
        model.predict(few.drop(columns="g2"))
    with pytest.raises(ValueError, match="more than one column named 'age'"):
        model.predict(few.assign(new=few["age"]).rename(columns={"new": "age"}))


def test_the_formula_alone_needs_its_columns_alone() -> None:
    profile = pd.DataFrame({"arm": [0, 1], "age": [60.0, 60.0]})
    classical = FusionCox(modalities={}, structured="age + arm").fit(X, Y)
    assert classical.predict_survival_function(profile, times=[0.5]).shape == (2, 1)
    beside = fitted(FusionCox)
    assert beside.predict(profile, modalities=[]).shape == (2,)
    difference = beside.model_.structured.final.coef[1] - beside.model_.structured.projection[1]
    found = beside.predict(profile, modalities=[])
    assert found[1] - found[0] == pytest.approx(difference)


def test_roles_are_asked_for_where_they_are_read() -> None:
    stratified = fitted(FusionCox, strata="site")
    assert stratified.predict(X[READ]).shape == (N,)
    with pytest.raises(ValueError, match="strata parameter must name a column of X"):
        stratified.predict_survival_function(X[READ], times=[1.0])
    expected = stratified.predict_survival_function(X, times=[1.0])
    found = stratified.predict_survival_function(X[["site", *READ]], times=[1.0])
    pd.testing.assert_frame_equal(found, expected)
    clustered = fitted(FusionCox, cluster="site")
    assert clustered.predict(X[READ]).shape == (N,)


def test_diagnostics_and_tests_go_by_name() -> None:
    model = fitted(FusionCox, orthogonalization=None)
    few = X[READ[::-1]]
    pd.testing.assert_frame_equal(
        model.check_proportional_hazards(few, Y), model.check_proportional_hazards(X, Y)
    )
    pd.testing.assert_series_equal(
        model.effects_test("arm", "likelihood_ratio", few, Y),
        model.effects_test("arm", "likelihood_ratio", X, Y),
    )
    pd.testing.assert_series_equal(model.residuals(few, Y), model.residuals(X, Y))


def test_the_rows_of_an_eval_set_go_by_name() -> None:
    judges = X.assign(more=1.0)[["more", *X.columns[::-1]]]
    first = clone(FusionCox(GENES, **FAST)).fit(X, Y, eval_set=(X, Y))
    second = clone(FusionCox(GENES, **FAST)).fit(X, Y, eval_set=(judges, Y))
    np.testing.assert_array_equal(first.predict(X), second.predict(X))


def test_embeddings_go_by_name() -> None:
    model = FusionPretrainer(GENES, epochs=1, random_state=0, device="cpu").fit(X)
    few = X[["g3", "g0", "g1", "g2"]]
    np.testing.assert_array_equal(model.transform(few), model.transform(X))


def test_without_names_all_columns_are_asked_for_as_scikit_learn_has_it() -> None:
    plain = X[["age", "arm"]]
    model = FusionRegressor(**FAST).fit(plain, Y["time"])
    for wrong in (plain[["arm", "age"]], plain[["age"]], plain.assign(more=1.0)):
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(wrong)


@pytest.mark.parametrize("modalities", [None, {"table": Tabular([0, 1, 2])}])
def test_fitted_to_an_array_columns_go_by_position(modalities: Any) -> None:
    values = RNG.normal(size=(N, 3))
    model = FusionCox(modalities, **FAST).fit(values, Y)
    expected = model.predict(values)
    with pytest.warns(UserWarning, match="fitted without feature names"):
        found = model.predict(pd.DataFrame(values, columns=["b", "c", "a"]))
    np.testing.assert_array_equal(found, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(model.predict(pd.DataFrame(values)), expected)
    few = pd.DataFrame(values[:, :2], columns=["a", "b"])
    with pytest.warns(UserWarning, match="without"), pytest.raises(ValueError, match="2 features"):
        model.predict(few)
    named = FusionCox({"table": Tabular(list("abc"))}, **FAST)
    named.fit(pd.DataFrame(values, columns=list("abc")), Y)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        assert named.predict(values).shape == (N,)


ODD = pd.DataFrame(
    {
        "x": X["age"],
        "levels": pd.Categorical([(i % 2, "q") for i in range(N)]),
        "list": [[1]] * N,
        "dict": [{1: 2}] * N,
        "array": [np.zeros(2)] * N,
        "nested": [(1, [2])] * N,
    }
)


@pytest.mark.parametrize("column", ODD.columns[1:])
def test_cells_that_are_no_labels_are_named(column: str) -> None:
    for formula in (f"x + {column}", f"x + C({column})", f"x + s(x, by={column})"):
        with pytest.raises(ValueError, match=f"Column '{column}'"):
            FusionCox(modalities={}, structured=formula).fit(ODD, Y)
    if column == "levels":
        return
    for role in ("cluster", "id"):
        with pytest.raises(ValueError, match=f"The {role} column '{column}' must hold labels"):
            FusionCox(modalities={}, structured="x", **{role: column}).fit(ODD, Y)


def test_several_columns_of_one_role_are_told_how_to_join() -> None:
    for role in ("strata", "cluster", "id"):
        model = FusionCox(modalities={}, structured="age", **{role: ["site", "arm"]})
        with pytest.raises(ValueError, match=r"one column of X.*X\['site'\]\.astype\(str\) \+"):
            model.fit(X, Y)


def test_a_word_for_a_fusion_has_no_parameters_of_its_own() -> None:
    with pytest.raises(ValueError, match=r"fusion is 'concat', which has no 'dim'.*JointFusion"):
        FusionCox(GENES).set_params(fusion__dim=8)
    with pytest.raises(ValueError, match=r"epochs is 200, which has no 'x'"):
        FusionCox(GENES, epochs=200).set_params(epochs__x=8)
