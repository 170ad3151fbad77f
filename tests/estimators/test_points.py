"""Point clouds beside a table in an estimator: the wide and deep survival model of shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmfusion import Points, Tabular
from mmfusion.datasets import make_shapes
from mmfusion.estimators import FusionCox
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.training import Training

pytestmark = pytest.mark.usefixtures("one_network")

QUICK: dict[str, Any] = {"epochs": 2, "device": "cpu", "random_state": 0, "patience": None}
SMALL: dict[str, Any] = {"hidden": (8, 8), "n_points": 20}


@pytest.fixture(scope="module")
def small() -> Any:
    return make_shapes(60, n_points=(10, 30), missing=0.2)


def modalities(**options: Any) -> dict[str, Any]:
    return {"organ": Points("surface", **{**SMALL, **options}), "table": Tabular(["age"])}


@pytest.mark.parametrize("fusion", ["concat", "gated", EarlyFusion(), LateFusion()])
def test_fit_predict_save_load(small: Any, tmp_path: Path, fusion: Any) -> None:
    model = FusionCox(modalities(root=Path(), jitter=0.01), fusion, **QUICK)
    model.fit(small.frame, small.target)
    risk = model.predict(small.frame)
    assert np.isfinite(risk).all()
    model.save(tmp_path / "model")
    loaded = FusionCox.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(small.frame), risk)
    # A row's prediction depends neither on its neighbours nor on the order of its points.
    shuffled = small.frame.copy()
    shuffled["surface"] = [None if c is None else c[::-1] for c in shuffled["surface"]]
    np.testing.assert_allclose(model.predict(shuffled), risk, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.predict(small.frame.iloc[:7]), risk[:7], rtol=1e-4, atol=1e-5)


def test_chunks_give_the_gradient_of_the_batch(small: Any) -> None:
    # Without dropout and augmentation nothing is drawn.
    points = {"organ": Points("surface", **SMALL)}
    fits = [
        FusionCox(points, JointFusion(dropout=0.0), structured="age", training=training, **QUICK)
        .fit(small.frame, small.target)
        .predict(small.frame)
        for training in (None, Training(micro_batch_size=16))
    ]
    np.testing.assert_allclose(fits[0], fits[1], rtol=1e-4, atol=1e-5)
    turned = {"organ": Points("surface", rotate=True, **SMALL)}
    model = FusionCox(turned, structured="age", training=Training(micro_batch_size=16), **QUICK)
    assert np.isfinite(model.fit(small.frame, small.target).predict(small.frame)).all()


def test_a_bad_cloud_stops_before_training(small: Any) -> None:
    frame = small.frame.copy()
    frame.at[3, "surface"] = np.zeros((4, 2))
    with pytest.raises(ValueError, match="Column 'surface', row 3: all clouds"):
        FusionCox(modalities(), **QUICK).fit(frame, small.target)


def test_inferred(small: Any) -> None:
    model = FusionCox(**QUICK).fit(small.frame, small.target)
    assert {name: type(m) for name, m in model.modalities_.items()} == {
        "table": Tabular,
        "surface": Points,
    }


def test_shape_that_determines_the_risk_is_learned() -> None:
    # Wide and deep (Pölsterl et al. 2020): a formula for the table, PointNet for the shape.
    cohort, held = make_shapes(500, n_points=(40, 80)), make_shapes(300, random_state=1)
    model = FusionCox(
        {"organ": Points("surface", n_points=64, hidden=(32, 64))},
        structured="age + treatment",
        epochs=12,
        batch_size=64,
        device="cpu",
        random_state=0,
    ).fit(cohort.frame, cohort.target)
    classical = FusionCox({}, structured="age + treatment").fit(cohort.frame, cohort.target)
    best = pd.Series(held.truth.log_hazard["total"])
    assert model.score(held.frame, held.target) > classical.score(held.frame, held.target) + 0.1
    assert np.corrcoef(model.predict(held.frame), best)[0, 1] > 0.85
    missing = held.frame.assign(surface=None)
    risk = model.predict(missing)
    assert np.corrcoef(risk, held.truth.log_hazard["table"])[0, 1] > 0.9
