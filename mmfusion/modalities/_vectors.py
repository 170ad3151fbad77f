"""From a vector, a bag of vectors, or a file of either, to one row of numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

__all__ = ["read_vectors"]


def read_vectors(column: pd.Series, root: Path, key: str | None, width: int) -> NDArray[np.float32]:
    """Return the vectors of a column, (n_rows, width), bags averaged, NaN where missing.

    Parameters
    ----------
    column : Series of arrays, tensors, lists or paths
    root : Path
        Where relative paths start.
    key : str, optional
        Of several arrays in a file.
    width : int
        Expected numbers of a vector; 0 for those of the first.

    Raises
    ------
    ValueError
        For a cell that cannot be read, or of another width: column and row named.
    """
    vectors: list[NDArray[np.float32] | None] = []
    first: Any = None
    for row, cell in column.items():
        try:
            vector = _vector(cell, root, key)
        except Exception as error:  # broken files raise many types
            raise ValueError(f"Column {column.name!r}, row {row!r}: {error}") from error
        if vector is not None:
            first = row if first is None else first
            width = width or len(vector)
            if len(vector) != width:
                where = f"as in row {first!r}" if first is not row else "as in the training rows"
                raise ValueError(
                    f"Column {column.name!r}, row {row!r}: the vector must have {width} numbers, "
                    f"{where}. Got {len(vector)}."
                )
        vectors.append(vector)
    result = np.full((len(column), width), np.nan, dtype=np.float32)
    for place, vector in enumerate(vectors):
        if vector is not None:
            result[place] = vector
    return result


def _vector(cell: Any, root: Path, key: str | None) -> NDArray[np.float32] | None:
    if isinstance(cell, str | os.PathLike):
        if isinstance(cell, str) and not cell.strip():
            return None
        cell = _load(root / cell, key)
    if cell is None or (pd.api.types.is_scalar(cell) and pd.isna(cell)):
        return None
    if isinstance(cell, torch.Tensor):
        cell = cell.detach().cpu().float().numpy()
    if isinstance(cell, list | tuple) and cell and isinstance(cell[0], str | os.PathLike):
        bags = [vector for item in cell if (vector := _vector(item, root, key)) is not None]
        return None if not bags else np.mean(bags, axis=0, dtype=np.float32)
    try:
        values = np.asarray(cell, dtype=np.float32)
    except (TypeError, ValueError):
        raise ValueError(
            "a cell must hold a vector (an array, tensor or list of numbers), a bag of vectors, "
            f"the path of a file, or be missing. Got {type(cell).__name__}"
        ) from None
    if values.size == 0:
        return None
    if values.ndim not in (1, 2):
        raise ValueError(
            "a vector has one dimension, a bag of vectors two. "
            f"Got an array of shape {values.shape}"
        )
    if np.isinf(values).any():
        raise ValueError("a vector must hold finite numbers. Got infinity")
    return values if values.ndim == 1 else values.mean(axis=0, dtype=np.float32)


def _load(path: Path, key: str | None) -> Any:
    kind = path.suffix.lower()
    if kind == ".npy":
        return np.load(path, allow_pickle=False)
    if kind == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return file[_only(list(file), key, path)]
    if kind in (".pt", ".pth"):
        found = torch.load(path, map_location="cpu", weights_only=True)
        return found[_only(list(found), key, path)] if isinstance(found, dict) else found
    if kind in (".h5", ".hdf5"):
        import h5py  # type: ignore[import-untyped,unused-ignore]  # optional: only its files need it

        with h5py.File(path) as file:
            return np.asarray(file[_only(list(file), key, path)])
    raise ValueError(
        f"the file {str(path)!r} must end in .npy, .npz, .pt, .pth, .h5 or .hdf5. Got {kind!r}"
    )


def _only(names: list[Any], key: str | None, path: Path) -> Any:
    if key is None and len(names) == 1:
        return names[0]
    if key in names:
        return key
    raise ValueError(
        f"the key parameter of Embedding must name one of the arrays {names} of {str(path)!r}. "
        f"Got {key!r}"
    )
