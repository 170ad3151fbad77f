"""Whether a worker lives: its lease runs out where its signs of life stop."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from mmfusion.tuning.ledger import Ledger

__all__ = ["LEASE", "Worker"]

#: Seconds without a sign of life after which a worker counts as dead, and between two signs.
LEASE, BEAT = 120.0, 15.0


class Worker:
    """A worker, this process: a context in which it gives signs of life.

    Optuna's journal has no heartbeat. No clocks are compared between machines: who looks on
    measures by its own clock how long another's count has stood still. On the same machine a
    process that is gone is known to be dead at once.

    Parameters
    ----------
    ledger : Ledger
    """

    def __init__(self, ledger: Ledger) -> None:
        self.name = f"{_machine()}-{os.getpid()}-{_started(os.getpid())}-{uuid.uuid4().hex[:8]}"
        self._ledger = ledger
        self._stop = threading.Event()
        self._seen: dict[str, tuple[int, float]] = {}

    def __enter__(self) -> Self:
        self._ledger.beat(self.name, 0)
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._ledger.leave(self.name)

    def _go_on(self) -> None:
        count = 0
        while not self._stop.wait(BEAT):
            count += 1
            try:
                self._ledger.beat(self.name, count)
            except Exception:  # a server or a disk that is away for a moment: the next one counts
                continue

    def is_dead(self, other: str, clock: Callable[[], float] = time.monotonic) -> bool:
        """Return whether another worker is known to be dead."""
        if other == self.name:
            return False
        beat = self._ledger.last_beat(other)
        if beat is None:
            return True
        machine, pid, started, _ = other.rsplit("-", 3)
        if machine == _machine() and _started(int(pid)) != started:
            return True
        before, since = self._seen.get(other, (None, 0.0))
        if before != beat:
            self._seen[other] = beat, clock()
            return False
        return clock() - since > LEASE


def _machine() -> str:
    """Return what no two machines, or containers of one, have in common."""
    parts = [socket.gethostname()]
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot.exists():
        parts.append(boot.read_text().strip()[:8])
    if os.path.lexists(space):
        parts.append(os.readlink(space))
    return re.sub(r"[^A-Za-z0-9.]", "_", ".".join(parts))


def _started(pid: int) -> str:
    """Return when a process started, in the kernel's ticks; "" of one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return _exists(pid)
    return "" if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> str:
    """Return "there" or "" where there is no /proc to ask."""
    if Path("/proc/self").exists() or os.name != "posix":
        return "" if os.name == "posix" else "there"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "there"
