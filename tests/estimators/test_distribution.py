"""FusionDistribution: outcomes, predictions, identities, censoring, networks."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import optimize, stats
from sklearn.base import clone

from mmfusion.estimators import (
    FusionClassifier,
    FusionDistribution,
    FusionPAMM,
    FusionRegressor,
)
from mmfusion.heads.families import FAMILIES
from mmfusion.metrics import concordance_index, make_survival_scorer
from mmfusion.modalities import Genes, Image, Tabular
from mmfusion.structured import SeparationWarning
from mmfusion.survival import surv
from tests.heads.test_families import Secant

N = 250
RNG = np.random.default_rng(0)
X = pd.DataFrame({"x": RNG.normal(size=N), "z": RNG.uniform(size=N)})
X.index = [f"row {i}" for i in range(N)]
MU = 0.5 + 0.4 * X["x"].to_numpy()


def draw(name: str, seed: int = 1) -> Any:
    """Return an outcome of a family, whose location depends on x."""
    rng = np.random.default_rng(seed)
    rate, zero = np.exp(MU), rng.random(N) < 0.3
    outcomes: dict[str, Any] = {
        "normal": lambda: MU + 0.7 * rng.normal(size=N),
        "student_t": lambda: MU + 0.7 * rng.standard_t(4, size=N),
        "logistic": lambda: rng.logistic(MU, 0.7),
        "gumbel": lambda: rng.gumbel(MU, 0.7),
        "log_normal": lambda: np.exp(MU + 0.7 * rng.normal(size=N)),
        "log_logistic": lambda: np.exp(rng.logistic(MU, 0.4)),
        "weibull": lambda: rate * rng.weibull(1.5, N),
        "exponential": lambda: rng.exponential(1 / rate),
        "gamma": lambda: rng.gamma(3.0, rate / 3),
        "inverse_gaussian": lambda: rng.wald(rate, 2.0),
        "beta": lambda: rng.beta(8 * rate / (1 + rate), 8 / (1 + rate)),
        "poisson": lambda: rng.poisson(rate),
        "negative_binomial": lambda: rng.negative_binomial(2, 2 / (2 + rate)),
        "zero_inflated_poisson": lambda: np.where(zero, 0, rng.poisson(2 * rate)),
        "zero_inflated_negative_binomial": lambda: np.where(
            zero, 0, rng.negative_binomial(4, 4 / (4 + 4 * rate))
        ),
        "bernoulli": lambda: rng.random(N) < rate / (1 + rate),
        "ordinal": lambda: np.digitize(rng.logistic(MU), [-1.0, 0.5, 2.0]),
    }
    return outcomes[name]()


def fitted(name: str, y: Any = None, **params: Any) -> FusionDistribution:
    given = {"structured": "x", "family": name} | params
    return FusionDistribution({}, **given).fit(X, draw(name) if y is None else y)


CONTINUOUS = [name for name, kind in FAMILIES.items() if not kind.discrete]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_fits_predicts_and_is_saved(name: str, tmp_path: Any) -> None:
    y = draw(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fitted(name)
    found = model.predict_distribution(X)
    numbers = np.asarray(y, dtype=np.float64)
    # Links are applied once, in the parameters and in the score.
    parameters = model.predict_parameters(X)
    assert list(parameters) == list(found.parameters)
    for column, values in found.parameters.items():
        assert_allclose(parameters[column], values)
    assert isinstance(model.score(X, y), float)
    assert_allclose(model.score(X, y), found.logpdf(numbers).mean())
    weight = np.arange(N, dtype=float)
    assert_allclose(model.score(X, y, weight), np.average(found.logpdf(numbers), weights=weight))
    assert_allclose(model.predict(X), found.mean)
    # A maximum: the constant model and a start elsewhere are no better.
    assert model.score(X, y) > fitted(name, structured="1").score(X, y)
    # Quantiles never cross, also far beyond the training range.
    far = X.assign(x=np.linspace(-20, 20, N))
    q = model.predict_quantile(far, [0.01, 0.2, 0.5, 0.8, 0.99])
    assert (np.diff(q.to_numpy(), axis=1) >= 0).all()
    assert_allclose(model.predict_quantile(X), found.median)
    interval = model.predict_interval(X, level=0.8)
    assert_allclose(interval.to_numpy(), found.quantile([0.1, 0.9]))
    assert model.sample(X, 3, random_state=0).shape == (N, 3)
    model.save(tmp_path / "model")
    loaded = FusionDistribution.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict_parameters(X), parameters)
    assert loaded.score(X, y) == model.score(X, y)
    pd.testing.assert_frame_equal(loaded.effects_, model.effects_)
    with pytest.raises(AttributeError):
        model.predict_survival_function


@pytest.mark.parametrize("name", [n for n in CONTINUOUS if n != "beta"])
@pytest.mark.parametrize("unit", [1e6, 1e-6])
def test_the_unit_of_y_does_not_matter(name: str, unit: float) -> None:
    y = draw(name)
    # Two formulas, one with a smooth whose parameter is estimated.
    formulas = dict.fromkeys(FAMILIES[name].parameters, "1") | {
        next(iter(FAMILIES[name].parameters)): "x + s(z, k=6)"
    }
    model = fitted(name, structured=formulas)
    scaled = fitted(name, unit * y, structured=formulas)
    q = [0.05, 0.5, 0.9]
    assert_allclose(scaled.predict_quantile(X, q) / unit, model.predict_quantile(X, q), rtol=1e-4)
    assert_allclose(scaled.score(X, unit * y) + np.log(unit), model.score(X, y), atol=1e-6)
    assert_allclose(scaled.effects_["z"].loc["x"], model.effects_["z"].loc["x"], rtol=1e-4)


WRONG: dict[str, tuple[float, str]] = {
    "log_normal": (0.0, "numbers above 0"),
    "weibull": (-1.5, "numbers above 0"),
    "gamma": (-2.0, "numbers above 0"),
    "log_logistic": (0.0, "numbers above 0"),
    "exponential": (-1.0, "numbers above 0"),
    "inverse_gaussian": (0.0, "numbers above 0"),
    "beta": (1.0, "numbers between 0 and 1"),
    "poisson": (2.5, "whole numbers from 0"),
    "negative_binomial": (-1.0, "whole numbers from 0"),
    "zero_inflated_poisson": (-1.0, "whole numbers from 0"),
    "zero_inflated_negative_binomial": (0.5, "whole numbers from 0"),
    "bernoulli": (2.0, "whole numbers from 0 to 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_outside_the_support_is_named(name: str) -> None:
    value, allowed = WRONG[name]
    y = np.asarray(draw(name), dtype=float)
    y[7] = value
    with pytest.raises(ValueError, match=rf"must be {allowed}.*row 7.*{value:g}"):
        fitted(name, y)
    model = fitted(name)
    with pytest.raises(ValueError, match=rf"must be {allowed}.*row 7.*{value:g}"):
        model.score(X, y)


def test_a_value_that_is_missing_is_named() -> None:
    y = draw("normal")
    y[3] = np.nan
    with pytest.raises(ValueError, match="row 3"):
        fitted("normal", y)


def test_text_has_no_order() -> None:
    with pytest.raises(ValueError, match=r"Got text: \['high', 'low'\]. Write .*ordered=True"):
        fitted("ordinal", np.array(["low", "high"])[RNG.integers(0, 2, N)])
    with pytest.raises(ValueError, match=r"2 levels or more. Got \['low'\]"):
        fitted("ordinal", pd.Categorical(["low"] * N, ordered=True))
    y = pd.Categorical(np.array(["low", "mid", "high"])[draw("ordinal") % 3])
    ordered = y.set_categories(["low", "mid", "high"], ordered=True)
    model = fitted("ordinal", ordered)
    assert model.classes_.tolist() == ["low", "mid", "high"]
    assert_allclose(model.predict_proba(X).sum(1), 1.0)
    for other in ("none", "1"):  # a code is no name
        with pytest.raises(ValueError, match=rf"the levels \['low', .* Got '{other}' in .* 4"):
            model.score(X, np.where(np.arange(N) == 4, other, "low"))
    codes = np.asarray(y.codes)
    tabled = fitted("ordinal", pd.DataFrame({"y": codes}, index=X.index))
    assert tabled.score(X, codes) == fitted("ordinal", codes).score(X, codes[:, None])


def test_levels_of_numbers_may_be_read_as_text_or_as_yes_and_no() -> None:
    y = draw("ordinal")
    assert fitted("ordinal", y.astype(str)).score(X, y) == fitted("ordinal", y).score(X, y)
    assert fitted("ordinal", y > 1).score(X, (y > 1).astype(int)) == fitted(
        "ordinal", (y > 1).astype(float)
    ).score(X, y > 1)


def test_yes_and_no_may_be_labels(tmp_path: Any) -> None:
    y = draw("bernoulli")
    labels = pd.Series(np.where(y, "yes", "no"), index=X.index)
    model, other = fitted("bernoulli", labels), fitted("bernoulli", y)
    model.save(tmp_path / "model")
    model = FusionDistribution.load(tmp_path / "model")
    assert model.classes_.tolist() == ["no", "yes"]
    assert_allclose(model.predict_proba(X), other.predict_proba(X), rtol=1e-12)
    assert model.score(X, labels) == other.score(X, y)
    turned = fitted("bernoulli", pd.Categorical(labels, ["yes", "no"], ordered=True))
    assert_allclose(turned.predict_proba(X), other.predict_proba(X)[:, ::-1], rtol=1e-6)
    with pytest.raises(ValueError, match=r"levels \['no', 'yes'\].* Got 'maybe' in .* 4"):
        model.score(X, np.where(np.arange(N) == 4, "maybe", "no"))
    with pytest.raises(ValueError, match=r"0 and 1, or two labels. Got 3: \['high', 'low', 'mid'"):
        fitted("bernoulli", np.array(["low", "mid", "high"])[draw("ordinal") % 3])


def test_text_that_is_no_number_is_named() -> None:
    y = draw("normal").astype(object)
    y[4] = "high"
    with pytest.raises(ValueError, match=r"must be numbers with this family. Got 'high' in .* 4"):
        fitted("normal", y)


def test_a_parameter_at_the_end_of_its_range_is_told() -> None:
    with pytest.warns(SeparationWarning, match=r"Intercept \[dispersion\] goes to infinity"):
        fitted("negative_binomial", 2 + np.arange(N) % 3)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"family": "gauss"}, "family parameter must be one of"),
        ({"deep": "size"}, "deep parameter must name parameters.*'size'"),
        ({"deep": {"size": None}}, "deep parameter must name parameters.*'size'"),
        ({"structured": {"mean": "x"}}, "must be of one of the parameters.*'mean'"),
    ],
)
def test_wrong_parameters_are_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FusionDistribution({}, **params).fit(X, draw("normal"))


@pytest.mark.parametrize("name", ["normal", "logistic", "student_t"])
def test_beside_a_perfect_fit_the_scale_stops(name: str) -> None:
    y = 2 + 3 * X["z"].to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = fitted(name, y, structured="z")
    assert_allclose(model.predict(X), y, rtol=1e-10)
    assert (model.predict_parameters(X)["scale"] < 1e-8).all()
    assert np.isfinite(model.score(X, y))


@pytest.mark.parametrize(
    ("name", "parameter", "limit"),
    [
        ("student_t", "df", "normal"),
        ("negative_binomial", "dispersion", "poisson"),
        ("zero_inflated_poisson", "zero", "poisson"),
    ],
)
def test_a_parameter_without_an_end_is_said_and_leaves_the_others(
    name: str, parameter: str, limit: str
) -> None:
    rng = np.random.default_rng(1)
    y = rng.uniform(size=N) + MU if limit == "normal" else rng.binomial(12, 0.1 + 0.02 * (MU > 0))
    with pytest.warns(SeparationWarning, match=rf"\[{parameter}\]"):
        model = fitted(name, y)
    assert_allclose(model.score(X, y), fitted(limit, y).score(X, y), atol=1e-6)
    assert_allclose(model.predict(X), fitted(limit, y).predict(X), rtol=1e-4)


def test_an_outcome_of_one_value_has_no_scale() -> None:
    with pytest.raises(ValueError, match=r"must vary.*Got 3 in every row"):
        fitted("normal", np.full(N, 3.0))


# --- the same model as others ---------------------------------------------------------------------


def test_a_normal_of_constant_scale_is_the_regressor() -> None:
    y = draw("normal")
    model = fitted("normal", structured="x + z")
    other = FusionRegressor({}, structured="x + z").fit(X, y)
    assert_allclose(model.effects_["coef"].iloc[:3], other.effects_["coef"], rtol=1e-6)
    assert_allclose(model.predict(X), other.predict(X), rtol=1e-6)
    # The maximum of the likelihood divides by n, least squares by n - p.
    assert_allclose(
        model.effects_["se"].iloc[:3], other.effects_["se"] * np.sqrt(1 - 3 / N), rtol=1e-6
    )
    assert_allclose(model.predict_parameters(X)["scale"], other.scale_, rtol=1e-6)


def test_bernoulli_is_the_classifier() -> None:
    y = draw("bernoulli")
    model = fitted("bernoulli", structured="x + s(z)")
    other = FusionClassifier({}, structured="x + s(z)").fit(X, y)
    for column in ("coef", "se", "edf"):
        assert_allclose(model.effects_[column], other.effects_[column], rtol=1e-6)
    assert_allclose(model.predict_proba(X), other.predict_proba(X), rtol=1e-6)


def survival_times() -> np.ndarray:
    rng = np.random.default_rng(3)
    time, end = rng.exponential(np.exp(-MU)), rng.exponential(2.0, N)
    entry = np.where(rng.random(N) < 0.3, 0.3 * np.minimum(time, end), -np.inf)
    event = time <= end
    observed = np.minimum(time, end)
    upper = np.where(event & (rng.random(N) < 0.3), 1.5 * observed, np.nan)
    return surv(observed, event, entry, upper=upper)


def test_the_exponential_is_a_pamm_of_one_interval() -> None:
    y = survival_times()
    model = fitted("exponential", y)
    last = float(np.nanmax(np.append(y["time"], y["upper"])))
    other = FusionPAMM({}, structured="x", cuts=[last], baseline="steps").fit(X, y)
    for column in ("coef", "se"):
        assert_allclose(model.effects_[column], other.effects_[column], rtol=1e-6)
    times = [0.2, 0.9]
    assert_allclose(
        model.predict_survival_function(X, times), other.predict_survival_function(X, times)
    )
    assert_allclose(
        model.predict_restricted_mean(X, 0.9), other.predict_restricted_mean(X, 0.9), rtol=1e-6
    )
    assert model.effects_.attrs["ratio"] == "hazard ratio"


def test_maximum_likelihood_is_that_of_statsmodels() -> None:
    import statsmodels.api as sm
    from statsmodels.othermod.betareg import BetaModel

    design = sm.add_constant(X[["x"]])
    y = draw("beta")
    theirs = BetaModel(y, design, design).fit(disp=0, method="newton")
    ours = fitted("beta", structured={"mean": "x", "precision": "x"})
    assert_allclose(ours.effects_["coef"], theirs.params, atol=1e-6)
    assert_allclose(ours.effects_["se"], theirs.bse, rtol=1e-6)
    assert_allclose(ours.score(X, y) * N, theirs.llf, atol=1e-6)
    counts, classes = draw("poisson"), draw("bernoulli")
    pairs = {
        "poisson": (counts, sm.GLM(counts, design, sm.families.Poisson()).fit(tol=1e-12)),
        "bernoulli": (classes, sm.Logit(classes, design).fit(disp=0, tol=1e-12)),
    }
    for name, (y, theirs) in pairs.items():
        ours = fitted(name)
        assert_allclose(ours.effects_["coef"], theirs.params, atol=1e-6)
        assert_allclose(ours.effects_["se"], theirs.bse, rtol=1e-6)
        assert_allclose(ours.score(X, y) * N, theirs.llf, atol=1e-6)
    y = draw("negative_binomial")
    theirs = sm.NegativeBinomial(y, design).fit(disp=0, maxiter=500, gtol=1e-10)
    effects = fitted("negative_binomial").effects_
    size = np.exp(effects["coef"].iloc[-1])  # theirs is the dispersion, ours its logarithm
    factor = [1.0, 1.0, size]
    assert_allclose([*effects["coef"].iloc[:-1], size], theirs.params, atol=1e-6)
    assert_allclose(effects["se"] * factor, theirs.bse, rtol=1e-6)
    y = draw("zero_inflated_poisson")
    theirs = sm.ZeroInflatedPoisson(y, design).fit(disp=0, maxiter=500, gtol=1e-8)
    ours = fitted("zero_inflated_poisson")
    coefs = ours.effects_["coef"].to_numpy()
    assert_allclose(coefs[[2, 0, 1]], theirs.params, atol=1e-4)
    assert_allclose(ours.score(X, y) * N, theirs.llf, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "fitter", "sign"),
    [
        ("weibull", "WeibullAFTFitter", -1),
        ("log_normal", "LogNormalAFTFitter", 1),
        ("log_logistic", "LogLogisticAFTFitter", -1),
    ],
)
def test_accelerated_failure_times_are_those_of_lifelines(
    family: str, fitter: str, sign: int
) -> None:
    import lifelines

    rng = np.random.default_rng(4)
    table = pd.DataFrame(rng.normal(size=(400, 2)), columns=["x", "w"])
    died = np.exp(
        1 + 0.5 * table["x"] + np.exp(0.3 * table["w"]) * np.log(rng.exponential(size=400))
    )
    end = rng.exponential(8.0, 400)
    y = surv(np.minimum(died, end), died <= end)
    theirs = getattr(lifelines, fitter)()
    whole = table.assign(time=y["time"], event=y["event"])
    theirs._scipy_fit_method = "BFGS"  # its default stops 1.4e-5 early
    theirs.fit(whole, "time", "event", formula="x", ancillary="w", fit_options={"gtol": 1e-8})
    ours = FusionDistribution({}, family=family, structured={"loc": "x", "scale": "w"})
    effects = ours.fit(table, y).effects_
    # Their second parameter is our scale, or 1 over it.
    side = np.array([1, 1, sign, sign])
    found = theirs.summary
    assert_allclose(effects["coef"], side * found["coef"], atol=1e-5)
    assert_allclose(effects["se"], found["se(coef)"], rtol=1e-4)
    assert_allclose(ours.score(table, y) * 400, theirs.log_likelihood_, atol=1e-7)


# --- censoring and truncation ---------------------------------------------------------------------


def maximum(loss: Any, start: list[float]) -> np.ndarray:
    with np.errstate(all="ignore"):
        found = optimize.minimize(loss, start, method="BFGS", options={"gtol": 1e-6})
    return np.asarray(found.x)


def test_detection_limits_and_truncation_of_numbers() -> None:
    y, x = draw("normal"), X["x"].to_numpy()
    low, high, entry = -0.2, 1.2, -0.7
    lower = np.where(y < low, -np.inf, np.minimum(y, high))
    upper = np.where(y > high, np.inf, np.maximum(y, low))
    seen = y > entry
    limits = pd.DataFrame({"lower": lower, "upper": upper, "entry": entry}, index=X.index)
    model = FusionDistribution({}, structured="x").fit(X[seen], limits[seen])

    def loss(b: np.ndarray) -> float:
        law = stats.norm((b[0] + b[1] * x)[seen], np.exp(b[2]))
        each = np.where(y[seen] > high, law.logsf(high), law.logpdf(y[seen]))
        gap = np.maximum(law.cdf(low) - law.cdf(entry), 1e-300)  # what is seen lies beyond
        each = np.where(y[seen] < low, np.log(gap), each)
        return float(-(each - law.logsf(entry)).sum())

    wanted = maximum(loss, [0.0, 0.0, 0.0])
    assert_allclose(model.effects_["coef"], wanted, atol=1e-5)
    assert_allclose(model.score(X[seen], limits[seen]) * seen.sum(), -loss(wanted), atol=1e-8)
    assert not hasattr(model, "predict_survival_function")


def test_detection_limits_and_truncation_of_counts() -> None:
    y, x = draw("negative_binomial"), X["x"].to_numpy()
    # At most 1 (but 0 is never seen), between 3 and 5 in groups, 6 or more.
    seen = y > 0
    lower = np.select([y <= 1, (y >= 3) & (y <= 5), y >= 6], [0, 3, 6], y).astype(float)
    upper = np.select([y <= 1, (y >= 3) & (y <= 5), y >= 6], [1, 5, np.inf], y)
    limits = pd.DataFrame({"lower": lower, "upper": upper, "entry": 0.0})
    given = FusionDistribution({}, structured="x", family="negative_binomial")
    model = given.fit(X[seen], limits[seen])

    def loss(b: np.ndarray) -> float:
        size = np.exp(-b[2])
        law = stats.nbinom(size, size / (size + np.exp(b[0] + b[1] * x)))
        each = np.select(
            [y <= 1, (y >= 3) & (y <= 5), y >= 6],
            [law.logpmf(1), np.log(law.cdf(5) - law.cdf(2)), law.logsf(5)],
            law.logpmf(y),
        )
        return float(-(each - law.logsf(0))[seen].sum())

    wanted = maximum(loss, [0.0, 0.0, 0.0])
    # A row of at most 1 that is seen only above 0 is a 1.
    assert_allclose(model.score(X[seen], limits[seen]) * seen.sum(), -loss(wanted), atol=1e-6)
    assert_allclose(model.effects_["coef"], wanted, atol=1e-4)


@pytest.mark.parametrize("name", ["weibull", "gamma", "inverse_gaussian", "log_normal"])
def test_survival_outcomes_of_all_kinds_have_the_likelihood_of_scipy(name: str) -> None:
    y = survival_times()
    model = fitted(name, y)
    found = model.predict_distribution(X)
    between = ~np.isnan(y["upper"])
    each = np.where(y["event"], found.logpdf(y["time"]), found.logsf(y["time"]))
    gap = found.cdf(np.where(between, y["upper"], 1.0)) - found.cdf(y["time"])
    each = np.where(between, np.log(np.where(between, gap, 1.0)), each)
    each -= found.logsf(np.maximum(y["entry"], 0.0))
    assert_allclose(model.score(X, y), each.mean(), rtol=1e-8)
    curves = model.predict_survival_function(X)
    assert curves.shape[1] <= 100
    assert (np.diff(curves, axis=1) <= 0).all()
    times = [0.5, 1.0]
    assert_allclose(
        model.predict_cumulative_hazard_function(X, times),
        -np.log(model.predict_survival_function(X, times)),
    )
    step = 1e-5
    ahead = model.predict_cumulative_hazard_function(X, [0.5, 0.5 + step])
    assert_allclose(
        model.predict_hazard(X, [0.5])[0.5], (ahead.iloc[:, 1] - ahead.iloc[:, 0]) / step, rtol=1e-3
    )
    assert_allclose(model.predict_risk(X), -model.predict_median(X))
    grid = np.linspace(0, 2.0, 4001)
    area = np.trapezoid(model.predict_survival_function(X, grid), grid, axis=1)
    assert_allclose(model.predict_restricted_mean(X, 2.0), area, rtol=1e-5)
    assert f"events {int(y['event'].sum())}" in str(model.summary())


def test_an_outcome_that_says_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="more is known"):
        fitted("weibull", surv(np.ones(N), np.zeros(N, dtype=bool)))
    limits = pd.DataFrame({"lower": np.full(N, 2.0), "upper": np.full(N, 1.0)})
    with pytest.raises(ValueError, match="must not be above 'upper'"):
        fitted("normal", limits)
    with pytest.raises(ValueError, match="'sort'"):
        fitted("normal", limits.assign(sort=1))


# --- standard errors ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["normal", "gamma", "beta", "weibull", "student_t"])
def test_bands_are_those_of_the_delta_method(name: str) -> None:
    location, *others = FAMILIES[name].parameters
    model = fitted(name, structured={location: "x", others[0]: "z"})
    some = X[:5]
    cov = model.covariance_.to_numpy()
    coef = model.inference_.fit.coef
    part = model.model_.structured

    def predicted(what: Any, b: np.ndarray) -> np.ndarray:
        eta = part.design(some).predict(b)
        found = model.model_.head.distribution(eta)
        if what == "mean":
            return found.mean
        return found.parameters[what] if isinstance(what, str) else found.quantile(what)

    for what in ("mean", 0.9, location, others[0]):
        band = model.predict_band(some, what)
        jacobian = np.zeros((5, len(coef)))
        for j in range(len(coef)):
            step = np.zeros(len(coef))
            step[j] = 1e-5
            ahead, behind = predicted(what, coef + step), predicted(what, coef - step)
            jacobian[:, j] = (ahead - behind) / 2e-5
        se = np.sqrt(np.einsum("ij,jk,ik->i", jacobian, cov, jacobian))
        assert_allclose(band["value"], predicted(what, coef), rtol=1e-8)
        assert_allclose(band["se"], se, rtol=1e-5)
        assert ((band["lower"] < band["value"]) & (band["value"] < band["upper"])).all()
    with pytest.raises(ValueError, match="what parameter"):
        model.predict_band(some, "size")


def test_discrete_quantiles_have_no_band() -> None:
    with pytest.raises(ValueError, match="move in steps"):
        fitted("poisson").predict_band(X, 0.5)
    assert (fitted("poisson").predict_band(X[:3])["se"] > 0).all()


def test_whole_weights_count_rows() -> None:
    y, weight = draw("gamma"), np.arange(N) % 3
    weighted = FusionDistribution({}, structured="x", family="gamma").fit(X, y, weight)
    rows = np.repeat(np.arange(N), weight)
    repeated = clone(weighted).fit(X.iloc[rows], y[rows])
    assert_allclose(weighted.effects_, repeated.effects_, rtol=1e-6)


def test_robust_standard_errors_hold_where_the_family_does_not() -> None:
    rng = np.random.default_rng(0)
    y = rng.negative_binomial(1, 1 / (1 + np.exp(MU)))
    model, robust = fitted("poisson", y), fitted("poisson", y, inference="sandwich")
    assert_allclose(model.effects_["coef"], robust.effects_["coef"])
    import statsmodels.api as sm

    theirs = sm.GLM(y, sm.add_constant(X[["x"]]), sm.families.Poisson()).fit(cov_type="HC0")
    assert_allclose(robust.effects_["se"], theirs.bse, rtol=1e-4)
    scale = fitted("normal", structured={"loc": "x", "scale": "z"}, inference="robust")
    assert (scale.effects_["se"] > 0).all()


def test_each_parameter_has_its_offset_and_random_effects() -> None:
    y = draw("normal")
    frame = X.assign(site=np.arange(N) % 12, known=0.3 * X["x"])
    formulas = {"loc": "x + re(site)", "scale": "offset(known) + z"}
    model = FusionDistribution({}, structured=formulas).fit(frame, y)
    shifted = model.predict_parameters(frame.assign(known=0.0))["scale"]
    assert_allclose(model.predict_parameters(frame)["scale"] / shifted, np.exp(0.3 * X["x"]))
    assert ("re(site)", "loc") in model.effects_.index
    without = model.predict(frame, exclude=["re(site)"])
    assert not np.allclose(without, model.predict(frame))


def test_a_family_of_ones_own() -> None:
    y = stats.hypsecant(MU, 0.5).rvs(random_state=0)
    model = FusionDistribution({}, structured="x", family=Secant()).fit(X, y)

    def loss(b: np.ndarray) -> float:
        return -float(stats.hypsecant(b[0] + b[1] * X["x"], np.exp(b[2])).logpdf(y).sum())

    wanted = maximum(loss, [0.0, 0.0, 0.0])
    assert_allclose(model.effects_["coef"], wanted, atol=1e-5)
    assert_allclose(model.score(X, y) * N, -loss(wanted))
    limits = pd.DataFrame({"lower": np.minimum(y, 1.0), "upper": np.where(y > 1, np.inf, y)})
    censored = FusionDistribution({}, structured="x", family=Secant()).fit(X, limits)
    assert_allclose(censored.effects_["coef"], wanted, atol=0.15)
    assert (model.predict_interval(X)["upper"] > model.predict(X)).all()


# --- networks -------------------------------------------------------------------------------------


def shades(n: int = 400) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    """Return rows whose images' brightness moves location and scale, the outcome, and both."""
    rng = np.random.default_rng(0)
    bright = rng.uniform(-1, 1, n)
    images = 0.5 + 0.4 * bright[:, None, None] + 0.05 * rng.normal(size=(n, 8, 8))
    frame = pd.DataFrame({"x": rng.normal(size=n)})
    frame["scan"] = list(np.clip(images, 0, 1))
    loc, scale = 50 + 10 * (frame["x"].to_numpy() + 2 * bright), 10 * np.exp(0.8 * bright - 0.5)
    return frame, loc + scale * rng.normal(size=n), loc, scale


