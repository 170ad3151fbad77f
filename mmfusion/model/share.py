"""How much of a deep predictor is kept: as much as rows that it did not see believe."""

from __future__ import annotations

import numpy as np
from torch import Tensor, from_numpy

from mmfusion.heads.base import Head, Target
from mmfusion.training.judging import best_share

__all__ = ["UnjudgedWarning", "kept_share"]

#: Gain of the deep predictor, in twice the log-likelihood of the judging rows, at which half of
#: the best share is kept: see docs/classical.md.
EVIDENCE = 4.0
#: A share that gains less is none: one more parameter has to gain as much by chance (Akaike 1974).
LEAST = 2.0


class UnjudgedWarning(UserWarning):
    """There were no rows to judge the networks by."""


def kept_share(
    deep: Tensor, offset: Tensor, head: Head, target: Target, groups: np.ndarray
) -> np.ndarray:
    """Return the share of the deep predictor that lowers the judging rows' loss, in [0, 1].

    The best share is itself an estimate, of few rows, that early stopping has looked at before. It
    is shrunk to 0 by ``G / (G + EVIDENCE)``, with the gain G in twice the log-likelihood of the
    judging rows: about the square of the share over its standard error, so that this is the
    posterior mean of a normal share with a prior around 0. Where G is below 2 it is 0.

    Parameters
    ----------
    deep, offset : Tensor of float64, shape (n, K)
        The deep predictor of the judging rows, and what it is added to.
    head, target : Head, Target
    groups : ndarray of int, shape (K,)
        Predictors of one group have one share.

    Returns
    -------
    ndarray, shape (n_groups,)
    """
    size = int(groups.max()) + 1

    def loss(share: np.ndarray) -> float:
        return float(head.loss(offset + from_numpy(share[groups]) * deep, target))

    best = best_share(loss, size)
    lowest = loss(best)
    kept = np.zeros(size)
    for group in range(size):
        without = np.where(np.arange(size) == group, 0.0, best)
        before, after = loss(without), lowest
        if head.has_dispersion:  # weights are precisions: n log(residual variance) is the fit's
            before, after = max(before, 1e-300), max(after, 1e-300)
            gain = int((target.weight > 0).sum()) * np.log(before / after)
        else:
            gain = head.total(target) * 2 * (before - after)
        if gain > LEAST:
            kept[group] = best[group] * gain / (gain + EVIDENCE)
    return kept
