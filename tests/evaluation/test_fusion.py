"""Ways of fusing compared: candidates, folds, differences, rows that lack a modality, errors."""

from __future__ import annotations

import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sksurv.ensemble import RandomSurvivalForest
from statsmodels.stats.multitest import multipletests

from mmfusion import Genes, Image, Tabular
from mmfusion.estimators import FusionClassifier, FusionCox, FusionRegressor
from mmfusion.evaluation import (
    Comparison,
    TableFeatures,
    compare,
    compare_fusion,
    plot_comparison,
    survival_stratified_folds,
)
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.metrics import concordance_index, make_survival_scorer
from mmfusion.objectives import Reconstruction
from mmfusion.survival import kaplan_meier
from mmfusion.training import Training
from tests.helpers import make_cohort

matplotlib.use("Agg")

FRAME, Y = make_cohort(120)
HAS_IMAGE = FRAME["image"].notna().to_numpy()
MODALITIES = {
    "clinic": Tabular(["age", "sex"], hidden=()),
    "genes": Genes("gene_*", hidden=()),
    "scan": Image("image", size=8, channels="L"),
}
TABLES = {name: MODALITIES[name] for name in ("clinic", "genes")}
SMALL = {
    "linear": False,
    "n_members": 1,
    "epochs": 3,
    "patience": None,
    "batch_size": None,
    "training": Training(ema=None),
}
FUSION = JointFusion(dim=4, hidden=())


def cox(modalities=TABLES, fusion=FUSION, **settings) -> FusionCox:
    return FusionCox(modalities, fusion, **(SMALL | settings))


def run(estimator, X=FRAME, y=Y, **settings) -> Comparison:
    quick = {"cv": 2, "n_repeats": 1, "random_state": 0, "verbose": 0}
    return compare_fusion(estimator, X, y, **(quick | settings))


class Constant(BaseEstimator):
    """Predicts one number, or fails; it counts its fits."""

    fits = 0

    def __init__(self, value: float = 0.0, fails: bool = False) -> None:
        self.value = value
        self.fails = fails

    def fit(self, X, y):
        type(self).fits += 1
        if self.fails and "patient_0" in X.index:
            raise RuntimeError("no such luck")
        return self

    def predict(self, X):
        return np.full(len(X), self.value)


@pytest.fixture(scope="module")
def survival() -> Comparison:
    forest = make_pipeline(TableFeatures(TABLES), RandomSurvivalForest(5, random_state=0))
    return run(
        cox(MODALITIES),
        operators=["concat", "gated"],
        strategies=[EarlyFusion(hidden=(4,)), LateFusion(dim=4, hidden=())],
        others={"forest": forest},
        cv=survival_stratified_folds(Y, 2, 2, random_state=1),
    )


def test_every_kind_of_candidate_is_scored_on_the_same_rows(survival: Comparison) -> None:
    assert survival.models == [
        "ridge Cox",
        "clinic alone",
        "genes alone",
        "scan alone",
        "joint fusion, concat",
        "joint fusion, gated",
        "early fusion",
        "late fusion",
        "forest",
    ]
    assert survival.reference == "ridge Cox"
    assert survival.metrics == ["c", "ibs", "seconds"]
    for _, fold in survival.risks.groupby(["repeat", "fold"]):
        tested = [mine["row"].tolist() for _, mine in fold.groupby("model")]
        assert len(tested) == 9
        assert all(rows == tested[0] for rows in tested)
    assert survival.scores[["c", "ibs"]].notna().all().all()


def test_a_fusion_scores_what_a_loop_by_hand_gives(survival: Comparison) -> None:
    folds = survival_stratified_folds(Y, 2, 2, random_state=1)
    gated = JointFusion("gated", dim=4, hidden=())
    alone = {"genes": MODALITIES["genes"]}
    models = {
        "joint fusion, gated": cox(MODALITIES, gated, random_state=0),
        "genes alone": cox(alone, random_state=0),
    }
    for name, model in models.items():
        by_hand = [
            clone(model).fit(FRAME.iloc[train], Y[train]).score(FRAME.iloc[test], Y[test])
            for train, test in folds
        ]
        np.testing.assert_allclose(survival.by_fold()[name], by_hand, atol=1e-12)


