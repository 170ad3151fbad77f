"""Each operator in an estimator: it fits, saves and loads, and never reads what is absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmfusion import Genes, Image, Tabular
from mmfusion.estimators import FusionCox
from mmfusion.fusion import OPERATORS, JointFusion
from mmfusion.training import Training, network_outputs
from tests.estimators.common import cohort_for

TAKERS = sorted(name for name, kind in OPERATORS.items() if kind.takes_tokens)
STRATEGIES = {
    **{name: JointFusion(name, dim=8, hidden=(4,)) for name in sorted(OPERATORS)},
    **{f"{name}, tokens": JointFusion(name, dim=8, hidden=(), at="tokens") for name in TAKERS},
    "product, hidden": JointFusion("product", dim=8, hidden=(6,), at="hidden"),
    "low rank 3": JointFusion("low_rank_tensor", dim=8, options={"rank": 3}),
}


def fit(name: str, **params: Any) -> tuple[FusionCox, pd.DataFrame]:
    frame, y = cohort_for("cox", n=32, missing=0.3)
    frame.loc[frame.index[:6], [c for c in frame if str(c).startswith("gene_")]] = np.nan
    strategy = STRATEGIES[name]
    clinic = {"encoder": "tokens"} if strategy.at == "tokens" else {"hidden": (6,)}
    model = FusionCox(
        {
            "scan": Image("image", size=8, channels="L"),
            "rna": Genes("gene_*", hidden=(6,)),
            "clinic": Tabular(["age", "sex", "stage"], **clinic),
        },
        strategy,
        **{"epochs": 2, "batch_size": 16, "patience": None, "device": "cpu", "random_state": 0}
        | params,
    )
    return model.fit(frame, y), frame


@pytest.mark.parametrize("name", STRATEGIES)
def test_fits_saves_and_loads(name: str, tmp_path: Path) -> None:
    model, frame = fit(name)
    risk = model.predict(frame)
    assert np.isfinite(risk).all()
    assert risk.std() > 0
    model.save(tmp_path / "model")
    loaded = FusionCox.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(frame), risk)
    assert loaded.fusion.get_params() == model.fusion.get_params()
    again, _ = fit(name)
    np.testing.assert_array_equal(again.predict(frame), risk)


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_absent_cells_hold_is_never_read(name: str) -> None:
    model, frame = fit(name, epochs=1)
    (inner,) = model.model_.deep.networks.values()
    data = inner.transform(frame, torch.device("cpu"), "32-true")
    wanted = network_outputs(inner.module, data)
    absent = ~data.parts["rna"].present
    assert int(absent.sum()) == 6
    assert int((~data.parts["scan"].present).sum()) > 3
    for content in (torch.nan, 1e30):
        data.parts["rna"].numeric[absent] = content
        torch.testing.assert_close(network_outputs(inner.module, data), wanted, rtol=0, atol=0)
    # The other rows' predictions do not change with what these six lack.
    full = frame.copy()
    genes = [c for c in frame if str(c).startswith("gene_")]
    full.loc[frame.index[:6], genes] = 0.5
    np.testing.assert_allclose(
        model.predict(full)[6:], model.predict(frame)[6:], rtol=1e-4, atol=1e-5
    )
    assert not np.allclose(model.predict(full)[:6], model.predict(frame)[:6], atol=1e-7)


@pytest.mark.parametrize("name", ["transformer, tokens", "compact_bilinear", "product, hidden"])
def test_exact_gradients_of_chunks(name: str) -> None:
    """Two passes over chunks of a batch train as one pass over all of it does."""
    whole, frame = fit(name, batch_size=None)
    chunked, _ = fit(name, batch_size=None, training=Training(micro_batch_size=7))
    np.testing.assert_allclose(chunked.predict(frame), whole.predict(frame), rtol=0.05, atol=0.05)


def test_modality_dropout_with_tokens() -> None:
    model, frame = fit("cross_attention, tokens", modality_dropout=0.5)
    assert np.isfinite(model.predict(frame)).all()


def test_a_tensor_of_too_many_features_is_refused_before_training() -> None:
    frame, y = cohort_for("cox", n=32)
    inputs = {f"part {i}": Tabular([f"gene_{i}"]) for i in range(4)}
    model = FusionCox(inputs, JointFusion("tensor"), device="cpu")
    with pytest.raises(ValueError, match="features of embeddings of widths"):
        model.fit(frame, y)
    model.set_params(fusion=JointFusion("sum", at="tokens"))
    with pytest.raises(ValueError, match="operators that take tokens"):
        model.fit(frame, y)
