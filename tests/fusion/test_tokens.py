"""Operators that take sets of tokens, and the network that hands them over."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from mmfusion import Genes, Image, Tabular
from mmfusion.encoders import build_encoder
from mmfusion.fusion import OPERATORS, FusionNetwork, JointFusion, build_operator
from mmfusion.modalities import MultimodalData, TableData

N, WIDTHS, LENGTHS, DIM = 6, (3, 5), (4, 2), 8
TAKERS = sorted(name for name, kind in OPERATORS.items() if kind.takes_tokens)
takers = pytest.mark.parametrize("name", TAKERS)


def build(name: str) -> nn.Module:
    torch.manual_seed(1)
    return OPERATORS[name](WIDTHS, DIM).double()


def tokens(padding: float = 0.0, longer: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Return tokens of two modalities; row i has 1 + i % length of them, then comes padding."""
    torch.manual_seed(2)
    parts = []
    for width, length in zip(WIDTHS, LENGTHS, strict=True):
        values = torch.randn(N, length, width, dtype=torch.float64)
        values = torch.cat([values, values.new_zeros(N, longer, width)], dim=1)
        there = torch.arange(length + longer) < 1 + torch.arange(N)[:, None] % length
        values = values.masked_fill(~there[:, :, None], padding)
        parts.append((values.requires_grad_(), there))
    return parts


PRESENT = torch.tensor([[1, 1], [1, 0], [0, 1], [1, 1], [1, 1], [0, 0]], dtype=torch.bool)


def test_which_take_tokens() -> None:
    wanted = "attention co_attention cross_attention feature_attention perceiver transformer"
    assert wanted.split() == TAKERS


@takers
def test_padding_is_never_read(name: str) -> None:
    operator = build(name)
    found = []
    for content, longer in ((0.0, 0), (7.0, 0), (float("nan"), 0), (float("inf"), 3)):
        parts = tokens(content, longer)
        out = operator(parts, PRESENT)
        direction = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
        wanted = [*operator.parameters(), *(values for values, _ in parts)]
        grads = torch.autograd.grad((out * direction).sum(), wanted)
        assert all(torch.isfinite(gradient).all() for gradient in grads)
        for k, ((_, there), gradient) in enumerate(zip(parts, grads[-2:], strict=True)):
            read = there & PRESENT[:, k : k + 1]
            assert (gradient[~read] == 0).all()
        found.append((out, grads[:-2]))
    assert torch.isfinite(found[0][0]).all()
    for out, grads in found[1:3]:
        assert torch.equal(out, found[0][0])
        assert all(torch.equal(a, b) for a, b in zip(grads, found[0][1], strict=True))
    assert torch.allclose(found[3][0], found[0][0], atol=1e-12)  # longer sums, other roundings


@takers
def test_the_order_of_tokens_does_not_matter(name: str) -> None:
    operator = build(name)
    parts = tokens()
    turned = [(values.flip(1), there.flip(1)) for values, there in parts]
    assert torch.allclose(operator(turned, PRESENT), operator(parts, PRESENT), atol=1e-12)


@takers
def test_no_mask_equals_all_there_and_an_embedding_is_one_token(name: str) -> None:
    operator = build(name)
    values = [part for part, _ in tokens()]
    masked = [(part, torch.ones(part.shape[:2], dtype=torch.bool)) for part in values]
    everyone = torch.ones(N, 2, dtype=torch.bool)
    bare = operator([(part, None) for part in values], None)
    assert torch.allclose(operator(masked, everyone), bare, atol=1e-12)
    single = [part[:, 0] for part in values]
    as_tokens = operator([(part[:, None], None) for part in single], PRESENT)
    assert torch.equal(operator(single, PRESENT), as_tokens)


@takers
def test_a_row_without_tokens_lacks_the_modality(name: str) -> None:
    operator = build(name)
    (first, there), second = tokens()
    nothing = there.clone()
    nothing[0] = False
    lacking = PRESENT.clone()
    lacking[0, 0] = False
    out = operator([(first, nothing), second], PRESENT)
    expected = operator([(first, there), second], lacking)
    # Cross-attention hands on a constant for what is present and empty; no content of it.
    if name != "cross_attention":
        assert torch.allclose(out, expected, atol=1e-12)
    assert torch.isfinite(out).all()


@takers
def test_gradcheck(name: str) -> None:
    operator = build(name)
    (u, there_u), (v, there_v) = tokens()

    def call(u: Tensor, v: Tensor) -> Tensor:
        return operator([(u, there_u), (v, there_v)], PRESENT)

    assert torch.autograd.gradcheck(call, (u, v))


# The network -------------------------------------------------------------------------------------


