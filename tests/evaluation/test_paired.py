"""Models compared on the same folds: scores against direct computation, pairing, errors."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import BaseEstimator
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import concordance_index_censored

from mmfusion import Tabular
from mmfusion.evaluation import (
    Comparison,
    CoxRidge,
    compare,
    corrected_interval,
    survival_stratified_folds,
)
from mmfusion.metrics import (
    Score,
    evaluation_times,
    integrated_brier_score,
    score_interval,
    scores_with_influence,
)
from tests.helpers import make_cohort

FRAME, Y = make_cohort(150, missing=0.0)
FOLDS = survival_stratified_folds(Y, 5, 2, random_state=1)
MODELS = {"age": CoxRidge(Tabular(["age"])), "genes": CoxRidge(Tabular(["gene_0", "gene_1"]))}


class Sign(BaseEstimator):
    """A risk without curves: a column, or its negative."""

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def fit(self, X, y):
        self.fitted_rows_ = list(X.index)
        return self

    def predict(self, X):
        return self.sign * X["gene_0"].to_numpy()


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(MODELS, FRAME, Y, FOLDS)


def test_scores_equal_a_loop_by_hand(comparison: Comparison) -> None:
    scores = comparison.scores.set_index(["model", "repeat", "fold"])
    assert len(scores) == 20
    for number, (train, test) in enumerate(FOLDS):
        model = CoxRidge(Tabular(["age"])).fit(FRAME.iloc[train], Y[train])
        risk = model.predict(FRAME.iloc[test])
        row = scores.loc[("age", number // 5, number % 5)]
        c = concordance_index_censored(Y["event"][test], Y["time"][test], risk)[0]
        assert row["c"] == pytest.approx(c, abs=1e-12)
        times = evaluation_times(Y[train])
        curves = model.predict_survival_function(FRAME.iloc[test], times)
        assert row["ibs"] == pytest.approx(integrated_brier_score(Y[train], Y[test], curves))
        assert (row["n_train"], row["n_test"]) == (len(train), len(test))
    assert (scores["seconds"] > 0).all()


def test_the_user_s_models_stay_unfitted(comparison: Comparison) -> None:
    assert not any(hasattr(model, "coef_") for model in MODELS.values())


def test_table(comparison: Comparison) -> None:
    table = comparison.table()
    assert list(table.index) == ["age", "genes"]
    mine = comparison.scores.query("model == 'genes'")["c"]
    assert table.loc["genes", ("c", "mean")] == pytest.approx(np.mean(mine))
    assert table.loc["genes", ("c", "sd")] == pytest.approx(np.std(mine, ddof=1))


def test_the_table_has_the_interval_of_the_mean_score(comparison: Comparison) -> None:
    """A row counts once, however often the repeats test it; of one fold it is that fold's."""
    rows, values = np.zeros(150), []
    for train, test in FOLDS:
        model = CoxRidge(Tabular(["age"])).fit(FRAME.iloc[train], Y[train])
        risk = model.predict(FRAME.iloc[test])
        score = scores_with_influence("harrell", Y[test], risk)["harrell"]
        rows[test] += score.rows / 10
        values.append(score.value)
    pooled = comparison.pooled["age"]["c"]
    np.testing.assert_allclose(pooled.rows, rows, atol=1e-12)
    expected = Score(float(np.mean(values)), rows, "logit").interval()
    shown = comparison.table().loc["age", "c"]
    assert (shown["lower"], shown["upper"]) == pytest.approx(expected[2:])
    half = np.arange(150) // 2
    clustered = comparison.table(0.9, cluster=half).loc["age", "c"]
    assert clustered["upper"] == pytest.approx(pooled.interval(0.9, half).upper)
    assert ("seconds", "lower") not in comparison.table()
    assert f"[{shown['lower']:.3f}, {shown['upper']:.3f}]" in comparison.to_markdown()
    one = compare({"up": Sign()}, FRAME, Y, FOLDS[:1])
    test = FOLDS[0][1]
    own = score_interval("harrell", Y[test], FRAME["gene_0"].iloc[test])
    assert one.table().loc["up", ("c", "lower")] == pytest.approx(own.loc["harrell", "lower"])


def test_differences_are_paired_and_corrected(comparison: Comparison) -> None:
    row = comparison.differences("age").loc["genes"]
    wide = comparison.scores.pivot(index=["repeat", "fold"], columns="model", values="c")
    d = (wide["genes"] - wide["age"]).to_numpy()
    error = np.sqrt((1 / 10 + 30 / 120) * d.var(ddof=1))
    low, high = stats.t.interval(0.95, 9, loc=d.mean(), scale=error)
    assert (row["lower"], row["upper"]) == pytest.approx((low, high), rel=1e-9)
    assert row["folds_higher"] == (d > 0).sum()
    back = comparison.differences("genes").loc["age"]
    assert back["difference"] == pytest.approx(-row["difference"])
    assert comparison.differences("age", "ibs").loc["genes", "difference"] < 0


