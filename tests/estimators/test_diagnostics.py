"""Residuals and the check of proportional hazards, asked of a fitted estimator."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from mmfusion.estimators import FusionCox
from mmfusion.modalities import Tabular
from mmfusion.survival import surv

pytestmark = pytest.mark.usefixtures("one_network")


def draw(n: int = 300, crossing: bool = False) -> tuple[pd.DataFrame, np.ndarray]:
    """Return a table whose hazards are proportional in dose, or whose effect turns its sign."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"dose": rng.normal(size=n), "z": rng.normal(size=n)})
    draws = rng.exponential(size=n)
    # A Weibull shape that depends on dose lets the hazards cross.
    time = draws ** np.exp(0.6 * frame["dose"]) if crossing else draws * np.exp(-frame["dose"])
    limit = rng.exponential(3.0, size=n)
    return frame, surv(np.minimum(time, limit), time <= limit)


def test_residuals_as_lifelines() -> None:
    frame, y = draw()
    model = FusionCox({}, structured="dose + z").fit(frame, y)
    table = frame.assign(time=y["time"], event=y["event"])
    fitter = CoxPHFitter().fit(table, "time", "event", fit_options={"precision": 1e-12})
    for kind, tolerance in (("martingale", 1e-6), ("deviance", 1e-5)):
        theirs = fitter.compute_residuals(table, kind)[kind].loc[frame.index]
        ours = model.residuals(frame, y, kind)
        np.testing.assert_allclose(ours, theirs, atol=tolerance)
    for kind in ("schoenfeld", "scaled_schoenfeld"):
        theirs = fitter.compute_residuals(table, kind)
        ours = model.residuals(frame, y, kind).loc[theirs.index]
        if kind == "scaled_schoenfeld":  # lifelines leaves out the coefficient, R adds it
            ours = ours - model.effects_["coef"].to_numpy()
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_check_sees_what_is_there() -> None:
    frame, y = draw()
    fine = FusionCox({}, structured="dose + z").fit(frame, y).check_proportional_hazards(frame, y)
    assert list(fine.index) == ["dose", "z", "GLOBAL"]
    assert fine["p"].min() > 0.01
    frame, y = draw(crossing=True)
    broken = FusionCox({}, structured="dose + z").fit(frame, y)
    table = broken.check_proportional_hazards(frame, y, transform="rank")
    assert table.loc["dose", "p"] < 1e-6
    assert table.loc["z", "p"] > 0.001


def test_beside_a_deep_part() -> None:
    frame, y = draw()
    model = FusionCox(
        {"z": Tabular(["z"])}, structured="dose", epochs=5, device="cpu", random_state=0
    ).fit(frame, y)
    assert abs(model.residuals(frame, y).sum()) < 1e-6
    assert model.check_proportional_hazards(frame, y).loc["GLOBAL", "df"] == 1
    plain = FusionCox({"z": Tabular(["z"])}, epochs=1, device="cpu").fit(frame, y)
    assert abs(plain.residuals(frame, y, "deviance").mean()) < 1
    with pytest.raises(AttributeError, match="structured=None"):
        plain.check_proportional_hazards(frame, y)
    with pytest.raises(ValueError, match="kind parameter must be one of"):
        plain.residuals(frame, y, "pearson")


@pytest.mark.parametrize(
    ("n_events", "same", "message"),
    [
        (0, None, r"at least one event to test .* Got 0 events in 300 rows"),
        (1, None, r"Got 1 event\(s\), by which 'arm' cannot be tested"),
        (300, "z", r"by which 'arm', 'z' together cannot be tested"),
        (300, "arm", r"by which 'arm' cannot be tested"),
    ],
)
@pytest.mark.parametrize("transform", ["km", "identity"])
def test_events_that_cannot_test_a_term_are_told(
    n_events: int, same: str | None, message: str, transform: str
) -> None:
    frame, y = draw()
    frame["arm"] = np.arange(300) % 2 * 70.1
    model = FusionCox({}, structured="arm + z").fit(frame, y)
    if same == "arm":  # all rows are of one arm
        some = (frame["arm"] > 0).to_numpy()
        frame, y = frame[some], y[some]
    elif same == "z":  # which says what the arm says
        frame["z"] = 3 - frame["arm"]
    y["event"][np.flatnonzero(y["event"])[n_events:]] = False
    with pytest.raises(ValueError, match=message):
        model.check_proportional_hazards(frame, y, transform)
