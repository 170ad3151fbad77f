"""A Cox fit with standard errors at n = 100,000, beside lifelines and scikit-survival.

One thread, all in one run and in turns, medians of CPU time. Ours is timed twice: the exact fit of
a design (`fit_structured`, with the encoding of the outcome), and ``FusionCox({}, structured=...)``
from a table to effects and baseline hazard. lifelines is told to go on to ``precision=1e-12``; it
stops early by default. scikit-survival gives coefficients but no standard errors. Prints a Markdown
table; ``--output`` writes it.

    python -m benchmarks.newton --output newton.md          # about two minutes
"""

# ruff: noqa: E402 - the number of threads is read when NumPy and Torch are imported
from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
import pandas as pd
import torch

warnings.filterwarnings("ignore")
from lifelines import CoxPHFitter
from sksurv.linear_model import CoxPHSurvivalAnalysis

from mmfusion.estimators import FusionCox
from mmfusion.heads import CoxHead
from mmfusion.structured import Likelihood, fit_structured
from mmfusion.survival import surv

torch.set_num_threads(1)

FIT, ESTIMATOR = "mmfusion, exact fit", "mmfusion, FusionCox"
LIFELINES, SKSURV = "lifelines", "scikit-survival"
#: By number of columns: runs, and how often faster than lifelines and scikit-survival at least.
RUNS = {10: 5, 50: 3}
BARS = {10: {LIFELINES: 25, SKSURV: 25}, 50: {LIFELINES: 6, SKSURV: 4}}

Fitted = tuple[np.ndarray, np.ndarray | None]


def draw(n: int, p: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a design and an outcome of distinct times, about half of them events."""
    rng = np.random.default_rng(p)
    x = rng.normal(size=(n, p))
    time_ = rng.exponential(np.exp(-x @ rng.normal(0, 1 / np.sqrt(p), size=p)))
    limit = rng.exponential(size=n)
    return x, surv(np.minimum(time_, limit), time_ <= limit)


def contenders(x: np.ndarray, y: np.ndarray) -> dict[str, Callable[[], Fitted]]:
    """Return what fits the same model by each library, from what it takes."""
    names = [f"x{j}" for j in range(x.shape[1])]
    frame = pd.DataFrame(x, columns=names)
    table = frame.assign(time=y["time"], event=y["event"])
    formula = " + ".join(names)

    def exact() -> Fitted:
        head = CoxHead()
        fit = fit_structured(Likelihood(head, head.fit_outcome(y)), x, names=names)
        return fit.coef, np.sqrt(np.diag(fit.covariance))

    def estimator() -> Fitted:
        effects = FusionCox({}, structured=formula).fit(frame, y).effects_
        return effects["coef"].to_numpy(), effects["se"].to_numpy()

    def lifelines() -> Fitted:
        fitter = CoxPHFitter().fit(table, "time", "event", fit_options={"precision": 1e-12})
        return fitter.params_.to_numpy(), fitter.standard_errors_.to_numpy()

    def sksurv() -> Fitted:
        return CoxPHSurvivalAnalysis(ties="efron").fit(x, y).coef_, None

    return {FIT: exact, ESTIMATOR: estimator, LIFELINES: lifelines, SKSURV: sksurv}


def measure(n: int, p: int) -> list[str]:
    """Return the lines of the table for p columns."""
    calls = contenders(*draw(n, p))
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    fitted: dict[str, Fitted] = {}
    calls[FIT]()  # loads what is loaded once
    calls[ESTIMATOR]()
    for number in range(RUNS[p]):
        for name, call in calls.items():
            if name == LIFELINES and p >= 50 and number:  # slow, and the same each time
                continue
            started = time.process_time()
            fitted[name] = call()
            seconds[name].append(time.process_time() - started)
    taken = {name: statistics.median(values) for name, values in seconds.items()}
    coef, se = fitted[FIT]
    lines = []
    for name, (theirs, errors) in fitted.items():
        coef_off = f"{np.abs(theirs - coef).max():.0e}"
        se_off = (
            "none given" if errors is None or se is None else f"{np.abs(errors - se).max():.0e}"
        )
        bar = f"at least {BARS[p][name]}" if name in BARS[p] else ""
        lines.append(
            f"| {p} | {name} | {taken[name]:.3f} | {taken[name] / taken[FIT]:.1f} | "
            f"{taken[name] / taken[ESTIMATOR]:.1f} | {bar} | {coef_off} | {se_off} | "
            f"{len(seconds[name])} |"
        )
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--columns", type=int, nargs="+", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    lines = [
        "| p | library | CPU seconds | times the exact fit's | times FusionCox's | "
        "bar (exact fit) | max abs difference of coefficients | of standard errors | runs |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for p in arguments.columns:
        lines += measure(arguments.n, p)
    text = f"n = {arguments.n:,}.\n\n" + "\n".join(lines) + "\n"
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
