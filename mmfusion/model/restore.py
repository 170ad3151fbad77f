"""A fitted model as plain state, and back."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmfusion.model.deep import Deep
from mmfusion.model.fit import Model
from mmfusion.model.inference import Inference
from mmfusion.model.late import POOLS
from mmfusion.model.linear_part import LinearPart
from mmfusion.model.network import Network
from mmfusion.model.plan import Plan
from mmfusion.model.structured import Constant, Structured

__all__ = ["model_of", "state_of"]


def state_of(model: Model, inference: Inference | None) -> dict[str, Any]:
    """Return what saving writes beside modalities and weights: plain Python and arrays."""
    pool = model.deep.pool
    kind = next(name for name, known in POOLS.items() if type(pool) is known)
    return {
        "head": model.head.state(),
        "alone": None if model.alone is None else model.alone.state(),
        "pool": {"kind": kind, **pool.state()},
        "share": model.deep.share,
        "linear": None if model.deep.linear is None else model.deep.linear.state(),
        "structured": model.structured.state(),
        "inference": None if inference is None else inference.state(),
    }


def model_of(
    plan: Plan, state: Mapping[str, Any], weights: Mapping[str, Any]
) -> tuple[Model, Inference | None]:
    """Take back what `state_of` returned.

    Parameters
    ----------
    plan : Plan
    state : mapping
        Also the fitted modalities of each network, "models".
    weights : mapping of str to mapping of str to Tensor
        Of each network's module.
    """
    part: Constant | Structured
    if "base" in state["structured"]:
        part = Constant.from_state(state["structured"])
    else:
        part = Structured.from_state(state["structured"], len(state["share"]))
    names = list(state["models"])
    kept = dict(state["pool"])
    pool = POOLS[kept.pop("kind")](names)
    pool.load_state(kept)
    alone = None
    if state["alone"] is not None:
        alone = copy.copy(plan.head)
        alone.load_state(state["alone"])
    head = pool.predicting(plan.head, state["head"])
    known = {name: modality for name in names for modality in state["models"][name].values()}
    fusions = [fusion for _, fusion in plan.strategy.networks(known).values()]
    use = plan.design_use.of(part.n_network_columns) if plan.design_use.read else plan.design_use
    networks = {
        name: Network.from_weights(modalities, fusion, head, weights[name], use)
        for (name, modalities), fusion in zip(state["models"].items(), fusions, strict=True)
    }
    interrupted = bool(state["fitted"].get("interrupted_", False))
    linear = None if state["linear"] is None else LinearPart.from_state(state["linear"])
    deep = Deep(networks, pool, linear, state["share"])
    model = Model(head, part, deep, plan.settings, {}, interrupted, alone)
    if state["inference"] is None:
        return model, None
    assert isinstance(part, Structured)
    return model, Inference.from_state(state["inference"], part.layout)
