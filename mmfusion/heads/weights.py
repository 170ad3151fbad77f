"""Case weights as a tensor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mmfusion.inputs import weights

__all__ = ["check_weights"]


def check_weights(sample_weight: Any, n: int) -> Tensor:
    """Return `mmfusion.inputs.weights.check_weights` as a float64 tensor of shape (n,)."""
    return torch.from_numpy(weights.check_weights(sample_weight, n))
