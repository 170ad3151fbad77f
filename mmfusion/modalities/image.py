"""Image: one picture, or several, of each row."""

from __future__ import annotations

import os
import warnings
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pandas as pd
import torch
from PIL import Image as PILImage
from sklearn.utils.validation import check_is_fitted

from mmfusion.inputs.columns import column_positions, list_labels
from mmfusion.inputs.parameters import check_choice
from mmfusion.inputs.table import require_frame
from mmfusion.modalities._decoding import Pixels, decode, decode_path
from mmfusion.modalities.base import ImageData, Modality

__all__ = ["Image", "images_in"]

#: Pillow lets go of the interpreter while it decodes; more threads wait for the disk only.
_THREADS = 2

#: Pixels that end below this share of white are those of 13 bits in 16, or fewer.
BLACK = 0.13


@dataclass(eq=False, repr=False)
class Image(Modality):
    """Images of each row: scans, histology, photographs.

    A cell holds one image or a list (or tuple) of images, a bag, whose embeddings are pooled:

    * a path (text or ``Path``), decoded once and kept (see `set_image_cache_limit`);
    * a PIL image;
    * an array of shape (height, width) or (height, width, 1, 3 or 4);
    * a tensor of shape (height, width) or (channels, height, width).

    Arrays and tensors are uint8, uint16 (65535 is white) or float in [0, 1]; files have 8 bits a
    channel, or up to 16 where they are grey, and one page (of a z-stack or an animation, give the
    pages that you mean as a list of arrays). ``None``, NaN, empty
    text and an empty list mean that there is no image; a row without one is absent.

    Parameters
    ----------
    column : label or list of labels
        The column that holds the images. The images of several columns (four photographs of one
        house) make one bag.
    size : int or (height, width), default=64
        Images are resized to this (bicubic with antialias; the aspect ratio is not kept).
    channels : {"RGB", "L"}, default="RGB"
        Colour or grey: a grey image is repeated for RGB, colours are weighted for L (ITU-R
        BT.601). Transparency is dropped.
    encoder : {"cnn", "raw"}, name of a timm model, or callable, default="cnn"
        The network that reads it. This and the parameters up to `learning_rate_scale` are only
        kept here.
    pretrained : bool, "embedded" or path, default=False
        Where the encoder's first weights come from.
    freeze : None, "all" or int, default=None
        Which of the encoder's stages are not trained.
    n_components : int, float, "auto" or None, default="auto"
        Principal components of a frozen encoder's features. "auto": the linear part sees all
        features, networks beside it the leading components where the rows cannot carry more (a
        tenth of the events, 8 to 64). None: all features.
    pool : {"mean", "attention"}, default="mean"
        How the images of a row become one vector: their mean, or weighted by gated attention (Ilse,
        Tomczak & Welling 2018), learned with the network; ``attribute(..., method="attention")``
        shows the weights. With attention features are not kept: a frozen encoder too reads every
        image in every epoch.
    dropout : float, default=0.0
        The encoder's dropout.
    learning_rate_scale : float, optional
        The encoder's learning rate, as a multiple of the model's.
    root : path, optional
        The folder that relative paths start from; the working directory by default.

    Attributes
    ----------
    columns_ : list
    n_channels_ : int
    size_ : (height, width)

    Notes
    -----
    Pixels stay uint8 where all images of a call have 8 bits; otherwise they are float32 in
    [0, 1]. Normalisation is the encoder's. Orientation marks of photographs are followed.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from mmfusion.modalities import Image
    >>> scan = np.zeros((100, 80), dtype=np.uint8)
    >>> patients = pd.DataFrame({"ct": [scan, None, [scan, scan]]})
    >>> data = Image("ct", size=32).fit(patients).transform(patients)
    >>> data.pixels.shape
    torch.Size([3, 3, 32, 32])
    >>> data.present
    tensor([ True, False,  True])
    """

    kind: ClassVar[str] = "image"

    column: Hashable | Sequence[Hashable]
    _: KW_ONLY
    size: int | tuple[int, int] = 64
    channels: str = "RGB"
    encoder: Any = "cnn"
    pretrained: bool | str | Path = False
    freeze: str | int | None = None
    n_components: int | float | str | None = "auto"
    pool: str = "mean"
    dropout: float = 0.0
    learning_rate_scale: float | None = None
    root: str | Path | None = None

    def fit(self, frame: pd.DataFrame) -> Self:
        """Check the columns and that a training row has an image; no image is decoded.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)

        Returns
        -------
        Image

        Raises
        ------
        ValueError
            If a column is not in the table, a cell holds no image, or no row has one.
        """
        require_frame(frame, "A modality")
        check_choice("channels", self.channels, ("RGB", "L"), "Image")
        check_choice("pool", self.pool, ("mean", "attention"), "Image")
        size = _check_size(self.size)
        columns = list_labels(self.column, "Image", "column")
        images, _ = self._collect(frame, columns)
        if not images:
            raise ValueError(
                f"Image needs a training row with an image: column "
                f"{', '.join(map(repr, columns))} is missing in all of the {len(frame)} rows."
            )
        self.columns_ = columns
        self.size_ = size
        self.n_channels_ = len(self.channels)
        return self

    def transform(self, frame: pd.DataFrame) -> ImageData:
        """Return the images of the rows, decoded and resized.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)

        Returns
        -------
        ImageData

        Raises
        ------
        ValueError
            If a column is not in the table or an image cannot be read (column and row named).
        """
        check_is_fitted(self, "columns_")
        require_frame(frame, "A modality")
        images, start = self._collect(frame, self.columns_)
        pixels = self._decode(images)
        self._warn_of_black(pixels)
        if pixels:
            deep = any(array.dtype != np.uint8 for array in pixels)
            stacked = np.stack([_to_float(array) for array in pixels] if deep else pixels)
        else:
            stacked = np.zeros((0, self.n_channels_, *self.size_), dtype=np.uint8)
        return ImageData(torch.from_numpy(stacked), torch.from_numpy(start))

    def present(self, frame: pd.DataFrame) -> np.ndarray:
        """Return which rows have an image, bool, shape (n_rows,); none is decoded."""
        check_is_fitted(self, "columns_")
        require_frame(frame, "A modality")
        return np.diff(self._collect(frame, self.columns_)[1]) > 0

    def _collect(
        self, frame: pd.DataFrame, columns: Sequence[Hashable]
    ) -> tuple[list[_Place], np.ndarray]:
        """Return all images in row order, and where each row's begin."""
        cells = [
            frame.iloc[:, position].to_numpy(dtype=object)
            for position in column_positions(frame, columns)
        ]
        root = Path() if self.root is None else Path(self.root)
        images: list[_Place] = []
        start = np.zeros(len(frame) + 1, dtype=np.int64)
        for i, row in enumerate(frame.index):
            for column, column_cells in zip(columns, cells, strict=True):
                try:
                    found = images_in(column_cells[i])
                except TypeError as error:
                    raise ValueError(f"Column {column!r}, row {row!r}: {error}") from error
                for image in found:
                    source = root / image if isinstance(image, Path) else image
                    images.append(_Place(source, column, row))
            start[i + 1] = len(images)
        return images, start

    def _warn_of_black(self, pixels: list[Pixels]) -> None:
        """Warn of images of more than 8 bits that leave most of them unused, as 12 of 16 do."""
        brightest = max((float(a.max()) for a in pixels if a.dtype != np.uint8), default=1.0)
        if 0 < brightest < BLACK:
            warnings.warn(
                f"Column {', '.join(map(repr, self.columns_))}: the brightest pixel of all images "
                f"of more than 8 bits is {brightest:.2g} of white, which is 65535 in 16 bits and 1 "
                "in numbers: an encoder sees them as black. Files of 12 bits in 16 want arrays in "
                "place of paths, pixels * 16; in others divide by the largest number possible.",
                UserWarning,
                stacklevel=2,
            )

    def _decode(self, images: list[_Place]) -> list[Pixels]:
        """Return the pixels of the images; a file or object that occurs twice is decoded once."""
        first: dict[Hashable, _Place] = {}
        keys = []
        for place in images:
            key = place.source if isinstance(place.source, Path) else id(place.source)
            first.setdefault(key, place)
            keys.append(key)
        with ThreadPoolExecutor(_THREADS) as pool:
            decoded = dict(zip(first, pool.map(self._decode_one, first.values()), strict=True))
        return [decoded[key] for key in keys]

    def _decode_one(self, place: _Place) -> Pixels:
        how = decode_path if isinstance(place.source, Path) else decode
        try:
            return how(place.source, self.size_, self.channels)
        except Exception as error:  # broken files raise many types
            name = f"image {str(place.source)!r}" if isinstance(place.source, Path) else "image"
            raise ValueError(
                f"Column {place.column!r}, row {place.row!r}: cannot read the {name}: {error}."
            ) from error


