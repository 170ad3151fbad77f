"""A location and a spread that images move: found, and honest about it on new rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from torch import nn

from mmfusion import Image
from mmfusion.estimators import FusionDistribution
from mmfusion.fusion import JointFusion
from mmfusion.metrics import crps, interval_coverage
from tests.helpers import Frozen


def small_network() -> nn.Module:
    """Return an encoder of 8 x 8 images: one convolution."""
    layers = [nn.Conv2d(1, 4, 4, stride=2, padding=1), nn.SiLU(), nn.AvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers)


def draw(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray, Frozen]:
    """Return images whose halves' brightness moves the location and the spread of y."""
    rng = np.random.default_rng([seed, n])
    left, right = rng.uniform(-1, 1, size=(2, n))
    pixels = rng.normal(128, 25, size=(n, 8, 8))
    pixels[:, :, :4] += 60 * left[:, None, None]
    pixels[:, :, 4:] += 60 * right[:, None, None]
    frame = pd.DataFrame({"x": rng.normal(size=n)})
    frame["image"] = list(pixels.clip(0, 255).astype(np.uint8))
    truth = Frozen(stats.norm, loc=0.5 * frame["x"] + 1.5 * left, scale=np.exp(0.7 * right))
    return frame, truth.sample(1, random_state=rng)[:, 0], truth


@pytest.mark.slow
def test_a_spread_that_images_move_is_found_and_intervals_hold_their_level() -> None:
    X, y, _ = draw(1500, 0)
    new, y_new, truth = draw(4000, 1)
    model = FusionDistribution(
        {"scan": Image("image", size=8, channels="L", encoder=small_network)},
        structured={"loc": "x"},
        deep=("loc", "scale"),
        fusion=JointFusion("concat", dim=16, hidden=(16,), dropout=0.0),
        n_members=1,
        epochs=30,
        patience=8,
        learning_rate=0.01,
        random_state=0,
    ).fit(X, y)
    found = model.predict_distribution(new)
    assert crps(y_new, found).mean() < 1.03 * crps(y_new, truth).mean()
    spreads = np.log(found.std), np.log(truth.std)
    assert np.corrcoef(*spreads)[0, 1] > 0.9
    raw = interval_coverage(y_new, *model.predict_interval(new).to_numpy().T)
    assert 0.88 < raw < 0.92
    model.calibrate(*draw(1999, 2)[:2])
    held = interval_coverage(y_new, *model.predict_interval(new).to_numpy().T)
    assert held == pytest.approx(0.9, abs=0.02)  # of one calibration, and of 4,000 rows
    # By how bright the right half is: where it is calm, and where it is not.
    inside = model.predict_interval(new)
    hit = (inside["lower"] <= y_new) & (y_new <= inside["upper"])
    calm = truth.std < np.median(truth.std)
    assert hit[calm].mean() == pytest.approx(0.9, abs=0.04)
    assert hit[~calm].mean() == pytest.approx(0.9, abs=0.04)
