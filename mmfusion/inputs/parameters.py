"""Parameters of estimators and of what is given to them: numbers, choices, names, layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from mmfusion.inputs.messages import did_you_mean

__all__ = [
    "check_choice",
    "check_dropout",
    "check_hidden",
    "check_names",
    "check_number",
    "is_count",
    "is_number",
]

#: What Python or NumPy calls an integer, and nobody else.
NO_NUMBERS = (bool, np.timedelta64)


def is_number(value: Any) -> bool:
    """Return whether `value` is a real number and no bool."""
    return isinstance(value, Real) and not isinstance(value, NO_NUMBERS)


def is_count(value: Any, least: int = 1) -> bool:
    """Return whether `value` is an integer of at least `least`, and no bool."""
    return isinstance(value, Integral) and not isinstance(value, NO_NUMBERS) and int(value) >= least


def check_number(
    name: str,
    value: Any,
    low: float,
    high: float = float("inf"),
    *,
    integer: bool = False,
    allow_none: bool = False,
    open_ends: str = "",
) -> None:
    """Raise unless `value` is a number in the interval; `open_ends` names "low", "high" or both."""
    if value is None and allow_none:
        return
    noun = ("an integer" if integer else "a number") + (" or None" if allow_none else "")
    if not is_number(value) or (integer and not isinstance(value, Integral)):
        raise TypeError(f"The {name} parameter must be {noun}. Got {value!r}.")
    below = value <= low if "low" in open_ends else value < low
    above = value >= high if "high" in open_ends else value > high
    if below or above or value != value:
        left, right = "(" if "low" in open_ends else "[", ")" if "high" in open_ends else "]"
        raise ValueError(
            f"The {name} parameter must be {noun} in {left}{low}, {high}{right}. Got {value!r}."
        )


def check_choice(name: str, value: Any, choices: Iterable[Any], owner: str = "") -> None:
    """Raise unless `value` is one of the `choices` (text, or None), with the nearest one named.

    `owner` is what has the parameter, where that is not the estimator.
    """
    choices = tuple(choices)
    if any(value is choice or value == choice for choice in choices):
        return
    of = f" of {owner}" if owner else ""
    raise ValueError(
        f"The {name} parameter{of} must be one of {', '.join(map(repr, choices))}. "
        f"Got {value!r}.{did_you_mean(value, choices)}"
    )


def check_names(parameter: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise unless all `names`, those of `parameter`, are of `known` modalities."""
    known = list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"The {parameter} parameter must name modalities of the model, which are {known}. "
            f"Got {unknown[0]!r}.{did_you_mean(unknown[0], known)}"
        )


def check_hidden(owner: str, hidden: Any, least: int = 0) -> None:
    """Raise ValueError unless `hidden` holds the widths of `least` layers or more."""
    if (
        not isinstance(hidden, Sequence)
        or len(hidden) < least
        or not all(is_count(width) for width in hidden)
    ):
        some = "one positive integer or more" if least else "positive integers"
        raise ValueError(
            f"The hidden parameter of {owner} must be a tuple of {some}. Got {hidden!r}."
        )


def check_dropout(owner: str, dropout: Any) -> None:
    """Raise ValueError unless `dropout` is the share of units that a layer may drop."""
    if not is_number(dropout) or not 0 <= float(dropout) < 1:
        raise ValueError(
            f"The dropout parameter of {owner} must be a number in [0, 1). Got {dropout!r}."
        )
