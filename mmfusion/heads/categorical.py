"""Classes: the categorical (for two classes the Bernoulli) likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from torch import Tensor
from torch.nn import functional

from mmfusion.heads.base import Head, Monitor, Target
from mmfusion.heads.grid import Basis, Grid
from mmfusion.heads.missing import refuse_missing
from mmfusion.heads.weights import check_weights

__all__ = ["CategoricalHead", "CategoricalTarget"]


@dataclass
class CategoricalTarget(Target):
    """Class codes of some rows.

    Attributes
    ----------
    code : Tensor of int64, shape (n,)
        Position in the sorted classes.
    """

    code: Tensor


class CategoricalHead(Head[CategoricalTarget]):
    """Logistic regression's likelihood on the network's predictors.

    Two classes have one predictor, the log-odds of the second; K > 2 classes have K logits.
    The loss is the weighted mean of ``-log p(y)``.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Sorted.
    """

    law_is_log = True

    @property
    def ratio(self) -> str:  # type: ignore[override]
        """Of more than two classes: of a class's probability relative to that of the first."""
        return "odds ratio" if self._binary else "relative risk ratio"

    @property
    def _binary(self) -> bool:
        return len(self.classes_) == 2

    @property
    def grid(self) -> Grid:
        """A logit a class; of two classes that of the second alone."""
        names = tuple(f"logit[{label}]" for label in self.classes_)
        return Grid(names[1:] if self._binary else names)

    @property
    def parameters(self) -> Basis:
        """As many logits as classes are one too many: the first class is the reference."""
        if self._binary:
            return Basis.identity(self.grid.names)
        names = tuple(str(label) for label in self.classes_)
        return Basis.identity(names).take(range(1, len(names)))

    @property
    def constants(self) -> Basis:
        """The logits of a row whose columns are all 0, against the reference."""
        return self.parameters

    @property
    def deep_basis(self) -> Basis:
        """An output of a network a logit: regularised, it needs no reference."""
        return Basis.identity(self.grid.names)

    @property
    def shift_invariant(self) -> bool:
        return not self._binary

    def fit_outcome(
        self, y: Any, sample_weight: np.ndarray | None = None, index: Any = None, **context: Any
    ) -> CategoricalTarget:
        """Learn the classes of `y` and return it encoded.

        Parameters
        ----------
        y : array-like, shape (n,)
        sample_weight : array-like, shape (n,), optional
        index : sequence, optional
            Labels of the rows for error messages.

        Raises
        ------
        ValueError
            If `y` is missing in some rows, not made of classes, or of one class only.
        """
        refuse_missing(y, index)
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        self.classes_ = np.unique(y)
        if len(self.classes_) < 2:
            raise ValueError(
                "FusionClassifier needs at least 2 classes in y; got 1 class: "
                f"{self.classes_.tolist()}."
            )
        return self.encode(y, sample_weight, index)

    def encode(
        self, y: Any, sample_weight: np.ndarray | None = None, index: Any = None, **context: Any
    ) -> CategoricalTarget:
        """Return `y` encoded by the classes of the training outcome.

        Raises
        ------
        ValueError
            If `y` is missing in some rows, or holds a class that was not seen in training.
        """
        refuse_missing(y, index)
        y = column_or_1d(y)
        code = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        unseen = self.classes_[code] != y
        if unseen.any():
            raise ValueError(
                f"y holds classes not seen in training: {np.unique(y[unseen]).tolist()}; "
                f"known are {self.classes_.tolist()}."
            )
        return CategoricalTarget(
            check_weights(sample_weight, len(y)), torch.from_numpy(code.astype(np.int64))
        )

    def initial(self, target: CategoricalTarget) -> Tensor:
        shares = torch.zeros(len(self.classes_), dtype=torch.float64)
        shares.index_add_(0, target.code, target.weight)
        logs = torch.log(shares.clamp_min(1e-8) / shares.sum())
        return logs[1:] - logs[:1] if self._binary else logs - logs.mean()

    def loss(self, eta: Tensor, target: CategoricalTarget) -> Tensor:
        eta = eta.double()
        if eta.shape[1] == 1:
            each = functional.binary_cross_entropy_with_logits(
                eta[:, 0], target.code.double(), reduction="none"
            )
        else:
            each = eta.logsumexp(1) - eta.gather(1, target.code[:, None])[:, 0]
        return target.mean(each)

    def gradient(self, eta: Tensor, target: CategoricalTarget) -> Tensor:
        eta, shares = eta.detach().double(), target.shares[:, None]
        if eta.shape[1] == 1:
            sign = 1.0 - 2.0 * target.code[:, None]
            return shares * sign * torch.sigmoid(sign * eta)
        return self.evaluate(eta, target)[1]

    def evaluate(self, eta: Tensor, target: CategoricalTarget) -> tuple[Tensor, Tensor]:
        if self._binary:
            return super().evaluate(eta, target)
        eta = eta.detach().double()
        highest, excess = _softmax(eta)
        each = highest[:, 0] - eta.gather(1, target.code[:, None])[:, 0]
        excess.scatter_add_(1, target.code[:, None], excess.new_full((len(eta), 1), -1.0))
        return target.mean(each), excess.mul_(target.shares[:, None])

    @property
    def multinomial(self) -> bool:  # type: ignore[override]
        return not self._binary

    def chances(self, eta: Tensor) -> Tensor:
        """Return the probabilities of the classes, of more than two, shape (n, K)."""
        return _softmax(eta.detach().double())[1]

    def derivatives(self, eta: Tensor, target: CategoricalTarget) -> tuple[Tensor, Tensor]:
        gradient, shares = self.gradient(eta, target), target.shares[:, None]
        eta = eta.detach().double()
        if eta.shape[1] == 1:
            return gradient, shares * torch.sigmoid(eta) * torch.sigmoid(-eta)
        chance = self.chances(eta)
        curvature = (-shares * chance)[:, :, None] * chance[:, None]
        curvature.diagonal(dim1=1, dim2=2).add_(shares * chance)
        return gradient, curvature

    def required(self, target: CategoricalTarget) -> dict[str, np.ndarray]:
        code = target.code.cpu().numpy()
        return {f"class {name!r}": code == k for k, name in enumerate(self.classes_.tolist())}

    def enough(self, target: CategoricalTarget, n_coefficients: int) -> bool:
        # A class that no row has would have a constant without bound.
        every = len(target.code.unique()) == len(self.classes_)
        return every and super().enough(target, n_coefficients)

    def stratify(self, target: CategoricalTarget) -> np.ndarray:
        return target.code.cpu().numpy()

    def monitor(self, eta: Tensor, target: CategoricalTarget) -> Monitor:
        guess = (eta[:, 0] > 0).long() if eta.shape[1] == 1 else eta.argmax(1)
        hit = (guess == target.code).double() * target.weight
        return Monitor("accuracy", float(hit.sum() / target.weight.sum()), True)

    def probabilities(self, eta: np.ndarray) -> np.ndarray:
        """Return class probabilities, shape (n, n_classes)."""
        if eta.shape[1] == 1:
            positive = expit(eta[:, 0])
            return np.column_stack([1 - positive, positive])
        return softmax(eta, axis=1)

    def law(self, eta: np.ndarray) -> np.ndarray:
        """Return the log-probabilities of the classes, shape (..., n_classes)."""
        if self._binary:
            return np.concatenate([log_expit(-eta), log_expit(eta)], axis=-1)
        return log_softmax(eta, axis=-1)

    def from_law(self, law: np.ndarray) -> np.ndarray:
        """Return the log-odds; of K classes logits whose probabilities sum to 1."""
        return law[..., 1:] - law[..., :1] if self._binary else log_softmax(law, axis=-1)

    @property
    def partial(self) -> Literal["logistic"] | None:  # type: ignore[override]
        return "logistic" if self._binary else None

    @property
    def marginal(self) -> Literal["risk"] | None:  # type: ignore[override]
        return "risk" if self._binary else None

    def partial_rows(self, target: CategoricalTarget) -> np.ndarray:
        """Return the rows of the first class: the treatment is learned from them."""
        return target.code.cpu().numpy() == 0

    def response(self, target: CategoricalTarget) -> np.ndarray:
        return target.code.cpu().numpy()

    def expectation(self, eta: np.ndarray) -> np.ndarray:
        """Return the probability of the second of two classes, shape (n,)."""
        return self.probabilities(eta)[:, 1]

    def state(self) -> dict[str, np.ndarray]:
        return {"classes": self.classes_}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.classes_ = state["classes"]


def _softmax(eta: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log of the sum of exp(eta), shape (n, 1), and the classes' chances, (n, K).

    In steps of its own, on the CPU: of few classes torch's softmax takes several times as long,
    and its exp twice as long as NumPy's.
    """
    high = eta.amax(1, keepdim=True)
    chance = eta - high
    np.exp(chance.numpy(), out=chance.numpy())
    total = chance.sum(1, keepdim=True)
    return high + total.log(), chance.div_(total)
