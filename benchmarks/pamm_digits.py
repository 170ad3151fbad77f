"""A digit in an image raises the hazard: how near `FusionPAMM` comes to a model that knows it.

After the simulation of Kopper et al. (2022) on scikit-learn's digits, of
tests/estimators/test_pamm_simulated.py: 1,300 patients to fit, 497 to score. Of five data sets, how
far the integrated Brier score lies above that of the PAMM with the digit as a column (the oracle):
without the image, with one network and a validation part, and by default (five networks, each
trained without a fold). Settings were looked for on the first data set.

    python -m benchmarks.pamm_digits   # a quarter of an hour; writes results/pamm_digits.csv
"""

# ruff: noqa: E402 - the number of threads is read when NumPy and Torch are imported
from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
import pandas as pd
import torch

from mmfusion.estimators import FusionPAMM
from mmfusion.fusion import JointFusion
from mmfusion.metrics import integrated_brier_score
from mmfusion.modalities import Image
from tests.estimators.test_pamm_simulated import digits_cohort

torch.set_num_threads(1)

RESULTS = Path(__file__).parent / "results" / "pamm_digits.csv"
FORMULA = "x1 + x1:x3 + s(x2)"
GRID = np.linspace(0.5, 20, 40)
CUTS = [0.1, 0.5, *range(1, 31)]


def scores(seed: int) -> dict[str, float]:
    """Return the integrated Brier score of each model on one data set."""
    frame, y = digits_cohort(seed)
    train, test = np.arange(1300), np.arange(1300, len(frame))
    deep: dict[str, Any] = {
        "structured": FORMULA,
        "epochs": 150,
        "learning_rate": 0.005,
        "patience": 30,
        "device": "cpu",
        "random_state": 0,
        "cuts": CUTS,
    }
    scan = {"scan": Image("image", size=8, channels="L", encoder="cnn")}
    fusion = JointFusion(hidden=(32,))
    models = {
        "oracle": FusionPAMM({}, structured=f"{FORMULA} + high", cuts=CUTS),
        "without the image": FusionPAMM({}, structured=FORMULA, cuts=CUTS),
        "one network": FusionPAMM(scan, fusion, linear=False, n_members=1, **deep),
        "default": FusionPAMM(scan, fusion, **deep),
    }
    found = {}
    for name, model in models.items():
        model.fit(frame.iloc[train], y[train])
        curves = model.predict_survival_function(frame.iloc[test], GRID).to_numpy()
        found[name] = integrated_brier_score(y[train], y[test], curves, GRID)
    return found


def main() -> None:
    warnings.simplefilter("ignore")  # intervals without events are merged
    rows = []
    for seed in range(5):
        found = scores(seed)
        rows.append({"data set": seed, **found})
        table = pd.DataFrame(rows)
        table.to_csv(RESULTS, index=False, float_format="%.5f")
        above = table.drop(columns="data set").div(table["oracle"], axis=0) - 1
        print(above.tail(1).to_string(header=seed == 0, float_format="%.4f"), flush=True)
    print(above.agg(["mean", "std"]).to_string(float_format="%.4f"))
    more = above["default"] - above["one network"]
    print(f"default less one network: {more.mean():.4f}, standard error {more.sem():.4f}")


if __name__ == "__main__":
    main()
