"""Time of a training epoch with each fusion operator, relative to that with concatenation.

The operators take turns in one process, on one thread, each right after concatenation; a turn is a
few epochs of FusionCox, of which the first is not counted. On a CPU it is the process's own time
that is counted, so that others at work on the machine count little. Three tables as modalities, so
that the encoders cost little and the differences between operators are at their largest; then the
operators that take tokens, with a token a column. Dimension 32, options at their defaults.

    python -m benchmarks.fusion --output fusion.md
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mmfusion import Tabular, surv
from mmfusion.estimators import FusionCox
from mmfusion.fusion import OPERATORS, JointFusion
from mmfusion.training import Callback

N_MODALITIES, N_COLUMNS, EPOCHS = 3, 10, 3
BASE = "concat"


def cohort(n: int) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, N_MODALITIES * N_COLUMNS)).astype(np.float32)
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])])
    return frame, surv(rng.exponential(np.exp(-x[:, 0])), rng.random(n) < 0.7)


def model(strategy: JointFusion, device: str, batch: int) -> FusionCox:
    encoder = "tokens" if strategy.at == "tokens" else "mlp"
    tables = {
        f"table {k}": Tabular(
            [f"x{i}" for i in range(k * N_COLUMNS, (k + 1) * N_COLUMNS)], encoder=encoder
        )
        for k in range(N_MODALITIES)
    }
    return FusionCox(
        tables,
        strategy,
        epochs=EPOCHS + 1,
        batch_size=batch,
        patience=None,
        device=device,
        random_state=0,
    )


def contenders(device: str, batch: int) -> dict[str, FusionCox]:
    found = {name: model(JointFusion(name), device, batch) for name in sorted(OPERATORS)}
    for name, kind in sorted(OPERATORS.items()):
        if kind.takes_tokens:
            found[f"{name}, tokens"] = model(JointFusion(name, at="tokens"), device, batch)
    return found


class Clock(Callback):
    """Notes the time at each epoch's end: the process's own, or with a GPU the wall's."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.stamps: list[float] = []

    def on_epoch_end(self, state: object) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()
        self.stamps.append(time.process_time() if self.device == "cpu" else time.perf_counter())


def epoch_seconds(estimator: FusionCox, frame: pd.DataFrame, y: np.ndarray) -> float:
    """Return the median over epochs, without the first."""
    clock = Clock(estimator.device)
    estimator.set_params(training__callbacks=[clock]).fit(frame, y)
    return float(np.median(np.diff(clock.stamps)))


def interleave(
    models: dict[str, FusionCox], frame: pd.DataFrame, y: np.ndarray, turns: int
) -> dict[str, np.ndarray]:
    """Return an epoch's seconds and those of concat before it, (turns, 2); one turn warms up."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for turn in range(turns + 1):
        for name, estimator in models.items():
            base = epoch_seconds(models[BASE], frame, y)
            mine = epoch_seconds(estimator, frame, y)
            if turn:
                seconds[name].append((mine, base))
    return {name: np.array(pairs) for name, pairs in seconds.items()}


def report(models: dict[str, FusionCox], seconds: dict[str, np.ndarray]) -> str:
    """Return a Markdown table; a ratio is to concat next to it, with its range over turns."""
    lines = [
        "| operator | median epoch, ms | times concat | range over turns | weights |",
        "| --- | ---: | ---: | --- | ---: |",
    ]
    ratios = {name: pairs[:, 0] / pairs[:, 1] for name, pairs in seconds.items()}
    for name in sorted(seconds, key=lambda key: np.median(ratios[key])):
        ratio = ratios[name]
        weights = sum(p.numel() for p in models[name].network_.parameters())
        lines.append(
            f"| {name} | {1000 * np.median(seconds[name][:, 0]):.1f} | {np.median(ratio):.2f} | "
            f"{ratio.min():.2f} to {ratio.max():.2f} | {weights:,} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=5_000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--output", type=Path, help="also write the Markdown here")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    started = time.perf_counter()
    models = contenders(options.device, options.batch)
    seconds = interleave(models, *cohort(options.rows), options.turns)
    device = options.device
    machine = torch.cuda.get_device_name(device) if device != "cpu" else platform.machine()
    text = (
        f"torch {torch.__version__}, {machine}, {options.threads} thread(s), float32. "
        f"{options.rows:,} rows, {N_MODALITIES} tables of {N_COLUMNS} columns, "
        f"batch {options.batch}, {options.turns} turns.\n\n" + report(models, seconds)
    )
    print(text)
    print(f"({time.perf_counter() - started:.0f} s)")
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
