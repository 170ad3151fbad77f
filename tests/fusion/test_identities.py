"""Each operator against the formula of its source, written again, and what follows from it."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmfusion.fusion import OPERATORS, FusionOperator
from mmfusion.fusion.operators import (
    Attention,
    Bilinear,
    CoAttention,
    CompactBilinear,
    CrossAttention,
    FeatureAttention,
    Gated,
    GatedBilinear,
    LowRankBilinear,
    LowRankTensor,
    LSTMGate,
    Max,
    Mean,
    Modulation,
    Product,
    Similarity,
    Sum,
    TensorProduct,
    Transformer,
)

N, WIDTHS, DIM = 8, (3, 5, 4), 6
#: Parameters a modality of its own, by number.
OF_A_MODALITY = re.compile(r"^(projections\.|factors\.|values\.|gates\.|sketch_)(\d+)")


@pytest.fixture(autouse=True)
def _doubles() -> None:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def embeddings(widths: tuple[int, ...] = WIDTHS) -> list[Tensor]:
    torch.manual_seed(2)
    return [torch.randn(N, width) for width in widths]


def masks() -> Tensor:
    return torch.tensor(list(itertools.product([True, False], repeat=3)))


def linear(layer: nn.Module, value: Tensor) -> Tensor:
    return layer.weight @ value + layer.bias


def rows(present: Tensor) -> list[tuple[int, list[int]]]:
    return [(row, [k for k in range(3) if present[row, k]]) for row in range(N)]


# Formulas ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("project", [True, False])
@pytest.mark.parametrize(
    ("kind", "combine"),
    [
        (Sum, lambda h: torch.stack(h).sum(0)),
        (Mean, lambda h: torch.stack(h).mean(0)),
        (Max, lambda h: torch.stack(h).max(0).values),
        (Product, lambda h: torch.stack(h).prod(0)),
    ],
)
def test_element_by_element(kind: type, combine: object, project: bool) -> None:
    widths = WIDTHS if project else (DIM, DIM, DIM)
    operator, parts, present = kind(widths, DIM, project=project), embeddings(widths), masks()
    if project:
        nn.init.normal_(operator.projections[0].bias)
    else:
        assert not list(operator.parameters())
    out = operator(parts, present)
    unseen = [part.masked_fill(~present[:, k : k + 1], torch.nan) for k, part in enumerate(parts)]
    assert torch.equal(operator(unseen, present), out)
    assert torch.equal(operator(parts, present | True), operator(parts, None))
    for row, there in rows(present):
        h = [linear(operator.projections[k], parts[k][row]) for k in there] if project else []
        h = h or [parts[k][row] for k in there]
        empty = torch.ones(DIM) if kind is Product else torch.zeros(DIM)
        assert torch.allclose(out[row], combine(h) if h else empty)  # type: ignore[operator]


def test_lstm_gate() -> None:
    operator, parts, present = LSTMGate(WIDTHS, DIM), embeddings(), masks()
    out = operator(parts, present)
    for row, there in rows(present):
        expected = torch.zeros(DIM)
        for k in there:
            term = linear(operator.values[k], parts[k][row])
            for other in there:
                if other != k:
                    term = term * linear(operator.gates[other], parts[other][row]).tanh()
            expected = expected + term
        assert torch.allclose(out[row], expected)


def test_lstm_gate_of_two_holds_the_plain_one() -> None:
    operator, (u, v) = LSTMGate((3, 5), DIM), embeddings((3, 5))
    nn.init.zeros_(operator.values[1].weight)
    nn.init.zeros_(operator.values[1].bias)
    plain = operator.values[0](u) * operator.gates[1](v).tanh()
    assert torch.allclose(operator([u, v], None), plain)


def test_similarity() -> None:
    operator, parts, present = Similarity(WIDTHS, DIM), embeddings(), masks()
    out = operator(parts, present).reshape(N, 3, 3)
    assert operator.width == 9
    for row, there in rows(present):
        for number, (k, other) in enumerate([(0, 1), (0, 2), (1, 2)]):
            if not {k, other} <= set(there):
                assert (out[row, number] == 0).all()
                continue
            h, g = (linear(operator.projections[i], parts[i][row]) for i in (k, other))
            expected = [h @ g / DIM**0.5, F.cosine_similarity(h, g, dim=0), torch.ones(())]
            assert torch.allclose(out[row, number], torch.stack(expected))


@pytest.mark.parametrize("n_heads", [1, 2])
def test_attention(n_heads: int) -> None:
    operator = Attention(WIDTHS, DIM, n_heads=n_heads)
    parts, present = embeddings(), masks()
    out, weights = operator(parts, present), operator.weights(parts, present)
    assert weights.shape == (N, 3, n_heads)
    for row, there in rows(present):
        if not there:
            assert (out[row] == 0).all()
            continue
        h = torch.stack([linear(operator.projections[k], parts[k][row]) for k in there])
        scores = (h @ operator.score[0].weight.T + operator.score[0].bias).tanh()
        alpha = (scores @ operator.score[2].weight.T).exp()
        alpha = alpha / alpha.sum(0)
        per_feature = alpha.repeat_interleave(DIM // n_heads, dim=1)
        assert torch.allclose(out[row], (per_feature * h).sum(0))
        assert torch.allclose(weights[row][there], alpha)


def test_feature_attention_is_that_of_multisurv() -> None:
    operator, parts, present = FeatureAttention(WIDTHS, DIM), embeddings(), masks()
    out = operator(parts, present)
    for row, there in rows(present):
        if there:
            h = torch.stack([linear(operator.projections[k], parts[k][row]) for k in there])
            alpha = torch.softmax(torch.tanh(h @ operator.score[0].weight.T), dim=0)
            assert torch.allclose(out[row], (alpha * h).sum(0))


@pytest.mark.parametrize("kind", [Attention, FeatureAttention])
def test_weights_sum_to_one_over_what_is_present(kind: type) -> None:
    present = masks()
    weights = kind(WIDTHS, DIM).weights(embeddings(), present)
    assert (weights[~present] == 0).all()
    assert (weights >= 0).all()
    sums = weights.sum(1)
    assert torch.allclose(sums, present.any(1)[:, None].expand_as(sums).double())


def test_modulation_of_two() -> None:
    operator, (u, v) = Modulation((3, 5), DIM), embeddings((3, 5))
    out = operator([u, v], None)
    h = torch.stack([operator.projections[0](u), operator.projections[1](v)], dim=1)
    alpha = operator.score(h).softmax(1)[:, 0]
    assert torch.allclose(out, torch.cat([alpha * u, (1 - alpha) * v], dim=1))
    alone = operator([u, v], torch.tensor([[False, True]]).expand(N, 2))
    assert torch.allclose(alone, torch.cat([0 * u, v], dim=1))


def test_bilinear() -> None:
    operator, parts, present = Bilinear(WIDTHS, DIM), embeddings(), masks()
    out = operator(parts, present).detach().numpy()
    for row in range(N):
        ones = [
            np.append(part[row].numpy() * bool(m), 1.0)
            for part, m in zip(parts, present[row], strict=True)
        ]
        expected = sum(
            np.einsum("i,ijo,j->o", ones[k], form.weight.detach().numpy(), ones[other])
            for form, (k, other) in zip(operator.forms, [(0, 1), (0, 2), (1, 2)], strict=True)
        )
        np.testing.assert_allclose(out[row], expected)


def test_gated_bilinear() -> None:
    operator, parts, present = GatedBilinear(WIDTHS, DIM), embeddings(), masks()
    out = operator(parts, present)
    for row in range(N):
        expected = torch.zeros(DIM)
        pairs = itertools.permutations(range(3), 2)
        for form, (k, other) in zip(operator.forms, pairs, strict=True):
            if present[row, k]:
                gate = parts[other][row].sigmoid()
                gate = gate if present[row, other] else torch.ones_like(gate)
                expected = expected + torch.einsum("i,ijo,j->o", parts[k][row], form.weight, gate)
        assert torch.allclose(out[row], expected)


def test_low_rank_bilinear_is_bilinear_with_factored_weights() -> None:
    low, full = LowRankBilinear((3, 5), DIM, rank=4), Bilinear((3, 5), DIM)
    left, right = (torch.cat([f.weight, f.bias[:, None]], dim=1) for f in low.factors)
    weight = torch.einsum("ri,rj,or->ijo", left, right, low.projection.weight)
    weight[-1, -1] += low.projection.bias
    full.forms[0].weight.data = weight.detach()
    parts = embeddings((3, 5))
    assert torch.allclose(low(parts, None), full(parts, None))
    assert torch.linalg.matrix_rank(weight[:-1, :-1, 0]) <= 4


def test_low_rank_tensor_of_full_rank_is_a_layer_on_the_tensor() -> None:
    widths = (2, 1, 2)
    tensor = TensorProduct(widths, DIM)
    layer = nn.Linear(tensor.width, DIM, bias=False)
    low = LowRankTensor(widths, DIM, rank=tensor.width)
    # One term an entry of the tensor: its weight in the first factor, ones in the others.
    entries = list(itertools.product(*(range(width + 1) for width in widths)))
    for k, (factor, width) in enumerate(zip(low.factors, widths, strict=True)):
        matrix = torch.zeros(tensor.width, DIM, width + 1)
        for r, entry in enumerate(entries):
            matrix[r, :, entry[k]] = layer.weight[:, r] if k == 0 else 1.0
        matrix = matrix.flatten(0, 1).detach()
        factor.weight.data, factor.bias.data = matrix[:, :-1], matrix[:, -1]
    parts, present = embeddings(widths), masks()
    assert torch.allclose(low(parts, present), layer(tensor(parts, present)))


def test_tensor_holds_the_terms_of_concat() -> None:
    parts, present = embeddings(), masks()
    out = TensorProduct(WIDTHS, DIM)(parts, present).reshape(N, 4, 6, 5)
    neutral = [part * present[:, k : k + 1] for k, part in enumerate(parts)]
    assert torch.equal(out[:, :3, -1, -1], neutral[0])
    assert torch.equal(out[:, -1, :5, -1], neutral[1])
    assert torch.equal(out[:, -1, -1, :4], neutral[2])
    assert (out[:, -1, -1, -1] == 1).all()
    assert torch.allclose(out[:, :3, :5, :4], torch.einsum("bi,bj,bk->bijk", *neutral))


def test_tensor_of_too_many_features_is_refused() -> None:
    with pytest.raises(ValueError, match=r"1,185,921 features .* 'low_rank_tensor'"):
        TensorProduct((32, 32, 32, 32), 32)
    with pytest.raises(ValueError, match=r"at most 10 are allowed"):
        TensorProduct((3, 3), 8, max_size=10)
    assert TensorProduct((3, 3), 8, max_size=16).width == 16


def test_compact_bilinear_is_the_count_sketch_of_the_outer_product() -> None:
    operator, (u, v) = CompactBilinear((3, 5), size=7), embeddings((3, 5))
    expected = torch.zeros(N, 7)
    for i, j in itertools.product(range(3), range(5)):
        left, right = operator.sketch_0[i], operator.sketch_1[j]
        place = (left.abs().argmax() + right.abs().argmax()) % 7
        expected[:, place] += left.sum() * right.sum() * u[:, i] * v[:, j]
    assert torch.allclose(operator.sketch([u, v], None), expected)
    absent = torch.tensor([[True, False]]).expand(N, 2)
    assert torch.allclose(operator.sketch([u, v], absent), u @ operator.sketch_0, atol=1e-12)


def test_inner_products_of_sketches_are_unbiased() -> None:
    torch.manual_seed(0)
    u, v, other_u, other_v = (F.normalize(torch.randn(d), dim=0) for d in (6, 8, 6, 8))
    other_u, other_v = F.normalize(u + 0.5 * other_u, dim=0), F.normalize(v + other_v, dim=0)
    pair = [torch.stack([u, other_u]), torch.stack([v, other_v])]
    products = []
    for _ in range(3000):
        left, right = CompactBilinear((6, 8), size=16).sketch(pair, None)
        products.append(left @ right)
    products = torch.stack(products)
    truth = (u @ other_u) * (v @ other_v)
    error = products.std() / len(products) ** 0.5
    assert abs(truth) > 0.3  # so that an estimate of zero would not pass
    assert abs(products.mean() - truth) < 3.5 * error
    assert error < 0.01


def test_sketches_are_kept_with_the_weights() -> None:
    one, two = (CompactBilinear(WIDTHS, size=16) for _ in range(2))
    parts = embeddings()
    assert not torch.allclose(one(parts, None), two(parts, None))
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(parts, None), two(parts, None))
    assert torch.allclose(one(parts, None).square().mean(1), torch.ones(N), atol=0.01)


def test_co_attention() -> None:
    """Lu et al. (2016), equations 3 and 4, with loops over tokens."""
    operator = CoAttention((3, 4), DIM)
    lengths = (3, 2)
    torch.manual_seed(0)
    tokens = [torch.randn(N, length, w) for length, w in zip(lengths, (3, 4), strict=True)]
    out = operator([(part, None) for part in tokens], None)
    form = operator.forms[0]
    for row in range(N):
        t = [p(part[row]) for p, part in zip(operator.projections, tokens, strict=True)]
        affinity = torch.stack(
            [torch.stack([(t[0][i] @ form @ t[1][j]).tanh() for j in range(2)]) for i in range(3)]
        )
        expected = []
        for k, c in ((0, affinity), (1, affinity.T)):
            scores = []
            for i in range(lengths[k]):
                light = operator.hidden[k].weight @ t[k][i]
                for j in range(lengths[1 - k]):
                    seen = operator.hidden[1 - k].weight @ t[1 - k][j]
                    light = light + c[i, j] * seen / lengths[1 - k]
                scores.append(operator.scores[k].weight[0] @ light.tanh())
            alpha = torch.stack(scores).softmax(0)
            expected.append((alpha[:, None] * t[k]).sum(0))
        assert torch.allclose(out[row], torch.cat(expected))


def test_transformer_equals_that_of_torch() -> None:
    operator, parts, present = Transformer(WIDTHS, DIM, n_heads=2), embeddings(), masks()
    h = [p(part) for p, part in zip(operator.projections, parts, strict=True)]
    values = torch.stack([operator.summary.expand(N, -1), *h], dim=1)
    padding = torch.cat([torch.zeros(N, 1, dtype=torch.bool), ~present], dim=1)
    for block in operator.blocks:
        layer = nn.TransformerEncoderLayer(
            DIM, 2, 2 * DIM, 0.0, F.silu, batch_first=True, norm_first=True
        )
        mine = block.attention
        layer.self_attn.in_proj_weight.data = torch.cat([mine.query.weight, mine.key_value.weight])
        layer.self_attn.in_proj_bias.data = torch.cat([mine.query.bias, mine.key_value.bias])
        layer.self_attn.out_proj.load_state_dict(mine.output.state_dict())
        layer.norm1.load_state_dict(block.norm.state_dict())
        layer.norm2.load_state_dict(block.dense[0].state_dict())
        layer.linear1.load_state_dict(block.dense[1].state_dict())
        layer.linear2.load_state_dict(block.dense[3].state_dict())
        values = layer(values, src_key_padding_mask=padding)
    expected = operator.norm(values[:, 0])
    assert torch.allclose(operator(parts, present), expected)


def test_cross_attention_of_two_reads_the_other() -> None:
    """With one token to ask, attention is that token's value."""
    operator, (u, v) = CrossAttention((3, 5), DIM), embeddings((3, 5))
    out = operator([u, v], None)
    mine, theirs = operator.projections[0](u), operator.projections[1](v)
    block = operator.blocks[0]
    value = block.attention.key_value(block.norm(theirs)).chunk(2, dim=-1)[1]
    fused = mine + block.attention.output(value)
    expected = operator.norm(fused + block.dense(fused))
    assert torch.allclose(out[:, :DIM], expected)
    alone = operator([u, v], torch.tensor([[True, False]]).expand(N, 2))
    assert torch.allclose(alone[:, :DIM], operator.norm(mine + block.dense(mine)))
    assert (alone[:, DIM:] == 0).all()


