"""Are the predictions for new patients as far apart as they should be?

Simulated studies with a known mechanism (that of ``effects.py``): ten genes, of which two act
linearly and one by its square, and a randomised treatment. A default `FusionCox` is fitted to n
patients, with a formula (``treatment``) and without; the calibration slope is the coefficient of
its log hazard in a Cox model of 2,000 new patients: below 1 predictions are too far apart. With
``patience=None`` nothing may judge the networks: whether a warning says so is counted.

    python -m benchmarks.calibration_slope           # appends to results/calibration_slope.csv
    python -m benchmarks.calibration_slope --report
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks import effects
from mmfusion import Genes, Tabular
from mmfusion.estimators import FusionCox
from mmfusion.model.share import UnjudgedWarning

RESULTS = Path(__file__).parent / "results" / "calibration_slope.csv"
FIELDS = ["n", "model", "seed", "slope", "share", "warned", "seconds"]
SIZES, NEW = (200, 1000, 5000), 2000
SETTINGS: dict[str, dict[str, Any]] = {
    "no formula": {},
    "formula": {"structured": "treatment"},
    "no formula, patience=None": {"patience": None, "epochs": 60},
    "formula, patience=None": {"structured": "treatment", "patience": None, "epochs": 60},
    "no formula, patience=None, one network": {"patience": None, "epochs": 60, "n_members": 1},
}


def study(draw: Any, n: int, name: str, seed: int) -> dict[str, Any]:
    """Return the slope of one study."""
    rng = np.random.default_rng([17, n, seed])
    mechanism = draw.Mechanism("cox", n, 0.5)
    train, new = mechanism.draw(n, rng), mechanism.draw(NEW, rng)
    modalities = {"genes": Genes("gene_*"), "arm": Tabular(["treatment"])}
    if "structured" in SETTINGS[name]:
        del modalities["arm"]
    model = FusionCox(modalities, device="cpu", random_state=seed, **SETTINGS[name])
    started = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(train, mechanism.outcome(train))
    judged = pd.DataFrame({"risk": model.predict(new)})
    again = FusionCox({}, structured="risk").fit(judged, mechanism.outcome(new))
    return {
        "n": n,
        "model": name,
        "seed": seed,
        "slope": round(float(again.effects_.loc["risk", "coef"]), 4),
        "share": round(float(np.max(model.model_.deep.share)), 4),
        "warned": any(issubclass(one.category, UnjudgedWarning) for one in caught),
        "seconds": round(time.process_time() - started, 2),
    }


def report() -> str:
    """Return the medians as a table in Markdown."""
    table = pd.read_csv(RESULTS)
    lines = [
        "| patients | model | studies | slope, median | quartiles | warned |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (n, name), some in table.groupby(["n", "model"], sort=False):
        low, middle, high = some["slope"].quantile([0.25, 0.5, 0.75])
        cells = [f"{n:,}", name, len(some), f"{middle:.2f}", f"{low:.2f} to {high:.2f}"]
        lines.append(f"| {' | '.join(map(str, cells))} | {some['warned'].mean():.0%} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    if not arguments.report:
        torch.set_num_threads(1)
        draw = effects
        done = set()
        if RESULTS.exists():
            known = pd.read_csv(RESULTS)
            done = set(zip(known["n"], known["model"], known["seed"], strict=True))
        with RESULTS.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS)
            if not done:
                writer.writeheader()
            for seed in range(arguments.studies):
                for n in SIZES:
                    for name in SETTINGS:
                        if (n, name, seed) not in done:
                            writer.writerow(study(draw, n, name, seed))
                            file.flush()
    print(report())


if __name__ == "__main__":
    main()
