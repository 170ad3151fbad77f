"""METABRIC: each loss of `FusionDiscreteTime` and `FusionCox`, all with their defaults, same folds.

Nothing is tuned. The Kaplan-Meier curve of the training rows stands beside them: its C is 0.5.
Antolini's C compares curves at event times, which is what DeepHit's ranking loss is about.

    python -m benchmarks.discrete_time                           # 5 folds, a minute on one core
    python -m benchmarks.discrete_time --repeats 5 --output docs/discrete_time.md
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from mmfusion.datasets import load_metabric
from mmfusion.estimators import FusionCox, FusionDiscreteTime
from mmfusion.evaluation import CoxRidge, compare, survival_stratified_folds
from mmfusion.evaluation.paired import METRICS, TestFold
from mmfusion.heads.discrete import LOSSES
from mmfusion.metrics import concordance_index_antolini
from mmfusion.modalities import Tabular
from mmfusion.survival import kaplan_meier


class KaplanMeier(BaseEstimator):
    """The curve of the training rows, for everyone."""

    def fit(self, X: Any, y: Any) -> KaplanMeier:
        self.curve_ = kaplan_meier(y["time"], y["event"])
        return self

    def predict(self, X: Any) -> np.ndarray:
        return np.zeros(len(X))

    def predict_survival_function(self, X: Any, times: Any) -> np.ndarray:
        return np.tile(self.curve_(times), (len(X), 1))


def antolini(fold: TestFold) -> float:
    times = np.unique(fold.y.time[fold.y.event])
    return concordance_index_antolini(fold.y, fold.survival(times), times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--n-intervals", type=int, default=10)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    metabric = load_metabric()
    shared = {"device": "cpu", "random_state": 0}
    models = {
        "FusionCox": FusionCox(**shared),
        "Kaplan-Meier": KaplanMeier(),
        "Cox ridge": CoxRidge(Tabular()),
    }
    for loss in LOSSES:
        models[loss] = FusionDiscreteTime(loss=loss, n_intervals=arguments.n_intervals, **shared)
    # A linear part has one effect for all intervals of time; a network alone has not.
    alone = {"linear": False, "n_members": 1}
    models["logistic_hazard, one network alone"] = FusionDiscreteTime(
        n_intervals=arguments.n_intervals, **shared, **alone
    )
    folds = survival_stratified_folds(metabric.target, 5, arguments.repeats, random_state=0)
    metrics = {**METRICS, "Antolini's C": antolini}
    comparison = compare(models, metabric.frame, metabric.target, folds, metrics=metrics)
    table = comparison.to_markdown("FusionCox")
    print(table)
    if arguments.output:
        arguments.output.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
