"""A report of every estimator, of competing causes and of distributions: made, and filled."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmfusion import Tabular, surv
from mmfusion.estimators import (
    FusionClassifier,
    FusionDiscreteTime,
    FusionDistribution,
    FusionPAMM,
    FusionRegressor,
)
from mmfusion.interpret.report.evidence import gather
from mmfusion.interpret.report.participants import characteristics
from mmfusion.interpret.report.performance import main_score
from mmfusion.metrics import cause_calibration, cause_scores, crps, log_score, score_interval
from mmfusion.metrics.causes import cause_concordance
from tests.helpers import make_cohort
from tests.interpret.test_report import SECTIONS, Outline

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("error::pandas.errors.PerformanceWarning"),
]
FORMULA = "treated + gene_1"
#: Of networks: short, and no more than one.
QUICK: dict[str, Any] = {"epochs": 2, "n_members": 1, "device": "cpu", "random_state": 0}
TABLE = {"lab": Tabular(["gene_0", "age"], hidden=(4,))}


def cohort(n: int = 200) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return rows, and outcomes of every kind: two causes of which genes tell apart."""
    frame, y = make_cohort(n, n_genes=2, image_size=4, random_state=4)
    rng = np.random.default_rng(0)
    frame = frame.assign(treated=rng.integers(0, 2, n))
    cause = np.where(rng.random(n) < 1 / (1 + np.exp(-2 * frame["gene_0"])), 1, 2)
    third = np.digitize(y["time"], np.quantile(y["time"], [0.33, 0.66]))
    return frame, {
        "survival": y,
        "causes": surv(y["time"], np.where(y["event"], cause, 0)),
        "two": np.where(third > 0, "late", "early"),
        "three": np.array(["a", "b", "c"])[third],
        "number": np.log(y["time"]),
    }


