"""Does an image that shows a structured column take its effect away?

Simulated cohorts in which the brightness of one half of an image is, without noise, the
standardised column x of the table; that of the other half is another variable z. The log-hazard is
``x + 2 (3 z^2 - 1)``. Of each cohort: the Cox model of x alone (classical), `FusionCox` with x in
the formula and the image beside it, with ``orthogonalization="post_hoc"`` and None, and a Wide &
Deep model: coefficient and network trained together by Adam, from zero, in plain torch.

Counted is in how many simulations the coefficient of x stays within two standard errors of the
classical one. Every simulation also looks whether the projection is exact, and how far it changes
the fitted model's predictions of the training rows from those with None. Two trainings of
`FusionCox`: its defaults, and a short rough one (5 epochs, learning rate 0.03, no average of the
weights, no validation rows).

    python -m benchmarks.identifiability --output identifiability.md      # ten minutes of one core
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
from torch import nn

from mmfusion import Image
from mmfusion.estimators import FusionCox
from mmfusion.heads.cox import CoxPlan, cox_loss
from mmfusion.structured import Likelihood
from mmfusion.survival import surv
from mmfusion.training import Training

EFFECT, PROGNOSIS = 1.0, 2.0
TRAININGS: dict[str, dict[str, Any]] = {
    "short and rough": {
        "epochs": 5,
        "learning_rate": 0.03,
        "batch_size": 32,
        "training": Training(ema=None),
        "patience": None,
    },
    "defaults": {},
}
WIDE_AND_DEEP = "Wide & Deep, trained together"


def draw(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a cohort: x in the table and, as brightness, in the upper half of the image."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=n), rng.uniform(-1, 1, size=n)
    pixels = np.empty((n, 8, 8))
    pixels[:, :4] = 128 + 35 * x[:, None, None]
    pixels[:, 4:] = 128 + 70 * z[:, None, None] + rng.normal(0, 10, size=(n, 4, 8))
    frame = pd.DataFrame({"x": x, "image": list(pixels.clip(0, 255).round().astype(np.uint8))})
    time_ = rng.exponential(np.exp(-EFFECT * x - PROGNOSIS * (3 * z**2 - 1)))
    limit = rng.exponential(2.0, size=n)
    return frame, surv(np.minimum(time_, limit), time_ <= limit)


def overlap(model: FusionCox, frame: pd.DataFrame, y: np.ndarray) -> float:
    """Return |X'W rest| / (|X| |rest|) of what is left of the deep predictor.

    W is the mean Hessian between the structured predictor and the whole: ``W rest`` is the
    difference of the gradients (see `mmfusion.structured.project`).
    """
    fitted: Any = model.model_
    likelihood = Likelihood(fitted.head, fitted.head.encode(y))
    design = fitted.structured.design(frame)
    deep = fitted.structured.share * fitted.deep_predictor(frame)
    base = design.predict(fitted.structured.final.coef)
    rest = deep - design.predict(fitted.structured.projection)
    change = likelihood.gradient(base + rest) - likelihood.gradient(base)
    information = likelihood.information(base + rest / 2, design)
    length = np.sqrt(information.diagonal() * max(np.vdot(rest, change), 1e-300))
    return float(np.abs(design.pull(change) / length).max())


def wide_and_deep(frame: pd.DataFrame, y: np.ndarray, seed: int, epochs: int = 100) -> float:
    """Return the coefficient of x in a model trained by Adam as a whole."""
    torch.manual_seed(seed)
    pixels = torch.from_numpy(np.stack(list(frame["image"]))).float().flatten(1) / 127.5 - 1
    x = torch.from_numpy(frame["x"].to_numpy()).float()[:, None]
    wide = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(wide.weight)
    deep = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1, bias=False))
    optimizer = torch.optim.Adam([*wide.parameters(), *deep.parameters()], lr=3e-3)
    plan = CoxPlan.from_outcome(torch.tensor(y["time"].copy()), torch.tensor(y["event"].copy()))
    for _ in range(epochs):
        optimizer.zero_grad()
        cox_loss(wide(x) + deep(pixels), plan).backward()
        optimizer.step()
    return wide.weight.item()


def simulate(n: int, seed: int, trainings: list[str]) -> list[dict[str, Any]]:
    """Return how far each model's coefficient lies from the classical, in its standard errors."""
    frame, y = draw(n, seed)
    classical = FusionCox({}, structured="x").fit(frame, y).effects_.loc["x"]
    records = []

    def record(model: str, training: str, coef: float, **more: float) -> None:
        moved = (coef - classical["coef"]) / classical["se"]
        records.append({"model": model, "training": training, "moved": moved, **more})

    for training in trainings:
        predicted = []
        for how in (None, "post_hoc"):
            model = FusionCox(
                {"scan": Image("image", size=8, channels="L")},
                structured="x",
                orthogonalization=how,
                device="cpu",
                random_state=seed,
                **TRAININGS[training],
            ).fit(frame, y)
            more = {"deep_share": model.deep_share_}
            predicted.append(model.predict(frame))
            if how is not None:
                more["overlap"] = overlap(model, frame, y)
                more["change"] = float(np.abs(predicted[1] - predicted[0]).max())
            name = f"orthogonalization={how!r}"
            beside = model.model_.structured.final  # predictions are made of it
            record(name, training, beside.coef[beside.names.index("x")], **more)
    record(WIDE_AND_DEEP, "100 steps", wide_and_deep(frame, y, seed))
    return records


def report(table: pd.DataFrame) -> str:
    """Return the counts as Markdown."""
    lines = [
        "| model | training | within 2 SE of the classical coefficient | mean distance in SE | "
        "sd | largest | deep share | largest overlap | largest change of a prediction |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (model, training), part in table.groupby(["model", "training"], sort=False):
        moved = part["moved"]
        share, left, change = (
            "" if part[name].isna().all() else form.format(getattr(part[name], how)())
            for name, form, how in (
                ("deep_share", "{:.2f}", "median"),
                ("overlap", "{:.0e}", "max"),
                ("change", "{:.0e}", "max"),
            )
        )
        lines.append(
            f"| {model} | {training} | {(moved.abs() <= 2).sum()} of {len(part)} | "
            f"{moved.mean():+.2f} | {moved.std():.2f} | {moved.abs().max():.2f} | {share} | "
            f"{left} | {change} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--simulations", type=int, default=100)
    parser.add_argument("--trainings", nargs="+", choices=TRAININGS, default=list(TRAININGS))
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    started = time.process_time()
    records = []
    for seed in range(arguments.simulations):
        records += simulate(arguments.n, seed, arguments.trainings)
        if seed % 10 == 9:
            print(f"{seed + 1} simulations, {time.process_time() - started:.0f} s", flush=True)
    table = pd.DataFrame(records).reindex(
        columns=["model", "training", "moved", "deep_share", "overlap", "change"]
    )
    text = (
        f"{arguments.simulations} simulations of {arguments.n} subjects, "
        f"{(time.process_time() - started) / 60:.0f} minutes of CPU.\n\n{report(table)}\n"
    )
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
