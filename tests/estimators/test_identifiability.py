"""An image that shows a structured column, without noise, does not take its effect away."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import nn

from mmfusion.estimators import FusionCox
from mmfusion.heads.cox import CoxPlan, cox_loss
from mmfusion.modalities import Image
from mmfusion.survival import surv
from mmfusion.training import Training


def draw(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a cohort whose image has x as the brightness of its upper half, z of its lower."""
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=n), rng.uniform(-1, 1, size=n)
    pixels = np.repeat(128 + np.stack([35 * x, 70 * z], axis=1), 4, axis=1)[:, :, None]
    pixels = np.repeat(pixels, 8, axis=2).clip(0, 255).round().astype(np.uint8)
    frame = pd.DataFrame({"x": x, "image": list(pixels)})
    time = rng.exponential(np.exp(-x - 2 * (3 * z**2 - 1)))
    limit = rng.exponential(2.0, size=n)
    return frame, surv(np.minimum(time, limit), time <= limit)


def trained_together(frame: pd.DataFrame, y: np.ndarray) -> float:
    """Return the coefficient of x in a Wide & Deep model."""
    torch.manual_seed(0)
    pixels = torch.from_numpy(np.stack(list(frame["image"]))).float().flatten(1) / 127.5 - 1
    x = torch.from_numpy(frame["x"].to_numpy()).float()[:, None]
    wide = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(wide.weight)
    deep = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 1, bias=False))
    optimizer = torch.optim.Adam([*wide.parameters(), *deep.parameters()], lr=3e-3)
    plan = CoxPlan.from_outcome(torch.tensor(y["time"].copy()), torch.tensor(y["event"].copy()))
    for _ in range(100):
        optimizer.zero_grad()
        cox_loss(wide(x) + deep(pixels), plan).backward()
        optimizer.step()
    return wide.weight.item()


def test_the_coefficient_stays_classical() -> None:
    moved: dict[str, list[float]] = {"post_hoc": [], "None": [], "together": []}
    for seed in range(5):
        frame, y = draw(250, seed)
        classical = FusionCox({}, structured="x").fit(frame, y).effects_.loc["x"]

        def distance(coef: float, classical: pd.Series = classical) -> float:
            return abs(coef - classical["coef"]) / classical["se"]

        for how in ("post_hoc", None):
            model = FusionCox(
                {"scan": Image("image", size=8, channels="L")},
                structured="x",
                orthogonalization=how,
                epochs=4,
                learning_rate=0.03,
                batch_size=64,
                training=Training(ema=None),
                patience=None,
                device="cpu",
                random_state=seed,
            ).fit(frame, y)
            moved[str(how)].append(distance(model.effects_.loc["x", "coef"]))
            assert model.deep_share_ > 0
        moved["together"].append(distance(trained_together(frame, y)))
    assert max(moved["post_hoc"]) < 0.01  # all rows are trained on: the start is the classical fit
    assert max(moved["None"]) > 0.5
    assert min(moved["together"]) > 2
