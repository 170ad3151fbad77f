"""Loading a saved estimator whose class one does not know."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mmfusion.inputs.parameters import check_choice

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
    manifest = Path(folder) / "model.json"
    if not manifest.is_file():
        raise FileNotFoundError(f"{folder} holds no saved estimator (model.json is missing).")
    try:
        name = json.loads(manifest.read_text(encoding="utf-8"))["class"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{manifest} is damaged: {error!r}") from error
    kinds = {kind.__name__: kind for kind in _below(FusionEstimator)}
    check_choice("class", name, kinds)
    return kinds[name].load(folder)


def _below(kind: Any) -> list[Any]:
    """Return the classes that are a kind of estimator; the package imports them all."""
    return [one for child in kind.__subclasses__() for one in (child, *_below(child))]
