"""What every fusion operator promises, held against every operator."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmfusion.fusion import OPERATORS, Concat, FusionOperator, Gated, Sum

N, WIDTHS, DIM = 12, (3, 5, 4), 6


def build(name: str, widths: tuple[int, ...] = WIDTHS) -> FusionOperator:
    torch.manual_seed(1)
    return OPERATORS[name](widths, DIM)


def embeddings(n: int = N, widths: tuple[int, ...] = WIDTHS) -> list[Tensor]:
    torch.manual_seed(2)
    return [torch.randn(n, width, requires_grad=True) for width in widths]


def some_absent() -> Tensor:
    patterns = [p for p in itertools.product([True, False], repeat=3) if any(p)]
    return torch.tensor([patterns[i % len(patterns)] for i in range(N)])


operators = pytest.mark.parametrize("name", sorted(OPERATORS))


def test_names() -> None:
    joint = "similarity concat sum mean max product gated lstm_gate attention feature_attention"
    joint += " modulation bilinear gated_bilinear low_rank_bilinear low_rank_tensor tensor"
    joint += " compact_bilinear cross_attention co_attention transformer perceiver"
    assert set(joint.split()) == set(OPERATORS)


@operators
@pytest.mark.parametrize("n_modalities", [1, 2, 3])
def test_gradcheck(name: str, n_modalities: int) -> None:
    """Of the inputs and of all parameters, with modalities absent."""
    widths = (2, 3, 2)[:n_modalities]
    torch.manual_seed(0)
    operator = OPERATORS[name](widths, 4).double()
    parts = [torch.randn(4, width, dtype=torch.float64, requires_grad=True) for width in widths]
    patterns = [[True] * 3, [True, False, True], [False, True, True], [False] * 3]
    present = torch.tensor(patterns)[:, :n_modalities]
    parameters = dict(operator.named_parameters())

    def call(*values: Tensor) -> Tensor:
        state = dict(zip(parameters, values[n_modalities:], strict=True))
        return torch.func.functional_call(operator, state, (values[:n_modalities], present))

    # One direction drawn at random in place of every entry of the Jacobian.
    assert torch.autograd.gradcheck(call, (*parts, *parameters.values()), fast_mode=True)


@operators
def test_rows_may_come_in_any_order_and_batch(name: str) -> None:
    operator, parts, present = build(name), embeddings(), some_absent()
    out = operator(parts, present)
    order = torch.randperm(N)
    permuted = operator([part[order] for part in parts], present[order])
    assert torch.allclose(permuted, out[order], atol=1e-5)
    for size in (1, 5):
        chunks = [
            operator([part[rows] for part in parts], present[rows])
            for rows in torch.arange(N).split(size)
        ]
        assert torch.allclose(torch.cat(chunks), out, atol=1e-5)


@operators
@settings(max_examples=15)
@given(data=st.data())
def test_any_masks_and_any_contents(name: str, data: st.DataObject) -> None:
    """A row's output is what it is by itself with zeros where absent, whoever lacks what."""
    operator = build(name).double()  # a sum's rounding depends on the batch
    n = data.draw(st.integers(1, 5))
    flags = data.draw(st.lists(st.booleans(), min_size=3 * n, max_size=3 * n))
    present = torch.tensor(flags).reshape(n, 3)
    junk = data.draw(st.sampled_from([0.0, -3.5, 1e38, float("inf"), float("nan")]))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    clean = [torch.randn(n, width).double() for width in WIDTHS]
    parts = [torch.where(present[:, k : k + 1], part, junk) for k, part in enumerate(clean)]
    out = operator(parts, present)
    assert torch.isfinite(out).all()
    for row in range(n):
        zeros = [part[row : row + 1] * present[row, k] for k, part in enumerate(clean)]
        alone = operator(zeros, present[row : row + 1])
        assert torch.allclose(alone[0], out[row], atol=1e-5, rtol=1e-5)


@operators
@pytest.mark.parametrize("n_modalities", [1, 2, 3])
@pytest.mark.parametrize("n", [1, N])
def test_shape(name: str, n_modalities: int, n: int) -> None:
    widths = WIDTHS[:n_modalities]
    operator = build(name, widths)
    assert operator(embeddings(n, widths), None).shape == (n, operator.width)


@operators
@pytest.mark.parametrize("n_modalities", [1, 2, 3])
def test_no_mask_equals_all_present(name: str, n_modalities: int) -> None:
    widths = WIDTHS[:n_modalities]
    operator, parts = build(name, widths), embeddings(N, widths)
    everyone = torch.ones(N, n_modalities, dtype=torch.bool)
    assert torch.equal(operator(parts, None), operator(parts, everyone))


def gradients(
    operator: FusionOperator, parts: list[Tensor], present: Tensor
) -> tuple[Tensor, list[Tensor]]:
    out = operator(parts, present)
    torch.manual_seed(4)
    wanted = [*operator.parameters(), *parts]
    return out, list(torch.autograd.grad((out * torch.randn(out.shape)).sum(), wanted))


