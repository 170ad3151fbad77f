"""DeepSurv's four data sets on its published splits: linear and tuned non-linear `FusionCox`.

The linear model is held against lifelines' Cox model, the non-linear one against scikit-survival's
random survival forest (100 trees, leaves of 10) and the forest's bootstrap standard deviation. The
hyper-parameters of the non-linear model are chosen by a random search with 3-fold cross-validation
on the training rows alone; the test rows are scored once, by networks of five seeds.

    python -m benchmarks.deepsurv --output docs/deepsurv.md      # about 40 minutes on one core
    python -m benchmarks.deepsurv --data whas --candidates 5
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lifelines import CoxPHFitter
from scipy.stats import loguniform
from sklearn.model_selection import KFold, RandomizedSearchCV
from sksurv.ensemble import RandomSurvivalForest

from mmfusion import Tabular
from mmfusion.datasets import fetch_deepsurv
from mmfusion.estimators import FusionCox
from mmfusion.fusion import JointFusion
from mmfusion.metrics import concordance_index
from mmfusion.training import Training

DATA = ("whas", "support", "metabric", "gbsg")
#: One network, as DeepSurv is.
ALONE: dict[str, Any] = {"linear": False, "n_members": 1}


def linear() -> FusionCox:
    """Return the Cox model itself: one linear layer, no penalty, all risk sets whole."""
    return FusionCox(
        {"table": Tabular(encoder="raw")},
        fusion=JointFusion(hidden=()),
        **ALONE,
        batch_size=None,
        patience=None,
        epochs=400,
        training=Training(weight_decay=0.0, clip_norm=None, ema=None),
        learning_rate=0.05,
        random_state=0,
    )


def search(candidates: int, seed: int, n_jobs: int | None) -> RandomizedSearchCV:
    """Return the random search of the non-linear model."""
    network = FusionCox(
        {"table": Tabular(hidden=(), dropout=0.0)},
        fusion=JointFusion(),
        **ALONE,
        epochs=150,
        patience=25,
        training=Training(ema=None),
        random_state=seed,
    )
    space = {
        "fusion__dim": [64, 128, 256],
        "fusion__hidden": [(64,), (128,), (128, 128), (256, 256)],
        "fusion__dropout": [0.0, 0.1, 0.2, 0.4],
        "modalities__table__dropout": [0.0, 0.1],
        "learning_rate": loguniform(1e-3, 2e-2),
        "training__weight_decay": loguniform(1e-3, 0.5),
        "batch_size": [128, 256, 1024],
    }
    return RandomizedSearchCV(
        network,
        space,
        n_iter=candidates,
        cv=KFold(3, shuffle=True, random_state=seed),
        random_state=seed,
        refit=False,
        n_jobs=n_jobs,
        error_score="raise",
    )


def bootstrap_sd(y: np.ndarray, risk: np.ndarray, repeats: int = 200) -> float:
    """Return the standard deviation of C over resampled test rows."""
    rng = np.random.default_rng(0)
    draws = (rng.integers(len(y), size=len(y)) for _ in range(repeats))
    return float(np.std([concordance_index(y[rows], risk[rows]) for rows in draws], ddof=1))


def evaluate(name: str, candidates: int, seeds: int, n_jobs: int | None) -> dict[str, Any]:
    """Return one row of the table."""
    data = fetch_deepsurv(name)
    train = np.asarray(data.split == "train")
    X, y = data.frame, data.target
    Xa, ya, Xb, yb = X[train], y[train], X[~train], y[~train]
    started = time.perf_counter()

    ours = linear().fit(Xa, ya).score(Xb, yb)
    table = Xa.assign(time=ya["time"], event=ya["event"])
    cox = CoxPHFitter().fit(table, "time", "event")
    theirs = concordance_index(yb, cox.predict_log_partial_hazard(Xb).to_numpy())

    forest = RandomSurvivalForest(100, min_samples_leaf=10, random_state=0, n_jobs=n_jobs)
    risk = forest.fit(Xa.to_numpy(np.float64), ya).predict(Xb.to_numpy(np.float64))
    forest_c, sd = concordance_index(yb, risk), bootstrap_sd(yb, risk)

    tuning = search(candidates, 0, n_jobs).fit(Xa, ya)
    best = tuning.estimator.set_params(**tuning.best_params_)
    scores = [best.set_params(random_state=s).fit(Xa, ya).score(Xb, yb) for s in range(seeds)]
    print(f"{name}: chosen {tuning.best_params_}", flush=True)
    return {
        "data": name.upper(),
        "train / test": f"{train.sum()} / {(~train).sum()}",
        "Cox (lifelines)": f"{theirs:.4f}",
        "linear FusionCox": f"{ours:.4f}",
        "random survival forest (bootstrap sd)": f"{forest_c:.3f} ({sd:.3f})",
        "tuned FusionCox, mean of seeds (sd)": (
            f"{np.mean(scores):.3f} ({np.std(scores, ddof=1):.3f})"
        ),
        "cross-validated C of the choice": f"{tuning.best_score_:.3f}",
        "minutes": f"{(time.perf_counter() - started) / 60:.1f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--candidates", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--n-jobs", type=int, default=None)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning)

    rows = []
    for name in arguments.data:
        rows.append(evaluate(name, arguments.candidates, arguments.seeds, arguments.n_jobs))
        print(pd.Series(rows[-1]).to_string(), flush=True)
    lines = [list(rows[0]), ["---"] * len(rows[0]), *[list(row.values()) for row in rows]]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
    print(table)
    if arguments.output:
        arguments.output.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
