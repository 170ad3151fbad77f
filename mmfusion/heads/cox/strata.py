"""Labels of strata: learned at fit, looked up afterwards."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from mmfusion.inputs.labels import check_labels
from mmfusion.inputs.messages import shorten

__all__ = ["encode_strata", "learn_strata"]


def learn_strata(strata: Any, n: int, index: Any = None) -> np.ndarray:
    """Return the distinct labels, sorted, as a numeric or unicode array.

    Raises
    ------
    ValueError
        If there is not one label a row, or one is missing; the message names the rows.
    TypeError
        If the labels are neither all text nor all numbers.
    """
    return np.unique(_labels(strata, n, index))


def encode_strata(strata: Any, n: int, known: np.ndarray, index: Any = None) -> np.ndarray:
    """Return the position of each label among the `known`, as int64.

    Raises
    ------
    ValueError, TypeError
        As `learn_strata`; and if a label is not among the `known`.
    """
    labels = _labels(strata, n, index)
    found = np.unique(labels)
    seen = set(known.tolist())
    unseen = [label for label in found.tolist() if label not in seen]
    if unseen:
        raise ValueError(
            f"The strata parameter must hold strata seen at fit: {shorten(known.tolist())}. "
            f"Got {shorten(unseen)}."
        )
    return np.searchsorted(known, labels).astype(np.int64)


def _labels(strata: Any, n: int, index: Any) -> np.ndarray:
    labels = check_labels(strata, n, "strata", index)
    if labels.dtype.kind == "O":
        if all(isinstance(label, str) for label in labels):
            return labels.astype(np.str_)
        if all(isinstance(label, Real | np.bool_) for label in labels):
            labels = np.array(labels.tolist())
    if labels.dtype.kind not in "biufU":
        raise TypeError(
            "The strata parameter must hold labels that are all text or all numbers. "
            f"Got {shorten(sorted({type(label).__name__ for label in labels.tolist()}))}."
        )
    return labels
