"""Columns of the table with a role in the outcome: strata, clusters, subjects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mmfusion.inputs.columns import take_column
from mmfusion.inputs.messages import name_rows
from mmfusion.structured import columns_read

__all__ = ["role_column", "role_columns"]


def role_column(
    table: pd.DataFrame, parameter: str, column: Any, *, complete: bool = False
) -> pd.Series | None:
    """Return the column that a parameter names; None where it names none.

    Parameters
    ----------
    table : DataFrame
    parameter : str
    column : column label or None
    complete : bool
        Whether each row must have a label.

    Raises
    ------
    ValueError
        If the table has no such column, or a label is missing or no label (a list).
    """
    if column is None:
        return None
    labels = take_column(table, column, parameter)
    if labels.dtype == object:
        _refuse_unhashable(parameter, labels)
    missing = labels.isna().to_numpy(bool)
    if complete and missing.any():
        raise ValueError(
            f"The {parameter} column {column!r} must have a label for each row. It is "
            f"missing in {name_rows(table, missing)}."
        )
    return labels


def _refuse_unhashable(parameter: str, labels: pd.Series) -> None:
    for row, label in zip(labels.index, labels, strict=True):
        try:
            hash(label)
        except TypeError:
            raise ValueError(
                f"The {parameter} column {labels.name!r} must hold labels: text or numbers. Got "
                f"{type(label).__name__} in row {row!r}."
            ) from None


def role_columns(named: Mapping[str, Any], treatment: str | None, table: pd.DataFrame) -> list[Any]:
    """Return the columns with a role in the outcome: clusters, subjects, strata, a treatment."""
    columns = [
        column
        for role, column in named.items()
        if column is not None and role_column(table, role, column) is not None
    ]
    if isinstance(treatment, str):
        columns += [name for name in columns_read(treatment) if name in table.columns]
    return columns
