"""A pretended network: what it serves is what a test puts into it."""

from __future__ import annotations

import io
import zipfile
from typing import Self
from urllib.error import URLError
from urllib.request import Request


class Reply(io.BytesIO):
    """What urlopen returns: bytes and headers."""

    def __init__(self, content: bytes, length: int | None) -> None:
        super().__init__(content)
        self.headers = {} if length is None else {"Content-Length": str(length)}

    def __enter__(self) -> Self:
        return self


class Network:
    """Serves `files` (URL to bytes), as if cut to `lengths`; counts what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.lengths: dict[str, int] = {}
        self.asked: list[str] = []

    def urlopen(self, request: Request, timeout: float) -> Reply:
        assert timeout > 0
        url = request.full_url
        self.asked.append(url)
        if url not in self.files:
            raise URLError("Name or service not known")
        content = self.files[url]
        return Reply(content, self.lengths.get(url, len(content)))


def zip_of(files: dict[str, bytes], comment: str = "") -> bytes:
    """Return a zip file of `files` (name to bytes), with a comment."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.comment = comment.encode()
    return buffer.getvalue()
