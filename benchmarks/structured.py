"""What a formula costs: time and memory of a fit, size of a fitted model, time to import.

Each contender of each case runs in a process of its own with one thread, and may take ten minutes
of CPU time and 12 GB. It draws data, fits a small part of them (what is loaded once stays out of
the figures), then fits them all. Seconds are CPU time, the median of five fits, fewer of slow ones;
MB are the peak of the first fit above what the process held before it. The reference fits the
same model: statsmodels' GLM on person-period rows (discrete time), scikit-learn's
LogisticRegression without penalty (classes), scikit-survival (Cox), statsmodels' MixedLM (levels of
a site). Differences are the largest of coefficients and of standard errors.

Results are kept in ``results/structured.csv`` under a label, in the place of what the label had;
the report shows all labels beside each other.

    python -m benchmarks.structured --label after               # half an hour at most
    python -m benchmarks.structured --label after --cases Cox   # those whose names begin so
    python -m benchmarks.structured --report
"""

# ruff: noqa: E402 - the number of threads is read when NumPy and Torch are imported
from __future__ import annotations

import argparse
import ast
import ctypes
import json
import os
import pickle
import resource
import signal
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
import pandas as pd
import statsmodels.api as sm
import torch
from sklearn.linear_model import LogisticRegression

import mmfusion
from benchmarks import newton
from mmfusion.estimators import FusionClassifier, FusionCox, FusionDiscreteTime, FusionRegressor
from mmfusion.modalities import Tabular
from mmfusion.survival import surv

torch.set_num_threads(1)

RESULTS = Path(__file__).parent / "results" / "structured.csv"
OURS, REFERENCE = "mmfusion", "reference"
CPU_SECONDS, GIGABYTES = 600, 12.0
#: Fits of one contender: no further one where they have taken this long.
RUNS, ENOUGH_SECONDS = 5, 20.0

Fitted = tuple[np.ndarray, np.ndarray | None]
Fit = Callable[[], Fitted]


class Case(NamedTuple):
    """A model: what draws its data, and what fits it by each library.

    Attributes
    ----------
    draw : callable
        Takes a number of rows, returns data.
    n : int
    ours, reference : callable
        Take data; return a call that fits and returns coefficients and standard errors.
    """

    draw: Callable[[int], Any]
    n: int
    ours: Callable[[Any], Fit]
    reference: Callable[[Any], Fit]


def names(p: int) -> list[str]:
    return [f"x{j}" for j in range(p)]


def columns(n: int, p: int) -> tuple[pd.DataFrame, np.random.Generator]:
    rng = np.random.default_rng(p)
    return pd.DataFrame(rng.normal(size=(n, p)), columns=names(p)), rng


# Discrete time.


