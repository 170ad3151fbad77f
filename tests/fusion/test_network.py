from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from mmfusion import Genes, Image, Tabular
from mmfusion.encoders import MLPEncoder, build_encoder
from mmfusion.fusion import (
    OPERATORS,
    EarlyFusion,
    FusionNetwork,
    JointFusion,
    build_operator,
)
from mmfusion.modalities import Modality, MultimodalData, TableData

NAMES = ("table", "a.b", "type")  # ModuleDict refuses the last two


def data(n: int = 20, complete: bool = False, content: float = 0.0) -> MultimodalData:
    rng = np.random.default_rng(0)
    parts = {}
    for k, name in enumerate(NAMES):
        numeric = torch.from_numpy(rng.normal(size=(n, 3 + k)).astype(np.float32))
        present = torch.from_numpy(rng.random(n) < 0.6) | complete
        if name == "table":
            present[:] = True
        numeric[~present] = content
        parts[name] = TableData(numeric, torch.zeros(n, 0, dtype=torch.int64), present)
    return MultimodalData(parts)


def network(operator: str = "gated", hidden: tuple[int, ...] = (8,), K: int = 2) -> FusionNetwork:
    torch.manual_seed(0)
    encoders = {name: MLPEncoder(3 + k, [], width=5) for k, name in enumerate(NAMES)}
    net = FusionNetwork(encoders, OPERATORS[operator]([5, 5, 5], 6), hidden, 0.1, K)
    nn.init.normal_(net.head.weight)  # it starts at zero: nothing could be seen
    return net.eval()


rows = torch.arange(20)
operators = pytest.mark.parametrize("operator", sorted(OPERATORS))


def test_predictors_start_where_they_are_put() -> None:
    encoders = {"x": MLPEncoder(3, [], width=4)}
    operator = OPERATORS["concat"]([4], 4)
    net = FusionNetwork(encoders, operator, (8,), 0.1, n_predictors=2)
    x = {"x": (torch.randn(6, 3),)}
    assert (net(x) == 0).all()
    net.set_initial(torch.tensor([0.5, -1.0], dtype=torch.float64))
    assert torch.equal(net(x), torch.tensor([[0.5, -1.0]]).expand(6, 2))
    bare = FusionNetwork(encoders, operator, n_predictors=1, bias=False)
    assert bare.head.bias is None
    bare.set_initial(torch.zeros(1))
    with pytest.raises(ValueError, match=r"without bias starts at zero. Got \[1.0\]"):
        bare.set_initial(torch.ones(1))


