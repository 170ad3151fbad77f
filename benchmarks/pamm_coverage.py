"""How often bands of an effect that varies over time hold the truth, in simulated data.

Hazards cross: the log hazard ratio of `x` falls from 1 through 0. Of 200 data sets each, the
share of the times from 0.1 to 2.4 that the pointwise band of ``tv(x)`` holds, and the share of data
sets whose whole curve the simultaneous band holds; with smoothing parameters as estimates, the
default, and as if they were known (``unconditional=False``, as R's mgcv by default).

    python -m benchmarks.pamm_coverage   # ten minutes; writes results/pamm_coverage.csv
"""

# ruff: noqa: E402 - the number of threads is read when NumPy and Torch are imported
from __future__ import annotations

import os
import warnings
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
import pandas as pd

from mmfusion.estimators import FusionPAMM
from tests.estimators.test_pamm_simulated import crossing, effect

RESULTS = Path(__file__).parent / "results" / "pamm_coverage.csv"
CASES = [(600, 20), (600, 50), (1500, 50)]
TIMES = np.linspace(0.1, 2.4, 47)


def covered(n: int, n_intervals: int, seed: int) -> list[dict[str, float]]:
    """Return what the bands of one data set hold, with smoothing parameters estimated or known."""
    frame, y = crossing(n, seed)
    model = FusionPAMM({}, structured="z + tv(x)", n_intervals=n_intervals).fit(frame, y)
    rows = []
    for unconditional in (True, False):
        row: dict[str, float] = {"unconditional": unconditional}
        for bands in ("pointwise", "simultaneous"):
            found = model.smooth_effect("tv(x)", TIMES, bands=bands, unconditional=unconditional)
            inside = (found["lower"] <= effect(TIMES)) & (effect(TIMES) <= found["upper"])
            row[bands] = float(inside.mean() if bands == "pointwise" else inside.all())
        rows.append({**row, "se": float(found["se"].mean())})
    return rows


def main() -> None:
    warnings.simplefilter("ignore")  # times after the middle of the last interval
    tables = []
    for n, j in CASES:
        rows = [row for seed in range(200) for row in covered(n, j, 20_000 + seed)]
        table = pd.DataFrame(rows).groupby("unconditional").mean().reset_index()
        tables.append(table.assign(n=n, n_intervals=j))
        result = pd.concat(tables)[
            ["n", "n_intervals", "unconditional", "pointwise", "simultaneous", "se"]
        ]
        result.to_csv(RESULTS, index=False, float_format="%.3f")
        print(result.to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