def test_differences_and_intervals_by_hand(survival: Comparison) -> None:
    table = survival.differences(adjust="holm")
    c = survival.by_fold("c")
    for name in survival.models[1:]:
        d = (c[name] - c["ridge Cox"]).to_numpy()
        error = np.sqrt((1 / 4 + 1.0) * d.var(ddof=1))  # two folds: as many rows test as train
        low, high = stats.t.interval(0.95, 3, loc=d.mean(), scale=error)
        row = table.loc[name, ["difference", "lower", "upper"]]
        np.testing.assert_allclose(row.to_numpy(float), [d.mean(), low, high], rtol=1e-9)
        p = 2 * stats.t.sf(abs(d.mean()) / error, 3)
        assert table.loc[name, "p_value"] == pytest.approx(p)
    known = multipletests(table["p_value"], method="holm")[1]
    np.testing.assert_allclose(table["p_adjusted"], known)
    assert "p_adjusted" not in survival.differences()


def test_summary_and_figure(survival: Comparison) -> None:
    text = survival.summary()
    assert "9 models, 4 folds in 2 repeat(s)" in text
    assert "| ridge Cox | 0." in text
    assert "Holm's p" in text
    n = int((~HAS_IMAGE).sum())
    assert f"Of 120 rows some lack a modality: scan in {n}." in text
    figure = plot_comparison(survival)
    left, right = figure.axes
    assert [text.get_text() for text in left.get_yticklabels()] == survival.models
    drawn = np.array([s[:, 0] for s in right.collections[0].get_segments() if len(s)])
    drawn = drawn[~np.isnan(drawn).any(axis=1)]
    np.testing.assert_allclose(drawn, survival.differences()[["lower", "upper"]])
    matplotlib.pyplot.close(figure)


def test_rows_without_the_modality_get_one_constant() -> None:
    folds = survival_stratified_folds(Y, 2, random_state=1)
    train, test = folds[0]
    result = run(cox(MODALITIES), classical=False, cv=folds, random_state=3)
    mine = result.risks.query("model == 'scan alone' and fold == 0")
    risk = mine["risk"].to_numpy()
    lacking = ~HAS_IMAGE[test]
    assert lacking.any()
    has = train[HAS_IMAGE[train]]
    model = cox({"scan": MODALITIES["scan"]}, random_state=3).fit(FRAME.iloc[has], Y[has])
    np.testing.assert_allclose(risk[lacking], model.predict(FRAME.iloc[has]).mean(), atol=1e-9)
    np.testing.assert_allclose(risk[~lacking], model.predict(FRAME.iloc[test[~lacking]]))
    c = concordance_index(Y[test], risk)
    assert result.by_fold().loc[(0, 0), "scan alone"] == pytest.approx(c)


def test_the_curve_of_rows_without_the_modality_is_kaplan_meier_s() -> None:
    from mmfusion.evaluation.single import SingleModality

    model = SingleModality(cox({"scan": MODALITIES["scan"]}, random_state=0), MODALITIES["scan"])
    fitted = clone(model).fit(FRAME, Y)
    curves = fitted.predict_survival_function(FRAME, times=[0.2, 1.0]).to_numpy()
    known = kaplan_meier(Y["time"], Y["event"])(np.array([0.2, 1.0]))
    np.testing.assert_allclose(curves[~HAS_IMAGE], np.tile(known, ((~HAS_IMAGE).sum(), 1)))
    own = fitted.estimator_.predict_survival_function(FRAME[HAS_IMAGE], times=[0.2, 1.0])
    np.testing.assert_array_equal(curves[HAS_IMAGE], own)


