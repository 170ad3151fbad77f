"""Loss and gradient of the Cox likelihood beside torchsurv and pycox: time and memory.

Forward and backward of single-precision log-hazards, half of the rows events. One thread, all in
one run and in turns, medians; one time with 20,000 tied deaths is measured in a process a library,
because memory is. Prints a Markdown table; ``--output`` writes it.

    python -m benchmarks.cox_loss --output cox_loss.md
"""

# ruff: noqa: E402 - the number of threads is read when NumPy and Torch are imported
from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import torch

warnings.filterwarnings("ignore")
from pycox.models.loss import CoxPHLoss
from torch import Tensor
from torchsurv.loss.cox import neg_partial_log_likelihood

from mmfusion.heads.cox import CoxPlan, cox_loss

torch.set_num_threads(1)

REUSED = "mmfusion, plan reused"
FRESH = "mmfusion, plan fresh"
EFRON = "torchsurv, Efron"
BRESLOW = "torchsurv, Breslow"
PYCOX = "pycox"
REPEATS = {256: 1001, 10_000: 201, 1_000_000: 11}
N_TIED = 20_000

Call = Callable[[], Tensor]


def calls(time_: Tensor, event: Tensor, eta: Tensor) -> dict[str, Call]:
    single, events = time_.float(), event.float()
    pycox = CoxPHLoss()
    plan = CoxPlan.from_outcome(time_, event)
    return {
        REUSED: lambda: cox_loss(eta, plan),
        FRESH: lambda: cox_loss(eta, CoxPlan.from_outcome(time_, event)),
        EFRON: lambda: neg_partial_log_likelihood(eta, event, single, ties_method="efron"),
        BRESLOW: lambda: neg_partial_log_likelihood(eta, event, single, ties_method="breslow"),
        PYCOX: lambda: pycox(eta, single, events),
    }


def measure(call: Call, eta: Tensor) -> tuple[float, float]:
    """Return the seconds of forward and backward, and the loss."""
    eta.grad = None
    start = time.perf_counter()
    loss = call()
    loss.backward()
    return time.perf_counter() - start, loss.item()


def interleaved(n: int, n_times: int | None) -> dict[str, tuple[float, float]]:
    """Return median seconds and loss of each library; continuous times where `n_times` is None."""
    generator = torch.Generator().manual_seed(n)
    time_ = torch.rand(n, generator=generator, dtype=torch.float64)
    if n_times is not None:
        time_ = (time_ * n_times).ceil()
    event = torch.rand(n, generator=generator) < 0.5
    eta = torch.randn(n, generator=generator).requires_grad_()
    contenders = calls(time_, event, eta)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    losses = {}
    for repeat in range(-1, REPEATS[n]):
        for name, call in contenders.items():
            taken, losses[name] = measure(call, eta)
            if repeat >= 0:  # the first warms up
                seconds[name].append(taken)
    return {name: (statistics.median(all_), losses[name]) for name, all_ in seconds.items()}


def tied(name: str, n: int) -> tuple[float, float, float]:
    """Return seconds, loss and peak MB: `n` deaths at one time, `n` at times of their own."""
    time_ = torch.cat([torch.zeros(n), torch.arange(1, n + 1)]).double()
    event = torch.ones(2 * n, dtype=torch.bool)
    eta = torch.randn(2 * n, generator=torch.Generator().manual_seed(0)).requires_grad_()
    call = calls(time_, event, eta)[name]
    repeats = 21 if name in (REUSED, FRESH, PYCOX) else 1
    ctypes.CDLL(None).malloc_trim(0)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # peak = now
    results = [measure(call, eta) for _ in range(repeats)]
    return statistics.median(r[0] for r in results), results[0][1], resident("VmHWM") - before


def resident(key: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith(key + ":"))
    return int(line.split()[1]) / 1024


def in_a_process(name: str) -> tuple[float, float, float]:
    command = [sys.executable, "-m", __spec__.name, "--tied", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, loss, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, loss, megabytes


def show(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:,.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="a Markdown file to write")
    parser.add_argument("--tied", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.tied:
        tied(arguments.tied, 100)  # what is allocated once stays out of the figure
        print(json.dumps(tied(arguments.tied, N_TIED)))
        return

    lines = [
        "| n | times | library | loss + backward | times ours | loss |",
        "| ---: | --- | --- | ---: | ---: | ---: |",
    ]
    for n in REPEATS:
        for n_times in (None, 100):
            if n == max(REPEATS) and n_times is not None:
                continue  # torchsurv would pad to 100 x 5,000 terms and more
            found = interleaved(n, n_times)
            ours = found[REUSED][0]
            kind = "distinct" if n_times is None else f"{n_times}, tied"
            lines += [
                f"| {n:,} | {kind} | {name} | {show(seconds)} | {seconds / ours:.2f} | {loss:.6f} |"
                for name, (seconds, loss) in found.items()
            ]
    lines += [
        "",
        f"{N_TIED:,} deaths at one time and {N_TIED:,} at distinct times:",
        "",
        "| library | loss + backward | times ours | peak memory above start | loss |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    results = {name: in_a_process(name) for name in (REUSED, FRESH, EFRON, BRESLOW, PYCOX)}
    lines += [
        f"| {name} | {show(seconds)} | {seconds / results[REUSED][0]:,.1f} "
        f"| {megabytes:,.1f} MB | {loss:.6f} |"
        for name, (seconds, loss, megabytes) in results.items()
    ]
    text = "\n".join(
        [
            "One thread, medians, libraries in turns; pycox breaks ties by row order, and has no "
            "other method. A plan depends on times alone: a training run makes it once.",
            "",
            *lines,
        ]
    )
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