@pytest.fixture(scope="module")
def deep() -> tuple[FusionDistribution, pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
    frame, y, loc, scale = shades()
    model = FusionDistribution(
        {"scan": Image("scan", size=8, channels="L", encoder="raw")},
        structured={"loc": "x", "scale": "1"},
        deep=("loc", "scale"),
        linear=False,
        epochs=60,
        batch_size=64,
        learning_rate=0.02,
        random_state=0,
    )
    return model.fit(frame[:300], y[:300]), frame, y, loc, scale


def test_networks_move_location_and_scale(deep: Any) -> None:
    model, frame, y, loc, scale = deep
    found = model.predict_parameters(frame[300:])
    assert np.corrcoef(found["loc"], loc[300:])[0, 1] > 0.95
    assert np.corrcoef(np.log(found["scale"]), np.log(scale[300:]))[0, 1] > 0.8
    oracle = stats.norm(loc, scale).logpdf(y)[300:].mean()
    alone = FusionDistribution({}, structured="x").fit(frame[:300], y[:300])
    score = model.score(frame[300:], y[300:])
    assert score > oracle - 0.15
    assert score > alone.score(frame[300:], y[300:]) + 0.3
    assert model.model_.deep.share.shape == (2,)
    # The classical coefficients are reported, orthogonalised or not.
    assert_allclose(model.effects_["coef"], alone.effects_["coef"], rtol=1e-6)


def test_networks_are_saved_and_may_be_absent(deep: Any, tmp_path: Any) -> None:
    model, frame, *_ = deep
    model.save(tmp_path / "deep")
    loaded = FusionDistribution.load(tmp_path / "deep")
    pd.testing.assert_frame_equal(loaded.predict_parameters(frame), model.predict_parameters(frame))
    formula = model.predict_parameters(frame[["x"]], modalities=[])
    assert formula["scale"].nunique() == 1
    assert formula["loc"].nunique() > 1


def test_the_unit_of_y_does_not_matter_to_networks(deep: Any) -> None:
    model, frame, y, *_ = deep
    scaled = clone(model).fit(frame[:300], 1e6 * y[:300])
    ratio = scaled.predict_parameters(frame) / model.predict_parameters(frame) / 1e6
    assert_allclose(ratio, 1.0, rtol=2e-2)


def test_features_have_a_linear_part_of_the_deep_parameters() -> None:
    frame, y, *_ = shades(300)
    table = frame[["x"]].assign(bright=[float(i.mean()) for i in frame["scan"]])
    model = FusionDistribution(deep=("loc", "scale"), n_members=0, random_state=0).fit(table, y)
    effects = model.linear_effects_
    assert set(effects.index.get_level_values("parameter")) == {"loc", "scale"}
    found = effects["coef per sd"].xs("bright", level="feature")
    assert (found.to_numpy() > 0).all()
    scaled = clone(model).fit(table, 1e6 * y).linear_effects_["coef"]
    units = np.where(effects.index.get_level_values("parameter") == "loc", 1e6, 1.0)
    assert_allclose(scaled / units, effects["coef"], rtol=1e-4)
    default = FusionDistribution(n_members=0, random_state=0).fit(table, y)
    assert default.linear_effects_.index.names == ["modality", "feature"]


def test_a_row_apart_in_the_smooth_of_the_location_takes_no_scale_to_nothing() -> None:
    """The variances of a linear part of both are found beside what moves each: no others."""
    rng = np.random.default_rng(3)
    table = pd.DataFrame(rng.normal(size=(150, 10))).add_prefix("g")
    frame = table.assign(x=rng.uniform(size=150))
    frame.loc[0, "x"] = 2.0
    loc, scale = np.sin(3 * frame["x"]) + 0.5 * frame["g0"], np.exp(-0.5 + 0.3 * frame["g1"])
    y = loc + scale * rng.normal(size=150)
    model = FusionDistribution(
        {"genes": Genes(list(table))},
        structured={"loc": "s(x)"},
        deep=("loc", "scale"),
        n_members=0,
        random_state=0,
    ).fit(frame, y)
    found = model.predict_parameters(frame)
    assert found["scale"].min() > 0.2
    assert np.corrcoef(found["loc"], loc)[0, 1] > 0.9
    assert np.corrcoef(np.log(found["scale"]), np.log(scale))[0, 1] > 0.5


def test_effects_of_each_parameter_stay_classical_beside_an_image_that_shows_the_column() -> None:
    """Those of other estimators: test_identifiability.py."""
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=250), rng.uniform(-1, 1, 250)
    pixels = np.repeat(128 + np.stack([35 * x, 70 * z], axis=1), 4, axis=1)[:, :, None]
    pixels = np.repeat(pixels, 8, axis=2).clip(0, 255).round().astype(np.uint8)
    frame = pd.DataFrame({"x": x, "image": list(pixels)})
    time = np.exp(x + 6 * z**2 + np.exp(-0.7 + 0.3 * x) * np.log(rng.exponential(size=250)))
    end = rng.exponential(20.0, 250)
    y = surv(np.minimum(time, end), time <= end)
    formulas = {"loc": "x", "scale": "x"}
    classical = FusionDistribution({}, structured=formulas, family="weibull").fit(frame, y).effects_
    for how in ("post_hoc", None):
        model = FusionDistribution(
            {"scan": Image("image", size=8, channels="L")},
            structured=formulas,
            family="weibull",
            deep=("loc", "scale"),
            orthogonalization=how,
            n_members=1,
            epochs=15,
            learning_rate=0.03,
            batch_size=64,
            patience=None,
            random_state=0,
        ).fit(frame, y)
        assert (model.model_.deep.share > 0).all()
        moved = ((model.effects_["coef"] - classical["coef"]) / classical["se"]).loc["x"].abs()
        if how is None:
            assert moved.max() > 0.5
        else:
            assert moved.max() < 0.01


