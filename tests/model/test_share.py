import numpy as np
import pytest
import torch

from mmfusion.heads import CategoricalHead, GaussianHead, Head
from mmfusion.model.share import kept_share


def share(head: Head, y: np.ndarray, weight: np.ndarray, deep: np.ndarray) -> float:
    target = head.fit_outcome(y, sample_weight=weight)
    beside = torch.zeros(len(y), 1, dtype=torch.float64)
    kept = kept_share(torch.from_numpy(deep)[:, None], beside, head, target, np.zeros(1, int))
    return float(kept[0])


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    deep = rng.normal(size=60)
    return deep, deep + rng.normal(0, 2, 60)


def test_the_unit_of_gaussian_weights_is_no_evidence(rows: tuple[np.ndarray, np.ndarray]) -> None:
    deep, y = rows
    weight = np.random.default_rng(1).uniform(0.5, 2, 60)
    once = share(GaussianHead(), y, weight, deep)
    assert 0.1 < once < 0.9
    assert share(GaussianHead(), y, 100 * weight, deep) == pytest.approx(once, rel=1e-9)


def test_rows_of_weight_0_are_no_evidence(rows: tuple[np.ndarray, np.ndarray]) -> None:
    deep, y = rows
    weight = np.r_[np.ones(30), np.zeros(30)]
    half = share(GaussianHead(), y[:30], weight[:30], deep[:30])
    assert share(GaussianHead(), y, weight, deep) == pytest.approx(half, rel=1e-9)


def test_a_case_weight_is_as_many_rows(rows: tuple[np.ndarray, np.ndarray]) -> None:
    deep, y = rows
    label = (y > 0).astype(int)
    twice = share(CategoricalHead(), label, np.full(60, 2.0), deep)
    repeated = share(CategoricalHead(), np.tile(label, 2), np.ones(120), np.tile(deep, 2))
    assert twice == pytest.approx(repeated, rel=1e-6)
