from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from mmfusion.encoders import SmallCNN, VisionEncoder
from mmfusion.encoders.scaler import FeatureScaler


def cnn(**options: object) -> VisionEncoder:
    return VisionEncoder(SmallCNN(3, (16, 16)), 3, (16, 16), 8, **options)  # type: ignore[arg-type]


def pixels(n: int, channels: int = 3, size: int = 16) -> Tensor:
    return torch.randint(0, 256, (n, channels, size, size), dtype=torch.uint8)


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (64, 64), (9, 30), (1, 1)])
def test_cnn_reads_any_size(size: tuple[int, int]) -> None:
    assert SmallCNN(1, size)(torch.randn(2, 1, *size)).shape == (2, 128)


def test_cnn_does_not_mix_rows() -> None:
    net, images = SmallCNN(3, (16, 16)).train(), torch.randn(6, 3, 16, 16)
    assert torch.allclose(net(images)[2:4], net(images[2:4]), atol=1e-5)


def test_normalisation_equals_its_formula() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    encoder = VisionEncoder(nn.Flatten(), 3, (4, 4), None, mean=mean, std=std)
    images = pixels(5, size=4)
    expected = (images.double() / 255 - torch.tensor(mean).double()[:, None, None]) / torch.tensor(
        std
    ).double()[:, None, None]
    assert torch.allclose(encoder.features(images).double(), expected.flatten(1), atol=1e-5)
    as_float = images.float() / 255
    kept = as_float.clone()
    assert torch.allclose(encoder.features(as_float), encoder.features(images), atol=1e-5)
    assert torch.equal(as_float, kept)  # the caller's pixels are not written to


def test_three_values_serve_grey_images_by_their_mean() -> None:
    encoder = VisionEncoder(nn.Flatten(), 1, (4, 4), None, mean=(0.1, 0.2, 0.6), std=(1, 2, 3))
    assert encoder.mean.flatten().tolist() == pytest.approx([0.3])
    assert encoder.std.flatten().tolist() == [2.0]


def test_bag_is_the_mean_of_its_images_in_any_order_of_the_bag() -> None:
    encoder = cnn().eval()
    images, owner = pixels(6), torch.tensor([0, 0, 0, 1, 2, 2])
    single = encoder.features(images)
    bags = encoder.features(images, owner)
    expected = torch.stack([single[:3].mean(0), single[3], single[4:].mean(0)])
    assert torch.allclose(bags, expected, atol=1e-6)
    order = torch.tensor([2, 0, 1, 3, 5, 4])
    assert torch.allclose(encoder.features(images[order], owner), bags, atol=1e-6)


def test_bag_mean_is_in_single_precision_under_autocast() -> None:
    encoder = cnn().eval()
    images, owner = pixels(300), torch.zeros(300, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16):
        bag, single = encoder.features(images, owner), encoder.features(images)
    assert bag.dtype == torch.float32
    assert torch.allclose(bag, single.double().mean(0, keepdim=True).float(), atol=1e-5)