@pytest.mark.parametrize("as_list", [False, True])
def test_complete_rows_only(as_list: bool) -> None:
    folds = list(KFold(2).split(FRAME)) if as_list else 2
    result = run(cox(MODALITIES), classical=False, rows="complete", cv=folds)
    tested = np.unique(result.risks["row"])
    np.testing.assert_array_equal(tested, np.flatnonzero(HAS_IMAGE))
    sizes = result.scores[["n_train", "n_test"]].sum(axis=1)
    assert (sizes == HAS_IMAGE.sum()).all()
    assert f"Only the {HAS_IMAGE.sum()} rows" in result.notes[0]


def test_a_formula_stands_alone_and_beside_each_modality() -> None:
    result = run(cox(MODALITIES, structured="age + sex"), single=True)
    assert result.models == [
        "formula alone",
        "ridge Cox",
        "formula + clinic",
        "formula + genes",
        "formula + scan",
        "joint fusion, concat",
    ]
    assert "the formula's prediction" in result.notes[0]
    train, test = survival_stratified_folds(Y, 2, random_state=0)[0]
    alone = FusionCox({}, structured="age + sex").fit(FRAME.iloc[train], Y[train])
    c = alone.score(FRAME.iloc[test], Y[test])
    assert result.by_fold().loc[(0, 0), "formula alone"] == pytest.approx(c, abs=1e-9)


def test_strata_confine_the_pairs_of_every_model() -> None:
    frame = FRAME.assign(centre=np.arange(120) % 3)
    folds = survival_stratified_folds(Y, 2, random_state=1)
    result = run(cox(strata="centre"), frame, cv=folds)
    for name in ("ridge Cox", "joint fusion, concat"):
        for number, (_, test) in enumerate(folds):
            mine = result.risks.query("model == @name and fold == @number")["risk"].to_numpy()
            within = concordance_index(Y[test], mine, strata=np.arange(120)[test] % 3)
            assert result.by_fold().loc[(0, number), name] == pytest.approx(within)
            assert within != concordance_index(Y[test], mine)
    with pytest.raises(ValueError, match="risks of different strata") as caught:
        run(cox(strata="centre"), frame, cv=folds, scoring="uno", error_score="raise")
    assert "Model 'ridge Cox' in repeat 0, fold 0." in caught.value.__notes__
    with (
        pytest.raises(ValueError, match="Every model failed in repeat 0, fold 0"),
        pytest.warns(UserWarning, match="risks of different strata"),
    ):
        run(cox(strata="centre"), frame, cv=folds, scoring="uno", single=False)
    models = {"a": cox(strata="centre"), "b": cox(strata="sex")}
    with pytest.raises(ValueError, match="must have the same strata"):
        compare(models, frame, Y, folds)
    with pytest.raises(ValueError, match=r"must name a column of X\. Got 'center'"):
        compare({"a": cox()}, frame, Y, folds, strata="center")


def test_classes() -> None:
    y = np.where(FRAME["gene_0"] + 0.3 * FRAME["gene_1"] > 0.3, "ill", "well")
    forest = make_pipeline(TableFeatures(TABLES), RandomForestClassifier(10, random_state=0))
    result = run(
        FusionClassifier(MODALITIES, FUSION, **SMALL),
        y=y,
        others={"forest": forest},
        strategies={"late": LateFusion(dim=4, hidden=())},
        scoring={"auc": "roc_auc", "accuracy": "accuracy", "log_loss": "log_loss"},
    )
    assert result.models == [
        "logistic ridge",
        "gradient boosting",
        "clinic alone",
        "genes alone",
        "scan alone",
        "joint fusion, concat",
        "late",
        "forest",
    ]
    mean = result.table()["auc"]["mean"]
    assert mean["logistic ridge"] > 0.9 > mean["clinic alone"]
    assert set(result.risks["prediction"]) == {"ill", "well"}
    assert result.scores.notna().all().all()
    # Folds are stratified, and a forest's AUC is that of a loop by hand.
    shares = [np.mean(y[g["row"]] == "ill") for _, g in result.risks.groupby(["model", "fold"])]
    assert np.ptp(shares) < 0.02
    test = result.risks.query("model == 'forest' and fold == 0")["row"].to_numpy()
    train = np.setdiff1d(np.arange(120), test)
    fitted = clone(forest).fit(FRAME.iloc[train], y[train])
    auc = roc_auc_score(y[test] == "well", fitted.predict_proba(FRAME.iloc[test])[:, 1])
    assert result.by_fold("auc").loc[(0, 0), "forest"] == pytest.approx(auc)


