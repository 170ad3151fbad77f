"""How many threads linear algebra takes: one where matrices are small."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.api.types import is_object_dtype
from threadpoolctl import ThreadpoolController
from torch import nn

from mmfusion.modalities.base import MultimodalData, TableData

__all__ = ["linear_algebra", "steps", "work"]

#: Operations of a cross-product (one second of a core at the most) from which threads are shared.
LARGE = 1e10
#: Multiplications of a batch by a network's weights from which threads are shared.
LARGE_STEP = 5e7

_LOCK = threading.Lock()
_inside: list[Any] = []


@contextmanager
def linear_algebra(table: pd.DataFrame) -> Iterator[None]:
    """Run numpy's and scipy's linear algebra in one thread, unless the table is large.

    A fit is made of thousands of products of small matrices. Threads that share one of these wait
    for each other, by spinning, longer than the product takes; on a busy machine the wait is most
    of the fit. The limit is that of the whole process. Where several fits run at once in threads of
    one process, the limit ends with the last fit. A user's own limit of one thread stays.

    Parameters
    ----------
    table : DataFrame, shape (n, p)
        What is fitted to.
    """
    if work(table) >= LARGE:
        yield
        return
    with _LOCK:
        if not _inside:
            _inside.append(_libraries().limit(limits=1, user_api="blas"))
        _inside.append(None)
    try:
        yield
    finally:
        with _LOCK:
            _inside.pop()
            if len(_inside) == 1:
                _inside.pop().restore_original_limits()


@contextmanager
def steps(network: nn.Module, data: MultimodalData, batch_size: int | None) -> Iterator[None]:
    """Take a network's steps in one thread, if these are small: of tables, and few weights.

    Threads that share such a step gain nothing on an idle machine, and wait on a busy one.

    Parameters
    ----------
    network : module
        On any device; what is not on the CPU is not slower for it.
    data : MultimodalData
    batch_size : int or None
        Subjects a step; None is all of them.
    """
    n = len(data) if batch_size is None else min(batch_size, len(data))
    own = torch.get_num_threads()
    tables = all(isinstance(part, TableData) for part in data.parts.values())
    small = tables and n * sum(weight.numel() for weight in network.parameters()) < LARGE_STEP
    if not small or own == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(own)


@cache
def _libraries() -> ThreadpoolController:
    """Return a handle on the libraries of linear algebra; looking for them takes a millisecond."""
    import scipy.linalg  # noqa: F401, so that its library is among them

    return ThreadpoolController()


def work(table: pd.DataFrame) -> float:
    """Return how many operations the cross-product of a table's columns takes, or of its rows.

    A cell that holds a vector counts as many columns as it has values; an image counts as one.
    """
    n, p = table.shape
    for position, dtype in enumerate(table.dtypes):
        if not is_object_dtype(dtype):
            continue
        held = table.iloc[:, position].dropna()
        first = held.iloc[0] if len(held) else None
        if isinstance(first, np.ndarray) and first.ndim == 1:
            p += first.size - 1
    return float(n) * p * min(n, p)
