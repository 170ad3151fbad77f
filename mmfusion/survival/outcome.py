"""The outcome of survival data: one array to pass around, one checker that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Self

import numpy as np
import pandas as pd

from mmfusion.inputs.labels import check_order
from mmfusion.inputs.messages import name_rows
from mmfusion.inputs.times import HOW_TO_COUNT, is_clock

__all__ = ["TIMEFIX", "Survival", "check_survival", "make_ties", "snap", "surv"]

#: Times closer than this, relative to their mean, are one: what ``all.equal`` of R takes.
TIMEFIX = float(np.sqrt(np.finfo(np.float64).eps))


@dataclass(frozen=True, eq=False)
class Survival:
    """A checked survival outcome: plain arrays, a row a subject.

    Attributes
    ----------
    time : ndarray of float64, shape (n,)
        Time of event or censoring, finite and not negative, in the unit the user chose.
    event : ndarray of bool or int64, shape (n,)
        Whether the event was seen; or the cause (0 is censored) where competing causes are allowed.
    entry : ndarray of float64, shape (n,)
        The row is observed on ``(entry, time]``; ``-inf`` where no entry time was given.
    upper : ndarray of float64, shape (n,), or None
        Where the event is known to lie in ``(time, upper]`` only; NaN of other rows. None where
        there is no such row.
    """

    time: np.ndarray
    event: np.ndarray
    entry: np.ndarray
    upper: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.time)

    @property
    def delayed(self) -> bool:
        """Whether entry times matter: some row enters at or after some row's exit.

        Where this is False every row is at risk from the first exit on, and the entry times may
        be ignored.
        """
        return len(self) > 0 and bool(self.entry.max() >= self.time.min())

    def take(self, rows: Any) -> Self:
        """Return the outcome of `rows` (an integer array, a boolean mask or a slice)."""
        upper = None if self.upper is None else self.upper[rows]
        return type(self)(self.time[rows], self.event[rows], self.entry[rows], upper)

    @property
    def between(self) -> np.ndarray:
        """Which rows have an event in an interval of time, bool, shape (n,)."""
        return np.zeros(len(self), dtype=bool) if self.upper is None else ~np.isnan(self.upper)

    def at_middle(self) -> Self:
        """Return the same outcome with events in the middle of the intervals that hold them."""
        if self.upper is None:
            return self
        time = np.where(self.between, 0.5 * (self.time + self.upper), self.time)
        return type(self)(time, self.event, self.entry)

    def to_structured(self) -> np.ndarray:
        """Return the structured array that `surv` makes; ``entry`` only if some row has one."""
        fields = [("event", self.event.dtype), ("time", np.float64)]
        has_entry = bool(np.isfinite(self.entry).any())
        if has_entry:
            fields.append(("entry", np.float64))
        if self.upper is not None:
            fields.append(("upper", np.float64))
        y = np.empty(len(self), dtype=fields)
        y["event"], y["time"] = self.event, self.time
        if has_entry:
            y["entry"] = self.entry
        if self.upper is not None:
            y["upper"] = self.upper
        return y


def surv(
    time: Any, event: Any, entry: Any = None, *, upper: Any = None, timefix: bool = True
) -> np.ndarray:
    """Make the outcome array that every survival estimator and metric here takes as ``y``.

    Parameters
    ----------
    time : array-like of number, shape (n,)
        Time of event or censoring, finite and not negative, in any unit.
    event : array-like, shape (n,)
        Whether the event was seen: bool, 0/1, or an integer cause (0 is censored, 1, 2, ...).
    entry : array-like of number, shape (n,), optional
        Time from which the row is observed (delayed entry, left truncation), before `time`.
        ``-inf`` means from the start.
    upper : array-like of number, shape (n,), optional
        Interval censoring: of a row with an event that is known to lie in ``(time, upper]`` only,
        the end of that interval. NaN, infinite or `time` itself of other rows. `FusionPAMM` reads
        it.
    timefix : bool, default True
        Whether times that are equal but for rounding are made equal, as in R's ``survival``: those
        next to each other whose difference is at most 1.5e-8 (the square root of the machine's
        precision) of the mean of all distinct times and entries become the smallest of them.
        Differences of ages in tenths of years otherwise have ties that are none. (R also takes any
        1.5e-8 apart for ties; this rule does not depend on the unit.) `False` takes times as they
        are.

    Returns
    -------
    ndarray, structured, shape (n,)
        Fields ``event`` (bool, or int64 where a cause is above 1), ``time`` (float64) and, where
        they were given, ``entry`` and ``upper`` (float64). scikit-learn cuts it into folds as any
        array, and scikit-survival reads the two-field form.

    Raises
    ------
    ValueError, TypeError
        As `check_survival`; an outcome without events is allowed here.

    Examples
    --------
    >>> from mmfusion.survival import surv
    >>> surv([5.0, 8.0, 2.5], [1, 0, 1])
    array([( True, 5. ), (False, 8. ), ( True, 2.5)],
          dtype=[('event', '?'), ('time', '<f8')])
    """
    given = (time, event) if entry is None else (time, event, entry)
    outcome = check_survival(given, allow_competing=True, require_events=False, timefix=timefix)
    if outcome.event.max() <= 1:
        outcome = replace(outcome, event=outcome.event.astype(bool))
    if upper is not None:
        outcome = replace(outcome, upper=_check_upper(upper, outcome, "y", _Rows(None)))
    return outcome.to_structured()


def check_survival(
    y: Any,
    *,
    allow_competing: bool = False,
    allow_intervals: bool = False,
    allow_zero_time: bool = True,
    require_events: bool = True,
    index: Sequence[Any] | pd.Index | None = None,
    n_rows: int | None = None,
    name: str = "y",
    timefix: bool = True,
) -> Survival:
    """Read a survival outcome in any of its forms and check it.

    Parameters
    ----------
    y : structured array, DataFrame, tuple or Survival
        What `surv` makes; a structured array of two fields with any names, the event (bool or
        integer) first and the time second, as scikit-survival has it; a DataFrame with the columns
        ``time`` and ``event`` and perhaps ``entry``; ``(time, event)`` or ``(time, event, entry)``.
    allow_competing : bool, default False
        Whether the event may be an integer cause above 1. The result's ``event`` is then int64.
    allow_intervals : bool, default False
        Whether events may be known to lie in an interval only (``surv(..., upper=)``, or a
        DataFrame with the columns ``lower`` and ``upper``).
    allow_zero_time : bool, default True
        Whether a time of zero is allowed (a log-likelihood in log time has none).
    require_events : bool, default True
        Whether at least one event is needed.
    index : sequence, optional
        Labels of the rows for messages; by default `y`'s own index, else positions.
    n_rows : int, optional
        The number of rows of ``X``, which `y` must have too.
    name : str, default "y"
        What messages call the outcome.
    timefix : bool, default True
        Whether times that are equal but for rounding are made equal, as `surv` does. What `surv`
        made (fields ``event`` and ``time``) and a `Survival` are taken as they are.

    Returns
    -------
    Survival

    Raises
    ------
    ValueError
        No rows, different lengths, more than one dimension, no events; times that are missing,
        infinite, negative (or zero); events other than 0 and 1; an entry at or after its exit.
        The message names the first rows.
    TypeError
        Text, dates or other things that are not numbers; an object that is no outcome.

    Examples
    --------
    >>> from mmfusion.survival import check_survival
    >>> outcome = check_survival(([5.0, 8.0], [True, False]))
    >>> outcome.time, outcome.event, outcome.delayed
    (array([5., 8.]), array([ True, False]), False)
    """
    columns = _columns(y, name)
    check_order(**columns)
    if index is None:
        index = next((c.index for c in columns.values() if isinstance(c, pd.Series)), None)
    labels = None if index is None else np.asarray(index)
    lengths = {part: _length(column, part, name) for part, column in columns.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{part} has {n}" for part, n in lengths.items())
        raise ValueError(f"The parts of {name} must have the same length. Got: {found}.")
    n = lengths["time"]
    if n == 0:
        raise ValueError(f"The {name} parameter must have at least one row. Got none.")
    if n_rows is not None and n != n_rows:
        raise ValueError(
            f"The {name} parameter must have as many rows as X ({n_rows}). Got {n} rows."
        )
    if labels is not None and len(labels) != n:
        labels = None  # the labels of something else would mislead
    where = _Rows(labels)

    time = _numbers(columns["time"], f"Times in {name}", where)
    _refuse(np.isnan(time), f"Times in {name} must not be missing (NaN).", where)
    _refuse(np.isinf(time), f"Times in {name} must be finite.", where, time)
    _refuse(time < 0, f"Times in {name} must not be negative.", where, time)
    if not allow_zero_time:
        _refuse(time == 0, f"Times in {name} must be above zero here.", where)

    event = _numbers(columns["event"], f"Events in {name}", where)
    _refuse(np.isnan(event), f"Events in {name} must not be missing (NaN).", where)
    if allow_competing:
        wrong = (event < 0) | (event != np.floor(event)) | np.isinf(event)
        allowed = "0 (censored) or a whole number (the cause: 1, 2, ...)"
    else:
        wrong = (event != 0) & (event != 1)
        allowed = "0 or 1, or bool (this model knows no competing causes)"
    _refuse(wrong, f"Events in {name} must be {allowed}.", where, event)
    event = event.astype(np.int64 if allow_competing else bool)
    if require_events and not event.any():
        raise ValueError(
            f"The {name} parameter must have at least one event. Got {n} rows, all censored."
        )

    entry = np.full(n, -np.inf)
    if "entry" in columns:
        entry = _numbers(columns["entry"], f"Entry times in {name}", where)
        _refuse(np.isnan(entry), f"Entry times in {name} must not be missing (NaN).", where)
        message = f"Entry times in {name} must be before the time of event or censoring."
        _refuse(entry >= time, message, where, entry)
    if timefix and not _made_here(y):
        time, entry = make_ties(time, entry)
        message = f"Entry times in {name} must differ from the time of event or censoring by more "
        message += "than rounding (surv(..., timefix=False) takes them as they are)."
        _refuse(entry >= time, message, where, entry)
    outcome = Survival(time, event, entry)
    if "upper" not in columns:
        return outcome
    outcome = replace(outcome, upper=_check_upper(columns["upper"], outcome, name, where))
    if not allow_intervals and outcome.upper is not None:
        raise ValueError(
            f"Events in {name} must have a time of their own: this model knows no interval "
            f"censoring. Got an upper limit in {where.show(outcome.between, outcome.upper)}."
        )
    return outcome


def _check_upper(upper: Any, outcome: Survival, name: str, where: _Rows) -> np.ndarray | None:
    """Return where events end that lie in an interval, NaN elsewhere; None where none does."""
    values = _numbers(upper, f"Upper limits in {name}", where)
    if len(values) != len(outcome):
        raise ValueError(
            f"The parts of {name} must have the same length. Got: time has {len(outcome)}, upper "
            f"has {len(values)}."
        )
    finite = np.isfinite(values)
    message = f"Upper limits in {name} must not lie before the time."
    _refuse(finite & (values < outcome.time), message, where, values)
    message = f"Upper limits in {name} must be those of events: a censored row has none."
    _refuse(finite & (outcome.event == 0), message, where, values)
    known = finite & (values > outcome.time)
    return np.where(known, values, np.nan) if known.any() else None


def make_ties(time: np.ndarray, entry: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return times and entries, those that are equal but for rounding made equal; see `surv`.

    The rule of R's ``aeqSurv`` (Therneau, package survival, since 2.40), relative only.
    """
    known = np.unique(np.concatenate([time, entry[np.isfinite(entry)]]))
    tied = np.diff(known) <= TIMEFIX * np.abs(known).mean()
    if not tied.any():
        return time, entry
    first = known[np.concatenate([[True], ~tied])]

    def fixed(values: np.ndarray) -> np.ndarray:
        place = np.searchsorted(first, values, side="right") - 1
        return np.where(np.isfinite(values), first[place], values)

    return fixed(time), fixed(entry)


