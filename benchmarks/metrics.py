"""Time and memory of Harrell's C and of the Brier score, beside the peers.

One thread, all in one run and in turns, medians. Prints a Markdown table; ``--output`` writes it.
A peer that would take over 40 s or 3 GB at a size, by the square law from the size before, is left
out there and its prediction shown.

    python -m benchmarks.metrics --output metrics.md
"""

# ruff: noqa: E402 - the number of threads is read when NumPy, Torch and Numba are imported
from __future__ import annotations

import argparse
import ctypes
import gc
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import lifelines.utils
import numpy as np
import pandas as pd
import sksurv.metrics
import torch

warnings.filterwarnings("ignore")
from pycox.evaluation import EvalSurv
from pycox.evaluation.concordance import concordance_td
from torchsurv.metrics.brier_score import BrierScore
from torchsurv.metrics.cindex import ConcordanceIndex
from torchsurv.stats.ipcw import get_ipcw

from mmfusion.metrics import brier_score, concordance_index
from mmfusion.survival import surv

torch.set_num_threads(1)

OURS = "mmfusion"
SIZES = (10_000, 100_000)
HARRELL_SIZES = (*SIZES, 1_000_000)
REPEATS = 7
ENOUGH_SECONDS = 4.0  # of one peer at one size; it runs once at least
MOST_SECONDS, MOST_MEGABYTES = 40.0, 3_000.0
N_TIMES = 50

Call = Callable[[], float]


@dataclass
class Measured:
    """What one library took at one size."""

    value: float = np.nan
    seconds: list[float] = field(default_factory=list)
    megabytes: float = 0.0
    predicted: bool = False

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))


def harrell_calls(n: int) -> dict[str, Call]:
    """Harrell's C of a risk that tells something, times continuous, half of the rows censored."""
    rng = np.random.default_rng(0)
    risk = rng.normal(size=n)
    death, end = rng.exponential(np.exp(-risk)), rng.exponential(size=n)
    t, e = np.minimum(death, end), death <= end
    y = surv(t, e)
    causes, survival, row = e.astype(np.int64), -risk[None, :], np.zeros(n, dtype=np.int64)
    tensors = torch.tensor(risk), torch.tensor(e), torch.tensor(t)
    return {
        OURS: lambda: concordance_index(y, risk),
        "lifelines": lambda: lifelines.utils.concordance_index(t, -risk, e),
        "scikit-survival": lambda: sksurv.metrics.concordance_index_censored(e, t, risk)[0],
        # One time: a higher risk is a lower survival at every time, so this is Harrell's C.
        "pycox": lambda: concordance_td(t, causes, survival, row, "antolini"),
        "torchsurv": lambda: float(ConcordanceIndex()(*tensors)),
    }


def brier_calls(n: int) -> dict[str, Call]:
    """Brier score at 50 times, the censoring distribution included."""
    rng = np.random.default_rng(0)
    rate = np.exp(rng.normal(size=n))
    death, end = rng.exponential(1 / rate), rng.exponential(size=n)
    t, e = np.minimum(death, end), death <= end
    y = surv(t, e)
    grid = np.quantile(t[e], np.linspace(0.05, 0.9, N_TIMES))
    survival = np.exp(-np.outer(rate, grid))
    frame = pd.DataFrame(survival.T, index=grid)
    tensors = torch.tensor(survival), torch.tensor(e), torch.tensor(t), torch.tensor(grid)

    def torchsurv_score() -> float:
        estimate, event, follow_up, at = tensors
        weight, later = get_ipcw(event, follow_up), get_ipcw(event, follow_up, at)
        score = BrierScore()(estimate, event, follow_up, at, weight, later)
        return float(score.mean())

    return {
        OURS: lambda: float(brier_score(y, y, survival, grid).mean()),
        "scikit-survival": lambda: float(
            sksurv.metrics.brier_score(y, y, survival, grid)[1].mean()
        ),
        "pycox": lambda: float(
            EvalSurv(frame, t, e.astype(int), censor_surv="km").brier_score(grid).mean()
        ),
        "torchsurv": torchsurv_score,
    }


def memory(key: str) -> float:
    """Return VmRSS or VmHWM of this process in MB."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(key + ":")[1].split()[0]) / 1024


def measure(call: Call, into: Measured) -> None:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = memory("VmRSS")
    start = time.perf_counter()
    into.value = call()
    into.seconds.append(time.perf_counter() - start)
    into.megabytes = max(into.megabytes, memory("VmHWM") - before)


def run(
    make: Callable[[int], dict[str, Call]], sizes: Sequence[int] = SIZES
) -> list[tuple[int, dict[str, Measured]]]:
    for call in make(200).values():
        call()  # compile and import
    results: list[tuple[int, dict[str, Measured]]] = []
    for n in sizes:
        calls = make(n)
        measured = {name: Measured() for name in calls}
        if results:
            n_before, before = results[-1]
            growth = (n / n_before) ** 2
            for name, last in before.items():
                seconds, megabytes = last.median * growth, last.megabytes * growth
                # The square law is only a fear for what took long or much already.
                slow = last.median > 0.3 and seconds > MOST_SECONDS
                if slow or (last.megabytes > 20 and megabytes > MOST_MEGABYTES):
                    measured[name] = Measured(np.nan, [seconds], megabytes, predicted=True)
        for _ in range(REPEATS):
            for name, call in calls.items():
                into = measured[name]
                if not into.predicted and sum(into.seconds) < ENOUGH_SECONDS:
                    measure(call, into)
        results.append((n, measured))
    return results


def table(title: str, results: list[tuple[int, dict[str, Measured]]]) -> str:
    lines = [
        f"### {title}",
        "",
        "| n | library | seconds | times ours | peak memory, MB | value | runs |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for n, measured in results:
        for name, m in measured.items():
            ratio = m.median / measured[OURS].median
            mark, rest = "", f"{m.megabytes:,.0f} | {m.value:.6f} | {len(m.seconds)}"
            if m.predicted:
                mark, rest = "about ", " |  | 0"
            lines.append(f"| {n:,} | {name} | {mark}{m.median:.3g} | {mark}{ratio:.3g} | {rest} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="a Markdown file to write")
    output = parser.parse_args().output
    text = "\n\n".join(
        [
            "One thread, in turns, medians; memory is the peak above what the process held before. "
            '"about": not run, by the square law from the size above.',
            table("Harrell's C", run(harrell_calls, HARRELL_SIZES)),
            table(f"Brier score at {N_TIMES} times", run(brier_calls)),
        ]
    )
    print(text)
    if output:
        output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
