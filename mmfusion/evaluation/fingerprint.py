"""A text that is the same for the same settings and data, in every process."""

from __future__ import annotations

import hashlib
import os
import pickle
import stat
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["fingerprint", "roots_in"]

#: Parameters of an estimator that change nothing of what it predicts.
SILENT = ("verbose", "n_jobs")

#: What a function finds outside counts where it is one of these, by its value.
PLAIN = (
    *(bool, int, float, complex, str, bytes, range, slice, type(None), os.PathLike),
    *(list, tuple, set, frozenset, Mapping, np.generic, np.ndarray, pd.DataFrame, pd.Series),
    *(pd.Index, FunctionType, BuiltinFunctionType, MethodType, np.ufunc, partial),
)

#: Where functions lie that change with their version only.
INSTALLED = tuple(
    os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "purelib", "platlib")
)

#: This package, whose version is known to the cache.
PACKAGE = __name__.partition(".")[0]


def fingerprint(*things: Any, roots: Iterable[str | os.PathLike[str]] = ()) -> str:
    """Return a SHA-256 of estimators' parameters, tables, arrays, functions and plain values.

    An estimator counts by its class and parameters, one that is fitted inside another's parameters
    (and so is not fitted anew) also by what it learned; a network by its weights; a function by its
    code and by the plain values and functions that it finds outside of itself; a text of the table
    that is the path of a file also by the file's size and time of change.

    Parameters
    ----------
    *things
    roots : paths
        Folders that relative paths of the table may start from, beside the working directory.

    Raises
    ------
    ValueError
        If something cannot be read in this way.
    """
    reader = _Reader(roots)
    for thing in things:
        reader.add(thing)
    return reader.digest.hexdigest()


def roots_in(*things: Any) -> list[str]:
    """Return the `root` of every modality among the parameters of estimators, sorted.

    Raises
    ------
    ValueError
        As `fingerprint`.
    """
    reader = _Reader()
    for thing in things:
        reader.add(thing)
    return sorted(reader.found_roots)


class _Reader:
    """Feeds a hash with objects, each led by its kind so that none runs into the next."""

    def __init__(self, roots: Iterable[str | os.PathLike[str]] = ()) -> None:
        self.digest = hashlib.sha256()
        self.inside: list[int] = []
        self.folders = [Path(), *map(Path, roots)]
        self.found_roots: set[str] = set()
        self.files: dict[str, str] = {}
        self.functions: dict[int, FunctionType] = {}

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
        elif id(thing) in self.functions:  # a function may call itself
            self.put("function before", str(list(self.functions).index(id(thing))))
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
            self.put("set", repr(sorted(self._apart(item).digest.hexdigest() for item in thing)))
        else:
            self._object(thing)

    def _apart(self, thing: Any) -> _Reader:
        """Return a reader of one more thing that knows what this one has read, and adds nothing."""
        part = _Reader()
        part.folders, part.files, part.found_roots = self.folders, self.files, self.found_roots
        part.inside, part.functions = [*self.inside], {**self.functions}
        part.add(thing)
        return part

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
            if array.dtype.kind == "U":
                for text in np.unique(array):
                    self._file(text)

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
            if isinstance(column.dtype, pd.CategoricalDtype):
                self.add([column.cat.ordered, column.cat.categories.tolist()])
            for cell in column.dropna().unique():
                self._file(cell)

    def _cell(self, cell: Any) -> None:
        self.add(cell)
        if isinstance(cell, list | tuple):
            for item in cell:
                self._cell(item)
        else:
            self._file(cell)

    def _file(self, cell: Any) -> None:
        """Add what is known of the files that a text is the path of."""
        if not isinstance(cell, str | os.PathLike):
            return
        path = os.fspath(cell)
        if path not in self.files:
            self.files[path] = " ".join(self._stats(path))
        if self.files[path]:
            self.put("file", self.files[path])

    def _stats(self, path: str) -> Iterator[str]:
        for folder in self.folders:
            try:
                known = os.stat(folder / path)
            except (OSError, ValueError):  # a text that is no path, or one that starts elsewhere
                continue
            if stat.S_ISREG(known.st_mode):
                yield f"{known.st_size} {known.st_mtime_ns}"

    def _object(self, thing: Any) -> None:
        kind = thing if isinstance(thing, type) else type(thing)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if isinstance(thing, type):
            self.put("class", name)
        elif isinstance(thing, FunctionType):
            self.functions[id(thing)] = thing
            self.put("function", f"{thing.__module__}.{thing.__qualname__}")
            self._code(thing.__code__)
            self.add([thing.__defaults__, thing.__kwdefaults__])
            self.add([cell.cell_contents for cell in thing.__closure__ or ()])
            self._globals(thing)
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
            if isinstance(params.get("root"), str | os.PathLike):
                self.found_roots.add(os.fspath(params["root"]))
            learned = _learned(thing, params)
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
        elif _is_ours(kind) and callable(getattr(thing, "state", None)):
            self._items(name, thing.state())  # what is saved of it, without the rows it saw
        elif hasattr(thing, "__dict__"):
            known = vars(thing).items()  # what a scorer asks for holds the scorer itself
            self._items(name, {key: value for key, value in known if key != "_metadata_request"})
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

    def _globals(self, function: FunctionType) -> None:
        """Add what a function finds outside of itself, unless a version says what it is."""
        if _is_ours(function) or function.__code__.co_filename.startswith(INSTALLED):
            return
        known = function.__globals__
        for name in sorted(set(_names(function.__code__)) & set(known)):
            if isinstance(known[name], PLAIN):
                try:
                    part = self._apart(known[name])
                except ValueError:  # it holds what cannot be read, as the results of a session
                    continue
                self.functions = part.functions
                self.put(f"global {name}", part.digest.digest())


def _is_ours(thing: Any) -> bool:
    """Return whether a class or function is of this package."""
    return (thing.__module__ or "").partition(".")[0] == PACKAGE


def _names(code: CodeType) -> Iterator[str]:
    """Yield the names that a function looks up, those inside it included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _learned(thing: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an estimator learned; ours hold their networks in attributes of no such name."""
    ours = any(map(_is_ours, type(thing).__mro__))
    return {
        key: value
        for key, value in vars(thing).items()
        if key.endswith("_") or (ours and key not in params)
        if key != "history_"  # it holds the seconds of each epoch
    }