def cohort() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n = 14
    bags = [list(rng.integers(0, 256, (i % 4, 16, 16), dtype=np.uint8)) for i in range(n)]
    frame = pd.DataFrame(
        {
            "age": rng.normal(60, 10, n),
            "sex": rng.choice(["f", "m"], n),
            **{f"g{i}": rng.normal(size=n) for i in range(5)},
            "ct": pd.Series(bags, dtype=object),
        }
    )
    frame.loc[3:5, [f"g{i}" for i in range(5)]] = np.nan
    return frame


def network(strategy: JointFusion, **scan: object) -> tuple[FusionNetwork, MultimodalData]:
    frame = cohort()
    modalities = {
        "clinic": Tabular(["age", "sex"], encoder="tokens").fit(frame),
        "rna": Genes("g*").fit(frame),
        "ct": Image("ct", size=16, channels="L", **scan).fit(frame),
    }
    torch.manual_seed(0)
    tokens = strategy.at == "tokens"
    encoders = {
        name: build_encoder(m, strategy.dim, tokens=tokens) for name, m in modalities.items()
    }
    operator = build_operator(strategy, [e.width for e in encoders.values()])
    net = FusionNetwork(encoders, operator, strategy.hidden, strategy.dropout, at=strategy.at)
    nn.init.normal_(net.head.weight)
    parts = {name: modality.transform(frame) for name, modality in modalities.items()}
    return net.eval(), MultimodalData(parts)


def test_embeddings_of_tokens_are_their_means() -> None:
    net, data = network(JointFusion("transformer", dim=8, at="tokens"))
    everyone = torch.arange(len(data))
    inputs, present = data.batch(everyone)
    embeddings, fused = net.embed(inputs, present)
    assert {name: tuple(e.shape) for name, e in embeddings.items()} == dict.fromkeys(
        ("clinic", "rna", "ct"), (14, 8)
    )
    assert fused.shape == (14, 8)
    assert torch.equal(net.head(net.hidden(fused)), net(inputs, present))
    with_image = data.parts["ct"].present
    assert (embeddings["ct"][~with_image] == 0).all()
    alone = net.encoders["ct"](*data.parts["ct"].inputs(everyone[with_image]))
    assert torch.allclose(embeddings["ct"][with_image], alone, atol=1e-6)
    nobody = present.clone()
    nobody[:, 2] = False
    embeddings, _ = net.embed(*data.batch(everyone, nobody))
    assert (embeddings["ct"] == 0).all()


@takers
def test_a_row_alone_equals_the_row_in_a_batch(name: str) -> None:
    net, data = network(JointFusion(name, dim=8, at="tokens"))
    together = net(*data.batch(torch.arange(len(data))))
    for row in range(len(data)):
        alone = net(*data.batch(torch.tensor([row])))
        assert torch.allclose(alone[0], together[row], atol=1e-5)


def test_tokens_hold_more_than_their_mean() -> None:
    """Where a row's places are exchanged between two images, a pooled embedding is the same."""
    net, data = network(JointFusion("transformer", dim=8, at="tokens"))
    tokens, there = net.encoders["ct"].tokens(*data.parts["ct"].inputs(torch.tensor([2, 3])))
    assert tokens.shape == (2, 3 * 4, 8)  # three images at most, of 2 x 2 places each
    assert there.sum(1).tolist() == [8, 12]
    assert len({tuple(token.tolist()) for token in tokens[1]}) == 12


def test_a_frozen_encoder_hands_over_one_token() -> None:
    net, data = network(JointFusion("attention", dim=8, at="tokens"), freeze="all")
    assert net.kept == {"ct"}
    assert not net.encoders["ct"].has_tokens
    with_image = data.parts["ct"].present
    features = torch.zeros(len(data), net.encoders["ct"].feature_width)
    rows = torch.nonzero(with_image)[:, 0]
    features[with_image] = net.encoders["ct"].features(*data.parts["ct"].inputs(rows))
    none = torch.zeros(len(data), 0, dtype=torch.int64)
    kept = MultimodalData({**data.parts, "ct": TableData(features, none, with_image)})
    assert torch.isfinite(net(*kept.batch(torch.arange(len(data))))).all()


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_hidden_layers_of_each_modality(name: str) -> None:
    strategy = JointFusion(name, dim=8, hidden=(6, 4), at="hidden")
    net, data = network(strategy)
    widths = [[m.out_features for m in b if isinstance(m, nn.Linear)] for b in net.branches]
    assert widths == [[6, 4]] * 3
    assert net.head.in_features == net.width == build_operator(strategy, [8, 8, 8]).width
    inputs, present = data.batch(torch.arange(len(data)))
    embeddings, fused = net.embed(inputs, present)
    assert torch.equal(net.head(fused), net(inputs, present))
    branched = [b(e) for b, e in zip(net.branches, embeddings.values(), strict=True)]
    assert torch.equal(net.operator(branched, present), fused)
    trained = {id(p) for group in net.parameter_groups() for p in group["params"]}
    assert trained == {id(p) for p in net.parameters()}
