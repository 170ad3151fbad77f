"""Searches on a server: Debian's PostgreSQL, in a cluster of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tuning.common import fatal_search, numbers, ridge_search, run
from tests.tuning.test_resume import processes, same

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path("/usr/bin")]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def server() -> Iterator[str]:
    """The URL of a server that ends with the test; root may not run one, so `postgres` does."""
    pytest.importorskip("psycopg")
    folder = BINARIES[-1]
    if not (folder / "initdb").exists():
        pytest.skip("PostgreSQL is not installed (initdb is in no /usr/lib/postgresql/*/bin)")
    user = None
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    # Short, since a socket's path may have 100 letters, and the user's own.
    home = Path(
        subprocess.check_output(["mktemp", "-d", "/tmp/mmfusion-pg-XXXXXX"], text=True).strip()
    )
    if user:
        shutil.chown(home, user)

    def do(*command: str) -> None:
        subprocess.run(
            [str(folder / command[0]), *command[1:]],
            user=user,
            check=True,
            cwd=home,
            stdout=subprocess.DEVNULL,
            env={"PATH": str(folder), "LC_ALL": "C"},
        )

    port = free_port()
    do("initdb", "-D", str(home / "data"), "-A", "trust", "-U", "tuner", "--no-sync", "-E", "UTF8")
    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1"
    try:
        do(
            "pg_ctl",
            "-D",
            str(home / "data"),
            "-o",
            options,
            "-l",
            str(home / "log"),
            "-w",
            "start",
        )
        do("createdb", "-h", str(home), "-p", str(port), "-U", "tuner", "search")
        yield f"postgresql+psycopg://tuner@127.0.0.1:{port}/search"
    finally:
        do("pg_ctl", "-D", str(home / "data"), "-m", "immediate", "stop")
        shutil.rmtree(home)


@pytest.mark.slow
def test_searches_on_a_server(server: str, tmp_path: Path) -> None:
    alone = fatal_search(tmp_path, storage=server).fit(*numbers())
    same(alone, ridge_search().fit(*numbers()))
    fits = tmp_path / "fits"
    assert len(fits.read_text().splitlines()) == 37
    same(fatal_search(tmp_path, storage=server).fit(*numbers()), alone)  # it repeats no fold
    assert len(fits.read_text().splitlines()) == 38

    # Two processes, one of which dies: no trial is lost or done twice.
    settings = {"n_trials": 20, "seconds": 0.05, "dies_at": (50,), "cv": 4, "storage": server}
    both = [processes().Process(target=run, args=(tmp_path,), kwargs=settings) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert sorted(process.exitcode for process in both) == [-9, 0]
    search = fatal_search(tmp_path, **settings).fit(*numbers())
    trials = search.study_.trials
    assert [trial.number for trial in trials] == list(range(20))
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    # Of 80 folds one was under way when its process died; and the best was fitted twice.
    assert len(fits.read_text().splitlines()) == 38 + 80 + 1 + 2
