"""From an image in a cell to pixels of one size, decoded once."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageOps

__all__ = [
    "Pixels",
    "clear_image_cache",
    "decode",
    "decode_path",
    "set_image_cache_limit",
]

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]

#: Weights of red, green and blue in grey (ITU-R BT.601), as Pillow has them for 8 bits.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)

#: Formats whose further frames are a preview, the other eye or the layers of the first.
_ONE_PICTURE = ("MPO", "PSD")


def decode(source: Any, size: tuple[int, int], channels: str) -> Pixels:
    """Return an image as an array of one size.

    Parameters
    ----------
    source : Path, PIL image, ndarray or Tensor
        See `mmfusion.modalities.Image`.
    size : (height, width)
    channels : {"RGB", "L"}

    Returns
    -------
    ndarray of shape (3 or 1, height, width)
        uint8, or float32 in [0, 1] where the source has more than 8 bits.

    Raises
    ------
    OSError
        If a file cannot be read (and what else Pillow raises for broken files).
    ValueError
        If an array has the wrong shape, type or range; if a file or PIL image has several pages,
        or colours of more than 8 bits.
    """
    if isinstance(source, Path):
        with PILImage.open(source) as image:
            return decode(image, size, channels)
    if isinstance(source, PILImage.Image):
        _refuse_loss(source)
        return _from_pil(ImageOps.exif_transpose(source), size, channels)
    if isinstance(source, torch.Tensor):
        source = source.detach().cpu()
        source = source.float() if source.dtype == torch.bfloat16 else source  # unknown to NumPy
        source = (source.permute(1, 2, 0) if source.ndim == 3 else source).numpy()
    return _from_array(source, size, channels)


def _refuse_loss(image: PILImage.Image) -> None:
    """Raise ValueError for what Pillow would read a part of, without a word."""
    try:
        n_pages = getattr(image, "n_frames", 1)
    except ValueError:  # its file was closed, so the user has chosen and loaded the page
        n_pages = 1
    if n_pages > 1 and image.format not in _ONE_PICTURE:
        raise ValueError(
            "an image must have one page or frame: give those that you mean as a list of arrays "
            f"or PIL images. Got {n_pages}"
        )
    # How it is stored, known until it is loaded; of one channel, Pillow keeps all 16 bits.
    stored = str(getattr(image, "tile", ""))
    if ";16" in stored and image.mode != "F" and not image.mode.startswith("I"):
        raise ValueError(
            "colours of 16 bits would lose 8 of them: give an array of uint16, or a file of 8 bits "
            f"a channel. Got 16 bits a channel ({image.mode})"
        )


def _from_pil(image: PILImage.Image, size: tuple[int, int], channels: str) -> Pixels:
    if image.mode == "F" or image.mode.startswith("I"):  # 16 or 32 bits, one channel
        pixels = np.asarray(image)
        if image.mode != "F":
            if pixels.min() < 0 or pixels.max() > 65535:
                raise ValueError(
                    f"pixels must be 16-bit, 0 to 65535. Got {pixels.min()} to {pixels.max()}"
                )
            pixels = pixels.astype(np.uint16)
        return _from_array(pixels, size, channels)
    if image.mode in ("P", "PA"):  # a palette may hold transparency
        image = image.convert("RGBA")
    image = image.convert(channels)
    if image.size != size[::-1]:
        image = image.resize(size[::-1], PILImage.Resampling.BICUBIC)
    pixels = np.array(image)
    return np.ascontiguousarray(pixels[None] if channels == "L" else np.moveaxis(pixels, 2, 0))


def _from_array(pixels: NDArray[Any], size: tuple[int, int], channels: str) -> Pixels:
    shape = pixels.shape
    if pixels.ndim not in (2, 3) or 0 in shape or (pixels.ndim == 3 and shape[2] not in (1, 3, 4)):
        raise ValueError(
            "an array must have shape (height, width) or (height, width, 1, 3 or 4), a tensor "
            f"(channels, height, width). Got (height, width, ...) = {shape}"
        )
    if pixels.ndim == 3:
        pixels = pixels[:, :, 0] if shape[2] == 1 else pixels[:, :, :3]
    if pixels.dtype == np.uint8:
        return _from_pil(PILImage.fromarray(np.ascontiguousarray(pixels)), size, channels)
    if pixels.dtype == np.uint16:
        deep: NDArray[np.float32] = pixels.astype(np.float32) / np.float32(65535)
    elif pixels.dtype.kind == "f":
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError(
                "pixels of type float must be in [0, 1] and not missing. "
                f"Got {pixels.min():g} to {pixels.max():g}"
            )
        deep = pixels.astype(np.float32)
    else:
        raise ValueError(f"pixels must be uint8, uint16 or float in [0, 1]. Got {pixels.dtype}")
    if deep.ndim == 3 and channels == "L":
        deep = deep @ _LUMA
    planes = deep[None] if deep.ndim == 2 else np.moveaxis(deep, 2, 0)
    out = np.stack([_resize(plane, size) for plane in planes])
    return np.repeat(out, 3, axis=0) if channels == "RGB" and len(out) == 1 else out


def _resize(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    if plane.shape == size:
        return plane
    image = PILImage.fromarray(np.ascontiguousarray(plane))
    image = image.resize(size[::-1], PILImage.Resampling.BICUBIC)
    return np.clip(np.asarray(image), 0.0, 1.0)  # bicubic overshoots at edges


class _Cache:
    """Arrays by key, the longest unused dropped above a number of bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.n_bytes = 0
        self._kept: OrderedDict[Hashable, Pixels] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Pixels]) -> Pixels:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        pixels = make()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = pixels
                self.n_bytes += pixels.nbytes
            self._shrink()
        return pixels

    def resize(self, limit: int) -> None:
        with self._lock:
            self.limit = limit
            self._shrink()

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self.n_bytes = 0

    def _shrink(self) -> None:
        while self.n_bytes > self.limit:
            self.n_bytes -= self._kept.popitem(last=False)[1].nbytes


_cache = _Cache(1 << 30)


def decode_path(path: Path, size: tuple[int, int], channels: str) -> Pixels:
    """Return `decode` of a file, from memory where the same file was decoded before."""
    status = os.stat(path)
    key = (os.path.abspath(path), status.st_mtime_ns, status.st_size, size, channels)
    return _cache.get(key, lambda: decode(path, size, channels))


def clear_image_cache() -> None:
    """Forget all decoded images.

    Examples
    --------
    >>> from mmfusion.modalities import clear_image_cache
    >>> clear_image_cache()
    """
    _cache.clear()


def set_image_cache_limit(n_bytes: int) -> None:
    """Set how many bytes of decoded images this process keeps.

    Image files are decoded and resized once and kept for the next fold, fit or prediction that
    reads the same file at the same size; above the limit the longest unused are dropped. The
    limit is 1 GiB at the start: about 87,000 colour images of 64 x 64, 7,100 of 224 x 224.

    Parameters
    ----------
    n_bytes : int
        At least 0; 0 keeps nothing.

    Raises
    ------
    ValueError
        If it is negative.

    Examples
    --------
    >>> from mmfusion.modalities import set_image_cache_limit
    >>> set_image_cache_limit(1 << 30)
    """
    if n_bytes < 0:
        raise ValueError(f"The n_bytes parameter must be at least 0. Got {n_bytes}.")
    _cache.resize(n_bytes)
