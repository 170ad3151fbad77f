"""What a file asks for: a table, an outcome, an estimator, and where results go."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.cli.document import Document
from mmfusion.cli.tables import read_table
from mmfusion.inputs.messages import did_you_mean, shorten

__all__ = ["Job"]

KEYS = (
    *("data", "outcome", "estimator", "modalities", "fusion", "structured", "parameters"),
    *("output", "evaluate", "tune", "report"),
)
OUTCOME = ("time", "event", "entry", "column")
DATA = ("file", "index", "columns")


@dataclass(frozen=True, eq=False)
class Job:
    """A configuration file, read and checked as far as it can be without its data.

    Attributes
    ----------
    document : Document
    test : Path, optional
        A table that takes the place of the file's own.
    """

    document: Document
    test: Path | None = None

    @classmethod
    def read(cls, path: Path, test: Path | None = None) -> Job:
        """Read a configuration file.

        Raises
        ------
        ConfigError
            What is wrong with it, with the line.
        """
        document = Document.read(path)
        document.check_keys((), KEYS, "The file", ("data", "outcome"))
        data = document.values["data"]
        if not isinstance(data, str):
            document.check_keys(("data",), DATA, "data", ("file",))
            if not isinstance(data["file"], str):
                raise document.error(("data", "file"), "file must be the name of a file.")
        if isinstance(document.values.get("output"), list | dict):
            raise document.error(("output",), "output must be the name of a folder.")
        if not isinstance(document.values["outcome"], str):
            document.check_keys(("outcome",), OUTCOME, "outcome")
        job = cls(document, test)
        if ("time" in job.outcome) != ("event" in job.outcome) or (
            ("column" in job.outcome) == ("time" in job.outcome)
        ):
            raise document.error(
                ("outcome",),
                "outcome must have time and event (and perhaps entry), or name a column.",
            )
        return job

    @property
    def outcome(self) -> dict[str, Any]:
        """The columns of the outcome by their role."""
        given = self.document.values["outcome"]
        return {"column": given} if isinstance(given, str) else dict(given)

    @property
    def survival(self) -> bool:
        """Whether the outcome is survival."""
        return "time" in self.outcome

    @property
    def source(self) -> Path:
        """The table's file; relative paths start from the folder of the configuration."""
        if self.test is not None:
            return self.test.absolute()
        given = self.document.values["data"]
        return (self._base / (given if isinstance(given, str) else given["file"])).absolute()

    @property
    def output(self) -> Path:
        """The folder of results; by default beside the configuration, with its name."""
        name = self.document.values.get("output") or self.document.path.stem
        return (self._base / str(name)).absolute()

    @property
    def _base(self) -> Path:
        return self.document.path.parent

    @cached_property
    def table(self) -> pd.DataFrame:
        """The whole table, its rows named by the index column where there is one."""
        place = ("data", "file") if isinstance(self.document.values["data"], dict) else ("data",)
        index = self.document.at(("data",))["index"] if self._says("index") else None
        try:
            table = read_table(self.source, index)
        except (ValueError, OSError) as error:
            if self.test is not None:
                raise
            raise self.document.error(place, str(error)) from error
        if index is not None:
            self._check_column(table, index, ("data", "index"))
            table = table.set_index(index)
        return table

    @cached_property
    def X(self) -> pd.DataFrame:
        """The table without the outcome; only the columns that are named, where some are."""
        table = self.table.drop(columns=self.y_columns)
        if not self._says("columns"):
            return table
        columns = self.document.at(("data", "columns"))
        if not isinstance(columns, list):
            raise self.document.error(("data", "columns"), "columns must be a list of columns.")
        for number, column in enumerate(columns):
            if column in self.y_columns:
                message = f"Column {column!r} is of the outcome: leave it out of the columns."
                raise self.document.error(("data", "columns", number), message)
            self._check_column(table, column, ("data", "columns", number))
        return table[columns]

    @cached_property
    def y(self) -> Any:
        """The outcome as the estimators take it."""
        from mmfusion.survival import surv

        values = {role: self.table[column] for role, column in self._columns.items()}
        if not self.survival:
            column = values["column"]
            if column.isna().any():
                rows = shorten(column.index[column.isna()])
                message = f"The outcome {column.name!r} is missing in rows {rows}."
                raise self.document.error(("outcome",), message)
            return column.to_numpy()
        try:
            return surv(*(values.get(role) for role in ("time", "event", "entry")))
        except (ValueError, TypeError) as error:
            raise self.document.error(("outcome",), str(error)) from error

    @property
    def y_columns(self) -> list[str]:
        """The columns of the outcome, checked."""
        return list(self._columns.values())

    @property
    def _columns(self) -> dict[str, Any]:
        given = self.document.values["outcome"]
        for role, column in self.outcome.items():
            place = ("outcome",) if isinstance(given, str) else ("outcome", role)
            self._check_column(self.table, column, place)
        return self.outcome

    def estimator(self) -> Any:
        """Return the estimator, not fitted.

        Raises
        ------
        ConfigError
            What is wrong with it; an estimator of another kind of outcome.
        """
        from mmfusion.cli.build import ESTIMATORS, build_estimator

        curves = [n for n, kind in ESTIMATORS.items() if hasattr(kind, "predict_survival_function")]
        if not self.survival and self.document.values.get("estimator") is None:
            others = shorten([name for name in ESTIMATORS if name not in curves])
            message = f"An outcome of one column needs an estimator, one of {others}."
            raise self.document.error(("outcome",), message)
        estimator = build_estimator(self.document, "FusionCox")
        if self.survival and type(estimator).__name__ not in curves:
            message = f"An outcome of time and event is for one of {shorten(curves, 20)}."
            raise self.document.error(("estimator",), message)
        return estimator

    def section(
        self, name: str, types: Any = (), known: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """Return the entries of a command's own section, objects made; {} without one.

        Parameters
        ----------
        name : str
        types : iterable of class, default=()
            What its entries may have as their type, beside what the estimator's may.
        known : iterable of str, optional
            The entries that it may have.

        Raises
        ------
        ConfigError
            What is wrong with it, with the line.
        """
        from mmfusion.cli.build import TYPES, build

        if self.document.values.get(name) is None:
            return {}
        if not isinstance(self.document.values[name], dict):
            raise self.document.error((name,), f"{name} must be a mapping.")
        if known is not None:
            self.document.check_keys((name,), known, name)
        return dict(build(self.document, (name,), TYPES | {t.__name__: t for t in types}))

    def _says(self, key: str) -> bool:
        data = self.document.values["data"]
        return isinstance(data, dict) and data.get(key) is not None

    def _check_column(self, table: pd.DataFrame, column: Any, place: tuple[Any, ...]) -> None:
        if not np.isscalar(column) or column not in table.columns:
            known = table.columns
            message = f"The table has no column {column!r}; it has {shorten(known, 8)}."
            raise self.document.error(place, message + did_you_mean(column, known))
