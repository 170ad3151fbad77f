"""Exact fits of several predictors on designs of blocks: seconds and memory.

Each fit runs in a process of its own, one thread: CPU seconds, and the peak of its memory above
what it held before. The hazards in intervals are also fitted on the matrix written out, as far as
that is bearable, for the ratio. Prints a Markdown table; ``--output`` writes it.

    python benchmarks/structured.py --output structured.md          # about a minute
"""

# ruff: noqa: E402 - the number of threads is read when NumPy and Torch are imported
from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
import torch

from mmfusion.heads import CategoricalHead, DiscreteTimeHead, GaussianHead
from mmfusion.structured import (
    Block,
    Dense,
    Design,
    Indicator,
    Likelihood,
    TermColumns,
    expanded,
    fit_identified,
    fit_structured,
)
from mmfusion.survival import surv

torch.set_num_threads(1)
warnings.filterwarnings("ignore")

Fit = Callable[[], object]
MATRIX = " (matrix)"


def hazards(n: int, n_intervals: int, *, matrix: bool = False) -> Fit:
    """Return the fit of a logistic hazard with 8 columns beside a baseline."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 8))
    time_, limit = rng.exponential(np.exp(-0.2 * x.sum(1))), rng.exponential(2, size=n)
    head = DiscreteTimeHead("logistic_hazard", n_intervals=n_intervals)
    target = head.fit_outcome(surv(np.minimum(time_, limit), time_ <= limit))
    k = len(head.grid)
    names = [f"x{j}" for j in range(k + 8)]

    def fit() -> object:
        design = expanded(x, np.ones((k, 1)), k)
        used = design.dense() if matrix else design
        may_hold = np.arange(k + 8) < k
        return fit_identified(Likelihood(head, target), used, (), None, names, may_hold)

    return fit


def classes(n: int, p: int, k: int) -> Fit:
    """Return the fit of a multinomial model."""
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(n), rng.normal(size=(n, p - 1))])
    utility = x @ (0.3 * rng.normal(size=(p, k))) + rng.gumbel(size=(n, k))
    head = CategoricalHead()
    target = head.fit_outcome(utility.argmax(1))
    return lambda: fit_structured(Likelihood(head, target), expanded(x, np.eye(k)[:, 1:]))


def random_intercepts(n: int, levels: int) -> Fit:
    """Return the fit of numbers with a random intercept a level, its variance by REML."""
    rng = np.random.default_rng(0)
    x, codes = rng.normal(size=(n, 3)), rng.integers(0, levels, n)
    y = x.sum(1) + rng.normal(size=levels)[codes] + rng.normal(size=n)
    head = GaussianHead()
    target = head.fit_outcome(y)
    one = np.ones((1, 1))
    blocks = (
        Block(Dense(np.column_stack([np.ones(n), x])), one, np.arange(4)[None]),
        Block(Indicator(codes, levels), one, 4 + np.arange(levels)[None]),
    )
    term = TermColumns("re(site)", slice(4, 4 + levels), "random", (np.ones(levels),))
    design = Design(n, 1, 4 + levels, blocks)
    return lambda: fit_structured(Likelihood(head, target), design, [term])


CASES: dict[str, Callable[[], Fit]] = {
    "hazards, n = 2,000, 100 intervals": lambda: hazards(2_000, 100),
    "hazards, n = 2,000, 100 intervals (matrix)": lambda: hazards(2_000, 100, matrix=True),
    "hazards, n = 20,000, 20 intervals": lambda: hazards(20_000, 20),
    "hazards, n = 20,000, 20 intervals (matrix)": lambda: hazards(20_000, 20, matrix=True),
    "10 classes x 50 columns, n = 100,000": lambda: classes(100_000, 50, 10),
    "re(site), 10,000 levels, n = 50,000": lambda: random_intercepts(50_000, 10_000),
}


def memory() -> float:
    """Return the memory that this process holds, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(make: Callable[[], Fit]) -> tuple[float, float]:
    """Return CPU seconds of a fit and the peak of its memory above what was held before, in MB."""
    hazards(200, 5)()  # loads what is loaded once
    fit = make()
    held = [memory()]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.001):
            held.append(memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.process_time()
    fit()
    seconds = time.process_time() - started
    done.set()
    watcher.join()
    return seconds, max(held) - held[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--case", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.case:
        print(*measure(CASES[arguments.case]))
        return
    lines = ["| fit | CPU seconds | MB above idle |", "| --- | ---: | ---: |"]
    taken = {}
    for name in CASES:
        command = [sys.executable, __file__, "--case", name]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        taken[name], megabytes = map(float, output.split())
        lines.append(f"| {name} | {taken[name]:.2f} | {megabytes:.0f} |")
        print(lines[-1], flush=True)
    for name in taken:
        if name + MATRIX in taken:
            lines.append(f"\n{name}: {taken[name + MATRIX] / taken[name]:.0f} times as fast.")
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
