"""Where and how precisely a network runs."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from mmfusion.inputs.parameters import check_choice

__all__ = ["PRECISIONS", "Runtime", "make_fabric"]

PRECISIONS = ("32-true", "bf16-mixed")


@dataclass(frozen=True)
class Runtime:
    """Where a network runs, and how precisely.

    Attributes
    ----------
    device : torch.device
    precision : {"32-true", "bf16-mixed"}
    """

    device: torch.device
    precision: str

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context in which a network computes."""
        if self.precision == "32-true":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def make_fabric(device: str, precision: str = "32-true", *, fall_back: bool = False) -> Runtime:
    """Return where and how precisely a network runs, checked.

    Parameters
    ----------
    device : str
        "auto" (an accelerator where there is one), "cpu", "cuda", "cuda:1", "mps".
    precision : {"32-true", "bf16-mixed"}
    fall_back : bool
        Use the CPU, with a warning, where `device` is not at hand: a model trained on a GPU
        predicts anywhere.

    Raises
    ------
    ValueError
        If `device` or `precision` is unknown, or the device is not at hand.
    """
    check_choice("precision", precision, PRECISIONS)
    name, _, number = str(device).partition(":")
    numbered = name == "cuda" and number.isdigit()
    if name not in ("auto", "cpu", "cuda", "mps") or (number and not numbered):
        raise ValueError(
            "The device parameter must be 'auto', 'cpu', 'cuda', 'cuda:<number>' or 'mps'. "
            f"Got {device!r}."
        )
    available = {
        "cpu": True,
        "cuda": torch.cuda.device_count() > int(number or 0),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        name = next(kind for kind in ("mps", "cuda", "cpu") if available[kind])
    if not available[name]:
        message = f"device={device!r} was asked for, but this machine has no such device"
        if not fall_back:
            raise ValueError(f"{message}; use device='cpu' or device='auto'.")
        warnings.warn(f"{message}; using the CPU.", UserWarning, stacklevel=3)
        name = "cpu"
    where = torch.device(name) if name == "cpu" else torch.device(name, int(number or 0))
    return Runtime(where, precision)
