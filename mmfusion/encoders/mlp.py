"""Encoders of tables: numbers and embedded categories, then dense layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmfusion.encoders.base import Encoder
from mmfusion.encoders.lone import lone_row
from mmfusion.encoders.own import check_module, output_width

__all__ = ["MLPEncoder", "ModuleTableEncoder", "SNNEncoder", "TableEncoder", "embedding_width"]


def embedding_width(cardinality: int) -> int:
    """Return the width of a category's embedding: ``min(50, ceil(1.6 cardinality ** 0.56))``.

    The rule of fastai's tabular models (Howard & Gugger, 2020).

    Examples
    --------
    >>> [embedding_width(c) for c in (2, 10, 1000)]
    [3, 6, 50]
    """
    return min(50, math.ceil(1.6 * cardinality**0.56))


class TableEncoder(Encoder):
    """Numbers beside embedded categories, as they are: the encoder ``"raw"``.

    Parameters
    ----------
    n_numeric : int
        Columns of numbers; may be 0.
    cardinalities : sequence of int
        Number of codes of each category, code 0 ("unknown or missing") included.

    Notes
    -----
    Code 0 starts at the zero vector and is learnt where training rows have it, so that a category
    first met at prediction is neutral.
    """

    def __init__(self, n_numeric: int, cardinalities: Sequence[int]) -> None:
        super().__init__()
        tables = [nn.Embedding(codes, embedding_width(codes)) for codes in cardinalities]
        for table in tables:
            nn.init.normal_(table.weight, std=0.1)
            nn.init.zeros_(table.weight[0])
        self.embeddings = nn.ModuleList(tables)
        self.feature_width = n_numeric + sum(table.embedding_dim for table in tables)
        self.width = self.feature_width

    def features(self, numeric: Tensor, categories: Tensor | None = None) -> Tensor:  # type: ignore[override]
        if categories is None:
            return numeric
        parts = [table(categories[:, i]) for i, table in enumerate(self.embeddings)]
        return torch.cat([numeric, *parts], dim=1)


class _DenseEncoder(TableEncoder):
    """A table through `layers`, which subclasses make."""

    layers: nn.Module

    def project(self, features: Tensor) -> Tensor:
        return self.layers(features)


class MLPEncoder(_DenseEncoder):
    """Dense layers with SiLU and dropout: the encoder ``"mlp"``.

    Parameters
    ----------
    n_numeric, cardinalities
        See `TableEncoder`.
    width : int
        Width of the embedding, the output of the last layer's activation.
    hidden : sequence of int
        Widths of the layers before it.
    dropout : float
        After each layer.
    """

    #: Activation and dropout.
    kinds: tuple[type[nn.Module], type[nn.Module]] = (nn.SiLU, nn.Dropout)

    def __init__(
        self,
        n_numeric: int,
        cardinalities: Sequence[int],
        width: int,
        hidden: Sequence[int] = (),
        dropout: float = 0.0,
    ) -> None:
        super().__init__(n_numeric, cardinalities)
        self.layers = _dense(self.feature_width, [*hidden, width], *self.kinds, dropout)
        self.width = width


class SNNEncoder(MLPEncoder):
    """Self-normalising dense layers: the encoder ``"snn"``.

    SELU with LeCun-normal weights and alpha dropout keeps activations near mean 0 and variance 1
    through the layers (Klambauer, Unterthiner, Mayr & Hochreiter 2017, section 3).

    Parameters
    ----------
    n_numeric, cardinalities, width, hidden, dropout
        See `MLPEncoder`.
    """

    kinds = nn.SELU, nn.AlphaDropout

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for layer in self.layers.children():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
                nn.init.zeros_(layer.bias)


class ModuleTableEncoder(_DenseEncoder):
    """A network of the user's own on the numbers and embedded categories.

    Parameters
    ----------
    n_numeric, cardinalities
        See `TableEncoder`.
    make : callable (n_inputs) -> torch.nn.Module
        The module must return (batch, width) for (batch, n_inputs).

    Raises
    ------
    TypeError
        If `make` returns something else than a Module, or the module something else than a tensor.
    ValueError
        If its output is not of shape (batch, width).
    """

    def __init__(
        self, n_numeric: int, cardinalities: Sequence[int], make: Callable[[int], nn.Module]
    ) -> None:
        super().__init__(n_numeric, cardinalities)
        self.layers = check_module(make(self.feature_width))
        self.width = output_width(self.layers, (self.feature_width,))

    def project(self, features: Tensor) -> Tensor:
        with lone_row(self.layers, features):
            return super().project(features)


def _dense(
    n_inputs: int,
    widths: Sequence[int],
    activation: Callable[[], nn.Module],
    dropout_layer: Callable[[float], nn.Module],
    dropout: float,
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(n_inputs, width), activation()]
        if dropout:
            layers.append(dropout_layer(dropout))
        n_inputs = width
    return nn.Sequential(*layers)
