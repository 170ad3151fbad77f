"""The two-pass gradient is that of one pass, with dropout and batch norm, for any chunking."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mmfusion.heads import CategoricalHead, CoxHead, GaussianHead
from mmfusion.heads.base import Head, Target
from mmfusion.survival import surv
from mmfusion.training import two_pass, two_pass_backward

N = 24


def mlp(norm: bool = False) -> nn.Module:
    layers = [nn.Linear(5, 16), nn.SiLU(), nn.Dropout(0.4)]
    if norm:
        layers.insert(1, nn.BatchNorm1d(16))
    return nn.Sequential(
        *layers, nn.Linear(16, 8), nn.SELU(), nn.AlphaDropout(0.2), nn.Linear(8, 1)
    )


def conv(norm: bool = False) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout2d(0.3)]
    if norm:
        layers.insert(1, nn.BatchNorm2d(4, momentum=None))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 1))


NETWORKS: dict[str, tuple[Callable[..., nn.Module], tuple[int, ...]]] = {
    "mlp": (mlp, (N, 5)),
    "conv": (conv, (N, 1, 6, 6)),
}


def cox() -> tuple[Head, Target]:
    rng = np.random.default_rng(0)
    head = CoxHead(ties="efron")
    time = np.ceil(8 * rng.random(N))
    event = rng.random(N) < 0.6
    entry = np.where(rng.random(N) < 0.3, time - 0.5, -np.inf)
    strata = np.repeat(["a", "b"], N // 2)
    weight = rng.uniform(0.5, 2.0, N)
    return head, head.fit_outcome(surv(time, event, entry), weight, strata=strata, index=None)


def gaussian() -> tuple[Head, Target]:
    head = GaussianHead()
    return head, head.fit_outcome(np.random.default_rng(0).normal(size=N))


def binary() -> tuple[Head, Target]:
    head = CategoricalHead()
    return head, head.fit_outcome(np.arange(N) % 2)


HEADS = {"cox": cox, "gaussian": gaussian, "binary": binary}


def gradients(network: nn.Module) -> Tensor:
    return torch.cat([p.grad.ravel() for p in network.parameters() if p.grad is not None])


def both(
    kind: str, head_name: str, micro: int, dtype: torch.dtype, *, norm: bool = False
) -> tuple[nn.Module, nn.Module, Tensor, Tensor]:
    """Return two networks of equal weights: one after two passes, one after one pass; and etas.

    The one pass runs the same chunks with a graph, so that it draws the same masks and the same
    batch statistics, and one loss over all rows is differentiated at once.
    """
    make, shape = NETWORKS[kind]
    torch.manual_seed(0)
    network = make(norm).to(dtype).train()
    reference = copy.deepcopy(network)
    x = torch.randn(shape, dtype=dtype)
    head, target = HEADS[head_name]()
    chunks: list[tuple[int, int]] = []

    def forward(first: int, last: int) -> Tensor:
        chunks.append((first, last))
        return network(x[first:last])

    torch.manual_seed(1)
    eta = two_pass_backward(network, forward, lambda eta: head.gradient(eta, target), N, micro)
    n_chunks = len(chunks) // 2
    assert chunks[:n_chunks] == chunks[n_chunks:]
    assert max(last - first for first, last in chunks) <= micro
    after = torch.get_rng_state()
    torch.manual_seed(1)
    parts = [reference(x[first:last]) for first, last in chunks[:n_chunks]]
    # What is drawn after the step does not depend on how the gradient was computed.
    assert torch.equal(torch.get_rng_state(), after)
    head.loss(torch.cat(parts), target).backward()
    return network, reference, eta, torch.cat(parts).detach()


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_it_equals_one_pass(kind: str, head: str, dtype: torch.dtype, rtol: float) -> None:
    network, reference, eta, wanted = both(kind, head, 7, dtype)
    torch.testing.assert_close(eta, wanted, rtol=0, atol=0)
    found, exact = gradients(network), gradients(reference)
    assert exact.norm() > 0
    assert (found - exact).norm() <= rtol * exact.norm()


@settings(max_examples=25)
@given(micro=st.integers(1, N + 5), head=st.sampled_from(["cox", "gaussian"]))
def test_it_equals_one_pass_for_any_chunking(micro: int, head: str) -> None:
    network, reference, _, _ = both("mlp", head, micro, torch.float64)
    exact = gradients(reference)
    assert (gradients(network) - exact).norm() <= 1e-10 * exact.norm()


@pytest.mark.parametrize("kind", NETWORKS)
def test_batch_norm_counts_each_chunk_once(kind: str) -> None:
    network, reference, _, _ = both(kind, "cox", 7, torch.float64, norm=True)
    exact = gradients(reference)
    assert (gradients(network) - exact).norm() <= 1e-10 * exact.norm()
    buffers = dict(reference.named_buffers())
    assert len(buffers) == 3
    for name, value in network.named_buffers():
        torch.testing.assert_close(value, buffers[name], rtol=1e-12, atol=1e-12)


def test_without_replaying_the_masks_it_would_be_another_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(two_pass, "_restore", lambda states, device: None)
    make, shape = NETWORKS["mlp"]
    torch.manual_seed(0)
    network = make().double().train()
    reference = copy.deepcopy(network)
    x = torch.randn(shape, dtype=torch.float64)
    head, target = cox()
    torch.manual_seed(1)
    two_pass_backward(
        network, lambda a, b: network(x[a:b]), lambda eta: head.gradient(eta, target), N, 7
    )
    torch.manual_seed(1)
    parts = [reference(part) for part in x.split(7)]
    head.loss(torch.cat(parts), target).backward()
    cosine = torch.cosine_similarity(gradients(network), gradients(reference), dim=0)
    assert cosine < 0.99


def test_gradients_add_up_as_those_of_backward_do() -> None:
    network = nn.Linear(2, 1)
    x = torch.randn(6, 2)
    for _ in range(2):
        two_pass_backward(network, lambda a, b: network(x[a:b]), torch.ones_like, 6, 4)
    torch.testing.assert_close(network.weight.grad, 2 * x.sum(0, keepdim=True))


def test_frozen_parts_get_no_gradient() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    network[0].requires_grad_(False)
    x = torch.randn(6, 2)
    two_pass_backward(network, lambda a, b: network(x[a:b]), torch.ones_like, 6, 4)
    assert network[0].weight.grad is None
    assert network[1].weight.grad is not None


def test_memory_is_that_of_one_chunk() -> None:
    """At no time does more than one chunk's graph live."""
    alive = 0
    most = 0

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
            nonlocal alive, most
            if x.requires_grad:
                alive += 1
                most = max(most, alive)
            return x.clone()

        @staticmethod
        def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
            nonlocal alive
            alive -= 1
            return grad

    network = nn.Linear(2, 1)
    x = torch.randn(12, 2)

    def forward(first: int, last: int) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled()):
            return Watched.apply(network(x[first:last]))

    two_pass_backward(network, forward, torch.ones_like, 12, 3)
    assert most == 1
