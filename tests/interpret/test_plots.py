"""Figures of interpretation: what stands on the Axes is what was given or estimated."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from lifelines import KaplanMeierFitter
from matplotlib.collections import LineCollection, PathCollection, QuadMesh

from mmfusion import surv
from mmfusion.estimators import FusionCox, FusionPAMM
from mmfusion.interpret import plots
from mmfusion.metrics import brier_score, cumulative_dynamic_auc, net_benefit, score_interval
from mmfusion.survival import cumulative_incidence, kaplan_meier
from tests.helpers import make_cohort


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


@pytest.fixture(scope="module")
def cohort():
    return make_cohort(200, missing=0.0, random_state=1)


@pytest.fixture(scope="module")
def cox(cohort):
    return FusionCox(modalities={}, structured="gene_0 + sex + C(stage) + s(age)").fit(*cohort)


def labels(axis) -> list[str]:
    return [text.get_text() for text in axis.get_ticklabels()]


def only(ax, kind):
    (found,) = [c for c in ax.collections if isinstance(c, kind)]
    return found


def test_a_forest_plot_has_a_line_a_coefficient(ax, cox) -> None:
    effects = cox.effects_
    drawn = plots.plot_forest(effects, ax)
    assert drawn is ax
    rows = effects.drop(index="s(age)")
    assert labels(ax.yaxis) == list(rows.index)
    x, y = ax.lines[0].get_data()
    np.testing.assert_allclose(x, rows["exp(coef)"])
    assert list(y) == list(range(len(rows)))[::-1]  # the first on top
    ends = np.array([segment[:, 0] for segment in only(ax, LineCollection).get_segments()])
    np.testing.assert_allclose(ends, rows[["exp(lower)", "exp(upper)"]])
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel() == "hazard ratio [95 % interval]"
    first = rows.iloc[0]
    written = f"{first['exp(coef)']:.2f} [{first['exp(lower)']:.2f}, {first['exp(upper)']:.2f}]"
    assert ax.texts[0].get_text() == written


def test_a_forest_plot_of_coefficients(ax, cox) -> None:
    plots.plot_forest(cox.effects_, ax, ratio=False)
    np.testing.assert_allclose(ax.lines[0].get_xdata()[0], cox.effects_["coef"].iloc[0])
    assert ax.get_xscale() == "linear"


def test_a_forest_plot_refuses_what_it_cannot_draw(ax, cox) -> None:
    with pytest.raises(ValueError, match="must have a row"):
        plots.plot_forest(cox.effects_.loc[["s(age)"]], ax)
    with pytest.raises(ValueError, match="must be False for a table without"):
        plots.plot_forest(cox.effects_[["coef", "lower", "upper"]], ax, ratio=True)


def test_ratios_far_from_one_have_readable_ticks(ax) -> None:
    table = pd.DataFrame(
        {"exp(coef)": [20.0], "exp(lower)": [0.05], "exp(upper)": [900.0]}, index=["x"]
    )
    plots.plot_forest(table, ax)
    assert labels(ax.xaxis) == ["0.1", "1", "10", "100"]


def test_a_smooth_effect_with_its_band(ax, cox, cohort) -> None:
    frame, _ = cohort
    effect = cox.smooth_effect("s(age)", np.linspace(40, 80, 9))
    plots.plot_smooth(effect, ax, values=frame["age"])
    np.testing.assert_allclose(ax.lines[0].get_data(), [effect.index, effect["effect"]])
    corners = ax.collections[0].get_paths()[0].vertices
    for bound in ("lower", "upper"):
        for point in zip(effect.index, effect[bound], strict=True):
            assert np.isclose(corners, point).all(axis=1).any()
    np.testing.assert_allclose(ax.lines[2].get_xdata(), frame["age"])
    assert ax.get_xlabel() == "age"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_effects_in_time_and_of_two_columns(cohort) -> None:
    frame, y = cohort
    model = FusionPAMM(modalities={}, structured="tv(gene_0) + te(age, gene_1)").fit(frame, y)
    figure, (left, middle, right) = plt.subplots(1, 3)
    times = np.linspace(y["time"].min(), y["time"].max() / 2, 5)
    varying = model.smooth_effect("tv(gene_0)", times)
    plots.plot_smooth(varying, left, label="log hazard ratio")
    np.testing.assert_allclose(left.lines[0].get_data(), [times, varying["effect"]])
    assert left.get_ylabel() == "log hazard ratio"

    ratio = model.hazard_ratio(frame[:1].assign(gene_0=1.0), frame[:1].assign(gene_0=0.0), times)
    plots.plot_smooth(ratio, middle)
    np.testing.assert_allclose(middle.lines[0].get_data(), [times, ratio["hazard_ratio"]])
    assert middle.get_yscale() == "log"

    a, g = np.linspace(45, 75, 4), np.linspace(-1, 1, 3)
    grid = pd.DataFrame([(age, gene) for age in a for gene in g], columns=["age", "gene_1"])
    effect = model.smooth_effect("te(age, gene_1)", grid)
    plots.plot_surface(effect, grid, right)
    shown = only(right, QuadMesh).get_array()
    np.testing.assert_allclose(np.asarray(shown).reshape(3, 4).T.ravel(), effect["effect"])
    assert (right.get_xlabel(), right.get_ylabel()) == ("age", "gene_1")
    with pytest.raises(ValueError, match="every value of one column"):
        plots.plot_surface(effect[:-1], grid[:-1], right)
    plt.close(figure)


def test_schoenfeld_residuals_and_their_spline(ax, cox, cohort) -> None:
    import statsmodels.api as sm
    from patsy import dmatrix

    frame, y = cohort
    residuals = cox.residuals(frame, y, "scaled_schoenfeld")["gene_0"]
    time = pd.Series(y["time"], frame.index)[residuals.index]
    coef = cox.effects_.loc["gene_0", "coef"]
    plots.plot_schoenfeld(residuals, time, ax, coef=coef, p=0.2, time_label="months")
    np.testing.assert_allclose(ax.lines[0].get_data(), [time, residuals])
    x, line = ax.lines[1].get_data()
    # The same space of functions, from another basis: natural splines with these knots.
    knots = np.quantile(time, [0.25, 0.5, 0.75])
    formula = "cr(x, knots=knots, lower_bound=low, upper_bound=high) - 1"
    bounds = {"knots": knots, "low": time.min(), "high": time.max()}
    fit = sm.OLS(residuals, dmatrix(formula, {"x": time.to_numpy(), **bounds})).fit()
    points = np.asarray(dmatrix(formula, {"x": x, **bounds}))
    np.testing.assert_allclose(line, points @ fit.params, rtol=1e-6, atol=1e-8)
    band = fit.get_prediction(points).conf_int()
    corners = ax.collections[0].get_paths()[0].vertices
    assert np.isclose(corners[:, 1], band[10, 0]).any()
    assert np.isclose(corners[:, 1], band[10, 1]).any()
    assert ax.lines[2].get_ydata()[0] == coef
    assert ax.get_title() == "p = 0.200"
    assert ax.get_xlabel() == "months"


def test_auc_over_time(ax, cohort) -> None:
    frame, y = cohort
    risk = frame["gene_0"].to_numpy()
    times = np.quantile(y["time"], [0.3, 0.5, 0.7])
    plots.plot_auc(y, risk, times, ax)
    x, auc = ax.lines[0].get_data()
    np.testing.assert_array_equal(x, times)
    np.testing.assert_allclose(auc, cumulative_dynamic_auc(y, y, risk, times).auc)
    corners = ax.collections[0].get_paths()[0].vertices[:, 1]
    table = score_interval("auc", y, risk, times=times)
    assert np.isclose(corners, table["lower"].iloc[0]).any()


def test_auc_chooses_times_with_events_and_rows_beyond(ax, cohort) -> None:
    frame, y = cohort
    plots.plot_auc(y, frame["gene_0"], ax=ax)
    x, auc = ax.lines[0].get_data()
    assert 10 <= len(x) <= 20
    assert np.isfinite(auc).all()


def test_brier_score_beside_kaplan_meiers(ax, cohort, cox) -> None:
    frame, y = cohort
    times = np.quantile(y["time"], [0.2, 0.4, 0.6])
    curves = cox.predict_survival_function(frame, times)
    plots.plot_brier(y, curves, ax)
    np.testing.assert_allclose(ax.lines[0].get_data(), [times, brier_score(y, y, curves)])
    marginal = kaplan_meier(y["time"], y["event"])(times)
    expected = brier_score(y, y, np.tile(marginal, (len(y), 1)), times)
    np.testing.assert_allclose(ax.lines[1].get_ydata(), expected)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["model", "Kaplan-Meier"]


def test_decision_curves(ax, cohort, cox) -> None:
    frame, y = cohort
    time = float(np.median(y["time"]))
    risk = 1 - cox.predict_survival_function(frame, [time]).iloc[:, 0]
    table = net_benefit(y, risk, time=time)
    plots.plot_decision({"Cox": table, "half": 0.5 * table}, ax)
    np.testing.assert_allclose(ax.lines[0].get_data(), [table.index, table["model"]])
    np.testing.assert_allclose(ax.lines[2].get_ydata(), 0.5 * table["all"])
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words == ["Cox", "half", "act on everyone", "act on nobody"]


def test_survival_curves_of_profiles_with_bands(ax, cox, cohort) -> None:
    frame, y = cohort
    times = np.quantile(y["time"], [0.2, 0.5, 0.8])
    band = cox.survival_interval(frame[:2], times, frame, y)
    plots.plot_survival_curves(band, ax, labels=["a", "b"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    for line, name, fill in zip(ax.lines, frame.index[:2], ax.collections, strict=True):
        np.testing.assert_allclose(line.get_xdata(), np.r_[0, times])
        np.testing.assert_allclose(line.get_ydata(), np.r_[1, band.loc[name, "survival"]])
        corners = fill.get_paths()[0].vertices[:, 1]
        for bound in ("lower", "upper"):
            assert np.isclose(corners, band.loc[name, bound].iloc[-1]).any()


def test_an_attribution_stands_beside_and_on_its_image(ax) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    values = rng.normal(size=(6, 8))
    plots.plot_attribution_image(image, values, ax)
    shown = [picture.get_array() for picture in ax.images]
    np.testing.assert_array_equal(shown[0], image)
    np.testing.assert_array_equal(shown[1], values)
    np.testing.assert_allclose(shown[2], image.mean(axis=2))
    np.testing.assert_array_equal(shown[3], values)
    low, high = ax.images[1].get_clim()
    assert low == -high
    extents = [picture.get_extent() for picture in ax.images]
    assert extents[0][1] < extents[1][0] < extents[1][1] < extents[2][0]
    assert extents[2] == extents[3]
    assert labels(ax.xaxis) == ["image", "map", "map on image"]
    with pytest.raises(ValueError, match="height and width"):
        plots.plot_attribution_image(image, values.T, ax)


def test_bars_of_genes(ax) -> None:
    table = pd.DataFrame({"a": [1.0, -1], "b": [3.0, -5], "c": [0.0, 1]})
    plots.plot_attribution_bars(table, ax, n=2)
    assert labels(ax.yaxis) == ["b", "a"]
    assert [bar.get_width() for bar in ax.patches] == [4.0, 1.0]


def test_bars_of_one_subject_keep_their_sign(ax) -> None:
    plots.plot_attribution_bars(pd.Series({"a": 1.0, "b": -3.0}), ax)
    assert labels(ax.yaxis) == ["b", "a"]
    assert [bar.get_width() for bar in ax.patches] == [-3.0, 1.0]
    blue, red = (bar.get_facecolor() for bar in ax.patches)
    assert blue[2] > blue[0]
    assert red[0] > red[2]


def test_a_volcano_names_who_is_below_the_level(ax) -> None:
    table = pd.DataFrame({"coef": [1.0, -2.0, 0.1], "p": [0.001, 1e-5, 0.6]}, index=list("xyz"))
    plots.plot_volcano(table, ax)
    points = only(ax, PathCollection)
    np.testing.assert_allclose(points.get_offsets(), [[1, 3], [-2, 5], [0.1, -np.log10(0.6)]])
    assert [text.get_text() for text in ax.texts] == ["y", "x"]
    plots.plot_volcano(table.assign(p_adjusted=[0.2, 0.01, 0.9]), ax)
    assert [text.get_text() for text in ax.texts[2:]] == ["y"]


def test_attributions_over_time(ax) -> None:
    curves = pd.DataFrame({"a": [0.1, -0.2], "b": [1.0, 1.0], "c": [0.0, 0.0]}, index=[1.0, 2.0])
    plots.plot_attribution_over_time(curves, ax, n=2)
    np.testing.assert_array_equal(ax.lines[0].get_data(), [[1, 2], [1, 1]])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [0.1, -0.2])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["b", "a"]


def test_shapley_bars(ax) -> None:
    table = pd.DataFrame(
        {"value": [0.2, -0.1], "lower": [0.1, -0.2], "upper": [0.3, 0.05]}, index=["ct", "rna"]
    )
    plots.plot_shapley(table, ax, label="C")
    assert [bar.get_width() for bar in ax.patches] == [0.2, -0.1]
    assert labels(ax.yaxis) == ["ct", "rna"]
    ends = [segment[:, 0].tolist() for segment in only(ax, LineCollection).get_segments()]
    assert ends == [[0.1, 0.3], [-0.2, 0.05]]
    assert ax.get_xlabel() == "C"


def test_learning_curves(ax) -> None:
    one = pd.DataFrame({"epoch": [1, 2, 3], "loss": [3.0, 2, 1], "val_loss": [3.0, 1.5, 2]})
    plots.plot_learning_curves(one, ax)
    np.testing.assert_array_equal(ax.lines[0].get_data(), [[1, 2, 3], [3, 2, 1]])
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [3, 1.5, 2])
    assert (ax.lines[2].get_xdata(), ax.lines[2].get_ydata()) == (2, 1.5)
    with pytest.raises(ValueError, match="no network was trained"):
        plots.plot_learning_curves(pd.DataFrame(), ax)


def test_learning_curves_of_late_fusion(ax) -> None:
    one = pd.DataFrame({"epoch": [1, 2], "loss": [3.0, 2]})
    plots.plot_learning_curves(pd.concat([one.assign(model="ct"), one.assign(model="rna")]), ax)
    words = [text.get_text() for text in ax.get_legend().get_texts()]
    assert words == ["ct: training", "rna: training"]


def test_net_benefit_is_that_of_the_formula() -> None:
    """Against the definition with lifelines' Kaplan-Meier curve among those above the threshold."""
    rng = np.random.default_rng(0)
    risk = rng.uniform(size=150)
    event_time, censored = rng.exponential(2 - risk), rng.exponential(2, 150)
    y = surv(np.minimum(event_time, censored), event_time <= censored)
    table = net_benefit(y, risk, [0.1, 0.3, 0.6], time=1.0)
    for cut, row in table.iterrows():
        acts = risk >= cut
        curve = KaplanMeierFitter().fit(y["time"][acts], y["event"][acts])
        everyone = 1 - KaplanMeierFitter().fit(y["time"], y["event"]).predict(1.0)
        positive = 1 - curve.predict(1.0)
        odds = cut / (1 - cut)
        assert row["model"] == pytest.approx(acts.mean() * (positive - (1 - positive) * odds))
        assert row["all"] == pytest.approx(everyone - (1 - everyone) * odds)
    assert (table["none"] == 0).all()


