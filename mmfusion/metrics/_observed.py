"""What is known of the outcomes that a predictive distribution is judged by: a value, or bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.inputs.messages import name_rows
from mmfusion.survival import Survival, check_survival

__all__ = ["Observed", "at", "check_exact"]


@dataclass(frozen=True, eq=False)
class Observed:
    """Outcomes known to lie in ``(lower, upper]``; where the two are equal, the value itself.

    Attributes
    ----------
    lower, upper : ndarray of float64, shape (n,)
        `upper` is inf of a row that is censored on the right, `lower` -inf of one on the left.
    entry : ndarray of float64, shape (n,)
        The row was seen only because its outcome is above this; -inf where any would be seen.
    """

    lower: np.ndarray
    upper: np.ndarray
    entry: np.ndarray

    @classmethod
    def read(cls, y: Any, distribution: Any = None) -> Observed:
        """Read numbers, a survival outcome in any of its forms, or a DataFrame of limits.

        Its columns are ``lower`` and ``upper``, equal where the value is known and infinite where
        there is no limit, and perhaps ``entry``. Those of a count include both ends.
        """
        if isinstance(y, pd.DataFrame) and {"lower", "upper"} <= set(y.columns):
            return cls._limits(y, bool(getattr(distribution, "discrete", False)))
        if _is_survival(y):
            outcome = check_survival(y, allow_intervals=True, require_events=False)
            known = outcome.time if outcome.upper is None else outcome.upper
            upper = np.where(outcome.event, np.where(outcome.between, known, outcome.time), np.inf)
            return cls(outcome.time, upper, outcome.entry)
        # Levels have the numbers that their family gives them.
        numbers = getattr(getattr(distribution, "family", None), "numbers", None)
        values = _numbers(y if numbers is None else numbers(y), "y")
        wrong = ~np.isfinite(values)
        if wrong.any():
            raise ValueError(
                "The y parameter must not be missing or infinite. Got some in rows "
                f"{name_rows(y.index if isinstance(y, pd.Series) else None, wrong)}."
            )
        return cls(values, values, np.full(len(values), -np.inf))

    @classmethod
    def _limits(cls, y: pd.DataFrame, discrete: bool) -> Observed:
        lower, upper = (y[name].to_numpy(np.float64) for name in ("lower", "upper"))
        entry = y["entry"].to_numpy(np.float64) if "entry" in y else np.full(len(y), -np.inf)
        wrong = ~(lower <= upper) | (np.isinf(lower) & (lower == upper)) | ~(entry < upper)
        if wrong.any():
            raise ValueError(
                "The limits in y must be numbers, lower not above upper and entry below it. "
                f"Got others in rows {name_rows(y.index, wrong)}."
            )
        if discrete:  # an interval is open below
            lower = np.where(lower < upper, np.nextafter(lower, -np.inf), lower)
        return cls(np.maximum(lower, np.where(lower < upper, entry, -np.inf)), upper, entry)

    def __len__(self) -> int:
        return len(self.lower)

    @property
    def exact(self) -> np.ndarray:
        """Which rows' values are known, bool, shape (n,)."""
        return self.lower == self.upper

    @property
    def delayed(self) -> np.ndarray:
        """Which rows would not have been seen at every value, bool, shape (n,)."""
        return np.isfinite(self.entry)


def check_exact(y: Any, what: str) -> np.ndarray:
    """Return outcomes as float64, shape (n,); refuse those that are known by bounds only."""
    observed = Observed.read(y)
    if not observed.exact.all():
        raise ValueError(
            f"{what} needs outcomes without censoring. Got {(~observed.exact).sum()} of "
            f"{len(observed)} rows that are censored."
        )
    return observed.lower


def at(distribution: Any, method: str, values: np.ndarray) -> np.ndarray:
    """Return what a method of a predictive distribution says at a value a row, or several.

    Raises
    ------
    ValueError
        If the distribution has another number of rows than the outcome.
    """
    rows = len(distribution) if hasattr(distribution, "__len__") else len(values)
    if rows != len(values):
        raise ValueError(_wrong_rows(values, f"{rows} rows"))
    found = np.asarray(getattr(distribution, method)(values), dtype=np.float64)
    if found.shape != values.shape:
        raise ValueError(_wrong_rows(values, f"shape {found.shape}"))
    return found


def _wrong_rows(values: np.ndarray, found: str) -> str:
    return (
        f"The distribution parameter must have a row for each of the {len(values)} outcomes, and "
        f"say a number for each. Got {found}."
    )


def _is_survival(y: Any) -> bool:
    if isinstance(y, Survival | pd.DataFrame):
        return True
    if isinstance(y, tuple) and len(y) in (2, 3):
        return all(np.ndim(part) == 1 for part in y)
    return getattr(getattr(y, "dtype", None), "names", None) is not None


def _numbers(values: Any, name: str) -> np.ndarray:
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"The {name} parameter must hold numbers. Got {type(values)}.") from error
    if found.ndim != 1 or not len(found):
        raise ValueError(
            f"The {name} parameter must have one value a row, shape (n,). Got {found.shape}."
        )
    return found
