"""The user's default dtype changes nothing of a fit, and a fit nothing of it."""

from __future__ import annotations

import threading

import numpy as np
import pandas as pd
import pytest
import torch

from mmfusion import Genes, Tabular, surv
from mmfusion.estimators import (
    FusionClassifier,
    FusionCox,
    FusionDiscreteTime,
    FusionPAMM,
    FusionPretrainer,
    FusionRegressor,
)
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.objectives import Contrastive, Reconstruction
from mmfusion.training.precision import single_precision

N = 40
rng = np.random.default_rng(0)
X = pd.DataFrame(rng.normal(size=(N, 4)), columns=list("abcd"))
TIMES = surv(rng.exponential(size=N), rng.random(N) < 0.7)
OPTIONS = {"epochs": 2, "random_state": 0, "device": "cpu"}
TWO = {"t": Tabular(["a", "b"]), "g": Genes(["c", "d"])}


@pytest.fixture(params=[torch.float64, torch.float16, torch.bfloat16], ids=str)
def users(request):
    """The default dtype that the user sets."""
    yield request.param
    torch.set_default_dtype(torch.float32)


CASES = {
    "cox": (lambda: FusionCox(TWO, structured="a", **OPTIONS), TIMES),
    "late": (lambda: FusionCox(TWO, LateFusion("stack"), **OPTIONS), TIMES),
    "early": (lambda: FusionCox(TWO, EarlyFusion(), **OPTIONS), TIMES),
    "auxiliary": (lambda: FusionCox(TWO, auxiliary=[Contrastive()], **OPTIONS), TIMES),
    "discrete": (lambda: FusionDiscreteTime(TWO, JointFusion("gated"), **OPTIONS), TIMES),
    "pamm": (lambda: FusionPAMM(TWO, structured="a", **OPTIONS), TIMES),
    "classes": (lambda: FusionClassifier(TWO, **OPTIONS), X.a > 0),
    "numbers": (lambda: FusionRegressor(TWO, patience=1, **OPTIONS), X.a),
    "pretraining": (lambda: FusionPretrainer(TWO, objectives=[Reconstruction()], **OPTIONS), None),
}


def predictions(model):
    return model.transform(X) if isinstance(model, FusionPretrainer) else model.predict(X)


@pytest.mark.parametrize("name", CASES)
def test_fits_and_predictions_are_the_same(name, users, tmp_path):
    make, y = CASES[name]
    expected = predictions(make().fit(X, y))
    torch.set_default_dtype(users)
    model = make().fit(X, y)
    assert torch.get_default_dtype() == users
    np.testing.assert_array_equal(predictions(model), expected)
    assert {p.dtype for p in model.network_.parameters()} == {torch.float32}
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(
        predictions(type(model).load(tmp_path / "model")), expected, strict=True
    )
    assert torch.get_default_dtype() == users


def test_networks_of_the_users_own(users):
    torch.set_default_dtype(users)
    own = torch.nn.Linear(4, 3)
    assert own.weight.dtype == users
    model = FusionCox({"t": Tabular(encoder=lambda *shape: own)}, **OPTIONS).fit(X, TIMES)
    assert np.isfinite(model.predict(X)).all()


def test_an_error_leaves_the_default_too(users):
    torch.set_default_dtype(users)
    with pytest.raises(ValueError, match="must hold finite numbers"):
        FusionCox({"t": Tabular()}, **OPTIONS).fit(X.assign(a=np.inf), TIMES)
    assert torch.get_default_dtype() == users


def test_the_last_thread_restores_it(users):
    torch.set_default_dtype(users)
    entered, leave = threading.Event(), threading.Event()

    def stay():
        with single_precision():
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    thread.start()
    entered.wait(10)
    with single_precision():
        pass
    assert torch.get_default_dtype() == torch.float32
    leave.set()
    thread.join()
    assert torch.get_default_dtype() == users
