"""A number a row of a table: the same for the same cells, whatever their order and type."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["cell_sums", "mixed", "row_hashes"]

#: So many cells are worked out together: more do not stay in a processor's cache.
TOGETHER = 1 << 15


def row_hashes(columns: Mapping[Any, Any]) -> np.ndarray:
    """Return a 64-bit number for each row.

    Numbers count as they are in float32, so that a table which went through a text file is the same
    still; other cells by their text, arrays by their values. The order of the columns is of no
    consequence.

    Parameters
    ----------
    columns : mapping of name to array-like of shape (n,)
        A DataFrame is one.

    Returns
    -------
    ndarray of uint64, shape (n,)
    """
    return mixed(cell_sums(columns) if len(columns) else np.zeros(1, dtype=np.uint64))


def cell_sums(columns: Mapping[Any, Any]) -> np.ndarray:
    """Return the sum of each row's cells, uint64 of shape (n,): `mixed`, they are its hash.

    Sums of some columns and of others add up to those of all.
    """
    names = list(columns)
    keys = np.array([_of_bytes(repr(str(name)).encode()) for name in names], dtype=np.uint64)
    n = len(columns[names[0]])
    total = np.zeros(n, dtype=np.uint64)
    width = max(1, TOGETHER // max(n, 1))
    for first in range(0, len(names), width):
        some = slice(first, first + width)
        cells = [_cells(columns[name]) for name in names[some]]
        for start in range(0, n, TOGETHER):
            rows = slice(start, start + TOGETHER)
            part = np.stack([own[rows] for own in cells]).astype(np.uint64)
            part ^= keys[some, None]
            total[rows] += mixed(part).sum(0)
    return total


def _cells(column: Any) -> np.ndarray:
    """Return a number for each cell."""
    values = column if isinstance(column, pd.Series) else np.asarray(column)
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "biuf" and values.ndim == 1:
        return _bits(np.asarray(values, dtype=np.float32))
    if not isinstance(values, pd.Series):
        values = pd.Series(values)
    if pd.api.types.is_numeric_dtype(values.dtype) or pd.api.types.is_bool_dtype(values.dtype):
        return _bits(values.to_numpy(np.float32, na_value=np.nan))
    known: dict[Any, int] = {}
    found = np.empty(len(values), dtype=np.uint64)
    for row, cell in enumerate(values.astype(object)):
        text = isinstance(cell, str)
        if not text or cell not in known:
            hashed = _of_bytes(_bytes(cell))
            if text:
                known[cell] = hashed
        found[row] = known[cell] if text else hashed
    return found


def _bits(numbers: np.ndarray) -> np.ndarray:
    """Return the bits of numbers in float32: of one zero, and of one NaN."""
    numbers = numbers + np.float32(0)
    missing = np.isnan(numbers)
    if missing.any():
        numbers[missing] = np.nan
    return numbers.view(np.uint32)


def _bytes(cell: Any) -> bytes:
    if isinstance(cell, list | tuple):
        return b"".join(_bytes(part) for part in cell)
    if np.ndim(cell) > 0 or hasattr(cell, "__array_interface__"):
        array = np.asarray(cell)
        return str(array.shape).encode() + array.astype(np.float32).tobytes()
    if cell is None or pd.isna(cell):
        return b"missing"
    number = isinstance(cell, int | float | np.number)
    return repr(float(cell)).encode() if number else str(cell).encode()


def _of_bytes(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def mixed(values: np.ndarray) -> np.ndarray:
    """Spread each number over all 64 bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    z = values + np.uint64(0x9E3779B97F4A7C15)
    high = np.empty_like(z)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        z ^= np.right_shift(z, np.uint64(shift), out=high)
        if factor != 1:
            z *= np.uint64(factor)
    return z
