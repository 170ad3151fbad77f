"""FusionPAMM where the truth is known: hazards that cross, and a digit's effect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from mmfusion.estimators import FusionCox, FusionPAMM
from mmfusion.fusion import JointFusion
from mmfusion.metrics import integrated_brier_score
from mmfusion.modalities import Image
from mmfusion.survival import surv

pytestmark = pytest.mark.slow


def times_of(log_hazard: Any, n: int, end: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return times to event by inverting the cumulative hazard on a fine grid; inf beyond `end`."""
    edges = np.linspace(0.0, end, 1201)
    middle = (edges[1:] + edges[:-1]) / 2
    rates = np.exp(np.stack([log_hazard(t) for t in middle], axis=1))
    total = np.cumsum(rates * np.diff(edges), axis=1)
    wanted = rng.exponential(size=n)
    place = (total < wanted[:, None]).sum(1)
    inside = place < len(middle)
    at = place.clip(max=len(middle) - 1)
    rows = np.arange(n)
    share = 1 - (total[rows, at] - wanted) / (rates[rows, at] * np.diff(edges)[0])
    return np.where(inside, edges[at] + share * np.diff(edges)[0], np.inf)


# --- hazards that cross --------------------------------------------------------------------------


def effect(t: Any) -> Any:
    """Return the log hazard ratio of x at a time: it changes its sign at 1.3."""
    return 1.0 - 0.9 * t + 0.3 * np.sin(2 * t)


def crossing(n: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"x": rng.integers(0, 2, n).astype(float), "z": rng.normal(size=n)})
    x, z = frame["x"].to_numpy(), frame["z"].to_numpy()
    time = times_of(lambda t: -0.6 + 0.4 * z + x * effect(t), n, 3.0, rng)
    limit = rng.uniform(1.0, 3.0, n)
    return frame, surv(np.minimum(time, limit), time <= limit)


def test_crossing_hazards_are_better_predicted_than_by_coxs_model() -> None:
    test, outcome = crossing(2000, 1000)
    grid = np.linspace(0.2, 2.4, 23)
    gains = []
    for seed in range(8):
        frame, y = crossing(600, seed)
        models = (
            FusionPAMM({}, structured="z + tv(x)", n_intervals=20),
            FusionCox({}, structured="z + x"),
        )
        curves = [m.fit(frame, y).predict_survival_function(test, grid) for m in models]
        ours, cox = (integrated_brier_score(y, outcome, c.to_numpy(), grid) for c in curves)
        gains.append(cox - ours)
    assert np.mean(gains) > 3 * np.std(gains, ddof=1) / np.sqrt(len(gains))


# --- a digit raises the hazard (after the simulation of Kopper et al. 2022) ----------------------


def digits_cohort(seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Return scikit-learn's digits as images, three covariates, and an outcome of all of them."""
    digits = load_digits()
    rng = np.random.default_rng(seed)
    n = len(digits.target)
    frame = pd.DataFrame(
        {
            "image": pd.Series(list((digits.images * 15.9).astype(np.uint8)), dtype=object),
            "high": (digits.target > 5).astype(float),
            "x1": rng.uniform(0, 1, n),
            "x2": rng.uniform(0, 1, n),
            "x3": rng.uniform(0, 3, n),
        }
    )

    def log_hazard(t: float) -> np.ndarray:
        gamma = 2.0**8 * t**7 * np.exp(-2 * t) / 5040
        covariates = -2 * frame["x1"] + 3 * np.sqrt(frame["x2"]) - 0.1 * frame["x1"] * frame["x3"]
        baseline = -3.5 + 6 * gamma + 0.75 * np.sin(t / 10)
        return (baseline + covariates + 1.25 * frame["high"]).to_numpy()

    time = times_of(log_hazard, n, 30.0, rng)
    limit = np.minimum(rng.uniform(0, 60, n), 30.0)
    return frame, surv(np.minimum(time, limit).clip(1e-3), time <= limit)


# One network, for speed. Over five data sets the score lies 4.4 % above the oracle's on average, by
# default 4.8 % (benchmarks/pamm_digits.py): on this one, where settings were tried, 4.8 and 5.1 %.
@pytest.mark.filterwarnings("ignore:The intervals")
def test_a_digit_in_an_image_is_as_good_as_known() -> None:
    frame, y = digits_cohort()
    train, test = np.arange(1300), np.arange(1300, len(frame))
    grid = np.linspace(0.5, 20, 40)
    common: dict[str, Any] = {"cuts": [0.1, 0.5, *range(1, 31)]}
    formula = "x1 + x1:x3 + s(x2)"
    oracle = FusionPAMM({}, structured=f"{formula} + high", **common)
    blind = FusionPAMM({}, structured=formula, **common)
    deep = FusionPAMM(
        {"scan": Image("image", size=8, channels="L", encoder="cnn")},
        JointFusion(hidden=(32,)),
        structured=formula,
        epochs=150,
        learning_rate=0.005,
        patience=30,
        device="cpu",
        random_state=0,
        linear=False,
        n_members=1,
        **common,
    )
    scores = {}
    for name, model in (("oracle", oracle), ("blind", blind), ("deep", deep)):
        model.fit(frame.iloc[train], y[train])
        curves = model.predict_survival_function(frame.iloc[test], grid).to_numpy()
        scores[name] = integrated_brier_score(y[train], y[test], curves, grid)
    assert scores["deep"] < 1.05 * scores["oracle"] < scores["blind"]
    assert abs(deep.effects_.loc["x1", "coef"] + 2) < 2 * deep.effects_.loc["x1", "se"]
