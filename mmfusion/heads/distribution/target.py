"""An outcome of which a value, or only an interval that holds it, is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.utils.validation import check_array, column_or_1d
from torch import Tensor

from mmfusion.heads.base import Target
from mmfusion.heads.families import Family
from mmfusion.heads.missing import refuse_missing
from mmfusion.inputs.messages import name_rows
from mmfusion.survival import Survival, check_survival

__all__ = [
    "BETWEEN",
    "EXACT",
    "LATE",
    "LEFT",
    "NOTHING",
    "RIGHT",
    "DistributionTarget",
    "Limits",
    "encode",
    "read",
]

#: What is known of a row: its value; that it is more than `lower`; at most `upper`; both; nothing.
EXACT, RIGHT, LEFT, BETWEEN, NOTHING = range(5)
#: Of `DistributionTarget.rows_of`: rows that are seen late, whatever else is known.
LATE = -1


@dataclass
class DistributionTarget(Target):
    """Values, or intervals ``(lower, upper]`` that hold them.

    Attributes
    ----------
    lower, upper : Tensor of float64, shape (n,)
        Both the value, where it is known. A number of the support where there is no limit.
    kind : Tensor of int64, shape (n,)
        EXACT, RIGHT, LEFT, BETWEEN or NOTHING.
    entry : Tensor of float64, shape (n,)
        The row is seen only because its value is more than this.
    late : Tensor of bool, shape (n,)
        Whether that says anything.
    exact : bool
        Whether every value is known, and none is seen late.
    """

    lower: Tensor
    upper: Tensor
    kind: Tensor
    entry: Tensor
    late: Tensor
    exact: bool = False

    def rows_of(self, kind: int) -> Tensor:
        """Return the rows of a kind, or those seen late (`LATE`), which are looked for once."""
        found: dict[int, Tensor] = self.__dict__.setdefault("_rows", {})
        if kind not in found:
            which = self.late if kind == LATE else self.kind == kind
            found[kind] = torch.nonzero(which)[:, 0]
        return found[kind]

    def middle(self) -> Tensor:
        """Return a value for each row: the known one, or one that its limits allow."""
        middle = 0.5 * (self.lower + self.upper)
        value = torch.where(self.kind == BETWEEN, middle, self.lower)
        return torch.where(self.kind == LEFT, self.upper, value)


@dataclass(frozen=True)
class Limits:
    """What `read` found: limits as they were given, and whether they are times of survival."""

    lower: np.ndarray
    upper: np.ndarray
    entry: np.ndarray
    survival: bool


def read(y: Any, family: Family, index: Any, n_rows: int | None = None) -> Limits:
    """Read an outcome in any of its forms and check it against the support.

    Parameters
    ----------
    y : array-like, DataFrame or survival outcome, of n rows
        Numbers; a DataFrame with the columns ``lower`` and ``upper``, perhaps ``entry``, equal
        where a value is known, infinite where there is no limit; what `mmfusion.survival.surv`
        makes.
    family : Family
    index : sequence or None
        Labels of the rows for messages.

    Raises
    ------
    ValueError, TypeError
        Naming the row and its value.
    """
    if isinstance(y, pd.DataFrame) and {"lower", "upper"} <= set(y.columns):
        limits = _limits(y, family, index)
    elif _is_survival(y):
        limits = _survival(check_survival(y, allow_intervals=True, require_events=False))
    else:
        refuse_missing(y, index)
        values = family.numbers(y)
        _refuse_text(values, family, index)
        values = check_array(values, ensure_2d=False, dtype=np.float64, input_name="y")
        values = column_or_1d(values, warn=True)
        nothing = np.full(len(values), -np.inf)
        limits = Limits(values, values, nothing, survival=False)
    known = limits.lower == limits.upper
    wrong = known & ~family.allowed(limits.lower)
    if wrong.any():
        raise ValueError(
            f"Values of y must be {family.says()} with this family. "
            f"Got row(s) {name_rows(index, wrong, limits.lower)}."
        )
    return limits


def _refuse_text(values: Any, family: Family, index: Any) -> None:
    """Raise where cells are no numbers."""
    cells = np.asarray(values)
    if cells.dtype.kind in "biuf" or cells.ndim == 0:
        return
    column = pd.Series(cells.reshape(len(cells), -1)[:, 0])
    if family.named:  # what has no name among the levels, be it a digit
        text = column.map(lambda cell: isinstance(cell, str)).to_numpy(dtype=bool)
    else:
        text = (pd.to_numeric(column, errors="coerce").isna() & column.notna()).to_numpy()
    if text.any():
        rows = range(len(cells)) if index is None or len(index) != len(cells) else index
        raise ValueError(
            f"Values of y must be {family.says()} with this family. Got "
            f"{column[text].iloc[0]!r} in row(s) {name_rows(rows, text)}."
        )


def _is_survival(y: Any) -> bool:
    if isinstance(y, Survival):
        return True
    if isinstance(y, pd.DataFrame):
        return {"time", "event"} <= set(y.columns)
    if isinstance(y, tuple):
        return len(y) in (2, 3) and all(np.ndim(part) == 1 for part in y)
    return getattr(y, "dtype", None) is not None and getattr(y.dtype, "names", None) is not None


def _survival(outcome: Survival) -> Limits:
    seen = outcome.event.astype(bool)
    upper = np.where(seen, outcome.time, np.inf)
    if outcome.upper is not None:
        upper = np.where(outcome.between, outcome.upper, upper)
    return Limits(outcome.time, upper, outcome.entry, survival=True)


def _limits(y: pd.DataFrame, family: Family, index: Any) -> Limits:
    """Read limits; those of a discrete family include both ends."""
    more = set(y.columns) - {"lower", "upper", "entry"}
    if more:
        raise ValueError(
            "An outcome y of limits must have the columns 'lower', 'upper' and perhaps 'entry'. "
            f"Got {sorted(map(str, more))} too."
        )
    columns = {}
    for name in y.columns:
        columns[name] = pd.to_numeric(y[name]).to_numpy(dtype=np.float64)
        missing = np.isnan(columns[name])
        if missing.any():
            raise ValueError(
                f"Column {name!r} of y must hold numbers, infinite where there is no limit. Got "
                f"NaN in row(s) {name_rows(index, missing)}."
            )
    lower, upper = columns["lower"], columns["upper"]
    entry = columns.get("entry", np.full(len(y), -np.inf))
    for wrong, message in (
        (lower > upper, "Column 'lower' of y must not be above 'upper'"),
        (np.isinf(lower) & (lower == upper), "Limits in y must not be infinite on the same side"),
        ((entry >= upper) | ((lower == upper) & (entry >= lower)), "'entry' must be below the row"),
    ):
        if wrong.any():
            raise ValueError(f"{message}. Got row(s) {name_rows(index, wrong, lower)}.")
    if family.discrete:  # an interval is open below
        lower = np.where(lower < upper, np.nextafter(lower, -np.inf), lower)
    times = family.support == (0.0, np.inf) and not family.discrete
    return Limits(lower, upper, entry, survival=times)


def encode(limits: Limits, family: Family, weight: Tensor) -> DistributionTarget:
    """Return limits as tensors: one at an end of the support, or beyond, is none."""
    low, high = family.support
    known = limits.lower == limits.upper
    # Seen only beyond its entry, a row is known to lie there.
    start = np.where(known, limits.lower, np.maximum(limits.lower, limits.entry))
    under = start < low if family.discrete else start <= low
    over = limits.upper >= high
    kind = np.select(
        [known, under & over, over, under], [EXACT, NOTHING, RIGHT, LEFT], default=BETWEEN
    )
    lower = np.where(np.isin(kind, (LEFT, NOTHING)), limits.upper, start)
    upper = np.where(np.isin(kind, (RIGHT, NOTHING)), start, limits.upper)
    lower, upper = (np.where(kind == NOTHING, family._inside, v) for v in (lower, upper))
    late = limits.entry >= low if family.discrete else limits.entry > low
    entry = np.where(late, limits.entry, family._inside)
    exact = bool((kind == EXACT).all() and not late.any())
    arrays = {"lower": lower, "upper": upper, "kind": kind, "entry": entry, "late": late}
    tensors = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in arrays.items()}
    return DistributionTarget(weight, **tensors, exact=exact)