def test_net_benefit_without_censoring_is_that_of_classes() -> None:
    rng = np.random.default_rng(1)
    risk, time = rng.uniform(size=80), rng.exponential(size=80)
    y = surv(time, np.ones(80, bool))
    cuts = [0.2, 0.5]
    pd.testing.assert_frame_equal(
        net_benefit(y, risk, cuts, time=1.0), net_benefit(time <= 1.0, risk, cuts)
    )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"thresholds": [0.0]}, "thresholds"),
        ({"time": 99.0}, "within the follow-up"),
        ({}, "0 or 1 in each row"),
    ],
)
def test_net_benefit_refuses(options, match: str) -> None:
    y = surv([1, 2, 3], [1, 0, 1]) if "time" in options else [1, 2, 0]
    with pytest.raises(ValueError, match=match):
        net_benefit(y, [0.1, 0.2, 0.3], **options)


def test_a_model_draws_its_own_effects(ax, cox, cohort) -> None:
    assert cox.plot_effects(ax=ax) is ax
    assert labels(ax.yaxis)[0] == "gene_0"
    figure, other = plt.subplots()
    cox.plot_effects("s(age)", other)
    x, line = other.lines[0].get_data()
    frame, _ = cohort
    assert (x[0], x[-1]) == pytest.approx((frame["age"].min(), frame["age"].max()), rel=0.01)
    np.testing.assert_allclose(line, cox.smooth_effect("s(age)", x)["effect"])
    assert (other.get_xlabel(), other.get_ylabel()) == ("age", "s(age)")
    plt.close(figure)
    with pytest.raises(ValueError, match="must be a smooth"):
        cox.plot_effects("gene_0")