def snap(times: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return `times`, those that equal one of the `known` but for rounding as the known one.

    Parameters
    ----------
    times : ndarray of float64
    known : ndarray of float64, shape (k,)
        Ascending.
    """
    if not len(known):
        return times
    right = np.searchsorted(known, times).clip(max=len(known) - 1)
    left = (right - 1).clip(min=0)
    nearest = np.where(times - known[left] < known[right] - times, known[left], known[right])
    with np.errstate(invalid="ignore"):
        same = np.abs(times - nearest) <= TIMEFIX * np.abs(known).mean()
    return np.where(same, nearest, times)


def _made_here(y: Any) -> bool:
    """Return whether `y` is an outcome that `surv` may have made: it has decided about ties."""
    if isinstance(y, Survival):
        return True
    return isinstance(y, np.ndarray) and {"time", "event"} <= set(y.dtype.names or ())


def _columns(y: Any, name: str) -> dict[str, Any]:
    """Return the parts of an outcome by name, unchecked."""
    wanted = (
        "must be surv(time, event), a structured array of event and time, a DataFrame with the "
        "columns 'time' and 'event' (and 'entry'), or a tuple (time, event)"
    )
    if isinstance(y, Survival):
        parts = {"time": y.time, "event": y.event, "entry": y.entry}
        return parts if y.upper is None else parts | {"upper": y.upper}
    if isinstance(y, pd.DataFrame):
        found = list(y.columns)
        if {"lower", "upper"} <= set(found) <= {"lower", "upper", "entry"}:
            seen = np.isfinite(pd.to_numeric(y["upper"], errors="coerce").to_numpy(float))
            entry = {"entry": y["entry"]} if "entry" in found else {}
            return {"time": y["lower"], "event": seen, "upper": y["upper"], **entry}
        if not {"time", "event"} <= set(found) <= {"time", "event", "entry"} or len(found) > 3:
            raise ValueError(
                f"The columns of {name} must be 'time', 'event' and, for delayed entry, 'entry'. "
                f"Got {found}."
            )
        return {part: y[part] for part in ("time", "event", "entry") if part in found}
    if isinstance(y, np.ndarray) and y.dtype.names is not None:
        return _fields(y, name, wanted)
    if isinstance(y, (tuple, list)) and len(y) in (2, 3) and any(np.ndim(part) for part in y):
        return dict(zip(("time", "event", "entry"), y, strict=False))
    if y is None:
        raise ValueError(
            f"The {name} parameter {wanted}. Got None: survival analysis requires y to be passed, "
            "but the target y is None."
        )
    if np.ndim(y) == 1 and len(y) and isinstance(np.asarray(y).flat[0], (Real, np.bool_)):
        raise ValueError(
            f"The {name} parameter needs both times and events; a single column of numbers cannot "
            f"tell an event from censoring. Got {len(y)} numbers. Use surv(time, event)."
        )
    if np.ndim(y) >= 2:
        raise ValueError(
            f"The {name} parameter {wanted}. Got an array of shape {np.shape(y)}. "
            "Use surv(time, event) on its columns."
        )
    raise TypeError(f"The {name} parameter {wanted}. Got {type(y).__name__}.")


def _fields(y: np.ndarray, name: str, wanted: str) -> dict[str, Any]:
    """Return the parts of a structured array: by name where it has ours, else event first."""
    names = y.dtype.names or ()
    known = ("time", "event", "entry", "upper")
    if {"time", "event"} <= set(names) <= set(known):
        return {part: y[part] for part in known if part in names}
    kinds = y.dtype[0].kind + y.dtype[1].kind if len(names) == 2 else ""
    if kinds in ("bf", "bi", "bu", "if", "uf"):  # two integers would not tell which is which
        return {"time": y[names[1]], "event": y[names[0]]}
    raise ValueError(
        f"The {name} parameter {wanted}; a structured array with fields of other names has the "
        f"event (bool) first and the time second. Got fields {y.dtype.descr}."
    )


def _length(column: Any, part: str, name: str) -> int:
    shape = np.shape(column)
    if len(shape) != 1:
        found = f"shape {shape}" if shape else repr(column)
        raise ValueError(f"The {part} in {name} must have one dimension. Got {found}.")
    return int(shape[0])


def _numbers(column: Any, what: str, where: _Rows) -> np.ndarray:
    """Return a column as float64, missing as NaN; text and dates are refused."""
    if isinstance(column, pd.Series) and (
        pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_bool_dtype(column.dtype)
    ):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    array = np.asarray(column)
    if array.dtype.kind in "biuf":
        return array.astype(np.float64)
    if array.dtype.kind == "O":
        missing = pd.isna(array)
        # NumPy calls a timedelta64 an integer.
        is_number = np.array(
            [isinstance(v, (Real, np.bool_)) and not isinstance(v, np.timedelta64) for v in array]
        )
        odd = ~missing & ~is_number
        if odd.any():
            advice = f" ({HOW_TO_COUNT})" if is_clock(array[odd]) else ""
            raise TypeError(f"{what} must be numbers. Got {where.show(odd, array)}{advice}.")
        return np.where(missing, np.nan, array).astype(np.float64)
    raise TypeError(
        f"{what} must be numbers. Got dtype {array.dtype}, for example {array[0]!r}"
        + (f" ({HOW_TO_COUNT})." if array.dtype.kind in "mM" else ".")
    )


@dataclass(frozen=True)
class _Rows:
    """Names rows in messages."""

    labels: np.ndarray | None

    def show(self, rows: np.ndarray, values: np.ndarray | None = None) -> str:
        named = name_rows(self.labels, rows, values)
        return ("row " if np.count_nonzero(rows) == 1 else "rows ") + named


def _refuse(
    wrong: np.ndarray, message: str, where: _Rows, values: np.ndarray | None = None
) -> None:
    if wrong.any():
        raise ValueError(f"{message} Got {where.show(wrong, values)}.")
