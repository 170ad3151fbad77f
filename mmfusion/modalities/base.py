"""What a modality promises: rows of a table in, tensors and a presence mask out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import pandas as pd
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

__all__ = [
    "DESIGN",
    "AbsentData",
    "ImageData",
    "Modality",
    "ModalityData",
    "MultimodalData",
    "TableData",
]

#: Key of the structured design among the inputs of a batch; no modality can be called so.
DESIGN = "__design__"


class ModalityData(ABC):
    """One modality of some rows, as tensors, with the mask of the rows that have it.

    Attributes
    ----------
    present : Tensor of bool, shape (n_rows,)
        Which rows have this modality. What the tensors hold for the other rows is
        never read.
    """

    present: Tensor

    def __len__(self) -> int:
        return len(self.present)

    @abstractmethod
    def inputs(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors an encoder takes for `rows` (int64), all of them present."""

    @abstractmethod
    def take(self, rows: Tensor) -> Self:
        """Return the data of `rows` (int64), in their order."""

    @abstractmethod
    def to(self, device: torch.device) -> Self:
        """Return the same data on `device`."""


class TableData(ModalityData):
    """Numbers and category codes of each row.

    Parameters
    ----------
    numeric : Tensor of float32, shape (n_rows, n_numeric)
    categories : Tensor of int64, shape (n_rows, n_categorical)
        Codes; 0 is "unknown or missing" in every column.
    present : Tensor of bool, shape (n_rows,)
    """

    def __init__(self, numeric: Tensor, categories: Tensor, present: Tensor) -> None:
        self.numeric = numeric
        self.categories = categories
        self.present = present

    def inputs(self, rows: Tensor) -> tuple[Tensor, ...]:
        if self.categories.shape[1] == 0:
            return (self.numeric[rows],)
        return self.numeric[rows], self.categories[rows]

    def take(self, rows: Tensor) -> Self:
        return type(self)(self.numeric[rows], self.categories[rows], self.present[rows])

    def to(self, device: torch.device) -> Self:
        return type(self)(
            self.numeric.to(device), self.categories.to(device), self.present.to(device)
        )