def test_out_of_fold_ranks(comparison: Comparison) -> None:
    ranks = comparison.out_of_fold_rank("genes", repeat=1)
    assert ranks.shape == (150,)
    for _, test in FOLDS[5:]:
        np.testing.assert_allclose(np.sort(ranks[test]), (np.arange(30) + 0.5) / 30)
    with pytest.raises(ValueError, match="Got 'genes', repeat 2"):
        comparison.out_of_fold_rank("genes", repeat=2)


def test_markdown(comparison: Comparison) -> None:
    lines = comparison.to_markdown("age").splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[3].count("|") == 7
    assert lines[2].startswith("| age | 0.")
    assert "reference" in lines[2]
    mean = comparison.table().loc["genes", ("c", "mean")]
    assert lines[3].startswith(f"| genes | {mean:.3f} (")
    assert "difference" not in comparison.to_markdown()


def test_a_single_fold_has_differences_without_intervals() -> None:
    result = replace(
        compare({"up": Sign(), "down": Sign(-1.0)}, FRAME, Y, FOLDS[:1]), reference="up"
    )
    up, down = result.scores["c"]
    row = result.differences(adjust="holm").loc["down"]
    assert row["difference"] == pytest.approx(down - up)
    assert row[["standard_error", "lower", "upper", "p_value", "p_adjusted"]].isna().all()
    written = result.summary()
    assert re.search(
        rf"\| down \| {down:.3f} \(–\) \[0\.\d+, 0\.\d+\] \| \{down - up:+.3f} \[–\] ", written
    )
    assert "nan" not in written


def test_any_estimator_any_metric() -> None:
    models = {"up": Sign(), "down": Sign(-1.0), "theirs": CoxPHSurvivalAnalysis(alpha=0.1)}
    frame = FRAME[["age", "gene_0", "gene_1"]]
    result = compare(models, frame, Y, FOLDS[:5])
    c = result.table()["c"]["mean"]
    assert c["up"] + c["down"] == pytest.approx(1.0)
    assert result.table().loc["up", ("ibs", "mean")] != result.table().loc["up", ("ibs", "mean")]
    assert 0 < result.table().loc["theirs", ("ibs", "mean")] < 0.25
    assert "–" in result.to_markdown("up")

    seen = compare(
        {"up": Sign()}, frame, Y, FOLDS[:1], metrics={"own": lambda fold: fold.risk.max()}
    )
    assert seen.scores["own"][0] == frame["gene_0"].iloc[FOLDS[0][1]].max()


@pytest.mark.slow
def test_arrays_and_processes_give_the_same(tmp_path) -> None:
    values = FRAME[["age", "gene_0"]].to_numpy()
    model = {"cox": CoxPHSurvivalAnalysis()}
    one = compare(model, values, (Y["time"], Y["event"]), 3)
    two = compare(model, values, Y, 3, n_jobs=2, cache=tmp_path)
    pd.testing.assert_series_equal(one.scores["c"], two.scores["c"])
    kept = compare(model, values, Y, 3, cache=tmp_path)  # seconds too: the processes wrote
    pd.testing.assert_frame_equal(kept.scores, two.scores)


def test_progress_is_shown_where_asked(capsys: pytest.CaptureFixture[str]) -> None:
    compare({"up": Sign()}, FRAME, Y, FOLDS[:2], verbose=1)
    assert "2/2 fits" in capsys.readouterr().out
    compare({"up": Sign()}, FRAME, Y, FOLDS[:2])
    assert capsys.readouterr().out == ""


def test_scores_from_elsewhere_join_in(comparison: Comparison) -> None:
    other = comparison.scores.query("model == 'age'").assign(model="published")
    other["c"] += 0.02
    joined = Comparison(pd.concat([comparison.scores, other]), comparison.risks)
    row = joined.differences("published").loc["age"]
    assert row["difference"] == pytest.approx(-0.02)
    missing = Comparison(pd.concat([comparison.scores, other[:3]]), comparison.risks)
    with pytest.raises(ValueError, match=r"same folds to be compared.*'published': 3"):
        missing.differences("published")


def test_errors(comparison: Comparison) -> None:
    with pytest.raises(ValueError, match="at least one model"):
        compare({}, FRAME, Y)
    with pytest.raises(ValueError, match="as many rows as X"):
        compare(MODELS, FRAME[:-1], Y)
    with pytest.raises(ValueError, match=r"one of 'age', 'genes'. Got 'image'"):
        comparison.differences("image")
    with pytest.raises(ValueError, match=r"one of 'c', 'ibs', 'seconds'. Got 'auc'"):
        comparison.differences("age", "auc")
    with pytest.raises(KeyError) as caught:
        compare({"up": Sign()}, FRAME[["age"]], Y, FOLDS, error_score="raise")
    assert caught.value.__notes__ == ["Model 'up' in repeat 0, fold 0."]


def test_interval_of_unequal_folds_uses_the_mean_share() -> None:
    folds = [(np.arange(50, 150), np.arange(50)), (np.arange(100), np.arange(100, 150))]
    result = compare({"up": Sign(), "down": Sign(-1.0)}, FRAME, Y, folds)
    d = result.scores.pivot(index="fold", columns="model", values="c")
    known = corrected_interval((d["down"] - d["up"]).to_numpy(), 0.5)
    assert result.differences("up").loc["down", "upper"] == pytest.approx(known.upper)
