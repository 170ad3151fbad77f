"""Parameters of all estimators: each is documented; rare settings of the training are nested."""

from __future__ import annotations

import inspect
import pickle
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold

from mmfusion.estimators import FusionClassifier, FusionCox, FusionPretrainer, FusionRegressor
from mmfusion.estimators._docs import documented
from mmfusion.estimators._parameters import training_settings
from mmfusion.training import Training, TrainingSettings
from tests.estimators.common import ESTIMATORS, cohort_for, make_model, modalities

pytestmark = pytest.mark.usefixtures("one_network")

ALL = {**ESTIMATORS, "pretrainer": FusionPretrainer}
MOVED = {
    "micro_batch_size": 8,
    "weight_decay": 0.1,
    "warmup": 0.2,
    "clip_norm": None,
    "ema": 0.9,
    "precision": "bf16-mixed",
    "callbacks": [],
}


def entries(kind: type, section: str) -> dict[str, str]:
    """Return what stands before and after the colon of each entry of a docstring's section."""
    doc = inspect.cleandoc(kind.__doc__ or "")
    text = re.split(r"\n\n", doc.split(f"{section}\n{'-' * len(section)}\n")[1])[0]
    return dict(re.findall(r"^(\w+)(?: : (.+))?$", text, flags=re.MULTILINE))


@pytest.mark.parametrize("kind", ALL.values())
def test_help_shows_every_parameter_in_the_order_of_the_signature(kind: type) -> None:
    parameters = inspect.signature(kind).parameters
    shown = entries(kind, "Parameters")
    assert list(shown) == list(parameters)
    assert sorted(shown) == sorted(kind().get_params(deep=False))
    for name, parameter in parameters.items():
        default = re.search(r"default=(.+)", shown[name])
        if default is None:
            assert shown[name].endswith("optional")
            assert parameter.default is None
        else:
            assert eval(default[1], {}) == parameter.default, name


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_documented_attributes_exist_after_fit(kind: str) -> None:
    frame, y = cohort_for(kind)
    model = make_model(kind, "late", structured="age", epochs=1).fit(frame, y)
    assert [name for name in entries(type(model), "Attributes") if not hasattr(model, name)] == []


def test_documented_attributes_of_a_pretrainer_exist_after_fit() -> None:
    frame, _ = cohort_for()
    model = FusionPretrainer(modalities(), epochs=1, patience=None, device="cpu").fit(frame)
    assert [
        name for name in entries(FusionPretrainer, "Attributes") if not hasattr(model, name)
    ] == []


def test_an_unknown_entry_is_an_error() -> None:
    class Wrong:
        """Names what is documented nowhere.

        {epochs, epoch}
        """

    with pytest.raises(KeyError, match="epoch"):
        documented(Wrong)


def test_estimators_work_without_docstrings() -> None:
    code = "from mmfusion.estimators import FusionCox; print(FusionCox(epochs=3))"
    done = subprocess.run(
        [sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "FusionCox(epochs=3)"


# --- training= -----------------------------------------------------------------------------------


def test_the_settings_of_the_loop_are_those_of_the_estimator_and_its_training() -> None:
    model = make_model(epochs=7, training=Training(ema=None, warmup=0.3, callbacks=[]))
    assert training_settings(model) == TrainingSettings(
        epochs=7,
        batch_size=16,
        micro_batch_size=None,
        learning_rate=3e-3,
        weight_decay=1e-2,
        warmup=0.3,
        clip_norm=1.0,
        patience=None,
        ema=None,
        modality_dropout=0.0,
        device="cpu",
        precision="32-true",
        callbacks=(),
        verbose=0,
    )
    assert training_settings(make_model()) == training_settings(make_model(training=Training()))


@pytest.mark.parametrize("kind", ALL.values())
def test_nested_settings_of_none_are_set_on_the_defaults(kind: Any) -> None:
    model = kind(epochs=3).set_params(training__ema=None, epochs=4)
    assert model.training.get_params() == Training(ema=None).get_params()
    assert model.epochs == 4
    assert model.get_params()["training__ema"] is None
    copy = clone(model).set_params(training__weight_decay=0.5)
    assert (copy.training.weight_decay, model.training.weight_decay) == (0.5, 0.01)
    assert pickle.loads(pickle.dumps(copy)).training.weight_decay == 0.5


def test_nested_settings_in_a_search() -> None:
    frame, y = cohort_for("cox")
    name = "training__weight_decay"
    model = make_model(epochs=1, learning_rate=0.1)
    search = GridSearchCV(model, {name: [0.0, 30.0]}, cv=KFold(2), error_score="raise")
    search.fit(frame, y)
    assert model.training is None
    assert search.best_estimator_.get_params()[name] == search.best_params_[name]
    first, second = search.cv_results_["mean_test_score"]
    assert first != second


@pytest.mark.parametrize("kind", ALL.values())
@pytest.mark.parametrize("name", MOVED)
def test_the_old_spelling_is_answered_with_the_new(kind: Any, name: str) -> None:
    assert set(MOVED) == set(Training().get_params())
    value = MOVED[name]
    spelled = re.escape(f"training=Training({name}={value!r})") + rf".* training__{name}"
    with pytest.raises(TypeError, match=spelled):
        kind(**{name: value})
    with pytest.raises(ValueError, match=spelled):
        kind().set_params(**{name: value})


def test_other_names_are_answered_as_elsewhere() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'epoch'"):
        FusionCox(epoch=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'treatment'"):
        FusionCox(treatment="arm")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="Invalid parameter 'emas'"):
        FusionCox().set_params(training__emas=3)
    with pytest.raises(TypeError, match="positional argument"):
        FusionRegressor({}, "concat", "age")  # type: ignore[misc]


def test_a_subclass_may_have_a_parameter_of_that_name() -> None:
    class Warm(FusionClassifier):
        def __init__(self, warmup: float = 0.5) -> None:
            super().__init__(training=Training(warmup=warmup))
            self.warmup = warmup

    assert Warm(warmup=0.2).training.warmup == 0.2  # type: ignore[union-attr]
    assert clone(Warm().set_params(warmup=0.3)).warmup == 0.3


def test_a_pretrainer_keeps_the_weights_themselves() -> None:
    frame, _ = cohort_for()
    models = [
        FusionPretrainer(
            modalities(), epochs=2, batch_size=16, device="cpu", random_state=0, training=training
        ).fit(frame)
        for training in (None, Training(), Training(ema=None), Training(ema=0.5))
    ]
    first, *others = (model.transform(frame) for model in models)
    for other in others:
        np.testing.assert_array_equal(first, other)
