"""What an objective promises: embeddings and who has them in, one auxiliary loss out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from numbers import Integral
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from mmfusion.inputs.parameters import is_number

__all__ = [
    "Objective",
    "ObjectiveModule",
    "PairwiseModule",
    "Source",
    "check_objectives",
    "pairs",
    "scatter",
    "zero",
]


@dataclass(frozen=True)
class Source:
    """What an objective knows of a modality.

    Attributes
    ----------
    name : str
    width : int
        Of its embedding.
    n_numeric : int
        Width of the numbers among its encoder's inputs (of a frozen encoder: of its scaled
        features).
    cardinalities : tuple of int
        Number of codes of each category among them, code 0 ("unknown or missing") included.
    image : (channels, height, width), optional
        Where its encoder's inputs are pixels.
    scale : callable, optional
        Where its encoder is frozen: what is made of the features before they are projected.
    """

    name: str
    width: int
    n_numeric: int = 0
    cardinalities: tuple[int, ...] = ()
    image: tuple[int, int, int] | None = None
    scale: Callable[[Tensor], Tensor] | None = None


class ObjectiveModule(nn.Module):
    """An auxiliary loss of embeddings, with what it trains beside the network."""

    def targets(
        self, inputs: Mapping[str, tuple[Tensor, ...]], present: Tensor
    ) -> dict[str, Tensor]:
        """Return what `forward` needs of the encoders' inputs, without a graph; nothing by default.

        Parameters
        ----------
        inputs : mapping of str to tuple of Tensor
            Of each encoder, only the rows that have the modality.
        present : Tensor of bool, shape (batch, n_modalities)

        Returns
        -------
        dict of str to Tensor, each of first dimension batch
        """
        return {}

    def forward(
        self,
        embeddings: Sequence[Tensor],
        present: Tensor,
        targets: Mapping[str, Tensor],
        labels: Tensor | None = None,
    ) -> Tensor:
        """Return the loss, a scalar on the graph of the embeddings.

        Parameters
        ----------
        embeddings : sequence of Tensor, each of shape (batch, width)
            What they hold for an absent modality is never read.
        present : Tensor of bool, shape (batch, n_modalities)
        targets : mapping of str to Tensor
            What `targets` returned for these rows.
        labels : Tensor of int64, shape (batch,), optional
            Groups of the outcome; -1 for none.

        Returns
        -------
        Tensor, a scalar
            Zero, on the graph, where there are too few rows.
        """
        raise NotImplementedError

    def after_step(self, encoders: Sequence[nn.Module]) -> None:
        """Follow a step of the optimiser; nothing by default."""


class PairwiseModule(ObjectiveModule):
    """A loss of two modalities: its mean over the pairs that enough rows have."""

    def fewest_rows(self, u: Tensor, v: Tensor) -> int:
        """Return how many rows with both modalities a pair needs to count."""
        return 2

    def forward(
        self,
        embeddings: Sequence[Tensor],
        present: Tensor,
        targets: Mapping[str, Tensor],
        labels: Tensor | None = None,
    ) -> Tensor:
        total, count = zero(embeddings) + sum(0.0 * p.sum() for p in self.parameters()), 0
        for k, other in combinations(range(len(embeddings)), 2):
            rows = present[:, k] & present[:, other]
            u, v = embeddings[k][rows], embeddings[other][rows]
            if len(u) >= self.fewest_rows(u, v):
                total = total + self.of_pair(u, v)
                count += 1
        return total / max(count, 1)

    def of_pair(self, u: Tensor, v: Tensor) -> Tensor:
        """Return the loss of the embeddings, (n, width) each, of n rows that have both."""
        raise NotImplementedError


class Objective(BaseEstimator, ABC):
    """An auxiliary loss as a user writes it: scikit-learn parameters, no state.

    Parameters
    ----------
    weight : float or (float, float)
        What the loss is multiplied by; a pair is the weight in the pretraining epochs and after.
    pretrain_epochs : int
        First epochs, in which the auxiliary losses are trained without the likelihood. Has no
        meaning in a `FusionPretrainer`, where all epochs are.
    """

    #: The column of ``history_``.
    name: ClassVar[str]
    weight: Any
    pretrain_epochs: Any

    @property
    def fewest(self) -> int:
        """How many modalities it needs."""
        return 2

    @property
    def needs_labels(self) -> bool:
        """Whether it reads the outcome."""
        return False

    def weight_at(self, epoch: int, *, pretraining: bool = False) -> float:
        """Return the weight in `epoch`, counted from 1."""
        first, then = self.weight if isinstance(self.weight, tuple | list) else (self.weight,) * 2
        return float(first if pretraining or epoch <= self.pretrain_epochs else then)

    def check(self, *, pretraining: bool = False) -> None:
        """Raise ValueError or TypeError unless the parameters are as they must be.

        Of `pretraining` all epochs are pretraining epochs.
        """
        pair = isinstance(self.weight, tuple | list)
        weights = self.weight if pair else (self.weight,)
        good = all(is_number(weight) and 0 <= weight < math.inf for weight in weights)
        if not good or (pair and len(weights) != 2):
            raise ValueError(
                f"The weight parameter of {type(self).__name__} must be a finite number of at "
                f"least 0, or a pair of them. Got {self.weight!r}."
            )
        self._check_number("pretrain_epochs", 0, integer=True)
        if not self.weight_at(
            1, pretraining=pretraining
        ):  # in pretraining epochs there would be nothing to train
            raise ValueError(
                f"The weight parameter of {type(self).__name__} must be positive in the first "
                f"epoch (pretrain_epochs={self.pretrain_epochs}). Got {self.weight!r}."
            )

    def _check_number(
        self, parameter: str, low: float, high: float = math.inf, *, integer: bool = False
    ) -> None:
        value = getattr(self, parameter)
        good = isinstance(value, Integral) if integer else True
        if not good or not is_number(value) or not low <= value <= high or value == math.inf:
            noun = "an integer" if integer else "a number"
            raise ValueError(
                f"The {parameter} parameter of {type(self).__name__} must be {noun} in "
                f"[{low:g}, {high:g}]. Got {value!r}."
            )

    def check_sources(self, sources: Sequence[Source], batch_rows: int) -> None:
        """Raise ValueError unless it can be computed of these modalities, in such batches.

        Parameters
        ----------
        sources : sequence of Source
        batch_rows : int
            Rows of the smallest batch.
        """
        if len(sources) < self.fewest:
            raise ValueError(
                f"{self!r} compares modalities, and needs at least {self.fewest}. "
                f"Got {[source.name for source in sources]}."
            )

    def check_pairs(
        self, sources: Sequence[Source], together: Tensor, part: str = "training"
    ) -> None:
        """Raise ValueError unless enough rows have two modalities that it could compare.

        Parameters
        ----------
        sources : sequence of Source
        together : Tensor, shape (n_modalities, n_modalities)
            How many rows a batch is expected to hold with both modalities.
        part : str, default="training"
            Which rows these are.
        """
        if self.fewest > 1 and not together.triu(1).any():
            raise ValueError(
                f"{self!r} compares modalities of a row, and no {part} row has two of "
                f"{[source.name for source in sources]}."
            )

    def _check_one_width(self, sources: Sequence[Source]) -> None:
        widths = {source.name: source.width for source in sources}
        if len(set(widths.values())) > 1:
            raise ValueError(
                f"{self!r} compares embeddings, which must have one width. Got {widths}: an "
                "encoder 'raw', or one of your own, has its own."
            )

    @abstractmethod
    def build(self, sources: Sequence[Source], encoders: Sequence[nn.Module]) -> ObjectiveModule:
        """Return the module of this loss for these modalities and the encoders of a network."""


def check_objectives(
    parameter: str, objectives: Any, *, pretraining: bool = False
) -> tuple[Objective, ...]:
    """Return the objectives of a parameter, each checked.

    Raises
    ------
    TypeError, ValueError
        If it is no sequence of objectives, or a parameter of one is not as it must be.
    """
    if objectives is None:
        return ()
    if not isinstance(objectives, tuple | list) or not all(
        isinstance(objective, Objective) for objective in objectives
    ):
        raise TypeError(
            f"The {parameter} parameter must be a list of objectives of mmfusion.objectives "
            f"(Similarity(), Correlation(), ...) or None. Got {objectives!r}."
        )
    for objective in objectives:
        objective.check(pretraining=pretraining)
    return tuple(objectives)


def pairs(n_modalities: int) -> Iterator[tuple[int, int]]:
    """Yield each unordered pair of modalities."""
    return combinations(range(n_modalities), 2)


def zero(embeddings: Sequence[Tensor]) -> Tensor:
    """Return a zero on the graph, whatever the embeddings hold."""
    total = embeddings[0][:0].sum()
    for embedding in embeddings[1:]:
        total = total + embedding[:0].sum()
    return total


def scatter(values: Tensor, present: Tensor) -> Tensor:
    """Return the values of the rows that are present, (k, width), among all rows, else zeros."""
    everyone = values.new_zeros(len(present), *values.shape[1:])
    everyone[torch.nonzero(present)[:, 0]] = values
    return everyone
