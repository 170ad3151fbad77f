"""Which pool a strategy asks for, and what it learns from: networks that did not see the rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.heads.base import Head, Target
from mmfusion.model.curves import Curves
from mmfusion.model.folds import Part
from mmfusion.model.plan import Plan
from mmfusion.model.pool_rows import PoolRows
from mmfusion.model.pools import Mean, OutOfFold, Pool, Single, Stack, Weighted
from mmfusion.model.study import Sample, Study
from mmfusion.training import InterruptedWarning

__all__ = ["POOLS", "check_entry", "learn_pool", "make_pool", "out_of_fold"]

POOLS: dict[str, type[Pool]] = {
    "single": Single,
    "mean": Mean,
    "weighted": Weighted,
    "stack": Stack,
    "curves": Curves,
}


def make_pool(
    strategy: JointFusion | EarlyFusion | LateFusion, names: Sequence[str], *, learns: bool = True
) -> Pool:
    """Return the unfitted pool of a strategy.

    Parameters
    ----------
    strategy : JointFusion, EarlyFusion or LateFusion
    names : sequence of str
        Of the networks.
    learns : bool
        Whether there is anything out of fold to learn from; else all networks count alike.
    """
    if not names:
        return Single(names)
    if strategy.pool_folds and not learns and strategy.pool != "curves":
        return Mean(names)
    return POOLS[strategy.pool](names)


def check_entry(strategy: Any, head: Head, target: Target) -> None:
    """Raise where weights of curves are to be learned from rows that entered late."""
    if strategy.pool == "curves" and strategy.pool_folds and head.has_entry(target):
        raise ValueError(
            f"LateFusion('weighted', combine={strategy.combine!r}) learns its weights by the Brier "
            "score, which is not defined for delayed entry. Use how='mean', or combine='risk'."
        )


class Folded(NamedTuple):
    """What out-of-fold networks say, or None; and whether Ctrl-C ended them."""

    unseen: OutOfFold | None
    interrupted: bool


def out_of_fold(
    plan: Plan,
    study: Study,
    parts: Sequence[Part],
    names: Sequence[str],
    fit_part: Callable[[Plan, Part, Any], Any],
) -> Folded:
    """Return the members' predictors of rows that they did not see.

    A Cox model's are standardised by the rows that the members of their fold were trained on.

    Parameters
    ----------
    plan, study : Plan, Study
    parts : sequence of Part
        Empty where the pool learns nothing out of fold.
    names : sequence of str
        Of the members.
    fit_part : callable
        Fits a model to the training rows of a part, with another fusion; KeyboardInterrupt where
        Ctrl-C ended it.
    """
    if not parts:
        return Folded(None, False)
    k = len(study.head.grid)
    shape = (len(study.all), len(names), k)
    etas, present = np.full(shape, np.nan), np.zeros(shape[:2], dtype=bool)
    offset = torch.zeros(len(study.all), k, dtype=torch.float64)
    fusion = plan.strategy.alike()
    for part in parts:
        try:
            model = fit_part(plan, part, fusion)
        except KeyboardInterrupt:
            warnings.warn(
                "The training was interrupted before the out-of-fold predictions were there: the "
                "networks are combined as LateFusion('mean') does.",
                InterruptedWarning,
                stacklevel=3,
            )
            return Folded(None, True)
        held = study.all.take(part.held)
        found, there, added = model.looked_at(held.table, None, held.subjects)
        members = np.array([list(names).index(name) for name in model.deep.networks])
        at = np.ix_(part.held, members)
        present[at] = there
        etas[at] = model.deep.pool.unit(found)
        network_offset = model.structured.network_offset(model.structured.design(held.table))
        offset[part.held] = model.structured.pool_offset(network_offset + torch.from_numpy(added))
    return Folded(OutOfFold(etas, present, offset), False)


def learn_pool(
    pool: Pool,
    head: Head[Any],
    sample: Sample,
    etas: np.ndarray,
    present: np.ndarray,
    offset: torch.Tensor,
    unseen: OutOfFold | None,
) -> None:
    """Let a pool learn from the rows that have a member.

    Parameters
    ----------
    pool : Pool
    head : Head
    sample : Sample
        All rows.
    etas, present
        Predictors of all rows by the members, (n, n_members, K), NaN where absent.
    offset : Tensor, shape (n, K)
        What the pooled predictor is added to.
    unseen : OutOfFold or None
        Predictions that the pool learns from instead, where it does.
    """
    pool.look(sample.subjects.once(etas), sample.subjects.once(present), head)
    if unseen is None:
        etas = pool.standardised(etas)
    else:
        etas, present, offset = unseen.etas, unseen.present, unseen.offset
    some = np.flatnonzero(present.any(1))
    at = torch.from_numpy(some)
    rows = PoolRows(etas[some], present[some], head, sample.target.take(at), offset[at])
    pool.fit(rows, unseen=unseen is not None)
