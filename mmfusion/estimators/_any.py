"""Loading a saved estimator whose class one does not know."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ._persistence import load_one_of
from .base import FusionEstimator

__all__ = ["load"]


def load(folder: str | os.PathLike[str]) -> Any:
    """Load an estimator that its ``save`` wrote, whichever it is.

    Parameters
    ----------
    folder : path

    Returns
    -------
    estimator
        Fitted; see `FusionCox.load`.

    Raises
    ------
    FileNotFoundError
        If `folder` holds no saved estimator.
    ValueError
        If it is none of the estimators, or damaged.
    """
    return load_one_of(FusionEstimator, Path(folder))
