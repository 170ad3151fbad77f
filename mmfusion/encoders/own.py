"""Networks of the user's own: checked by running them once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["check_module", "output_width", "run_on_zeros"]

_ROWS = 2


def check_module(module: Any) -> nn.Module:
    """Return `module` in float32; raise TypeError unless it is a ``torch.nn.Module``."""
    if not isinstance(module, nn.Module):
        raise TypeError(
            "The encoder parameter, as a function, must return a torch.nn.Module. "
            f"Got {type(module).__name__}."
        )
    return module.float()


@torch.no_grad()
def run_on_zeros(module: nn.Module, shape: tuple[int, ...], call: Callable[[Tensor], Any]) -> Any:
    """Return what `call`, of `module`, makes of rows of zeros of this shape.

    Run once in evaluation mode; the mode of the module is left as it was.

    Raises
    ------
    ValueError
        If it raises anything.
    """
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        return call(torch.zeros(_ROWS, *shape))
    except Exception as error:  # a network may raise anything on a shape it cannot read
        raise ValueError(
            f"The encoder {type(module).__name__} cannot read rows of shape {shape}: {error}"
        ) from error
    finally:
        for part, mode in modes:
            part.training = mode


def output_width(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Return the width f of what `module` makes of one row, found by running it on zeros.

    Parameters
    ----------
    module : torch.nn.Module
    shape : tuple of int
        Of one row.

    Raises
    ------
    TypeError
        If the module returns no tensor.
    ValueError
        If it cannot read rows of this shape, or its output is not of shape (rows, f).
    """
    name = type(module).__name__
    output = run_on_zeros(module, shape, module)
    if not isinstance(output, Tensor):
        raise TypeError(
            f"The encoder {name} must return a tensor of shape (rows, width). "
            f"Got {type(output).__name__}."
        )
    if output.ndim != 2 or len(output) != _ROWS or output.shape[1] == 0:
        raise ValueError(
            f"The encoder {name} must return a tensor of shape (rows, width): pool and flatten its "
            f"output. Got {tuple(output.shape)} for {_ROWS} rows of shape {shape}."
        )
    return output.shape[1]
