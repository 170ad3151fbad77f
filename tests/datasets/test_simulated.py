from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lifelines import CoxPHFitter

from mmfusion.datasets import make_additive, make_interaction
from mmfusion.survival import kaplan_meier

both = pytest.mark.parametrize("make", [make_interaction, make_additive])


@both
def test_what_is_returned(make: Callable[..., Any]) -> None:
    cohort = make(400, n_noise=3, censoring=0.4, random_state=3)
    assert cohort.frame.columns.tolist() == [f"{m}_{i}" for m in "ab" for i in range(4)]
    assert cohort.columns == {m: [f"{m}_{i}" for i in range(4)] for m in "ab"}
    assert (cohort.target["time"] > 0).all()
    assert abs(1 - cohort.target["event"].mean() - 0.4) < 0.08
    assert make(50, censoring=0.0).target["event"].all()
    again = make(400, n_noise=3, censoring=0.4, random_state=3)
    assert again.frame.equals(cohort.frame)
    assert (again.target == cohort.target).all()
    assert not make(400, n_noise=3, random_state=4).frame.equals(cohort.frame)


@pytest.mark.parametrize("censoring", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("strength", [0.0, 0.7])
def test_the_hazard_is_the_one_promised(strength: float, censoring: float) -> None:
    """Cox regression on the true terms finds their coefficients, and none elsewhere."""
    settings = {"strength": strength, "n_noise": 1, "censoring": censoring, "random_state": 0}
    cohort = make_interaction(20_000, **settings)
    frame = cohort.frame.assign(both=cohort.frame["a_0"] * cohort.frame["b_0"])
    fits = {"interaction": (frame, {"both": strength})}
    cohort_sum = make_additive(20_000, **settings)
    fits["additive"] = (cohort_sum.frame, {"a_0": strength, "b_0": strength})
    targets = {"interaction": cohort.target, "additive": cohort_sum.target}
    for name, (table, wanted) in fits.items():
        target = targets[name]
        table = table.assign(time=target["time"], event=target["event"])
        fit = CoxPHFitter().fit(table, "time", "event")
        for term in fit.params_.index:
            z = (fit.params_[term] - wanted.get(term, 0.0)) / fit.standard_errors_[term]
            assert abs(z) < 3.5, (name, term)


@both
def test_censoring_knows_nothing_of_the_event(make: Callable[..., Any]) -> None:
    """Without effects, Kaplan and Meier find the exponential law, however many are censored."""
    cohort = make(20_000, strength=0.0, censoring=0.6, random_state=0)
    curve = kaplan_meier(cohort.target["time"], cohort.target["event"])
    for time in (0.2, 0.5, 1.0):
        assert curve([time])[0] == pytest.approx(np.exp(-time), abs=0.02)
    assert cohort.target["event"].mean() == pytest.approx(0.4, abs=0.01)
    assert cohort.license == "BSD-3-Clause"


def test_log_hazards() -> None:
    cohort = make_interaction(20, strength=3.0)
    expected = 3.0 * cohort.frame["a_0"] * cohort.frame["b_0"]
    np.testing.assert_allclose(cohort.log_hazard, expected)
    cohort = make_additive(20, strength=3.0)
    expected = 3.0 * (cohort.frame["a_0"] + cohort.frame["b_0"])
    np.testing.assert_allclose(cohort.log_hazard, expected)


@both
@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("n", 0), ("n", 2.5), ("n", True), ("n_noise", -1)),
        *(("strength", "2"), ("strength", np.inf), ("censoring", 1.0), ("censoring", -0.1)),
    ],
)
def test_what_is_refused(make: Callable[..., Any], parameter: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"The {parameter} parameter must be .* Got "):
        make(**{parameter: value})
