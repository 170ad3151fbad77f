"""What is finished stays finished: an append-only record of folds, and who works on what."""

from __future__ import annotations

import json
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock

__all__ = ["FileLedger", "Ledger", "MemoryLedger", "TableLedger", "mend"]

Record = dict[str, Any]


class Ledger(ABC):
    """Records of finished folds by their key, a lock between workers, and signs of their life."""

    @abstractmethod
    def read(self, key: str) -> Record | None:
        """Return what was written under `key`, by any worker; None if nothing was."""

    @abstractmethod
    def write(self, key: str, record: Record) -> None:
        """Keep a record for good: it is on the disk when this returns."""

    @abstractmethod
    def lock(self) -> AbstractContextManager[Any]:
        """Return a context in which one worker is at a time; that of a dead one is free."""

    @abstractmethod
    def beat(self, worker: str, count: int) -> None:
        """Keep a sign of life."""

    @abstractmethod
    def last_beat(self, worker: str) -> int | None:
        """Return the last sign of life of a worker; None of one that left."""

    @abstractmethod
    def leave(self, worker: str) -> None:
        """Forget a worker."""


class MemoryLedger(Ledger):
    """For a search that one process does and that need not be resumed."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._beats: dict[str, int] = {}

    def read(self, key: str) -> Record | None:
        return self._records.get(key)

    def write(self, key: str, record: Record) -> None:
        self._records[key] = record

    def lock(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def beat(self, worker: str, count: int) -> None:
        self._beats[worker] = count

    def last_beat(self, worker: str) -> int | None:
        return self._beats.get(worker)

    def leave(self, worker: str) -> None:
        self._beats.pop(worker, None)


class FileLedger(Ledger):
    """A file with one line a fold, flushed to the disk line by line, beside the journal of a study.

    Parameters
    ----------
    path : path
        The journal: the ledger is ``<path>.folds``, and ``<path>.workers`` is a folder with a file
        for each worker that lives.
    lock : FileLock
        The kernel frees it when the process that holds it dies.
    """

    def __init__(self, path: Path, lock: FileLock) -> None:
        self.path = path.with_name(f"{path.name}.folds")
        self._lock = lock
        self._workers = path.with_name(f"{path.name}.workers")
        self._workers.mkdir(exist_ok=True)
        self._records: dict[str, Record] = {}
        self._seen = 0

    def read(self, key: str) -> Record | None:
        if key not in self._records:
            self._catch_up()
        return self._records.get(key)

    def write(self, key: str, record: Record) -> None:
        line = json.dumps({"key": key, "record": record}, separators=(",", ":")) + "\n"
        with self._lock:
            mend(self.path)
            with open(self.path, "ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
        self._records[key] = record

    def lock(self) -> AbstractContextManager[Any]:
        return self._lock

    def beat(self, worker: str, count: int) -> None:
        path = self._workers / worker
        new = path.with_name(f"{worker}.new")
        new.write_text(str(count), encoding="ascii")
        os.replace(new, path)

    def last_beat(self, worker: str) -> int | None:
        try:
            return int((self._workers / worker).read_text(encoding="ascii"))
        except FileNotFoundError:
            return None

    def leave(self, worker: str) -> None:
        (self._workers / worker).unlink(missing_ok=True)

    def _catch_up(self) -> None:
        """Read the lines that were added since the last time, whole ones only."""
        if not self.path.exists():
            return
        with open(self.path, "rb") as file:
            file.seek(self._seen)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._seen += len(line)
                try:
                    entry = json.loads(line)
                    self._records.setdefault(entry["key"], entry["record"])
                except (ValueError, KeyError, TypeError) as error:
                    warnings.warn(
                        f"A line of {self.path} is damaged ({error}): its fold is computed again.",
                        UserWarning,
                        stacklevel=3,
                    )


def mend(path: Path) -> None:
    """Cut off what a process that was killed in the midst of writing left of a last line.

    Without this the next line would be joined to it, and both be lost. To be called under a lock.
    """
    try:
        file = open(path, "rb+")  # noqa: SIM115 - a file that is not there has nothing to mend
    except FileNotFoundError:
        return
    with file:
        end = file.seek(0, os.SEEK_END)
        if not end:
            return
        file.seek(end - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


class TableLedger(Ledger):
    """Three tables beside those of Optuna, in the same database.

    Parameters
    ----------
    url : str
        As SQLAlchemy has it: ``postgresql+psycopg://user:password@host/name``.
    """

    def __init__(self, url: str) -> None:
        import sqlalchemy as sql

        self._sql = sql
        self._engine = sql.create_engine(url, pool_pre_ping=True)
        tables = sql.MetaData()
        self._folds = sql.Table(
            "mmfusion_folds",
            tables,
            sql.Column("key", sql.String(64), primary_key=True),
            sql.Column("record", sql.Text, nullable=False),
        )
        self._workers = sql.Table(
            "mmfusion_workers",
            tables,
            sql.Column("worker", sql.String(255), primary_key=True),
            sql.Column("beat", sql.Integer, nullable=False),
        )
        self._locks = sql.Table(
            "mmfusion_locks", tables, sql.Column("name", sql.String(32), primary_key=True)
        )
        self._records: dict[str, Record] = {}
        for table in (self._folds, self._workers, self._locks):
            # Two workers that start at once: who comes second finds the table made.
            try:
                table.create(self._engine, checkfirst=True)
            except sql.exc.DBAPIError:
                if not sql.inspect(self._engine).has_table(table.name):
                    raise
        self._insert(self._locks, name="search")

    def read(self, key: str) -> Record | None:
        if key not in self._records:
            query = self._sql.select(self._folds.c.record).where(self._folds.c.key == key)
            with self._engine.connect() as connection:
                found = connection.execute(query).scalar()
            if found is None:
                return None
            self._records[key] = json.loads(found)
        return self._records[key]

    def write(self, key: str, record: Record) -> None:
        self._insert(self._folds, key=key, record=json.dumps(record))
        self._records[key] = record

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold a row of a table; the database frees it when the connection ends."""
        with self._engine.begin() as connection:
            connection.execute(self._sql.select(self._locks).with_for_update())
            yield

    def beat(self, worker: str, count: int) -> None:
        change = self._sql.update(self._workers).where(self._workers.c.worker == worker)
        with self._engine.begin() as connection:
            if connection.execute(change.values(beat=count)).rowcount:
                return
        self._insert(self._workers, worker=worker, beat=count)

    def last_beat(self, worker: str) -> int | None:
        query = self._sql.select(self._workers.c.beat).where(self._workers.c.worker == worker)
        with self._engine.connect() as connection:
            return connection.execute(query).scalar()

    def leave(self, worker: str) -> None:
        gone = self._sql.delete(self._workers).where(self._workers.c.worker == worker)
        with self._engine.begin() as connection:
            connection.execute(gone)

    def _insert(self, table: Any, **row: Any) -> None:
        try:
            with self._engine.begin() as connection:
                connection.execute(self._sql.insert(table).values(**row))
        except self._sql.exc.IntegrityError:  # it is there already
            pass
