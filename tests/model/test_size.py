"""A fitted model does not grow with the rows that it was fitted to, pickled or in memory.

Follow-up ends at ten times, so that the baseline hazard of a Cox model, which has a value an event
time, is as long for few rows as for many: it is the one thing that may grow with the data.
"""

from __future__ import annotations

import gc
import pickle
import types
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from mmfusion.estimators import (
    FusionClassifier,
    FusionCox,
    FusionDiscreteTime,
    FusionPAMM,
    FusionPretrainer,
    FusionRegressor,
)
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.modalities import Genes, Image, Tabular
from mmfusion.survival import surv

N = 100
#: Bytes that a pickle may differ by: numbers of rows that take a byte more. A row of float64 that
#: were kept would be 8 * 3 * N.
SPARE = 40

SHARED: dict[str, Any] = {"epochs": 2, "batch_size": 32, "device": "cpu", "random_state": 0}
KINDS = {
    "cox": FusionCox,
    "discrete": FusionDiscreteTime,
    "pamm": FusionPAMM,
    "classifier": FusionClassifier,
    "regressor": FusionRegressor,
}
FORMULA = "x + s(z, k=5) + C(site)"


def study(kind: str, n: int) -> tuple[pd.DataFrame, Any]:
    """Return n rows whose levels, event times, and rows in which anything is missing, repeat."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 6)), columns=["x", "z", "t0", "t1", "g0", "g1"])
    number = np.arange(n)
    frame["site"] = np.array(["a", "b", "c"])[number % 3]
    frame["ward"] = number % 10
    frame["patient"] = number // 2
    frame.loc[number % 7 == 1, ["t0", "t1"]] = np.nan
    pixels = rng.integers(0, 256, (n, 4, 4), dtype=np.uint8)
    cells = [None if k % 5 == 2 else image for k, image in enumerate(pixels)]
    frame["image"] = pd.Series(cells, dtype=object)
    signal = frame["x"] + frame["g0"]
    if kind in ("cox", "discrete", "pamm"):
        entry = np.where((number % 20 == 3) & (kind != "pamm"), 0.5, 0.0)  # visits overlap
        return frame, surv(1.0 + number % 10, number // 10 % 3 > 0, entry)
    return frame, signal if kind == "regressor" else np.where(number % 4 < 2, "no", "yes")


def modalities() -> dict[str, Any]:
    return {
        "table": Tabular(["t0", "t1"], hidden=(4,)),
        "rna": Genes("g*", hidden=(4,)),
        "scan": Image("image", size=4, channels="L", encoder="raw"),
    }


MODELS: dict[str, dict[str, Any]] = {
    "formula": {"modalities": {}, "structured": FORMULA},
    "formula, clusters": {
        "modalities": {}, "structured": FORMULA, "inference": "robust", "cluster": "ward",
    },
    "networks": {"patience": 5},
    "both": {"structured": FORMULA},  # judged, the networks might be left out of one of the two
    "both, subjects": {
        "modalities": {"rna": Genes("h*", hidden=(4,))}, "structured": FORMULA, "id": "patient",
    },
    "online": {"structured": "x", "orthogonalization": "online"},
    "nonlinear": {"structured": "x", "head": "nonlinear"},
    "late": {"fusion": LateFusion("stack", dim=4, hidden=(), folds=2), "structured": "x"},
    "weighted": {"fusion": LateFusion("weighted", dim=4, hidden=(), folds=2)},
    "cross_fit": {"structured": "x", "inference": "cross_fit", "cluster": "ward"},
    "components": {"fusion": EarlyFusion("pca", n_components=2, hidden=(4,))},
    "ridge": {"fusion": EarlyFusion("pca", n_components=2, hidden=None), "structured": "x"},
    "eval_set": {"patience": 5},
}  # fmt: skip


def fitted(kind: str, name: str, n: int) -> Any:
    frame, y = study(kind, n)
    frame["h0"], frame["h1"] = frame["patient"] % 3, frame["patient"] % 5
    given: dict[str, Any] = {
        "modalities": modalities(),
        "fusion": JointFusion(dim=4, hidden=(4,)),
        "patience": None,
        **SHARED,
        **MODELS[name],
    }
    if kind in ("discrete", "pamm"):
        given["cuts"] = [2, 4, 6, 8]
    model = KINDS[kind](**given)
    return model.fit(frame, y, eval_set=(frame, y) if name == "eval_set" else None)


def held_by(model: Any) -> Counter[str]:
    """Return how much is reachable from a model: by type, elements of arrays and of containers.

    A view holds its whole base.
    """
    found: Counter[str] = Counter()
    seen: set[int] = set()
    queue = [model]
    alive = []  # so that no id is used twice
    outside = types.ModuleType | type | types.FunctionType | types.BuiltinFunctionType
    while queue:
        one = queue.pop()
        if id(one) in seen or isinstance(one, outside):
            continue
        seen.add(id(one))
        alive.append(one)
        kind = type(one).__name__
        if isinstance(one, torch.Tensor):
            found[kind] += one.untyped_storage().nbytes()
            continue
        if isinstance(one, np.ndarray):
            found[kind] += one.size
            queue += [] if one.base is None else [one.base]
            queue += one.ravel().tolist() if one.dtype == object else []
            continue
        if isinstance(one, list | tuple | dict | set | frozenset | bytes | pd.Index):
            found[kind] += len(one)
        if isinstance(one, pd.DataFrame | pd.Series | pd.Index):
            queue += [array for array in _arrays(one)]
            continue
        queue += gc.get_referents(one)
    return found


def _arrays(table: Any) -> list[Any]:
    if isinstance(table, pd.DataFrame):
        return [table.index, table.columns, *(column.array for _, column in table.items())]
    return [table.index, table.array] if isinstance(table, pd.Series) else [table.array]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_fitted_model_does_not_grow_with_its_rows(kind: str, name: str) -> None:
    if (kind, name) == ("discrete", "ridge"):
        pytest.skip("a ridge has one output, hazards in intervals have four")
    if (kind, name) == ("pamm", "networks"):
        pytest.skip("a baseline is a formula: this is 'both'")
    few, many = fitted(kind, name, N), fitted(kind, name, 4 * N)
    few_size, many_size = (len(pickle.dumps(model)) for model in (few, many))
    assert abs(many_size - few_size) < SPARE
    few_held, many_held = held_by(few), held_by(many)
    grown = {what: many_held[what] - few_held[what] for what in many_held | few_held}
    assert {what: more for what, more in grown.items() if more} == {}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_fitted_pretrainer_does_not_grow_with_its_rows() -> None:
    frames = [study("cox", n)[0] for n in (N, 4 * N)]
    models = [
        FusionPretrainer(modalities(), dim=4, **SHARED, patience=1).fit(frame) for frame in frames
    ]
    few_size, many_size = (len(pickle.dumps(model)) for model in models)
    assert abs(many_size - few_size) < SPARE
    few_held, many_held = map(held_by, models)
    assert few_held == many_held


def test_what_is_looked_for_is_found() -> None:
    """Rows that are kept anywhere in a model are seen by both measures."""
    rows = np.arange(4.0 * N)
    kept: list[Any] = [
        rows,
        rows[:1],
        torch.from_numpy(rows),
        pd.Series(rows),
        pd.DataFrame({"x": rows}),
        list(rows),
        {"deep": [nn.Linear(1, 4 * N)]},
    ]
    for one in kept:
        model = fitted("regressor", "formula", N)
        before = held_by(model)
        model.model_.structured.rest = one
        after = held_by(model)
        assert max(after[what] - before[what] for what in after) >= 4 * N
