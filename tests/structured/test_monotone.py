"""Monotone smooths: against scipy's constrained optimum, and what else of a fit they must leave."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import optimize
from scipy.interpolate import BSpline

from mmfusion.estimators import FusionClassifier, FusionCox, FusionPAMM, FusionRegressor
from mmfusion.modalities import Tabular
from mmfusion.survival import surv

GRID = np.linspace(0.01, 0.99, 99)


def draw(n: int = 250, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray, np.random.Generator]:
    """Return a table, what rises with x (but levels off), and a generator."""
    rng = np.random.default_rng(seed)
    x = np.append([0.0, 1.0], rng.uniform(0, 1, n - 2))
    frame = pd.DataFrame({"x": x, "z": rng.normal(size=n), "g": rng.choice(list("ab"), n)})
    return frame, 2 * np.clip(x - 0.5, 0, 0.3), rng


def outcome(kind: str, eta: np.ndarray, rng: np.random.Generator) -> Any:
    n = len(eta)
    if kind == "numbers":
        return eta + rng.normal(scale=0.6, size=n)
    if kind == "classes":
        return np.where(rng.random(n) < 1 / (1 + np.exp(-3 * eta)), "yes", "no")
    time, limit = rng.exponential(size=n) * np.exp(-2 * eta), rng.exponential(2.0, size=n)
    return surv(np.minimum(time, limit), time <= limit)


ESTIMATORS = {"numbers": FusionRegressor, "classes": FusionClassifier, "hazards": FusionCox}


def losses(kind: str, y: Any) -> Any:
    """Return the negative log-likelihood of predictors, and its gradient, written anew."""
    if kind == "numbers":
        return lambda eta: 0.5 * np.sum((y - eta) ** 2), lambda eta: eta - y
    if kind == "classes":
        yes = (y == "yes").astype(float)
        value = lambda eta: np.sum(np.logaddexp(0, eta) - yes * eta)  # noqa: E731
        return value, lambda eta: 1 / (1 + np.exp(-eta)) - yes
    later = (y["time"][None] >= y["time"][:, None]).astype(float)[y["event"]]

    def slopes(eta: np.ndarray) -> np.ndarray:
        weights = later * np.exp(eta)
        return (weights / weights.sum(1, keepdims=True)).sum(0) - y["event"]

    return lambda eta: np.sum(np.log(later @ np.exp(eta))) - eta[y["event"]].sum(), slopes


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("kind", list(ESTIMATORS))
def test_it_is_the_constrained_optimum(kind: str, direction: str) -> None:
    frame, rises, rng = draw()
    sign = 1 if direction == "up" else -1
    y = outcome(kind, sign * rises + 0.3 * frame["z"].to_numpy(), rng)
    formula = f"z + s(x, monotone={direction!r}, sp=0.5)"
    model = ESTIMATORS[kind]({}, structured=formula).fit(frame, y)
    fit = model.inference_.fit
    assert fit.active is not None
    assert fit.converged

    # The same in B-splines' coefficients, unconstrained but for what is asked: scipy's solution.
    x, z = frame["x"].to_numpy(), frame["z"].to_numpy()
    low, high = -0.001, 1.001
    knots = np.linspace(low - 3 * (high - low) / 7, high + 3 * (high - low) / 7, 14)
    basis = BSpline.design_matrix(x, knots, 3).toarray()
    difference = np.diff(np.eye(10), n=2, axis=0)
    penalty = difference.T @ difference
    penalty *= 0.5 * np.abs(basis).sum(1).max() ** 2 / np.linalg.norm(penalty, 1)
    design = np.column_stack([np.ones(len(x)), z, basis])
    value, slope = losses(kind, y)

    def objective(b: np.ndarray) -> tuple[float, np.ndarray]:
        eta = design @ b
        gradient = design.T @ slope(eta)
        gradient[2:] += penalty @ b[2:]
        return value(eta) + 0.5 * b[2:] @ penalty @ b[2:], gradient

    none = np.zeros((9, 2))
    found = optimize.minimize(
        objective,
        np.zeros(12),
        jac=True,
        method="SLSQP",
        constraints=[
            optimize.LinearConstraint(np.append([0.0, 0.0], basis.sum(0)), 0, 0),
            optimize.LinearConstraint(
                np.hstack([none, sign * np.diff(np.eye(10), axis=0)]), 0, np.inf
            ),
        ],
        options={"ftol": 1e-13, "maxiter": 500},
    )
    assert found.success
    ours = model.smooth_effect("s(x)", GRID)["effect"]
    theirs = BSpline.design_matrix(GRID, knots, 3).toarray() @ found.x[2:]
    assert_allclose(ours, theirs, atol=2e-5)
    assert_allclose(model.effects_.loc["z", "coef"], found.x[1], atol=2e-5)
    own = np.arange(len(fit.coef))[fit.term("s(x)").columns]
    smooth = fit.coef[own]
    eta = model.model_.structured.design(frame).predict(fit.coef)[:, 0]
    reached = value(eta) + 0.5 * smooth @ np.asarray(fit.penalty)[np.ix_(own, own)] @ smooth
    assert reached <= found.fun + 1e-7


@pytest.mark.filterwarnings("ignore:Column 'x' has")
def test_it_is_monotone_and_nearer_to_a_truth_that_is() -> None:
    errors = []
    for seed in range(4):
        frame, rises, rng = draw(seed=seed)
        y = outcome("numbers", rises, rng)
        truth = 2 * np.clip(GRID - 0.5, 0, 0.3) - rises.mean()
        models = [
            FusionRegressor({}, structured=formula).fit(frame, y)
            for formula in ("s(x)", "s(x, monotone='up')")
        ]
        free, effect = (m.smooth_effect("s(x)", GRID)["effect"].to_numpy() for m in models)
        assert np.diff(effect).min() > -1e-12
        beyond = models[1].predict(pd.DataFrame({"x": [-1.0, 0.0, 1.0, 2.0]}))
        assert np.diff(beyond).min() > -1e-12
        errors.append([np.square(one - truth).mean() for one in (effect, free)])
    assert np.mean(errors, axis=0)[0] < np.mean(errors, axis=0)[1]


def test_where_the_smooth_is_monotone_anyway_nothing_changes() -> None:
    frame, _, rng = draw()
    y = outcome("numbers", 3 * frame["x"].to_numpy() ** 2, rng)
    free, bound = (
        FusionRegressor({}, structured=formula).fit(frame, y)
        for formula in ("z + s(x)", "z + s(x, monotone='up')")
    )
    assert bound.inference_.fit.active is None
    pd.testing.assert_frame_equal(free.effects_, bound.effects_)


def test_where_all_speaks_against_it_the_smooth_is_nothing() -> None:
    frame, rises, rng = draw()
    y = outcome("numbers", rises + 0.5 * frame["z"].to_numpy(), rng)
    model = FusionRegressor({}, structured="z + s(x, monotone='down')").fit(frame, y)
    alone = FusionRegressor({}, structured="z").fit(frame, y)
    row = model.effects_.loc["s(x)"]
    assert (row["edf"], row["chi2"], row["p"]) == (pytest.approx(0, abs=1e-8), 0, 1)
    assert_allclose(model.effects_.loc["z", "coef"], alone.effects_.loc["z", "coef"], rtol=1e-8)
    assert_allclose(model.inference_.fit.scale, alone.inference_.fit.scale, rtol=1e-8)
    band = model.smooth_effect("s(x)", GRID)
    assert_allclose(band["effect"], 0, atol=1e-10)
    assert (band["se"] > 0.01).all()  # what is not known of it is known no better


def test_degrees_of_freedom_are_those_of_the_columns_that_are_left() -> None:
    frame, rises, rng = draw()
    y = outcome("classes", rises, rng)
    model = FusionClassifier({}, structured="z + s(x, monotone='up')").fit(frame, y)
    fit = model.inference_.fit
    assert fit.active is not None
    # Coefficients that fulfil A b = 0 are those of a smaller design, whose trace it is.
    _, sizes, axes = np.linalg.svd(fit.active)
    left = axes[len(sizes) :].T
    h, s = (left.T @ np.asarray(m) @ left for m in (fit.information, fit.penalty))
    inverse = np.linalg.inv(h + s)
    assert_allclose(fit.edf.sum(), np.trace(inverse @ h), rtol=1e-8)
    f = inverse @ h
    assert_allclose(fit.edf_alternative.sum(), np.trace(2 * f - f @ f), rtol=1e-8)
    assert_allclose(
        fit.face.block(fit.covariance, slice(None)), left @ inverse @ left.T, atol=1e-10
    )


def test_it_stands_beside_weights_levels_time_and_bands(tmp_path: Any) -> None:
    frame, rises, rng = draw(160)
    y = outcome("hazards", rises, rng)
    weight = rng.integers(1, 3, len(frame))
    formula = "C(g) + s(x, by=g, monotone='up') + z + s(t, monotone='down') + re(g)"
    model = FusionPAMM({}, structured=formula, n_intervals=8)
    model.fit(frame, y, sample_weight=weight.astype(float))
    twice = np.repeat(np.arange(len(frame)), weight)
    again = FusionPAMM({}, structured=formula, cuts=model.cuts_).fit(frame.iloc[twice], y[twice])
    for level in "ab":
        effects = [m.smooth_effect(f"s(x):g[{level}]", GRID)["effect"] for m in (model, again)]
        assert np.diff(effects[0]).min() > -1e-10
        assert_allclose(*effects, atol=0.02)  # the smooths are centred over other rows
    baseline = model.smooth_effect("s(t)", model._head.grid.coordinates["t"])
    assert np.diff(baseline["effect"]).max() < 1e-10
    model.save(tmp_path / "model")
    loaded = FusionPAMM.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.effects_, model.effects_)
    for bands in ("pointwise", "simultaneous"):
        found = [m.smooth_effect("s(x):g[a]", GRID, bands=bands) for m in (model, loaded)]
        pd.testing.assert_frame_equal(*found)
        assert (found[0]["se"] > 0).all()


@pytest.mark.parametrize("inference", ["robust", "cross_fit"])
def test_it_stands_beside_networks(inference: str) -> None:
    frame, rises, rng = draw(150)
    y = outcome("hazards", rises, rng)
    model = FusionCox(
        {"table": Tabular(["x", "z"], hidden=(4,))},
        structured="C(g) + s(x, monotone='down')",
        inference=inference,
        epochs=2,
        n_members=1,
        device="cpu",
        random_state=0,
    ).fit(frame, y)
    for part in (model.model_.structured.final, model.inference_.fit):
        assert part.active is not None
    effect = model.smooth_effect("s(x)", GRID)
    assert np.diff(effect["effect"]).max() < 1e-10
    assert (effect["se"] > 0).all()
    assert model.effects_.loc["s(x)", "p"] > 0.05


def test_an_effect_may_rise_over_time() -> None:
    frame, _, rng = draw()
    y = outcome("hazards", 0.3 * frame["z"].to_numpy(), rng)
    curves = [
        FusionPAMM({}, structured=f"tv(z, monotone={direction!r}, sp=0.01)", n_intervals=12)
        .fit(frame, y)
        .smooth_effect("tv(z)", np.linspace(0.1, 1, 20))["effect"]
        for direction in ("up", "down")
    ]
    assert np.diff(curves[0]).min() > -1e-10
    assert np.diff(curves[1]).max() < 1e-10
    assert np.abs(curves[0] - curves[1]).max() > 0.05


@pytest.mark.parametrize(
    ("term", "message"),
    [
        ("s(x, monotone='rising')", "'up' or 'down'"),
        ("s(x, monotone=True)", "'up' or 'down'"),
        ("s(x, bs='cr', monotone='up')", "bs='cr'"),
        ("s(x, t, monotone='up')", "several variables"),
        ("te(x, z, monotone='up')", "te\\(\\) has none"),
        ("ti(x, z, monotone='up')", "ti\\(\\) has none"),
        ("re(g, monotone='up')", "re\\(\\) has none"),
    ],
)
def test_what_does_not_go_is_said(term: str, message: str) -> None:
    frame, rises, rng = draw(60)
    with pytest.raises(ValueError, match=message):
        FusionPAMM({}, structured=term).fit(frame, outcome("hazards", rises, rng))
