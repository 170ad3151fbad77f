"""What rows that networks did not see say of them: whole, or at the share of them that is best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from torch import Tensor, from_numpy

from mmfusion.heads.base import Head, Target

__all__ = ["Judged", "best_share", "judge"]


@dataclass(frozen=True, eq=False)
class Judged:
    """Rows that a network did not see.

    Attributes
    ----------
    head : Head
    eta : Tensor of float64, shape (n, K)
        Their predictors.
    offset : Tensor of float64, shape (n, K), or None
        What of these is no network's.
    target : Target
    """

    head: Head[Any]
    eta: Tensor
    offset: Tensor | None
    target: Target

    def at(self, share: np.ndarray) -> Tensor:
        """Return the predictors with a share, (K,), of the network's."""
        offset = 0.0 if self.offset is None else self.offset
        return offset + from_numpy(share).to(self.eta.device) * (self.eta - offset)


def judge(parts: Sequence[Judged], *, shared: bool) -> dict[str, float]:
    """Return the mean validation loss and score over the rows of several networks, by name.

    Parameters
    ----------
    parts : sequence of Judged
    shared : bool
        Whether the networks are judged at their best share s, one a group of the predictors:
        ``min_s sum_k W_k L_k(offset + s eta_k)`` over networks k whose rows count W_k.
    """
    head = parts[0].head
    weights = np.array([part.head.total(part.target) for part in parts])
    weights = weights / max(weights.sum(), 1e-300)
    etas = [part.eta for part in parts]
    if shared:
        groups = np.asarray(head.deep_groups)

        def loss(share: np.ndarray) -> float:
            found = [float(head.loss(part.at(share[groups]), part.target)) for part in parts]
            return float(weights @ found)

        best = best_share(loss, int(groups.max()) + 1, tolerance=0.01)
        etas = [part.at(best[groups]) for part in parts]
    total = {"val_loss": 0.0}
    for part, eta, weight in zip(parts, etas, weights, strict=True):
        total["val_loss"] += float(weight * head.loss(eta, part.target))
        score = head.monitor(eta, part.target)
        if score is not None:
            name = f"val_{score.name}"
            total[name] = total.get(name, 0.0) + float(weight * score.value)
    return total


def best_share(
    loss: Callable[[np.ndarray], float], size: int, tolerance: float = 1e-5
) -> np.ndarray:
    """Return the shares in [0, 1], (size,), of the lowest loss: the ends are tried too.

    Parameters
    ----------
    loss : callable
        Of shares, (size,).
    size : int
    tolerance : float, default=1e-5
        Of a share that is alone.
    """
    ends = [np.zeros(size), np.ones(size)]
    if size == 1:
        alone = minimize_scalar(
            lambda share: loss(np.array([share])),
            bounds=(0.0, 1.0),
            method="bounded",
            options={"xatol": tolerance},
        )
        found = np.array([alone.x])
    else:
        start, bounds = np.full(size, 0.5), [(0.0, 1.0)] * size
        found = minimize(loss, start, bounds=bounds, method="L-BFGS-B").x
    return min(ends[0], found, ends[1], key=loss)