class ImageData(ModalityData):
    """A bag of zero, one or more images of each row, decoded and resized once.

    Parameters
    ----------
    pixels : Tensor, shape (n_images, channels, height, width)
        uint8, or float32 in [0, 1] where the source had more than 8 bits.
    start : Tensor of int64, shape (n_rows + 1,)
        The images of row i are ``pixels[start[i]:start[i + 1]]``.
    """

    #: Above this size the pixels stay in host memory and travel a batch at a time.
    DEVICE_LIMIT_BYTES: ClassVar[int] = 2 << 30

    def __init__(self, pixels: Tensor, start: Tensor, device: torch.device | None = None) -> None:
        self.pixels = pixels
        self.start = start
        self.present = start[1:] > start[:-1]
        self._device = device or pixels.device
        self._single = bool((start[1:] - start[:-1] == 1).all())

    def inputs(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return pixels (k, channels, height, width) and, for bags, the owner (k,) of each image.

        `owner` numbers the rows asked for from 0; it is left out where every row has one image.
        """
        if self._single:  # then image i belongs to row i
            return (self._fetch(rows),)
        images, owner, _ = self._images_of(rows)
        return self._fetch(images), owner

    def _images_of(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the images of `rows`, the position in `rows` of each one's owner, and counts."""
        first, last = self.start[rows], self.start[rows + 1]
        counts = last - first
        owner = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        ends = torch.cumsum(counts, 0)
        within = torch.arange(len(owner), device=rows.device) - (ends - counts)[owner]
        return first[owner] + within, owner, counts

    def _fetch(self, images: Tensor) -> Tensor:
        if self.pixels.device == images.device:
            return self.pixels[images]
        return self.pixels[images.to(self.pixels.device)].to(images.device, non_blocking=True)

    def take(self, rows: Tensor) -> Self:
        images, _, counts = self._images_of(rows)
        start = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return type(self)(self._fetch(images), start, self._device)

    def to(self, device: torch.device) -> Self:
        fits = self.pixels.numel() * self.pixels.element_size() <= self.DEVICE_LIMIT_BYTES
        pixels = self.pixels.to(device) if fits else self.pixels
        return type(self)(pixels, self.start.to(device), device)


class AbsentData(ModalityData):
    """A modality that none of the rows has, whatever their table holds.

    Parameters
    ----------
    present : Tensor of bool, shape (n_rows,)
        All False.
    """

    def __init__(self, present: Tensor) -> None:
        self.present = present

    def inputs(self, rows: Tensor) -> tuple[Tensor, ...]:
        raise RuntimeError("A modality that no row has is never read.")

    def take(self, rows: Tensor) -> Self:
        return type(self)(self.present[rows])

    def to(self, device: torch.device) -> Self:
        return type(self)(self.present.to(device))


class Modality(BaseEstimator, ABC):
    """One modality of a table: which columns hold it and how they become tensors.

    A modality is a scikit-learn transformer without ``y``: ``__init__`` only stores, `fit` learns
    everything from the training rows, fitted attributes end in an underscore. Estimators clone the
    modality a user gives, so the user's object is never changed.

    Attributes
    ----------
    kind : {"table", "image", "points"}
        Which encoders can read it.
    columns_ : list
        The columns of the frame it reads (after `fit`).
    n_seen_ : int
        The components that a network has of it, where it is too wide for the rows of a fit.
    silent_ : bool
        Whether these are zeros, since the linear part found nothing in it.
    """

    kind: ClassVar[str]

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        text = super().__repr__(N_CHAR_MAX)
        few = self.n_shown
        return text if few is None else f"{text}  # networks see {few} components"

    @property
    def n_shown(self) -> int | None:
        """Components that networks see, after a fit that reduced it; None where they see all."""
        return 0 if getattr(self, "silent_", False) else getattr(self, "n_seen_", None)

    @abstractmethod
    def fit(self, frame: pd.DataFrame) -> Self:
        """Learn preprocessing from the training rows."""

    @abstractmethod
    def transform(self, frame: pd.DataFrame) -> ModalityData:
        """Return tensors and the presence mask, a row for each row of `frame`."""

    def present(self, frame: pd.DataFrame) -> np.ndarray:
        """Return which rows of `frame` have this modality (after `fit`), bool, shape (n_rows,)."""
        return self.transform(frame).present.numpy()


class MultimodalData:
    """All modalities of the same rows.

    Parameters
    ----------
    parts : mapping of str to ModalityData
        In the order in which the network takes them.
    design : Tensor, shape (n_rows, p), optional
        The structured design of the rows, for networks that read it.

    Attributes
    ----------
    present : Tensor of bool, shape (n_rows, n_modalities)
    """

    def __init__(self, parts: Mapping[str, ModalityData], design: Tensor | None = None) -> None:
        self.parts = dict(parts)
        self.design = design
        self.present = torch.stack([part.present for part in self.parts.values()], dim=1)
        # Decided once, so that complete tables pay nothing for the masks in every step.
        self.complete = bool(self.present.all())

    def __len__(self) -> int:
        return len(self.present)

    def to(self, device: torch.device) -> Self:
        design = None if self.design is None else self.design.to(device)
        return type(self)({name: part.to(device) for name, part in self.parts.items()}, design)

    def take(self, rows: Tensor) -> Self:
        """Return the data of `rows`, in their order."""
        design = None if self.design is None else self.design[rows]
        return type(self)({name: part.take(rows) for name, part in self.parts.items()}, design)

    def batch(
        self, rows: Tensor, present: Tensor | None = None
    ) -> tuple[dict[str, tuple[Tensor, ...]], Tensor | None]:
        """Return the inputs of each modality's encoder and the presence mask of `rows`.

        Parameters
        ----------
        rows : Tensor of int64, shape (batch,)
        present : Tensor of bool, shape (batch, n_modalities), optional
            A mask that replaces the data's own (never True where the data's is False):
            modality dropout.

        Returns
        -------
        inputs : dict of str to tuple of Tensor
            Only the rows that have the modality, in their order. A modality that no row of the
            batch has is left out. Where there is a design, all its rows under the key `DESIGN`.
        present : Tensor of bool, shape (batch, n_modalities), or None
            None where every row has every modality.
        """
        inputs: dict[str, tuple[Tensor, ...]] = {}
        if self.design is not None:
            inputs[DESIGN] = (self.design[rows],)
        if present is None and self.complete:
            return inputs | {name: part.inputs(rows) for name, part in self.parts.items()}, None
        if present is None:
            present = self.present[rows]
        for position, (name, part) in enumerate(self.parts.items()):
            mine = rows[present[:, position]]
            if len(mine):
                inputs[name] = part.inputs(mine)
        return inputs, present