def test_training_leaves_the_start() -> None:
    torch.manual_seed(0)
    net = FusionNetwork({"x": MLPEncoder(3, [], 8)}, OPERATORS["concat"]([8], 8), (8,), bias=False)
    x = torch.randn(64, 3)
    target = x[:, :1] * x[:, 1:2]
    optimizer = torch.optim.Adam(net.parameter_groups(), lr=0.02)
    losses = []
    for _ in range(150):
        loss = ((net({"x": (x,)}) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@operators
def test_complete_rows_equal_the_masked_path(operator: str) -> None:
    net, everyone = network(operator), data(complete=True)
    inputs, present = everyone.batch(rows)
    assert present is None
    assert net(inputs).shape == (20, 2)
    masked = net(*everyone.batch(rows, torch.ones(20, 3, dtype=torch.bool)))
    assert torch.equal(net(inputs), masked)


@operators
def test_absent_cells_are_never_read(operator: str) -> None:
    net = network(operator)
    grads, etas = [], []
    for content in (0.0, 7.0, float("nan")):
        net.zero_grad()
        eta = net(*data(content=content).batch(rows))
        eta.sin().sum().backward()
        etas.append(eta.detach())
        grads.append([p.grad.clone() for p in net.parameters()])
    assert torch.isfinite(etas[0]).all()
    assert torch.equal(etas[0], etas[1])
    assert torch.equal(etas[0], etas[2])
    assert all(torch.equal(a, b) for a, b in zip(grads[0], grads[2], strict=True))


@operators
def test_a_row_alone_equals_the_row_in_a_batch(operator: str) -> None:
    net, some = network(operator), data()
    together = net(*some.batch(rows))
    for row in range(20):
        assert torch.allclose(net(*some.batch(rows[row : row + 1]))[0], together[row], atol=1e-5)


def test_a_modality_that_nobody_has_may_be_left_out() -> None:
    net, everyone = network(), data(complete=True)
    mask = torch.tensor([[True, False, True]]).expand(20, 3)
    inputs, present = everyone.batch(rows, mask)
    assert "a.b" not in inputs
    embeddings, fused = net.embed(inputs, present)
    assert list(embeddings) == list(NAMES)
    assert (embeddings["a.b"] == 0).all()
    assert fused.shape == (20, net.width)
    assert torch.equal(net.head(net.hidden(fused)), net(inputs, present))


def test_encoders_by_name_and_round_trips() -> None:
    net, some = network(), data()
    assert list(net.encoders) == list(NAMES)
    assert len(net.encoders) == 3
    assert net.encoders["type"] is net.encoders.values()[2]
    expected = net(*some.batch(rows))
    other = network(K=2)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(net.state_dict())
    for twin in (other, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(twin(*some.batch(rows)), expected)


def test_each_trained_parameter_is_in_one_group() -> None:
    net = network()
    groups = net.parameter_groups()
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(map(id, net.parameters()))


def test_predictors_are_in_full_precision_under_autocast() -> None:
    net, some = network(), data()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = net(*some.batch(rows))
    assert mixed.dtype == torch.float32
    full = net(*some.batch(rows))
    assert torch.allclose(mixed, full, atol=0.1)
    assert not torch.equal(mixed, full)  # the rest did run in bfloat16


# With real modalities ----------------------------------------------------------------------------


def cohort() -> tuple[pd.DataFrame, dict[str, Modality]]:
    rng = np.random.default_rng(0)
    n = 30
    images = [
        None if i % 5 == 0 else [rng.integers(0, 256, (16, 16), dtype=np.uint8)] * (1 + i % 3)
        for i in range(n)
    ]
    frame = pd.DataFrame(
        {
            "age": rng.normal(60, 10, n),
            "sex": rng.choice(["f", "m"], n),
            **{f"g{i}": rng.normal(size=n) for i in range(5)},
            "ct": pd.Series(images, dtype=object),
        }
    )
    frame.loc[3:7, [f"g{i}" for i in range(5)]] = np.nan
    image = Image("ct", size=16, channels="L", freeze="all", n_components=3)
    modalities: dict[str, Modality] = {
        "clinical": Tabular(["age", "sex"]),
        "rna": Genes("g*"),
        "ct": image,
    }
    return frame, {name: modality.fit(frame) for name, modality in modalities.items()}


@pytest.mark.parametrize("strategy", [JointFusion("gated"), JointFusion(hidden=()), EarlyFusion()])
def test_kept_features_give_what_images_give(strategy: JointFusion | EarlyFusion) -> None:
    frame, modalities = cohort()
    width = strategy.dim if isinstance(strategy, JointFusion) else None
    encoders = {name: build_encoder(m, width) for name, m in modalities.items()}
    operator = build_operator(strategy, [e.width for e in encoders.values()])
    net = FusionNetwork(encoders, operator, strategy.hidden, strategy.dropout).eval()
    nn.init.normal_(net.head.weight)
    assert net.kept == {"ct"}

    parts = {name: m.transform(frame) for name, m in modalities.items()}
    everyone = torch.arange(len(frame))
    with_images = everyone[parts["ct"].present]
    features = torch.zeros(len(frame), encoders["ct"].feature_width)
    features[with_images] = encoders["ct"].features(*parts["ct"].inputs(with_images))
    encoders["ct"].fit_features(features[with_images])
    no_codes = torch.zeros(len(frame), 0, dtype=torch.int64)
    kept = MultimodalData({**parts, "ct": TableData(features, no_codes, parts["ct"].present)})
    eta = net(*kept.batch(everyone))
    assert eta.shape == (30, 1)

    net.kept = frozenset()
    assert torch.allclose(net(*MultimodalData(parts).batch(everyone)), eta, atol=1e-5)


def test_linear_network_is_linear_in_the_table() -> None:
    _, modalities = cohort()
    table = modalities["rna"].set_params(encoder="raw")
    encoder = build_encoder(table, 32)
    net = FusionNetwork({"x": encoder}, build_operator(JointFusion(hidden=()), [encoder.width]))
    assert [tuple(p.shape) for p in net.parameters()] == [(1, 5), (1,)]
    nn.init.normal_(net.head.weight)
    x: Tensor = torch.randn(4, 5)
    assert torch.allclose(net({"x": (x,)}), x @ net.head.weight.T, atol=1e-6)
