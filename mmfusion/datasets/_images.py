"""Photographs of a data set: shrunk once when it is made, read as arrays, checked by colour."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image


def shrink(source: IO[bytes], target: Path, size: int, quality: int) -> None:
    """Write an image as an RGB JPEG of `size` x `size` pixels (Lanczos; aspect not kept)."""
    with Image.open(source) as image:
        small = image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS)
    small.save(target, format="JPEG", quality=quality)


def read_rgb(path: Path, size: int | None = None) -> np.ndarray:
    """Return an image as uint8 (height, width, 3), resized to `size` x `size` if that is given."""
    with Image.open(path) as image:
        colour = image.convert("RGB")
        if size is not None and colour.size != (size, size):
            colour = colour.resize((size, size), Image.Resampling.LANCZOS)
        return np.asarray(colour)


def mean_colours(paths: Iterable[Path]) -> np.ndarray:
    """Return the mean red, green and blue of each image, uint8 (n_images, 3)."""
    means = [read_rgb(path).mean(axis=(0, 1)) for path in paths]
    return np.rint(np.reshape(means, (-1, 3))).astype(np.uint8)