# Symmetry and neutrality -------------------------------------------------------------------------


def renumbered(operator: FusionOperator, order: list[int]) -> dict[str, Tensor]:
    """Return the weights of `operator` with its modality order[i] as number i."""
    state = {}
    for key, value in operator.state_dict().items():
        found = OF_A_MODALITY.match(key)
        if found is None:
            state[key] = value
        elif int(found[2]) in order:
            number = order.index(int(found[2]))
            state[OF_A_MODALITY.sub(lambda m, i=number: f"{m[1]}{i}", key)] = value
    return state


SYMMETRIC = [
    "sum",
    "mean",
    "max",
    "product",
    "lstm_gate",
    "attention",
    "feature_attention",
    "low_rank_bilinear",
    "low_rank_tensor",
    "compact_bilinear",
    "transformer",
    "perceiver",
]


@pytest.mark.parametrize("name", SYMMETRIC)
def test_the_order_of_modalities_does_not_matter(name: str) -> None:
    operator, parts, present = OPERATORS[name](WIDTHS, DIM), embeddings(), masks()
    order = [2, 0, 1]
    other = OPERATORS[name]([WIDTHS[k] for k in order], DIM)
    other.load_state_dict(renumbered(operator, order))
    out = other([parts[k] for k in order], present[:, order])
    assert torch.allclose(out, operator(parts, present))


