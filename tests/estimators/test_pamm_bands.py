"""Bands of what FusionPAMM predicts, hazard ratios over time, and terms that are left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from mmfusion.estimators import FusionCox, FusionPAMM
from mmfusion.survival import surv
from tests.estimators.test_pamm import CUTS, draw


@pytest.fixture(scope="module")
def varying() -> tuple[pd.DataFrame, FusionPAMM]:
    frame, y = draw()
    return frame, FusionPAMM({}, structured="s(z) + tv(dose)", cuts=CUTS).fit(frame, y)


@pytest.fixture(scope="module")
def causes() -> tuple[pd.DataFrame, FusionPAMM]:
    frame, y = draw()
    cause = np.where(y["event"], np.random.default_rng(0).integers(1, 3, len(y)), 0)
    y = surv(y["time"], cause)
    return frame, FusionPAMM({}, structured="dose", cuts=CUTS).fit(frame, y)


def test_bands_end_where_curves_end(varying: Any) -> None:
    frame, model = varying
    times = [0.5, 100.0]
    for curve in ("survival", "cumulative_hazard", "cumulative_incidence"):
        with pytest.warns(UserWarning, match="2 of 2 rows have predictions beyond the follow-up"):
            band = model.predict_band(frame[:2], times, curve)
        assert band.isna().all(axis=1).tolist() == [False, True, False, True]
    with pytest.warns(UserWarning, match="beyond the follow-up"):
        alone = model.predict_survival_function(frame[:2], times)
    with pytest.warns(UserWarning, match="beyond the follow-up"):
        band = model.predict_band(frame[:2], times)
    assert_allclose(band["survival"].to_numpy().reshape(2, 2), alone, rtol=1e-12)


@pytest.mark.parametrize(
    ("curve", "cause"),
    [
        ("survival", None),
        ("cumulative_hazard", None),
        ("cumulative_hazard", 2),
        ("cumulative_incidence", 1),
        ("hazard", None),
        ("hazard", 2),
    ],
)
def test_errors_are_those_of_drawn_coefficients(causes: Any, curve: str, cause: Any) -> None:
    """The delta method against the spread of curves whose coefficients move a little."""
    frame, model = causes
    times = [0.3, 0.7, 2.5]
    band = model.predict_band(frame[:1], times, curve, cause, unconditional=False)
    part = model.model_.structured
    spread = 1e-3  # so little that curves are straight in the coefficients
    draws = np.random.default_rng(1).multivariate_normal(
        part.final.coef, spread**2 * model.covariance_.to_numpy(), 4000
    )
    design, head = part.design(frame[:1]), model.model_.head
    etas = np.concatenate([design.predict(coef) for coef in draws])
    options = {} if curve == "survival" else {"cause": cause}
    if curve == "cumulative_hazard":
        if cause is not None:  # of one cause: as if the others never happened
            etas[:, : len(CUTS)] = -np.inf
        options = {}
    curves = getattr(head, curve)(etas, times, **options)
    assert_allclose(band["se"], curves.std(0) / spread, rtol=0.06)
    if cause is None:
        predicted = getattr(
            model,
            {
                "survival": "predict_survival_function",
                "cumulative_hazard": "predict_cumulative_hazard_function",
                "hazard": "predict_hazard",
            }[curve],
        )(frame[:1], times)
        assert_allclose(band[curve], predicted.to_numpy()[0], rtol=1e-12)


def test_bands_keep_within_what_a_curve_can_be(varying: Any) -> None:
    frame, model = varying
    survival = model.predict_band(frame[:20], level=0.9999)
    assert survival.index.names == [None, "time"]
    assert ((survival["lower"] >= 0) & (survival["upper"] <= 1)).all()
    assert (survival["lower"] < survival["upper"]).all()
    hazard = model.predict_band(frame[:3], curve="hazard")
    z = stats.norm.ppf(0.975)
    assert_allclose(
        np.log(hazard["upper"] / hazard["hazard"]), z * hazard["se"] / hazard["hazard"], rtol=1e-9
    )
    assert (model.predict_band(frame[:3], curve="cumulative_hazard")["lower"] >= 0).all()


def test_the_first_interval_of_an_intercept_has_the_error_of_a_rate() -> None:
    y = surv([1.0, 2.0, 4.0, 0.5], [1, 0, 1, 1])
    model = FusionPAMM({}, n_intervals=1).fit(pd.DataFrame({"x": np.zeros(4)}), y)
    band = model.predict_band(pd.DataFrame({"x": [0.0]}), [1.0, 2.0], "cumulative_hazard")
    rate = 3 / 7.5
    assert_allclose(band["cumulative_hazard"], [rate, 2 * rate])
    assert_allclose(band["se"], np.array([rate, 2 * rate]) / np.sqrt(3))


def test_simultaneous_bands_are_wider_and_always_the_same(varying: Any) -> None:
    frame, model = varying
    grid = np.linspace(0.1, 2.5, 40)
    pointwise = model.smooth_effect("tv(dose)", grid)
    together = model.smooth_effect("tv(dose)", grid, bands="simultaneous")
    again = model.smooth_effect("tv(dose)", grid, bands="simultaneous")
    pd.testing.assert_frame_equal(together, again)
    assert_array_equal(together[["effect", "se"]], pointwise[["effect", "se"]])
    width = (together["upper"] - together["effect"]) / together["se"]
    assert np.ptp(width) < 1e-9
    assert 2.0 < width.iloc[0] < 3.5
    # Of one point, or of a straight line through 0, there is nothing to adjust for.
    one = model.smooth_effect("tv(dose)", [0.5], bands="simultaneous")
    assert_allclose((one["upper"] - one["effect"]) / one["se"], 1.96, atol=0.05)
    curve = model.predict_band(frame[:2], bands="simultaneous")
    assert (curve["upper"] >= model.predict_band(frame[:2])["upper"]).all()
    with pytest.raises(ValueError, match=r"bands parameter must be one of .* Got 'both'"):
        model.smooth_effect("tv(dose)", grid, bands="both")


def test_a_simultaneous_band_holds_whole_curves() -> None:
    """Of curves drawn from the posterior, by another generator, 95 % lie in it."""
    frame, y = draw()
    model = FusionPAMM({}, structured="s(z)", cuts=CUTS).fit(frame, y)
    grid = np.linspace(-2, 2, 50)
    band = model.smooth_effect("s(z)", grid, bands="simultaneous", unconditional=False)
    reported = model.inference_
    own = reported.fit.term("s(z)").columns
    basis = reported.layout.formula("hazard").transform_term("s(z)", pd.DataFrame({"z": grid}))
    covariance = reported.covariance.dense()[own, own]
    draws = np.random.default_rng(7).multivariate_normal(reported.fit.coef[own], covariance, 4000)
    curves = draws @ basis.T
    inside = ((curves >= band["lower"].to_numpy()) & (curves <= band["upper"].to_numpy())).all(1)
    assert abs(inside.mean() - 0.95) < 0.015


def test_hazard_ratios_over_time(varying: Any) -> None:
    frame, model = varying
    base = frame[:1].assign(dose=0.0)
    times = np.array([0.15, 0.4, 2.9])
    found = model.hazard_ratio(base.assign(dose=1.0), base, times)
    cuts = model.cuts_
    places = np.searchsorted(cuts[1:], times)
    effect = model.smooth_effect("tv(dose)", (cuts[places] + cuts[places + 1]) / 2)
    assert_allclose(np.log(found["hazard_ratio"]), effect["effect"], rtol=1e-9)
    assert_allclose(np.log(found["lower"]), effect["lower"], rtol=1e-9)
    # That of the hazards, whatever else the profiles have.
    ratio = model.predict_hazard(base.assign(dose=1.0), times) / model.predict_hazard(base, times)
    assert_allclose(found["hazard_ratio"], ratio.to_numpy()[0], rtol=1e-9)
    several = model.hazard_ratio(frame[:3], frame[3:6])
    assert several.shape == (3 * 7, 4)
    one = model.hazard_ratio(frame[2:3], frame[5:6])
    assert_allclose(several.to_numpy()[14:], one.to_numpy())
    with pytest.raises(ValueError, match=r"must lie in \[0, 3\].* Got 9"):
        model.hazard_ratio(frame[:1], base, [9.0])
    with pytest.raises(ValueError, match="one row or as many as X"):
        model.hazard_ratio(frame[:3], frame[:2])


def test_causes_are_asked_for(causes: Any) -> None:
    frame, model = causes
    with pytest.raises(ValueError, match=r"cause parameter must be one of \[1, 2\]. Got None"):
        model.predict_band(frame, curve="cumulative_incidence")
    with pytest.raises(ValueError, match=r"cause parameter must be one of \[1, 2\]. Got None"):
        model.hazard_ratio(frame, frame)
    with pytest.raises(ValueError, match=r"must be None for a survival curve"):
        model.predict_band(frame, cause=1)


# --- frailties -----------------------------------------------------------------------------------


def frail(seed: int = 0) -> tuple[pd.DataFrame, Any]:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"x": rng.normal(size=600), "site": rng.integers(0, 30, 600).astype(str)})
    effect = rng.normal(0, 0.8, 30)[frame["site"].astype(int)]
    time = rng.exponential(np.exp(-0.5 * frame["x"] - effect))
    return frame, surv(np.minimum(time, 3), time < 3)


def test_an_unseen_level_has_effect_0_and_the_variance_of_all() -> None:
    frame, y = frail()
    model = FusionPAMM({}, structured="x + re(site)", n_intervals=12).fit(frame, y)
    new = frame[:1].assign(site="elsewhere")
    without = model.predict_band(frame[:1], curve="hazard", exclude=["re(site)"])
    unseen = model.predict_band(new, curve="hazard")
    assert_allclose(unseen["hazard"], without["hazard"], rtol=1e-12)
    (sp,) = model.inference_.fit.sp["re(site)"]
    assert 0.4 < 1 / sp < 1.2  # the variance of the sites
    error, known = (band["se"] / band["hazard"] for band in (unseen, without))
    assert_allclose(error**2, known**2 + 1 / sp, rtol=1e-9)
    gone = model.predict_band(new, curve="hazard", exclude=["re(site)"])
    assert_allclose(gone["se"], without["se"], rtol=1e-9)


@pytest.mark.parametrize("kind", [FusionPAMM, FusionCox])
def test_terms_may_be_left_out(kind: Any) -> None:
    frame, y = frail()
    model = kind({}, structured="x + re(site)").fit(frame, y)
    alike = frame[:5].assign(x=0.3)
    assert np.ptp(model.predict(alike)) > 0.01
    assert np.ptp(model.predict(alike, exclude=["re(site)"])) < 1e-12
    assert np.ptp(model.predict(frame[:5], exclude=["x", "re(site)"])) < 1e-12
    asked: dict[str, Any] = {"exclude": ["re(site)"]}
    for found in (
        model.predict_survival_function(alike, [1.0], **asked),
        model.predict_cumulative_hazard_function(alike, [1.0], **asked),
        model.predict_quantile(alike, 0.2, **asked),
        model.predict_median(alike, **asked),
        model.predict_restricted_mean(alike, 1.0, **asked),
    ):
        values = np.asarray(found).ravel()
        assert_allclose(values, values[0], rtol=1e-12)
    assert model.score(frame, y, **asked) < model.score(frame, y)
    with pytest.raises(ValueError, match=r"No term 're\(ward\)'. The terms are .*'re\(site\)'"):
        model.predict(frame, exclude=["re(ward)"])
    with pytest.raises(TypeError, match="exclude parameter must be a list of terms"):
        model.predict(frame, exclude="re(site)")