@pytest.mark.slow
def test_effects_are_cross_fitted_beside_networks() -> None:
    frame, y, *_ = shades(300)
    model = FusionDistribution(
        {"scan": Image("scan", size=8, channels="L", encoder="raw")},
        structured="x",
        deep=("loc", "scale"),
        linear=False,
        inference="cross_fit",
        epochs=30,
        learning_rate=0.02,
        random_state=0,
    ).fit(frame, y)
    alone = FusionDistribution({}, structured="x").fit(frame, y)
    assert model.effects_["se"].loc["x"].item() < 0.8 * alone.effects_["se"].loc["x"].item()
    effect = model.effects_.loc[("x", "loc")]
    assert effect["lower"] < 10 < effect["upper"]
    terms = model.effects_.index.get_level_values(0)
    assert {"(deep, loc)", "(deep, scale)"} <= set(terms)  # each believed as far as it is right


def test_scorers_of_risk_read_the_median_time() -> None:
    y = survival_times()
    y = surv(y["time"], y["event"])
    model = fitted("log_normal", y)
    score = make_survival_scorer("harrell")(model, X, y)
    assert score == concordance_index(y, -model.predict_median(X))
    assert score > 0.55
    assert make_survival_scorer("ibs", times=[0.2, 0.6])(model, X, y) < 0


