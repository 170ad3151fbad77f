"""A batch of one row, whose statistics are none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["lone_row"]


@contextmanager
def lone_row(module: nn.Module, rows: Tensor) -> Iterator[None]:
    """Where `rows` is one, let batch norms of `module` in training take their running statistics.

    Few rows of a batch may have a modality; a norm refuses one alone, or makes it zero.
    """
    parts = module.modules() if len(rows) == 1 else ()
    norms = [m for m in parts if isinstance(m, _BatchNorm) and m.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
