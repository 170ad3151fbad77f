"""Figures: what is drawn is what was estimated."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from lifelines.statistics import multivariate_logrank_test

from mmfusion import surv
from mmfusion.evaluation import (
    Comparison,
    plot_differences,
    plot_risk_groups,
    plot_survival_curves,
)
from mmfusion.evaluation.plots import risk_groups
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
    plot_risk_groups(y, risk, ax)
    label = risk_groups(risk, 90, 3)
    p = multivariate_logrank_test(y["time"], label, y["event"]).p_value
    assert ax.get_legend().get_title().get_text() == f"log-rank p = {p:.3f}"
    texts = [text.get_text() for text in ax.texts]
    start = texts.index("at risk: low")
    tick = ax.get_xticks()[1]
    assert texts[start + 1] == "30"
    assert texts[start + 2] == str(((label == 0) & (y["time"] >= tick)).sum())


def test_delayed_entry_has_no_log_rank_test(ax) -> None:
    frame, y = make_cohort(90)
    late = surv(y["time"], y["event"], 0.5 * y["time"])
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
