from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmfusion.fusion import drop_modalities


@given(
    n=st.integers(0, 40),
    m=st.integers(1, 5),
    rate=st.floats(0, 1),
    share=st.floats(0, 1),
    seed=st.integers(0, 10_000),
)
def test_only_drops_and_never_everything(
    n: int, m: int, rate: float, share: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(n, m, generator=generator) < share
    before = present.clone()
    state = generator.get_state()
    kept = drop_modalities(present, rate, generator)
    assert kept.shape == present.shape
    assert kept.dtype == torch.bool
    assert torch.equal(present, before)
    assert not (kept & ~present).any()
    assert torch.equal(kept.any(1), present.any(1))
    if rate == 0:
        assert torch.equal(kept, present)
    if rate == 1:
        assert torch.equal(kept.sum(1), present.any(1).long())
    generator.set_state(state)
    assert torch.equal(drop_modalities(present, rate, generator), kept)


@pytest.mark.parametrize("m", [1, 2, 4])
@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_rate_is_as_documented(m: int, rate: float) -> None:
    n = 100_000
    present = torch.zeros(n, 4, dtype=torch.bool)
    present[:, 4 - m :] = True
    kept = drop_modalities(present, rate, torch.Generator().manual_seed(0))
    dropped = 1 - kept[:, 4 - m :].double().mean(0)
    expected = rate - rate**m / m
    assert (dropped - expected).abs().max() < 5 * (0.25 / n) ** 0.5
    both = (~kept[:, -1] & ~kept[:, -2]).double().mean().item()
    if m == 4:  # pairs go independently but for the rows that would lose everything
        assert abs(both - (rate**2 - rate**4 / 2)) < 5 * (0.25 / n) ** 0.5


def test_each_modality_has_its_rate() -> None:
    n = 100_000
    rates = torch.tensor([0.6, 0.3, 0.0, 0.5], dtype=torch.float64)
    present = torch.ones(n, 4, dtype=torch.bool)
    kept = drop_modalities(present, rates, torch.Generator().manual_seed(0))
    tolerance = 5 * (0.25 / n) ** 0.5
    assert kept[:, 2].all()
    assert ((1 - kept.double().mean(0)) - rates).abs().max() < tolerance  # one is never dropped
    present[:, 2] = False
    kept = drop_modalities(present, rates, torch.Generator().manual_seed(0))
    assert not (kept & ~present).any()
    assert kept.any(1).all()
    # All three would go with probability 0.09: each stays then in a third of the cases.
    for k in (0, 1, 3):
        dropped = 1 - kept[:, k].double().mean()
        assert abs(dropped - (rates[k] - 0.09 / 3)) < tolerance
    alone = torch.tensor([[True, False, False, False]]).expand(50, 4)
    assert torch.equal(drop_modalities(alone, rates), alone)


def test_equal_rates_are_the_one_rate() -> None:
    present = torch.rand(500, 3, generator=torch.Generator().manual_seed(3)) < 0.8
    one = drop_modalities(present, 0.5, torch.Generator().manual_seed(0))
    each = drop_modalities(present, torch.full((3,), 0.5), torch.Generator().manual_seed(0))
    assert torch.equal(one, each)


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan"), torch.tensor([0.1, 2.0])])
def test_bad_rate(rate: float | torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"modality_dropout parameter must be in \[0, 1\]"):
        drop_modalities(torch.ones(2, 2, dtype=torch.bool), rate)


@pytest.mark.gpu
def test_on_a_gpu_a_cpu_generator_gives_the_same_mask() -> None:
    present = torch.rand(50, 3) < 0.8
    here = drop_modalities(present, 0.5, torch.Generator().manual_seed(0))
    there = drop_modalities(present.cuda(), 0.5, torch.Generator().manual_seed(0))
    assert there.is_cuda
    assert torch.equal(there.cpu(), here)
