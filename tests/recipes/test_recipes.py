"""Published systems: each is what its paper says, and fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmfusion import Genes, Image, Points, Tabular, recipes
from mmfusion.datasets import load_digits_cohort, make_shapes
from mmfusion.estimators import FusionCox

COHORT = load_digits_cohort(n=120, missing=0.1, random_state=0)
FRAME, Y = COHORT.frame, COHORT.target
SCAN = Image("image", size=8, channels="L")
RNA = Genes("gene_*", hidden=(8,))
CLINIC = Tabular(["age", "sex"], hidden=(8,))
QUICK: dict[str, Any] = {"epochs": 3, "device": "cpu", "random_state": 0}
TWO = {"rna": RNA, "clinic": CLINIC}
THREE = {"scan": SCAN, **TWO}

SURVIVAL = {
    "cph": lambda: recipes.cph("age + treatment"),
    "deep_surv": lambda: recipes.deep_surv({"clinic": CLINIC}, **QUICK),
    "deep_corr_surv": lambda: recipes.deep_corr_surv(TWO, pretrain_epochs=1, dim=4, **QUICK),
    "concat_ae": lambda: recipes.concat_ae(THREE, pretrain_epochs=1, dim=8, **QUICK),
    "cross_ae": lambda: recipes.cross_ae(THREE, pretrain_epochs=1, dim=8, **QUICK),
    "cheerla_gevaert": lambda: recipes.cheerla_gevaert(THREE, dim=16, **QUICK),
    "multi_surv": lambda: recipes.multi_surv(THREE, dim=16, **QUICK),
    "deep_pamm": lambda: recipes.deep_pamm("age + tv(treatment)", {"scan": SCAN, **TWO}, **QUICK),
    "poelsterl_wide_deep": lambda: recipes.poelsterl_wide_deep(
        "age * sex", {"scan": SCAN}, **QUICK
    ),
}


@pytest.mark.parametrize("name", SURVIVAL)
def test_a_survival_recipe_fits_clones_and_predicts(name: str) -> None:
    model = SURVIVAL[name]()
    assert repr(clone(model)) == repr(model)
    model.fit(FRAME, Y)
    risk = model.predict(FRAME)
    assert risk.shape == (len(FRAME),)
    assert np.isfinite(risk).all()
    assert len(np.unique(risk)) > 10
    curves = model.predict_survival_function(FRAME, times=[12.0, 36.0])
    assert (curves[12.0] >= curves[36.0]).all()


def test_recipes_of_distributions() -> None:
    model = recipes.aft("age + treatment", {"scan": SCAN}, **QUICK).fit(FRAME, Y)
    assert repr(clone(model)) == repr(model)
    curves = model.predict_survival_function(FRAME, times=[12.0, 36.0])
    assert (curves[12.0] > curves[36.0]).all()
    assert model.effects_.attrs["ratio"] == "time ratio"
    with pytest.raises(ValueError, match="family parameter"):
        recipes.aft("age", family="normal")
    formulas = {"loc": "s(age)", "scale": "treatment"}
    genes = FRAME["gene_000"].fillna(0.0)
    deep = recipes.ssddr(formulas, {"scan": SCAN}, deep=("loc", "scale"), **QUICK)
    assert deep.fit(FRAME, genes).model_.head.deep_basis.names == ("loc", "scale")
    additive = recipes.sadr(formulas).fit(FRAME, genes)
    assert additive.predict_parameters(FRAME)["scale"].nunique() == 2
    assert additive.effects_.equals(deep.effects_)


def test_deep_conv_surv_reads_images_alone() -> None:
    present = FRAME["image"].notna().to_numpy()
    model = recipes.deep_conv_surv(SCAN, **QUICK).fit(FRAME[present], Y[present])
    assert np.isfinite(model.predict(FRAME[present])).all()
    with pytest.raises(TypeError, match="image parameter must be a modality of images"):
        recipes.deep_conv_surv(RNA)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("deep_corr_surv", "correlation"),
        ("concat_ae", "reconstruction"),
        ("cross_ae", "reconstruction"),
    ],
)
def test_two_step_systems_run_both_steps(name: str, column: str) -> None:
    history = SURVIVAL[name]().fit(FRAME, Y).history_
    first, then = history.iloc[0], history.iloc[1]
    assert np.isfinite(first[column])
    assert np.isnan(first["loss"])  # no likelihood yet
    assert np.isfinite(then["loss"])
    if name == "deep_corr_surv":  # and then nothing else
        assert np.isnan(then[column]) or then[column] == 0
    else:
        assert np.isfinite(then[column])


@pytest.mark.parametrize("name", ["cross_ae", "cheerla_gevaert", "multi_surv"])
def test_what_is_pooled_is_the_embeddings_themselves(name: str) -> None:
    assert not list(SURVIVAL[name]().fit(FRAME, Y).network_.operator.parameters())


def test_cph_is_the_classical_model() -> None:
    ours = recipes.cph("age + treatment", ties="breslow").fit(FRAME, Y)
    same = FusionCox({}, structured="age + treatment", ties="breslow").fit(FRAME, Y)
    pd.testing.assert_frame_equal(ours.effects_, same.effects_)


def test_overrides_win_over_the_recipe() -> None:
    model = recipes.cheerla_gevaert(TWO, batch_size=32, modality_dropout={"rna": 0.5})
    assert (model.batch_size, model.modality_dropout) == (32, {"rna": 0.5})


def test_any_parameter_of_the_estimator_can_be_overridden() -> None:
    assert recipes.deep_surv(TWO, fusion="gated").fusion == "gated"
    assert recipes.cph("age", modalities=TWO).modalities == TWO
    assert recipes.deep_conv_surv(SCAN, modalities={"ct": SCAN}).modalities == {"ct": SCAN}


def test_wide_and_deep_classifies() -> None:
    y = Y["event"].astype(int)
    model = recipes.wide_and_deep("age + C(stage)", {"clinic": CLINIC}, **QUICK).fit(FRAME, y)
    np.testing.assert_allclose(model.predict_proba(FRAME).sum(1), 1.0)
    assert "age" in model.effects_.index


def test_poelsterl_reads_point_clouds() -> None:
    shapes = make_shapes(120, n_points=(20, 30), random_state=0)
    cloud = {"surface": Points("surface", n_points=16, hidden=(8, 8))}
    model = recipes.poelsterl_wide_deep("age + treatment", cloud, **QUICK)
    model.fit(shapes.frame, shapes.target)
    assert list(model.effects_.index) == ["age", "treatment"]


def test_law_holds_the_hedonic_coefficients() -> None:
    rng = np.random.default_rng(0)
    price = FRAME["age"] + rng.normal(size=len(FRAME))
    settings = QUICK | {"patience": None}
    model = recipes.law_two_stage("age", {"scan": SCAN}, **settings).fit(FRAME, price)
    slope, constant = np.polyfit(FRAME["age"], price, 1)
    np.testing.assert_allclose(model.effects_["coef"], [constant, slope], rtol=1e-6)


@pytest.mark.parametrize("proxy", [None, "night"])
def test_jean_is_ridge_on_the_features_of_the_training_rows(proxy: str | None) -> None:
    whole = FRAME[FRAME["image"].notna()].copy()
    whole["night"] = np.where(whole["age"] > whole["age"].median(), "bright", "dark")
    whole.loc[whole.index[:5], "night"] = None
    y = whole["age"].to_numpy() + 1.0
    model = recipes.jean_transfer(SCAN, proxy, n_components=10, epochs=2, random_state=0)
    model.fit(whole[:80], y[:80])
    assert model.predict(whole[80:]).shape == (len(whole) - 80,)
    # Without components it is scikit-learn's ridge on the same features.
    plain = recipes.jean_transfer(SCAN, proxy, n_components=None, epochs=2, random_state=0)
    plain.fit(whole[:80], y[:80])
    features = plain.named_steps["features"]
    theirs = make_pipeline(StandardScaler(), RidgeCV(np.logspace(1, 5, 10)))
    theirs.fit(features.transform(whole[:80]), y[:80])
    np.testing.assert_allclose(
        plain.predict(whole[80:]), theirs.predict(features.transform(whole[80:]))
    )


def test_jean_takes_all_components_of_few_rows() -> None:
    few = FRAME[FRAME["image"].notna()][:40]
    model = recipes.jean_transfer(SCAN).fit(few, few["age"])
    assert np.isfinite(model.predict(few)).all()
    assert model.named_steps["components"].pca_.n_components_ == 40
    features = model[:2].transform(few)
    theirs = PCA(10).fit_transform(features)
    ours = recipes.jean_transfer(SCAN, n_components=10).fit(few, few["age"])
    np.testing.assert_allclose(ours[:3].transform(few), theirs, atol=1e-4)
    assert len(ours[:3].get_feature_names_out(few.columns)) == 10


def test_image_features_refuse_what_they_cannot_read() -> None:
    with pytest.raises(TypeError, match="image parameter must be an Image"):
        recipes.ImageFeatures(RNA).fit(FRAME)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="proxy parameter must name a column"):
        recipes.ImageFeatures(SCAN, "night").fit(FRAME)
    with pytest.raises(ValueError, match="Rows without an image"):
        recipes.ImageFeatures(SCAN).fit(FRAME).transform(FRAME)
    frozen = Image("image", size=8, channels="L", freeze="all")
    with pytest.raises(ValueError, match="freeze='all'"):
        recipes.ImageFeatures(frozen, "sex").fit(FRAME)
