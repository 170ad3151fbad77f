"""A small study with follow-up that can be cut into rows, and models of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mmfusion.estimators import FusionCox, FusionDiscreteTime
from mmfusion.fusion import JointFusion
from mmfusion.modalities import Image, Tabular
from mmfusion.survival import surv
from mmfusion.training import Training

__all__ = ["TABLES", "cut", "fields", "joint", "make_cox", "make_discrete", "study", "with_image"]

#: Two modalities of numbers: networks that are quick to train.
TABLES = {"a": Tabular(["a0", "a1"], hidden=(4,)), "b": Tabular(["b0"], hidden=(4,))}
#: Nothing in the loop that depends on more than the gradient.
QUICK: dict[str, Any] = {
    "epochs": 3,
    "patience": None,
    "batch_size": None,
    "device": "cpu",
    "random_state": 0,
    "training": Training(ema=None),
    "linear": False,
    "n_members": 1,
}


def study(n: int = 60, seed: int = 0, *, entry: bool = True) -> tuple[pd.DataFrame, Any]:
    """Return a table of one row a subject and its follow-up, some entering late, with ties."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(n, 5)), columns=["x", "z", "a0", "a1", "b0"])
    frame.insert(0, "patient", [f"p{k:03d}" for k in range(n)])
    frame["site"] = rng.choice(["north", "south"], n)
    images = rng.integers(0, 256, (n, 4, 4), dtype=np.uint8)
    cells = pd.Series(list(images), dtype=object)
    frame["image"] = cells.where(rng.random(n) < 0.8, None)
    frame.index = pd.Index([f"row {k}" for k in range(n)])
    hazard = np.exp(0.7 * frame["x"] + 0.5 * frame["a0"])
    time = np.ceil(20 * rng.exponential(1 / hazard.to_numpy())) / 4
    begin = np.where(rng.random(n) < 0.3, 0.5 * time * rng.random(n), 0.0)
    return frame, surv(time, rng.random(n) < 0.7, begin if entry else None)


def fields(y: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return time, event and entry of a follow-up."""
    begin = y["entry"] if "entry" in y.dtype.names else np.zeros(len(y))
    return y["time"], y["event"], begin


def cut(
    frame: pd.DataFrame, y: Any, seed: int = 1, *, shuffle: bool = False
) -> tuple[pd.DataFrame, Any, np.ndarray]:
    """Return each follow-up in two to four rows, and whose each row is."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, float, float, bool]] = []
    for i, (time, event, begin) in enumerate(zip(*fields(y), strict=True)):
        inner = np.sort(rng.uniform(begin, time, rng.integers(1, 4)))
        starts, ends = [begin, *inner], [*inner, time]
        rows += [(i, s, e, bool(event) and e == time) for s, e in zip(starts, ends, strict=True)]
    if shuffle:
        rows = [rows[k] for k in rng.permutation(len(rows))]
    owner, starts, ends, events = (np.array(column) for column in zip(*rows, strict=True))
    table = frame.iloc[owner].copy()
    table.index = pd.Index([f"line {k}" for k in range(len(table))])
    return table, surv(ends, events, starts), owner


def make_cox(**given: Any) -> FusionCox:
    """Return an unfitted Cox model, by default of the formula alone."""
    return FusionCox(**{"modalities": {}, "structured": "x + z", **QUICK, **given})


def make_discrete(**given: Any) -> FusionDiscreteTime:
    """Return an unfitted model of hazards in eight intervals."""
    given = {"modalities": {}, "structured": "x + z", **QUICK, **given}
    return FusionDiscreteTime(**{"cuts": [1, 2, 3, 4, 6, 8, 12, 20], **given})


def joint(**given: Any) -> JointFusion:
    """Return a small joint fusion."""
    return JointFusion(**{"dim": 4, "hidden": (4,), **given})


def with_image(encoder: Any = "raw") -> dict[str, Any]:
    """Return the modalities of the study, the image among them."""
    return {**TABLES, "scan": Image("image", size=4, channels="L", encoder=encoder)}
