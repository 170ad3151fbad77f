"""What every fusion operator promises, held against every operator."""

from __future__ import annotations

import itertools

import pytest
import torch
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
    assert {"concat", "sum", "gated"} <= set(OPERATORS)


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
    assert torch.allclose(operator(parts, others)[0], out[0], atol=1e-6)
    alone = operator([part[3:4] for part in parts], present[3:4])
    assert torch.allclose(alone[0], out[3], atol=1e-6)


@operators
def test_a_row_with_nothing_is_finite(name: str) -> None:
    operator, parts = build(name), embeddings()
    out, grads = gradients(operator, parts, torch.zeros(N, 3, dtype=torch.bool))
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(gradient).all() for gradient in grads)


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


@pytest.mark.parametrize("name", ["sum", "gated"])
def test_the_order_of_modalities_does_not_matter(name: str) -> None:
    operator, parts, present = build(name), embeddings(), some_absent()
    order = [2, 0, 1]
    other = OPERATORS[name]([WIDTHS[k] for k in order], DIM)
    for i, k in enumerate(order):
        other.projections[i].load_state_dict(operator.projections[k].state_dict())
    if name == "gated":
        blocks = operator.gates.weight.reshape(3, DIM, -1)
        columns = [block for block in blocks.split(WIDTHS, dim=2)]
        weight = torch.cat([columns[k] for k in order], dim=2)[order]
        other.gates.weight.data = weight.reshape(3 * DIM, -1)
        other.gates.bias.data = operator.gates.bias.reshape(3, DIM)[order].flatten()
    out = other([parts[k] for k in order], present[:, order])
    assert torch.allclose(out, operator(parts, present), atol=1e-6)


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