class Counting(nn.Module):
    """A backbone with every kind of layer that freezing must reach."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.body = nn.Sequential(nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.Dropout(0.5))
        self.drop = nn.Dropout(0.5)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.drop(self.body(self.stem(x))))


def test_frozen_stages_stay_in_evaluation_mode_and_the_rest_trains() -> None:
    encoder = VisionEncoder(Counting(), 3, (16, 16), 8, freeze=1)
    backbone = encoder.backbone
    before = backbone.stem[1].running_mean.clone(), backbone.body[1].running_mean.clone()
    encoder.train()
    encoder(pixels(8)).sum().backward()
    assert not any(m.training for m in backbone.stem.modules())
    assert all(m.training for m in [*backbone.body.modules(), backbone.drop, encoder.projection])
    assert torch.equal(backbone.stem[1].running_mean, before[0])
    assert not torch.equal(backbone.body[1].running_mean, before[1])
    assert not encoder.frozen
    assert encoder.scaler is None


def test_all_frozen_is_frozen_throughout() -> None:
    encoder = VisionEncoder(Counting(), 3, (16, 16), 8, freeze="all").train()
    assert encoder.frozen
    assert not any(m.training for m in encoder.backbone.modules())
    images = pixels(4)
    assert torch.equal(encoder.features(images), encoder.features(images))
    assert [len(g["params"]) for g in encoder.parameter_groups()] == [2]


def test_batch_norm_with_one_image_in_training() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 6), nn.BatchNorm1d(6))
    encoder = VisionEncoder(net, 3, (4, 4), 8).train()
    before = net[2].running_mean.clone()
    assert torch.isfinite(encoder(pixels(1, size=4))).all()
    assert torch.equal(net[2].running_mean, before)
    assert net[2].training
    encoder(pixels(2, size=4))
    assert not torch.equal(net[2].running_mean, before)


def test_learning_rate_scale_is_the_backbones() -> None:
    first, second = cnn(lr_scale=0.1).parameter_groups()
    assert first["lr_scale"] == 0.1
    assert "lr_scale" not in second
    assert len(second["params"]) == 2


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ("some", "None, 'all' or a positive number"),
        (0, "positive number of stages. Got 0"),
        (True, "Got True"),
        (1.0, "Got 1.0"),
        (9, "at most 3, the stages of SmallCNN. Got 9"),
    ],
)
def test_bad_freeze(freeze: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cnn(freeze=freeze)


@pytest.mark.parametrize("n_components", [0, -1, 1.0, 0.0, True, "5", float("nan")])
def test_bad_n_components(n_components: object) -> None:
    with pytest.raises(ValueError, match="n_components parameter of Image must be a positive"):
        cnn(freeze="all", n_components=n_components)


def test_components_need_frozen_features_and_a_known_width() -> None:
    with pytest.raises(ValueError, match="needs freeze='all'"):
        cnn(n_components=3)
    with pytest.raises(ValueError, match=r"must be an integer for early fusion\. Got 0\.5"):
        VisionEncoder(nn.Flatten(), 3, (4, 4), None, n_components=0.5)


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (nn.Identity(), ValueError, r"pool and flatten its output. Got \(2, 3, 16, 16\)"),
        (nn.Linear(5, 2), ValueError, r"Linear cannot read rows of shape \(3, 16, 16\)"),
        (nn.LSTM(16, 4), ValueError, "LSTM cannot read"),
        (nn.Flatten(0), ValueError, r"Got \(1536,\) for 2 rows"),
    ],
)
def test_backbones_that_do_not_fit(module: nn.Module, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        VisionEncoder(module, 3, (16, 16), 8)


def test_backbone_that_returns_no_tensor() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x.mean((2, 3)), x

    with pytest.raises(TypeError, match=r"Pair must return a tensor of shape .* Got tuple"):
        VisionEncoder(Pair(), 3, (16, 16), 8)


def test_the_dry_run_leaves_no_trace() -> None:
    net = Counting()
    net.stem.eval()
    modes, state = [m.training for m in net.modules()], torch.get_rng_state()
    mean = net.body[1].running_mean.clone()
    encoder = VisionEncoder(net, 3, (16, 16), None, freeze=None)
    assert encoder.feature_width == 5
    assert torch.equal(net.body[1].running_mean, mean)
    assert torch.equal(torch.get_rng_state(), state)
    from mmfusion.encoders.own import output_width

    fresh = Counting()
    fresh.stem.eval()
    output_width(fresh, (3, 16, 16))
    assert [m.training for m in fresh.modules()] == modes


# Frozen features -------------------------------------------------------------------------------


def correlated(n: int, f: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 4)) @ rng.normal(size=(4, f)) + 0.1 * rng.normal(size=(n, f)) + 3


@pytest.mark.parametrize("shape", [(60, 10), (12, 30)])
def test_components_equal_scikit_learns_on_standardised_features(shape: tuple[int, int]) -> None:
    values = correlated(*shape)
    scaler = FeatureScaler(shape[1], 3).double()
    scaler.fit(torch.from_numpy(values))
    pca = PCA(3, svd_solver="full")
    scores = pca.fit_transform(StandardScaler().fit_transform(values))
    got = scaler(torch.from_numpy(values)).numpy()
    sign = np.sign((got * scores).sum(0))
    assert np.allclose(got, sign * scores / scores[:, 0].std(ddof=1), atol=1e-8)
    loadings = scaler.components.numpy()
    assert (loadings[np.abs(loadings).argmax(0), range(3)] > 0).all()
    assert got.std(0, ddof=1)[0] == pytest.approx(1.0)


def test_a_share_keeps_as_many_components_as_it_takes() -> None:
    values = correlated(100, 12)
    scaler = FeatureScaler(12, 0.9)
    scaler.fit(torch.from_numpy(values))
    ratios = PCA().fit(StandardScaler().fit_transform(values)).explained_variance_ratio_
    assert scaler.components.shape == (12, int(np.searchsorted(ratios.cumsum(), 0.9)) + 1)


def test_constant_features_become_zero_and_outliers_are_clipped() -> None:
    values = torch.randn(50, 3)
    values[:, 1] = 0.1
    scaler = FeatureScaler(3)
    scaler.fit(values)
    new = torch.tensor([[1e6, 7.0, -1e6]])
    assert scaler(new).tolist() == [[5.0, 0.0, -5.0]]
    inside = scaler(values[:, [0, 1, 2]])[:, [0, 2]]
    expected = StandardScaler().fit_transform(values.double().numpy())[:, [0, 2]]
    assert np.allclose(inside, expected, atol=1e-5)


def test_more_components_than_rows_is_an_error_that_counts() -> None:
    encoder = cnn(freeze="all", n_components=7)
    with pytest.raises(ValueError, match=r"at most 5, the smaller of the training rows .* \(5\)"):
        encoder.fit_features(encoder.features(pixels(5)))


def test_project_before_fit_features_is_an_error() -> None:
    encoder = cnn(freeze="all", n_components=2)
    with pytest.raises(RuntimeError, match="fit_features"):
        encoder(pixels(5))


def test_fitted_features_do_not_move_with_their_batch() -> None:
    encoder = cnn(freeze="all", n_components=3).eval()
    features = encoder.features(pixels(20))
    encoder.fit_features(features)
    assert torch.allclose(encoder.project(features)[:2], encoder.project(features[:2]), atol=1e-6)