class _Place(NamedTuple):
    """An image and the cell it stands in."""

    source: Any
    column: Hashable
    row: Hashable


def images_in(cell: Any) -> list[Any]:
    """Return the images of a cell as a flat list, paths as ``Path``; empty if it is missing.

    Raises
    ------
    TypeError
        If the cell holds something else.
    """
    if isinstance(cell, str):
        return [Path(cell)] if cell.strip() else []
    if isinstance(cell, os.PathLike):
        return [Path(cell)]
    if isinstance(cell, list | tuple) or (isinstance(cell, np.ndarray) and cell.dtype.kind in "OU"):
        return [image for item in cell for image in images_in(item)]
    if isinstance(cell, PILImage.Image | np.ndarray | torch.Tensor):
        return [cell]
    if cell is None or (pd.api.types.is_scalar(cell) and pd.isna(cell)):
        return []
    raise TypeError(
        "an image cell must hold a path, a PIL image, an array, a tensor or a list of these, or be "
        f"missing. Got {type(cell).__name__}"
    )


def _check_size(size: Any) -> tuple[int, int]:
    pair: Any = (size, size) if isinstance(size, Integral) else size
    good = isinstance(pair, Sequence) and len(pair) == 2
    if not good or not all(isinstance(side, Integral) and int(side) >= 1 for side in pair):
        raise ValueError(
            "The size parameter of Image must be a positive integer or (height, width). "
            f"Got {size!r}."
        )
    return int(pair[0]), int(pair[1])


def _to_float(pixels: Pixels) -> np.ndarray:
    return pixels if pixels.dtype == np.float32 else pixels.astype(np.float32) / 255
