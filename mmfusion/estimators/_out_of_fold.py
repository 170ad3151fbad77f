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
from mmfusion.structured import SeparationWarning

from ._folds import check_labels, deal_folds
from ._frame import take_outcome
from ._late import OutOfFold

if TYPE_CHECKING:
    from .base import FusionEstimator

__all__ = ["check_combine", "late_folds", "out_of_fold"]


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


def late_folds(
    estimator: FusionEstimator,
    frame: pd.DataFrame,
    head: Head,
    target: Target,
    n_folds: int,
    seeds: np.random.RandomState,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return training and held-out rows of each fold; rows of a cluster stay together."""
    groups = estimator._cluster(frame)
    check_labels(head, target, groups, "LateFusion('mean')")
    return deal_folds(head.stratify(target), groups, n_folds, seeds.randint(2**31 - 1))


def out_of_fold(
    estimator: FusionEstimator,
    frame: pd.DataFrame,
    y: Any,
    sample_weight: Any,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
) -> OutOfFold | None:
    """Return the members' predictors of rows they did not see; None without folds.

    A Cox model's are standardised by the rows that the members of their fold were trained on. None
    also where Ctrl-C ends it, with a warning, and `estimator` is then ``interrupted_``.
    """
    if not folds or estimator.interrupted_:
        return None
    head, structured = estimator._head, estimator._structured
    center, spread = head.units
    shape = (len(frame), len(estimator._models), len(head.predictors))
    etas, present = np.full(shape, np.nan), np.zeros(shape[:2], dtype=bool)
    offset = torch.zeros(len(frame), len(head.predictors), dtype=torch.float64)
    fusion = clone(estimator.fusion).set_params(how="mean", combine="risk")
    for train, held in folds:
        model = estimator._of_part().set_params(fusion=fusion)
        weight = None if sample_weight is None else np.asarray(sample_weight)[train]
        try:
            with warnings.catch_warnings():  # what is kept of a fold's networks is nothing
                warnings.filterwarnings("ignore", r"(The t|T)raining was interrupted", UserWarning)
                warnings.simplefilter("ignore", SeparationWarning)
                model.fit(frame.iloc[train], take_outcome(y, train), weight)
        except KeyboardInterrupt:
            model.interrupted_ = True
        if model.interrupted_:
            estimator.interrupted_ = True
            warnings.warn(
                "The training was interrupted before the out-of-fold predictions were there: the "
                "networks are combined as LateFusion('mean') does.",
                UserWarning,
                stacklevel=3,
            )
            return None
        part = frame.iloc[held]
        found, present[held] = model._member_predictors(part)
        found = model._late.standardised(found, head)
        their_center, their_spread = model._head.units
        if structured is None:
            etas[held] = (found * their_spread + their_center - center) / spread
        else:  # what is added to the structured predictor
            etas[held] = found * their_spread / spread
            offset[held] = model._structured.offset(part, head)
    return OutOfFold(etas, present, None if structured is None else offset)
