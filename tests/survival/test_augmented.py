"""Augmented curves: whatever is predicted, their mean is the arm's curve."""

from __future__ import annotations

import numpy as np
import pytest
from lifelines import AalenJohansenFitter, KaplanMeierFitter
from lifelines.utils import restricted_mean_survival_time
from numpy.testing import assert_allclose

from mmfusion.survival import Survival, censoring_distribution
from mmfusion.survival.augmented import area, augmented_curves, own_curves


def draw(n: int = 200, seed: int = 0, n_causes: int = 1) -> tuple[Survival, np.ndarray]:
    """Return an outcome with ties and the arm of each row."""
    rng = np.random.default_rng(seed)
    treated = rng.random(n) < 0.4
    time = np.ceil(8 * rng.exponential(1 + treated)) / 2
    cause = rng.integers(1, n_causes + 1, n)
    event = np.where(rng.random(n) < 0.7, cause, 0)
    return Survival(time, event, np.full(n, -np.inf)), treated


def grid_of(outcome: Survival, horizon: float) -> np.ndarray:
    return np.unique(outcome.time[(outcome.event > 0) & (outcome.time <= horizon)])


def arm_values(outcome: Survival, treated: np.ndarray, arm: bool, horizon: float, causes: int):
    grid = grid_of(outcome, horizon)
    own = outcome.take(treated == arm)
    censoring = censoring_distribution(own.time, own.event).left(grid)
    inverse = (treated == arm) / np.mean(treated == arm)
    curves = own_curves(own, grid, causes)
    return grid, augmented_curves(*curves, outcome, grid, horizon, inverse, censoring)


@pytest.mark.parametrize("arm", [False, True])
@pytest.mark.parametrize("horizon", [6.0, 7.25])
def test_with_the_arms_own_curves_it_is_kaplan_and_meiers(arm: bool, horizon: float) -> None:
    outcome, treated = draw()
    grid, found = arm_values(outcome, treated, arm, horizon, 1)
    mine = treated == arm
    fitted = KaplanMeierFitter().fit(outcome.time[mine], outcome.event[mine])
    wanted = fitted.survival_function_at_times(grid).to_numpy()
    assert_allclose(found.survival.mean(0), wanted, atol=1e-12)
    assert_allclose(found.incidence[0].mean(0), 1 - wanted, atol=1e-12)
    area_of = restricted_mean_survival_time(fitted, t=horizon)
    assert found.restricted_mean.mean() == pytest.approx(area_of, abs=1e-10)


def test_its_spread_is_greenwoods() -> None:
    outcome, treated = draw()
    grid, found = arm_values(outcome, treated, True, 6.0, 1)
    n = len(treated)
    # At its own curve a value is S less the influence of Kaplan & Meier's estimate.
    se = found.survival.std(0) / np.sqrt(n)
    fitted = KaplanMeierFitter().fit(outcome.time[treated], outcome.event[treated])
    table = fitted.event_table.loc[lambda t: t["observed"] > 0].loc[:6.0]
    terms = table["observed"] / (table["at_risk"] * (table["at_risk"] - table["observed"]))
    survival = fitted.survival_function_at_times(table.index).to_numpy()
    greenwood = survival * np.sqrt(terms.cumsum().to_numpy())
    assert_allclose(se[np.isin(grid, table.index)], greenwood, rtol=0.03)


@pytest.mark.filterwarnings("ignore:Tied event times")
def test_with_the_arms_own_curves_causes_are_aalen_and_johansens() -> None:
    outcome, treated = draw(n_causes=2)
    grid, found = arm_values(outcome, treated, True, 6.0, 2)
    for cause in (1, 2):
        fitted = AalenJohansenFitter(calculate_variance=False, jitter_level=1e-6, seed=0).fit(
            outcome.time[treated], outcome.event[treated], event_of_interest=cause
        )
        curve = fitted.cumulative_density_.iloc[:, 0]
        wanted = [curve.loc[: t + 1e-3].iloc[-1] for t in grid]
        # lifelines breaks ties by moving times a little.
        assert_allclose(found.incidence[cause - 1].mean(0), wanted, atol=0.01)
    total = found.survival + found.incidence.sum(0)
    assert_allclose(total, 1.0, atol=1e-12)


@pytest.mark.parametrize("n_causes", [1, 3])
def test_without_censoring_a_row_is_its_own_outcome_whatever_is_predicted(n_causes: int) -> None:
    outcome, _ = draw(n_causes=n_causes)
    seen = outcome.take(outcome.event > 0)
    n, horizon = len(seen), 7.25
    grid = grid_of(seen, horizon)
    rng = np.random.default_rng(1)
    hazards = rng.dirichlet(np.ones(n_causes + 1), (n, len(grid)))[..., 1:]
    hazards[:30, 3] = hazards[:30, 3] / hazards[:30, 3].sum(
        -1, keepdims=True
    )  # curves that reach 0
    survival = np.cumprod(1 - hazards.sum(-1), axis=1).clip(0)
    before = np.column_stack([np.ones(n), survival[:, :-1]])
    incidence = np.moveaxis(np.cumsum(hazards * before[..., None], axis=1), -1, 0)
    ones = np.ones(len(grid))
    found = augmented_curves(survival, incidence, seen, grid, horizon, np.ones(n), ones)
    # A row that is predicted to be gone says nothing of what follows.
    known = survival[:, -1] > 0
    assert known.sum() > 50
    assert_allclose(found.survival[known], (seen.time[known, None] > grid), atol=1e-9)
    for cause in range(n_causes):
        happened = (seen.time[known, None] <= grid) & (seen.event[known, None] == cause + 1)
        assert_allclose(found.incidence[cause][known], happened, atol=1e-9)
    assert_allclose(found.restricted_mean[known], np.minimum(seen.time, horizon)[known], atol=1e-9)
    assert np.isfinite(found.columns()).all()


def test_rows_that_are_not_in_the_arm_keep_what_is_predicted() -> None:
    outcome, treated = draw()
    grid = grid_of(outcome, 6.0)
    survival = np.tile(np.linspace(0.9, 0.3, len(grid)), (len(treated), 1))
    found = augmented_curves(
        survival,
        1 - survival[None],
        outcome,
        grid,
        6.0,
        treated / 0.5,
        np.full((len(treated), len(grid)), 0.8),
        keep=np.array([0, 2]),
    )
    assert found.survival.shape == (len(treated), 2)
    assert_allclose(found.survival[~treated], survival[~treated][:, [0, 2]])
    assert_allclose(found.restricted_mean[~treated], area(survival, grid, 6.0)[~treated])
    assert not np.allclose(found.survival[treated], survival[treated][:, [0, 2]])
