"""What the members of late fusion say of rows that they did not see."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone

from mmfusion.fusion import LateFusion
from mmfusion.heads.base import Head, Target
from mmfusion.heads.cox import CoxMixtureHead

from ._folds import Folds, Part, deal_taught, fit_quietly, needs
from ._late import OutOfFold

if TYPE_CHECKING:
    from .base import FusionEstimator

__all__ = ["check_combine", "check_entry", "late_folds", "out_of_fold"]


def check_combine(estimator: FusionEstimator, strategy: LateFusion, head: Head) -> None:
    """Raise where an estimator has nothing to combine in the way that is asked for."""
    if strategy.combine == "risk":
        return
    if not isinstance(head, CoxMixtureHead):
        raise ValueError(
            f"LateFusion(combine={strategy.combine!r}) combines the curves of FusionCox. "
            f"{type(estimator).__name__} knows combine='risk' alone."
        )
    if estimator.structured is not None:
        raise ValueError(
            f"LateFusion(combine={strategy.combine!r}) has no log-hazard to add a formula to: "
            "structured= goes with combine='risk'."
        )


def check_entry(strategy: LateFusion, target: Target) -> None:
    """Raise where weights of curves are to be learned from rows that entered late."""
    entry = getattr(target, "entry", None)
    learns = strategy.how == "weighted" and strategy.combine != "risk"
    if learns and entry is not None and bool((entry > 0).any()):
        raise ValueError(
            f"LateFusion('weighted', combine={strategy.combine!r}) learns its weights by the Brier "
            "score, which is not defined for delayed entry. Use how='mean', or combine='risk'."
        )


def late_folds(
    estimator: FusionEstimator,
    frame: pd.DataFrame,
    head: Head,
    target: Target,
    n_folds: int,
    seeds: np.random.RandomState,
) -> Folds:
    """Return training and held-out rows of each fold; rows of a cluster stay together."""
    return deal_taught(
        head.stratify(target),
        needs(head, target),
        estimator._cluster(frame),
        n_folds,
        seeds.randint(2**31 - 1),
        "LateFusion('mean') or fewer folds",
    )


def out_of_fold(
    estimator: FusionEstimator,
    frame: pd.DataFrame,
    y: Any,
    sample_weight: np.ndarray | None,
    folds: Sequence[Part],
) -> OutOfFold | None:
    """Return the members' predictors of rows they did not see; None without folds.

    A Cox model's are standardised by the rows that the members of their fold were trained on. None
    also where Ctrl-C ends it, with a warning, and `estimator` is then ``interrupted_``.
    """
    if not folds or estimator.interrupted_:
        return None
    head, structured = estimator._head, estimator._structured
    center, spread = head.units
    names = list(estimator._models)
    shape = (len(frame), len(names), len(head.predictors))
    etas, present = np.full(shape, np.nan), np.zeros(shape[:2], dtype=bool)
    offset = torch.zeros(len(frame), len(head.predictors), dtype=torch.float64)
    fusion = clone(estimator.fusion).set_params(how="mean", combine="risk")
    for one in folds:
        held = one.held
        model = estimator._of_part(one).set_params(fusion=fusion)
        try:
            fit_quietly(model, frame, y, sample_weight, one.train)
        except KeyboardInterrupt:
            estimator.interrupted_ = True
            warnings.warn(
                "The training was interrupted before the out-of-fold predictions were there: the "
                "networks are combined as LateFusion('mean') does.",
                UserWarning,
                stacklevel=3,
            )
            return None
        part = frame.iloc[held]
        found, there = model._member_predictors(part)
        found = model._late.standardised(found, head)
        members = np.array([names.index(name) for name in model._models])
        at = np.ix_(held, members)
        present[at] = there
        their_center, their_spread = model._head.units
        if structured is None:
            etas[at] = (found * their_spread + their_center - center) / spread
        else:  # what is added to the structured predictor
            etas[at] = found * their_spread / spread
            offset[held] = model._structured.offset(part, head)
    return OutOfFold(etas, present, None if structured is None else offset)
