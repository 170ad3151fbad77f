"""Parameters as what they mean: text, numbers and lists, which any system reads."""

from __future__ import annotations

import copy
import enum
import numbers
import os
from collections import deque
from collections.abc import Callable, Iterator, KeysView, Mapping, Sequence, Set, ValuesView
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator

__all__ = ["at_fault", "plain"]

#: What is written as a list.
ARRAYS = (np.ndarray, pd.Series, pd.Index, pd.api.extensions.ExtensionArray, torch.Tensor)
LISTS = (Sequence, KeysView, ValuesView, deque)


def plain(value: Any) -> Any:
    """Return a parameter with text for paths and devices, lists for arrays, ranges and views.

    What is plain already is returned as it is, and so is what has no plain form: code.
    """
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if value is None or isinstance(value, str | bytes | bool | int | float | np.generic):
        return value
    if isinstance(value, numbers.Real):  # a Fraction
        return float(value)
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, ARRAYS):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        items = {key: plain(each) for key, each in value.items()}
        same = type(value) is dict and all(items[key] is value[key] for key in value)
        return value if same else items
    if isinstance(value, BaseEstimator) and not isinstance(value, type):
        given = value.get_params(deep=False)
        changed = {key: plain(each) for key, each in given.items()}
        changed = {key: each for key, each in changed.items() if each is not given[key]}
        return copy.copy(value).set_params(**changed) if changed else value
    if isinstance(value, LISTS):
        each = [plain(one) for one in value]
        if type(value) in (list, tuple) and all(a is b for a, b in zip(each, value, strict=True)):
            return value
        return tuple(each) if isinstance(value, tuple) else each
    if isinstance(value, Set):
        return set(value)
    return value


def at_fault(params: Mapping[str, Any], fails: Callable[[Any], bool]) -> tuple[str, Any] | None:
    """Return the name and value of the innermost parameter that `fails`, if one does."""
    for name, value in params.items():
        if not fails(value):
            continue
        for inner, within in _inside(value):
            if fails(within):
                deeper = at_fault({f"{name}{inner}": within}, fails)
                return deeper or (f"{name}{inner}", within)
        return name, value
    return None


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", each) for key, each in value.items())
    elif isinstance(value, BaseEstimator) and not isinstance(value, type):
        yield from ((f".{key}", each) for key, each in value.get_params(deep=False).items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{number}]", each) for number, each in enumerate(value))
