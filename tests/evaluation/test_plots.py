"""Figures: what is drawn is what was estimated."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from lifelines.statistics import multivariate_logrank_test
from matplotlib.collections import LineCollection, PathCollection, PolyCollection

from mmfusion import surv
from mmfusion.evaluation import (
    Comparison,
    plot_calibration,
    plot_differences,
    plot_risk_groups,
    plot_survival_curves,
)
from mmfusion.evaluation.plots import risk_groups
from mmfusion.metrics import survival_calibration
from mmfusion.survival import kaplan_meier
from tests.helpers import make_cohort

matplotlib.use("Agg")


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def steps(line) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_risk_groups_are_kaplan_meier_curves(ax, groups: int) -> None:
    frame, y = make_cohort(120)
    risk = frame["gene_0"].to_numpy()
    plot_risk_groups(y, risk, ax, groups=groups, time_label="months")
    label = risk_groups(risk, 120, groups)
    assert np.bincount(label).tolist() == [120 // groups] * groups
    assert risk[label == 0].max() < risk[label == 1].min()
    assert len(ax.lines) == groups
    for group, line in enumerate(ax.lines):
        curve = kaplan_meier(y["time"][label == group], y["event"][label == group])
        x, s = steps(line)
        np.testing.assert_array_equal(x[1:], curve.x)
        np.testing.assert_array_equal(s[1:], curve.y)
        assert line.get_drawstyle() == "steps-post"
    assert ax.get_xlabel() == "months"


def test_log_rank_p_and_numbers_at_risk(ax) -> None:
    frame, y = make_cohort(90, random_state=3)
    risk = 0.1 * frame["gene_0"].to_numpy() + np.random.default_rng(0).normal(size=90)
    label = risk_groups(risk, 90, 3)
    plot_risk_groups(y, ax=ax, groups=np.array(["high", "low", "medium"])[[1, 2, 0]][label])
    p = multivariate_logrank_test(y["time"], label, y["event"]).p_value
    assert ax.get_legend().get_title().get_text() == f"log-rank p = {p:.3f}"
    texts = [text.get_text() for text in ax.texts]
    start = texts.index("at risk: low")
    tick = ax.get_xticks()[1]
    assert texts[start + 1] == "30"
    assert texts[start + 2] == str(((label == 0) & (y["time"] >= tick)).sum())


def test_groups_of_a_risk_have_no_log_rank_test(ax) -> None:
    """Of out-of-fold risks it would not hold its level."""
    frame, y = make_cohort(90)
    plot_risk_groups(y, frame["gene_0"], ax)
    assert ax.get_legend().get_title().get_text() == ""


def test_delayed_entry_has_no_log_rank_test(ax) -> None:
    frame, y = make_cohort(90)
    late = surv(y["time"], y["event"], 0.5 * y["time"])
    plot_risk_groups(late, ax=ax, groups=risk_groups(frame["gene_0"], 90, 3))
    assert ax.get_legend().get_title().get_text() == ""
    ax.clear()
    plot_risk_groups(late, frame["gene_0"], ax)
    assert ax.get_legend().get_title().get_text() == ""
    label = risk_groups(frame["gene_0"], 90, 3)
    mine = late[label == 0]
    curve = kaplan_meier(mine["time"], mine["event"], mine["entry"])
    np.testing.assert_array_equal(steps(ax.lines[0])[1][1:], curve.y)


@pytest.mark.parametrize(
    ("risk", "groups", "message"),
    [
        (np.zeros(90), 3, "must differ enough for 3 groups. Got 1 distinct"),
        (np.arange(89.0), 3, r"for each of the 90 rows. Got shape \(89,\)"),
        (np.full(90, np.nan), 3, "90 NaN"),
        (np.arange(90.0), 1, "groups parameter must be at least 2"),
    ],
)
def test_bad_risks(ax, risk: np.ndarray, groups: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_risk_groups(make_cohort(90)[1], risk, ax, groups=groups)


@pytest.mark.parametrize(
    ("counts", "groups", "expected"),
    [
        ([35, 65], 2, [35, 65]),
        ([65, 35], 2, [65, 35]),
        ([1, 99], 2, [1, 99]),
        ([10, 10, 80], 3, [10, 10, 80]),
        ([80, 10, 10], 3, [80, 10, 10]),
        ([30, 5, 5, 60], 2, [40, 60]),
        ([5, 5, 5, 5, 80], 3, [15, 5, 80]),
        ([34, 33, 33], 3, [34, 33, 33]),
    ],
)
def test_tied_risks_part_where_they_differ(counts, groups: int, expected) -> None:
    risk = np.repeat(np.arange(len(counts)) / 7, counts)
    mixed = np.random.default_rng(0).permutation(len(risk))
    label = risk_groups(risk[mixed], len(risk), groups)
    assert np.bincount(label).tolist() == expected
    for group in range(1, groups):  # in the order of the risks, none of them in two groups
        assert risk[mixed][label == group - 1].max() < risk[mixed][label == group].min()


def test_a_score_of_two_values_makes_two_groups(ax) -> None:
    _, y = make_cohort(90)
    plot_risk_groups(y, np.arange(90) % 20 < 13, ax)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["low risk (n = 28)", "high risk (n = 62)"]


@pytest.mark.parametrize("kind", ["text", "categorical", "list"])
def test_groups_of_a_column(ax, kind: str) -> None:
    _, y = make_cohort(90)
    stage = pd.Series(np.resize(["II", "I", "III"], 90), index=range(5, 95))
    order = ["I", "II", "III"]
    given = {
        "text": stage,
        "categorical": stage.astype(pd.CategoricalDtype(["III", "II", "none", "I"])),
        "list": stage.tolist(),
    }[kind]
    plot_risk_groups(y, ax=ax, groups=given)
    order = order[::-1] if kind == "categorical" else order
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == [f"{name} (n = 30)" for name in order]
    for name, line in zip(order, ax.lines, strict=True):
        mine = (stage == name).to_numpy()
        curve = kaplan_meier(y["time"][mine], y["event"][mine])
        np.testing.assert_array_equal(steps(line)[1][1:], curve.y)
    p = multivariate_logrank_test(y["time"], stage, y["event"]).p_value
    shown = "< 0.001" if p < 0.001 else f"= {p:.3f}"
    assert ax.get_legend().get_title().get_text() == f"log-rank p {shown}"


@pytest.mark.parametrize(
    ("risk", "groups", "message"),
    [
        (None, ["a", "b"], r"one group for each of the 90 rows. Got shape \(2,\)"),
        (None, ["a", None] * 45, r"missing groups in rows \[1, 3, 5, 7, 9\]"),
        (None, ["a"] * 90, "2 to 12 groups. Got 1"),
        (None, np.arange(90), "2 to 12 groups. Got 90; cut"),
        (np.arange(90.0), ["a", "b"] * 45, "Got both"),
        (None, None, "Got neither"),
        (None, 3, "Got neither"),
    ],
)
def test_bad_groups(ax, risk, groups, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_risk_groups(make_cohort(90)[1], risk, ax, groups=groups)


def test_censoring_is_marked_on_the_curves(ax) -> None:
    frame, y = make_cohort(90)
    label = risk_groups(frame["gene_0"], 90, 2)
    plot_risk_groups(y, frame["gene_0"], ax, groups=2)
    marks = [found for found in ax.collections if isinstance(found, PathCollection)]
    for group, found in enumerate(marks):
        mine = label == group
        times = np.unique(y["time"][mine & ~y["event"]])
        curve = kaplan_meier(y["time"][mine], y["event"][mine])
        np.testing.assert_array_equal(found.get_offsets(), np.column_stack([times, curve(times)]))
    plt.figure()
    bare = plot_risk_groups(y, frame["gene_0"], groups=2, censoring=False)
    plt.close()
    assert len(marks) == 2
    assert not [found for found in bare.collections if isinstance(found, PathCollection)]


@pytest.mark.parametrize("layout", [None, "constrained", "tight"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("groups", [2, 5])
def test_numbers_at_risk_stay_on_the_page(layout, shape, groups: int) -> None:
    frame, y = make_cohort(120)
    figure, axes = plt.subplots(*shape, layout=layout, squeeze=False, figsize=(8, 6))
    for ax in axes.flat:
        plot_risk_groups(y, frame["gene_0"], ax, groups=groups, time_label="months")
    figure.canvas.draw()
    boxes = {ax: [text.get_window_extent() for text in ax.texts] for ax in axes.flat}
    for ax, texts in boxes.items():
        assert min(box.y0 for box in texts) >= 0
        assert min(box.x0 for box in texts) >= 0
        assert ax.get_window_extent().height > 60
        for other in axes.flat:
            if other is not ax:
                assert not any(box.overlaps(other.get_window_extent()) for box in texts)
                assert not any(box.overlaps(theirs) for box in texts for theirs in boxes[other])
    plt.close(figure)


def test_survival_curves(ax) -> None:
    curves = pd.DataFrame([[0.9, 0.5], [0.8, 0.1]], columns=[1.0, 2.0], index=["a", "b"])
    plot_survival_curves(curves, ax)
    np.testing.assert_array_equal(steps(ax.lines[1])[1], [1.0, 0.8, 0.1])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]


def test_differences(ax) -> None:
    rng = np.random.default_rng(0)
    scores = pd.DataFrame(
        {
            "model": np.repeat(["one", "two", "three"], 5),
            "repeat": 0,
            "fold": np.tile(np.arange(5), 3),
            "n_train": 80,
            "n_test": 20,
            "c": rng.uniform(0.5, 0.9, 15),
        }
    )
    comparison = Comparison(scores, pd.DataFrame())
    plot_differences(comparison, "one", ax)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["two", "three"]
    intervals = comparison.differences("one")
    drawn = np.array([segment[:, 0] for segment in ax.collections[0].get_segments()])
    np.testing.assert_allclose(drawn, intervals[["lower", "upper"]])


def test_the_current_axes_are_the_default(ax) -> None:
    plt.sca(ax)
    curves = pd.DataFrame([[0.9, 0.5]], columns=[1.0, 2.0])
    assert plot_survival_curves(curves) is ax


def test_calibration_curves_are_drawn_with_bands_and_counts(ax) -> None:
    frame, y = make_cohort(150)
    at = float(np.median(y["time"]))
    found = {
        name: survival_calibration(y, np.exp(-0.5 * np.exp(scale * frame["gene_0"])), at)
        for name, scale in {"one": 0.5, "two": 1.0}.items()
    }
    plot_calibration(found, ax)
    curves = ax.lines[1:]
    for line, one in zip(curves, found.values(), strict=True):
        x, observed = steps(line)
        np.testing.assert_array_equal(x, one.curve["predicted"])
        np.testing.assert_array_equal(observed, one.curve["observed"])
    slope = found["two"].table.loc["slope"]
    shown = ax.get_legend().get_texts()[1].get_text()
    assert shown == "two: slope {:.2f} [{:.2f}, {:.2f}]".format(*slope.drop("se"))
    bands = [c for c in ax.collections if isinstance(c, PolyCollection)]
    assert len(bands) == 2
    bars = [c for c in ax.collections if isinstance(c, LineCollection)]
    heights = np.array([segment[1, 1] for segment in bars[0].get_segments()])
    counts = np.histogram(found["one"].risk, np.linspace(0, 1, 51))[0]
    np.testing.assert_allclose(heights, 0.12 * counts / counts.max())
    with pytest.raises(ValueError, match=r"one time\. Got none"):
        plot_calibration({}, ax)


def test_times_of_curves_may_come_in_any_order(ax) -> None:
    curves = pd.DataFrame([[0.2, 0.9, 0.5]], columns=[36.0, 12.0, 24.0])
    plot_survival_curves(curves, ax)
    x, s = ax.lines[0].get_data()
    assert list(x) == [0, 12, 24, 36]
    assert list(s) == [1, 0.9, 0.5, 0.2]
    assert ax.get_xlim() == (0, 36)
    with pytest.raises(ValueError, match="labels parameter must have one for each of the 1 rows"):
        plot_survival_curves(curves, ax, labels=["a", "b"])