def draw_times(n: int, n_intervals: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return eight columns, times, about half of them events, and intervals of as many events."""
    frame, rng = columns(n, 8)
    time_ = rng.exponential(np.exp(-0.3 * frame.to_numpy().sum(axis=1)))
    limit = rng.exponential(size=n)
    y = surv(np.minimum(time_, limit), time_ <= limit)
    shares = np.arange(1, n_intervals + 1) / n_intervals
    return frame, y, np.array([0.0, *np.quantile(y["time"][y["event"]], shares)])


def discrete(data: Any) -> Fit:
    frame, y, cuts = data
    model = FusionDiscreteTime({}, cuts=cuts, structured=" + ".join(frame))

    def fit() -> Fitted:
        effects = model.fit(frame, y).effects_.loc[list(frame)]
        return effects["coef"].to_numpy(), effects["se"].to_numpy()

    return fit


def person_periods(data: Any) -> Fit:
    frame, y, cuts = data
    time_, event = y["time"], y["event"]
    holds = np.searchsorted(cuts, time_, side="left")
    survived = np.minimum(np.searchsorted(cuts, time_, side="right") - 1, len(cuts) - 1)
    last = np.where(event, holds, survived)
    row = np.repeat(np.arange(len(frame)), last)
    interval = np.concatenate([np.arange(k) for k in last])
    fails = event[row] & (interval == last[row] - 1)

    def fit() -> Fitted:
        design = np.column_stack([frame.to_numpy()[row], np.eye(len(cuts) - 1)[interval]])
        binomial = sm.families.Binomial()
        found = sm.GLM(fails.astype(float), design, family=binomial).fit(tol=1e-12)
        return found.params[: frame.shape[1]], found.bse[: frame.shape[1]]

    return fit


# Classes.


def draw_classes(n: int, k: int = 10, p: int = 50) -> tuple[pd.DataFrame, np.ndarray]:
    frame, rng = columns(n, p)
    logits = frame.to_numpy() @ rng.normal(0, 1 / np.sqrt(p), size=(p, k))
    return frame, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def classifier(data: Any) -> Fit:
    frame, y = data
    model = FusionClassifier({}, structured=" + ".join(frame))

    def fit() -> Fitted:
        effects = model.fit(frame, y).effects_
        wanted = [(name, str(k)) for k in np.unique(y)[1:] for name in frame]
        effects = effects.set_axis(effects.index.map(lambda at: (at[0], str(at[1])))).loc[wanted]
        return effects["coef"].to_numpy(), effects["se"].to_numpy()

    return fit


def logistic(data: Any, **settings: Any) -> Fit:
    frame, y = data
    settings = settings or {"tol": 1e-8, "max_iter": 1000}

    def fit() -> Fitted:
        coef = LogisticRegression(C=np.inf, **settings).fit(frame, y).coef_
        return (coef[1:] - coef[0]).ravel(), None

    return fit


# Cox: data and fits of newton.py beside this file.


def draw_cox(n: int, p: int) -> dict[str, Fit]:
    """Return the fits themselves, by their names in newton.py."""
    return newton.contenders(*newton.draw(n, p))


def cox(fits: dict[str, Fit]) -> Fit:
    return fits["mmfusion, FusionCox"]


def cox_reference(fits: dict[str, Fit]) -> Fit:
    return fits["scikit-survival"]


# A site of many levels.


def draw_sites(n: int) -> pd.DataFrame:
    """Return an outcome of a column x and of n / 5 sites."""
    frame, rng = columns(n, 1)
    site = rng.permutation(np.arange(n) % max(n // 5, 2))
    effect = rng.normal(size=n)[site]
    noise = rng.normal(size=n)
    return frame.assign(site=pd.Categorical(site.astype(str)), y=frame["x0"] + effect + noise)


def sites(frame: pd.DataFrame) -> Fit:
    def fit() -> Fitted:
        effects = FusionRegressor({}, structured="x0 + re(site)").fit(frame, frame["y"]).effects_
        return effects.loc[["x0"], "coef"].to_numpy(), effects.loc[["x0"], "se"].to_numpy()

    return fit


def mixed(frame: pd.DataFrame) -> Fit:
    def fit() -> Fitted:
        design = sm.add_constant(frame[["x0"]])
        found = sm.MixedLM(frame["y"], design, groups=frame["site"]).fit(reml=True)
        return found.fe_params[["x0"]].to_numpy(), found.bse_fe[["x0"]].to_numpy()

    return fit


CASES = {
    "discrete time, n = 2,000, J = 100, 8 columns": Case(
        partial(draw_times, n_intervals=100), 2_000, discrete, person_periods
    ),
    "discrete time, n = 20,000, J = 20, 8 columns": Case(
        partial(draw_times, n_intervals=20), 20_000, discrete, person_periods
    ),
    "10 classes, n = 20,000, 10 columns, the reference at its default tolerance": Case(
        partial(draw_classes, p=10), 20_000, classifier, partial(logistic, tol=1e-4)
    ),
    "300 classes, n = 20,000, 10 columns": Case(
        partial(draw_classes, k=300, p=10), 20_000, classifier, logistic
    ),
    "10 classes, n = 10,000, 50 columns": Case(draw_classes, 10_000, classifier, logistic),
    "10 classes, n = 100,000, 50 columns": Case(draw_classes, 100_000, classifier, logistic),
    "Cox, n = 100,000, 10 columns": Case(partial(draw_cox, p=10), 100_000, cox, cox_reference),
    "Cox, n = 100,000, 50 columns": Case(partial(draw_cox, p=50), 100_000, cox, cox_reference),
    "re(site) of 1,000 levels, n = 5,000": Case(draw_sites, 5_000, sites, mixed),
    "re(site) of 10,000 levels, n = 50,000": Case(draw_sites, 50_000, sites, mixed),
}


def resident(key: str) -> float:
    """Return VmRSS, VmHWM or VmSize of this process in MB."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith(key + ":"))
    return int(line.split()[1]) / 1024


def measure(name: str, contender: str, gigabytes: float) -> dict[str, Any]:
    """Return what one contender took for one case, in this process."""
    warnings.simplefilter("ignore")
    case = CASES[name]
    make = case.ours if contender == OURS else case.reference
    make(case.draw(case.n // 20))()
    fit = make(case.draw(case.n))
    ctypes.CDLL(None).malloc_trim(0)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # peak = now
    room = int(resident("VmSize") * 2**20 + gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    until = int(time.process_time()) + CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))
    seconds: list[float] = []
    megabytes = 0.0
    while len(seconds) < RUNS and sum(seconds) < ENOUGH_SECONDS:
        started = time.process_time()
        coef, se = fit()
        seconds.append(time.process_time() - started)
        megabytes = megabytes or resident("VmHWM") - before
    return {
        "seconds": statistics.median(seconds),
        "megabytes": megabytes,
        "runs": len(seconds),
        "coef": coef.tolist(),
        "se": None if se is None else se.tolist(),
    }


def in_a_process(name: str, contender: str, gigabytes: float) -> dict[str, Any]:
    """Return what `measure` says, or the limit that was met."""
    command = [sys.executable, "-m", __spec__.name, "--measure", name, contender]
    command += ["--gigabytes", str(gigabytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    if done.returncode == -signal.SIGXCPU:
        return {"note": f"over {CPU_SECONDS} s"}
    if any(said in done.stderr for said in ("MemoryError", "allocate memory")):
        return {"note": f"over {gigabytes:g} GB"}
    raise RuntimeError(done.stderr)


def apart(ours: dict[str, Any], theirs: dict[str, Any], key: str) -> str:
    if ours.get(key) is None or theirs.get(key) is None:
        return ""
    return f"{np.abs(np.subtract(ours[key], theirs[key])).max():.0e}"


def fits(name: str, gigabytes: float) -> dict[str, str]:
    """Return the quantities of a case."""
    ours, theirs = (in_a_process(name, who, gigabytes) for who in (OURS, REFERENCE))
    found = {}
    for who, taken in ((OURS, ours), (REFERENCE, theirs)):
        found[f"CPU seconds, {who}"] = f"{taken['seconds']:.3g}" if "seconds" in taken else ""
        found[f"MB, {who}"] = f"{taken['megabytes']:.0f}" if "seconds" in taken else ""
        found[f"limit, {who}"] = taken.get("note", "")
        found[f"runs, {who}"] = str(taken.get("runs", ""))
    if "seconds" in ours and "seconds" in theirs:
        found["times the reference's"] = f"{ours['seconds'] / theirs['seconds']:.3g}"
    found["difference of coef"] = apart(ours, theirs, "coef")
    found["difference of se"] = apart(ours, theirs, "se")
    return {key: value for key, value in found.items() if value}


# Sizes and imports.

PICKLES = "pickle of a fitted FusionCox, 8 columns"
IMPORTS = "import"
STATEMENTS = {
    "torch": "import torch",
    "torch and scikit-learn": "import torch, sklearn.linear_model",
    "mmfusion.estimators": "import mmfusion.estimators",
}
UNNEEDED = ("pycox", "matplotlib", "lifelines", "torchvision", "timm", "lightning_fabric")


def pickles() -> dict[str, str]:
    """Return the size of the pickle of a fitted model, by number of rows."""
    found = {}
    for kind, modalities in (("no network", {}), ("a network", {"table": Tabular(names(8))})):
        sizes = {}
        for n in (500, 5_000):
            frame, y, _ = draw_times(n, 2)
            formula = " + ".join(frame)
            model = FusionCox(
                modalities, structured=formula, epochs=1, device="cpu", random_state=0
            )
            sizes[n] = len(pickle.dumps(model.fit(frame, y)))
            found[f"kB, {kind}, n = {n:,}"] = f"{sizes[n] / 1000:.0f}"
        found[f"bytes a row, {kind}"] = f"{(sizes[5_000] - sizes[500]) / 4_500:.1f}"
    return found


def imports() -> dict[str, str]:
    """Return seconds of CPU time of an import in a fresh interpreter, the median of seven."""
    seconds: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(7):
        for name, statement in STATEMENTS.items():
            code = (
                f"import time; t = time.process_time(); {statement}; print(time.process_time() - t)"
            )
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
            seconds[name].append(float(done.stdout))
    found = {f"CPU seconds, {n}": f"{statistics.median(s):.2f}" for n, s in seconds.items()}
    statement = STATEMENTS["mmfusion.estimators"]
    code = f"{statement}, sys; print([m for m in {UNNEEDED} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return found | {"loaded": " ".join(ast.literal_eval(done.stdout)) or "none"}


def record(label: str, case: str, found: dict[str, str]) -> None:
    """Write the quantities of a case in the place of those that the label had of it."""
    git = ["git", "log", "-1", "--format=%h", "--", "mmfusion"]  # of the package that was measured
    root = Path(mmfusion.__file__).parents[1]
    done = subprocess.run(git, capture_output=True, text=True, check=True, cwd=root)
    commit = done.stdout.strip()
    new = pd.DataFrame(
        [(case, label, commit, quantity, value) for quantity, value in found.items()],
        columns=["case", "label", "commit", "quantity", "value"],
    )
    if RESULTS.exists():
        old = pd.read_csv(RESULTS, dtype=str)
        new = pd.concat([old[(old["case"] != case) | (old["label"] != label)], new])
    new.to_csv(RESULTS, index=False)


def report() -> str:
    """Return a table a case, a column a label."""
    results = pd.read_csv(RESULTS, dtype=str)
    lines = []
    for case in [case for case in (*CASES, PICKLES, IMPORTS) if case in set(results["case"])]:
        part = results[results["case"] == case]
        table = part.pivot(index="quantity", columns="label", values="value")
        table = table.loc[part["quantity"].unique(), part["label"].unique()].fillna("")
        lines += [
            "",
            f"| {case} | " + " | ".join(table) + " |",
            "| --- |" + " ---: |" * len(table.columns),
        ]
        lines += [
            f"| {quantity} | " + " | ".join(row) + " |"
            for quantity, row in zip(table.index, table.to_numpy(), strict=True)
        ]
    return "\n".join(lines[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--label", default="now", help="under which results are kept")
    parser.add_argument("--cases", nargs="+", default=[""], help="how the names of cases begin")
    parser.add_argument(
        "--gigabytes", type=float, default=GIGABYTES, help="most that a fit may take"
    )
    parser.add_argument("--report", action="store_true", help="write the tables and stop")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(*arguments.measure, arguments.gigabytes)))
        return
    todo = {name: partial(fits, name, arguments.gigabytes) for name in CASES}
    todo |= {PICKLES: pickles, IMPORTS: imports}
    for name, call in todo.items():
        if not arguments.report and name.startswith(tuple(arguments.cases)):
            found = call()
            print(name, found, flush=True)
            record(arguments.label, name, found)
    print(report())


if __name__ == "__main__":
    main()
