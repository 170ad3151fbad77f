"""Curves of attributions over time, and the checks of attributions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmfusion import Image, Tabular, surv
from mmfusion.estimators import FusionPAMM, FusionRegressor
from mmfusion.interpret import attribute, attribute_over_time, sanity
from mmfusion.interpret.sanity import (
    correlations,
    deletion_insertion,
    permuted_labels,
    randomized,
    randomized_weights,
)
from tests.interpret.test_attribution import formulas


def crossing(n: int = 600, seed: int = 0) -> tuple[pd.DataFrame, Any]:
    """Return a table of which x first raises the hazard and from time 1 on lowers it."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    unit = rng.exponential(size=n)
    early = np.exp(1.2 * x)
    time = np.where(
        unit < 0.4 * early, unit / (0.4 * early), 1 + (unit - 0.4 * early) / np.exp(-1.6 * x)
    )
    frame = pd.DataFrame({"x": x, "z": rng.normal(size=n)})
    censored = rng.uniform(0.5, 6, n)
    return frame, surv(np.minimum(time, censored), time <= censored)


def test_the_curve_of_an_effect_that_turns_turns_too() -> None:
    frame, y = crossing()
    model = FusionPAMM({}, structured="tv(x) + z", n_intervals=25).fit(frame, y)
    times = [0.2, 0.5, 0.9, 2.0, 3.0, 4.0]
    high = frame.assign(x=1.5)[:20]
    values, summary = attribute_over_time(model, high, times)
    assert list(values) == ["subject", "modality", "feature", "time", "value"]
    assert len(values) == 20 * 2 * 6
    mean = values[values["feature"] == "x"].groupby("time")["value"].mean()
    assert mean[0.9] < -0.1  # fewer live
    # Who is left dies late: in the truth S(t | x = 1.5) falls below the mean's and rises above it.
    eta = {}
    for which, x in (("high", 1.5), ("mean", float(frame["x"].mean()))):
        eta[which] = np.exp(-0.4 * np.exp(1.2 * x) * np.minimum(times, 1.0)) * np.exp(
            -np.exp(-1.6 * x) * np.maximum(np.subtract(times, 1), 0)
        )
    truth = eta["high"] - eta["mean"]
    assert truth[0] < 0 < truth[-1]
    assert (np.sign(mean.to_numpy()) == np.sign(truth))[[0, 1, 2, 4, 5]].all()
    assert summary.index[0] == ("(formula)", "x")
    assert summary["first"].iloc[0] < 0 < summary["last"].iloc[0]
    one = attribute(model, high, target=("survival", 0.9))
    of_x = values[(values["feature"] == "x") & (values["time"] == 0.9)].set_index("subject")
    np.testing.assert_allclose(of_x["value"], one.tables["(formula)"]["x"])
    importance = np.trapezoid(
        values[values["feature"] == "x"]
        .assign(value=lambda t: t["value"].abs())
        .groupby("time")["value"]
        .mean()
        .to_numpy(),
        times,
    ) / (times[-1] - times[0])
    assert summary["importance"].iloc[0] == pytest.approx(importance)


def test_sampled_shapley_values_sum_to_the_curve_at_each_time() -> None:
    frame, y = formulas()
    model = FusionPAMM({}, structured="a + C(arm)", n_intervals=8).fit(frame, y)
    some = frame[:5]
    values, _ = attribute_over_time(model, some, [0.3, 0.8], method="shapley_sampling")
    sums = values.groupby(["time", "subject"])["value"].sum().unstack("time")
    curves = model.predict_survival_function(some, [0.3, 0.8])
    start = attribute(model, some, target=("survival", 0.3)).baseline_value
    np.testing.assert_allclose(sums[0.3], curves[0.3] - start, atol=1e-7)
    incidence, _ = attribute_over_time(model, some, [0.3], cause=1)
    np.testing.assert_allclose(incidence.groupby("subject")["value"].sum(), -sums[0.3], atol=0.01)
    with pytest.raises(ValueError, match="increasing times"):
        attribute_over_time(model, some, [2.0, 1.0])


