"""Case weights, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["check_weights"]


def check_weights(sample_weight: Any, n: int) -> Tensor:
    """Return case weights as a float64 tensor of shape (n,), ones where there are none.

    Raises
    ------
    ValueError
        If they are not `n` finite numbers, none negative and one positive.
    """
    if sample_weight is None:
        return torch.ones(n, dtype=torch.float64)
    weight = np.array(sample_weight, dtype=np.float64, ndmin=1)
    if weight.shape != (n,):
        if weight.shape == (1,):  # one number for all rows
            weight = np.full(n, weight[0])
        else:
            raise ValueError(f"sample_weight.shape == {weight.shape}, expected {(n,)}!")
    bad = ~np.isfinite(weight) | (weight < 0)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(
            "The sample_weight parameter must hold finite numbers, none negative. "
            f"Got {weight[row]} at position {row}."
        )
    if not weight.any():
        raise ValueError("The sample_weight parameter must hold a number above zero. All are 0.")
    return torch.from_numpy(weight)
