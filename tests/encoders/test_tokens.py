"""Encoders that make tokens: of a table's columns, of an image's places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from mmfusion import Genes, Image, Tabular
from mmfusion.encoders import (
    SmallCNN,
    TableTokenEncoder,
    VisionEncoder,
    VisionTokenEncoder,
    build_encoder,
)

# Tables ------------------------------------------------------------------------------------------


def test_a_token_a_column() -> None:
    torch.manual_seed(0)
    encoder = TableTokenEncoder(2, [3], width=4)
    numeric, codes = torch.randn(5, 2), torch.tensor([[0], [1], [2], [0], [1]])
    tokens, there = encoder.tokens(numeric, codes)
    assert there is None
    assert tokens.shape == (5, 3, 4)
    for j in range(2):
        expected = numeric[:, j : j + 1] * encoder.weight[j, 0] + encoder.bias[j]
        assert torch.allclose(tokens[:, j], expected)
    assert torch.allclose(tokens[:, 2], encoder.embeddings[0](codes[:, 0]) + encoder.bias[2])
    assert torch.equal(tokens[0, 2], encoder.bias[2])  # an unknown category is neutral
    assert torch.allclose(encoder(numeric, codes), tokens.mean(1))


@pytest.mark.parametrize(("n_columns", "n_tokens"), [(64, 64), (65, 33), (200, 50), (20531, 64)])
def test_many_columns_share_tokens(n_columns: int, n_tokens: int) -> None:
    encoder = TableTokenEncoder(n_columns, [], width=3)
    numeric = torch.randn(2, n_columns)
    tokens, _ = encoder.tokens(numeric)
    assert tokens.shape == (2, n_tokens, 3)
    group = encoder.group
    expected = numeric[:, group : 2 * group] @ encoder.weight[1] + encoder.bias[1]
    assert torch.allclose(tokens[:, 1], expected, atol=1e-5)
    last = numeric[:, (n_tokens - 1) * group :]
    expected = last @ encoder.weight[-1, : last.shape[1]] + encoder.bias[-1]
    assert torch.allclose(tokens[:, -1], expected, atol=1e-5)


def test_other_tables_have_one_token_whatever_is_asked_for() -> None:
    frame = pd.DataFrame({"age": [1.0, 2.0, 5.0], "g0": [1.0, 0, 3]})
    for modality in (Tabular(["age"]), Genes("g*"), Tabular(["age"], encoder="raw")):
        assert not build_encoder(modality.fit(frame), 4, tokens=True).has_tokens
    tokens = Tabular(["age"], encoder="tokens").fit(frame)
    assert build_encoder(tokens, 4).has_tokens
    assert type(build_encoder(tokens, None)).__name__ == "TableEncoder"  # early fusion


# Images ------------------------------------------------------------------------------------------


def fitted(**params: Any) -> Any:
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (9, 64, 64, 3), dtype=np.uint8))
    bags = [images[:1], images[1:4], images[4:6], images[6:]]
    frame = pd.DataFrame({"image": pd.Series(bags, dtype=object)})
    modality = Image("image", **{"size": 64, **params}).fit(frame)
    return modality, modality.transform(frame)


@pytest.mark.parametrize(
    ("encoder", "size", "places"),
    [
        ("cnn", 16, 4),
        ("cnn", (24, 33), 3 * 5),
        ("test_resnet", 64, 4),
        ("test_vit", 64, 16 + 1),  # its class token
        ("swin_tiny_patch4_window7_224", 64, 4),  # channels last
    ],
)
def test_tokens_of_bags(encoder: str, size: Any, places: int) -> None:
    modality, data = fitted(encoder=encoder, size=size)
    built = build_encoder(modality, 5, tokens=True).eval()
    assert isinstance(built, VisionTokenEncoder)
    with torch.no_grad():
        tokens, there = built.tokens(*data.inputs(torch.arange(4)))
        assert tokens.shape == (4, 3 * places, 5)
        assert there.sum(1).tolist() == [places, 3 * places, 2 * places, 3 * places]
        assert (tokens[~there] == 0).all()
        flat = built.backbone.forward_features(built._normalise(data.pixels))
        if flat.ndim == 4:
            flat = flat.flatten(1, 2) if "swin" in encoder else flat.flatten(2).transpose(1, 2)
        # The second image of row 1, its last place.
        expected = built.projection(flat[2, -1]) + built.position[-1]
        assert torch.allclose(tokens[1, 2 * places - 1], expected, atol=1e-5)
        alone, one = built.tokens(*data.inputs(torch.tensor([0])))
        assert torch.allclose(alone[0][one[0]], tokens[0][there[0]], atol=1e-5)


def test_what_gives_no_tokens_gives_its_embedding() -> None:
    modality, _ = fitted(size=16)
    assert type(build_encoder(modality, 5)) is VisionEncoder
    for params in ({"freeze": "all"}, {"encoder": "raw"}, {"encoder": _plain}):
        modality, _ = fitted(size=16, **params)
        assert type(build_encoder(modality, 5, tokens=True)) is VisionEncoder
    with pytest.raises(ValueError, match="Sequential makes no tokens of an image"):
        VisionTokenEncoder(_plain(), 3, (16, 16), 5)


def test_the_small_cnn_pools_its_feature_maps() -> None:
    cnn = SmallCNN(1, (28, 28)).eval()
    images = torch.randn(3, 1, 28, 28)
    maps = cnn.forward_features(images)
    assert maps.shape == (3, 128, 4, 4)
    assert torch.allclose(maps.mean((2, 3)), cnn(images), atol=1e-6)


def _plain() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class _Pyramid(nn.Module):
    """Whose features are a list: no tokens can be made of them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = _plain()

    def forward_features(self, images: Tensor) -> list[Tensor]:
        return [images]

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


def test_features_of_another_kind_are_no_tokens() -> None:
    modality, _ = fitted(size=16, encoder=_Pyramid)
    assert type(build_encoder(modality, 5, tokens=True)) is VisionEncoder
