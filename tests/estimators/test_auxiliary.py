"""Auxiliary losses of the estimators: columns, checks before training, saving, missing cells."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from mmfusion.estimators import FusionPretrainer, FusionRegressor
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.modalities import Genes, TableData, Tabular
from mmfusion.objectives import (
    Contrastive,
    Correlation,
    LatentPrediction,
    Reconstruction,
    Similarity,
)
from mmfusion.training import Training
from tests.estimators.common import cohort_for, make_model, predictions

pytestmark = pytest.mark.usefixtures("one_network")

LOSSES = {
    "similarity": Similarity(),
    "variance_ratio": Similarity(kind="variance_ratio"),
    "correlation": Correlation(kind="pearson"),
    "reconstruction": Reconstruction(cross=True),
    "contrastive": Contrastive(),
    "supervised": Contrastive(kind="supervised"),
    "latent": LatentPrediction(),
}


@pytest.mark.parametrize("kind", ["cox", "discrete", "pamm", "classifier", "regressor"])
@pytest.mark.parametrize("micro", [None, 5])
def test_all_train_beside_every_likelihood(kind: str, micro: int | None) -> None:
    frame, y = cohort_for(kind)
    training = Training(micro_batch_size=micro, ema=0.9)
    given = {"training": training, "modality_dropout": 0.2, "patience": 2, "epochs": 2}
    model = make_model(kind, auxiliary=list(LOSSES.values()), **given).fit(frame, y)
    named = ["similarity", "similarity_2", "correlation", "reconstruction", "contrastive"]
    assert np.isfinite(model.history_[[*named, "contrastive_2", "latent_prediction"]]).all(None)
    assert np.isfinite(predictions(model, frame)).all()


def test_an_auxiliary_loss_changes_the_network_and_not_the_likelihood() -> None:
    frame, y = cohort_for()
    plain = make_model().fit(frame, y)
    with_loss = make_model(auxiliary=[Similarity(weight=5.0)]).fit(frame, y)
    assert not np.allclose(predictions(plain, frame), predictions(with_loss, frame))
    assert plain.history_["loss"][0] == pytest.approx(with_loss.history_["loss"][0], abs=0.1)
    assert "similarity" not in plain.history_


def test_it_is_learned() -> None:
    frame, y = cohort_for(n=60)
    same = {name: Genes("gene_*", encoder="mlp", dropout=0.0) for name in ("one", "two")}
    given = {"epochs": 25, "batch_size": None, "learning_rate": 1e-2}
    model = make_model(modalities=same, auxiliary=[Contrastive(weight=1.0)], **given)
    history = model.fit(frame, y).history_["contrastive"]
    assert history.iloc[-1] < 0.5 * history.iloc[0]


def test_clone_pickle_save_and_load(tmp_path: Path) -> None:
    frame, y = cohort_for()
    model = make_model(auxiliary=[Similarity(margin=0.2, pretrain_epochs=1)], random_state=3)
    fitted = clone(model).fit(frame, y)
    again = clone(fitted).fit(frame, y)
    fitted.save(tmp_path / "model")
    loaded = type(fitted).load(tmp_path / "model")
    assert repr(loaded.auxiliary) == repr(model.auxiliary)
    assert loaded.history_["loss"].isna().tolist() == [True, False, False]
    for other in (again, loaded, pickle.loads(pickle.dumps(fitted))):
        assert np.array_equal(predictions(other, frame), predictions(fitted, frame))


def test_late_fusion_reconstructs_each_by_itself() -> None:
    frame, y = cohort_for()
    model = make_model(fusion="late", auxiliary=[Reconstruction()]).fit(frame, y)
    assert model.history_.groupby("model")["reconstruction"].count().tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"auxiliary": [Similarity(weight=-1)]}, "The weight parameter of Similarity"),
        (
            {"auxiliary": [Similarity()], "fusion": LateFusion()},
            r"Similarity\(\) in the auxiliary .* at least 2 .*: with LateFusion each network sees",
        ),
        (
            {"auxiliary": [Reconstruction(cross=True)], "fusion": LateFusion()},
            "needs at least 2 modalities in one network: with LateFusion",
        ),
        ({"auxiliary": [Reconstruction()], "fusion": EarlyFusion()}, "which EarlyFusion has not"),
        (
            {"auxiliary": [Contrastive(pretrain_epochs=3)]},
            "must leave epochs for the likelihood: less than epochs=3. Got 3",
        ),
        (
            {"auxiliary": [Correlation()], "fusion": JointFusion(dim=30)},
            r"needs batches of at least 4 rows .* 120. Got 13",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_before(params: dict[str, Any], message: str) -> None:
    frame, y = cohort_for()
    model = make_model(**params)
    with pytest.raises(ValueError, match=message):
        model.fit(frame, y)
    assert not hasattr(model, "history_")


def test_one_modality_has_none_to_be_compared_with() -> None:
    frame, y = cohort_for()
    one = make_model().modalities["rna"]
    with pytest.raises(ValueError, match=r"at least 2 modalities in one network. Got \['rna'\]"):
        make_model(modalities={"rna": one}, auxiliary=[Contrastive()]).fit(frame, y)


ACROSS = ["similarity", "variance_ratio", "correlation", "reconstruction", "contrastive", "latent"]


def views(n: int, both: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Return rows with two modalities, 3 columns each, of which the first `both` rows have both."""
    rng = np.random.default_rng(0)
    names = [f"{view}_{i}" for view in "ab" for i in range(3)]
    frame = pd.DataFrame(rng.normal(size=(n, 6)), columns=names)
    half = (n - both) // 2
    frame.iloc[both : both + half, 3:] = np.nan
    frame.iloc[both + half :, :3] = np.nan
    return frame, rng.normal(size=n)


