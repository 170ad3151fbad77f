"""Saving several fitted estimators in one folder, a numbered folder each."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ._persistence import TOGETHER as MANIFEST
from ._persistence import _replace, load_one_of, target_of

__all__ = ["MANIFEST", "load_together", "save_together"]

#: Raised by one when a folder written by this code cannot be read by the code before it.
FORMAT = 1


def save_together(members: Sequence[Any], folder: Path) -> None:
    """Save each member into a numbered folder; the whole appears at once or not at all.

    Raises
    ------
    ValueError
        A folder that holds something else, or is the working directory; what
        `FusionEstimator.save` raises.
    """
    folder = target_of(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    private = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        part = private / "new"
        part.mkdir()
        for number, member in enumerate(members):
            member.save(part / str(number))
        manifest = {"format": FORMAT, "members": len(members)}
        (part / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
        _replace(folder, part)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def load_together(base: type, folder: Path) -> list[Any]:
    """Return the members that `save_together` wrote, estimators of a kind.

    Raises
    ------
    FileNotFoundError
        If `folder` holds no saved ensemble.
    ValueError
        Another format, or a member that is damaged.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise FileNotFoundError(f"{folder} holds no saved ensemble ({MANIFEST} is missing).")
    try:
        known = json.loads(manifest.read_text(encoding="utf-8"))
        version, count = known["format"], int(known["members"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{manifest} is damaged: {error!r}") from error
    if version != FORMAT:
        raise ValueError(f"{folder} has format {version!r}; this version reads {FORMAT}.")
    return [load_one_of(base, folder / str(number)) for number in range(count)]
