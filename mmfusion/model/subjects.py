"""Subjects with several rows: whose rows they are, and what the networks see of each."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

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
    def read(cls, column: Any, table: pd.DataFrame) -> Self:
        """Return the subjects that a column names; without a column, a row is a subject."""
        labels = role_column(table, "id", column, complete=True)
        return cls(None if labels is None else pd.factorize(labels)[0])

    def take(self, rows: np.ndarray) -> Self:
        """Return the subjects of some rows, numbered anew."""
        return type(self)(None if self.owner is None else pd.factorize(self.owner[rows])[0])

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Return the subjects that have some of the rows, each once, ascending."""
        return rows if self.owner is None else np.unique(self.owner[rows])

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Return for each row what its subject has, from an array with a row a subject."""
        return values if self.owner is None else values[self.owner]

    def table(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a table with a row a subject: in each column the first cell that is not missing.

        The networks read it: a subject's image stands in any of the subject's rows.
        """
        if self.owner is None:
            return table
        first = np.unique(self.owner, return_index=True)[1]
        result = table.iloc[first].copy()
        for place, name in enumerate(table.columns):
            column = table.iloc[:, place]
            there = np.flatnonzero(column.notna().to_numpy())
            known, at = np.unique(self.owner[there], return_index=True)
            if not np.array_equal(there[at], first[known]):
                rows = first.copy()
                rows[known] = there[at]
                result[name] = column.iloc[rows].to_numpy()
        return result

    def refuse_design(self) -> None:
        """Raise ValueError where networks would read a formula's columns of a subject's rows."""
        if self.owner is not None and len(np.unique(self.owner)) < len(self.owner):
            raise ValueError(
                "The networks see each subject once, and its columns of the formula change from "
                "row to row: with several rows of a subject (id=) use head='additive' and "
                "orthogonalization='post_hoc', 'two_stage' or None."
            )

    def refuse_changes(self, name: str, modality: Modality, table: pd.DataFrame) -> None:
        """Raise ValueError if a modality reads a column that changes within a subject."""
        if self.owner is None:
            return
        for label in modality.columns_:
            column = table[label]
            there = np.flatnonzero(column.notna().to_numpy())
            cells = [_cell(value) for value in column.iloc[there]]
            codes = pd.factorize(pd.Series(cells, dtype=object))[0]
            order = np.lexsort((codes, self.owner[there]))
            owner, codes = self.owner[there][order], codes[order]
            changes = np.flatnonzero((owner[1:] == owner[:-1]) & (codes[1:] != codes[:-1]))
            if len(changes):
                row = table.index[there[order[changes[0] + 1]]]
                raise ValueError(
                    f"Modality {name!r} reads column {label!r}, which changes within a subject "
                    f"(in row {row!r}). Networks see each subject once: put columns that change "
                    "over a subject's rows into the formula (structured=)."
                )


def _cell(value: Any) -> Any:
    """Return what tells one cell from another: arrays by their bytes."""
    return value.tobytes() if isinstance(value, np.ndarray) else str(value)


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