def two(**params: Any) -> dict[str, Any]:
    inputs = {view: Genes(f"{view}_*", encoder="mlp", hidden=(6,)) for view in "ab"}
    given = {"epochs": 3, "patience": None, "device": "cpu", "random_state": 0}
    return {"modalities": inputs, **given, **params}


@pytest.mark.parametrize("name", [*ACROSS, "nt_xent", "dcca"])
def test_rows_that_nothing_pairs_are_refused_before_training(name: str) -> None:
    more = {"nt_xent": Contrastive(kind="nt_xent"), "dcca": Correlation()}
    objective = (LOSSES | more)[name]
    frame, y = views(40, 0)
    given = two(epochs=1)
    message = rf"{type(objective).__name__}.* no training row has two of \['a', 'b'\]"
    small = JointFusion("concat", 4)
    for model in (
        FusionRegressor(auxiliary=[objective], fusion=small, **given),
        FusionPretrainer(objectives=[objective], dim=4, **given),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(frame, y)
        assert not hasattr(model, "history_")
    # One pair of three modalities is enough.
    given["modalities"] = {**given["modalities"], "c": Genes("a_*", encoder="mlp", hidden=(6,))}
    model = FusionPretrainer(objectives=[objective], dim=4, **given).fit(frame)
    assert model.history_["loss"].ne(0).all()


@pytest.mark.parametrize("name", ["supervised", "own"])
def test_losses_that_need_no_pairs_are_trained_without(name: str) -> None:
    frame, y = views(40, 0)
    objective = (LOSSES | {"own": Reconstruction()})[name]
    model = FusionRegressor(auxiliary=[objective], **two(fusion=JointFusion("concat", 4)))
    assert model.fit(frame, y).history_[objective.name].ne(0).all()


def test_canonical_correlations_need_enough_rows_with_both() -> None:
    frame, y = views(200, 41)
    needed = r"41\.0 of 128 for \('a', 'b'\)"
    staged = Correlation(weight=(1.0, 0.0), pretrain_epochs=2)
    for model in (
        FusionRegressor(auxiliary=[staged], **two(fusion=JointFusion("concat", 32))),
        FusionPretrainer(objectives=[Correlation()], **two(dim=32)),
    ):
        with pytest.raises(ValueError, match=needed):
            model.fit(frame, y)
        assert not hasattr(model, "history_")
    enough = two(fusion=JointFusion("concat", 8))
    history = FusionRegressor(auxiliary=[staged], **enough).fit(frame, y).history_
    assert history["correlation"][:2].lt(0).all()
    # Batches and modality dropout leave fewer: 41 in two batches, 0.5 * 0.8 of 41.
    for params, found in (
        ({"batch_size": 100}, "20.5"),
        ({"modality_dropout": {"a": 0.5, "b": 0.2}}, "16.4"),
    ):
        with pytest.raises(ValueError, match=rf"{found} of 32 for"):
            FusionRegressor(auxiliary=[staged], **enough, **params).fit(frame, y)


def test_something_else_is_refused() -> None:
    frame, y = cohort_for()
    with pytest.raises(TypeError, match="The auxiliary parameter must be a list of objectives"):
        make_model(auxiliary=["similarity"]).fit(frame, y)


def test_cells_of_an_absent_modality_are_not_learned_from() -> None:
    """A frame's absent image has no cell; here the tensors behind it are changed."""

    class Marked(Tabular):
        content = 0.0

        def transform(self, frame: Any) -> TableData:
            data = super().transform(frame)
            data.present[::3] = False
            data.numeric[::3] = type(self).content
            return data

    frame, y = cohort_for()
    results = []
    for content in (0.0, 1e9):
        Marked.content = content
        chosen = {**make_model().modalities, "clinic": Marked(["age", "sex"], hidden=(6,))}
        model = make_model(modalities=chosen, auxiliary=list(LOSSES.values())).fit(frame, y)
        results.append(predictions(model, frame))
    assert np.array_equal(*results)


@pytest.mark.parametrize("at", ["tokens", "hidden"])
@pytest.mark.parametrize("micro", [None, 7])
def test_embeddings_are_compared_wherever_they_are_fused(at: str, micro: int | None) -> None:
    frame, y = cohort_for()
    operator = "perceiver" if at == "tokens" else "sum"
    fusion = JointFusion(operator, dim=8, hidden=(4,), at=at)
    losses = [Contrastive(), Reconstruction(cross=True), LatentPrediction()]
    training = Training(micro_batch_size=micro)
    model = make_model(fusion=fusion, auxiliary=losses, training=training).fit(frame, y)
    named = ["contrastive", "reconstruction", "latent_prediction"]
    assert np.isfinite(model.history_[named]).all(None)


def test_they_stand_beside_a_formula_and_its_design() -> None:
    frame, y = cohort_for("regressor", n=60)
    for given in ({"head": "nonlinear"}, {"orthogonalization": "online"}):
        losses = [Similarity(pretrain_epochs=1), Reconstruction()]
        model = make_model("regressor", structured="sex", auxiliary=losses, patience=2, **given)
        model.fit(frame, y)
        assert np.isfinite(model.history_["reconstruction"]).all()
        assert np.isfinite(predictions(model, frame)).all()
