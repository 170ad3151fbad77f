"""Tabular: numbers and categories of a table."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from mmfusion.inputs.columns import (
    column_kind,
    column_positions,
    column_rounding,
    list_labels,
    numeric_matrix,
    refuse_overflow,
    warn_of_text,
)
from mmfusion.inputs.messages import shorten
from mmfusion.inputs.parameters import check_choice, check_number
from mmfusion.inputs.table import require_frame
from mmfusion.modalities._moments import column_moments
from mmfusion.modalities._pieces import in_pieces, piece_edges, piece_labels
from mmfusion.modalities.base import Modality, TableData

__all__ = ["Tabular"]


@dataclass(eq=False, repr=False)
class Tabular(Modality):
    """Numbers and categories of a table: clinical variables, attributes of a house.

    Numbers are imputed with the training median and standardised; a number that is missing in
    some training rows gets an indicator column. Categories become codes for an embedding, or
    one-hot columns. Everything is learnt from the training rows in which the modality is present.

    Parameters
    ----------
    columns : list of labels, optional
        The columns to read; all columns of the table by default.
    categorical : "auto" or list of labels, default="auto"
        Which columns are categories. "auto": text, ``category`` and ``string`` columns; numbers
        and bools are numeric.
    encoding : {"embedding", "onehot"}, default="embedding"
        "embedding": codes, 0 for unknown or missing. "onehot": a column for each category of the
        training rows, all 0 for unknown or missing.
    scale : bool, default=True
        Standardise numbers, or their pieces (mean 0, standard deviation 1 over the training rows,
        after imputation). Indicators and one-hot columns stay 0 and 1.
    pieces : int, optional
        Into how many pieces of equally many training rows the range of a number is cut. A piece is
        a column that rises from 0 to 1 within it: the linear part is then piecewise linear in the
        number, and networks need not bend a line themselves (Gorishniy, Rubachev & Babenko 2022,
        section 3.2). Numbers beyond the training rows are read as the nearest of these. Numbers
        whose quantiles are fewer than three distinct ones, such as 0 and 1, stay as they are.
    indicators : bool, default=True
        Add a column 0/1 for each number that is missing in some training row.
    encoder : {"mlp", "snn", "raw", "tokens"} or callable, default="mlp"
        The network that reads it; "tokens" makes a token of each column (of each piece), for
        attention. This and the two parameters below are only kept here.
    hidden : tuple of int, default=(64,)
        Widths of the encoder's layers.
    dropout : float, default=0.1
        The encoder's dropout.

    Attributes
    ----------
    columns_ : list
        The columns read: numeric ones, then categorical ones.
    numeric_columns_, categorical_columns_, indicator_columns_ : list
        The columns by what is made of them.
    median_ : ndarray of float64, shape (n_numeric_columns,)
        Imputed value of each numeric column.
    edges_ : list of ndarray of float64
        Of each numeric column the ends of its pieces, ascending; empty where it is not cut.
    source_columns_ : list
        The numeric column of each number of the tensor: a column that is cut is there once a piece.
    mean_, scale_ : ndarray of float64, shape (n_source_columns,)
        Centre and divisor of each of these numbers; a divisor of ``inf`` stands for a constant.
    categories_ : list of list
        The categories of each categorical column, those that are neither text nor numbers
        (intervals of ``pd.cut``, dates) as text; the code is the position counted from 1.
    shares_ : list of ndarray of float64
        Of each categorical column the share of each code, 0 first, in the training rows.
    n_numeric_ : int
        Width of the numeric tensor: numbers or their pieces, then indicators, then one-hot columns.
    cardinalities_ : list of int
        Number of codes of each column of the categories tensor, code 0 included.
    feature_labels_ : list of str
        Names of the numeric tensor's columns.

    Notes
    -----
    A row is present unless all its cells are missing. A column without a value in the training
    rows is left out with a warning: nothing can be learnt from it, and a training fold may well
    have one. A column with one value in the training rows is kept as 0, whatever it holds later,
    with a warning (``scale=True``). A category that was not in the training rows has code 0, with
    a warning. A number missing at prediction takes the training median even where training rows
    missed none.

    Examples
    --------
    >>> import pandas as pd
    >>> from mmfusion.modalities import Tabular
    >>> patients = pd.DataFrame(
    ...     {"age": [61.0, 70.0, None, 52.0], "stage": ["II", "I", None, "III"]}
    ... )
    >>> table = Tabular(["age", "stage"], indicators=False).fit(patients)
    >>> data = table.transform(patients)
    >>> data.numeric[:, 0]
    tensor([ 0.0000,  1.2247,  0.0000, -1.2247])
    >>> data.categories[:, 0]
    tensor([2, 1, 0, 3])
    >>> data.present
    tensor([ True,  True, False,  True])
    """

    kind: ClassVar[str] = "table"

    columns: Sequence[Hashable] | None = None
    _: KW_ONLY
    categorical: str | Sequence[Hashable] = "auto"
    encoding: str = "embedding"
    scale: bool = True
    pieces: int | None = None
    indicators: bool = True
    encoder: Any = "mlp"
    hidden: Sequence[int] = (64,)
    dropout: float = 0.1

    def fit(self, frame: pd.DataFrame) -> Self:
        """Learn imputation, scaling and categories from the training rows.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)

        Returns
        -------
        Tabular

        Raises
        ------
        ValueError
            If a column is not in the table or holds neither numbers nor categories, a number is
            infinite, or no column holds a value.
        """
        require_frame(frame, "A modality")
        check_choice("encoding", self.encoding, ("embedding", "onehot"), "Tabular")
        check_number("pieces", self.pieces, 2, integer=True, allow_none=True)
        columns = frame.columns if self.columns is None else self.columns
        labels = list_labels(columns, "Tabular")
        numeric, categorical = self._split(frame, labels)
        values = numeric_matrix(frame, numeric)
        rounding = column_rounding(frame, numeric)
        missing = np.isnan(values)
        filled = ~missing.all(axis=0)
        used = {label for label, there in zip(numeric, filled, strict=True) if there}
        cells = dict(zip(categorical, _columns(frame, categorical), strict=True))
        used.update(label for label, column in cells.items() if column.notna().any())
        if not used:
            raise ValueError(
                f"Tabular needs a value in the training rows: columns {shorten(labels)} are "
                f"missing in all of the {len(frame)} rows."
            )
        unused = [label for label in labels if label not in used]
        if unused:
            warnings.warn(
                f"Tabular leaves out columns without a value in the training rows: "
                f"{shorten(unused)}.",
                stacklevel=2,
            )
        values, missing = values[:, filled], missing[:, filled]
        self.numeric_columns_ = [label for label in numeric if label in used]
        self.categorical_columns_ = [label for label in categorical if label in used]
        self.columns_ = self.numeric_columns_ + self.categorical_columns_
        self.categories_ = [_categories(cells[label]) for label in self.categorical_columns_]
        present = self._present(frame, missing)
        self._fit_numbers(values[present], rounding[filled])
        self._label_features(missing[present].any(axis=0))
        self.shares_ = [
            np.bincount(codes, minlength=len(known) + 1) / max(len(codes), 1)
            for codes, known in zip(self._codes(frame)[present].T, self.categories_, strict=True)
        ]
        return self

    def transform(self, frame: pd.DataFrame) -> TableData:
        """Return numbers, category codes and the presence mask of the rows.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)
            With the columns seen at fit, in any order; other columns are not read.

        Returns
        -------
        TableData

        Raises
        ------
        ValueError
            If a column is missing from the table, is no longer numeric, or holds an infinite
            value.
        """
        check_is_fitted(self, "columns_")
        require_frame(frame, "A modality")
        column_positions(frame, self.columns_)  # names all columns that are not there at once
        values = numeric_matrix(frame, self.numeric_columns_)
        missing = np.isnan(values)
        present = self._present(frame, missing)
        np.copyto(values, self.median_, where=missing)
        values = self.numbers(values)
        refuse_overflow(values, self.source_columns_, frame.index, "Tabular: scaled, ")
        indicated = set(self.indicator_columns_)
        codes = self._codes(frame)
        parts = [
            values,
            missing[:, [label in indicated for label in self.numeric_columns_]],
        ]
        if self.encoding == "onehot":
            parts += [
                codes[:, [i]] == np.arange(1, len(known) + 1)
                for i, known in enumerate(self.categories_)
            ]
            codes = codes[:, :0]
        return TableData(
            torch.from_numpy(np.concatenate(parts, axis=1, dtype=np.float32)),
            torch.from_numpy(codes),
            torch.from_numpy(present),
        )

    def numbers(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what is made of numbers without missing cells: in pieces, scaled.

        Parameters
        ----------
        values : ndarray of float64, shape (n, n_numeric_columns)

        Returns
        -------
        ndarray of float64, shape (n, n_source_columns)
            The first columns of the numeric tensor, before indicators and one-hot columns.
        """
        values = in_pieces(values, self.edges_)
        return (values - self.mean_) / self.scale_ if self.scale else values

    def _split(
        self, frame: pd.DataFrame, labels: list[Hashable]
    ) -> tuple[list[Hashable], list[Hashable]]:
        """Return the numeric and the categorical columns, in the table's or the user's order."""
        positions = column_positions(frame, labels)
        dtypes = frame.dtypes.to_numpy()[positions]
        if isinstance(self.categorical, str):
            check_choice("categorical", self.categorical, ("auto", "a list of columns"), "Tabular")
            listed = None
        else:
            listed = set(self.categorical)
            known = set(labels)
            strange = [label for label in self.categorical if label not in known]
            if strange:
                raise ValueError(
                    "The categorical parameter of Tabular must be 'auto' or a list of its columns. "
                    f"Got {shorten(strange)}, not among {shorten(labels)}."
                )
        numeric: list[Hashable] = []
        categorical: list[Hashable] = []
        for label, position, dtype in zip(labels, positions, dtypes, strict=True):
            if listed is not None:
                kind = "categorical" if label in listed else "numeric"
            elif isinstance(dtype, np.dtype) and dtype.kind in "biuf":
                kind = "numeric"
            else:
                kind = column_kind(frame.iloc[:, position])
                if kind == "categorical":
                    warn_of_text(frame.iloc[:, position])
            (categorical if kind == "categorical" else numeric).append(label)
        return numeric, categorical

    def _present(self, frame: pd.DataFrame, missing: NDArray[np.bool_]) -> NDArray[np.bool_]:
        present = np.asarray(~missing.all(axis=1))
        for column in _columns(frame, self.categorical_columns_):
            present |= column.notna().to_numpy(bool)
        return present

    def _fit_numbers(self, values: NDArray[np.float64], rounding: NDArray[np.float64]) -> None:
        self.median_ = column_moments(values).median
        filled = np.where(np.isnan(values), self.median_, values)
        moments = column_moments(filled, rounding=rounding)
        constant = [
            c for c, is_so in zip(self.numeric_columns_, moments.constant, strict=True) if is_so
        ]
        pieces = np.where(moments.constant, 1, self.pieces or 1)
        self.edges_ = piece_edges(values, pieces)
        counts = [max(len(edges) - 1, 1) for edges in self.edges_]
        self.source_columns_ = [
            c for c, n in zip(self.numeric_columns_, counts, strict=True) for _ in range(n)
        ]
        if self.pieces is not None:
            rounding = np.repeat(rounding, counts)
            moments = column_moments(in_pieces(filled, self.edges_), rounding=rounding)
        self.mean_ = moments.mean
        self.scale_ = np.where(moments.constant, np.inf, moments.sd)
        if constant and self.scale:
            warnings.warn(
                "Tabular sets columns with one value in the training rows to 0: "
                f"{shorten(constant)}.",
                stacklevel=3,
            )

    def _label_features(self, missed: NDArray[np.bool_]) -> None:
        self.indicator_columns_ = [
            label
            for label, some in zip(self.numeric_columns_, missed, strict=True)
            if some and self.indicators
        ]
        onehot = self.encoding == "onehot"
        self.feature_labels_ = piece_labels(self.numeric_columns_, self.edges_)
        self.feature_labels_ += [f"{label} missing" for label in self.indicator_columns_]
        if onehot:
            self.feature_labels_ += [
                f"{label}={category}"
                for label, known in zip(self.categorical_columns_, self.categories_, strict=True)
                for category in known
            ]
        self.n_numeric_ = len(self.feature_labels_)
        self.cardinalities_ = [] if onehot else [len(known) + 1 for known in self.categories_]

    def _codes(self, frame: pd.DataFrame) -> NDArray[np.int64]:
        codes = np.zeros((len(frame), len(self.categorical_columns_)), dtype=np.int64)
        for i, column in enumerate(_columns(frame, self.categorical_columns_)):
            there = column.notna().to_numpy(bool)
            cells = _hashable(column[there])
            cells = pd.Series([_plain(cell) for cell in cells], dtype=object)
            found = pd.Index(self.categories_[i], dtype=object).get_indexer(cells)
            codes[there, i] = found + 1
            unseen = cells[found < 0].unique()
            if len(unseen):
                warnings.warn(
                    f"Column {column.name!r} holds categories that were not in the training rows: "
                    f"{shorten(unseen)}. They are read as unknown.",
                    stacklevel=3,
                )
        return codes


def _columns(frame: pd.DataFrame, labels: Sequence[Hashable]) -> list[pd.Series]:
    return [frame.iloc[:, position] for position in column_positions(frame, labels)]


def _hashable(column: pd.Series) -> pd.Series:
    """Return a column as objects; raise ValueError if a cell cannot be a category."""
    cells = column.astype(object)
    for row, cell in cells.items():
        if not isinstance(cell, Hashable):
            raise ValueError(
                f"Column {cells.name!r} must hold categories (text or numbers). "
                f"Got {type(cell).__name__} in row {row!r}."
            )
    return cells


def _categories(column: pd.Series) -> list[Any]:
    """Return the distinct values of a column, sorted, as plain Python objects."""
    found = _hashable(column.dropna()).unique()
    try:
        values = sorted(found)
    except TypeError:  # numbers and text
        values = sorted(found, key=str)
    return list(dict.fromkeys(map(_plain, values)))


def _plain(cell: Any) -> Any:
    """Return a category as what a saved model can hold: text, a number, or a tuple of these."""
    if isinstance(cell, np.generic):
        cell = cell.item()
    return cell if isinstance(cell, str | Real | tuple) else str(cell)
