"""How rows are dealt into batches and into a validation part."""

from __future__ import annotations

import numpy as np

__all__ = ["MIN_VALIDATION_ROWS", "deal", "largest_of_groups", "split_validation"]

#: A validation part of fewer rows says nothing; all rows are then trained on, for all epochs.
MIN_VALIDATION_ROWS = 8


def deal(labels: np.ndarray, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Deal rows into batches of almost equal size, each label spread evenly over them.

    Of a label with c rows each of B batches gets c / B, rounded up or down: with events as the
    label, every batch has events as long as there are as many events as batches. Sizes differ by
    one row at most, so there is no small last batch.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    batch_size : int
        Largest size of a batch.
    rng : numpy Generator

    Returns
    -------
    list of ndarray of int64

    Examples
    --------
    >>> import numpy as np
    >>> events = np.array([1, 0, 0, 0, 1, 0, 0, 0])
    >>> parts = deal(events, 4, np.random.default_rng(0))
    >>> [int(events[rows].sum()) for rows in parts]
    [1, 1]
    """
    n = len(labels)
    n_batches = max(1, -(-n // batch_size))
    order = rng.permutation(n)
    # As cards are dealt: the rows label by label, in shuffled order, one to each batch in turn.
    deck = order[np.argsort(labels[order], kind="stable")]
    return [deck[first::n_batches] for first in rng.permutation(n_batches)]


def largest_of_groups(labels: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the largest label of each group, shape (n_groups,), groups numbered from 0.

    Examples
    --------
    >>> import numpy as np
    >>> largest_of_groups(np.array([0, 1, 0, 0]), np.array([0, 0, 1, 1])).tolist()
    [1, 0]
    """
    largest = np.full(group.max() + 1, labels.min())
    np.maximum.at(largest, group, labels)
    return largest


def split_validation(
    labels: np.ndarray,
    fraction: float,
    rng: np.random.Generator,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into a training and a validation part with the same share of each label.

    Parameters
    ----------
    labels : ndarray of int, shape (n,)
    fraction : float
        Share of the rows in the validation part.
    rng : numpy Generator
    groups : ndarray, shape (n,), optional
        Rows of a group (a cluster) stay together; the label of a group is the largest of its rows'.
        Where no group is small enough to be held out, rows are dealt as without groups.

    Returns
    -------
    train, validation : ndarray of int64, sorted

    Examples
    --------
    >>> import numpy as np
    >>> ward = np.array(["a", "a", "b", "b", "b", "c", "c"])
    >>> _, held = split_validation(np.zeros(7, int), 0.4, np.random.default_rng(0), ward)
    >>> ward[held].tolist()
    ['a', 'a', 'c', 'c']
    """
    held_out = np.zeros(len(labels), dtype=bool)
    if groups is not None:
        held_out = _hold_groups(labels, fraction, rng, np.unique(groups, return_inverse=True)[1])
    if not held_out.any():
        for label in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == label))
            held_out[rows[: round(fraction * len(rows))]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _hold_groups(
    labels: np.ndarray, fraction: float, rng: np.random.Generator, group: np.ndarray
) -> np.ndarray:
    """Return which rows are held out, a mask, whole groups (numbered from 0) of them."""
    size = np.bincount(group)
    label_of = largest_of_groups(labels, group)
    held_out = np.zeros(len(size), dtype=bool)
    for label in np.unique(label_of):
        dealt = rng.permutation(np.flatnonzero(label_of == label))
        left = round(fraction * size[dealt].sum())
        for one in dealt.tolist():  # one that is too large leaves its turn to the next
            if size[one] <= 2 * left:
                held_out[one] = True
                left -= size[one]
    return held_out[group]
