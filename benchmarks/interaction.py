"""Which ways of fusing find an interaction of modalities, and which a sum of them?

Two simulated cohorts of known truth: in one the log-hazard is a product of two modalities, of which
neither tells anything alone (`make_interaction`), in the other a sum (`make_additive`). Every joint
operator, with linear predictors after it and with a hidden layer, early and late fusion; test C of
rows that were not seen, mean over draws. Each is one network; a linear part would take the sum.

    python -m benchmarks.interaction --output interaction.md
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils import Bunch

from mmfusion import Tabular
from mmfusion.datasets import make_additive, make_interaction
from mmfusion.estimators import FusionCox
from mmfusion.fusion import OPERATORS, EarlyFusion, JointFusion, LateFusion
from mmfusion.metrics import concordance_index

COHORTS = {"interaction": make_interaction, "sum": make_additive}


def score(train: Bunch, test: Bunch, fusion: object, seed: int) -> float:
    """Return the test C of one way of fusing."""
    tables = {name: Tabular(columns) for name, columns in train.columns.items()}
    alone: dict[str, Any] = {"linear": False, "n_members": 1, "epochs": 60}
    model = FusionCox(tables, fusion, device="cpu", random_state=seed, **alone)
    return model.fit(train.frame, train.target).score(test.frame, test.target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    ways: dict[str, object] = {}
    for name in sorted(OPERATORS):
        ways[f"{name}, linear"] = JointFusion(name, hidden=())
    ways |= {
        "concat, a hidden layer": JointFusion("concat"),
        "mean, a hidden layer": JointFusion("mean"),
        "early fusion": EarlyFusion(),
        "late fusion": LateFusion(),
    }
    found: dict[str, dict[str, list[float]]] = {name: {} for name in (*ways, "the truth")}
    for draw in range(arguments.draws):
        for cohort, make in COHORTS.items():
            train = make(arguments.rows, random_state=draw)
            test = make(2000, random_state=1000 + draw)
            truth = concordance_index(test.target, test.log_hazard)
            found["the truth"].setdefault(cohort, []).append(truth)
            for name, fusion in ways.items():
                value = score(train, test, fusion, draw)
                found[name].setdefault(cohort, []).append(value)
                print(draw, cohort, name, f"{value:.3f}", flush=True)
    lines = [
        f"{arguments.draws} draws, {arguments.rows} training and 2,000 test rows; C, mean (sd).\n",
        "| fusion | interaction | sum |",
        "| --- | --- | --- |",
    ]
    order = sorted(found, key=lambda name: -float(np.mean(found[name]["interaction"])))
    for name in order:
        cells = [
            f"{np.mean(found[name][cohort]):.3f} ({np.std(found[name][cohort], ddof=1):.3f})"
            for cohort in COHORTS
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
