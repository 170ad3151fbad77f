"""Where a search is kept: in memory, in a journal file, or in a database."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mmfusion.tuning.ledger import FileLedger, Ledger, MemoryLedger, TableLedger, mend

__all__ = ["Place", "check_storage", "in_memory", "open_place", "quiet", "temporary"]

#: Of a storage that is a folder, the name of the journal in it.
JOURNAL = "study.journal"


@dataclass
class Place:
    """Optuna's storage of a study, and the ledger beside it."""

    storage: Any
    ledger: Ledger


def check_storage(storage: Any, n_workers: int) -> str | None:
    """Return a storage as a text that a worker process can open too; None is memory.

    Raises
    ------
    ValueError
        SQLite and more than one worker.
    TypeError
        Something else than None, a path or a URL.
    """
    if storage is None:
        return None
    if not isinstance(storage, str | os.PathLike):
        raise TypeError(
            "The storage parameter must be None, a path (of a journal file, or of a folder for "
            "one), or a URL such as 'postgresql+psycopg://user@host/name'. Got "
            f"{storage!r}."
        )
    text = os.fspath(storage)
    if "://" not in text:
        path = Path(text).absolute()
        return str(path / JOURNAL if path.is_dir() or text.endswith(os.sep) else path)
    if text.startswith("sqlite"):
        if n_workers > 1:
            raise ValueError(
                "The n_workers parameter must be 1 where storage is SQLite, which locks its whole "
                "file and loses trials between processes. Give a path (a journal file) or the URL "
                f"of a server such as PostgreSQL. Got n_workers={n_workers}."
            )
        if _file_of(text) is None:
            raise ValueError(
                "The storage parameter must name a file where it is SQLite "
                f"('sqlite:///search.db'); in memory is None. Got {text!r}."
            )
    return text


@contextmanager
def open_place(storage: str | None) -> Iterator[Place]:
    """Open what `check_storage` returned.

    Raises
    ------
    ValueError
        SQLite that another process uses.
    """
    import optuna
    from optuna.storages import journal

    if storage is None:
        yield Place(optuna.storages.InMemoryStorage(), MemoryLedger())
    elif "://" not in storage:
        path = Path(storage)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock", thread_local=False, poll_interval=0.01)
        held: Any = _Held(lock, path)
        backend = journal.JournalFileBackend(str(path), held)
        with lock:
            mend(path)
            kept = journal.JournalStorage(backend)
        yield Place(kept, FileLedger(path, lock))
    elif storage.startswith("sqlite"):
        path = _file_of(storage) or Path()
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.lock", thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"The storage parameter is {storage!r}, which another process uses: SQLite is for "
                "one. Give a path (a journal file) or the URL of a server such as PostgreSQL."
            ) from None
        try:
            yield Place(optuna.storages.RDBStorage(storage), FileLedger(path, lock))
        finally:
            lock.release()
    else:
        ledger = TableLedger(storage)
        with ledger.lock():  # Optuna makes its tables
            database = optuna.storages.RDBStorage(storage, engine_kwargs={"pool_pre_ping": True})
        yield Place(database, ledger)


def _file_of(url: str) -> Path | None:
    """Return the file of an SQLite URL; None of one in memory."""
    found = re.fullmatch(r"sqlite(\+\w+)?:///([^?]+)(\?.*)?", url)
    return None if found is None or found[2] == ":memory:" else Path(found[2])


@contextmanager
def temporary(storage: str | None, n_workers: int) -> Iterator[str | None]:
    """Give several workers of a search that is not kept a journal to share."""
    if storage is not None or n_workers == 1:
        yield storage
        return
    with tempfile.TemporaryDirectory(prefix="mmfusion-") as folder:
        yield str(Path(folder) / "study.journal")


def in_memory(study: Any) -> Any:
    """Return a copy of a study that needs no storage."""
    import optuna

    with quiet():
        copied = optuna.create_study(
            study_name=study.study_name,
            directions=study.directions,
            sampler=study.sampler,
            pruner=study.pruner,
        )
    for name, value in study.user_attrs.items():
        copied.set_user_attr(name, value)
    copied.add_trials(study.get_trials(deepcopy=False))
    return copied


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from logging that it made a study."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


class _Held:
    """A lock as Optuna's journal takes one: it mends the journal before each writing.

    Optuna's own is a link that outlives a process that is killed, for half a minute.
    """

    def __init__(self, lock: FileLock, path: Path) -> None:
        self._lock = lock
        self._path = path

    def acquire(self) -> bool:
        self._lock.acquire()
        mend(self._path)
        return True

    def release(self) -> None:
        self._lock.release()
