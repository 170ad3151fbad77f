"""What a head promises: the outcome's likelihood and what its predictors mean."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from mmfusion.heads.grid import Basis, Grid

__all__ = ["Head", "Monitor", "Target"]

#: Rows, or events, that a coefficient of late fusion is learned from at least.
ENOUGH = 5


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

    #: Fields that follow from others.
    derived: ClassVar[tuple[str, ...]] = ()

    def __len__(self) -> int:
        return len(self.weight)

    def _map(self, change: Any) -> Self:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: change(v) for k, v in values.items() if isinstance(v, Tensor)})

    @property
    def shares(self) -> Tensor:
        """What each row counts in a mean over the weights, shape (n,); zeros where all are 0."""
        return self.weight / self.weight.sum().clamp_min(1e-300)

    def mean(self, each: Tensor) -> Tensor:
        """Return the weighted mean over the rows of a number each."""
        return (each * self.weight).sum() / self.weight.sum().clamp_min(1e-300)

    def take(self, rows: Tensor | slice) -> Self:
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


T = TypeVar("T", bound=Target)


class Head(ABC, Generic[T]):
    """A likelihood: predictors eta of shape (n, K) -> loss, derivatives, predictions.

    ``__init__`` takes the settings of the likelihood; `encode` turns an outcome into tensors;
    `finish` learns what only the fitted predictors can tell (baseline hazards, a residual scale).
    Losses are means over events (survival) or over case weights, computed in float64 whatever the
    network's precision, and stay on the graph in every case. Generic in the outcome T.
    """

    #: Whether a row's loss depends on the predictors of other rows (a Cox model's risk sets).
    interacts: bool = False
    #: Whether features of the modalities can have a linear part: the coefficients of a design have
    #: an information, and one says the same of all intervals of time.
    has_linear: bool = True
    #: Whether a row's Hessian is diag(w p) - w p p' with its weight w and `chances` p of classes.
    multinomial: bool = False
    #: Whether the outcome has a residual variance, estimated beside the predictors.
    has_dispersion: bool = False
    #: Whether there are `expected` second derivatives.
    knows_expected: bool = False
    #: What exp(coefficient) is ("hazard ratio", "odds ratio"); None where it means nothing.
    ratio: str | None = None
    #: The scale of coefficients, where a reader would take them for something else.
    scale_note: str | None = None
    #: Whether the laws that late fusion averages are logarithms; see `law`.
    law_is_log: bool = False
    #: Whether the curves of several such models of the same rows can be averaged.
    mixes_curves: bool = False
    #: How a treatment that the networks' inputs confound enters the mean ("linear", "logistic").
    partial: Literal["linear", "logistic"] | None = None
    #: What two arms of a study are compared by: curves, the risk of the second class, a mean.
    marginal: Literal["survival", "risk", "mean"] | None = None

    @property
    @abstractmethod
    def grid(self) -> Grid:
        """The K predictors: their names, and the coordinates that a term in time may read.

        Known after `fit_outcome`, as all that follows from it.
        """

    @property
    @abstractmethod
    def parameters(self) -> Basis:
        """What a column of a formula has its coefficients for, and which predictors these move."""

    @property
    @abstractmethod
    def constants(self) -> Basis:
        """What a formula's constant has its coefficients for; none where it says nothing."""

    @property
    def linear_basis(self) -> Basis:
        """What a feature of a modality has its coefficients for, in the linear part."""
        return self.parameters

    @property
    @abstractmethod
    def deep_basis(self) -> Basis:
        """What each output of a network moves: the predictors are offset plus outputs times it."""

    @property
    def deep_reads(self) -> Sequence[Sequence[str] | None] | None:
        """What modalities each output reads (None: all), by a trunk of its own; None: one trunk."""
        return None

    @property
    def deep_groups(self) -> tuple[int, ...]:
        """Which predictors share one kept share of the networks: a number each, equal if so."""
        return (0,) * len(self.grid)

    @property
    def dispersion_unit(self) -> float:
        """The dispersion for which `loss` is minus the mean log-likelihood, up to a constant."""
        return 1.0

    @property
    def stack_constants(self) -> Basis:
        """The constants that a regression on members' predictors (a stack) learns beside them."""
        return self.constants

    @property
    def baseline(self) -> str | None:
        """Formula of a function of the grid alone, which stands before a formula without one."""
        return None

    @property
    def shift_invariant(self) -> bool:
        """Whether a number added to all K predictors of a row says nothing (K logits).

        What is compared between rows or members is then read less its mean over the predictors.
        """
        return False

    @abstractmethod
    def fit_outcome(self, y: Any, sample_weight: np.ndarray | None = None, **context: Any) -> T:
        """Check the training outcome, learn what it fixes (classes, strata), return it encoded."""

    @abstractmethod
    def encode(self, y: Any, sample_weight: np.ndarray | None = None, **context: Any) -> T:
        """Return a further outcome (validation rows) encoded as the training outcome was."""

    def initial(self, target: T) -> Tensor:
        """Return where the predictors start, shape (K,): the constant model, if in closed form."""
        return torch.zeros(len(self.grid), dtype=torch.float64)

    @abstractmethod
    def loss(self, eta: Tensor, target: T) -> Tensor:
        """Return the mean negative log-likelihood, a float64 scalar on the graph of `eta`."""

    def gradient(self, eta: Tensor, target: T) -> Tensor:
        """Return d loss / d eta, shape (n, K), float64: by autograd unless a head knows better."""
        eta = eta.detach().double().requires_grad_()
        (gradient,) = torch.autograd.grad(self.loss(eta, target), eta)
        return gradient

    def evaluate(self, eta: Tensor, target: T) -> tuple[Tensor, Tensor]:
        """Return `loss` and `gradient`, from one pass where a head can."""
        with torch.no_grad():
            loss = self.loss(eta, target)
        return loss, self.gradient(eta, target)

    def separable(self, target: T) -> Any:
        """Return the likelihood of predictors ``a_i + b_k`` in the numbers a (n,) and b (K,).

        Its ``value(a, b)``, ``derivatives(a, b)`` (both gradients, both curvatures), ``across(a, b,
        columns)`` (curvatures summed over the rows) and ``along(a, b, move)`` (over the predictors)
        are of the sum over the case weights, whose curvatures are those of counts. None, by
        default, where nothing is gained: the predictors of all rows are then written out.
        """
        return None

    def total(self, target: T) -> float:
        """Return what the mean loss is a mean over: the sum of the weights."""
        return float(target.weight.sum())

    def derivatives(self, eta: Tensor, target: T) -> tuple[Tensor, Tensor]:
        """Return the first and second derivatives of the mean loss in the predictors of each row.

        By autograd, a pass a predictor; heads with a closed form override it. It is the contract of
        heads whose rows do not interact: of others a row alone has no second derivatives.

        Parameters
        ----------
        eta : Tensor, shape (n, K)
        target : Target

        Returns
        -------
        gradient : Tensor of float64, shape (n, K)
        curvature : Tensor of float64, shape (n, K) where it is diagonal, else (n, K, K)

        Raises
        ------
        TypeError
            Of a head whose rows interact.
        """
        if self.interacts:
            raise TypeError(
                f"{type(self).__name__} has no second derivatives of single rows, which interact: "
                "ask for its information about the coefficients of a design."
            )
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

    def curvature(self, eta: Tensor, target: T) -> Tensor:
        """Return the second derivatives of the mean loss in each row's own predictors.

        Where rows interact, those of a likelihood that is alike near the fit and whose rows do not.

        Returns
        -------
        Tensor of float64, shape (n, K) or (n, K, K)
        """
        return self.derivatives(eta, target)[1]

    def expected(self, eta: Tensor, target: T) -> Tensor | None:
        """Return the expected second derivatives, (n, K, K), of a head that knows them.

        They take the place of the observed ones where these are not positive definite (Fisher's
        scoring); None leaves that to the sizes of the observed ones' eigenvalues.
        """
        return None

    def information(self, eta: Tensor, target: T, design: Tensor) -> Tensor:
        """Return the information of the mean loss about the coefficients of ``eta = design beta``.

        Of one predictor, where rows interact; where they do not, it follows from `derivatives`.

        Parameters
        ----------
        eta : Tensor, shape (n, 1)
        target : Target
        design : Tensor of float64, shape (n, p)

        Returns
        -------
        Tensor of float64, shape (p, p)
        """
        return design.T @ (self.derivatives(eta, target)[1] * design)

    def informations(
        self, eta: Tensor, target: T, design: Tensor, code: Tensor, n_groups: int
    ) -> Tensor:
        """Return the share of `information` of each group of rows, where rows interact.

        Parameters
        ----------
        eta, target, design
            As of `information`.
        code : Tensor of int, shape (n,)
            The group of each row, from 0.
        n_groups : int

        Returns
        -------
        Tensor of float64, shape (n_groups, p, p)
        """
        raise TypeError(f"{type(self).__name__} does not share its information out to rows.")

    def chances(self, eta: Tensor) -> Tensor:
        """Return the probabilities of the classes, (n, K), of a `multinomial` head."""
        raise NotImplementedError

    def scores(self, eta: Tensor, target: T, design: Tensor) -> Tensor:
        """Return each row's share of the mean loss's gradient in the coefficients, shape (n, p).

        `design` as for `information`.
        """
        return self.gradient(eta, target) * design

    def relevance(self, eta: Tensor, target: T, values: Tensor) -> Tensor:
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
        k = eta.shape[1]
        gradient = self.gradient(eta, target) if k > 1 else None
        parts = []
        for piece in values.double().split(256, dim=1):
            centred = piece - piece.mean(0)
            total = torch.zeros(piece.shape[1], dtype=torch.float64)
            for number in range(k):
                if gradient is None:
                    scores = self.scores(eta, target, centred)
                else:
                    scores = gradient[:, number, None] * centred
                total += scores.sum(0).square() / scores.square().sum(0).clamp_min(1e-300)
            parts.append(total)
        return torch.cat(parts)

    def stratify(self, target: T) -> np.ndarray:
        """Return an integer label a row, by which batches and validation parts are balanced."""
        return np.zeros(len(target), dtype=np.int64)

    def groups(self, target: T) -> np.ndarray:
        """Return the group of the outcome of each row, for supervised contrast; -1 for none."""
        return self.stratify(target)

    def batches(self, target: T, rows: Sequence[Tensor]) -> Iterator[tuple[Tensor, T]]:
        """Yield each batch's rows and outcome; a head may order the rows of a batch as it likes."""
        for chosen in rows:
            yield chosen, target.take(chosen)

    def monitor(self, eta: Tensor, target: T) -> Monitor | None:
        """Return the score shown beside the validation loss (a C-index, an accuracy), if any."""
        return None

    def informative(self, target: T) -> bool:
        """Return whether the outcome says anything: a survival outcome without events does not."""
        return len(target) > 0

    def enough(self, target: T, n_coefficients: int) -> bool:
        """Return whether an outcome says enough to learn so many coefficients from it."""
        return self.informative(target) and self.total(target) >= ENOUGH * n_coefficients

    def events(self, target: T) -> Tensor | None:
        """Return which rows have an event that the likelihood sees, shape (n,); None without."""
        return None

    def n_events(self, target: T) -> int | None:
        """Return how many rows of a weight above 0 have an event, None of other outcomes."""
        return None

    def median_follow_up(self, target: T) -> float | None:
        """Return the median follow-up of rows that are subjects, None of other outcomes."""
        return None

    def episodes(self, target: T) -> float:
        """Return the share of rows that look like further episodes of a subject (start-stop)."""
        return 0.0

    def check_subjects(self, target: T, owner: np.ndarray, index: Any) -> None:
        """Raise ValueError if the rows of a subject cannot be its rows; nothing by default.

        `owner` is the subject of each row, shape (n,), and `index` has labels for messages.
        """

    def has_entry(self, target: T) -> bool:
        """Return whether some row is observed only from a time after 0."""
        return False

    def required(self, target: T) -> dict[str, np.ndarray]:
        """Return rows of which a fold must train on one, by name: of each class, cause, of events.

        Each is an ndarray of bool, shape (n,).
        """
        events = self.events(target)
        if events is None:
            return {}
        return {"event": (events & (target.weight > 0)).cpu().numpy()}

    def relearn(self, target: T) -> Self:
        """Return this head for some of the rows it was fitted to, whose outcome is `target`.

        What belongs to these rows is learned from them (location and spread of numbers). Classes,
        cuts, causes and strata stay, so that predictors mean the same as those of all rows.
        """
        return copy.copy(self)

    def law(self, eta: np.ndarray) -> np.ndarray:
        """Return what late fusion averages over its members, shape (..., L).

        The predictors, unless a head averages something else: log-probabilities of classes,
        log-masses of a discrete time. Where `law_is_log`, the average is that of the exponentials.

        Parameters
        ----------
        eta : ndarray, shape (..., K)
        """
        return eta

    def from_law(self, law: np.ndarray) -> np.ndarray:
        """Return predictors, shape (..., K), that have this law: `law` inverted."""
        return law

    def partial_rows(self, target: T) -> np.ndarray:
        """Return which rows say what a confounded treatment is expected to be, bool, (n,)."""
        return np.ones(len(target), dtype=bool)

    def response(self, target: T) -> np.ndarray:
        """Return the outcome as numbers, shape (n,), of which `expectation` is the mean."""
        raise TypeError(f"The outcome of {type(self).__name__} is no number.")

    def expectation(self, eta: np.ndarray) -> np.ndarray:
        """Return the mean of the outcome as numbers, shape (n,)."""
        raise TypeError(f"The outcome of {type(self).__name__} is no number.")

    @property
    def finishes(self) -> bool:
        """Whether `finish` learns something."""
        return type(self).finish is not Head.finish

    def finish(self, eta: Tensor, target: T) -> None:
        """Learn what only the fitted predictors of the training rows tell; nothing by default."""

    def widening(self, eta: Tensor, target: T) -> Tensor:
        """Return what predictors of rows that were not fitted lack, (K,), to spread as outcomes."""
        return torch.zeros(len(self.grid), dtype=torch.float64)

    def state(self) -> dict[str, np.ndarray]:
        """Return everything learned, as arrays: what saving writes and `load_state` reads."""
        return {}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Take back what `state` returned."""
