"""Folds of the rows for what networks say of rows that they did not see."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from mmfusion.model.dealing import Folds, deal_taught
from mmfusion.model.share import UnjudgedWarning
from mmfusion.model.study import Study
from mmfusion.structured import SeparationWarning
from mmfusion.training import InterruptedWarning

__all__ = ["Part", "deal_study", "parts", "quietly"]

#: A fold leaves out a modality that fewer of its training rows (with an event) have.
FEWEST = 5


class Part(NamedTuple):
    """A fold: positions of its training and held-out rows, and the modalities that it teaches.

    `teaches` says which training rows teach which of these, (n_train, n_modalities).
    """

    train: np.ndarray
    held: np.ndarray
    modalities: list[str]
    teaches: np.ndarray


def deal_study(study: Study, n_folds: int, instead: str, seed: int | None = None) -> Folds:
    """Deal the rows of a study; rows of a subject, or of a cluster, stay together.

    Each training part has a row of each class, each cause, and an event.

    Parameters
    ----------
    study : Study
    n_folds : int
    instead : str
        What to use where there are too few rows, for the message.
    seed : int, optional
        By default drawn.
    """
    head, target = study.head, study.all.target
    seed = study.seeds.randint(2**31 - 1) if seed is None else seed
    labels, required = head.stratify(target), head.required(target)
    return deal_taught(labels, required, study.groups, n_folds, seed, instead, study.unit)


def parts(
    study: Study, names: Sequence[str], present: np.ndarray, folds: Folds, *, needs_any: bool
) -> list[Part]:
    """Return the folds with the modalities that each teaches.

    A fold teaches the modalities that `FEWEST` of its training rows have, of survival outcomes rows
    with an event; where no modality has so many, those that one such row has.

    Parameters
    ----------
    study : Study
    names : sequence of str
        Of the modalities.
    present : ndarray of bool, shape (n, n_modalities)
    folds : list of pairs of positions
    needs_any : bool
        Whether a row must have one of them (there is no formula): others are left out.
    """
    if not folds:
        return []
    event = study.head.events(study.all.target)
    teaches = present.copy() if event is None else present & event.numpy()[:, None]
    dealt = []
    for train, held in folds:
        counts: np.ndarray = teaches[train].sum(0)
        fewest = FEWEST if counts.max(initial=0) >= FEWEST else 1
        chosen = np.flatnonzero(counts >= fewest)
        if needs_any:
            any_of = np.asarray(present[:, chosen].any(1))
            train, held = train[any_of[train]], held[any_of[held]]
        modalities = [names[int(at)] for at in chosen]
        dealt.append(Part(train, held, modalities, teaches[train][:, chosen]))
    return dealt


@contextmanager
def quietly() -> Iterator[None]:
    """Say nothing of coefficients and weights that nobody keeps, while the context lasts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnjudgedWarning)
        warnings.simplefilter("ignore", InterruptedWarning)
        warnings.simplefilter("ignore", SeparationWarning)
        yield
