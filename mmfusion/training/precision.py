"""Networks are float32 whatever the user's default dtype is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["single_precision"]

_LOCK = threading.Lock()
_inside = 0
_users = torch.float32


@contextmanager
def single_precision() -> Iterator[None]:
    """Make float32 torch's default dtype while the context lasts; the user's comes back after it.

    Gaussian process libraries advise ``torch.set_default_dtype(torch.float64)``, and what a network
    or its objectives make without naming a dtype would be of it. The default is one of the whole
    process: of threads that are inside at once the last restores it.
    """
    global _inside, _users
    with _LOCK:
        if not _inside:
            _users = torch.get_default_dtype()
            if _users != torch.float32:
                torch.set_default_dtype(torch.float32)
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if not _inside and _users != torch.float32:
                torch.set_default_dtype(_users)
