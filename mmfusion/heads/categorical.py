"""Classes: the categorical (for two classes the Bernoulli) likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import expit, log_softmax, softmax
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from torch import Tensor
from torch.nn import functional

from mmfusion.heads.base import Head, Monitor, Target
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


class CategoricalHead(Head):
    """Logistic regression's likelihood on the network's predictors.

    Two classes have one predictor, the log-odds of the second; K > 2 classes have K logits.
    The loss is the weighted mean of ``-log p(y)``.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Sorted.
    """

    ratio = "odds ratio"

    @property
    def contrasts(self) -> tuple[tuple[str, ...], np.ndarray]:
        """As many logits as classes are one too many: the first class is the reference."""
        if len(self.predictors) == 1:
            return super().contrasts
        names = tuple(str(label) for label in self.classes_[1:])
        return names, np.eye(len(self.predictors))[:, 1:]

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
        self._name_predictors()
        return self.encode(y, sample_weight, index)

    def _name_predictors(self) -> None:
        names = tuple(f"logit[{label}]" for label in self.classes_)
        self.predictors = names[1:] if len(names) == 2 else names

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

    def initial(self, target: CategoricalTarget) -> Tensor:  # type: ignore[override]
        shares = torch.zeros(len(self.classes_), dtype=torch.float64)
        shares.index_add_(0, target.code, target.weight)
        logs = torch.log(shares.clamp_min(1e-8) / shares.sum())
        return logs[1:] - logs[:1] if len(logs) == 2 else logs - logs.mean()

    def loss(self, eta: Tensor, target: CategoricalTarget) -> Tensor:  # type: ignore[override]
        eta = eta.double()
        if eta.shape[1] == 1:
            each = functional.binary_cross_entropy_with_logits(
                eta[:, 0], target.code.double(), reduction="none"
            )
        else:
            each = functional.cross_entropy(eta, target.code, reduction="none")
        return (each * target.weight).sum() / target.weight.sum().clamp_min(1e-300)

    def stratify(self, target: CategoricalTarget) -> np.ndarray:  # type: ignore[override]
        return target.code.cpu().numpy()

    def monitor(self, eta: Tensor, target: CategoricalTarget) -> Monitor:  # type: ignore[override]
        guess = (eta[:, 0] > 0).long() if eta.shape[1] == 1 else eta.argmax(1)
        hit = (guess == target.code).double() * target.weight
        return Monitor("accuracy", float(hit.sum() / target.weight.sum()), True)

    def probabilities(self, eta: np.ndarray) -> np.ndarray:
        """Return class probabilities, shape (n, n_classes)."""
        if eta.shape[1] == 1:
            positive = expit(eta[:, 0])
            return np.column_stack([1 - positive, positive])
        return softmax(eta, axis=1)

    def pool(self, etas: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the logits of the weighted mean probability of the members."""
        return _logits(self._mean_probability(etas, weights))

    def vote(self, etas: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Return the logits of the shares of the members that hold each class most probable.

        Their mean probability counts as one member more: it decides where votes are equal.
        """
        mean = self._mean_probability(etas, present)
        best = self._members(etas).argmax(axis=2)
        votes = (best[:, :, None] == np.arange(mean.shape[1])) & present[:, :, None]
        return _logits((votes.sum(1) + mean) / (present.sum(1)[:, None] + 1))

    def _members(self, etas: np.ndarray) -> np.ndarray:
        return np.stack([self.probabilities(member) for member in np.moveaxis(etas, 1, 0)], 1)

    def _mean_probability(self, etas: np.ndarray, weights: np.ndarray) -> np.ndarray:
        shares = weights[:, :, None] / weights.sum(1)[:, None, None]
        return np.where(shares > 0, self._members(etas) * shares, 0.0).sum(1)

    def state(self) -> dict[str, np.ndarray]:
        return {"classes": self.classes_}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        self.classes_ = state["classes"]
        self._name_predictors()


def _logits(probabilities: np.ndarray) -> np.ndarray:
    logs = np.log(probabilities.clip(min=1e-300))
    return logs[:, 1:] - logs[:, :1] if logs.shape[1] == 2 else log_softmax(logs, axis=1)
