from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfusion.training import deal, split_validation

labelled = st.lists(st.integers(0, 3), min_size=1, max_size=200).map(np.array)
seeds = st.integers(0, 2**31)


@given(labels=labelled, batch_size=st.integers(1, 64), seed=seeds)
def test_batches_are_a_partition_of_almost_equal_sizes(
    labels: np.ndarray, batch_size: int, seed: int
) -> None:
    batches = deal(labels, batch_size, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(len(labels)))
    sizes = [len(rows) for rows in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(batches) == -(-len(labels) // batch_size)


@given(labels=labelled, batch_size=st.integers(1, 64), seed=seeds)
def test_each_batch_holds_its_share_of_each_label_to_within_one_row(
    labels: np.ndarray, batch_size: int, seed: int
) -> None:
    batches = deal(labels, batch_size, np.random.default_rng(seed))
    for label in np.unique(labels):
        share = np.sum(labels == label) / len(batches)
        for rows in batches:
            assert abs(np.sum(labels[rows] == label) - share) < 1


@given(
    n=st.integers(2, 200), n_events=st.integers(1, 40), batch_size=st.integers(2, 64), seed=seeds
)
def test_every_batch_has_an_event_where_there_are_enough(
    n: int, n_events: int, batch_size: int, seed: int
) -> None:
    events = (np.arange(n) < n_events).astype(int)
    batches = deal(events, batch_size, np.random.default_rng(seed))
    if events.sum() >= len(batches):
        assert all(events[rows].any() for rows in batches)


def test_batches_differ_from_epoch_to_epoch_and_repeat_with_the_seed() -> None:
    labels = np.arange(40) % 2
    rng = np.random.default_rng(0)
    first, second = deal(labels, 8, rng), deal(labels, 8, rng)
    again = deal(labels, 8, np.random.default_rng(0))
    assert any(set(a) != set(b) for a, b in zip(first, second, strict=True))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_rows_of_a_label_meet_each_other_as_often_as_chance_has_it() -> None:
    # Dealing must not pair neighbours: each row shares a batch with each other equally often.
    labels = np.repeat([0, 1], 6)
    rng = np.random.default_rng(0)
    together = np.zeros((12, 12))
    for _ in range(4000):
        for rows in deal(labels, 4, rng):
            together[np.ix_(rows, rows)] += 1
    within = together[:6, :6][~np.eye(6, dtype=bool)] / 4000
    across = together[:6, 6:].ravel() / 4000
    # Two of each label in each of three batches: 1/5 within a label, 2/6 across.
    np.testing.assert_allclose(within, 1 / 5, atol=0.03)
    np.testing.assert_allclose(across, 1 / 3, atol=0.03)


@given(labels=labelled, fraction=st.floats(0.01, 0.99), seed=seeds)
def test_a_validation_part_has_its_share_of_each_label(
    labels: np.ndarray, fraction: float, seed: int
) -> None:
    train, held = split_validation(labels, fraction, np.random.default_rng(seed))
    np.testing.assert_array_equal(np.sort(np.r_[train, held]), np.arange(len(labels)))
    for label in np.unique(labels):
        count = np.sum(labels == label)
        assert abs(np.sum(labels[held] == label) - fraction * count) <= 0.5 + 1e-9


@given(labels=labelled, fraction=st.floats(0.01, 0.99), seed=seeds, size=st.integers(1, 4))
def test_groups_are_held_out_whole(
    labels: np.ndarray, fraction: float, seed: int, size: int
) -> None:
    groups = np.random.default_rng(seed + 1).permutation(np.arange(len(labels)) // size)
    train, held = split_validation(labels, fraction, np.random.default_rng(seed), groups)
    np.testing.assert_array_equal(np.sort(np.r_[train, held]), np.arange(len(labels)))
    largest = pd.Series(labels).groupby(groups).transform("max").to_numpy()
    share = {label: round(fraction * np.sum(largest == label)) for label in np.unique(largest)}
    sizes = pd.Series(groups).groupby(groups).transform("size").to_numpy()
    fits = any(count <= 2 * share[label] for count, label in zip(sizes, largest, strict=True))
    if not fits:  # as if there were none
        for label in np.unique(labels):
            count = np.sum(labels == label)
            assert abs(np.sum(labels[held] == label) - fraction * count) <= 0.5 + 1e-9
        return
    assert not set(groups[train]) & set(groups[held])
    for label in np.unique(largest):
        mine = largest == label
        assert abs(mine[held].sum() - fraction * mine.sum()) <= 0.5 + size


@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_a_validation_part_is_drawn_at_random(fraction: float) -> None:
    labels = np.zeros(100, dtype=int)
    first = split_validation(labels, fraction, np.random.default_rng(0))[1]
    other = split_validation(labels, fraction, np.random.default_rng(1))[1]
    assert len(first) == len(other) == round(100 * fraction)
    assert set(first) != set(other)
