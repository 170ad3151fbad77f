from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from sklearn.utils import Bunch

from mmfusion.datasets import make_shapes


@pytest.fixture(scope="module")
def cohort() -> Bunch:
    return make_shapes(1000)


def measured(surface: np.ndarray) -> tuple[float, float]:
    """Return the long semi-axis over the others, and the radius, from a cloud's spread."""
    x, y, z = np.sqrt(3 * surface.var(axis=0))
    return x / np.sqrt(y * z), float((x * y * z) ** (1 / 3))


def test_clouds_have_the_shape_that_the_truth_says(cohort: Bunch) -> None:
    found = np.array([measured(surface) for surface in cohort.frame["surface"]])
    truth = cohort.truth
    # exp(0.25 z) / exp(-0.125 z), blurred by 100 to 200 points and by noise.
    error = np.log(found[:, 0]) / 0.375 - truth.elongation
    assert np.abs(error.mean()) < 0.05
    assert error.std() < 0.4
    assert np.corrcoef(np.log(found[:, 1]), np.log(truth.size))[0, 1] > 0.9
    assert abs(np.corrcoef(truth.size, truth.elongation)[0, 1]) < 0.1
    counts = cohort.frame["surface"].map(len)
    assert counts.min() == 100
    assert counts.max() == 200


def test_cox_finds_the_truth(cohort: Bunch) -> None:
    data = cohort.frame[["age", "treatment"]].assign(
        elongation=cohort.truth.elongation,
        size=cohort.truth.size,
        time=cohort.target["time"],
        event=cohort.target["event"],
    )
    fit = CoxPHFitter().fit(data, "time", "event")
    true = cohort.truth.coefficients.reindex(fit.params_.index, fill_value=0.0)
    assert (((fit.params_ - true) / fit.standard_errors_).abs() < 3).all()
    assert fit.standard_errors_["elongation"] < 0.08
    total = cohort.truth.log_hazard
    np.testing.assert_allclose(total["total"], total["table"] + total["shape"])
    assert 0.25 < 1 - cohort.target["event"].mean() < 0.35


def test_missing_clouds_and_their_size_leave_the_outcome_alone() -> None:
    plain, other = make_shapes(80), make_shapes(80, missing=0.25, n_points=7)
    assert other.frame["surface"].isna().sum() == 20
    assert set(other.frame["surface"].dropna().map(np.shape)) == {(7, 3)}
    np.testing.assert_array_equal(plain.target, other.target)
    again = make_shapes(80)
    pd.testing.assert_frame_equal(again.frame, plain.frame)
    assert (make_shapes(80, random_state=1).target["time"] != plain.target["time"]).all()
    assert pickle.loads(pickle.dumps(plain)).truth.survival_function([12.0]).shape == (80, 1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n": 0}, "n parameter"),
        ({"n_points": 0}, "n_points parameter .* Got 0"),
        ({"n_points": (9, 5)}, "rising order"),
        ({"n_points": 4.5}, "n_points"),
        ({"missing": 1.0}, "missing parameter"),
        ({"censoring": -0.1}, "censoring parameter"),
    ],
)
def test_bad_parameters(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_shapes(**params)