def test_numbers() -> None:
    y = 3 * FRAME["gene_0"].to_numpy() + FRAME["age"].to_numpy() / 10
    result = run(FusionRegressor(TABLES, FUSION, **SMALL), y=y)
    assert result.models[:2] == ["ridge regression", "gradient boosting"]
    assert result.metrics == ["r2", "rmse", "seconds"]
    row = result.scores.query("model == 'ridge regression' and fold == 0").iloc[0]
    assert row["r2"] > 0.95
    mine = result.risks.query("model == 'ridge regression' and fold == 0")
    error = y[mine["row"]] - mine["prediction"]
    assert row["rmse"] == pytest.approx(np.sqrt((error**2).mean()))


def test_other_scores_of_survival_take_their_weights_from_training_rows() -> None:
    folds = survival_stratified_folds(Y, 2, random_state=1)
    result = run(cox(), classical=False, cv=folds, scoring=["uno", "auc", "antolini"])
    train, test = folds[0]
    model = cox(random_state=0).fit(FRAME.iloc[train], Y[train])
    scorer = make_survival_scorer("uno", y_train=Y[train])
    uno = scorer(model, FRAME.iloc[test], Y[test])
    assert result.by_fold().loc[(0, 0), "joint fusion, concat"] == pytest.approx(uno)
    assert result.scores[["auc", "antolini"]].notna().all().all()
    own = run(cox(), classical=False, cv=folds, scoring=lambda model, X, y: float(len(X)))
    assert (own.by_fold("score") == 60).all().all()


def test_a_model_that_fails_is_named_and_may_score_nan() -> None:
    others = {"bad": Constant(fails=True)}
    with pytest.raises(RuntimeError, match="no such luck") as caught:
        run(cox(), classical=False, single=False, others=others, error_score="raise")
    assert caught.value.__notes__[0].startswith("Model 'bad' in repeat 0, fold ")
    with pytest.warns(UserWarning, match=r"'bad' in repeat 0, fold \d failed.*no such luck"):
        result = run(cox(), classical=False, single=False, others=others)
    assert result.by_fold()["bad"].isna().sum() == 1
    assert np.isnan(result.table().loc["bad", ("c", "mean")])
    assert np.isnan(result.differences().loc["bad", "p_value"])
    assert result.failures == {"bad": "failed in 1 of 2 folds: RuntimeError: no such luck"}
    assert "| bad | failed in 1 of 2 folds: RuntimeError: no such luck | –" in result.summary()


def test_random_state_reaches_folds_and_models_without_their_own() -> None:
    one, two = run(cox(), classical=False), run(cox(), classical=False)
    pd.testing.assert_frame_equal(one.by_fold(), two.by_fold())
    other = run(cox(random_state=5), classical=False)
    assert not one.by_fold().equals(other.by_fold())
    np.testing.assert_array_equal(one.risks["row"], other.risks["row"])


def test_modalities_are_inferred_and_the_user_s_estimator_stays_as_it_is() -> None:
    estimator = FusionCox(fusion="gated", strata="centre", **SMALL)
    frame = FRAME[["age", "image"]].assign(centre=np.arange(120) % 2)[:40]
    result = run(estimator, frame, Y[:40], classical=False, scoring="c")
    assert result.models == ["table alone", "image alone", "joint fusion, gated"]
    assert estimator.modalities is None
    assert not hasattr(estimator, "network_")


