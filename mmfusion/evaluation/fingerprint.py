"""A text that is the same for the same settings and data, in every process."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["fingerprint"]

#: Parameters of an estimator that change nothing of what it predicts.
SILENT = ("verbose", "n_jobs")


def fingerprint(*things: Any) -> str:
    """Return a SHA-256 of estimators' parameters, tables, arrays, functions and plain values.

    An estimator counts by its class and parameters, one that is fitted inside another's parameters
    (and so is not fitted anew) also by what it learned; a network by its weights, a function by its
    code; a path of the table also by the size and time of change of its file.

    Raises
    ------
    ValueError
        If something cannot be read in this way.
    """
    reader = _Reader()
    for thing in things:
        reader.add(thing)
    return reader.digest.hexdigest()


class _Reader:
    """Feeds a hash with objects, each led by its kind so that none runs into the next."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.inside: list[int] = []

    def put(self, kind: str, content: bytes | str = b"") -> None:
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogateescape")
        self.digest.update(f"{kind}:{len(content)}:".encode() + content)

    def add(self, thing: Any) -> None:
        if isinstance(thing, np.generic):
            thing = thing.item()
        if thing is None or isinstance(thing, bool | int | float | complex | bytes | range | slice):
            self.put(type(thing).__name__, repr(thing))
        elif isinstance(thing, str | os.PathLike):
            self.put("text", os.fspath(thing))
        elif id(thing) in self.inside:
            raise ValueError(f"{type(thing).__name__} holds itself.")
        else:
            self.inside.append(id(thing))
            self._add_whole(thing)
            self.inside.pop()

    def _add_whole(self, thing: Any) -> None:
        if isinstance(thing, np.ndarray):
            self._array(thing)
        elif isinstance(thing, pd.DataFrame):
            self._frame(thing)
        elif isinstance(thing, pd.Series | pd.Index):
            self._column(thing.to_series() if isinstance(thing, pd.Index) else thing)
        elif isinstance(thing, Mapping):
            self._items("mapping", thing)
        elif isinstance(thing, list | tuple):
            self.put("sequence", str(len(thing)))
            for item in thing:
                self.add(item)
        elif isinstance(thing, set | frozenset):
            self.put("set", repr(sorted(map(fingerprint, thing))))
        else:
            self._object(thing)

    def _items(self, kind: str, items: Mapping[Any, Any]) -> None:
        self.put(kind, str(len(items)))
        for key, value in items.items():
            self.add(key)
            self.add(value)

    def _array(self, array: np.ndarray) -> None:
        self.put("array", f"{array.dtype.descr if array.dtype.names else array.dtype.str}")
        self.put("shape", repr(array.shape))
        if array.dtype.hasobject:
            for cell in array.ravel():
                self._cell(cell)
        else:
            self.put("values", np.ascontiguousarray(array).tobytes())

    def _frame(self, frame: pd.DataFrame) -> None:
        self.put("frame", repr(frame.shape))
        self.add(frame.columns.tolist())
        self.add(frame.index.tolist())
        for position in range(frame.shape[1]):
            self._column(frame.iloc[:, position])

    def _column(self, column: pd.Series) -> None:
        self.put("column", str(column.dtype))
        if isinstance(column.dtype, np.dtype):
            self._array(column.to_numpy())
        else:
            codes = pd.util.hash_pandas_object(column, index=False, categorize=False)
            self._array(codes.to_numpy())

    def _cell(self, cell: Any) -> None:
        self.add(cell)
        if isinstance(cell, list | tuple):
            for item in cell:
                self._cell(item)
        elif isinstance(cell, str | os.PathLike) and Path(cell).suffix:
            try:
                known = os.stat(cell)
            except (OSError, ValueError):  # a text that is no path, or one that starts elsewhere
                return
            self.put("file", f"{known.st_size} {known.st_mtime_ns}")

    def _object(self, thing: Any) -> None:
        kind = thing if isinstance(thing, type) else type(thing)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if isinstance(thing, type):
            self.put("class", name)
        elif isinstance(thing, FunctionType):
            self.put("function", f"{thing.__module__}.{thing.__qualname__}")
            self._code(thing.__code__)
            self.add([thing.__defaults__, thing.__kwdefaults__])
            self.add([cell.cell_contents for cell in thing.__closure__ or ()])
        elif isinstance(thing, MethodType):
            self.add(thing.__self__)
            self.add(thing.__func__)
        elif isinstance(thing, BuiltinFunctionType | np.ufunc):
            self.put("function", thing.__name__)
        elif isinstance(thing, partial):
            self.put("partial")
            self.add([thing.func, thing.args, thing.keywords])
        elif isinstance(thing, np.random.RandomState):
            self._items(name, thing.get_state(legacy=False))
        elif isinstance(thing, np.random.Generator):
            self._items(name, thing.bit_generator.state)
        elif hasattr(thing, "get_params"):
            params = thing.get_params(deep=False)
            self._items(name, {k: v for k, v in sorted(params.items()) if k not in SILENT})
            learned = {k: v for k, v in vars(thing).items() if k.endswith("_") and k != "history_"}
            if len(self.inside) > 1 and learned:
                self._items("learned", learned)
        elif hasattr(thing, "state_dict"):  # a network
            self.put(name, repr(thing))
            self._items("weights", thing.state_dict())
        elif hasattr(thing, "detach"):  # a tensor
            self.put(name)
            self._array(thing.detach().cpu().numpy())
        elif hasattr(thing, "tobytes") and hasattr(thing, "mode"):  # a PIL image
            self.put(name, f"{thing.mode} {thing.size}")
            self.put("pixels", thing.tobytes())
        elif hasattr(thing, "__dict__"):
            self._items(name, vars(thing))
        else:
            try:
                self.put(name, pickle.dumps(thing))
            except Exception as error:
                raise ValueError(f"{name} cannot be read: {error}") from error

    def _code(self, code: CodeType) -> None:
        self.put("code", code.co_code)
        self.add(list(code.co_names))
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._code(constant)
            else:
                self.add(constant)
