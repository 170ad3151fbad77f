"""The learning rate over the steps of a training."""

from __future__ import annotations

import math

__all__ = ["warmup_cosine"]


def warmup_cosine(step: int, total: int, warmup: float) -> float:
    """Return the factor of the learning rate at `step` (from 0) of `total`.

    It rises linearly over the first ``warmup * total`` steps and falls along half a cosine
    to nearly zero (Loshchilov & Hutter 2017, eq. 5).

    Examples
    --------
    >>> [round(warmup_cosine(s, 10, 0.2), 3) for s in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.038]
    """
    rising = int(warmup * total)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))