def test_bands_hold_that_smoothing_parameters_are_estimates() -> None:
    """Beside a smooth they are wider than those that take them as known, else the same."""
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"x": rng.uniform(size=150)})
    y = np.sin(4 * frame["x"]) + 0.5 * rng.normal(size=150)
    for formula, wider in (("s(x)", True), ("x", False)):
        model = FusionDistribution({}, structured=formula).fit(frame, y)
        honest, known = (
            model.predict_band(frame, unconditional=each)["se"] for each in (True, False)
        )
        assert (honest >= known * (1 - 1e-12)).all()
        assert bool((honest > 1.001 * known).any()) == wider


def test_a_scale_is_that_of_rows_that_were_not_fitted() -> None:
    features = [f"f{j}" for j in range(80)]
    squares = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        X = pd.DataFrame(rng.normal(size=(4400, 80)), columns=features)
        y = X.to_numpy() @ np.full(80, 0.1) + rng.normal(size=4400)
        model = FusionDistribution({"facts": Tabular(features)}, structured="1", n_members=0)
        model.fit(X[:400], y[:400])
        squares.append(np.mean(norm_residuals(model, X[400:], y[400:]) ** 2))
        fitted = np.mean(norm_residuals(model, X[:400], y[:400]) ** 2)
        assert fitted < 0.85  # 80 coefficients took their part of the noise
    assert np.mean(squares) == pytest.approx(1.0, abs=0.03)


