"""Time of integrated gradients of 1,000 subjects by 1,000 genes, by threads and networks.

nice -n 19 python -m benchmarks.interpret
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mmfusion import Genes
from mmfusion.estimators import FusionCox
from mmfusion.interpret import attribute
from mmfusion.survival import surv

RESULTS = Path(__file__).parent / "results" / "interpret.csv"


def draw(n: int, p: int, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, p)), columns=[f"g{j}" for j in range(p)])
    eta = frame.iloc[:, :10].sum(axis=1).to_numpy() * 0.4
    return frame, surv(rng.exponential(np.exp(-eta)), rng.random(n) < 0.7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subjects", type=int, default=1000)
    parser.add_argument("--genes", type=int, default=1000)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    given = parser.parse_args()
    frame, y = draw(given.subjects, given.genes)
    rows = []
    for members in (1, 3):
        # All genes enter the networks, whatever they can carry, and nothing stands beside these.
        modalities = {"rna": Genes("g*", n_components=None)}
        params = {"epochs": 5, "n_members": members, "linear": False, "patience": None}
        model = FusionCox(modalities, device="cpu", random_state=0, **params).fit(frame, y)
        for threads in given.threads:
            torch.set_num_threads(threads)
            for target in (None, ("survival", 0.5)):
                begin = time.perf_counter()
                found = attribute(model, frame, target=target)
                rows.append(
                    {
                        "subjects": given.subjects,
                        "genes": given.genes,
                        "networks": members,
                        "threads": threads,
                        "target": "risk" if target is None else "survival",
                        "seconds": round(time.perf_counter() - begin, 1),
                        "largest gap": f"{found.gap.max():.1e}",
                    }
                )
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    table.to_csv(RESULTS, index=False)


if __name__ == "__main__":
    main()
