"""What a modality's rows are as floats: the inputs that attributions are taken of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional

__all__ = ["Inputs", "inputs_of"]

Tensors = tuple[Tensor, ...]

#: Standard deviation of the blur of a baseline image, as a share of its smaller side.
BLUR = 1 / 4


class Inputs(ABC):
    """One modality of some rows as floating-point tensors with a row each.

    A category is an indicator column a level, which the path to a baseline can leave; an image's
    pixels are in [0, 1]. Rows without the modality are zeros, here and in every baseline, so that
    nothing is attributed to what they lack.

    Attributes
    ----------
    present : Tensor of bool, shape (n_rows,)
    size : int
        Numbers of a row.
    """

    present: Tensor
    size: int

    @abstractmethod
    def tensors(self, rows: Tensor) -> Tensors:
        """Return the inputs of some rows (int64)."""

    @abstractmethod
    def start(self, rows: Tensor, kind: str) -> Tensors:
        """Return the baseline of some rows, "mean", "zero" or "blur"."""

    @abstractmethod
    def like(self, rows: Tensor, other: Any, number: int) -> Tensors:
        """Return a row of other inputs of the same modality as the baseline of some rows."""

    @abstractmethod
    def encoded(self, tensors: Tensors, rows: Tensor, mine: Tensor) -> tuple[Tensors, list[Tensor]]:
        """Return what the encoder takes of the places `mine`, and what stands for its embeddings.

        Parameters
        ----------
        tensors : tuple of Tensor
            As of `tensors`, or between it and a baseline.
        rows : Tensor of int64
            The rows they are of.
        mine : Tensor of int64
            Places among them whose row has the modality.
        """

    @abstractmethod
    def summed(self, attributions: Sequence[np.ndarray]) -> np.ndarray:
        """Return attributions of a row's inputs by the user's columns, or by pixel, (n, ...)."""

    @abstractmethod
    def spread(self, chosen: np.ndarray) -> list[np.ndarray]:
        """Return which inputs belong to chosen features, in the shape of what `summed` returns."""

    @abstractmethod
    def masks(self, tensors: Tensors, first: int, window: int) -> tuple[list[Tensor], int]:
        """Return which feature each input belongs to, (1, ...) each, counted from `first`."""

    def _kept(self, tensors: Sequence[Tensor], rows: Tensor) -> Tensors:
        """Return tensors that are zeros in rows without the modality."""
        there = self.present[rows]
        return tuple(t * there.view(-1, *[1] * (t.ndim - 1)) for t in tensors)


class TableInputs(Inputs):
    """Numbers in float64, and the indicators of each category's codes."""

    def __init__(self, modality: Any, frame: pd.DataFrame) -> None:
        data = modality.transform(frame)
        self.modality = modality
        self.block = getattr(modality, "block_", modality)
        self.present = data.present
        pca = getattr(self.block, "pca_", None)
        self.loadings: tuple[Tensor, Tensor] | None = None
        if pca is None:
            numeric = data.numeric.double()
        else:
            numeric = torch.from_numpy(modality.standardised(frame)[0]).double()
            loadings = pca.components_.T / self.block.component_scale_
            arrays = (pca.mean_, loadings)
            self.loadings = tuple(torch.from_numpy(np.asarray(a, np.float64)) for a in arrays)  # type: ignore[assignment]
        bits = [
            functional.one_hot(codes, count).double()
            for codes, count in zip(data.categories.T, modality.cardinalities_, strict=True)
        ]
        self.values = self._kept([numeric, *bits], torch.arange(len(numeric)))
        self.size = sum(value.shape[1] for value in self.values)
        self.columns, self.groups = _columns_of(self.block, numeric.shape[1])

    def tensors(self, rows: Tensor) -> Tensors:
        return tuple(value[rows] for value in self.values)

    def start(self, rows: Tensor, kind: str) -> Tensors:
        zero = kind == "zero"
        block = self.block
        numeric = np.zeros(self.values[0].shape[1])
        own = len(block.mean_)
        if zero and hasattr(block, "numbers"):
            numeric[:own] = block.numbers(np.zeros((1, len(block.median_))))[0]
        elif zero and block.scale:
            numeric[:own] = -block.mean_ / block.scale_
        elif not block.scale and not zero:
            numeric[:own] = block.mean_
        clip = getattr(block, "clip", None)
        if clip is not None and block.scale:
            numeric = numeric.clip(-clip, clip)
        shares = getattr(block, "shares_", [])
        if shares and not block.cardinalities_ and not zero:  # one-hot columns come last
            bits = np.concatenate([share[1:] for share in shares])
            numeric[len(numeric) - len(bits) :] = bits
        points = [numeric]
        for place, count in enumerate(block.cardinalities_):
            point = np.eye(count)[0]
            points.append(point if zero or not shares else np.asarray(shares[place]))
        shown = [torch.from_numpy(p)[None].expand(len(rows), -1) for p in points]
        return self._kept(shown, rows)

    def like(self, rows: Tensor, other: Any, number: int) -> Tensors:
        return self._kept([v[[number]].expand(len(rows), -1) for v in other.values], rows)

    def encoded(self, tensors: Tensors, rows: Tensor, mine: Tensor) -> tuple[Tensors, list[Tensor]]:
        numeric, *bits = (tensor[mine] for tensor in tensors)
        if self.loadings is not None:
            center, loadings = (array.to(numeric.device) for array in self.loadings)
            numeric = (numeric - center) @ loadings
        codes = torch.zeros(len(mine), len(bits), dtype=torch.int64, device=numeric.device)
        return ((numeric, codes) if bits else (numeric,)), list(bits)

    def summed(self, attributions: Sequence[np.ndarray]) -> np.ndarray:
        found = np.zeros((len(attributions[0]), len(self.columns)))
        for place, column in enumerate(self.groups[0]):
            found[:, column] += attributions[0][:, place]
        for column, values in zip(self.groups[1], attributions[1:], strict=True):
            found[:, column] += values.sum(axis=1)
        return found

    def spread(self, chosen: np.ndarray) -> list[np.ndarray]:
        return [chosen[:, self.groups[0]], *(chosen[:, [column]] for column in self.groups[1])]

    def masks(self, tensors: Tensors, first: int, window: int) -> tuple[list[Tensor], int]:
        numbers = torch.from_numpy(self.groups[0])[None] + first
        bits = [
            torch.full((1, tensor.shape[1]), int(column) + first)
            for column, tensor in zip(self.groups[1], tensors[1:], strict=True)
        ]
        return [numbers, *bits], first + len(self.columns)


