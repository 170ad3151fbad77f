"""Where data sets lie on this machine, and how they get there: one way for every loader.

A data set is a folder of files. It is looked for in ``MMFUSION_DATA`` and in the user's data
folder, and made there (downloaded and converted) when it is in neither.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

#: The environment variable that names a folder of data sets.
VARIABLE = "MMFUSION_DATA"

#: Seconds without a byte after which a download is given up.
TIMEOUT = 60.0

_BLOCK = 1 << 16


def user_data_folder() -> Path:
    """Return the folder in which this platform keeps a user's application data."""
    home = Path.home()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return base / "mmfusion"


def data_homes(data_home: str | os.PathLike[str] | None = None) -> list[Path]:
    """Return the folders in which data sets are looked for, the first first.

    A `data_home` that is given is the only one; else they are ``MMFUSION_DATA``, where it is set,
    and the user's data folder.
    """
    if data_home is not None:
        return [Path(data_home).expanduser().resolve()]
    named = os.environ.get(VARIABLE)
    homes = [Path(named).expanduser().resolve()] if named else []
    return [*homes, user_data_folder()]


def find(
    folder: str, files: Sequence[str], data_home: str | os.PathLike[str] | None = None
) -> Path | None:
    """Return the data set's folder, in the first home that has all its files; else None."""
    for home in data_homes(data_home):
        if all((home / folder / name).exists() for name in files):
            return home / folder
    return None


def locate(
    folder: str,
    files: Sequence[str],
    make: Callable[[Path], None],
    *,
    data_home: str | os.PathLike[str] | None = None,
    download_if_missing: bool = True,
) -> Path:
    """Return the folder that holds a data set's files; make them first where they are missing.

    Parameters
    ----------
    folder : str
        Name of the data set's folder.
    files : sequence of str
        What it must hold (files or folders). The last one is put in place last: its presence says
        that the data set is complete.
    make : callable
        ``make(path)`` downloads, converts and checks, and leaves `files` in the empty folder
        `path`. Nothing of it is kept if it raises.
    data_home : path-like, optional
        Look and write there only.
    download_if_missing : bool, default True
        Whether to call `make` at all.

    Returns
    -------
    Path
        Absolute path of the folder.

    Raises
    ------
    FileNotFoundError
        The files are missing and `download_if_missing` is False.
    ConnectionError
        They are missing and could not be downloaded: names the URL and says where to put them.
    """
    found = find(folder, files, data_home)
    if found is not None:
        return found
    hint = _hint(folder, files, data_home)
    if not download_if_missing:
        raise FileNotFoundError(
            f"The data set {folder!r} is not on this machine, and download_if_missing=False. {hint}"
        )
    target = _first_writable([home / folder for home in data_homes(data_home)])
    # Inside the target, so that moving is renaming within one file system: atomic.
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=target) as name:
        partial = Path(name)
        try:
            make(partial)
        except ConnectionError as error:
            raise ConnectionError(f"{error} {hint}") from error
        for item in files:
            if (target / item).is_dir():
                shutil.rmtree(target / item)
            os.replace(partial / item, target / item)
    return target


def download(url: str, target: Path) -> None:
    """Download `url` to the file `target`, with a progress bar; all of it or nothing.

    Raises
    ------
    ConnectionError
        The server could not be reached, refused, fell silent, or ended early: names URL and reason.
    """
    from tqdm.auto import tqdm  # only a download shows a bar

    part = target.with_name(target.name + ".part")
    try:
        request = Request(url, headers={"User-Agent": "mmfusion"})
        with urlopen(request, timeout=TIMEOUT) as reply, part.open("wb") as file:
            length = reply.headers.get("Content-Length")
            expected = int(length) if length else None
            received = 0
            # disable=None: no bar where the output is no terminal.
            with tqdm(
                total=expected, unit="B", unit_scale=True, desc=target.name, disable=None
            ) as bar:
                while block := reply.read(_BLOCK):
                    file.write(block)
                    received += len(block)
                    bar.update(len(block))
        if expected is not None and received != expected:
            raise OSError(f"the connection ended after {received} of {expected} bytes")
        os.replace(part, target)
    except (OSError, HTTPException) as error:
        raise ConnectionError(f"{url} could not be downloaded: {error}.") from error
    finally:
        part.unlink(missing_ok=True)


def github_file(repository: str, commit: str, path: str) -> str:
    """Return the URL of one file of a GitHub repository at a commit."""
    return f"https://raw.githubusercontent.com/{repository}/{commit}/{path}"


def github_archive(repository: str, commit: str) -> str:
    """Return the URL of a whole GitHub repository at a commit, as a zip file."""
    return f"https://codeload.github.com/{repository}/zip/{commit}"


def _first_writable(folders: Sequence[Path]) -> Path:
    reasons = []
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError as error:
            reasons.append(f"{folder} ({error.strerror})")
    raise PermissionError(
        f"The data set can be written nowhere: tried {', '.join(reasons)}. Set {VARIABLE} to a "
        "folder that can be written to."
    )


def _hint(folder: str, files: Sequence[str], data_home: str | os.PathLike[str] | None) -> str:
    looked = ", ".join(str(home / folder) for home in data_homes(data_home))
    return (
        f"Looked for {', '.join(files)} in {looked}. Without a connection, set the environment "
        f"variable {VARIABLE} to a folder that holds {folder}/ with these files."
    )
