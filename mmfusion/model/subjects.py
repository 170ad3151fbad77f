"""Subjects with several rows: whose rows they are, and what the networks see of each."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import torch

from mmfusion.modalities import Modality
from mmfusion.model.roles import role_column

__all__ = ["EACH_ROW", "Subjects", "warn_of_episodes"]

#: From this share on rows are taken to be episodes: by chance few start where the row above ends.
LIKELY = 0.5


@dataclass(frozen=True, eq=False)
class Subjects:
    """Whose rows the rows of a table are.

    Attributes
    ----------
    owner : ndarray of int, shape (n,), or None
        The subject of each row, numbered in the order of their first rows; None where every row is
        a subject of its own.
    """

    owner: np.ndarray | None = None

    @classmethod
    def read(cls, column: Any, table: pd.DataFrame, *, complete: bool = True) -> Self:
        """Return the subjects that a column names; without a column, a row is a subject.

        Parameters
        ----------
        column : column label or None
        table : DataFrame
        complete : bool
            Whether each row must have a label; else a row without one is a subject of its own.

        Raises
        ------
        ValueError
            If the table has no such column, or a label is missing and must not be.
        """
        labels = role_column(table, "id", column, complete=complete)
        if labels is None:
            return cls()
        codes = pd.factorize(labels)[0]
        unknown = codes < 0
        codes[unknown] = len(codes) + np.arange(unknown.sum())
        return cls._numbered(codes)

    @classmethod
    def _numbered(cls, codes: np.ndarray) -> Self:
        owner, known = pd.factorize(codes)
        return cls(None if len(known) == len(owner) else owner)

    def take(self, rows: np.ndarray) -> Self:
        """Return the subjects of some rows, numbered anew."""
        return self if self.owner is None else self._numbered(self.owner[rows])

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Return the subjects that have some of the rows, each once, ascending."""
        return rows if self.owner is None else np.unique(self.owner[rows])

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Return for each row what its subject has, from an array with a row a subject."""
        return values if self.owner is None else values[self.owner]

    def once(self, values: np.ndarray) -> np.ndarray:
        """Return what each subject has in its first row, from an array with a row a row."""
        return values if self.owner is None else values[self._first]

    @property
    def _first(self) -> np.ndarray:
        """The first row of each subject."""
        assert self.owner is not None
        return np.unique(self.owner, return_index=True)[1]

    def table(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table with a row a subject: in each column the first cell that is not missing.

        The networks read it: a subject's image stands in any of the subject's rows.
        """
        if self.owner is None:
            return table
        first = self._first
        result = table.iloc[first].copy()
        for place, name in enumerate(table.columns):
            column = table.iloc[:, place]
            there = _there(column)
            if there[first].all():
                continue
            filled = np.flatnonzero(there)
            known, at = np.unique(self.owner[filled], return_index=True)
            rows = first.copy()
            rows[known] = filled[at]
            result[name] = column.iloc[rows].array  # with its dtype, levels included
        return result

    def refuse_design(self) -> None:
        """Raise ValueError where networks would read a formula's columns of a subject's rows."""
        if self.owner is not None:
            raise ValueError(
                "The networks see each subject once, and its columns of the formula change from "
                "row to row: with several rows of a subject (id=) use head='additive' and "
                "orthogonalization='post_hoc', 'two_stage' or None."
            )

    def refuse_changes(self, modalities: Mapping[str, Modality], table: pd.DataFrame) -> None:
        """Raise ValueError if a fitted modality reads a column that changes within a subject."""
        if self.owner is None:
            return
        for name, modality in modalities.items():
            for label in modality.columns_:
                row = self._changed(table[label])
                if row is not None:
                    raise ValueError(
                        f"Modality {name!r} reads column {label!r}, which changes within a subject "
                        f"(in row {table.index[row]!r}). Networks see each subject once: put "
                        "columns that change over a subject's rows into the formula (structured=)."
                    )

    def _changed(self, column: pd.Series) -> int | None:
        """Return the first row whose cell is another than one of the same subject's before it."""
        assert self.owner is not None
        there = np.flatnonzero(_there(column))
        cells = column.iloc[there]
        if cells.dtype == object:
            cells = pd.Series([_digest(cell) for cell in cells], dtype=object)
        codes, owner = pd.factorize(cells)[0], self.owner[there]
        _, first, subject = np.unique(owner, return_index=True, return_inverse=True)
        changes = np.flatnonzero(codes != codes[first][subject])
        return int(there[changes[0]]) if len(changes) else None

    def refuse_split(self, cluster: np.ndarray, table: pd.DataFrame) -> None:
        """Raise ValueError if the rows of a subject lie in several clusters."""
        split = np.flatnonzero(cluster != self.spread(self.once(cluster)))
        if len(split):
            raise ValueError(
                "The cluster column must have one label for all rows of a subject (id=): subjects "
                f"lie within clusters. Got another one in row {table.index[split[0]]!r}."
            )


def _there(column: pd.Series) -> np.ndarray:
    """Return which cells hold something: neither missing, nor blank text or an empty list."""
    there = column.notna().to_numpy(bool)
    if column.dtype == object or pd.api.types.is_string_dtype(column.dtype):
        there &= np.array([not _blank(cell) for cell in column], dtype=bool)
    return there


def _blank(cell: Any) -> bool:
    if isinstance(cell, str):
        return not cell.strip()
    return isinstance(cell, list | tuple) and not cell


def _digest(cell: Any) -> Any:
    """Return what tells one cell from another: of images, arrays and tensors what they hold."""
    if isinstance(cell, list | tuple):
        return tuple(_digest(one) for one in cell)
    if isinstance(cell, torch.Tensor):  # which pandas takes for a scalar
        cell = cell.detach().cpu().double().numpy()
    if pd.api.types.is_scalar(cell) or isinstance(cell, os.PathLike):
        return str(cell)
    values = np.ascontiguousarray(cell)
    if values.dtype == object:
        return tuple(_digest(one) for one in values.ravel())
    return values.shape, hashlib.blake2b(values.tobytes()).digest()


#: Every row is a subject of its own.
EACH_ROW = Subjects()


def warn_of_episodes(share: float) -> None:
    """Warn where rows look like further episodes of a subject, and no column says whose.

    Parameters
    ----------
    share : float
        Of the rows that start late, how many start where another row ends (`Head.episodes`).
    """
    if share < LIKELY:
        return
    warnings.warn(
        "Rows of y start where others end: they look like several episodes of one subject "
        "(start-stop data). Without id= each row counts as a subject of its own: the rows of one "
        "subject then stand on both sides of the validation part and of folds, so that training "
        "stops too late and scores are too good. Name the subject's column, id='patient'; for "
        "recurrent events also cluster='patient', whose standard errors allow for it.",
        UserWarning,
        stacklevel=4,
    )
