"""The rows that a network learns from or is judged by, and the subjects whose data it sees."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmfusion.heads.base import Target
from mmfusion.modalities.base import MultimodalData
from mmfusion.training.batches import largest_of_groups

__all__ = ["Batch", "Rows"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows, the subjects that they belong to, and how a network moves their predictors.

    ``eta_i = offset_i + M z_s(i)`` with the deep basis M (K, D), and z_s (D,) what the network puts
    out for the subject s.

    Attributes
    ----------
    subjects : Tensor of int64, shape (n_subjects,)
        Each once.
    target : Target
        Of the n rows.
    offset : Tensor of float64, shape (n, K), or None
    owner : Tensor of int64, shape (n,), or None
        The position in `subjects` of the subject of each row; None where row i is of subject i.
    basis : Tensor of float64, shape (K, D), or None
        The deep basis; None is the identity.
    """

    subjects: Tensor
    target: Target
    offset: Tensor | None
    owner: Tensor | None
    basis: Tensor | None

    def predictors(self, outputs: Tensor) -> Tensor:
        """Return the predictors of the rows, (n, K), of the outputs of the subjects, (s, D).

        float64, or as the outputs where nothing is done to these.
        """
        eta = outputs
        if self.basis is not None:
            eta = eta.double() @ self.basis.T
        if self.owner is not None:
            # float64: threads add a subject's float32 gradients in an order that changes by run.
            eta = eta.double()[self.owner]
        return eta if self.offset is None else eta + self.offset

    def pull(self, gradient: Tensor) -> Tensor:
        """Return the gradient in the outputs, (s, D), of that in the predictors, (n, K)."""
        if self.owner is not None:
            of_subjects = gradient.new_zeros(len(self.subjects), gradient.shape[1])
            gradient = of_subjects.index_put_((self.owner,), gradient, accumulate=True)
        return gradient if self.basis is None else gradient @ self.basis


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows that a network learns from or is judged by; a subject may have several.

    Attributes
    ----------
    data : MultimodalData
        Of the S subjects.
    target : Target
        Of the n rows.
    offset : Tensor of float64, shape (n, K), or None
        What the networks' share of the predictors is added to: a structured predictor.
    owner : Tensor of int64, shape (n,), or None
        The subject of each row, its position in `data`; None where row i is of subject i.

    Raises
    ------
    ValueError
        If lengths differ, or a subject has no row.
    """

    data: MultimodalData
    target: Target
    offset: Tensor | None = None
    owner: Tensor | None = None

    def __post_init__(self) -> None:
        n, n_subjects = len(self.target), len(self.data)
        lengths: dict[str, Sized | None] = {"offset": self.offset, "owner": self.owner}
        if self.owner is None:
            lengths["data"] = self.data
        for name, given in lengths.items():
            if given is not None and len(given) != n:
                raise ValueError(
                    f"The {name} of Rows must be that of the {n} rows of the target. "
                    f"Got {len(given)}."
                )
        if self.owner is not None:
            met = self.owner.unique()
            if not torch.equal(met, torch.arange(n_subjects, device=met.device)):
                numbers, known = set(met.tolist()), set(range(n_subjects))
                raise ValueError(
                    f"The owner of Rows must name each of the {n_subjects} subjects of the data by "
                    f"its position, and no other. Got no row of {len(known - numbers)} subjects, "
                    f"and {len(numbers - known)} numbers that are no position."
                )

    def to(self, device: torch.device) -> Rows:
        """Return the same rows on `device`."""
        return Rows(
            self.data.to(device),
            self.target.to(device),
            None if self.offset is None else self.offset.to(device),
            None if self.owner is None else self.owner.to(device),
        )

    def take(self, subjects: Tensor) -> Rows:
        """Return the rows of `subjects` (int64, each once), in their order."""
        if torch.equal(subjects, torch.arange(len(self.data), device=subjects.device)):
            return self  # neither images copied nor the target's plan lost
        (rows,) = self.of_subjects([subjects])
        owner = None
        if self.owner is not None:
            owner = _places(subjects, len(self.data))[self.owner[rows]]
        offset = None if self.offset is None else self.offset[rows]
        return Rows(self.data.take(subjects), self.target.take(rows), offset, owner)

    def largest_of_subjects(self, labels: np.ndarray) -> np.ndarray:
        """Return the largest of each subject's labels, shape (S,), of a label a row.

        Of follow-up cut into rows it is the label that the whole follow-up has: whether there was
        an event, and in which group of times (before its end, follow-up is censored).
        """
        if self.owner is None:
            return labels
        return largest_of_groups(labels, self.owner.cpu().numpy())

    def of_subjects(self, groups: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return the rows of each group of subjects, subject by subject; no subject is in two."""
        subjects = torch.cat(list(groups))
        sizes = [len(group) for group in groups]
        if self.owner is None:
            return subjects.split(sizes)
        place = _places(subjects, len(self.data))[self.owner]
        chosen = torch.nonzero(place >= 0)[:, 0]
        place, order = place[chosen].sort(stable=True)
        ends = torch.searchsorted(place, torch.tensor(sizes, device=place.device).cumsum(0))
        return chosen[order].tensor_split(ends[:-1].cpu())

    def batch(self, rows: Tensor, target: Target, basis: Tensor | None = None) -> Batch:
        """Return the batch of some rows, `target` theirs; each subject where it is first met."""
        offset = None if self.offset is None else self.offset[rows]
        if self.owner is None:
            return Batch(rows, target, offset, None, basis)
        subjects, owner = self.owner[rows].unique(return_inverse=True)
        # So the network sees subjects of one row each in the order of the rows, as without owner.
        number = torch.arange(len(rows), device=rows.device)
        first = number.new_full(subjects.shape, len(rows)).scatter_reduce_(0, owner, number, "amin")
        order = first.argsort()
        return Batch(subjects[order], target, offset, _places(order, len(order))[owner], basis)

    def whole(self, basis: Tensor | None = None) -> Batch:
        """Return all rows as one batch, all subjects in the order of the data."""
        subjects = torch.arange(len(self.data), device=self.target.weight.device)
        return Batch(subjects, self.target, self.offset, self.owner, basis)


def _places(chosen: Tensor, n: int) -> Tensor:
    """Return where each of the numbers 0 to n - 1 stands in `chosen`; -1 if it does not."""
    places = chosen.new_full((n,), -1)
    places[chosen] = torch.arange(len(chosen), device=chosen.device)
    return places