def test_nothing_is_printed_where_nothing_is_asked_for(capsys) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run(cox(), classical=False)
        assert capsys.readouterr().out == ""
        run(cox(), classical=False, verbose=1)
    assert "6/6 fits" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"estimator": FusionCox}, TypeError, "estimator parameter must be an estimator"),
        ({"estimator": Constant()}, TypeError, "with the parameters modalities and fusion"),
        ({"estimator": cox({"a": Tabular(["age"])})}, ValueError, r"two modalities.*\['a'\]"),
        ({"X": np.zeros((120, 3))}, TypeError, "The X parameter must be a DataFrame"),
        ({"y": Y[:-1]}, ValueError, "as many rows as X"),
        ({"single": "no"}, ValueError, "The single parameter"),
        ({"rows": "some"}, ValueError, "The rows parameter.*'some'"),
        ({"operators": "gated"}, TypeError, "The operators parameter.*'gated'"),
        ({"operators": ["gatd"]}, ValueError, "Did you mean 'gated'"),
        ({"strategies": [3]}, TypeError, "The fusion parameter"),
        (
            {"strategies": [JointFusion("tensor", dim=2000)]},
            ValueError,
            "'tensor' would make 4,004,001 features",
        ),
        (
            {"estimator": cox(structured="age"), "strategies": [LateFusion(combine="survival")]},
            ValueError,
            "structured= goes with combine='risk'",
        ),
        (
            {
                "estimator": cox(fusion=JointFusion(dim=4), structured="age", head="nonlinear"),
                "strategies": {"linear": FUSION},
            },
            ValueError,
            "may be 'nonlinear' only where hidden layers follow",
        ),
        (
            {"estimator": cox(auxiliary=[Reconstruction(pretrain_epochs=9)]), "operators": ["sum"]},
            ValueError,
            "must leave epochs for the likelihood",
        ),
        ({"strategies": "late"}, TypeError, "The strategies parameter"),
        (
            {"strategies": [LateFusion(), LateFusion(dim=4)]},
            ValueError,
            "strategies parameter must be a dict of names where two of a kind",
        ),
        ({"others": [Constant()]}, TypeError, "The others parameter must be a dict"),
        ({"others": {"x": "forest"}}, TypeError, "The others parameter.*'forest' for 'x'"),
        ({"others": {"ridge Cox": Constant()}}, ValueError, "Two models have the name 'ridge Cox'"),
        ({"reference": "best"}, ValueError, "The reference parameter.*'best'"),
        ({"scoring": "accuracy"}, ValueError, "The scoring parameter must be one of.*'accuracy'"),
        ({"scoring": {}}, ValueError, "The scoring parameter must hold"),
        ({"scoring": 3}, TypeError, "The scoring parameter"),
        ({"cv": 1}, ValueError, "n_splits parameter must be at least 2"),
        (
            {"error_score": "ignore"},
            ValueError,
            "The error_score parameter must be 'raise'",
        ),
        ({"classical": False, "single": False}, ValueError, "At least two models"),
    ],
)
def test_errors_come_before_any_fit(settings, kind, message, monkeypatch) -> None:
    def never(*args: object) -> None:
        raise AssertionError("fitted")

    monkeypatch.setattr(FusionCox, "fit", never)

    class Never(Constant):
        def fit(self, X, y):
            raise AssertionError("fitted")

    defaults = {"estimator": cox(), "X": FRAME, "y": Y, "cv": 2, "verbose": 0}
    if "others" not in settings and settings.keys() != {"classical", "single"}:
        defaults["others"] = {"never": Never()}
        defaults["classical"] = False
    asked = defaults | settings
    with pytest.raises(kind, match=message):
        compare_fusion(asked.pop("estimator"), asked.pop("X"), asked.pop("y"), **asked)


def test_rows_that_have_nothing_are_named_before_any_fit() -> None:
    frame = FRAME.copy()
    frame.loc["patient_3", ["age", "sex", *[c for c in frame if c.startswith("gene")]]] = None
    with pytest.raises(ValueError, match=r"no modality present: \['patient_3'\] \(1 of 120\)"):
        run(cox(), frame)


def test_the_linear_part_alone_is_a_candidate() -> None:
    base = FusionRegressor(TABLES, FUSION, **(SMALL | {"linear": True}))
    result = run(base, y=np.random.default_rng(0).normal(size=len(FRAME)))
    assert "linear part alone" in result.models
