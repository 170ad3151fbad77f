"""The cumulative/dynamic AUC against scikit-survival and its O(n^2) definition."""

from __future__ import annotations

import numpy as np
import pytest
import sksurv.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfusion.metrics import cumulative_dynamic_auc
from mmfusion.survival import censoring_distribution, surv

quick = settings(max_examples=50)
GRID = np.array([1.0, 2.0, 3.5, 5.0, 6.0])


def tied(seed):
    rng = np.random.default_rng(seed)
    outcomes = []
    for _ in range(2):
        n = int(rng.integers(5, 40))
        time = rng.integers(1, 9, n).astype(float)
        event = rng.random(n) < rng.uniform(0.2, 0.95)
        time[:2], event[:2] = [1, 9], [True, True]
        outcomes.append(surv(time, event))
    return *outcomes, rng.integers(0, 6, n).astype(float), rng.integers(0, 6, (n, 5)).astype(float)


def looped(train, test, risk, t, convention):
    curve = censoring_distribution(train["time"], train["event"])
    g = curve if convention == "sksurv" else curve.left
    won = total = 0.0
    for i in np.flatnonzero(test["event"] & (test["time"] <= t)):
        for j in np.flatnonzero(test["time"] > t):
            weight = 1 / g(test["time"][i])
            won += weight * ((risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j]))
            total += weight
    return won / total


@quick
@given(st.integers(0, 2**32 - 1))
def test_as_scikit_survival_and_definition(seed):
    train, test, risk, changing = tied(seed)
    for r in (risk, changing):
        auc, mean = cumulative_dynamic_auc(train, test, r, GRID, "sksurv")
        own = cumulative_dynamic_auc(train, test, r, GRID).auc
        theirs, their_mean = sksurv.metrics.cumulative_dynamic_auc(train, test, r, GRID)
        np.testing.assert_allclose(auc, theirs, atol=1e-10)
        assert mean == pytest.approx(their_mean, abs=1e-10)
        columns = r.T if r.ndim == 2 else [r] * len(GRID)
        for found, convention in ((auc, "sksurv"), (own, "mmfusion")):
            expected = [
                looped(train, test, c, t, convention) for c, t in zip(columns, GRID, strict=True)
            ]
            np.testing.assert_allclose(found, expected, atol=1e-10)


def test_properties():
    train, test, risk, _ = tied(3)
    np.testing.assert_allclose(
        cumulative_dynamic_auc(train, test, -risk, GRID).auc,
        1 - cumulative_dynamic_auc(train, test, risk, GRID).auc,
    )
    constant = cumulative_dynamic_auc(train, test, np.zeros(len(test)), GRID)
    np.testing.assert_allclose(constant.auc, 0.5, atol=1e-12)
    assert constant.mean == pytest.approx(0.5)
    assert cumulative_dynamic_auc(train, test, -test["time"], GRID).mean == pytest.approx(1.0)


def test_undefined_times_are_nan_and_left_out():
    """scikit-survival refuses times outside the fold's follow-up."""
    y = surv([2, 3, 4, 5], [1, 1, 0, 1])
    risk = [3, 1, 2, 0]
    auc, mean = cumulative_dynamic_auc(y, y, risk, [1.0, 2.5, 3.5, 7.0])
    np.testing.assert_array_equal(np.isnan(auc), [True, False, False, True])
    assert mean == cumulative_dynamic_auc(y, y, risk, [2.5, 3.5]).mean
    with pytest.raises(ValueError, match="follow-up of y_test goes from 2 to 5"):
        cumulative_dynamic_auc(y, y, risk, [1.0, 8.0])


def test_errors():
    y = surv([1, 2, 3], [1, 1, 0])
    with pytest.raises(ValueError, match=r"\(3,\) or \(3, 2\). Got \(2,\)"):
        cumulative_dynamic_auc(y, y, [1, 2], [1, 2])
    with pytest.raises(ValueError, match="delayed entry"):
        cumulative_dynamic_auc(y, surv([1, 2], [1, 1], [0, 1]), [1, 2], [1])
    late = surv([1, 3, 5], [1, 1, 0])
    with pytest.raises(ValueError, match=r"zero at time 3, .* usable time is 2: choose times"):
        cumulative_dynamic_auc(y, late, [1, 2, 3], [1, 4], "sksurv")
    with pytest.raises(ValueError, match="'mmfusion', 'sksurv'"):
        cumulative_dynamic_auc(y, y, [1, 2, 3], [2], "pycox")
