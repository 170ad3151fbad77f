"""The exact gradient of a batch that does not fit in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["two_pass_backward"]


def _generator_states(device: torch.device) -> tuple[Tensor, Tensor | None]:
    if device.type == "cuda":
        return torch.get_rng_state(), torch.cuda.get_rng_state(device)
    return torch.get_rng_state(), torch.mps.get_rng_state() if device.type == "mps" else None


def _restore(states: tuple[Tensor, Tensor | None], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)  # type: ignore[arg-type]
    elif device.type == "mps":
        torch.mps.set_rng_state(states[1])  # type: ignore[arg-type]


@contextmanager
def _running_statistics_held(network: nn.Module) -> Iterator[None]:
    # Batch norm would count each chunk twice. In training it normalises by the chunk either way.
    norms = [
        m
        for m in network.modules()
        if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training and m.track_running_stats
    ]
    for module in norms:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in norms:
            module.track_running_stats = True


def two_pass_backward(
    network: nn.Module,
    forward: Callable[[int, int], Tensor],
    gradient: Callable[[Tensor], Tensor],
    n_rows: int,
    micro_batch_size: int,
) -> Tensor:
    """Accumulate the exact gradient of a loss that couples all rows, a chunk of rows at a time.

    The first pass computes the outputs z of all rows without a graph; `gradient` gives dL/dz of
    the whole batch; the second pass repeats the forward of each chunk, with the same dropout masks,
    and pulls its part of dL/dz back to the parameters. Since
    dL/d theta = sum_i (dL/dz_i) (dz_i/d theta) this is exact, at the memory of one chunk (Gao,
    Zhang, Han & Callan 2021, section 3).

    Parameters
    ----------
    network : torch.nn.Module
        Whose batch-norm running statistics are updated once, not twice.
    forward : callable (first, last) -> Tensor, shape (last - first, D)
        Outputs for the rows ``first:last`` of the batch.
    gradient : callable (outputs) -> Tensor
        dL/dz of the whole batch, of the shape of the outputs.
    n_rows, micro_batch_size : int

    Returns
    -------
    Tensor, shape (n_rows, D)
        The outputs of the first pass, without graph.
    """
    device = next(network.parameters()).device
    # Of almost equal size: a last chunk of one row would break batch norm.
    n_chunks = -(-n_rows // micro_batch_size)
    ends = [n_rows * i // n_chunks for i in range(n_chunks + 1)]
    chunks = list(itertools.pairwise(ends))
    states, parts = [], []
    with torch.no_grad(), _running_statistics_held(network):
        for first, last in chunks:
            states.append(_generator_states(device))
            parts.append(forward(first, last))
    outputs = torch.cat(parts)
    pulled = gradient(outputs)
    after = _generator_states(device)
    for (first, last), state in zip(chunks, states, strict=True):
        _restore(state, device)
        part = forward(first, last)
        part.backward(pulled[first:last].to(part.dtype))
    _restore(after, device)
    return outputs