def norm_residuals(model: FusionDistribution, X: pd.DataFrame, y: np.ndarray) -> np.ndarray:
    found = model.predict_parameters(X)
    return (y - found["loc"].to_numpy()) / found["scale"].to_numpy()


def test_each_parameter_reads_its_own_modalities(tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(300, 2)), columns=["a", "b"])
    y = np.sin(2 * table["a"]) + np.exp(table["b"] - 1) * rng.normal(size=300)
    model = FusionDistribution(
        {"one": Tabular(["a"]), "two": Tabular(["b"])},
        deep={"scale": ["two"], "loc": ["one"]},
        epochs=8,
        learning_rate=0.02,
        random_state=0,
    ).fit(table, y)
    found = model.predict_parameters(table)
    for column, same, moved in (("b", "loc", "scale"), ("a", "scale", "loc")):
        other = model.predict_parameters(table.assign(**{column: table[column].to_numpy()[::-1]}))
        assert_allclose(other[same], found[same], rtol=1e-6)
        assert np.abs(other[moved] / found[moved] - 1).max() > 0.1
    # What a parameter reads is absent: nothing of the networks moves it.
    alone = model.predict_parameters(table, modalities=["two"])
    assert alone["loc"].nunique() == 1
    model.save(tmp_path / "model")
    pd.testing.assert_frame_equal(
        FusionDistribution.load(tmp_path / "model").predict_parameters(table), found
    )
    shared = clone(model).set_params(deep={"loc": None, "scale": None}).fit(table, y)
    assert shared.model_.deep.linear is not None
    assert model.model_.deep.linear is None
