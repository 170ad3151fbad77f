"""Start-stop rows are told from delayed entry by their times and their order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfusion.survival import episode_share

#: From this share on a fit warns.
LIKELY = 0.5

times = st.floats(0.01, 100.0, allow_nan=False)
follow_ups = st.lists(st.lists(times, min_size=1, max_size=4, unique=True), min_size=2, max_size=30)


def rows_of(follow_ups: list[list[float]], begin: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return end and start of the rows of follow-ups that are cut at all times but the last."""
    time, entry = [], []
    for cuts in follow_ups:
        ends = begin + np.sort(cuts)
        time += ends.tolist()
        entry += [begin, *ends[:-1].tolist()]
    return np.array(time), np.array(entry)


@given(follow_ups)
def test_each_further_row_of_a_sorted_table_starts_where_the_one_above_ends(
    follow_ups: list[list[float]],
) -> None:
    several = any(len(cuts) > 1 for cuts in follow_ups)
    assert episode_share(*rows_of(follow_ups)) == (1.0 if several else 0.0)


@given(follow_ups, st.integers(0, 2**32 - 1))
def test_the_share_is_one_at_most_in_any_order(follow_ups: list[list[float]], seed: int) -> None:
    time, entry = rows_of(follow_ups)
    order = np.random.default_rng(seed).permutation(len(time))
    assert 0.0 <= episode_share(time[order], entry[order]) <= 1.0


@pytest.mark.parametrize("unit", [0.0, 1.0])
@pytest.mark.parametrize("n", [5, 100, 2000])
def test_shuffled_rows_are_matched_by_their_times(n: int, unit: float) -> None:
    rng = np.random.default_rng(n)
    cuts = [np.unique(np.ceil(1e5 * rng.random(3)) if unit else rng.random(3)) for _ in range(n)]
    time, entry = rows_of([one.tolist() for one in cuts])
    order = rng.permutation(len(time))
    assert episode_share(time[order], entry[order]) == 1.0


def test_a_table_in_which_few_subjects_have_several_rows() -> None:
    rng = np.random.default_rng(0)
    time, entry = rows_of([[1.0, 2.0], *([value] for value in rng.random(200))])
    assert episode_share(time, entry) == 1.0


def test_start_stop_rows_on_the_age_scale() -> None:
    """All rows start late: the order alone tells, two thirds of three rows a subject."""
    rng = np.random.default_rng(0)
    parts = [rows_of([(3 * rng.random(3)).tolist()], begin=rng.uniform(30, 80)) for _ in range(50)]
    time, entry = (np.concatenate(column) for column in zip(*parts, strict=True))
    assert episode_share(time, entry) == pytest.approx(2 / 3)


@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize("n", [50, 1000, 20_000])
@pytest.mark.parametrize("scale", ["study days", "weeks", "ages in days", "ages in years"])
def test_delayed_entry_is_no_episode(scale: str, n: int, sort: bool) -> None:
    """Also where so many whole days agree by chance that each start has an end of its own."""
    rng = np.random.default_rng(n)
    if scale in ("study days", "weeks"):
        time = rng.integers(1, 365 if scale == "study days" else 20, n)
        entry = np.where(rng.random(n) < 0.2, np.floor(time * rng.random(n)), 0)
    else:
        year = 365 if scale == "ages in days" else 1
        entry = rng.integers(20 * year, 70 * year, n)
        time = entry + rng.integers(1, 8 * year, n)
    order = np.lexsort((time, entry)) if sort else np.arange(n)
    assert episode_share(time[order].astype(float), entry[order].astype(float)) < LIKELY


@given(st.lists(times, min_size=1, max_size=20))
def test_rows_without_entry_are_none(ends: list[float]) -> None:
    time = np.array(ends)
    assert episode_share(time, np.full(len(time), -np.inf)) == 0.0
    assert episode_share(time, np.zeros(len(time))) == 0.0


@given(follow_ups)
def test_one_row_a_subject_is_none(follow_ups: list[list[float]]) -> None:
    assert episode_share(*rows_of([cuts[:1] for cuts in follow_ups])) == 0.0
