"""Small fits take one thread, large ones those that there are, and all give back what was set."""

import numpy as np
import pandas as pd
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits
from torch import nn

from mmfusion.modalities.base import ImageData, MultimodalData, TableData
from mmfusion.training.threads import LARGE, linear_algebra, steps, work

SMALL = pd.DataFrame(np.zeros((10, 3)))


def blas() -> set[int]:
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_a_small_table_takes_one_thread_and_gives_the_others_back():
    with threadpool_limits(2, user_api="blas"):
        before = blas()
        with linear_algebra(SMALL), linear_algebra(SMALL):
            assert blas() == {1}
        assert blas() == before
        with pytest.raises(KeyError), linear_algebra(SMALL):
            raise KeyError
        assert blas() == before


def test_a_large_table_keeps_its_threads():
    large = pd.DataFrame(np.broadcast_to(0.0, (3_000, 2_000)))
    assert work(large) == 3_000 * 2_000**2 > LARGE
    with threadpool_limits(2, user_api="blas"):
        before = blas()
        with linear_algebra(large):
            assert blas() == before


def test_vectors_in_cells_count_as_columns_and_images_as_one():
    cells = pd.DataFrame({"x": np.zeros(100), "name": "a"})
    assert work(cells) == 100 * 2**2
    cells["vector"] = list(np.zeros((100, 20)))
    cells["image"] = list(np.zeros((100, 4, 4)))
    cells.loc[0, "vector"] = None
    assert work(cells) == 100 * 23**2


def tables(n: int) -> dict[str, TableData]:
    there = torch.ones(n, dtype=torch.bool)
    return {"clinic": TableData(torch.zeros(n, 3), torch.zeros(n, 0, dtype=torch.int64), there)}


def threads(network: nn.Module, data: MultimodalData, batch_size: int | None) -> int:
    own = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with steps(network, data, batch_size):
            found = torch.get_num_threads()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(own)
    return found


def test_steps_of_small_networks_on_tables_take_one_thread():
    narrow, wide = nn.Linear(3, 8), nn.Linear(3, 400_000)
    data = MultimodalData(tables(100))
    assert threads(narrow, data, None) == 1
    assert threads(wide, data, None) == 2
    assert threads(wide, data, 16) == 1
    scans = ImageData(torch.zeros(100, 1, 2, 2), torch.arange(101))
    assert threads(narrow, MultimodalData({**tables(100), "scan": scans}), None) == 2
