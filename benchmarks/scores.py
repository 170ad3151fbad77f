"""Coverage of the intervals of scores: 400 cohorts a row, of a model whose true score is known.

Survival is exponential with log-hazard ``x1 + 0.5 x2``; the model predicts from x1 alone, too
extremely (its calibration slope is 0.8), the reference model from x2 alone. The truth of a score is
that of a cohort of 200,000; Harrell's C depends on the censoring, the others do not.

    python -m benchmarks.scores --output benchmarks/results/scores.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.metrics import Score, scores_with_influence, survival_calibration
from mmfusion.survival import surv

#: Where AUC, Brier score and calibration are read, and the grid of the integrated score.
AT, GRID, TAU = 0.7, np.array([0.2, 0.45, 0.7, 0.95]), 1.5
SLOPE = 0.8
#: Mean of the exponential censoring; about 25 % and 60 % are censored.
CENSORING = {"25 %": 4.0, "60 %": 0.75}
SIZES = (100, 200, 500, 1000)
#: Rows of a cluster share a part of x, and of their frailty.
N_CLUSTERS = (10, 20, 40)


def draw(
    rng: np.random.Generator, n: int, mean: float, cluster: np.ndarray | None = None
) -> dict[str, Any]:
    """Return a cohort: outcome, risks of the two models, survival by `GRID`, clusters."""
    x = rng.normal(size=(n, 2))
    shared = np.zeros(n)
    if cluster is not None:
        level = rng.normal(size=(cluster.max() + 1, 2))
        x = np.sqrt(0.8) * x + np.sqrt(0.2) * level[cluster]
        shared = 0.4 * rng.normal(size=cluster.max() + 1)[cluster]
    death = rng.exponential(np.exp(-(x[:, 0] + 0.5 * x[:, 1] + shared)))
    lost = rng.exponential(mean, n).clip(max=3.0) if mean < np.inf else np.full(n, np.inf)
    risk = x[:, 0] / SLOPE
    return {
        "y": surv(np.minimum(death, lost), death <= lost),
        "risk": risk,
        "other": x[:, 1],
        "survival": np.exp(-np.exp(risk)[:, None] * GRID),
        "cluster": cluster,
    }


def scores(cohort: dict[str, Any]) -> dict[str, Score]:
    """Return every score of the model, with its influences."""
    y, risk, survival = cohort["y"], cohort["risk"], cohort["survival"]
    at = int(np.flatnonzero(GRID == AT)[0])
    harrell = scores_with_influence("harrell", y, risk)["harrell"]
    found = {
        "Harrell's C": harrell,
        "difference of C": harrell
        - scores_with_influence("harrell", y, cohort["other"])["harrell"],
        "Uno's C": scores_with_influence("uno", y, risk, tau=TAU)["uno"],
        "AUC(t)": scores_with_influence("auc", y, risk, times=[AT])[AT],
        "Brier(t)": scores_with_influence("brier", y, survival[:, [at]], times=[AT])[AT],
        "scaled Brier(t)": scores_with_influence("scaled_brier", y, survival[:, [at]], times=[AT])[
            AT
        ],
        "integrated Brier": scores_with_influence("ibs", y, survival, times=GRID)["ibs"],
    }
    return found


def truths(rng: np.random.Generator, mean: float, cluster: np.ndarray | None) -> dict[str, float]:
    """Return the scores of a very large cohort; only Harrell's C sees the censoring."""
    n = 200_000
    many = None if cluster is None else np.arange(n) // 10
    free = {name: score.value for name, score in scores(draw(rng, n, np.inf, many)).items()}
    censored = scores(draw(rng, n, mean, many))
    for name in ("Harrell's C", "difference of C"):
        free[name] = censored[name].value
    return free


def calibration_truths(rng: np.random.Generator, cluster: np.ndarray | None) -> dict[str, float]:
    """Return slope, intercept and O/E of a very large cohort without censoring."""
    n = 200_000
    cohort = draw(rng, n, np.inf, None if cluster is None else np.arange(n) // 10)
    found = survival_calibration(cohort["y"], cohort["survival"][:, 2], AT).scores
    return {name: score.value for name, score in found.items()}


def study(
    n: int, censoring: str, n_clusters: int | None, n_runs: int, seed: int
) -> list[dict[str, Any]]:
    """Return the coverage of each score's interval in one situation."""
    rng = np.random.default_rng(seed)
    mean = CENSORING[censoring]
    cluster = None if n_clusters is None else np.arange(n) % n_clusters
    truth = truths(rng, mean, cluster) | calibration_truths(rng, cluster)
    inside: dict[str, list[bool]] = {name: [] for name in truth}
    bias: dict[str, list[float]] = {name: [] for name in truth}
    width: dict[str, list[float]] = {name: [] for name in truth}
    for _ in range(n_runs):
        cohort = draw(rng, n, mean, cluster)
        found = scores(cohort)
        found |= survival_calibration(cohort["y"], cohort["survival"][:, 2], AT).scores
        for name, score in found.items():
            value, _, lower, upper = score.interval(cluster=cluster)
            inside[name].append(lower <= truth[name] <= upper)
            bias[name].append(value - truth[name])
            width[name].append(upper - lower)
    return [
        {
            "score": name,
            "n": n,
            "censored": censoring,
            "clusters": n_clusters or "",
            "truth": truth[name],
            "bias": np.mean(bias[name]),
            "width": np.median(width[name]),
            "coverage": np.mean(inside[name]),
            "monte_carlo_se": np.std(inside[name]) / np.sqrt(n_runs),
            "runs": n_runs,
        }
        for name in truth
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/scores.csv"))
    parser.add_argument("--runs", type=int, default=400)
    options = parser.parse_args()
    situations: list[tuple[int, str, int | None]] = [
        (n, censoring, None) for n in SIZES for censoring in CENSORING
    ]
    situations += [(400, "25 %", n_clusters) for n_clusters in N_CLUSTERS]
    rows: list[dict[str, Any]] = []
    for seed, situation in enumerate(situations):
        rows += study(*situation, options.runs, seed)
        table = pd.DataFrame(rows).round(4)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(options.output, index=False)
        print(table[-len(rows) // (seed + 1) :].to_string(index=False), flush=True)


if __name__ == "__main__":
    main()
