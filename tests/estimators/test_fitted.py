"""A fit that fails leaves no model: nothing predicts, scores or saves from half of one."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from mmfusion.estimators import FusionPretrainer
from mmfusion.training import Callback, Training, TrainingDivergedError, TrainingState
from tests.estimators.common import ESTIMATORS, cohort_for, make_model, modalities, predictions

pytestmark = pytest.mark.usefixtures("one_network")


class Fails(Callback):
    """Raises an error in the epoch; None is before the first."""

    def __init__(self, error: type[BaseException], epoch: int | None) -> None:
        self.error, self.epoch = error, epoch

    def on_fit_begin(self, state: TrainingState) -> None:
        if self.epoch is None:
            raise self.error

    def on_epoch_end(self, state: TrainingState) -> None:
        if state.record["epoch"] == self.epoch:
            raise self.error


class Poison(Callback):
    def on_epoch_end(self, state: TrainingState) -> None:
        with torch.no_grad():
            next(state.network.parameters()).fill_(torch.nan)


FAILURES = [
    (Fails(RuntimeError, 2), RuntimeError),
    (Fails(KeyboardInterrupt, None), KeyboardInterrupt),
    (Poison(), TrainingDivergedError),
]


def assert_not_fitted(model: Any, frame: Any, y: Any, folder: Path) -> None:
    asked: list[Any] = [lambda: check_is_fitted(model), lambda: model.save(folder / "model")]
    names = ("predict", "predict_proba", "predict_survival_function", "transform")
    asked += [partial(getattr(model, name), frame) for name in names if hasattr(model, name)]
    asked += [lambda: model.network_]
    if not isinstance(model, FusionPretrainer):
        asked += [lambda: model.score(frame, y), lambda: model.effects_]
    for ask in asked:
        with pytest.raises(NotFittedError):
            ask()
    assert not (folder / "model").exists()
    for name in ("history_", "best_epoch_", "modalities_", "classes_", "is_fitted_"):
        assert not hasattr(model, name)


@pytest.mark.parametrize(("callback", "error"), FAILURES)
@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("before", [False, True])
def test_a_fit_that_fails_leaves_no_model(
    kind: str, before: bool, callback: Callback, error: type[BaseException], tmp_path: Path
) -> None:
    frame, y = cohort_for(kind, missing=0.0)
    model = make_model(kind)
    if before:
        model.fit(frame, y)
        check_is_fitted(model)
    with pytest.raises(error):
        model.set_params(training__callbacks=[callback]).fit(frame, y)
    assert_not_fitted(model, frame, y, tmp_path)
    assert_not_fitted(pickle.loads(pickle.dumps(model)), frame, y, tmp_path)
    # It is fitted anew as if nothing had happened.
    model.set_params(training__callbacks=None).fit(frame, y)
    same = predictions(clone(model).fit(frame, y), frame)
    np.testing.assert_array_equal(predictions(model, frame), same)


@pytest.mark.parametrize("fusion", ["gated", "late"])
def test_beside_a_formula(fusion: str, tmp_path: Path) -> None:
    frame, y = cohort_for("cox")
    model = make_model("cox", fusion, structured="age").fit(frame, y)
    assert len(model.effects_) == 1
    with pytest.raises(RuntimeError):
        model.set_params(training__callbacks=[Fails(RuntimeError, 1)]).fit(frame, y)
    assert_not_fitted(model, frame, y, tmp_path)


def test_refused_input_leaves_no_model_either(tmp_path: Path) -> None:
    frame, y = cohort_for("regressor")
    model = make_model("regressor", epochs=1).fit(frame, y)
    with pytest.raises(ValueError, match=r"'age' not found"):
        model.fit(frame.drop(columns="age"), y)
    assert_not_fitted(model, frame, y, tmp_path)


def test_an_interrupted_fit_that_keeps_its_weights_is_fitted(tmp_path: Path) -> None:
    frame, y = cohort_for("regressor")
    model = make_model("regressor", training=Training(callbacks=[Fails(KeyboardInterrupt, 2)]))
    with pytest.warns(UserWarning, match=r"interrupted"):
        model.fit(frame, y)
    check_is_fitted(model)
    model.save(tmp_path / "model")
    again = ESTIMATORS["regressor"].load(tmp_path / "model")
    check_is_fitted(again)
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))


@pytest.mark.parametrize(("callback", "error"), FAILURES)
@pytest.mark.parametrize("before", [False, True])
def test_a_pretrainer_whose_fit_fails(
    before: bool, callback: Callback, error: type[BaseException], tmp_path: Path
) -> None:
    frame, y = cohort_for(missing=0.0)
    model = FusionPretrainer(
        modalities(), dim=6, epochs=3, patience=None, device="cpu", random_state=0
    )
    if before:
        model.fit(frame)
    with pytest.raises(error):
        model.set_params(training__callbacks=[callback]).fit(frame)
    assert_not_fitted(model, frame, y, tmp_path)
    with pytest.raises(NotFittedError, match=r"pretrained parameter must be fitted"):
        make_model(pretrained=model).fit(frame, y)
