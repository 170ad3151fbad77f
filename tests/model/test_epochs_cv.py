"""``epochs="cv"``: folds say how long to train, then one network is trained on all rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mmfusion import Tabular
from mmfusion.estimators import FusionClassifier, FusionCox, FusionPAMM, FusionRegressor
from mmfusion.estimators.pretrainer import FusionPretrainer
from mmfusion.fusion import EarlyFusion, LateFusion
from mmfusion.model.learning import Prepared
from mmfusion.objectives import Similarity
from mmfusion.survival import surv
from tests.tuning.common import cohort

#: Training that is over soon.
SOON = {"learning_rate": 0.02, "patience": 5, "random_state": 0}
WAVE = {"clinical": Tabular(["age"]), "genes": Tabular(["gene_0", "gene_1"])}


def data(n: int = 200) -> tuple[Any, Any, np.ndarray]:
    """Return patients, their survival, and a number that bends in a column."""
    X, y = cohort(n)
    rng = np.random.default_rng(0)
    return X, y, np.sin(3 * X["age"].to_numpy()) + 0.2 * rng.normal(size=n)


def test_epochs_are_the_minimum_of_the_mean_curve_and_all_rows_are_trained_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X, _, y = data()
    seen: list[Prepared] = []
    original = Prepared.train

    def watching(self: Prepared) -> Any:
        seen.append(self)
        return original(self)

    monkeypatch.setattr(Prepared, "train", watching)
    model = FusionRegressor(WAVE, epochs="cv", **SOON).fit(X, y)
    prepared = seen[0]
    assert len(prepared.of_folds) == 5
    assert len(prepared.network.members) == 1
    assert prepared.network.module not in prepared.of_folds
    history = model.history_
    assert model.best_epoch_ == int(history["epoch"][history["val_loss"].argmin()])
    assert 0 < model.best_epoch_ < 100
    assert len(list(model.network_.parameters())) > 0

    # The folds are those of the default, so that both stop alike.
    default = FusionRegressor(WAVE, **SOON).fit(X, y)
    np.testing.assert_array_equal(default.history_["val_loss"], history["val_loss"])
    assert default.best_epoch_ == model.best_epoch_
    found, theirs = model.predict(X), default.predict(X)
    assert np.corrcoef(found, theirs)[0, 1] > 0.9
    assert not np.allclose(found, theirs)
    again = FusionRegressor(WAVE, epochs="cv", **SOON).fit(X, y)
    np.testing.assert_array_equal(again.predict(X), found)


def test_where_nothing_is_to_be_learned_the_network_says_nothing() -> None:
    X, y = cohort(120, noise=True)
    model = FusionCox(WAVE, epochs="cv", **SOON).fit(X, y)
    assert model.model_.deep.share.tolist() == [0.0]


@pytest.mark.parametrize("fusion", ["concat", LateFusion("stack", folds=2)])
def test_predictions_are_calibrated_and_come_back_from_a_folder(fusion: Any, tmp_path: Any) -> None:
    X, _ = cohort(400)
    rng = np.random.default_rng(3)
    eta = 2 * np.sin(2 * X["age"].to_numpy()) + X["gene_0"].to_numpy()
    time = rng.exponential(np.exp(-eta))
    y = surv(np.minimum(time, 3), time < 3)
    model = FusionCox(WAVE, fusion, epochs="cv", **SOON).fit(X[:250], y[:250])
    assert model.score(X[250:], y[250:]) > 0.75
    # The baseline was learned beside what the networks of the folds say, and is the last one's too.
    risk = 1 - model.predict_survival_function(X[:250], times=[0.5]).to_numpy()[:, 0]
    assert risk.mean() == pytest.approx((time[:250] <= 0.5).mean(), abs=0.03)
    model.save(tmp_path / "model")
    loaded = FusionCox.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


@pytest.mark.usefixtures("two_networks")
def test_classes_and_a_formula_with_time() -> None:
    X, y, values = data(120)
    classes = FusionClassifier(WAVE, epochs="cv", **SOON).fit(X, values > 0)
    assert classes.predict_proba(X).shape == (120, 2)
    pamm = FusionPAMM(WAVE, structured="age", epochs="cv", n_intervals=8, **SOON)
    assert np.isfinite(pamm.fit(X, y).predict(X)).all()


@pytest.mark.slow
@pytest.mark.usefixtures("two_networks")
def test_inference_by_folds_trains_one_network_each() -> None:
    X, y = cohort(100)
    model = FusionCox({"genes": WAVE["genes"]}, structured="age", inference="cross_fit")
    model.set_params(epochs="cv", **SOON | {"patience": 1}).fit(X, y)
    assert "(deep)" in model.effects_.index


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"auxiliary": [Similarity()]}, "epochs parameter must be a number with auxiliary losses"),
        ({"fusion": EarlyFusion("features")}, "epochs parameter must be a number with"),
        ({"fusion": LateFusion(combine="survival")}, "epochs parameter must be a number with"),
    ],
)
def test_what_one_network_alone_can_do_is_refused(params: dict[str, Any], message: str) -> None:
    X, y = cohort(60)
    with pytest.raises(ValueError, match=message):
        FusionCox(WAVE, epochs="cv", **params).fit(X, y)


def test_an_eval_set_and_other_words_are_refused() -> None:
    X, y = cohort(60)
    with pytest.raises(ValueError, match="epochs parameter must be a number with an eval_set"):
        FusionCox(WAVE, epochs="cv").fit(X, y, eval_set=(X, y))
    with pytest.raises(TypeError, match="epochs parameter must be an integer"):
        FusionCox(WAVE, epochs="auto").fit(X, y)
    with pytest.raises(TypeError, match="epochs parameter must be an integer"):
        FusionPretrainer(WAVE, epochs="cv").fit(X)


@pytest.mark.usefixtures("two_networks")
def test_the_users_random_numbers_are_left_alone() -> None:
    X, y = cohort(80)
    before = torch.get_rng_state()
    FusionCox(WAVE, epochs="cv", **SOON).fit(X, y)
    assert torch.equal(torch.get_rng_state(), before)
