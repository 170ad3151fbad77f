"""Proportional hazards in n + K numbers: the likelihood, its derivatives and fits are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from mmfusion.heads.piecewise import PiecewiseExponentialHead
from mmfusion.structured import Layout, Likelihood, fit_structured
from mmfusion.structured import fit as fit_module
from mmfusion.structured.separated import separated
from mmfusion.survival import surv


def draw(n: int = 90, *, entry: bool = True) -> tuple[pd.DataFrame, Any, np.ndarray]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=n), "g": rng.choice(list("abc"), n)})
    start = rng.uniform(0, 0.5, n) * (rng.random(n) < 0.5) * entry
    time = start + rng.exponential(size=n)
    return frame, surv(time, rng.random(n) < 0.7, start), rng.uniform(0.5, 2, n)


def prepared(formula: str, baseline: str | None, **options: Any) -> tuple[Any, Any, Any]:
    """Return likelihood, design and layout of a formula."""
    frame, y, weight = draw(**options)
    # The last cut lies before the last time, and cuts are coarser than the entries.
    head = PiecewiseExponentialHead(cuts=[0.0, 0.3, 0.8, 1.1, 1.6, 2.2], baseline=baseline)
    target = head.fit_outcome(y, weight)
    layout = Layout(formula).fit(frame, head)
    return Likelihood(head, target), layout.transform(frame), layout


@pytest.mark.parametrize("entry", [True, False])
@pytest.mark.parametrize("baseline", ["s(t, k=4)", None])
def test_likelihood_and_derivatives_are_those_of_all_predictors(
    baseline: str | None, entry: bool
) -> None:
    likelihood, design, _ = prepared("x + C(g)", baseline, entry=entry)
    rng = np.random.default_rng(1)
    offset = np.repeat(rng.normal(size=(design.n_rows, 1)), design.n_predictors, axis=1)
    found = separated(likelihood, design, offset)
    assert found is not None
    sums, columns, shift = found
    assert columns.table.shape[1] + columns.grid.shape[1] == design.n_columns
    coef, move = 0.3 * rng.normal(size=(2, design.n_columns))
    eta, both = design.predict(coef) + offset, columns.predict(coef) + shift
    assert_allclose(sums.value(both), likelihood.value(eta), rtol=1e-12)
    slopes, information = likelihood.derivatives(eta, design)
    own_slopes, own_information = sums.derivatives(both, columns)
    assert_allclose(columns.pull(own_slopes), design.pull(slopes), rtol=1e-10, atol=1e-10)
    assert_allclose(columns.pull(sums.gradient(both)), design.pull(slopes), rtol=1e-10, atol=1e-10)
    assert_allclose(own_information, information, rtol=1e-10, atol=1e-10)
    inverse = fit_module.Symmetric.of(np.linalg.inv(np.asarray(information)))
    known = likelihood.trace_slopes(eta, [design.predict(move)], design, inverse)
    own = sums.trace_slopes(both, [columns.predict(move)], columns, inverse)
    assert_allclose(own, known, rtol=1e-6)


def test_a_fit_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    likelihood, design, layout = prepared("s(x, k=5) + C(g)", "s(t, k=4)")
    fits = [fit_structured(likelihood, design, layout.terms, names=layout.names)]
    monkeypatch.setattr(fit_module, "separated", lambda *_: None)
    fits.append(fit_structured(likelihood, design, layout.terms, names=layout.names))
    assert_allclose(fits[0].coef, fits[1].coef, atol=1e-6)
    assert_allclose(fits[0].covariance, fits[1].covariance, rtol=1e-4, atol=1e-8)
    assert_allclose(fits[0].log_likelihood, fits[1].log_likelihood, rtol=1e-9)


@pytest.mark.parametrize("formula", ["x + x:t", "tv(x)", "s(x, t)", "x + re(g)"])
def test_what_is_no_such_sum_is_left_as_it_is(formula: str) -> None:
    likelihood, design, layout = prepared(formula, "s(t, k=4)")
    if "re(" in formula:
        design = fit_module.replace(design, apart=len(design.blocks) - 1)
    assert separated(likelihood, design, np.zeros(likelihood.shape)) is None
    assert len(layout.names) == design.n_columns


def test_an_offset_that_varies_over_the_predictors_is_no_such_sum() -> None:
    likelihood, design, _ = prepared("x", "s(t, k=4)")
    offset = np.random.default_rng(0).normal(size=likelihood.shape)
    assert separated(likelihood, design, offset) is None
