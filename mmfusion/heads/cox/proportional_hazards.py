"""Whether a Cox model's coefficients stay the same over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from mmfusion.heads.cox.head import CoxTarget
from mmfusion.heads.cox.information import cox_information
from mmfusion.heads.cox.plan import TiesMethod
from mmfusion.heads.cox.residuals import cox_schoenfeld_residuals

__all__ = ["TimeTransform", "proportional_hazards_test", "transformed_time"]

TimeTransform = Literal["km", "rank", "identity", "log"]

#: Columns with less than this share of their variance beside each other have none.
SINGULAR = 1e-12


def proportional_hazards_test(
    eta: Tensor,
    target: CoxTarget,
    design: Tensor,
    terms: Mapping[str, slice],
    *,
    ties: TiesMethod = "efron",
    transform: TimeTransform = "km",
    penalty: Tensor | None = None,
) -> pd.DataFrame:
    r"""Test that coefficients do not change along a function of time.

    The score test of ``theta = 0`` in ``beta(t) = beta + theta g(t)``, with the variance of the
    covariates at each event time as it is, as R's ``cox.zph`` has it since survival 3.0. (Grambsch
    & Therneau 1994, Biometrika 81:515-526, put the average variance in its place; lifelines and
    earlier versions of R do.) With Schoenfeld residuals :math:`s_k` and variances :math:`V_k`,

    .. math:: u = \sum g_k s_k, \quad
        u' \left(\sum g_k^2 V_k
        - \sum g_k V_k \left(\sum V_k\right)^{-1} \sum g_k V_k\right)^{-1} u.

    Parameters
    ----------
    eta : Tensor, shape (n,) or (n, 1)
        The fitted log-hazards, an offset (a deep part) included.
    target : CoxTarget
    design : Tensor, shape (n, p)
        All columns of the model.
    terms : mapping of str to slice
        The columns of each term to test.
    ties : {"efron", "breslow"}
    transform : {"km", "rank", "identity", "log"}
        ``g``: one minus the Kaplan-Meier estimate just before the time, the rank of the time among
        those of all rows, the time, or its logarithm.
    penalty : Tensor, shape (p, p), optional
        Of the model's penalised terms.

    Returns
    -------
    DataFrame
        ``chi2``, ``df`` and ``p``, a row a term and one for all of them, ``"GLOBAL"``.

    Raises
    ------
    ValueError
        For an unknown transform, the logarithm of times that are not above 0, an outcome without
        events, and terms that these events cannot test.
    """
    plan = target.plan
    design = design.detach().double()
    if plan.total == 0:
        raise ValueError(
            "The y parameter must have at least one event to test proportional hazards. "
            f"Got 0 events in {len(target)} rows."
        )
    last = plan.last[1:].long()
    block_time = target.time[last if plan.order is None else plan.order[last].long()]
    rows, residuals = cox_schoenfeld_residuals(eta, plan, design, ties)

    time = transformed_time(target, torch.cat([block_time, target.time[rows]]), transform)
    at_block, at_event = time[: len(block_time)], time[len(block_time) :]
    weight = target.weight[rows]
    center, low = (weight * at_event).sum() / weight.sum(), at_block.min()

    def information(factor: Tensor | None) -> Tensor:
        return cox_information(eta, plan, design, ties, "sum", factor)

    plain = information(None)
    # Weights must not be negative: the shift is taken back.
    cross = information(at_block - low) + (low - center) * plain
    square = information((at_block - center) ** 2)
    score = (weight * (at_event - center)) @ residuals
    own = plain if penalty is None else plain + penalty

    columns = {label: np.r_[where] for label, where in terms.items()}
    tested = [*columns.items(), ("GLOBAL", np.unique(np.concatenate(list(columns.values()))))]
    reach = float(weight.sum()) * (design - design.mean(0)).square().amax(0)
    own_size = torch.where(own.diagonal() > 1e-14 * reach, own.diagonal(), 0.0)
    _refuse_singular(own, own_size, tested, len(rows))
    efficient = square - cross @ torch.linalg.solve(own, cross)
    _refuse_singular(efficient, square.diagonal(), tested, len(rows))
    records = [
        {"term": label, **_test(score.numpy(), efficient.numpy(), chosen)}
        for label, chosen in tested
    ]
    return pd.DataFrame(records).set_index("term")


def _refuse_singular(
    variance: Tensor, size: Tensor, tested: list[tuple[str, np.ndarray]], n_events: int
) -> None:
    """Raise for terms whose variance, in units of `size`, is none in some direction."""
    for label, chosen in tested:
        scale = size[chosen].sqrt()
        within = variance[np.ix_(chosen, chosen)] / torch.outer(scale, scale)
        if not bool((scale > 0).all()) or float(torch.linalg.eigvalsh(within)[0]) <= SINGULAR:
            what = ", ".join(repr(term) for term, _ in tested[:-1])
            what = f"{what} together" if label == "GLOBAL" else repr(label)
            raise ValueError(
                "The y parameter must have events that tell how effects change over time. "
                f"Got {n_events} event(s), by which {what} cannot be tested."
            )


def _test(score: np.ndarray, variance: np.ndarray, columns: np.ndarray) -> dict[str, float]:
    score, variance = score[columns], variance[np.ix_(columns, columns)]
    chi2 = float(score @ np.linalg.solve(variance, score))
    return {"chi2": chi2, "df": float(len(columns)), "p": float(stats.chi2.sf(chi2, len(columns)))}


def transformed_time(target: CoxTarget, times: Tensor, transform: TimeTransform) -> Tensor:
    """Return a function of some times, as `proportional_hazards_test` names it.

    Parameters
    ----------
    target : CoxTarget
        All rows: strata pooled, without case weights.
    times : Tensor, shape (m,)
        Some of its event times.
    transform : {"km", "rank", "identity", "log"}
    """
    if transform == "identity":
        return times.double()
    if transform == "log":
        if not bool((times > 0).all()):
            raise ValueError(
                "The transform parameter must not be 'log' for event times that are not above 0. "
                f"Got a time of {float(times.min()):g}."
            )
        return times.double().log()
    if transform == "rank":
        ranks = stats.rankdata(target.time.numpy())
        known, first = np.unique(target.time.numpy(), return_index=True)
        return torch.from_numpy(ranks[first][np.searchsorted(known, times.numpy())])
    if transform != "km":
        raise ValueError(
            f"The transform parameter must be 'km', 'rank', 'identity' or 'log'. Got {transform!r}."
        )
    known, deaths = np.unique(target.time[target.event].numpy(), return_counts=True)
    exits, entries = np.sort(target.time.numpy()), np.sort(target.entry.numpy())
    at_risk = np.searchsorted(entries, known) - np.searchsorted(exits, known)
    survival = np.concatenate([[1.0], np.cumprod(1 - deaths / at_risk)])
    return torch.from_numpy(1 - survival[np.searchsorted(known, times.numpy())])
