"""Features of a frozen encoder: computed once for an image, kept for the next fit."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np
import torch
from torch import Tensor

from mmfusion.encoders.base import Encoder
from mmfusion.modalities.base import ImageData, ModalityData, TableData
from mmfusion.training.inference import IMAGE_CHUNK

__all__ = ["FeatureCache", "frozen_features"]


class FeatureCache:
    """Feature vectors by a digest of the encoder's weights and the row's pixels.

    Cross-validation meets each image in every fold; a frozen encoder says the same of it each
    time. The oldest vectors go when the cache is full.

    Parameters
    ----------
    max_bytes : int
    """

    def __init__(self, max_bytes: int = 256 << 20) -> None:
        self.max_bytes = max_bytes
        self._kept: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._bytes = 0

    def get(self, key: bytes) -> np.ndarray | None:
        """Return the vector of `key`, or None."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        return None

    def put(self, key: bytes, vector: np.ndarray) -> None:
        """Keep a vector; the least recently used ones go where space is short."""
        if key in self._kept:
            return
        self._kept[key] = vector
        self._bytes += vector.nbytes
        while self._bytes > self.max_bytes:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= gone.nbytes

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self._bytes = 0


CACHE = FeatureCache()


def _digest_encoder(encoder: Encoder, precision: str) -> bytes:
    digest = hashlib.blake2b(f"{type(encoder).__name__} {precision}".encode(), digest_size=16)
    # `project` is trained and does not change the features; the backbone's weights do.
    digest.update(repr(encoder.backbone).encode())
    for name, value in encoder.state_dict().items():
        if name.startswith(("backbone.", "mean", "std")):
            digest.update(name.encode())
            digest.update(value.detach().cpu().numpy().tobytes())
    return digest.digest()


def _row_keys(part: ImageData, rows: Tensor, encoder_key: bytes) -> list[bytes]:
    keys = []
    start = part.start.tolist()
    for row in rows.tolist():
        pixels = part.pixels[start[row] : start[row + 1]].cpu().contiguous()
        digest = hashlib.blake2b(encoder_key, digest_size=16)
        digest.update(f"{tuple(pixels.shape)} {pixels.dtype}".encode())
        digest.update(pixels.numpy().tobytes())
        keys.append(digest.digest())
    return keys


@torch.no_grad()
def frozen_features(
    encoder: Encoder, part: ModalityData, device: torch.device, precision: str
) -> TableData:
    """Return the features of a frozen encoder as a table, zeros where the modality is absent.

    Parameters
    ----------
    encoder : Encoder
        With ``frozen`` True.
    part : ModalityData
        Features of images are kept for the next fit; those of anything else are computed.
    device : torch.device
        Where the encoder runs.
    precision : str

    Returns
    -------
    TableData
        On the CPU; its numeric tensor has shape (n_rows, feature_width).
    """
    encoder = getattr(encoder, "source", encoder)  # what is reduced later has its features there
    rows = torch.nonzero(part.present)[:, 0]
    numeric = torch.zeros(len(part), encoder.feature_width)
    codes = torch.zeros(len(part), 0, dtype=torch.int64)
    if not isinstance(part, ImageData):
        if len(rows):
            numeric[rows] = encoder.features(*part.inputs(rows))
        return TableData(numeric, codes, part.present)
    keys = _row_keys(part, rows, _digest_encoder(encoder, precision))
    known = [CACHE.get(key) for key in keys]
    todo = [i for i, vector in enumerate(known) if vector is None]
    if todo:
        encoder.to(device).eval()
        for chunk in torch.tensor(todo).split(IMAGE_CHUNK):
            inputs = (value.to(device) for value in part.inputs(rows[chunk]))
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
                vectors = encoder.features(*inputs).float().cpu().numpy()
            for i, vector in zip(chunk.tolist(), vectors, strict=True):
                known[i] = vector.copy()
                CACHE.put(keys[i], known[i])
        encoder.to("cpu")
    if len(rows):
        numeric[rows] = torch.from_numpy(np.stack(known))  # type: ignore[arg-type]
    return TableData(numeric, codes, part.present)
