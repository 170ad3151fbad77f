"""The archive of a repository at a commit."""

from __future__ import annotations

import zipfile
from pathlib import Path

from mmfusion.datasets._checks import ChecksumError


def open_archive(path: Path, commit: str) -> zipfile.ZipFile:
    """Open the zip file of a repository, and see that it is of the commit asked for.

    ``git archive`` writes the commit's full hash into the comment of the zip file.

    Raises
    ------
    ChecksumError
        The file is no zip file, or of another commit.
    """
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ChecksumError(f"{path.name} is not a zip file.") from error
    found = archive.comment.decode("ascii", errors="replace")
    if not found.startswith(commit):
        archive.close()
        raise ChecksumError(f"{path.name} is of commit {found!r}, expected {commit!r}.")
    return archive
