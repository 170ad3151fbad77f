"""Predictive distributions in comparisons and figures."""

from __future__ import annotations

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mmfusion import Genes, Image, surv
from mmfusion.estimators import FusionDistribution, FusionEnsemble
from mmfusion.evaluation import (
    compare,
    plot_pit,
    plot_quantile_reliability,
    plot_rootogram,
    plot_worm,
)
from mmfusion.evaluation.outcomes import task_of
from mmfusion.evaluation.scoring import TestFold, resolve_scoring
from mmfusion.evaluation.single import SingleModality
from mmfusion.metrics import (
    concordance_index,
    crps,
    log_score,
    quantile_reliability,
    rootogram,
    worm,
)
from tests.helpers import Frozen, make_cohort
from tests.metrics.test_distribution_scorers import Normal

matplotlib.use("Agg")


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_models_are_compared_by_their_distributions() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 1))
    y = X[:, 0] + rng.normal(size=200)
    models = {"normal": Normal(), "wide": Normal(widen=2.0), "line": LinearRegression()}
    metrics = resolve_scoring(["crps", "log_score"], "regression")
    found = compare(models, X, y, folds=4, task="regression", metrics=metrics)
    table = found.table()
    assert table.loc["line"].isna().loc[("crps", "mean")]
    assert table.loc["normal", ("crps", "mean")] < table.loc["wide", ("crps", "mean")]
    assert table.loc["normal", ("log_score", "mean")] > table.loc["wide", ("log_score", "mean")]
    assert table.loc["normal", ("crps", "lower")] < 1 / np.sqrt(np.pi)
    assert table.loc["normal", ("crps", "upper")] > 1 / np.sqrt(np.pi)


def test_an_accelerated_failure_time_model_is_compared_by_survival() -> None:
    frame, y = make_cohort(120)
    model = FusionDistribution({}, structured="gene_0", family="weibull")
    task = task_of(model, y)
    assert task == "survival"
    metrics = resolve_scoring(["c", "log_score"], task)
    models = {
        "aft": model,
        # `predict` is a time, which a Pipeline, a search and an average must not take for a risk
        "piped": make_pipeline(FunctionTransformer(), model),
        "searched": GridSearchCV(model, {"random_state": [0]}, cv=2),
        "averaged": FusionEnsemble(model, 2, random_state=0),
    }
    compared = compare(models, frame, y, folds=3, task=task, metrics=metrics)
    table = compared.table()
    assert table.loc["aft", ("c", "mean")] > 0.5
    mine = compared.risks.query("model == 'aft' and fold == 0")
    score = compared.scores.query("model == 'aft' and fold == 0")["c"].item()
    assert concordance_index(y[mine["row"]], mine["risk"]) == score
    # The rows without an image have the mean risk, and the curve of all, beside those with one.
    inner = FusionDistribution({"rna": Genes(["gene_0"])}, family="weibull", n_members=0)
    alone = SingleModality(inner, Image("image")).fit(frame, y)
    known = frame["image"].notna().to_numpy()
    np.testing.assert_allclose(
        alone.predict(frame)[known], alone.estimator_.predict_risk(frame[known])
    )
    assert np.unique(alone.predict(frame)[~known]) == alone.predict(frame)[known].mean()
    assert alone.predict_survival_function(frame, [0.2]).shape == (120, 1)
    assert table["c", "mean"].nunique() == 1
    assert np.isfinite(table.loc["aft", ("log_score", "mean")])


def test_scores_of_a_fold_have_the_influence_of_each_row() -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(50, 1))
    model = Normal().fit(X, X[:, 0] + rng.normal(size=50))
    y = surv(rng.exponential(size=50), np.arange(50) % 2)
    fold = TestFold(model, X, y, y)
    for name, function in {"crps": crps, "log_score": log_score}.items():
        each = function(y, model.predict_distribution(X))
        score = resolve_scoring(name, "survival")[name](fold)
        assert score.value == pytest.approx(each.mean())
        assert score.standard_error() == pytest.approx(each.std() / np.sqrt(50), rel=0.02)
    with pytest.raises(ValueError, match="scoring"):
        resolve_scoring("crsp", "survival")
    with pytest.raises(ValueError, match="scoring"):
        resolve_scoring("crps", "classification")


def test_worm_plot_shows_its_table(ax) -> None:
    table = worm(np.random.default_rng(0).normal(size=60))
    assert plot_worm(table, ax) is ax
    points = ax.lines[-1]
    np.testing.assert_array_equal(points.get_xdata(), table["theoretical"])
    np.testing.assert_array_equal(points.get_ydata(), table["deviation"])
    low, high = ax.get_ylim()
    assert low == -high
    assert high > table["deviation"].abs().max()


def test_rootogram_hangs_from_what_was_expected(ax) -> None:
    table = rootogram([0, 0, 1, 3], Frozen(stats.poisson, mu=[1.0, 0.5, 1.0, 2.0]))
    plot_rootogram(table, ax)
    tops = [bar.get_y() + bar.get_height() for bar in ax.patches]
    np.testing.assert_allclose(tops, np.sqrt(table["expected"]))
    np.testing.assert_allclose(
        [bar.get_height() ** 2 for bar in ax.patches], [2, 1, 0, 1], atol=1e-9
    )


def test_reliability_of_several_models(ax) -> None:
    y = np.random.default_rng(0).normal(size=80)
    tables = {
        name: quantile_reliability(y, Frozen(stats.norm, loc=np.zeros(80), scale=scale))
        for name, scale in {"right": 1.0, "wide": 2.0}.items()
    }
    plot_quantile_reliability(tables, ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["right", "wide"]
    drawn = ax.containers[1].lines[0]
    np.testing.assert_array_equal(drawn.get_ydata(), tables["wide"]["observed"])
    figure, single = plt.subplots()
    assert plot_quantile_reliability(tables["right"], single).get_legend() is None
    plt.close(figure)


def test_pit_histogram_is_a_density_with_a_band(ax) -> None:
    values = (np.arange(100) + 0.5) / 100
    plot_pit(values, ax, bins=10)
    bars = [patch for patch in ax.patches if patch.get_width() == pytest.approx(0.1)]
    np.testing.assert_allclose([bar.get_height() for bar in bars], 1)
    band = ax.patches[-1].get_extents().transformed(ax.transData.inverted())
    expected = stats.binom.ppf([0.025, 0.975], 100, 0.1) / 10
    np.testing.assert_allclose([band.y0, band.y1], expected)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        plot_pit([0.2, np.nan], ax)