def test_the_order_of_modalities_does_not_matter_to_gates_and_similarities() -> None:
    parts, present, order = embeddings(), masks(), [2, 0, 1]
    widths = [WIDTHS[k] for k in order]
    gated, other = Gated(WIDTHS, DIM), Gated(widths, DIM)
    for i, k in enumerate(order):
        other.projections[i].load_state_dict(gated.projections[k].state_dict())
    columns = gated.gates.weight.reshape(3, DIM, -1).split(WIDTHS, dim=2)
    weight = torch.cat([columns[k] for k in order], dim=2)[order]
    other.gates.weight.data = weight.reshape(3 * DIM, -1)
    other.gates.bias.data = gated.gates.bias.reshape(3, DIM)[order].flatten()
    permuted = [parts[k] for k in order]
    assert torch.allclose(other(permuted, present[:, order]), gated(parts, present))

    similarity, other = Similarity(WIDTHS, DIM), Similarity(widths, DIM)
    other.load_state_dict(renumbered(similarity, order))
    out = similarity(parts, present).reshape(N, 3, 3)
    found = other(permuted, present[:, order]).reshape(N, 3, 3)
    assert torch.allclose(found, out[:, [1, 2, 0]])  # pairs (2,0), (2,1), (0,1)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_a_missing_third_modality_leaves_the_fusion_of_two(name: str) -> None:
    operator, parts = OPERATORS[name](WIDTHS, DIM), embeddings()
    if name == "low_rank_tensor":  # up to the third's factor for absence, here one
        assert (operator.factors[2].bias == 1).all()
    two = OPERATORS[name](WIDTHS[:2], DIM)
    two.load_state_dict(renumbered(operator, [0, 1]))
    third_absent = torch.tensor([[True, True, False]]).expand(N, 3)
    assert torch.allclose(operator(parts, third_absent), two(parts[:2], None))


@pytest.mark.parametrize("name", sorted(OPERATORS))
@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_every_other_modality_still_counts(name: str, lacking: int) -> None:
    """Whichever is missing, the output is a function of those that are there and of no other."""
    operator = OPERATORS[name](WIDTHS, DIM)
    present = torch.tensor([k != lacking for k in range(3)]).expand(N, 3)
    parts = [part.requires_grad_() for part in embeddings()]
    out = operator(parts, present)
    grads = torch.autograd.grad((out * torch.randn_like(out)).sum(), parts)
    for k in range(3):
        assert bool((grads[k] != 0).any()) == (k != lacking)
