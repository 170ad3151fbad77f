"""How much of the trained network should a semi-structured model keep?

One network a fold (the folds and cohorts of ``classical.py``). The share of its predictor that
minimises the loss of the validation rows is the best share; the test rows are scored with 0, 0.2
... 1 times that, and every rule is read off these scores by interpolation, as a function of the
gain G: twice that in the log-likelihood of the validation rows. Scores are appended to a CSV.

    python -m benchmarks.kept_share --data rossi TRANSBIG       # minutes a cohort
    python -m benchmarks.kept_share --report
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize_scalar

from benchmarks.classical import COHORTS
from mmfusion.estimators import FusionCox
from mmfusion.evaluation import survival_stratified_folds
from mmfusion.evaluation.paired import METRICS, TestFold
from mmfusion.model import Plan, Study
from mmfusion.survival import check_survival

RESULTS = Path(__file__).parent / "results" / "kept_share.csv"
GRID = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
RULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "best share": np.ones_like,
    "G / (G + 2)": lambda gain: gain / (gain + 2),
    "G / (G + 4)": lambda gain: gain / (gain + 4),
    "only if G > 3.84": lambda gain: (gain > 3.84).astype(float),
}


def judged(model: FusionCox, frame: pd.DataFrame, y: np.ndarray) -> tuple[float, float]:
    """Return the best share of a fitted model's deep predictor, and its gain.

    Those of the validation rows: the same seed deals them again.
    """
    fitted: Any = model.model_
    study = Study.read(Plan.of(model, frame), frame, y)
    assert study.judges is not None
    rows, target = study.judges.table, study.judges.target
    deep = torch.from_numpy(fitted.deep_predictor(rows))
    offset = fitted.structured.network_offset(fitted.structured.design(rows))

    def loss(share: float) -> float:
        return float(fitted.head.loss(offset + share * deep, target))

    best = minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded").x
    best = float(min((0.0, best, 1.0), key=loss))
    return best, 2 * fitted.head.total(target) * (loss(0.0) - loss(best))


def keep(model: FusionCox, share: float, frame: pd.DataFrame, y: np.ndarray) -> None:
    """Let a fitted model keep another share of its deep predictor."""
    fitted: Any = model.model_
    head, structured = fitted.head, fitted.structured
    target, design, deep = head.encode(y), structured.design(frame), fitted.deep_predictor(frame)
    structured.share = np.array([share])
    structured.settle(design, deep, head, target)
    head.finish(torch.from_numpy(structured.predictor(design, deep)), target)


def run(name: str, cohort: Any, results: Path) -> None:
    """Score every fold of a cohort."""
    outcome = check_survival(cohort.target)
    frame = cohort.frame[[c for c in cohort.frame if not c.startswith("pixel_")]]
    folds = survival_stratified_folds(cohort.target, 5, cohort.repeats, random_state=0)
    for number, (train, test) in enumerate(folds):
        table, y = frame.iloc[train], outcome.take(train).to_structured()
        model = FusionCox(
            cohort.modalities, structured=cohort.formula, device="cpu", random_state=number
        ).fit(table, y)
        best, gain = judged(model, table, y)
        record = {"data": name, "fold": number, "best": best, "gain": gain}
        for share in GRID:
            keep(model, share * best, table, y)
            seen = TestFold(model, frame.iloc[test], outcome.take(test), outcome.take(train))
            for metric, score in METRICS.items():
                record[f"{metric}{share}"] = score(seen)
        results.parent.mkdir(exist_ok=True)
        pd.DataFrame([record]).round(5).to_csv(
            results, mode="a", header=not results.exists(), index=False
        )


def report(results: Path) -> str:
    """Return what each rule changes against the structured part alone, times 1,000."""
    scores = pd.read_csv(results)
    columns = [f"{rule}: {metric}" for rule in RULES for metric in ("C", "Brier")]
    lines = ["| data | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for name, part in scores.groupby("data", sort=False):
        cells = []
        for rule in RULES.values():
            kept = np.clip(np.nan_to_num(rule(part["gain"].to_numpy())), 0, 1)
            for metric in METRICS:
                grid = part[[f"{metric}{share}" for share in GRID]].to_numpy()
                found = [np.interp(x, GRID, row) for x, row in zip(kept, grid, strict=True)]
                cells.append(f"{1000 * np.mean(found - grid[:, 0]):+.1f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", default=["rossi", "TRANSBIG", "WHAS500"])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="write the table and stop")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if not arguments.report:
        for name in arguments.data:
            run(name, COHORTS[name](), arguments.results)
    print(report(arguments.results))


if __name__ == "__main__":
    main()
