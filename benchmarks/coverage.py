"""Do the intervals of a treatment effect hold their level beside an image and genes?

Simulated trials with a known truth: treatment is randomised, a Gaussian outcome depends on it, on
the brightness of a part of an image and, not linearly, on genes. The 95 % interval of the effect
from `FusionRegressor(structured="treatment")` with cross-fitted networks, from the same model taken
at its word (``inference="model"``), and from the treatment alone (unadjusted).

    python benchmarks/coverage.py           # 200 trials of 400 patients: about half an hour
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from scipy import stats

from mmfusion import Genes, Image
from mmfusion.estimators import FusionRegressor

EFFECT = 0.5
NOISE = 1.0


def draw(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return a trial's table, its outcome and what image and genes contribute to it."""
    rng = np.random.default_rng(seed)
    brightness = rng.uniform(-1, 1, size=n)
    pixels = rng.normal(128, 25, size=(n, 8, 8))
    pixels[:, 2:6, 2:6] += 60 * brightness[:, None, None]
    genes = rng.normal(size=(n, 10))
    frame = pd.DataFrame(genes, columns=[f"gene_{j}" for j in range(10)])
    frame["image"] = list(pixels.clip(0, 255).astype(np.uint8))
    frame["treatment"] = rng.integers(0, 2, size=n)
    prognosis = 1.5 * brightness + 0.5 * genes[:, 0] + 0.35 * genes[:, 1] ** 2
    y = 1 + EFFECT * frame["treatment"] + prognosis + rng.normal(0, NOISE, size=n)
    return frame, y.to_numpy(), prognosis


def interval(coef: float, se: float, df: float) -> tuple[float, float]:
    """Return a 95 % t interval."""
    half = stats.t.ppf(0.975, df) * se
    return coef - half, coef + half


def trial(n: int, seed: int) -> list[dict[str, float | str]]:
    """Return estimate and interval of each method in one trial."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    frame, y, prognosis = draw(n, seed)
    modalities = {
        "scan": Image("image", size=8, channels="L"),
        "rna": Genes("gene_*", hidden=(16,)),
    }
    settings = {"epochs": 20, "batch_size": 64, "device": "cpu", "random_state": seed}
    model = FusionRegressor(modalities, structured="treatment", inference="cross_fit", **settings)
    model.fit(frame, y)
    part = model._structured
    at = part.final.names.index("treatment")
    plain = FusionRegressor({}, structured="treatment").fit(frame, y).effects_.loc["treatment"]
    oracle = FusionRegressor({}, structured="treatment").fit(frame, y - prognosis)
    known = oracle.effects_.loc["treatment"]
    crossed = model.effects_.loc["treatment"]
    found = {
        "cross_fit": (crossed["coef"], crossed["se"], part.reported.df_residual),
        "model": (
            part.final.coef[at],
            part.final.covariance[at, at] ** 0.5,
            part.final.df_residual,
        ),
        "unadjusted": (plain["coef"], plain["se"], n - 2),
        "oracle (prognosis known)": (known["coef"], known["se"], n - 2),
    }
    records: list[dict[str, float | str]] = []
    for method, (coef, se, df) in found.items():
        low, high = interval(float(coef), float(se), float(df))
        records.append(
            {"method": method, "coef": coef, "covers": low < EFFECT < high, "width": high - low}
        )
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=400)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--n-jobs", type=int, default=2)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    started = time.perf_counter()
    runs = Parallel(arguments.n_jobs)(
        delayed(trial)(arguments.n, seed) for seed in range(arguments.trials)
    )
    table = pd.DataFrame([record for run in runs for record in run])
    rows = [
        "| method | coverage of 95 % intervals (± Monte Carlo se) | mean width | bias (se) | sd |",
        "| --- | --- | --- | --- | --- |",
    ]
    for method, part in table.groupby("method", sort=False):
        covered, sd = part["covers"].mean(), part["coef"].std()
        error = np.sqrt(covered * (1 - covered) / len(part))
        rows.append(
            f"| {method} | {covered:.1%} (± {error:.1%}) | {part['width'].mean():.3f} | "
            f"{part['coef'].mean() - EFFECT:+.4f} ({sd / np.sqrt(len(part)):.4f}) | {sd:.3f} |"
        )
    text = (
        f"{arguments.trials} simulated trials of {arguments.n} patients, effect {EFFECT}, "
        f"{(time.perf_counter() - started) / 60:.0f} minutes.\n\n" + "\n".join(rows) + "\n"
    )
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
