"""Workers as processes of their own on this machine."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cloudpickle

from mmfusion.tuning.job import Job
from mmfusion.tuning.place import Place, open_place
from mmfusion.tuning.worker import open_study, work

__all__ = ["main", "work_in_processes"]

#: Seconds between two looks at the workers.
LOOK = 0.2
COMMAND = "import sys; from mmfusion.tuning.processes import main; main(*sys.argv[1:])"


def work_in_processes(
    job: Job, storage: str, place: Place, n_workers: int, tell: Callable[[Any], None]
) -> None:
    """Do the trials of a job in several processes that share a storage.

    Processes, not threads: each has its own random numbers, its share of the cores, and one GPU. Of
    one that dies, as for want of memory, another goes on with the trial.

    Parameters
    ----------
    job : Job
    storage : str
    place : Place
        The same, opened here.
    n_workers : int
    tell : callable (study)
        Is called while they work.

    Raises
    ------
    Exception
        The first that a worker raised; the others are ended.
    RuntimeError
        If all workers died.
    """
    study, job = open_study(job, place)
    with tempfile.TemporaryDirectory(prefix="mmfusion-") as folder:
        workers = [
            _start(job.part(number, n_workers), storage, Path(folder) / str(number))
            for number in range(n_workers)
        ]
        try:
            while any(worker.poll() is None for worker in workers):
                _raise_theirs(folder, n_workers)
                tell(study)
                time.sleep(LOOK)
            _raise_theirs(folder, n_workers)
        finally:
            for worker in workers:
                worker.terminate()
                worker.wait()
    tell(study)
    codes = [worker.returncode for worker in workers]
    if all(codes):
        raise RuntimeError(
            f"All {n_workers} workers of the search died (exit codes {codes}). What they finished "
            "is kept: the same call goes on with the rest."
        )


def _start(job: Job, storage: str, payload: Path) -> subprocess.Popen[bytes]:
    payload.write_bytes(cloudpickle.dumps((job, storage)))
    n = str(job.n_threads)
    settings = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": n}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(payload)], env=os.environ | settings
    )


def _raise_theirs(folder: str, n_workers: int) -> None:
    for number in range(n_workers):
        path = Path(folder) / f"{number}.error"
        if path.exists():
            raise pickle.loads(path.read_bytes())


def main(payload: str, *_: Sequence[str]) -> None:
    """Be a worker: do the trials of a job that was written into a file."""
    import torch

    path = Path(payload)
    job, storage = pickle.loads(path.read_bytes())
    torch.set_num_threads(job.n_threads)
    try:
        with open_place(storage) as place:
            work(job, place)
    except Exception as error:
        new = path.with_suffix(".new")
        try:
            new.write_bytes(cloudpickle.dumps(error))
        except Exception:  # an error that cannot be sent, as text
            new.write_bytes(cloudpickle.dumps(RuntimeError(f"{type(error).__name__}: {error}")))
        os.replace(new, path.with_suffix(".error"))
        raise SystemExit(1) from error
