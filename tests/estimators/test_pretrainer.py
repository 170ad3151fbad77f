"""FusionPretrainer: embeddings, retrieval, a start for the estimators, scikit-learn's promises."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from mmfusion.estimators import FusionCox, FusionPretrainer
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.modalities import Genes, Image
from mmfusion.objectives import Contrastive, Correlation, Reconstruction, Similarity
from mmfusion.survival import surv
from tests.estimators.common import cohort_for, make_model, modalities, predictions

pytestmark = pytest.mark.usefixtures("one_network")


def pretrainer(objectives: Any = None, **params: Any) -> FusionPretrainer:
    given = {"modalities": modalities(), "dim": 6, "epochs": 2, "batch_size": 16}
    given |= {"patience": None, "device": "cpu", "random_state": 0}
    return FusionPretrainer(objectives=objectives or [Contrastive()], **{**given, **params})


def shared_latent(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Two noisy views of four hidden numbers, three of which make the hazard."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    hidden = rng.normal(size=(n, 4))
    rna = hidden @ fixed.normal(size=(4, 100)) + rng.normal(0, 6.0, (n, 100))
    ct = 3 * np.tanh(hidden @ fixed.normal(size=(4, 60))) + rng.normal(0, 6.0, (n, 60))
    names = [f"rna_{i}" for i in range(100)] + [f"ct_{i}" for i in range(60)]
    time = rng.exponential(np.exp(-hidden @ [1.0, -0.7, 0.5, 0.0]))
    censored = rng.exponential(2.0, n)
    frame = pd.DataFrame(np.hstack([rna, ct]), columns=names)
    return frame, surv(np.minimum(time, censored), time <= censored)


def two_views() -> dict[str, Genes]:
    return {m: Genes(f"{m}_*", encoder="mlp", hidden=(32,), dropout=0.1) for m in ("rna", "ct")}


def pretrain_two_views(frame: pd.DataFrame, seed: int) -> FusionPretrainer:
    given: dict[str, Any] = {"dim": 16, "epochs": 30, "random_state": seed, "device": "cpu"}
    return FusionPretrainer(two_views(), [Contrastive(1.0)], **given).fit(frame)


@pytest.fixture(scope="module")
def pretrained() -> FusionPretrainer:
    frame, _ = shared_latent(1500, 1000)
    rng = np.random.default_rng(0).random(len(frame))
    frame.loc[rng < 0.1, frame.columns[:100]] = np.nan
    frame.loc[rng > 0.9, frame.columns[100:]] = np.nan
    return pretrain_two_views(frame, 0)


def test_retrieval_finds_the_row_far_above_chance(pretrained: FusionPretrainer) -> None:
    unseen, _ = shared_latent(200, 2000)
    for from_, to in (("rna", "ct"), ("ct", "rna")):
        similarity, rows = pretrained.retrieve(unseen, unseen, from_=from_, to=to, k=200)
        assert (np.diff(similarity, axis=1) <= 0).all()
        assert (np.sort(rows, axis=1) == np.arange(200)).all()
        rank = (rows == np.arange(200)[:, None]).argmax(axis=1)
        assert np.median(rank) < 60  # 99.5 by chance, with a standard error of 5


def test_a_query_needs_only_the_columns_of_its_modality(pretrained: FusionPretrainer) -> None:
    unseen, _ = shared_latent(30, 3)
    whole = pretrained.retrieve(unseen, unseen, from_="rna", to="ct", k=4)
    parts = pretrained.retrieve(
        unseen.filter(like="rna_"), unseen.filter(like="ct_"), from_="rna", to="ct", k=4
    )
    for a, b in zip(whole, parts, strict=True):
        assert np.allclose(a, b)


def test_what_cannot_be_retrieved_is_said(pretrained: FusionPretrainer) -> None:
    unseen, _ = shared_latent(5, 3)
    lacking = unseen.copy()
    lacking.loc[[1, 3], lacking.columns[:100]] = np.nan
    with pytest.raises(ValueError, match="Rows of query that lack modality 'rna': 1, 3"):
        pretrained.retrieve(lacking, unseen, from_="rna", to="ct")
    similarity, rows = pretrained.retrieve(unseen, lacking, from_="ct", to="rna", k=3)
    assert not np.isin(rows, [1, 3]).any()
    assert np.isfinite(similarity).all()
    with pytest.raises(ValueError, match="k parameter must be at most 3, the rows of gallery"):
        pretrained.retrieve(unseen, lacking, from_="ct", to="rna", k=4)
    with pytest.raises(ValueError, match=r"to parameter must be one of .* Got 'cta'"):
        pretrained.retrieve(unseen, unseen, from_="rna", to="cta")


#: Frozen, the default, and as fast as the rest.
SCALES = (0.0, 0.1, 1.0)


@pytest.mark.slow
def test_a_pretrained_start_is_better_where_labels_are_few() -> None:
    """Ten draws of 1,500 rows without a label, 50 with one and 400 to predict; paired."""
    gains = []
    for seed in range(10):
        start = pretrain_two_views(shared_latent(1500, 1000 + seed)[0], seed)
        frame, y = shared_latent(50, seed)
        unseen, truth = shared_latent(400, 500 + seed)
        given: dict[str, Any] = {
            "fusion": JointFusion("concat", dim=16, hidden=()),
            "epochs": 30,
            "patience": None,
            "batch_size": None,
            "learning_rate": 1e-2,
            "device": "cpu",
            "random_state": seed,
        }
        scratch = FusionCox(two_views(), **given).fit(frame, y).score(unseen, truth)
        for scale in SCALES:
            model = FusionCox(two_views(), pretrained=start, pretrained_lr_scale=scale, **given)
            gains.append((scale, model.fit(frame, y).score(unseen, truth) - scratch))
    for scale in SCALES:
        of_scale = np.array([gain for found, gain in gains if found == scale])
        error = of_scale.std(ddof=1) / np.sqrt(len(of_scale))
        assert of_scale.mean() > 2 * error


def test_transform_has_names_and_no_nan() -> None:
    frame, _ = cohort_for()
    model = pretrainer([Contrastive(), Reconstruction()]).fit(frame)
    found = model.transform(frame)
    names = model.get_feature_names_out().tolist()
    assert names[:2] == ["scan_0", "scan_1"]
    assert names[-3:] == ["scan_present", "rna_present", "clinic_present"]
    assert isinstance(found, np.ndarray)
    assert found.shape == (40, len(names)) == (40, 21)
    assert np.isfinite(found).all()
    lacks = frame["image"].isna().to_numpy()
    assert (found[:, names.index("scan_present")] == ~lacks).all()
    assert (found[lacks][:, :6] == 0).all()
    named = clone(model).set_output(transform="pandas").fit_transform(frame)
    assert named.columns.tolist() == names
    nothing = frame.iloc[:2].copy()
    nothing.loc[:, nothing.columns != "image"] = np.nan
    nothing["image"] = None
    with pytest.raises(ValueError, match="Rows with no modality present: 'patient_0', 'patient_1'"):
        model.transform(nothing)


def test_rows_with_nothing_are_not_trained_on() -> None:
    frame, _ = cohort_for()
    empty = frame.iloc[:5].copy()
    empty.loc[:, empty.columns != "image"] = np.nan
    empty["image"] = None
    more = pd.concat([frame, empty.set_axis([f"empty_{i}" for i in range(5)])])
    model = pretrainer([Similarity()], patience=2, validation_fraction=0.3).fit(more)
    assert np.isfinite(model.transform(frame)).all()


def test_early_stopping_judges_held_out_rows() -> None:
    frame, _ = cohort_for(n=80)
    objectives = [Contrastive(2.0), Reconstruction(0.5)]
    model = pretrainer(objectives, epochs=60, patience=2, learning_rate=3e-2).fit(frame)
    history = model.history_
    assert len(history) < 60
    assert model.best_epoch_ == history["val_loss"].idxmin() + 1
    for prefix in ("", "val_"):
        total = 2.0 * history[f"{prefix}contrastive"] + 0.5 * history[f"{prefix}reconstruction"]
        assert np.allclose(history[f"{prefix}loss"], total)


def test_held_out_rows_that_can_judge_nothing_are_refused() -> None:
    rng = np.random.default_rng(0)
    names = [f"{view}_{i}" for view in ("rna", "ct") for i in range(3)]
    frame = pd.DataFrame(rng.normal(size=(100, 6)), columns=names)
    given = {"modalities": two_views(), "epochs": 2, "patience": 5, "batch_size": None}
    few = pretrainer([Correlation()], **given)
    message = r"The 15 held-out rows cannot say .* of the held-out rows: 15\.0 of 24 for"
    with pytest.raises(ValueError, match=message):
        few.fit(frame)
    few.set_params(patience=None).fit(frame)
    beside = pretrainer([Correlation(), Reconstruction()], **given).fit(frame)
    assert beside.history_["val_correlation"].eq(0).all()  # the other loss says when to stop
    assert beside.history_["val_reconstruction"].ne(0).all()


def test_the_same_seed_gives_the_same_embeddings_and_leaves_the_users_objects() -> None:
    frame, y = cohort_for()
    state = torch.get_rng_state()
    given = modalities()
    first = pretrainer(modalities=given).fit(frame, y)
    assert torch.equal(state, torch.get_rng_state())
    assert not hasattr(given["rna"], "columns_")
    second = pretrainer().fit(frame)  # without y: it is not read
    assert np.array_equal(first.transform(frame), second.transform(frame))


def test_clone_pickle_save_and_load(tmp_path: Path) -> None:
    frame, y = cohort_for()
    model = pretrainer([Contrastive(kind="nt_xent")]).fit(frame)
    assert not hasattr(clone(model), "history_")
    model.save(tmp_path / "encoders")
    loaded = FusionPretrainer.load(tmp_path / "encoders")
    assert repr(loaded.objectives) == repr(model.objectives)
    assert np.allclose(loaded.history_["contrastive"], model.history_["contrastive"])
    fits = []
    for other in (model, loaded, pickle.loads(pickle.dumps(model))):
        assert np.array_equal(other.transform(frame), model.transform(frame))
        fits.append(make_model(fusion="concat", pretrained=other).fit(frame, y))
    for fitted in fits[1:]:
        assert np.array_equal(predictions(fits[0], frame), predictions(fitted, frame))
    with pytest.raises(ValueError, match="holds a FusionPretrainer, not a FusionCox"):
        FusionCox.load(tmp_path / "encoders")


def test_a_pipeline_and_a_search() -> None:
    frame, y = cohort_for("regressor")
    pipeline = make_pipeline(pretrainer([Reconstruction()]), Ridge())
    assert np.isfinite(cross_val_score(pipeline, frame, y, cv=2)).all()
    grid = {"fusionpretrainer__dim": [4, 6], "ridge__alpha": [0.1, 1.0]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(frame, y)
    assert search.best_estimator_[0].transform(frame).shape[0] == 40


def encoder_weights(model: Any) -> dict[str, torch.Tensor]:
    return model.network_.encoders.state_dict()


def test_an_estimator_starts_from_its_encoders_and_its_preprocessing() -> None:
    frame, y = cohort_for(n=60)
    start = pretrainer().fit(frame.iloc[:50])
    frozen = make_model(pretrained=start, pretrained_lr_scale=0).fit(frame.iloc[20:], y[20:])
    for key, value in encoder_weights(start).items():
        assert torch.equal(value, encoder_weights(frozen)[key])
    assert np.array_equal(frozen.modalities_["rna"].mean_, start.modalities_["rna"].mean_)
    tuned = make_model(pretrained=start, learning_rate=1e-4).fit(frame.iloc[20:], y[20:])
    moved = [
        float((value - encoder_weights(tuned)[key]).abs().max())
        for key, value in encoder_weights(start).items()
        if value.is_floating_point()
    ]
    assert 0 < max(moved) < 0.05
    assert not np.allclose(predictions(tuned, frame), predictions(frozen, frame))


def test_the_pretrainer_is_neither_changed_nor_cloned() -> None:
    frame, y = cohort_for()
    start = pretrainer().fit(frame)
    before = {key: value.clone() for key, value in encoder_weights(start).items()}
    model = make_model(pretrained=start)
    copied = clone(model)
    assert copied.pretrained is start
    assert copied.modalities["rna"] is not model.modalities["rna"]
    assert np.isfinite(cross_val_score(model, frame, y, cv=2)).all()
    assert all(torch.equal(value, before[key]) for key, value in encoder_weights(start).items())


def test_its_parameters_are_none_of_the_estimators() -> None:
    frame, y = cohort_for()
    start = pretrainer().fit(frame)
    for given in (start, FrozenEstimator(start)):
        model = make_model(pretrained=given)
        nested = [key for key in model.get_params() if key.startswith("pretrained_")]
        assert nested == ["pretrained_lr_scale"]
        assert model.get_params()["pretrained"] is given
        with pytest.raises(ValueError, match="'pretrained__dim': the pretrainer is fitted"):
            clone(model).set_params(epochs=2, pretrained__dim=16)
    grid = GridSearchCV(make_model(pretrained=start), {"pretrained__epochs": [1, 50]}, cv=2)
    with pytest.raises(ValueError, match="Invalid parameter 'pretrained__epochs'"):
        grid.fit(frame, y)
    assert (start.dim, start.epochs) == (6, 2)


def test_a_search_chooses_among_frozen_pretrainers() -> None:
    frame, y = cohort_for()
    start = pretrainer().fit(frame)
    frozen = FrozenEstimator(start)
    plain, wrapped = (make_model(pretrained=p).fit(frame, y) for p in (start, frozen))
    assert np.array_equal(predictions(plain, frame), predictions(wrapped, frame))
    assert clone(wrapped).pretrained is frozen
    grid = {"pretrained": [None, frozen]}
    search = GridSearchCV(make_model(epochs=1), grid, cv=2, error_score="raise").fit(frame, y)
    assert len(set(search.cv_results_["mean_test_score"])) == 2
    bare = GridSearchCV(make_model(), {"pretrained": [start]}, cv=2, error_score="raise")
    with pytest.raises(NotFittedError, match=r"wrap them in sklearn\.frozen\.FrozenEstimator"):
        bare.fit(frame, y)
    with pytest.raises(TypeError, match=r"must be a fitted FusionPretrainer or None. Got Frozen"):
        make_model(pretrained=FrozenEstimator(Ridge())).fit(frame, y)


@pytest.mark.parametrize("fusion", ["sum", "gated", "late"])
def test_other_fusions_start_from_it_too(fusion: str) -> None:
    frame, _ = cohort_for()
    start = pretrainer().fit(frame)
    model = make_model("classifier", fusion, pretrained=start, modalities=None)
    model.fit(frame, frame["sex"])
    assert list(model.modalities_) == list(start.modalities_)
    assert np.isfinite(predictions(model, frame)).all()


def test_a_model_that_was_pretrained_saves_without_it(tmp_path: Path) -> None:
    frame, y = cohort_for()
    model = make_model(pretrained=pretrainer().fit(frame), modalities=None).fit(frame, y)
    model.save(tmp_path / "model")
    loaded = FusionCox.load(tmp_path / "model")
    assert loaded.pretrained is None
    assert model.modalities is None
    assert np.array_equal(predictions(loaded, frame), predictions(model, frame))
    assert repr(loaded.modalities) == repr(modalities())
    assert repr(clone(loaded).fit(frame, y).modalities_) == repr(model.modalities_)


def test_frozen_image_features_and_their_components() -> None:
    frame, y = cohort_for(n=60)
    scan = {"scan": Image("image", size=8, channels="L", freeze="all", n_components=3)}
    chosen = {**modalities(), **scan}
    start = pretrainer([Reconstruction(cross=True), Contrastive()], modalities=chosen).fit(frame)
    model = make_model(modalities=chosen, pretrained=start, pretrained_lr_scale=0).fit(frame, y)
    for key, value in encoder_weights(start).items():
        assert torch.equal(value, encoder_weights(model)[key])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"fusion": EarlyFusion()}, "pretrained parameter needs encoders .* EarlyFusion has not"),
        ({"fusion": LateFusion(dim=5)}, "dim parameter of LateFusion must be .* 6. Got 5"),
        (
            {"fusion": JointFusion("perceiver", dim=6, at="tokens")},
            "holds a VisionEncoder of modality 'scan'; this fusion asks for a VisionTokenEncoder",
        ),
        ({"pretrained_lr_scale": -1}, "pretrained_lr_scale parameter must be"),
        (
            {"modalities": {"genes": Genes("gene_*")}},
            r"holds no encoder of modality 'genes'; it has \['clinic', 'rna', 'scan'\]",
        ),
        (
            {"modalities": {"rna": Genes("gene_*", hidden=(6,), clip=3.0)}},
            "clip parameter of modality 'rna' must be what it was in pretraining, 5.0. Got 3.0",
        ),
        (
            {"modalities": {"rna": modalities()["clinic"]}},
            "Modality 'rna' must be what it was in pretraining, Genes",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_training(params: Any, message: str) -> None:
    frame, y = cohort_for()
    start = pretrainer().fit(frame)
    with pytest.raises(ValueError, match=message):
        make_model(**{"pretrained": start, **params}).fit(frame, y)


def test_it_must_be_fitted_and_a_pretrainer() -> None:
    frame, y = cohort_for()
    with pytest.raises(ValueError, match="FusionPretrainer instance is not fitted yet"):
        make_model(pretrained=pretrainer()).fit(frame, y)
    with pytest.raises(TypeError, match=r"must be a fitted FusionPretrainer or None. Got 'resnet'"):
        make_model(pretrained="resnet").fit(frame, y)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"objectives": [Contrastive(kind="supervised")]}, ValueError, "needs an outcome, which"),
        ({"objectives": "clip"}, TypeError, "The objectives parameter must be a list"),
        ({"objectives": [Similarity(margin=9)]}, ValueError, "margin parameter of Similarity"),
        (
            {"modalities": {"rna": Genes("gene_*")}, "objectives": [Similarity()]},
            ValueError,
            r"needs at least 2 modalities. Got \['rna'\]",
        ),
        ({"dim": 0}, ValueError, "The dim parameter must be"),
        ({"epochs": 0}, ValueError, "The epochs parameter must be"),
    ],
)
def test_parameters_are_checked(params: Any, error: type[Exception], message: str) -> None:
    frame, _ = cohort_for()
    with pytest.raises(error, match=message):
        pretrainer(**params).fit(frame)


@pytest.mark.filterwarnings("ignore::UserWarning")
@parametrize_with_checks(
    [FusionPretrainer(device="cpu", epochs=3)],
    expected_failed_checks=lambda _: {
        "check_methods_subset_invariance": "asks for 1e-7 of a network in float32",
    },
    xfail_strict=False,
)
def test_scikit_learns_checks(estimator: BaseEstimator, check: Any) -> None:
    check(estimator)
