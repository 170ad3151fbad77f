"""Formulas of many classes: the information in one product, no array of pairs of classes."""

from __future__ import annotations

import resource
import time
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn.linear_model import LogisticRegression

from mmfusion.estimators import FusionClassifier, FusionRegressor
from mmfusion.heads import CategoricalHead
from mmfusion.structured import Design, Layout, Likelihood
from mmfusion.structured.approach import approach
from mmfusion.structured.newton import newton
from mmfusion.structured.symmetric import Symmetric


def draw(n: int, p: int, k: int) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, p))
    y = (x @ rng.normal(size=(p, k)) + rng.gumbel(size=(n, k))).argmax(1)
    return pd.DataFrame(x, columns=[f"x{i}" for i in range(p)]), y


def test_the_information_is_that_of_the_whole_hessians() -> None:
    frame, y = draw(60, 2, 4)
    head = CategoricalHead()
    target = head.fit_outcome(y, np.random.default_rng(1).uniform(0, 2, 60))
    likelihood = Likelihood(head, target)
    contrasts = np.vstack([np.zeros(3), np.eye(3)])
    design = np.einsum("np,kf->nkfp", frame.to_numpy(), contrasts).reshape(60 * 4, 6)
    eta = np.random.default_rng(2).normal(size=(60, 4))
    whole = head.derivatives(likelihood._tensor(eta), target)[1].numpy() * head.total(target)
    rows = design.reshape(60, 4, 6)
    expected = np.einsum("nkp,nkl,nlq->pq", rows, whole, rows)
    np.testing.assert_allclose(np.asarray(likelihood.information(eta, design)), expected)


def test_coefficients_and_errors_are_statsmodels() -> None:
    frame, y = draw(500, 3, 4)
    model = FusionClassifier(modalities={}, structured="x0 + x1 + x2").fit(frame, y)
    other = sm.MNLogit(y, sm.add_constant(frame)).fit(disp=0, tol=1e-10, maxiter=100)
    coef = model.effects_["coef"].to_numpy().reshape(3, 4).T
    np.testing.assert_allclose(coef, other.params.to_numpy(), rtol=1e-5, atol=1e-6)
    se = model.effects_["se"].to_numpy().reshape(3, 4).T
    np.testing.assert_allclose(se, other.bse.to_numpy(), rtol=1e-4)


@pytest.mark.parametrize("n", [80, 5000])  # of the many some rows lead on
@pytest.mark.parametrize("ridge", [0.0, 3.0])
def test_first_derivatives_lead_to_newtons_minimum(n: int, ridge: float) -> None:
    frame, y = draw(n, 2, 4)
    head = CategoricalHead()
    weight = np.random.default_rng(1).uniform(0.5, 2, n)
    likelihood = Likelihood(head, head.fit_outcome(y, weight))
    rows = np.column_stack([np.ones(n), frame])
    contrasts = np.vstack([np.zeros(3), np.eye(3)])
    matrix = np.einsum("np,kf->nkfp", rows, contrasts).reshape(n * 4, 9)
    design = Design.dense_of(matrix, 4)
    offset = np.random.default_rng(2).normal(size=(n, 4))
    given = likelihood, design, Symmetric.of(ridge * np.eye(9)), np.zeros(9), offset
    information = likelihood.information(offset, design)
    found = approach(*given, information, 1e-8)
    np.testing.assert_allclose(found, newton(*given).coef, atol=1e-8)
    assert newton(*given, information=information).n_iter <= 1


def test_rows_alike_have_the_information_of_one() -> None:
    design = Design.dense_of(np.random.default_rng(0).normal(size=(30 * 3, 4)), 3)
    weight = np.random.default_rng(1).uniform(size=(30, 1))
    curvature = np.array([[2.0, -1, -1], [-1, 1, 0], [-1, 0, 1]])
    expected = np.asarray(design.cross(weight[:, :, None] * curvature))
    np.testing.assert_allclose(design.cross_alike(weight, curvature), expected)
    frame, y = draw(200, 3, 4)
    layout = Layout("x0 + x1 + re(g)").fit(frame.assign(g=y % 3), _fitted(y))
    design = layout.transform(frame.assign(g=y % 3))
    weight = np.random.default_rng(1).uniform(size=(200, 1))
    curvature = np.diag([0.1, 0.2, 0.3, 0.4]) - np.outer([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4])
    expected = np.asarray(design.cross(weight[:, :, None] * curvature))
    np.testing.assert_allclose(design.cross_alike(weight, curvature), expected, atol=1e-12)


def _fitted(y: np.ndarray) -> CategoricalHead:
    head = CategoricalHead()
    head.fit_outcome(y)
    return head


@pytest.mark.slow
def test_a_hundred_classes_fit() -> None:
    frame, y = draw(10_000, 10, 100)
    model = FusionClassifier(modalities={}, structured=" + ".join(frame.columns)).fit(frame, y)
    theirs = LogisticRegression(C=np.inf, tol=1e-8, max_iter=10_000).fit(frame, y)
    coef = model.effects_["coef"].to_numpy().reshape(-1, 11)[:, 1:]
    np.testing.assert_allclose(coef, theirs.coef_[1:] - theirs.coef_[0], rtol=1e-3, atol=1e-3)


def test_ten_classes_are_scikit_learns_without_a_large_array() -> None:
    frame, y = draw(20_000, 10, 10)
    model = FusionClassifier(modalities={}, structured=" + ".join(frame.columns))
    theirs = LogisticRegression(C=np.inf, tol=1e-8, max_iter=10_000).fit(frame, y)
    model.fit(frame, y)  # what is imported at first
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model.fit(frame, y)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 100
    coef = model.effects_["coef"].to_numpy().reshape(9, 11)[:, 1:]
    np.testing.assert_allclose(coef, theirs.coef_[1:] - theirs.coef_[0], atol=1e-4)


def test_ten_classes_need_no_array_of_their_pairs() -> None:
    frame, y = draw(5000, 5, 10)
    model = FusionClassifier(modalities={}, structured=" + ".join(frame.columns))
    model.fit(frame, y)
    tracemalloc.start()
    model.fit(frame, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5000 * 10 * 9 * 6 * 8 / 2  # of n K (K - 1) p numbers


def test_thousands_of_levels_need_no_dense_design() -> None:
    rng = np.random.default_rng(0)
    n, levels = 20_000, 5000
    code, effects = rng.integers(0, levels, n), rng.normal(size=levels)
    frame = pd.DataFrame({"x": rng.normal(size=n), "g": code})
    y = frame["x"] + effects[code] + rng.normal(size=n)
    model = FusionRegressor(modalities={}, structured="x + re(g)")
    tracemalloc.start()
    started = time.process_time()
    model.fit(frame, y)
    taken, peak = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n * levels * 8 / 10  # 800 MB in full
    assert taken < 20
    assert model.effects_.loc["re(g)", "sd"] == pytest.approx(1.0, abs=0.05)
    assert model.effects_.loc["x", "coef"] == pytest.approx(1.0, abs=0.03)
