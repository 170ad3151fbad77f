"""Where and how precisely a network runs."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING

import torch

from mmfusion.inputs.parameters import check_choice

if TYPE_CHECKING:
    from lightning_fabric import Fabric

__all__ = ["PRECISIONS", "make_fabric"]

PRECISIONS = ("32-true", "bf16-mixed")


def make_fabric(device: str, precision: str = "32-true", *, fall_back: bool = False) -> Fabric:
    """Return a one-device lightning-fabric for `device` and `precision`.

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
    found = {
        "auto": True,
        "cpu": True,
        "cuda": torch.cuda.device_count() > int(number or 0),
        "mps": torch.backends.mps.is_available(),
    }[name]
    if not found:
        message = f"device={device!r} was asked for, but this machine has no such device"
        if not fall_back:
            raise ValueError(f"{message}; use device='cpu' or device='auto'.")
        warnings.warn(f"{message}; using the CPU.", UserWarning, stacklevel=3)
        name, number = "cpu", ""
    return _fabric(name, int(number) if number else None, precision)


@functools.cache  # a Fabric reads the metadata of all installed packages: 15 ms a prediction
def _fabric(accelerator: str, index: int | None, precision: str) -> Fabric:
    from lightning_fabric import Fabric  # its import takes as long as torch's: at the first fit

    return Fabric(
        accelerator=accelerator,
        devices=1 if index is None else [index],
        precision=precision,  # type: ignore[arg-type]
    )