KINDS: dict[str, tuple[Any, str]] = {
    "classes": (FusionClassifier(TABLE, structured=FORMULA, **QUICK), "two"),
    "three classes": (FusionClassifier(TABLE, **QUICK), "three"),
    "numbers": (FusionRegressor(TABLE, structured=FORMULA, **QUICK), "number"),
    "discrete, causes": (
        FusionDiscreteTime(TABLE, loss="deephit", n_intervals=6, **QUICK),
        "causes",
    ),
    "pamm": (FusionPAMM({}, structured="treated + s(age, k=5)", n_intervals=6), "survival"),
    "pamm, causes": (
        FusionPAMM(TABLE, structured=FORMULA, n_intervals=6, **QUICK),
        "causes",
    ),
    "distribution": (
        FusionDistribution({}, structured={"loc": FORMULA, "scale": "age"}),
        "number",
    ),
    "distribution, censored": (
        FusionDistribution(TABLE, family="weibull", structured={"scale": FORMULA}, **QUICK),
        "survival",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_report_of_every_kind_is_made_and_filled(kind: str, tmp_path: Path) -> None:
    (model, outcome), (frame, outcomes) = KINDS[kind], cohort()
    y = outcomes[outcome]
    model.fit(frame[:110], y[:110])
    done = model.report(frame[110:], y[110:], tmp_path / "report.html", n_examples=1)
    page = Outline(done.html)
    assert list(page.sections) == SECTIONS
    assert min(len(" ".join(text.split())) for text in page.sections.values()) > 60
    assert len(page.images) >= 4
    assert min(len(image["alt"]) for image in page.images) > 30
    shown = re.findall(r"([A-Z][\w ]+) could not be shown", done.html)
    assert shown == []
    no_curve = "There is no decision curve" in page.sections["decisions"]
    assert no_curve == (outcome == "number")
    assert ("CRPS" in page.cells) == (kind == "distribution")
    if kind == "distribution":
        own = y[110:]
        distribution = model.predict_distribution(frame[110:])
        lower, upper = model.predict_interval(frame[110:], 0.9).to_numpy().T
        for name, values in {
            "CRPS": crps(own, distribution),
            "log score": log_score(own, distribution),
            "coverage of 90% intervals": (lower <= own) & (own <= upper),
            "width of 90% intervals": upper - lower,
        }.items():
            cell = page.cells[page.cells.index(name) + 1]
            at, low, high = map(float, re.findall(r"-?\d+\.\d+", cell))
            assert at == pytest.approx(values.mean(), abs=6e-4)
            half = 1.99 * values.std() / np.sqrt(len(own))  # of t, where the scale changes little
            assert low < at < high
            assert high - low == pytest.approx(2 * half, rel=0.15)
    if outcome == "survival":
        risk = getattr(model, "predict_risk", model.predict)(frame[110:])
        row = score_interval("harrell", y[110:], risk).iloc[0]
        at = page.cells.index("Concordance (Harrell's C)")
        shown_score = f"{row['score']:.3f} [{row['lower']:.3f}, {row['upper']:.3f}]"
        assert page.cells[at + 1] == shown_score
    if outcome == "causes":
        for name in ("performance", "calibration", "decisions", "subgroups", "modalities"):
            assert page.sections[name].count("Cause 1") >= 1
            assert page.sections[name].count("Cause 2") >= 1
    if outcome == "three":
        assert [f"Class {label}" in page.sections["calibration"] for label in "abc"] == [True] * 3


def test_what_is_said_of_a_cause_is_what_was_computed(tmp_path: Path) -> None:
    frame, outcomes = cohort()
    y = outcomes["causes"]
    model = FusionPAMM({}, structured="gene_0", n_intervals=6).fit(frame[:110], y[:110])
    X, y = frame[110:], y[110:]
    done = model.report(X, y, tmp_path / "report.html", time=0.5, n_examples=1)
    cells = Outline(done.html).cells
    found = gather(model, X, y, 0.5, None, "time", 0)
    for one in found.of_causes():
        assert one.cause is not None
        risk = model.predict_cumulative_incidence_function(X, [0.5], one.cause).to_numpy()[:, 0]
        np.testing.assert_allclose(one.risk, risk)
        expected = cause_scores(y, risk, 0.5, one.cause)
        start = cells.index("Concordance (of this cause)")
        for place, name in enumerate(["harrell", "auc", "brier", "scaled_brier"]):
            row = expected.loc[name]
            shown = f"{row['score']:.3f} [{row['lower']:.3f}, {row['upper']:.3f}]"
            assert cells[start + 3 * place + 1] == shown
        slope = cause_calibration(y, risk, 0.5, one.cause).table.loc["slope"]
        assert f"{slope['score']:.3f} [{slope['lower']:.3f}, {slope['upper']:.3f}]" in cells
        cells = cells[start + 1 :]
    table = characteristics(found, None).to_frame()
    counts = [int((y["event"] == kind).sum()) for kind in (1, 2, 0)]
    names = ["cause 1", "cause 2", "censored"]
    assert list(table.columns[2:]) == [
        f"{name} (n = {count})" for name, count in zip(names, counts, strict=True)
    ]


def test_folds_of_causes_are_scored_within_themselves() -> None:
    frame, outcomes = cohort(120)
    y = outcomes["causes"]
    model = FusionPAMM({}, structured="gene_0", n_intervals=4).fit(frame, y)
    found = gather(model, frame, y, 0.5, 3, "time", 0)
    one = found.of_causes()[1]
    score = main_score(one)
    expected = cause_concordance(y, one.risk, 2, found.folds)
    assert score["score"] == expected.value
    with pytest.raises(ValueError, match="number of folds where causes compete"):
        gather(model, frame, y, 0.5, one.curves, "time", 0)
    alone = FusionPAMM({}, structured="gene_0", n_intervals=4).fit(frame, outcomes["survival"])
    with pytest.raises(ValueError, match=r"causes \[1\] that the model knows. Got \[1, 2\]"):
        gather(alone, frame, y, 0.5, None, "time", 0)


def test_of_a_family_without_a_mean_medians_are_reported(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"x": rng.normal(size=200)})
    y = X["x"].to_numpy() + rng.standard_t(0.5, size=200)
    model = FusionDistribution({}, family="student_t", structured={"loc": "x"})
    model.fit(X[:120], y[:120])
    assert np.isnan(model.predict(X)).all()
    with pytest.warns(UserWarning, match="the report's predictions are medians"):
        model.report(X[120:], y[120:], path=tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    r2 = score_interval("r2", y[120:], model.predict_quantile(X[120:], 0.5))
    assert f"{r2['score'].iloc[0]:.3f}" in page