def spots(n: int = 160, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    """Return images with a spot of varying brightness in the upper left corner."""
    rng = np.random.default_rng(seed)
    size = rng.random(n)
    images = rng.normal(0.4, 0.05, (n, 16, 16))
    images[:, 3:7, 3:7] += 0.5 * size[:, None, None]
    cells = list((images.clip(0, 1) * 255).astype(np.uint8))
    frame = pd.DataFrame({"scan": pd.Series(cells, dtype=object), "x": rng.normal(size=n)})
    return frame, 4 * size + 0.1 * rng.normal(size=n)


@pytest.fixture(scope="module")
def seen() -> tuple[Any, pd.DataFrame, np.ndarray]:
    frame, y = spots()
    modalities = {
        "scan": Image("scan", size=16, channels="L"),
        "clinic": Tabular(["x"], hidden=(4,)),
    }
    params: dict[str, Any] = {"epochs": 12, "learning_rate": 0.003, "batch_size": 32}
    model = FusionRegressor(modalities, n_members=1, device="cpu", random_state=0, **params)
    return model.fit(frame, y), frame, y


@pytest.mark.filterwarnings("ignore::mmfusion.interpret.AttributionWarning")
def test_pixels_that_matter_fall_faster_and_random_weights_see_others(seen: Any) -> None:
    model, frame, y = seen
    assert model.score(frame, y) > 0.5
    some = frame[(y > 2)][:16]
    curves = deletion_insertion(model, some, "scan", n_steps=10)
    assert curves.index.tolist() == pytest.approx(np.linspace(0, 1, 11))
    found = attribute(model, some, "scan")
    for kind, at in (("deletion", (0, -1)), ("insertion", (-1, 0))):
        for column in (kind, f"random_{kind}"):
            assert curves[column].iloc[at[0]] == pytest.approx(found.value.mean(), rel=1e-5)
            assert curves[column].iloc[at[1]] == pytest.approx(
                found.baseline_value.mean(), rel=1e-5
            )
    means = curves.mean()
    assert means["deletion"] < means["random_deletion"] - 0.1
    assert means["insertion"] > means["random_insertion"] + 0.1
    maps = found.images["scan"]
    positive = maps.clip(min=0)
    assert positive[:, 2:8, 2:8].sum() > 0.6 * positive.sum()
    quick = {"n_steps": 16, "max_steps": 16}
    weights = randomized_weights(model, some[:4], "scan", n_draws=4, **quick).loc["scan"]
    assert abs(weights["correlation"]) < 0.3
    assert weights["size"] < 0.3


def test_random_weights_and_permuted_labels_change_what_is_said(monkeypatch: Any) -> None:
    frame, _ = formulas()
    number = frame["a"] * 2 + frame["b"] + 0.3 * np.random.default_rng(0).normal(size=len(frame))
    modalities = {"clinic": Tabular(["a", "b", "c", "exposure", "arm"])}
    model = FusionRegressor(modalities, n_members=0, device="cpu").fit(frame, number)
    before = model.predict(frame)
    other = randomized(model)
    assert np.corrcoef(other.predict(frame), before)[0, 1] < 0.9
    np.testing.assert_array_equal(model.predict(frame), before)
    some = frame[:20]
    weights = randomized_weights(model, some, n_draws=12)
    assert list(weights) == ["correlation", "sd", "size", "among"]
    assert abs(weights.loc["clinic", "correlation"]) < 0.3
    own = attribute(model, some)
    each = [
        correlations(own, attribute(randomized(model, seed), some))["clinic"] for seed in range(12)
    ]
    means = [one.mean() for one in each]
    assert weights.loc["clinic", "correlation"] == pytest.approx(np.mean(means))
    assert weights.loc["clinic", "sd"] == pytest.approx(np.std(means, ddof=1))
    assert weights.loc["clinic", "size"] == pytest.approx(np.mean([one.abs() for one in each]))
    with pytest.raises(ValueError, match="n_draws"):
        randomized_weights(model, some, n_draws=1)
    with monkeypatch.context() as patch:  # a method that knows no weights
        patch.setattr(sanity, "attribute", lambda *args, **options: own)
        blind = randomized_weights(model, some, n_draws=2).loc["clinic"]
    np.testing.assert_allclose(blind[["correlation", "sd", "size", "among"]], [1, 0, 1, 1])
    assert abs(permuted_labels(model, frame, number)["clinic"].mean()) < 0.3
    table = deletion_insertion(model, frame, "clinic", n_steps=5)
    assert table["deletion"].mean() < table["random_deletion"].mean()
    with pytest.raises(ValueError, match="must be one of"):
        deletion_insertion(model, frame, "clinic", method="grad_cam")
