"""What a network of points promises: the set matters, not its order, its padding, its place."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from mmfusion.encoders import PointNet, PointsEncoder, build_encoder
from mmfusion.modalities import Points


def network(n_channels: int = 3, **options: Any) -> PointNet:
    torch.manual_seed(0)
    made = PointNet(n_channels, **options).double()
    if made.transform is not None:  # away from the identity
        nn.init.normal_(made.transform.matrix[-1].weight, std=0.3)
    return made


def cloud(batch: int = 4, p: int = 20, d: int = 3, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, p, d, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("transform", [True, False])
@pytest.mark.parametrize("d", [2, 3, 5])
def test_the_order_of_points_does_not_matter(transform: bool, d: int) -> None:
    net, points = network(d, input_transform=transform), cloud(d=d)
    shuffled = points[:, torch.randperm(20)]
    torch.testing.assert_close(net(shuffled), net(points), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("transform", [True, False])
def test_padding_does_not_matter(transform: bool) -> None:
    net, points = network(input_transform=transform), cloud()
    counts = torch.tensor([20, 7, 1, 13])
    there = torch.arange(20) < counts[:, None]
    padded = torch.where(there[:, :, None], points, 1e6)
    wider = torch.cat([padded, torch.full((4, 9, 3), -1e6).double()], dim=1)
    wider_there = torch.cat([there, torch.zeros(4, 9, dtype=torch.bool)], dim=1)
    for i, k in enumerate(counts):
        alone = net(points[i : i + 1, :k])[0]
        torch.testing.assert_close(net(padded, there)[i], alone, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(net(wider, wider_there)[i], alone, rtol=1e-12, atol=1e-12)
    # So does a point that is there twice.
    twice = torch.cat([points, points[:, :5]], dim=1)
    torch.testing.assert_close(net(twice), net(points), rtol=1e-12, atol=1e-12)


def test_the_transform_starts_as_the_identity_and_is_learned() -> None:
    torch.manual_seed(0)
    net = PointNet(3)
    without = PointNet(3, input_transform=False)
    without.layers.load_state_dict(net.layers.state_dict())
    points = cloud().float()
    assert torch.equal(net(points), without(points))
    net(points).square().sum().backward()
    assert net.transform is not None
    assert net.transform.matrix[-1].weight.grad.abs().max() > 0


def test_features_of_points_pass_the_transform_unchanged() -> None:
    transform = network(5).transform
    points = cloud(d=5)
    turned = transform(points, None)
    assert torch.equal(turned[:, :, 3:], points[:, :, 3:])
    assert not torch.allclose(turned[:, :, :3], points[:, :, :3])
    # One matrix a cloud: what it does is linear in the coordinates.
    matrix = torch.linalg.lstsq(points[:, :, :3], turned[:, :, :3]).solution
    torch.testing.assert_close(points[:, :, :3] @ matrix, turned[:, :, :3])


def test_gradients_are_those_of_differences() -> None:
    net = network(hidden=(6, 5))
    points = cloud(2, 6).requires_grad_()
    there = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    assert torch.autograd.gradcheck(lambda x: net(x, there), (points,), atol=1e-6)
    (gradient,) = torch.autograd.grad(net(points, there).square().sum(), points)
    assert torch.equal(gradient[1, 4:], torch.zeros(2, 3).double())


def encoder(**options: Any) -> PointsEncoder:
    torch.manual_seed(0)
    return PointsEncoder(PointNet(3), 3, 8, **options)


class Mean(nn.Module):
    """The mean of the points: shows what reaches a backbone."""

    def __init__(self, power: int = 1) -> None:
        super().__init__()
        self.power = power

    def forward(self, points: Tensor, there: Tensor | None = None) -> Tensor:
        return points.pow(self.power).mean(dim=1)


def test_random_rotations_keep_distances_and_are_uniform() -> None:
    class Flat(nn.Module):
        def forward(self, points: Tensor, there: Tensor | None = None) -> Tensor:
            return points.flatten(1)

    for d in (2, 3):
        turn = PointsEncoder(Flat(), d, None, rotate=True)
        torch.manual_seed(0)
        turned = turn(torch.eye(d).repeat(4000, 8 // d, 1)).view(4000, -1, d)[:, :d]
        torch.testing.assert_close(
            turned @ turned.mT, torch.eye(d).repeat(4000, 1, 1), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(torch.linalg.det(turned), torch.ones(4000), atol=1e-5, rtol=0)
        # Each entry of a uniform rotation has mean 0 and variance 1 / d.
        assert turned.mean(0).abs().max() < 4 / (d * 4000) ** 0.5
        assert (turned.var(0) - 1 / d).abs().max() < 0.05
        turn.eval()
        torch.testing.assert_close(turn(torch.eye(d)[None]), torch.eye(d).view(1, -1))


def test_jitter_moves_coordinates_in_training_only() -> None:
    jittered = PointsEncoder(Mean(2), 5, None, jitter=0.5)
    torch.manual_seed(0)
    noise = jittered(torch.zeros(3, 20_000, 5))
    torch.testing.assert_close(noise[:, :3], torch.full((3, 3), 0.25), atol=0.01, rtol=0)
    assert torch.equal(noise[:, 3:], torch.zeros(3, 2))
    jittered.eval()
    assert torch.equal(jittered(torch.zeros(3, 9, 5)), torch.zeros(3, 5))


def test_built_from_a_modality() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"organ": [rng.normal(size=(k, 4)) for k in (9, 5)]})
    modality = Points("organ", hidden=(8, 12), rotate=True, jitter=0.1, dropout=0.5).fit(frame)
    built = build_encoder(modality, 6)
    assert isinstance(built, PointsEncoder)
    assert (built.feature_width, built.width, built.rotate, built.jitter) == (12, 6, True, 0.1)
    assert isinstance(built.projection[-1], nn.Dropout)
    early = build_encoder(modality, None)
    assert early.width == early.feature_width == 12
    plain = build_encoder(copy.copy(modality).set_params(input_transform=False), 6)
    assert plain.backbone.transform is None
    own = build_encoder(copy.copy(modality).set_params(encoder=lambda d: Mean(d - 3)), 6)
    assert own.feature_width == 4


class NoMask(nn.Module):
    def forward(self, points: Tensor, there: Tensor) -> Tensor:
        return points.mean(1)


@pytest.mark.parametrize(
    ("made", "error", "message"),
    [
        ("pointnext", ValueError, "'pointnet' or a function .* Got 'pointnext'"),
        (Mean(), ValueError, "or a function"),
        (lambda d: d, TypeError, "must return a torch.nn.Module. Got int"),
        (lambda d: nn.Linear(d, 2), ValueError, "must return a tensor of shape"),
        (lambda d: NoMask(), ValueError, "cannot read rows of shape.*'there'"),
    ],
)
def test_a_bad_encoder_is_named(made: Any, error: type, message: str) -> None:
    frame = pd.DataFrame({"organ": [np.random.default_rng(0).normal(size=(9, 3))]})
    with pytest.raises(error, match=message):
        build_encoder(Points("organ", encoder=made).fit(frame), 6)


def test_own_network_with_batch_norm_and_one_cloud_in_training() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)

        def forward(self, points: Tensor, there: Tensor | None = None) -> Tensor:
            return self.norm(points.mean(1))

    encoder = PointsEncoder(Normed(), 3, None).train()
    assert torch.isfinite(encoder(cloud(1).float())).all()
    assert encoder.backbone.norm.training