def _columns_of(block: Any, width: int) -> tuple[list[Any], tuple[np.ndarray, np.ndarray]]:
    """Return the user's columns, and which of them each number and each category belongs to."""
    columns = list(block.columns_)
    if not hasattr(block, "numeric_columns_"):  # genes: a number a column
        return columns, (np.arange(width), np.zeros(0, dtype=np.int64))
    place = {label: number for number, label in enumerate(columns)}
    numbers = [place[label] for label in (*block.source_columns_, *block.indicator_columns_)]
    categories = [place[label] for label in block.categorical_columns_]
    if not block.cardinalities_:
        known = zip(categories, block.categories_, strict=True)
        numbers += [column for column, levels in known for _ in levels]
        categories = []
    return columns, (np.array(numbers, dtype=np.int64), np.array(categories, dtype=np.int64))


class ImageInputs(Inputs):
    """The images of each row, filled up to the most that a row of the batch has."""

    def __init__(self, modality: Any, frame: pd.DataFrame, center: Tensor) -> None:
        self.data = modality.transform(frame)
        self.present = self.data.present
        self.counts = self.data.start[1:] - self.data.start[:-1]
        self.center = center.double().flatten()
        most = max(int(self.counts.max()), 1) if len(self.counts) else 1
        self.size = int(np.prod(self.data.pixels.shape[1:])) * most

    def _there(self, rows: Tensor) -> Tensor:
        """Return which places of the padded bags hold an image, (n, B)."""
        counts = self.counts[rows]
        return torch.arange(max(int(counts.max()), 1)) < counts[:, None]

    def tensors(self, rows: Tensor) -> Tensors:
        there = self._there(rows)
        pixels = torch.zeros(*there.shape, *self.data.pixels.shape[1:])
        first = self.data.start[rows][:, None] + torch.arange(there.shape[1])
        found = self.data.pixels[first[there]]
        pixels[there] = found.float() / (255.0 if found.dtype == torch.uint8 else 1.0)
        return (pixels,)

    def start(self, rows: Tensor, kind: str) -> Tensors:
        (pixels,) = self.tensors(rows)
        there = self._there(rows)
        if kind == "blur":
            sigma = BLUR * min(pixels.shape[-2:])
            smooth = gaussian_filter(pixels.numpy(), (0, 0, 0, sigma, sigma), mode="nearest")
            return (torch.from_numpy(smooth) * there[..., None, None, None],)
        colour = torch.zeros_like(self.center) if kind == "zero" else self.center
        flat = colour.float()[None, None, :, None, None] * there[..., None, None, None]
        return (flat.expand(pixels.shape).contiguous(),)

    def like(self, rows: Tensor, other: Any, number: int) -> Tensors:
        there = self._there(rows)
        (bag,) = other.tensors(torch.tensor([number]))
        places = torch.arange(there.shape[1]) % int(other.counts[number])
        return (bag[0][places][None] * there[..., None, None, None],)

    def encoded(self, tensors: Tensors, rows: Tensor, mine: Tensor) -> tuple[Tensors, list[Tensor]]:
        counts = self.counts[rows.cpu()].to(rows.device)[mine]
        pixels = tensors[0][mine]
        there = torch.arange(pixels.shape[1], device=pixels.device) < counts[:, None]
        images = pixels[there]
        if bool((counts == 1).all()):
            return (images,), []
        return (images, torch.arange(len(mine), device=rows.device).repeat_interleave(counts)), []

    def summed(self, attributions: Sequence[np.ndarray]) -> np.ndarray:
        return attributions[0].sum(axis=2)

    def spread(self, chosen: np.ndarray) -> list[np.ndarray]:
        return [chosen[:, :, None]]

    def masks(self, tensors: Tensors, first: int, window: int) -> tuple[list[Tensor], int]:
        bags, (height, width) = tensors[0].shape[1], tensors[0].shape[-2:]
        down, across = torch.arange(height) // window, torch.arange(width) // window
        n_across = int(across[-1]) + 1
        grid = down[:, None] * n_across + across
        n_places = int(grid.max()) + 1
        bag = torch.arange(bags)[:, None, None] * n_places
        mask = (grid + bag + first)[None, :, None].expand(1, *tensors[0].shape[1:])
        return [mask], first + n_places * bags


