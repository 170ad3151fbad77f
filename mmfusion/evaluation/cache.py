"""Scores of a model and fold on disk, so that an interrupted comparison goes on."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

__all__ = ["FoldCache"]


class FoldCache:
    """A folder with one JSON file a model and fold, named by what it was computed from.

    A file appears whole or not at all, so that several processes may write.

    Parameters
    ----------
    folder : path
        Made if it does not exist.

    Raises
    ------
    ValueError
        If `folder` is a file.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"The cache parameter must be a folder. Got the file {folder!r}.")
        self.folder.mkdir(parents=True, exist_ok=True)

    def read(self, key: str) -> dict[str, Any] | None:
        """Return what was written under `key`; None if nothing was, or (with a warning) damaged."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["digest"] != _digest(kept["entry"]):
                raise ValueError("its digest does not match")
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(
                f"The cache entry {path.name} in {self.folder} is damaged ({error}): it is "
                "computed again.",
                UserWarning,
                stacklevel=3,
            )
            return None
        return kept["entry"]

    def write(self, key: str, entry: dict[str, Any]) -> None:
        """Keep an entry of plain values under `key`."""
        path = self._path(key)
        unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
        text = json.dumps({"digest": _digest(entry), "entry": entry})
        unfinished.write_text(text, encoding="utf-8")
        os.replace(unfinished, path)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def _digest(entry: Any) -> str:
    return hashlib.sha256(json.dumps(entry).encode()).hexdigest()