def test_a_model_draws_effects_over_time_of_two_columns_and_of_levels(ax, cohort) -> None:
    frame, y = cohort
    formula = "tv(gene_0) + te(age, gene_1) + s(gene_2, by=sex)"
    model = FusionPAMM(modalities={}, structured=formula).fit(frame, y)
    model.plot_effects("tv(gene_0)", ax)
    x, line = ax.lines[0].get_data()
    np.testing.assert_allclose(line, model.smooth_effect("tv(gene_0)", x)["effect"])
    assert ax.get_xlabel() == "t"
    figure, (left, right) = plt.subplots(1, 2)
    model.plot_effects("te(age, gene_1)", left)
    assert only(left, QuadMesh).get_array().size == 900
    model.plot_effects("s(gene_2):sex[f]", right)
    assert right.get_xlabel() == "gene_2"
    plt.close(figure)


def test_incidence_of_a_cause_by_group(ax, cohort) -> None:
    frame, y = cohort
    cause = np.where(y["event"], 1 + (frame["gene_0"] > 0), 0)
    both = surv(y["time"], cause)
    group = frame["sex"].to_numpy()
    predicted = pd.DataFrame({0.5: np.full(200, 0.2), 1.0: np.where(group == "f", 0.3, 0.4)})
    drawn = plots.plot_incidence(both, cause=2, ax=ax, groups=group, predicted=predicted)
    assert drawn is ax
    assert ax.get_legend_handles_labels()[1] == [
        f"{level} (n = {(group == level).sum()})" for level in "fm"
    ]
    lines, dashed = ax.lines[::2], ax.lines[1::2]
    for level, line, mean in zip("fm", lines, dashed, strict=True):
        mine = group == level
        curve = cumulative_incidence(y["time"][mine], cause[mine], 2)
        x, f = line.get_data()
        np.testing.assert_allclose(x, np.r_[0, curve.x])
        np.testing.assert_allclose(f, np.r_[0, curve.y])
        np.testing.assert_allclose(mean.get_ydata(), [0, 0.2, 0.3 if level == "f" else 0.4])
    texts = [text.get_text() for text in ax.texts]
    at = texts.index("at risk: f")
    assert texts[at + 1] == str((group == "f").sum())
    assert len(ax.collections) == 2  # a band each
    with pytest.raises(ValueError, match="the causes of y"):
        plots.plot_incidence(both, cause=3, groups=group)


def test_a_ratio_without_an_end_is_left_out_of_a_forest(ax, cox) -> None:
    effects = cox.effects_.copy()
    effects.loc["gene_0", "exp(lower)"] = 0.0
    plots.plot_forest(effects, ax)
    assert labels(ax.yaxis) == list(effects.index.drop(["gene_0", "s(age)"]))


def test_residuals_of_one_time_are_refused(ax) -> None:
    with pytest.raises(ValueError, match="Got 4 times, 1 of them different"):
        plots.plot_schoenfeld(pd.Series([1.0, 2.0, 3.0, 4.0]), [5, 5, 5, 5], ax)
