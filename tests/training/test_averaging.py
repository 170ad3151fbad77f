from __future__ import annotations

import pytest
import torch
from torch import nn

from mmfusion.training.averaging import WeightAverage, largest_decay


def network() -> nn.Sequential:
    torch.manual_seed(0)
    frozen = nn.Linear(3, 3).requires_grad_(False)
    return nn.Sequential(frozen, nn.Linear(3, 2), nn.BatchNorm1d(2))


def test_the_average_is_that_of_its_definition() -> None:
    trained = network()
    average = WeightAverage(trained, 0.5)
    expected = None
    for step in range(1, 12):
        with torch.no_grad():
            trained[1].weight.normal_()
            trained[2].running_mean.normal_()
            trained[2].num_batches_tracked += 1
        average.update()
        now = torch.cat([trained[1].weight.flatten(), trained[2].running_mean])
        decay = min(0.5, (1 + step) / (10 + step))
        expected = now.clone() if expected is None else decay * expected + (1 - decay) * now
    kept = average.module
    found = torch.cat([kept[1].weight.flatten(), kept[2].running_mean])
    torch.testing.assert_close(found, expected)
    assert int(kept[2].num_batches_tracked) == 11  # a count is no number to average
    assert kept[1].weight is not trained[1].weight


def test_what_is_frozen_is_not_averaged_in_every_step() -> None:
    trained = network()
    average = WeightAverage(trained, 0.5)
    assert all(now.data_ptr() != trained[0].weight.data_ptr() for _, now in average._numbers)
    assert len(average._numbers) == 2 + 4  # of the linear layer, and of the normalisation
    average.update()
    torch.testing.assert_close(average.module[0].weight, trained[0].weight)


@pytest.mark.parametrize("step", [2, 50, 1000])
def test_the_average_reaches_back_over_a_tenth_of_the_steps(step: int) -> None:
    # An average of decay d reaches back over 1 / (1 - d) steps.
    assert 1 / (1 - largest_decay(step)) == pytest.approx(1 + (step + 1) / 9)
