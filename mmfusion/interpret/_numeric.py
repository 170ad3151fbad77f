"""A function of arrays inside a graph of tensors: its gradient by differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["differentiable"]

#: Step of the central differences: their error is its square, rounding 1e-16 over it.
STEP = 1e-4


class _Differences(torch.autograd.Function):
    """Values by the function itself, gradients by central differences in float64."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[np.ndarray], np.ndarray]) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(x)
        return torch.from_numpy(function(x.detach().cpu().numpy())).to(x.device)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        values, gradient = x.detach().cpu().numpy(), gradients[0].detach().cpu().numpy()
        result = np.zeros_like(values)
        for column in range(values.shape[1]):
            step = STEP * np.maximum(1.0, np.abs(np.nan_to_num(values[:, column])))
            ends = []
            for sign in (1.0, -1.0):
                moved = values.copy()
                moved[:, column] += sign * step
                ends.append(ctx.function(moved))
            slope = (ends[0] - ends[1]) / (2 * step).reshape(-1, *[1] * (ends[0].ndim - 1))
            product = np.nan_to_num(slope) * gradient  # NaN where a member is absent
            result[:, column] = product if product.ndim == 1 else product.sum(axis=1)
        return torch.from_numpy(result).to(x.device), None


def differentiable(function: Callable[[np.ndarray], np.ndarray], x: Tensor) -> Tensor:
    """Return a function of arrays at a tensor, on its graph.

    What a head makes of its predictors, and a pool of its members', is written once, in NumPy and
    float64. Its few arguments a row are told from each other by central differences, which err by
    about 1e-8 of the slope: below the networks' own rounding.

    Parameters
    ----------
    function : callable
        From an array (n, d) to one of shape (n,) or (n, m), row by row.
    x : Tensor of float64, shape (n, d)

    Returns
    -------
    Tensor, shape (n,) or (n, m)
    """
    return _Differences.apply(x, function)
