"""The rows of one fit: table, outcome, subjects, clusters, who trains and who judges."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from sklearn.utils import check_random_state

from mmfusion.heads.base import Head, Target
from mmfusion.inputs.labels import check_order
from mmfusion.inputs.messages import name_rows
from mmfusion.model.dealing import Folds, deal_taught
from mmfusion.model.plan import Plan
from mmfusion.model.roles import role_column
from mmfusion.model.subjects import Subjects, warn_of_episodes
from mmfusion.training import MIN_VALIDATION_ROWS, split_validation
from mmfusion.training.batches import largest_of_groups

__all__ = ["Sample", "Study"]

#: Outcomes of a size between these have squares, and are told apart in single precision.
SMALLEST, LARGEST = 1e-30, 1e30


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows of a table with their outcome.

    Attributes
    ----------
    table : DataFrame of n rows
    target : Target of n rows
    subjects : Subjects
        Whose rows they are.
    """

    table: pd.DataFrame
    target: Target
    subjects: Subjects

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: np.ndarray) -> Self:
        """Return some of the rows, in their order."""
        return type(self)(
            self.table.iloc[rows],
            self.target.take(torch.from_numpy(rows)),
            self.subjects.take(rows),
        )


@dataclass(frozen=True, eq=False)
class Study:
    """Everything that a fit reads.

    Attributes
    ----------
    head : Head
        That knows the outcome (its classes, its grid of intervals).
    all : Sample
        The rows that were given to fit.
    rows : ndarray of int
        Those of them that are trained on.
    judges : Sample or None
        The rows that say when training stops and how far networks are believed.
    judging : ndarray of int or None
        Where these are among all rows; None where they have a table of their own (``eval_set``).
    cluster : ndarray of int, shape (n,), or None
    folds : sequence of pairs of ndarray of int
        Training and held-out rows of each member, where all rows are trained on and judge.
    seeds : RandomState
        Draws the seeds of folds.
    rng : Generator
        Deals rows and batches.
    """

    head: Head
    all: Sample
    rows: np.ndarray
    judges: Sample | None
    judging: np.ndarray | None
    cluster: np.ndarray | None
    seeds: np.random.RandomState
    rng: np.random.Generator
    folds: Sequence[tuple[np.ndarray, np.ndarray]] = ()

    @classmethod
    def read(
        cls,
        plan: Plan,
        table: pd.DataFrame,
        y: Any,
        sample_weight: Any = None,
        eval_set: tuple[pd.DataFrame, Any] | None = None,
    ) -> Self:
        """Check outcome, weights and roles of columns; deal the judging rows.

        Parameters
        ----------
        plan : Plan
        table : DataFrame, shape (n, p)
        y : outcome of n rows
        sample_weight : array-like, shape (n,), optional
        eval_set : tuple of DataFrame and outcome, optional
            Judging rows, in place of a part of the table.

        Raises
        ------
        ValueError, TypeError
            Naming the column, the row or the parameter that is at fault.
        """
        head = plan.head
        if len(table) < 2:
            raise ValueError(f"{plan.name} needs 2 rows or more. Got n_samples = {len(table)}.")
        target = encode(head.fit_outcome, plan, table, y, sample_weight)
        _check_size(target)
        subjects = Subjects.read(plan.subject, table)
        if subjects.owner is not None:
            head.check_subjects(target, subjects.owner, table.index)
        cluster = _cluster(plan.cluster, table, subjects)
        if plan.subject is None and plan.cluster is None:
            warn_of_episodes(head.episodes(target))
        study = cls._seeded(head, Sample(table, target, subjects), cluster, plan.random_state)
        if eval_set is None:
            return study._deal(plan)
        if plan.settings.refit:
            raise ValueError(
                "The epochs parameter must be a number with an eval_set, which says when to stop. "
                "Got 'cv'."
            )
        if plan.n_members not in ("auto", 0, 1):
            raise ValueError(
                "The n_members parameter must be 0, 1 or 'auto' with an eval_set, which judges one "
                f"network. Got {plan.n_members!r}."
            )
        own = Sample(
            eval_set[0],
            encode(head.encode, plan, *eval_set, None),
            Subjects.read(plan.subject, eval_set[0]),
        )
        _warn_of_shared_subjects(plan.subject, table, own.table)
        if not head.informative(own.target):
            warnings.warn(
                "The eval_set holds no events, so training cannot be stopped by it: all "
                f"{plan.settings.epochs} epochs are trained.",
                UserWarning,
                stacklevel=3,
            )
        return replace(study, judges=own)

    @classmethod
    def _seeded(
        cls, head: Head, sample: Sample, cluster: np.ndarray | None, random_state: Any
    ) -> Self:
        seeds = check_random_state(random_state)
        rng = np.random.default_rng(seeds.randint(np.iinfo(np.int32).max))
        return cls(head, sample, np.arange(len(sample)), None, None, cluster, seeds, rng)

    @classmethod
    def without_outcome(
        cls, head: Head, sample: Sample, random_state: Any, validation_fraction: float | None
    ) -> Self:
        """Return the study of rows of which nothing is known but their modalities.

        Parameters
        ----------
        validation_fraction : float or None
            Share of the rows that judge; None: nobody does.
        """
        study = cls._seeded(head, sample, None, random_state)
        if validation_fraction is None:
            return study
        labels = np.zeros(len(sample))
        part, held = split_validation(labels, validation_fraction, study.rng)
        if len(held) < MIN_VALIDATION_ROWS:
            return study
        return replace(study, rows=part, judges=sample.take(held), judging=held)

    def part(self, plan: Plan, rows: np.ndarray, head: Head | None = None) -> Self:
        """Return the study of some of the rows, in which judging rows are dealt anew.

        Parameters
        ----------
        plan : Plan
            For these rows.
        rows : ndarray of int
        head : Head, optional
            That knows their outcome; by default this study's, which learns from the rows what
            belongs to them (the mean of numbers).
        """
        sample = self.all.take(rows)
        cluster = None if self.cluster is None else self.cluster[rows]
        head = self.head.relearn(sample.target) if head is None else head
        return self._seeded(head, sample, cluster, plan.random_state)._deal(plan)

    def with_outcome(self, head: Head, target: Target) -> Self:
        """Return the study of the same rows with another outcome."""
        return replace(self, head=head, all=replace(self.all, target=target))

    def _deal(self, plan: Plan) -> Self:
        """Deal the folds of several networks, or the judging rows of one where there are few."""
        n_members = plan.members(len(self.all.subjects.of(np.arange(len(self.all)))))
        if n_members == 0:
            return self
        if plan.modalities and not plan.strategy.linear and n_members > 1:
            try:
                return replace(self, folds=self._folds(n_members))
            except ValueError:  # too few rows, or events
                pass
        return self._deal_judges(plan)

    def _folds(self, n_folds: int) -> Folds:
        """Deal subjects, or clusters, into folds; each fold teaches classes, causes and events."""
        head, target, subjects = self.head, self.all.target, self.all.subjects
        labels, required = head.stratify(target), head.required(target)
        seed = int(self.rng.integers(2**31 - 1))
        owner = subjects.owner
        if owner is None or self.cluster is not None:
            return deal_taught(labels, required, self.groups, n_folds, seed, "", self.unit)
        labels = largest_of_groups(labels, owner)
        required = {
            n: largest_of_groups(rows.astype(int), owner) > 0 for n, rows in required.items()
        }
        dealt = deal_taught(labels, required, None, n_folds, seed, "", self.unit)
        rows = np.arange(len(owner))
        return [tuple(rows[np.isin(owner, part)] for part in fold) for fold in dealt]  # type: ignore[misc]

    def _deal_judges(self, plan: Plan) -> Self:
        """Cut judging rows from the table, where something is to be stopped and enough are left."""
        if not (plan.modalities and plan.stops_early):
            return self
        labels = self.head.stratify(self.all.target)
        part, held = split_validation(labels, plan.validation_fraction, self.rng, self.groups)
        judges, subjects = self.all.take(held), self.all.subjects
        judging = subjects.of(held)
        enough = len(judging) >= MIN_VALIDATION_ROWS and self.head.informative(judges.target)
        if np.intersect1d(subjects.of(part), judging).size:  # subjects too large to be held out
            return self
        if not enough or not (plan.teaches is None or plan.teaches[part].any(0).all()):
            return self
        return replace(self, rows=part, judges=judges, judging=held)

    @property
    def groups(self) -> np.ndarray | None:
        """Which rows stay together in folds and among the judging rows; None: each is its own."""
        return self.all.subjects.owner if self.cluster is None else self.cluster

    @property
    def weighted(self) -> bool:
        """Whether weights are no counts of rows: the likelihood takes a weight for as many rows.

        Its information is then no measure of what is known. R's ``coxph`` has the same rule.
        """
        weight = self.all.target.weight.numpy()
        return bool((weight != np.floor(weight)).any())

    @property
    def unit(self) -> str:
        """What is dealt into folds: "rows", "subjects" or "clusters"."""
        if self.cluster is not None:
            return "clusters"
        return "rows" if self.groups is None else "subjects"

    @property
    def training(self) -> Target:
        """The outcome of the training rows."""
        whole = len(self.rows) == len(self.all)
        return self.all.target if whole else self.all.target.take(torch.from_numpy(self.rows))

    @property
    def trains_all(self) -> bool:
        """Whether all rows are trained on."""
        return len(self.rows) == len(self.all)


