"""What a piecewise-exponential model costs: fits without networks, and an epoch with images.

Without networks: `FusionPAMM` against statsmodels' GLM of counts on expanded rows (the same steps
and effects, the same estimates), and with a smooth baseline against R's mgcv,
``bam(discrete=TRUE)`` with fREML, where ``Rscript`` is there. Each contender of each case runs in a
process of its own with one thread; seconds are CPU time, the median of three fits, one of slow
ones; MB the peak above what the process held before. With images: seconds an epoch at twenty
intervals and at one.

    python -m benchmarks.pamm            # ten minutes; writes results/pamm.csv
"""

# ruff: noqa: E402 - the number of threads is read when NumPy and Torch are imported
from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
import pandas as pd
import statsmodels.api as sm
import torch

from mmfusion.estimators import FusionPAMM
from mmfusion.modalities import Image
from mmfusion.survival import surv

torch.set_num_threads(1)

RESULTS = Path(__file__).parent / "results" / "pamm.csv"
COLUMNS = [f"x{j}" for j in range(8)]
CASES = [(20_000, 20), (2_000, 100)]

#: What R fits to the rows that this file writes.
BAM = """
suppressMessages(library(mgcv))
d <- read.csv("{path}")
f <- event ~ s(end, bs = "ps") + {columns}
times <- sapply(1:2, function(i) system.time(fit <<- bam(f, data = d, family = poisson(),
  offset = log(d$exposure), discrete = TRUE, nthreads = 1))["user.self"])
cat(median(times), coef(fit)[-1][1:{n_columns}])
"""