@operators
@pytest.mark.parametrize("content", [0.0, 1e30, float("inf"), float("nan")])
def test_what_is_absent_is_never_read(name: str, content: float) -> None:
    operator, parts, present = build(name), embeddings(), some_absent()
    other = [
        torch.where(present[:, k : k + 1], part, content).detach().requires_grad_()
        for k, part in enumerate(parts)
    ]
    out, grads = gradients(operator, parts, present)
    out2, grads2 = gradients(operator, other, present)
    assert torch.isfinite(out).all()
    assert torch.equal(out, out2)
    for left, right in zip(grads, grads2, strict=True):
        assert torch.isfinite(left).all()
        assert torch.equal(left, right)
    for k, gradient in enumerate(grads2[-3:]):
        assert (gradient[~present[:, k]] == 0).all()
        assert (gradient[present[:, k]] != 0).any()


@operators
def test_rows_do_not_see_what_other_rows_lack(name: str) -> None:
    operator, parts, present = build(name), embeddings(), some_absent()
    out = operator(parts, present)
    others = present.clone()
    others[1:] = others[1:].flip(0)
    assert bool(present[0].all())
    assert torch.equal(operator(parts, others)[0], out[0])
    assert torch.equal(operator(parts, None)[0], out[0])
    alone = operator([part[3:4] for part in parts], present[3:4])
    assert torch.allclose(alone[0], out[3], atol=1e-5)


@operators
def test_a_row_with_nothing_is_a_constant(name: str) -> None:
    operator, parts = build(name), embeddings()
    out, grads = gradients(operator, parts, torch.zeros(N, 3, dtype=torch.bool))
    assert torch.isfinite(out).all()
    assert torch.allclose(out, out[:1].expand(N, -1), atol=1e-6)
    assert all(torch.isfinite(gradient).all() for gradient in grads)
    assert all((gradient == 0).all() for gradient in grads[-3:])


@operators
@pytest.mark.gpu
def test_on_a_gpu(name: str) -> None:
    operator, parts, present = build(name), embeddings(), some_absent()
    expected, grads = gradients(operator, parts, present)
    operator.cuda()
    on_gpu = [part.detach().cuda().requires_grad_() for part in parts]
    out = operator(on_gpu, present.cuda())
    assert torch.allclose(out.cpu(), expected, atol=1e-4, rtol=1e-4)
    torch.manual_seed(4)
    direction = torch.randn(expected.shape).cuda()
    found = torch.autograd.grad((out * direction).sum(), [*operator.parameters(), *on_gpu])
    for left, right in zip(found, grads, strict=True):
        assert torch.allclose(left.cpu(), right, atol=1e-3, rtol=1e-3)
    absent = [
        part.detach().masked_fill(~present.cuda()[:, k : k + 1], torch.nan)
        for k, part in enumerate(on_gpu)
    ]
    assert torch.equal(operator(absent, present.cuda()), out)


def test_concat_is_zeros_where_absent_and_the_presence_bits() -> None:
    parts, present = embeddings(), some_absent()
    out = Concat(WIDTHS)(parts, present)
    assert torch.equal(out[:, 12:], present.float())
    assert torch.equal(out[:, :3], parts[0] * present[:, :1])
    assert Concat((7,)).width == 7  # one modality: no bits
    alone = torch.randn(4, 7)
    assert torch.equal(Concat((7,))([alone], None), alone)


def test_sum_equals_its_formula_and_absent_is_left_out() -> None:
    operator, parts, present = Sum(WIDTHS, DIM), embeddings(), some_absent()
    expected = sum(
        present[:, k : k + 1] * (part @ layer.weight.T + layer.bias)
        for k, (part, layer) in enumerate(zip(parts, operator.projections, strict=True))
    )
    assert torch.allclose(operator(parts, present), expected, atol=1e-5)
    two = Sum(WIDTHS[:2], DIM)
    two.load_state_dict({k: v for k, v in operator.state_dict().items() if ".2." not in k})
    third_absent = torch.tensor([[True, True, False]]).expand(N, 3)
    assert torch.equal(operator(parts, third_absent), two(parts[:2], None))


def test_gated_equals_its_formula_row_by_row() -> None:
    operator, parts, present = Gated(WIDTHS, DIM), embeddings(), some_absent()
    out = operator(parts, present)
    for row in range(N):
        u = [p[row] * m for p, m in zip(parts, present[row], strict=True)]
        logits = operator.gates.weight @ torch.cat(u) + operator.gates.bias
        there = [k for k in range(3) if present[row, k]]
        gates = torch.stack([logits[k * DIM : (k + 1) * DIM] for k in there]).exp()
        gates = gates / gates.sum(0)
        values = torch.stack(
            [
                (operator.projections[k].weight @ u[k] + operator.projections[k].bias).tanh()
                for k in there
            ]
        )
        assert torch.allclose(out[row], (gates * values).sum(0), atol=1e-5)


def test_gated_with_one_modality_is_its_tanh() -> None:
    operator, (part,) = Gated((3,), DIM), embeddings(N, (3,))
    assert torch.allclose(operator([part], None), operator.projections[0](part).tanh())


@operators
def test_under_autocast(name: str) -> None:
    operator, parts, present = build(name), embeddings(), some_absent()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = operator(parts, present)
    assert torch.allclose(mixed.float(), operator(parts, present), atol=0.05, rtol=0.05)
