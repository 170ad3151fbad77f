"""That a data set is the one it should be: content hashes."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd

#: Numbers are hashed as whole multiples of this: far finer than any reader's rounding.
RESOLUTION = 1e-3

_MISSING = np.iinfo(np.int64).min


class ChecksumError(OSError):
    """Data differ from the data this version of the package knows."""


@cache
def manifest() -> dict[str, Any]:
    """Return what is known of the data sets: hashes of tables, mean colours of images, folds."""
    text = files(__package__).joinpath("manifest.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def content_hash(table: pd.DataFrame) -> str:
    """Return the SHA-256 of a table's content.

    It depends on column names, row order and values (numbers to `RESOLUTION`), and not on the order
    of columns, the width of a number, the file format or the library's version: a table converted
    anew from its source has the hash of the table converted years ago.

    Parameters
    ----------
    table : DataFrame
        Columns of numbers, booleans or strings; missing values allowed. The index is not hashed.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in sorted(table.columns):
        digest.update(f"{name}\0".encode())
        column = table[name]
        if pd.api.types.is_numeric_dtype(column):
            # Multiplication and rint are exact in IEEE 754, so the same everywhere.
            values = np.rint(column.to_numpy(np.float64) / RESOLUTION)
            missing = np.isnan(values)
            values[missing] = 0.0
            whole = values.astype("<i8")
            whole[missing] = _MISSING
            digest.update(whole.tobytes())
        else:
            cells = ["\1" if pd.isna(cell) else str(cell) for cell in column]
            digest.update("\0".join(cells).encode())
        digest.update(b"\0\0")
    return digest.hexdigest()


def check_content(table: pd.DataFrame, expected: str, source: str) -> None:
    """Raise unless `table` has the content hash `expected`.

    Raises
    ------
    ChecksumError
        Names `source` and both hashes.
    """
    found = content_hash(table)
    if found != expected:
        raise ChecksumError(
            f"The content of {source} is not what this version of mmfusion knows: SHA-256 {found}, "
            f"expected {expected} ({len(table)} rows, {table.shape[1]} columns). Delete it to have "
            "it fetched again."
        )


def check_colours(found: np.ndarray, expected: str, source: str) -> None:
    """Raise unless images have the mean colours known of them.

    JPEG files written by different libraries differ in their bytes, their mean colours do not: two
    grey levels of 256 are allowed.

    Parameters
    ----------
    found : ndarray of uint8, shape (n_images, 3)
        Mean red, green and blue of each image.
    expected : str
        The same, as base64 of the bytes.
    source : str
        Named in the error.

    Raises
    ------
    ChecksumError
        Says how many images differ, and which is the first.
    """
    known = np.frombuffer(base64.b64decode(expected), np.uint8).reshape(-1, 3)
    if known.shape != found.shape:
        raise ChecksumError(f"{source} has {len(found)} images, expected {len(known)}.")
    wrong = np.flatnonzero(np.abs(found.astype(int) - known.astype(int)).max(axis=1) > 2)
    if wrong.size:
        raise ChecksumError(
            f"{wrong.size} of {len(known)} images of {source} are not what this version of "
            f"mmfusion knows, the first is number {wrong[0]}."
        )
