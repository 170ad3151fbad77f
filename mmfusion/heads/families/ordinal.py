"""Ordered levels: the cumulative logit model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from mmfusion.heads.families.base import Link
from mmfusion.heads.families.labels import Labelled, names_of, outcome_column, shown
from mmfusion.heads.families.special import log_minus_expm1
from mmfusion.heads.grid import Basis

__all__ = ["Ordinal"]


class Ordinal(Labelled):
    """Ordered levels: ``logit P(y <= level k) = threshold_k - loc`` (McCullagh 1980).

    A formula is of `loc`, a higher one for higher levels; it has no constant, which the thresholds
    hold. The outcome is an ordered categorical, whose levels are 0, 1, ... here, or numbers.

    Attributes
    ----------
    levels : ndarray of float64, shape (n_levels,)
    """

    discrete = True
    units = None
    ratio = "odds ratio"

    def __init__(self, levels: Any = (0.0, 1.0), labels: Any = None) -> None:
        self.levels = np.asarray(levels, dtype=np.float64)
        self.labels = self.levels if labels is None else np.asarray(labels)
        self.named = self.labels.dtype.kind == "U"
        self.support = (float(self.levels[0]), float(self.levels[-1]))

    @property
    def parameters(self) -> Mapping[str, Link]:  # type: ignore[override]
        return {f"threshold_{k}": "identity" for k in range(1, len(self.levels))}

    def learn(self, y: Any) -> Self:
        column = outcome_column(y)
        if column is None:
            return self
        ordered = isinstance(column.dtype, pd.CategoricalDtype) and column.cat.ordered
        names = names_of(column)
        if names is not None and not ordered:
            raise ValueError(
                "The outcome y of family='ordinal' must be numbers, or a categorical that says the "
                f"order of its levels. Got text: {shown(names)}. Write pandas.Categorical(y, "
                f"categories={shown(names)}, ordered=True), with these from low to high."
            )
        if ordered:
            labels = column.cat.categories.astype(str).to_numpy(dtype=str)
            levels = np.arange(len(labels), dtype=np.float64)
        else:
            labels, levels = None, np.unique(column.to_numpy(dtype=np.float64))
        if len(levels) < 2:
            found = levels if labels is None else labels
            raise ValueError(
                f"The outcome y of family='ordinal' must have 2 levels or more. Got {shown(found)}."
            )
        return type(self)(levels, labels)

    def allowed(self, y: np.ndarray) -> np.ndarray:
        return np.isin(y, self.levels)

    def says(self) -> str:
        return f"the levels {shown(self.labels)}"

    def _codes(self, y: Tensor) -> Tensor:
        return torch.searchsorted(torch.from_numpy(self.levels), y.contiguous(), right=True) - 1

    def _at(self, y: Tensor, theta: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the codes of y and the thresholds of their upper and lower ends."""
        codes, *each = torch.broadcast_tensors(self._codes(y), *theta)
        every = torch.stack(each, dim=-1)
        top = len(self.levels) - 1
        upper = every.gather(-1, codes.clamp(0, top - 1)[..., None])[..., 0]
        lower = every.gather(-1, (codes - 1).clamp(0, top - 1)[..., None])[..., 0]
        return codes, upper, lower

    def log_prob(self, y: Tensor, *theta: Tensor) -> Tensor:
        codes, upper, lower = self._at(y, theta)
        first, last = codes == 0, codes == len(self.levels) - 1
        gap = torch.where(first | last, 1.0, upper - lower)
        found = torch.where(last, 0.0, logsigmoid(upper))
        found = found + torch.where(first, 0.0, logsigmoid(-lower))
        return found + torch.where(first | last, 0.0, log_minus_expm1(gap))

    def log_cdf(self, y: Tensor, *theta: Tensor) -> Tensor:
        codes, upper, _ = self._at(y, theta)
        return torch.where(codes >= len(self.levels) - 1, 0.0, logsigmoid(upper))

    def log_sf(self, y: Tensor, *theta: Tensor) -> Tensor:
        codes, upper, _ = self._at(y, theta)
        return torch.where(codes >= len(self.levels) - 1, -torch.inf, logsigmoid(-upper))

    def _moment(self, power: int, theta: tuple[Tensor, ...]) -> Tensor:
        levels = torch.from_numpy(self.levels**power)
        steps = zip(theta, levels.diff(), strict=True)
        return levels[0] + sum(step * torch.sigmoid(-t) for t, step in steps)

    def mean(self, *theta: Tensor) -> Tensor:
        return self._moment(1, theta)

    def variance(self, *theta: Tensor) -> Tensor:
        return self._moment(2, theta) - self._moment(1, theta) ** 2

    def quantile(self, p: Tensor, *theta: Tensor) -> Tensor:
        wanted = p.log() - 1e-14
        below = sum((logsigmoid(t) < wanted).long() for t in theta)
        return torch.from_numpy(self.levels)[below]

    def start(self, y: Tensor, weight: Tensor) -> tuple[Any, ...]:
        counts = torch.zeros(len(self.levels), dtype=torch.float64)
        counts.index_add_(0, self._codes(y).clamp_min(0), weight)
        shares = (counts + 0.01 * counts.mean()).cumsum(0)[:-1] / (1.01 * counts.sum())
        return tuple(shares.clamp(1e-6, 1 - 1e-6).logit().tolist())

    def formulas(self, unit: float) -> Basis:
        return Basis(("loc",), -np.ones((len(self.levels) - 1, 1)))

    def constants(self, unit: float) -> Basis:
        return Basis.identity(tuple(self.parameters))

    def state(self) -> dict[str, np.ndarray]:
        return {"levels": self.levels, "labels": self.labels}

    def load_state(self, state: dict[str, np.ndarray]) -> Self:
        return type(self)(state["levels"], state["labels"])
