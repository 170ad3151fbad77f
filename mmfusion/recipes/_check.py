"""Checks of what a recipe is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmfusion.encoders import has_own_width

__all__ = ["check_kinds", "unprojected"]


def check_kinds(parameter: str, modalities: Mapping[str, Any], kinds: Mapping[str, str]) -> None:
    """Raise TypeError unless each named modality is of its kind ("image", "table", "points")."""
    for name, kind in kinds.items():
        found = modalities[name]
        if getattr(found, "kind", None) != kind:
            raise TypeError(
                f"The {parameter} parameter must be a modality of {kind}s. Got {found!r}."
            )


def unprojected(modalities: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the options that pool embeddings as they are, where they have one width to do so."""
    own = any(map(has_own_width, modalities.values()))
    return None if own else {"project": False}