def encode(encoder: Any, plan: Plan, table: pd.DataFrame, y: Any, sample_weight: Any) -> Target:
    """Return an outcome as a head's `fit_outcome` or `encode` makes it.

    Raises
    ------
    ValueError
        If there are more or fewer outcomes than rows; and as the encoder.
    """
    check_order(X=table, y=y, sample_weight=sample_weight)
    columns: Mapping[str, Any] = {
        name: role_column(table, name, column) for name, column in plan.context.items()
    }
    target = encoder(y, sample_weight, index=table.index, **columns)
    if len(target) != len(table):
        raise ValueError(
            "Found input variables with inconsistent numbers of samples: "
            f"X has {len(table)} rows, y has {len(target)}."
        )
    return target


def _check_size(target: Target) -> None:
    """Raise ValueError for an outcome whose squares are no numbers, or all nothing.

    Rows are told again, and formulas of time read, in single precision.
    """
    for name, value in vars(target).items():
        if name in ("weight", *target.derived) or not isinstance(value, torch.Tensor):
            continue
        known = value[torch.isfinite(value)].abs() if value.is_floating_point() else value[:0]
        if len(known) and not (SMALLEST <= float(known.max()) <= LARGEST or known.max() == 0):
            raise ValueError(
                "The outcome y must be in a unit in which its largest value lies between "
                f"{SMALLEST:g} and {LARGEST:g}. Got {float(known.max()):g}."
            )


def _warn_of_shared_subjects(column: Any, table: pd.DataFrame, judged: pd.DataFrame) -> None:
    """Warn where subjects of an ``eval_set`` are trained on too."""
    if column is None:
        return
    shared = judged[column].isin(table[column]).to_numpy(bool)
    if shared.any():
        warnings.warn(
            f"The eval_set holds rows of subjects that are trained on: {name_rows(judged, shared)}."
            " Training then stops too late.",
            UserWarning,
            stacklevel=4,
        )


def _cluster(column: Any, table: pd.DataFrame, subjects: Subjects) -> np.ndarray | None:
    """Return the clusters of the rows, numbered."""
    labels = role_column(table, "cluster", column, complete=True)
    if labels is None:
        return None
    if labels.nunique() < 2:
        raise ValueError(
            f"The cluster column {column!r} must have two labels or more. "
            f"Got {labels.tolist()[0]!r} alone."
        )
    cluster = pd.factorize(labels)[0]
    subjects.refuse_split(cluster, table)
    return cluster