class PointsInputs(Inputs):
    """Points, normalised; a baseline's are all in the centre."""

    def __init__(self, modality: Any, frame: pd.DataFrame) -> None:
        self.data = modality.transform(frame)
        self.present, self.counts = self.data.present, self.data.counts
        self.size = int(np.prod(self.data.points.shape[1:]))

    def tensors(self, rows: Tensor) -> Tensors:
        return (self.data.points[rows] * self._there(rows)[:, :, None],)

    def _there(self, rows: Tensor) -> Tensor:
        return torch.arange(self.data.points.shape[1]) < self.counts[rows, None]

    def start(self, rows: Tensor, kind: str) -> Tensors:
        return (torch.zeros(len(rows), *self.data.points.shape[1:]),)

    def like(self, rows: Tensor, other: Any, number: int) -> Tensors:
        places = torch.arange(self.data.points.shape[1]) % int(other.counts[number])
        cloud = other.data.points[number][places]
        return (cloud[None] * self._there(rows)[:, :, None],)

    def encoded(self, tensors: Tensors, rows: Tensor, mine: Tensor) -> tuple[Tensors, list[Tensor]]:
        points, counts = tensors[0][mine], self.counts[rows.cpu()].to(rows.device)[mine]
        there = torch.arange(points.shape[1], device=points.device) < counts[:, None]
        return ((points,) if bool(there.all()) else (points, there)), []

    def summed(self, attributions: Sequence[np.ndarray]) -> np.ndarray:
        return attributions[0].sum(axis=2)

    def spread(self, chosen: np.ndarray) -> list[np.ndarray]:
        return [chosen[:, :, None]]

    def masks(self, tensors: Tensors, first: int, window: int) -> tuple[list[Tensor], int]:
        n_points = tensors[0].shape[1]
        mask = torch.arange(n_points)[None, :, None].expand(1, *tensors[0].shape[1:]) + first
        return [mask], first + n_points


def inputs_of(modality: Any, frame: pd.DataFrame, encoder: Any) -> Inputs:
    """Return the float inputs of a fitted modality's rows."""
    if modality.kind == "table":
        return TableInputs(modality, frame)
    if modality.kind == "points":
        return PointsInputs(modality, frame)
    return ImageInputs(modality, frame, getattr(encoder, "source", encoder).mean)
