"""What a network puts out for many rows, a chunk at a time, without a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mmfusion.modalities.base import MultimodalData, TableData

__all__ = ["chunk_size", "network_outputs"]

IMAGE_CHUNK = 128
TABLE_CHUNK = 65_536


def chunk_size(data: MultimodalData) -> int:
    """Return how many rows to predict at once: few where there are images or points to encode."""
    tables = all(isinstance(part, TableData) for part in data.parts.values())
    return TABLE_CHUNK if tables else IMAGE_CHUNK


@torch.no_grad()
def network_outputs(
    network: nn.Module,
    data: MultimodalData,
    rows_at_once: int | None = None,
    precision: str = "32-true",
    forward: Callable[..., Any] | None = None,
) -> Tensor:
    """Return the outputs for all rows of the data, in evaluation mode, on the data's device.

    Parameters
    ----------
    network : FusionNetwork
    data : MultimodalData
    rows_at_once : int, optional
        Rows of one forward; by default few for images and points, many for tables.
    precision : str
        "bf16-mixed" runs the network under autocast.
    forward : callable, optional
        What of the network to run; by default all of it, up to its D outputs.

    Returns
    -------
    Tensor of float64, shape (n_rows, D)
    """
    device = data.present.device
    was_training = network.training
    network.eval()
    chunks = torch.arange(len(data), device=device).split(rows_at_once or chunk_size(data))
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
        parts = [(forward or network)(*data.batch(rows)) for rows in chunks]
    network.train(was_training)
    return torch.cat(parts).double()
