"""The adjusted hazard ratio and log-rank test of two arms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from scipy.optimize import brentq

from mmfusion.heads.cox import CoxHead
from mmfusion.heads.cox.adjusted import adjusted_hazard_ratio
from mmfusion.survival import log_rank_test


def draw(n: int = 300, seed: int = 0, effect: float = 0.4) -> tuple[Any, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    treated = rng.random(n) < 0.4
    z = rng.normal(size=(n, 2))
    time = rng.exponential(np.exp(-effect * treated - z[:, 0]))
    limit = rng.uniform(0, 3, n)
    return (np.minimum(time, limit), time <= limit), treated, z


def test_without_covariates_it_is_coxs_with_the_robust_variance() -> None:
    (time, event), treated, _ = draw(seed=1, effect=1.0)
    target = CoxHead().fit_outcome((time, event))
    found = adjusted_hazard_ratio(target, treated)
    frame = pd.DataFrame({"time": time, "event": event, "treated": treated.astype(float)})
    wanted = CoxPHFitter().fit(frame, "time", "event", robust=True)
    assert found.coef == pytest.approx(wanted.params_["treated"], abs=1e-4)
    assert found.variance**0.5 == pytest.approx(wanted.standard_errors_["treated"], rel=1e-4)
    # The score test with the empirical variance is near the log-rank test.
    assert found.z**2 == pytest.approx(log_rank_test(time, event, treated).statistic, rel=0.15)


def test_against_the_published_formulas() -> None:
    """Ye, Shao & Yi (2024): O_i1, O_i0 and their adjustment, written out over all pairs."""
    (time, event), treated, z = draw(120)
    n, arm = len(time), treated.astype(float)
    centred = z - z.mean(0)

    def parts(theta: float) -> np.ndarray:
        """Return each row's signed O_i: its share of the score."""
        risk = np.exp(theta * arm)
        at_risk = time[None] >= time[:, None]  # row k: at risk when k leaves
        s0, s1 = at_risk @ risk, at_risk @ (risk * arm)
        mean = s1 / s0
        own = event * (arm - mean)
        # Minus the compensator: the hazard's jumps at the events up to the row's time.
        jumps = (at_risk.T * (event / s0)[None]) * (arm[:, None] - mean[None])
        return own - risk * jumps.sum(1)

    def slopes(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        design = np.column_stack([np.ones(rows.sum()), z[rows]])
        return np.linalg.lstsq(design, values[rows], rcond=None)[0][1:]

    start = brentq(lambda theta: parts(theta).sum(), -3, 3, xtol=1e-14)
    values = parts(start)
    one, zero = slopes(values, treated), slopes(values, ~treated)
    shift = (arm * (centred @ one) + (1 - arm) * (centred @ zero)).sum()
    wanted = brentq(lambda theta: parts(theta).sum() - shift, -3, 3, xtol=1e-14)
    found = adjusted_hazard_ratio(CoxHead().fit_outcome((time, event)), treated, z)
    assert found.coef == pytest.approx(wanted, abs=1e-8)
    values = parts(0.0)
    one, zero = slopes(values, treated), slopes(values, ~treated)
    taken = arm * (centred @ one) + (1 - arm) * (centred @ zero)
    left = values - (arm - arm.mean()) * (centred @ (one - zero))
    assert left.sum() == pytest.approx(values.sum() - taken.sum(), abs=1e-10)
    z_value = left.sum() / np.sqrt(n * left.var())
    assert found.z == pytest.approx(z_value, abs=1e-8)


def test_a_prognostic_covariate_narrows_it_and_noise_does_not_widen_it() -> None:
    outcome, treated, z = draw(600)
    target = CoxHead().fit_outcome(outcome)
    alone = adjusted_hazard_ratio(target, treated)
    known = adjusted_hazard_ratio(target, treated, z)
    noise = adjusted_hazard_ratio(target, treated, np.random.default_rng(3).normal(size=(600, 3)))
    assert known.variance < 0.8 * alone.variance
    assert noise.variance == pytest.approx(alone.variance, rel=0.03)
    assert known.z**2 > 0


@pytest.mark.slow
def test_the_adjusted_log_rank_test_holds_its_level() -> None:
    rejected = []
    for seed in range(400):
        outcome, treated, z = draw(150, seed, effect=0.0)
        found = adjusted_hazard_ratio(CoxHead().fit_outcome(outcome), treated, z)
        rejected.append(abs(found.z) > 1.96)
    assert 0.02 < np.mean(rejected) < 0.085
