"""Does modality dropout help rows that lack a modality?

`mmfusion.datasets.simulate_missing_modalities`: half of the training and of the test rows lack one
or two of three modalities. The same network with ``modality_dropout=0.3`` and without, on the same
rows from the same seed, ten times: trained for 40 epochs on all rows, and with early stopping.
Harrell's C on the test rows that lack a modality and on those that lack none, and the paired
difference with its t interval; beside them late fusion, which has no use for modality dropout. All
of these are `FusionCox` with one network and no linear part; the last row is `FusionCox` as it
comes. The law and the number of epochs were chosen on draws of other seeds (100 and above).

    python -m benchmarks.missing_modalities           # five to ten minutes on one core
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats

from mmfusion import Genes, Tabular
from mmfusion.datasets import simulate_missing_modalities
from mmfusion.estimators import FusionCox
from mmfusion.fusion import LateFusion
from mmfusion.metrics import concordance_index

N_TEST = 2000
RATE = 0.3
TRAININGS = {"40 epochs": {"epochs": 40, "patience": None}, "early stopping": {}}


def models(seed: int) -> dict[str, FusionCox]:
    """Return the models that are compared, by name."""
    modalities = {
        "scan": Genes("scan_*", encoder="mlp"),
        "rna": Genes("rna_*", encoder="mlp"),
        "ehr": Tabular([f"ehr_{j:02d}" for j in range(5)]),
    }
    settings = {"device": "cpu", "random_state": seed}
    as_it_comes = FusionCox(modalities, **settings)
    settings |= {"batch_size": 64, "linear": False, "n_members": 1}
    found = {}
    for training, options in TRAININGS.items():
        for rate in (0.0, RATE):
            found[f"concat, {training}, dropout {rate:g}"] = FusionCox(
                modalities, "concat", modality_dropout=rate, **options, **settings
            )
        found[f"late, {training}"] = FusionCox(modalities, LateFusion(), **options, **settings)
    return found | {"the defaults: a linear part and five networks": as_it_comes}


def trial(n: int, seed: int, only: tuple[str, ...] = ()) -> list[dict[str, float | str]]:
    """Return each model's C on incomplete and on complete test rows of one draw."""
    train = simulate_missing_modalities(n, random_state=2 * seed)
    test = simulate_missing_modalities(N_TEST, random_state=2 * seed + 1)
    lacking = ~test.truth.present.all(axis=1).to_numpy()
    records: list[dict[str, float | str]] = []
    for name, model in models(seed).items():
        if only and name not in only:
            continue
        risk = model.fit(train.frame, train.target).predict(test.frame)
        for rows, mask in (("incomplete", lacking), ("complete", ~lacking)):
            c_index = concordance_index(test.target[mask], risk[mask])
            records.append({"seed": seed, "model": name, "rows": rows, "c": c_index})
    return records


def interval(differences: np.ndarray) -> tuple[float, float, float]:
    """Return the mean of paired differences and its 95 % t interval."""
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(differences)
    return (
        float(differences.mean()),
        float(differences.mean() - half),
        float(differences.mean() + half),
    )


def report(table: pd.DataFrame) -> str:
    """Return the tables as Markdown."""
    wide = table.pivot(index="seed", columns=["model", "rows"], values="c")
    lines = [
        "| model | C, incomplete rows (sd) | C, complete rows (sd) |",
        "| --- | --- | --- |",
    ]
    for name in table["model"].unique():
        cells = [
            f"{wide[name, rows].mean():.3f} ({wide[name, rows].std():.3f})"
            for rows in ("incomplete", "complete")
        ]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    lines += [
        "",
        f"| C with dropout {RATE:g} less C without, paired | rows | mean [95 % interval] | wins |",
        "| --- | --- | --- | --- |",
    ]
    for training in TRAININGS:
        for rows in ("incomplete", "complete"):
            with_, without = (f"concat, {training}, dropout {rate:g}" for rate in (RATE, 0.0))
            difference = (wide[with_, rows] - wide[without, rows]).to_numpy()
            mean, low, high = interval(difference)
            lines.append(
                f"| {training} | {rows} | {mean:+.4f} [{low:+.4f}, {high:+.4f}] | "
                f"{(difference > 0).sum()} of {len(difference)} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    records = [record for seed in range(arguments.seeds) for record in trial(arguments.n, seed)]
    text = (
        f"{arguments.seeds} draws of {arguments.n} training and {N_TEST} test rows, half of them "
        f"lacking a modality; {(time.perf_counter() - started) / 60:.1f} minutes.\n\n"
        f"{report(pd.DataFrame(records))}\n"
    )
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
