from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmfusion.training.schedule import warmup_cosine


@given(total=st.integers(1, 500), warmup=st.floats(0, 1))
def test_it_rises_and_then_falls_within_zero_and_one(total: int, warmup: float) -> None:
    factors = np.array([warmup_cosine(step, total, warmup) for step in range(total)])
    assert (factors > 0).all()
    assert (factors <= 1).all()
    peak = int(warmup * total)
    assert (np.diff(factors[:peak]) > 0).all()
    assert (np.diff(factors[peak:]) < 0).all()


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_it_reaches_one_at_the_end_of_the_warm_up_and_nearly_zero_at_the_end(
    warmup: float,
) -> None:
    total = 1000
    rising = int(warmup * total)
    assert warmup_cosine(rising, total, warmup) == 1.0
    if rising:
        assert warmup_cosine(rising - 1, total, warmup) == 1.0
        assert warmup_cosine(0, total, warmup) == pytest.approx(1 / rising)
    middle = rising + (total - rising) // 2
    assert warmup_cosine(middle, total, warmup) == pytest.approx(0.5, abs=1e-3)
    assert 0 < warmup_cosine(total - 1, total, warmup) < 1e-4


def test_warming_up_all_the_time_never_falls() -> None:
    assert [warmup_cosine(step, 4, 1.0) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
