"""The orthogonalisation cell: exact in a batch, the same for a row whatever its neighbours."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmfusion.fusion.orthogonal import OrthogonalCell
from mmfusion.training.two_pass import two_pass_backward


@pytest.fixture
def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    design = torch.randn(50, 3, generator=generator)
    return torch.randn(50, 4, generator=generator) + design @ torch.ones(3, 4), design


def test_a_training_batch_keeps_what_least_squares_leaves(
    drawn: tuple[torch.Tensor, torch.Tensor],
) -> None:
    features, design = drawn
    kept = OrthogonalCell(3, 4)(features, design).numpy()
    full = np.column_stack([np.ones(50), design.numpy()])
    coef = np.linalg.lstsq(full, features.numpy(), rcond=None)[0]
    np.testing.assert_allclose(kept, features.numpy() - full @ coef, atol=1e-5)


def test_a_factor_level_that_the_batch_lacks_does_no_harm(
    drawn: tuple[torch.Tensor, torch.Tensor],
) -> None:
    features, design = drawn
    without = OrthogonalCell(3, 4)(features, design)
    absent = OrthogonalCell(4, 4)(features, torch.cat([design, torch.full((50, 1), -0.2)], dim=1))
    torch.testing.assert_close(absent, without, atol=1e-5, rtol=0)


def test_after_fit_a_row_does_not_depend_on_its_neighbours(
    drawn: tuple[torch.Tensor, torch.Tensor],
) -> None:
    features, design = drawn
    cell = OrthogonalCell(3, 4).eval()
    cell.fit(features, design)
    whole = cell(features, design)
    torch.testing.assert_close(cell(features[7:8], design[7:8]), whole[7:8])
    assert (design.T @ whole).abs().max() < 1e-4
    assert whole.sum(0).abs().max() < 1e-4


def test_running_coefficients_approach_those_of_the_batches(
    drawn: tuple[torch.Tensor, torch.Tensor],
) -> None:
    features, design = drawn
    cell = OrthogonalCell(3, 4)
    for _ in range(200):
        cell(features, design)
    torch.testing.assert_close(cell.eval()(features, design), cell.train()(features, design))


def test_two_passes_have_the_gradient_of_one_and_average_once(
    drawn: tuple[torch.Tensor, torch.Tensor],
) -> None:
    features, design = drawn
    layer = torch.nn.Linear(4, 4)
    gradients, averages = [], []
    for two_passes in (False, True):
        layer.zero_grad()
        net = torch.nn.ModuleDict({"layer": layer, "cell": OrthogonalCell(3, 4)})

        def forward(first: int, last: int, net: torch.nn.ModuleDict = net) -> torch.Tensor:
            return net["cell"](net["layer"](features[first:last]), design[first:last])

        if two_passes:
            two_pass_backward(net, forward, lambda eta: eta**2, 50, 25)
        else:
            for first, last in ((0, 25), (25, 50)):
                part = forward(first, last)
                part.backward(part.detach() ** 2)
        gradients.append(layer.weight.grad.clone())
        averages.append(net["cell"].coefficients.clone())
    torch.testing.assert_close(gradients[0], gradients[1])
    torch.testing.assert_close(averages[0], averages[1])
