from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError
from torch import nn

from mmfusion import Genes, Image, Points, Tabular
from mmfusion.encoders import (
    TABLE_ENCODERS,
    MLPEncoder,
    SNNEncoder,
    TableEncoder,
    build_encoder,
    check_layers,
)

FRAME = pd.DataFrame(
    {"age": [1.0, 2.0, 5.0], "sex": ["f", "m", "f"], "g0": [1.0, 0, 3], "g1": [0.0, 1, 5]}
)


@pytest.mark.parametrize(
    ("name", "kind"), [("mlp", MLPEncoder), ("snn", SNNEncoder), ("raw", TableEncoder)]
)
def test_names(name: str, kind: type) -> None:
    encoder = build_encoder(Tabular(["age", "sex"], encoder=name).fit(FRAME), 5)
    assert type(encoder) is kind
    assert encoder.width == (encoder.feature_width if name == "raw" else 5)


def test_parameters_of_the_modality_arrive() -> None:
    modality = Genes("g*", encoder="mlp", hidden=(7, 6), dropout=0.4).fit(FRAME)
    layers = build_encoder(modality, 5).layers
    assert [m.out_features for m in layers if isinstance(m, nn.Linear)] == [7, 6, 5]
    assert [m.p for m in layers if isinstance(m, nn.Dropout)] == [0.4] * 3


def test_early_fusion_reads_the_table_as_it_is() -> None:
    encoder = build_encoder(Tabular(["age", "sex"]).fit(FRAME), None)
    assert type(encoder) is TableEncoder


@pytest.mark.parametrize(
    ("encoder", "hint"), [("mpl", "Did you mean 'mlp'"), ("xyz", "Got 'xyz'.$"), (3, "Got 3")]
)
def test_unknown_table_encoder(encoder: Any, hint: str) -> None:
    with pytest.raises(ValueError, match=rf"encoder parameter of Tabular must be .*{hint}"):
        build_encoder(Tabular(["age"], encoder=encoder).fit(FRAME), 5)


@pytest.mark.parametrize("hidden", [8, None, (8.0,), (0,), (-1,), (True,), "8", (8, None)])
def test_hidden_must_be_widths(hidden: Any) -> None:
    for modality in (Tabular(hidden=hidden), Genes("g*", hidden=hidden)):
        kind = type(modality).__name__
        with pytest.raises(ValueError, match=rf"hidden parameter of {kind} must be a tuple of pos"):
            build_encoder(modality.fit(FRAME), 5)
    with pytest.raises(ValueError, match=r"hidden parameter of Points must be a tuple of pos"):
        check_layers(Points("organ", hidden=hidden))


@pytest.mark.parametrize("dropout", ["a", 1.0, -0.1, True, None, float("nan")])
def test_dropout_must_be_a_share(dropout: Any) -> None:
    with pytest.raises(ValueError, match="dropout parameter of Tabular must be a number"):
        build_encoder(Tabular(["age"], dropout=dropout).fit(FRAME), 5)
    for modality in (Genes("g*", dropout=dropout), Image("i", dropout=dropout)):
        with pytest.raises(ValueError, match=rf"of {type(modality).__name__} must be a number"):
            check_layers(modality)
    with pytest.raises(ValueError, match="of Points must be a number"):
        check_layers(Points("organ", dropout=dropout))


def test_layers_that_can_be_built() -> None:
    check_layers(Tabular(hidden=(), dropout=0))
    check_layers(Genes("g*", hidden=[np.int64(3)], dropout=np.float32(0.5)))


def test_unfitted_modality() -> None:
    with pytest.raises(NotFittedError):
        build_encoder(Tabular(["age"]), 5)


def test_a_registered_encoder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        TABLE_ENCODERS, "wide", lambda n, c, *, width, hidden, dropout: MLPEncoder(n, c, 2 * width)
    )
    assert build_encoder(Tabular(["age"], encoder="wide").fit(FRAME), 5).width == 10
