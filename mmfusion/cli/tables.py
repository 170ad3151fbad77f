"""Tables in files: CSV, parquet and feather, by the ends of their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

__all__ = ["check_suffix", "read_table", "write_table"]

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".parquet", ".feather")


def check_suffix(path: Path) -> str:
    """Return which of the known kinds a file's name says it is; ValueError for another."""
    found = [suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)]
    if not found:
        raise ValueError(
            f"A table must be a file with a name that ends in one of {', '.join(SUFFIXES)}. "
            f"Got {path.name!r}."
        )
    return found[0]


def read_table(path: Path, index: Any = None) -> pd.DataFrame:
    """Read a table.

    Parameters
    ----------
    path : Path
    index : str, optional
        The column that names the rows: names such as 007 keep their zeros.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If its name says no kind of table, or it is not what its name says.
    """
    suffix = check_suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no table {str(path)!r}.")
    try:
        if suffix == ".parquet":
            return pd.read_parquet(path)
        if suffix == ".feather":
            return pd.read_feather(path)
        separator = "\t" if suffix == ".tsv" else ","
        table = pd.read_csv(path, sep=separator, low_memory=False)
        named = isinstance(index, str) and index in table.columns
        if named and pd.api.types.is_numeric_dtype(table[index].dtype):
            names = pd.read_csv(path, sep=separator, usecols=[index], dtype=str)[index]
            if names.str.match(r"\s*0\d").any():
                table[index] = names.str.strip()
        return table
    except (ValueError, pd.errors.ParserError) as error:  # of pyarrow, too
        raise ValueError(f"The table {str(path)!r} cannot be read: {error}") from error


def write_table(table: Any, path: Path, *, index: bool = True) -> None:
    """Write a table; a folder that lacks is made."""
    suffix = check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame(table)
    if suffix in (".parquet", ".feather"):
        frame = (frame.reset_index() if index else frame).rename(columns=str)
        frame.to_parquet(path) if suffix == ".parquet" else frame.to_feather(path)
        return
    frame.to_csv(path, sep="\t" if suffix == ".tsv" else ",", index=index)
