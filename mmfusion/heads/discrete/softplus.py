"""The softplus and its logarithm to full precision: PyTorch's own is off by 2e-9 from 20 on."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["log_softplus", "log_softplus_derivatives", "softplus"]

#: Below, log softplus(x) is x to the last bit: softplus(x) is exp(x) - exp(x)^2 / 2.
LOW = -37.0
#: Below, x is so low that a series has more digits than the difference it stands for.
SERIES = -9.0


def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x))."""
    size = x.abs()
    positive = (x + size).mul_(0.5)  # its derivative at 0 is a half, so that all of it is
    below = size.neg_().exp_()
    return positive.add_(below.log1p() if below.requires_grad else below.log1p_())


def log_softplus(x: Tensor) -> Tensor:
    """Return log(log(1 + exp(x)))."""
    return torch.where(x < LOW, x, softplus(x.clamp_min(LOW)).log())


def log_softplus_derivatives(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and second derivatives of `log_softplus`, the second not above 0.

    They are ``r = sigmoid / softplus`` and ``-r (r - 1 + sigmoid)``; with ``u = exp(x)`` the
    bracket is ``(u / log(1 + u) - 1) / (1 + u)``, of which u is small a series in u.
    """
    above = x.clamp_min(LOW)
    first = torch.where(x < LOW, 1.0, torch.sigmoid(above) / softplus(above))
    u = x.clamp_max(SERIES).exp()
    series = u * (1 / 2 - u * (1 / 12 - u / 24)) * torch.sigmoid(-x)
    return first, -first * torch.where(x < SERIES, series, first - torch.sigmoid(-x))
