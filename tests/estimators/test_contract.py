"""One contract over every encoder, fusion and estimator."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from torch import nn

from mmfusion.modalities import Genes, Image, Modality, Tabular
from tests.estimators.common import ESTIMATORS, FUSIONS, cohort_for, make_model, predictions

pytestmark = pytest.mark.usefixtures("one_network")


def own_table_net(n_inputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n_inputs, 5), nn.Tanh())


def own_image_net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh())


def scan(**params: Any) -> Image:
    return Image("image", **{"size": 8, "channels": "L", **params})


ENCODERS: dict[str, dict[str, Modality]] = {
    "mlp": {"x": Tabular(["age", "sex", "stage"], hidden=(4,)), "scan": scan(encoder="raw")},
    "snn": {"x": Genes("gene_*", encoder="snn", hidden=(4,)), "scan": scan(encoder="raw")},
    "raw": {
        "x": Tabular(["age", "sex"], encoding="onehot", encoder="raw"),
        "scan": scan(encoder="raw"),
    },
    "own table": {"x": Tabular(["age"], encoder=own_table_net), "scan": scan(encoder="raw")},
    "own image": {"x": Tabular(["age"], hidden=()), "scan": scan(encoder=own_image_net)},
    "cnn": {"x": Tabular(["age"], hidden=()), "scan": scan(encoder="cnn")},
    "cnn components": {
        "x": Tabular(["age"], hidden=()),
        "scan": scan(freeze="all", n_components=3),
    },
    "timm cnn": {
        "x": Tabular(["age"], hidden=()),
        "scan": scan(encoder="test_resnet", size=32, channels="RGB"),
    },
    "timm vit": {
        "x": Tabular(["age"], hidden=()),
        "scan": scan(encoder="test_vit", size=32, freeze="all"),
    },
}


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_contract(encoder: str, fusion: str, kind: str) -> None:
    frame, y = cohort_for(kind, 24, missing=0.25)
    model = make_model(
        kind, fusion, modalities=ENCODERS[encoder], epochs=2, batch_size=12, learning_rate=0.02
    )
    model.fit(frame, y)
    found = predictions(model, frame)
    assert found.shape[0] == len(frame)
    assert np.isfinite(found).all()
    assert np.ptp(found[:, 0]) > 0, "the model has learned nothing"

    # A clone fitted with the same seed is the same model; so is a pickled one.
    np.testing.assert_array_equal(predictions(clone(model).fit(frame, y), frame), found)
    np.testing.assert_array_equal(predictions(pickle.loads(pickle.dumps(model)), frame), found)

    # A batch of one; rows in another order; rows without one of their modalities.
    alone = np.concatenate([predictions(model, frame.iloc[[row]]) for row in range(3)])
    np.testing.assert_allclose(alone, found[:3], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        predictions(model, frame.iloc[::-1]), found[::-1], rtol=1e-5, atol=1e-5
    )
    lacking = frame.assign(image=None)
    assert np.isfinite(predictions(model, lacking)).all()
