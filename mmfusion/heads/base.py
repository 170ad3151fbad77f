"""What a head promises: the outcome's likelihood and what its predictors mean."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from mmfusion.heads.grid import Basis, Grid

__all__ = ["Head", "Monitor", "Target"]


@dataclass
class Target:
    """The outcome of some rows as tensors, all of the same first dimension.

    Subclasses add fields. A field that is a Tensor is cut by `take` and moved by `to`.

    Attributes
    ----------
    weight : Tensor of float64, shape (n,)
        Case weights; ones where the user gave none.
    """

    weight: Tensor

    def __len__(self) -> int:
        return len(self.weight)

    def _map(self, change: Any) -> Self:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: change(v) for k, v in values.items() if isinstance(v, Tensor)})

    def take(self, rows: Tensor) -> Self:
        """Return the outcome of `rows`, in their order."""
        return self._map(lambda value: value[rows])

    def to(self, device: torch.device) -> Self:
        """Return the same outcome on `device`; itself, with what it has worked out, if there."""
        if self.weight.device == device:
            return self
        return self._map(lambda value: value.to(device))


@dataclass(frozen=True)
class Monitor:
    """One validation score: its name, its value, whether more is better."""

    name: str
    value: float
    higher_is_better: bool


class Head(ABC):
    """A likelihood: predictors eta of shape (n, K) -> loss, gradient, predictions.

    ``__init__`` takes the settings of the likelihood; `encode` turns an outcome into tensors;
    `finish` learns what only the fitted predictors can tell (baseline hazards, a residual scale).
    Losses are means over events (survival) or over case weights, computed in float64 whatever the
    network's precision, and stay on the graph in every case.
    """

    #: Names of the predictors, known after `fit_outcome`.
    predictors: tuple[str, ...]
    #: Whether a row's loss depends on the predictors of other rows (a Cox model's risk sets).
    interacts: bool = False
    #: Whether the likelihood knows a constant: a Cox model's is part of its baseline.
    has_intercept: bool = True
    #: Whether the outcome has a residual variance, estimated beside the predictors.
    has_scale: bool = False
    #: What exp(coefficient) is ("hazard ratio", "odds ratio"); None where it means nothing.
    ratio: str | None = None

    @property
    def units(self) -> tuple[float, float]:
        """Center and spread of the outcome: a predictor is (its value in y's units - c) / s."""
        return 0.0, 1.0

    @property
    def grid(self) -> Grid:
        """The K predictors: their names, and the coordinates that a term in time may read."""
        return Grid(self.predictors)

    @property
    def parameters(self) -> Basis:
        """What a column of a formula has its coefficients for, and which predictors these move."""
        return Basis(*self.contrasts)

    @property
    def constants(self) -> Basis:
        """What a formula's constant has its coefficients for; none where it says nothing."""
        if self.baseline:
            return Basis(self.baseline, np.eye(len(self.predictors)))
        return self.parameters if self.has_intercept else self.parameters.take(())

    @property
    def deep_basis(self) -> Basis:
        """What each output of a network moves: the predictors are offset plus outputs times it."""
        return Basis(self.predictors, np.eye(len(self.predictors)))

    @property
    def contrasts(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Names of F free predictors, and the matrix (K, F) that makes the K predictors of them.

        The coefficients of a formula are those of the free ones; they are all free by default.
        """
        return self.predictors, np.eye(len(self.predictors))

    @property
    def baseline(self) -> tuple[str, ...]:
        """Names of a formula's constants where each predictor has one beside shared effects."""
        return ()

    @abstractmethod
    def fit_outcome(
        self, y: Any, sample_weight: np.ndarray | None = None, **context: Any
    ) -> Target:
        """Check the training outcome, learn what it fixes (classes, strata), return it encoded."""

    @abstractmethod
    def encode(self, y: Any, sample_weight: np.ndarray | None = None, **context: Any) -> Target:
        """Return a further outcome (validation rows) encoded as the training outcome was."""

    def initial(self, target: Target) -> Tensor:
        """Return where the predictors start, shape (K,): the constant model, if in closed form."""
        return torch.zeros(len(self.predictors), dtype=torch.float64)

    @abstractmethod
    def loss(self, eta: Tensor, target: Target) -> Tensor:
        """Return the mean negative log-likelihood, a float64 scalar on the graph of `eta`."""

    def gradient(self, eta: Tensor, target: Target) -> Tensor:
        """Return d loss / d eta, shape (n, K), float64: by autograd unless a head knows better."""
        eta = eta.detach().double().requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss(eta, target), eta)
        return gradient

    def total(self, target: Target) -> float:
        """Return what the mean loss is a mean over: the sum of the weights."""
        return float(target.weight.sum())

    def information(self, eta: Tensor, target: Target, design: Tensor) -> Tensor:
        """Return the information of the mean loss about the coefficients of ``eta = design beta``.

        By autograd, a pass a predictor, for heads whose rows do not interact; others override it.

        Parameters
        ----------
        eta : Tensor, shape (n, K)
        design : Tensor of float64, shape (n, p) for one predictor, or (n, K, p)

        Returns
        -------
        Tensor of float64, shape (p, p)
        """
        eta = eta.detach().double().requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss(eta, target), eta, create_graph=True)
        curvature = torch.stack(
            [
                torch.autograd.grad(column.sum(), eta, retain_graph=True)[0]
                for column in gradient.unbind(1)
            ],
            dim=1,
        )  # (n, K, K)
        if design.ndim == 2:
            return design.T @ (curvature[:, 0] * design)
        weighted = curvature @ design
        return design.flatten(0, 1).T @ weighted.flatten(0, 1)

    def scores(self, eta: Tensor, target: Target, design: Tensor) -> Tensor:
        """Return each row's share of the mean loss's gradient in the coefficients, shape (n, p).

        For heads whose rows do not interact; others override it. `design` as for `information`.
        """
        gradient = self.gradient(eta, target)
        if design.ndim == 2:
            return gradient[:, :1] * design
        return torch.einsum("nk,nkp->np", gradient, design)

    def derivatives(self, eta: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """Return the first and second derivatives of the mean loss in the predictors of each row.

        By autograd, a pass a predictor; heads with a closed form override it. Heads whose rows
        interact have no second derivatives of one row: they override `information` and `scores`.

        Parameters
        ----------
        eta : Tensor, shape (n, K)
        target : Target

        Returns
        -------
        gradient : Tensor of float64, shape (n, K)
        curvature : Tensor of float64, shape (n, K) where it is diagonal, else (n, K, K)
        """
        eta = eta.detach().double().requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss(eta, target), eta, create_graph=True)
        curvature = torch.stack(
            [
                torch.autograd.grad(column.sum(), eta, retain_graph=True)[0]
                for column in gradient.unbind(1)
            ],
            dim=1,
        )
        if curvature.shape[1] == 1:
            curvature = curvature[:, 0]
        return gradient.detach(), curvature.detach()

    def relevance(self, eta: Tensor, target: Target, values: Tensor) -> Tensor:
        """Return how much each column of `values` by itself says of the outcome beside `eta`.

        The score test's statistic with the empirical variance of the rows' scores,
        ``sum_k (sum_i s_ik)^2 / sum_i s_ik^2`` over the K predictors (Rao 1948; White 1982 for the
        variance): about the square of a z value where K is 1, without a fit a column.

        Parameters
        ----------
        eta : Tensor, shape (n, K)
            Predictors without the columns.
        target : Target
        values : Tensor, shape (n, p)

        Returns
        -------
        Tensor of float64, shape (p,)
            0 for a constant column.
        """
        parts = []
        for piece in values.double().split(256, dim=1):
            centred = piece - piece.mean(0)
            total = torch.zeros(piece.shape[1], dtype=torch.float64)
            for k in range(eta.shape[1]):
                design = centred
                if eta.shape[1] > 1:
                    design = centred.new_zeros(len(eta), eta.shape[1], piece.shape[1])
                    design[:, k] = centred
                scores = self.scores(eta, target, design)
                total += scores.sum(0).square() / scores.square().sum(0).clamp_min(1e-300)
            parts.append(total)
        return torch.cat(parts)

    def stratify(self, target: Target) -> np.ndarray:
        """Return an integer label a row, by which batches and validation parts are balanced."""
        return np.zeros(len(target), dtype=np.int64)

    def groups(self, target: Target) -> np.ndarray:
        """Return the group of the outcome of each row, for supervised contrast; -1 for none."""
        return self.stratify(target)

    def batches(self, target: Target, rows: Sequence[Tensor]) -> Iterator[tuple[Tensor, Target]]:
        """Yield each batch's rows and outcome; a head may order the rows of a batch as it likes."""
        for chosen in rows:
            yield chosen, target.take(chosen)

    def monitor(self, eta: Tensor, target: Target) -> Monitor | None:
        """Return the score shown beside the validation loss (a C-index, an accuracy), if any."""
        return None

    def informative(self, target: Target) -> bool:
        """Return whether the outcome says anything: a survival outcome without events does not."""
        return len(target) > 0

    def pool(self, etas: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the weighted mean of late fusion's members, shape (n, K).

        Of their predictors, unless a head combines something else (a classifier probabilities).

        Parameters
        ----------
        etas : ndarray, shape (n, n_members, K)
            NaN where the member's modality is absent.
        weights : ndarray, shape (n, n_members)
            Not negative, 0 where absent, some above 0 in each row; they need not sum to 1.
        """
        shown = np.where(weights[:, :, None] > 0, etas, 0.0)
        shares = weights / weights.sum(1, keepdims=True)
        return (shares[:, :, None] * shown).sum(1)

    def vote(self, etas: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Return what most members of late fusion say, shape (n, K): their median.

        Parameters
        ----------
        etas, present
            As for `pool`; each row has a member.
        """
        return np.nanmedian(np.where(present[:, :, None], etas, np.nan), axis=1)

    def finish(self, eta: Tensor, target: Target) -> None:
        """Learn what only the fitted predictors of the training rows tell; nothing by default."""

    def state(self) -> dict[str, np.ndarray]:
        """Return everything learned, as arrays: what saving writes and `load_state` reads."""
        return {}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take back what `state` returned."""
