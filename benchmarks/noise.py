"""Does a modality of noise take anything away? METABRIC beside 2 x 512 columns of noise.

For each operator of joint fusion, early and late fusion: `FusionCox` as it comes on METABRIC's
clinical columns and genes, and on the same with the noise named as a further modality, in the
first folds of `defaults.py`. Scores are appended to a CSV at once, so that an interrupted run goes
on where it stopped.

    python -m benchmarks.noise --folds 3       # one core: half an hour
    python -m benchmarks.noise --report        # only the table
"""

from __future__ import annotations

import argparse
import hashlib
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import mmfusion.model.linear_part as linear_part
from benchmarks import defaults
from mmfusion import Genes
from mmfusion.estimators import FusionCox
from mmfusion.evaluation.intervals import corrected_interval
from mmfusion.fusion import OPERATORS, EarlyFusion, LateFusion
from mmfusion.metrics import concordance_index

RESULTS = Path(__file__).parent / "results" / "noise.csv"
FUSIONS: dict[str, Any] = {
    **{name: name for name in sorted(OPERATORS)},
    "early": EarlyFusion(),
    "early, components": EarlyFusion("pca"),
    "late, mean": LateFusion(),
    "late, stack": LateFusion("stack"),
}


def remember_ridges() -> None:
    """Compute each ridge once: it is the same for all ways to fuse the same modalities."""
    known: dict[bytes, Any] = {}
    fit_ridge = linear_part.fit_ridge

    def remembered(
        likelihood: Any, design: Any, blocks: Any, *rest: Any, start: Any = None, **more: Any
    ) -> Any:
        digest = hashlib.blake2b()
        beside = [block.numbers for block in design.blocks]
        for values in [*blocks, *beside, *([] if start is None else [start])]:
            digest.update(np.ascontiguousarray(values).tobytes())
        digest.update(
            repr((likelihood.value(np.zeros(likelihood.shape)), more["with_errors"])).encode()
        )
        key = digest.digest()
        if key not in known:
            known[key] = fit_ridge(likelihood, design, blocks, *rest, start=start, **more)
        return known[key]

    linear_part.fit_ridge = remembered  # type: ignore[attr-defined]


def run(n_folds: int, out: Path) -> None:
    plain = defaults.deepsurv("metabric", defaults.classical.METABRIC)
    values = np.random.default_rng(0).normal(size=(len(plain.frame), 1024))
    noise_columns = pd.DataFrame(values, index=plain.frame.index).add_prefix("noise_")
    frame, target = pd.concat([plain.frame, noise_columns], axis=1), plain.target
    sets = {
        "without": plain.modalities,
        "with": {**plain.modalities, "noise": Genes("noise_*")},
    }
    done = set()
    if out.exists():
        seen = pd.read_csv(out)
        done = set(zip(seen["fusion"], seen["noise"], seen["repeat"], seen["fold"], strict=True))
    remember_ridges()
    for repeat, fold, train, test in defaults.folds_of(plain)[:n_folds]:
        for name, fusion in FUSIONS.items():
            for noise, modalities in sets.items():
                if (name, noise, repeat, fold) in done:
                    continue
                started = time.process_time()
                model = FusionCox(modalities, fusion, device="cpu", random_state=repeat)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    model.fit(frame.iloc[train], target[train])
                risk = model.predict(frame.iloc[test])
                line = {
                    "fusion": name,
                    "noise": noise,
                    "repeat": repeat,
                    "fold": fold,
                    "c": round(concordance_index(target[test], risk), 5),
                    "share": round(float(np.mean(model.model_.deep.share)), 4),
                    "seconds": round(time.process_time() - started, 1),
                }
                out.parent.mkdir(exist_ok=True)
                pd.DataFrame([line]).to_csv(out, mode="a", header=not out.exists(), index=False)
                print(line, flush=True)


def report(out: Path) -> None:
    """Print C without and with the noise, and the paired difference with its 95 % interval."""
    scores = pd.read_csv(out)
    table = scores.pivot_table(index=["fusion", "repeat", "fold"], columns="noise", values="c")
    table = table.dropna()
    folds = table.groupby(level=["repeat", "fold"]).ngroups
    print(f"{folds} folds\n\n| fusion | without | with noise | difference | 95 % interval |")
    print("| --- | --- | --- | --- | --- |")
    for name in [name for name in FUSIONS if name in table.index.get_level_values(0)]:
        mine = table.loc[name]
        d = (mine["with"] - mine["without"]).to_numpy()
        interval = corrected_interval(d, 1 / 5) if len(d) > 1 and d.std() > 0 else None
        shown = "-" if interval is None else f"[{interval.lower:+.4f}, {interval.upper:+.4f}]"
        means = f"{mine['without'].mean():.4f} | {mine['with'].mean():.4f} | {d.mean():+.4f}"
        print(f"| {name} | {means} | {shown} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    if not asked.report:
        run(asked.folds, asked.out)
    report(asked.out)


if __name__ == "__main__":
    main()