def draw(n: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table whose columns move the hazard, and an outcome."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, len(COLUMNS))), columns=COLUMNS)
    time = rng.weibull(1.3, n) * np.exp(-0.3 * frame["x0"] - 0.2 * frame["x1"])
    limit = rng.uniform(0.5, 3.0, n)
    return frame, surv(np.minimum(time, limit), time <= limit)


def cuts_of(y: np.ndarray, j: int) -> np.ndarray:
    head = FusionPAMM({}, n_intervals=j)._make_head()
    head.fit_outcome(y)
    return head.cuts_


def expanded(frame: pd.DataFrame, y: np.ndarray, cuts: np.ndarray) -> pd.DataFrame:
    """Return a row a subject and interval in which it is at risk."""
    time = np.minimum(y["time"][:, None], cuts[1:])
    exposure = time - cuts[:-1]
    row, interval = np.nonzero(exposure > 0)
    table = frame.iloc[row].reset_index(drop=True)
    ends = (y["time"][row] <= cuts[1:][interval]) & (y["time"][row] > cuts[:-1][interval])
    return table.assign(
        interval=interval,
        end=cuts[1:][interval],
        exposure=exposure[row, interval],
        event=(ends & y["event"][row]).astype(int),
    )


def ours(frame: pd.DataFrame, y: np.ndarray, j: int, baseline: str) -> np.ndarray:
    formula = " + ".join(COLUMNS)
    model = FusionPAMM({}, structured=formula, n_intervals=j, baseline=baseline).fit(frame, y)
    return model.effects_.loc[COLUMNS, "coef"].to_numpy()


def theirs(frame: pd.DataFrame, y: np.ndarray, j: int) -> np.ndarray:
    """Return statsmodels' coefficients; making the rows counts."""
    cuts = cuts_of(y, j)
    table = expanded(frame, y, cuts)
    steps = np.eye(len(cuts) - 1)[table["interval"]]
    design = np.column_stack([steps, table[COLUMNS]])
    family, offset = sm.families.Poisson(), np.log(table["exposure"])
    fit = sm.GLM(table["event"], design, family=family, offset=offset).fit()
    return np.asarray(fit.params)[-len(COLUMNS) :]


def contender(name: str, n: int, j: int) -> dict[str, Any]:
    """Fit in this process: seconds, MB and coefficients."""
    fits = {
        "mmfusion, steps": lambda f, y: ours(f, y, j, "steps"),
        "mmfusion, smooth": lambda f, y: ours(f, y, j, "s(end)"),
        "statsmodels GLM": lambda f, y: theirs(f, y, j),
    }
    fit = fits[name]
    small, outcome = draw(300)
    fit(small, outcome)  # what is loaded once stays out of the figures
    frame, y = draw(n)
    before = held(reset=True)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        coef = fit(frame, y)
        seconds.append(time.process_time() - start)
        if len(seconds) == 1:
            peak = held() - before
        if sum(seconds) > 4:
            break
    return {"seconds": statistics.median(seconds), "mb": peak / 1024, "coef": coef.tolist()}


def held(*, reset: bool = False) -> float:
    """Return the most memory that this process has held since a reset, kB (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def bam(n: int, j: int) -> dict[str, Any] | None:
    """Return what R needs for the rows once they are there, None where there is no R."""
    if shutil.which("Rscript") is None:
        return None
    frame, y = draw(n)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        expanded(frame, y, cuts_of(y, j)).to_csv(path, index=False)
        script = BAM.format(path=path, columns=" + ".join(COLUMNS), n_columns=len(COLUMNS))
        done = subprocess.run(["Rscript", "-e", script], capture_output=True, text=True, check=True)
    seconds, *coef = map(float, done.stdout.split())
    return {"seconds": seconds, "mb": np.nan, "coef": coef}


def epochs() -> dict[int, float]:
    """Return the seconds of an epoch of a small CNN, one network, by the number of intervals."""
    warnings.filterwarnings("ignore", message="No rows judge")
    rng = np.random.default_rng(0)
    n, size = 512, 32
    frame = pd.DataFrame({"image": list(rng.integers(0, 256, (n, size, size), dtype=np.uint8))})
    y = surv(rng.exponential(size=n), np.ones(n))
    scan = Image("image", size=size, channels="L", encoder="cnn")
    found: dict[int, list[float]] = {1: [], 20: []}
    for _ in range(2):  # in turn, so that a busy machine is busy for both
        for j in found:
            model = FusionPAMM(
                {"scan": scan},
                n_intervals=j,
                n_members=1,
                epochs=5,
                patience=None,
                device="cpu",
                random_state=0,
            )
            model.fit(frame, y)
            found[j] += model.history_["seconds"].tolist()[1:]
    return {j: statistics.median(seconds) for j, seconds in found.items()}


def main() -> None:
    if len(sys.argv) > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            print(json.dumps(contender(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
        return
    rows = []
    for n, j in CASES:
        found: dict[str, Any] = {"mgcv bam(discrete=TRUE)": bam(n, j)}
        for name in ("mmfusion, steps", "mmfusion, smooth", "statsmodels GLM"):
            call = [sys.executable, "-m", __spec__.name, name, str(n), str(j)]
            done = subprocess.run(call, capture_output=True, text=True, check=True)
            found[name] = json.loads(done.stdout.splitlines()[-1])
        exact, smooth = (np.array(found[f"mmfusion, {b}"]["coef"]) for b in ("steps", "smooth"))
        for name, one in found.items():
            if one is None:
                continue
            same = exact if name in ("mmfusion, steps", "statsmodels GLM") else smooth
            difference = float(np.abs(np.array(one["coef"]) - same).max())
            rows.append((f"n={n}, J={j}", name, one["seconds"], one["mb"], difference))
    seconds = epochs()
    rows += [(f"512 images, J={j}", "epoch", s, np.nan, np.nan) for j, s in seconds.items()]
    table = pd.DataFrame(rows, columns=["case", "model", "seconds", "mb", "difference"])
    table.to_csv(RESULTS, index=False, float_format="%.4g")
    print(table.to_string(index=False))
    print(f"epoch at 20 intervals over that at 1: {seconds[20] / seconds[1]:.2f}")


if __name__ == "__main__":
    main()
