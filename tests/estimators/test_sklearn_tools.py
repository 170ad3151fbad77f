"""scikit-learn's tools around survival estimators, classifiers and regressors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import optuna
import pandas as pd
import pytest
import sklearn
from optuna.distributions import FloatDistribution
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import StackingClassifier, StackingRegressor
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import (
    GridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mmfusion import Genes, Image, Tabular
from mmfusion.estimators import FusionClassifier, FusionCox, FusionRegressor
from mmfusion.evaluation import CoxRidge, SurvivalKFold, TableFeatures
from mmfusion.fusion import JointFusion
from mmfusion.metrics import concordance_index, get_scorer
from tests.helpers import make_cohort

FRAME, Y = make_cohort(100, n_genes=4, image_size=8)
SEX = FRAME["sex"].to_numpy()
BRIGHT = FRAME["gene_0"].to_numpy() - FRAME["gene_1"].to_numpy()
FEW = {"n_members": 1, "epochs": 2, "patience": None, "random_state": 0}
MODALITIES = {"clinic": Tabular(["age", "stage"]), "rna": Genes("gene_*")}
IMAGE = {"scan": Image("image", size=8, channels="L")}
COX = FusionCox({**MODALITIES, **IMAGE}, JointFusion("gated", dim=4), **FEW)
CLASSIFIER = FusionClassifier(MODALITIES, **FEW)
REGRESSOR = FusionRegressor({"clinic": MODALITIES["clinic"]}, **FEW)
FOLDS = SurvivalKFold(2, random_state=0)

pytestmark = pytest.mark.filterwarnings("ignore:No rows judge the networks")


@pytest.fixture
def routing() -> Iterator[None]:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.parametrize(
    ("estimator", "y"),
    [(FusionCox(**FEW), Y), (FusionClassifier(**FEW), SEX)],
    ids=["cox", "class"],
)
def test_a_pipeline_after_a_column_transformer_of_pandas_output(
    estimator: FusionCox, y: np.ndarray
) -> None:
    columns = ColumnTransformer(
        [
            ("number", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "gene_0"]),
            ("level", OneHotEncoder(sparse_output=False), make_column_selector("stage")),
        ],
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    pipeline = Pipeline([("columns", columns), ("model", estimator)])
    model = clone(pipeline).fit(FRAME, y)
    names = ["age", "gene_0", "stage_I", "stage_II", "stage_III", "stage_IV"]
    assert list(model[-1].feature_names_in_) == names
    prepared = clone(columns).fit_transform(FRAME)
    alone = clone(estimator).fit(prepared, y)
    np.testing.assert_array_equal(model.predict(FRAME), alone.predict(prepared))
    assert np.isfinite(model.score(FRAME, y))
    pipeline.set_params(model__epochs=1, columns__number__standardscaler__with_mean=False)
    assert pipeline.get_params()["model__epochs"] == 1


def test_cross_validation_by_names_of_scorers() -> None:
    names = ("c", "uno", "antolini", "auc", "ibs")
    scorers = {name: get_scorer(name) for name in names}
    found = cross_validate(COX, FRAME, Y, cv=FOLDS, scoring=scorers, error_score="raise")
    train, test = next(iter(FOLDS.split(FRAME, Y)))
    fitted = clone(COX).fit(FRAME.iloc[train], Y[train])
    risk = fitted.predict(FRAME.iloc[test])
    assert found["test_c"][0] == concordance_index(Y[test], risk)
    assert all(np.isfinite(found[f"test_{name}"]).all() for name in names)
    assert (found["test_ibs"] < 0).all()
    accuracy = get_scorer("accuracy")
    assert get_scorer(accuracy) is accuracy
    assert get_scorer("crps").metric == "crps"
    with pytest.raises(ValueError, match=r"Got 'harel'. Did you mean 'harrell'\?"):
        get_scorer("harel")


GRID = {
    "fusion__dim": [2, 4],
    "modalities__clinic__hidden": [(4,)],
    "modalities__scan": [Image("image", size=4, channels="L")],
    "training__ema": [None],
}


@pytest.mark.parametrize(
    "search",
    [
        GridSearchCV(COX, GRID, cv=2, error_score="raise"),
        RandomizedSearchCV(COX, GRID, n_iter=1, cv=FOLDS, random_state=0, error_score="raise"),
        HalvingRandomSearchCV(
            COX,
            GRID,
            cv=FOLDS,
            n_candidates=2,
            min_resources=50,
            random_state=0,
            error_score="raise",
        ),
    ],
    ids=["grid", "random", "halving"],
)
def test_searches_by_nested_names(search: GridSearchCV) -> None:
    search = clone(search).fit(FRAME, Y)
    best = search.best_estimator_
    assert best.fusion.dim == search.best_params_["fusion__dim"]
    assert best.modalities_["scan"].size_ == (4, 4)
    assert best.modalities["clinic"].hidden == (4,)
    assert best.training.ema is None
    assert COX.fusion.dim == 4  # the given one is as it was
    assert COX.training is None
    assert search.score(FRAME, Y) == best.score(FRAME, Y)


def test_a_search_of_a_classifier_in_a_pipeline() -> None:
    pipeline = Pipeline([("model", CLASSIFIER)])
    grid = {"model__modalities__rna__n_components": [2, None], "model__learning_rate": [1e-2]}
    search = GridSearchCV(pipeline, grid, cv=2, scoring="neg_log_loss", error_score="raise")
    search.fit(FRAME, SEX)
    assert search.predict_proba(FRAME).shape == (100, 2)


def test_stacks() -> None:
    members = [("clinic", REGRESSOR), ("rna", FusionRegressor({"rna": Genes("gene_*")}, **FEW))]
    numbers = StackingRegressor(members, RidgeCV(), cv=2).fit(FRAME, BRIGHT)
    assert numbers.score(FRAME, BRIGHT) > 0.8
    label = np.where(BRIGHT > 0, "high", "low")
    members = [
        ("clinic", FusionClassifier({"clinic": Tabular(["age"])}, **FEW)),
        ("two", CLASSIFIER),
    ]
    classes = StackingClassifier(members, LogisticRegression(), cv=2).fit(FRAME, label)
    assert classes.score(FRAME, label) > 0.8
    # Survival: risks of rows that the members did not see, and a ridge Cox model of them.
    members = [
        COX,
        FusionCox({}, structured="age + gene_0 + gene_1"),
    ]
    risks = pd.DataFrame(
        {f"risk {k}": cross_val_predict(m, FRAME, Y, cv=FOLDS) for k, m in enumerate(members)}
    )
    assert concordance_index(Y, CoxRidge().fit(risks, Y).predict(risks)) > 0.6


def test_calibrated_probabilities() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        model = CalibratedClassifierCV(CLASSIFIER, cv=2).fit(FRAME, SEX)
    chances = model.predict_proba(FRAME)
    np.testing.assert_allclose(chances.sum(axis=1), 1.0)
    assert len(model.calibrated_classifiers_) == 2
    weighted = CalibratedClassifierCV(CLASSIFIER, cv=2, method="isotonic")
    weighted.fit(FRAME, SEX, sample_weight=np.ones(100))


def test_permutation_importance_finds_the_columns_that_matter() -> None:
    columns = ["age", "gene_0", "gene_3"]
    model = FusionCox({}, structured="age + gene_0 + gene_3").fit(FRAME, Y)
    found = permutation_importance(
        model, FRAME[columns], Y, scoring=get_scorer("harrell"), n_repeats=3, random_state=0
    )
    assert found.importances_mean[1] > found.importances_mean[2]
    model = FusionRegressor({"rna": Genes("gene_*")}, **FEW).fit(FRAME, BRIGHT)
    found = permutation_importance(model, FRAME, BRIGHT, n_repeats=1, random_state=0)
    importance = pd.Series(found.importances_mean, FRAME.columns)
    assert set(importance.nlargest(2).index) == {"gene_0", "gene_1"}
    assert (importance[["age", "sex", "stage", "image"]] == 0).all()


def test_learning_curves() -> None:
    sizes, train, test = learning_curve(
        COX,
        FRAME,
        Y,
        cv=FOLDS,
        train_sizes=[0.6, 1.0],
        shuffle=True,
        random_state=0,
        error_score="raise",
    )
    assert sizes.tolist() == [30, 50]
    assert np.isfinite(train).all()
    assert np.isfinite(test).all()


@pytest.mark.slow
def test_two_processes_find_what_one_does() -> None:
    one, two = (
        cross_validate(COX, FRAME, Y, cv=FOLDS, n_jobs=n_jobs, error_score="raise")
        for n_jobs in (None, 2)
    )
    np.testing.assert_array_equal(one["test_score"], two["test_score"])


@pytest.mark.usefixtures("routing")
def test_weights_and_groups_are_routed() -> None:
    weight = np.where(np.arange(100) < 50, 1.0, 3.0)
    group = np.arange(100) // 2
    model = FusionCox({}, structured="age + gene_0").set_fit_request(sample_weight=True)
    given = {"sample_weight": weight, "groups": group}
    found = cross_validate(
        make_pipeline("passthrough", model),
        FRAME,
        Y,
        cv=FOLDS,
        params=given,
        scoring=get_scorer("c"),
        return_estimator=True,
        return_indices=True,
    )
    for number, train in enumerate(found["indices"]["train"]):
        assert not set(group[train]) & set(group[found["indices"]["test"][number]])
        alone = clone(model).fit(FRAME.iloc[train], Y[train], sample_weight=weight[train])
        fitted = found["estimator"][number][-1]
        np.testing.assert_allclose(fitted.effects_["coef"], alone.effects_["coef"])
        plain = clone(model).fit(FRAME.iloc[train], Y[train])
        assert not np.allclose(plain.effects_["coef"], alone.effects_["coef"])
    own = clone(model).set_score_request(sample_weight=False)
    scorer = get_scorer("accuracy").set_score_request(sample_weight=True)
    classes = clone(CLASSIFIER).set_fit_request(sample_weight=True)
    scores = cross_validate(
        classes,
        FRAME,
        SEX,
        cv=2,
        params={"sample_weight": weight},
        scoring=scorer,
        error_score="raise",
    )
    assert np.isfinite(scores["test_score"]).all()
    search = GridSearchCV(own, {"ties": ["efron", "breslow"]}, cv=FOLDS, error_score="raise")
    search.fit(FRAME, Y, **given)
    direct = clone(own).set_params(**search.best_params_).fit(FRAME, Y, sample_weight=weight)
    np.testing.assert_allclose(search.best_estimator_.effects_["coef"], direct.effects_["coef"])


def test_features_of_tables_have_names_in_pandas_output() -> None:
    features = TableFeatures({"clinic": Tabular(["age", "sex"])}).set_output(transform="pandas")
    found = features.fit_transform(FRAME)
    assert list(found.columns) == ["age", "sex=f", "sex=m"]
    assert found.index.equals(FRAME.index)
    pipeline = make_pipeline(features, FusionCox({}, structured="age"))
    assert list(pipeline.fit(FRAME, Y)[-1].effects_.index) == ["age"]


def test_optunas_own_search() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    integration = pytest.importorskip("optuna_integration")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls itself experimental
        search = integration.OptunaSearchCV(
            COX,
            {"learning_rate": FloatDistribution(1e-3, 1e-2, log=True)},
            n_trials=2,
            cv=FOLDS,
            random_state=0,
            error_score="raise",
        )
        search.fit(FRAME, Y)
    assert 1e-3 <= search.best_estimator_.learning_rate <= 1e-2
    assert len(search.trials_) == 2
