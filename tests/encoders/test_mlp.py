from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mmfusion.encoders import MLPEncoder, ModuleTableEncoder, SNNEncoder, TableEncoder
from mmfusion.encoders.mlp import embedding_width


@pytest.mark.parametrize("cardinality", [2, 3, 17, 400, 10_000])
def test_embedding_width_follows_the_rule(cardinality: int) -> None:
    width = embedding_width(cardinality)
    assert width == min(50, math.ceil(1.6 * cardinality**0.56))
    assert 2 <= width <= 50


def test_features_are_numbers_then_embeddings() -> None:
    encoder = TableEncoder(2, [4, 7])
    numeric, codes = torch.randn(5, 2), torch.tensor([[0, 1], [3, 6], [1, 0], [2, 2], [0, 0]])
    features = encoder.features(numeric, codes)
    assert torch.equal(features[:, :2], numeric)
    split = 2 + embedding_width(4)
    assert torch.equal(features[:, 2:split], encoder.embeddings[0].weight[codes[:, 0]])
    assert torch.equal(features[:, split:], encoder.embeddings[1].weight[codes[:, 1]])
    assert torch.equal(encoder(numeric, codes), features)


def test_unknown_category_is_neutral_until_learnt() -> None:
    encoder = TableEncoder(0, [4])
    unknown = torch.zeros(1, 1, dtype=torch.int64)
    assert (encoder(torch.zeros(1, 0), unknown) == 0).all()
    encoder(torch.zeros(1, 0), unknown).sum().backward()
    assert (encoder.embeddings[0].weight.grad[0] == 1).all()


def test_mlp_is_a_plain_sequence() -> None:
    encoder = MLPEncoder(6, [], width=4, hidden=(8,), dropout=0.1)
    kinds = [type(layer) for layer in encoder.layers]
    assert kinds == [nn.Linear, nn.SiLU, nn.Dropout, nn.Linear, nn.SiLU, nn.Dropout]
    kinds = [type(layer) for layer in MLPEncoder(6, [], width=4).layers]
    assert kinds == [nn.Linear, nn.SiLU]


def test_snn_keeps_mean_zero_and_variance_one_through_many_layers() -> None:
    encoder = SNNEncoder(200, [], width=200, hidden=(200,) * 15, dropout=0.1)
    x = torch.randn(2000, 200)
    for mode in (True, False):
        out = encoder.train(mode)(x)
        assert abs(out.mean().item()) < 0.15
        assert abs(out.var().item() - 1) < 0.25
    # The same depth of the other encoder does not: the check can fail.
    assert MLPEncoder(200, [], width=200, hidden=(200,) * 15)(x).var().item() < 0.1


def test_own_network_gives_its_own_width() -> None:
    encoder = ModuleTableEncoder(3, [4], lambda n: nn.Linear(n, 9))
    assert encoder.width == 9
    assert encoder(torch.zeros(2, 3), torch.zeros(2, 1, dtype=torch.int64)).shape == (2, 9)
    with pytest.raises(TypeError, match=r"must return a torch\.nn\.Module. Got int"):
        ModuleTableEncoder(3, [], lambda n: n)  # type: ignore[arg-type,return-value]


def test_own_network_with_batch_norm_and_one_row_in_training() -> None:
    encoder = ModuleTableEncoder(
        3, [], lambda n: nn.Sequential(nn.Linear(n, 6), nn.BatchNorm1d(6))
    ).train()
    norm = encoder.layers[1]
    before = norm.running_mean.clone()
    assert torch.isfinite(encoder(torch.randn(1, 3))).all()
    assert torch.equal(norm.running_mean, before)
    assert norm.training
    encoder(torch.randn(2, 3))
    assert not torch.equal(norm.running_mean, before)
