"""Scores and their standard errors against R: fixtures/scores.R, fixtures/calibration.R."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mmfusion.metrics import Score, scores_with_influence, survival_calibration

R = json.loads((Path(__file__).parent / "fixtures" / "scores.json").read_text())


@pytest.fixture(params=sorted(R))
def wanted(request: pytest.FixtureRequest) -> dict[str, Any]:
    found = dict(R[request.param])
    found["data"] = {name: np.array(column) for name, column in found["data"].items()}
    return found


def outcome(wanted: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    return wanted["data"]["time"], wanted["data"]["event"]


def same(score: Score, theirs: dict[str, Any], error: float | None = None) -> None:
    assert_allclose(score.value, theirs["value"], rtol=1e-12)
    assert_allclose(score.standard_error() if error is None else error, theirs["se"], rtol=1e-11)


def test_concordance(wanted: dict[str, Any]) -> None:
    data, y = wanted["data"], outcome(wanted)

    def harrell(risk: str, **options: Any) -> Score:
        return scores_with_influence("harrell", y, data[risk], **options)["harrell"]

    own = harrell("risk")
    same(own, wanted["harrell"])
    same(harrell("risk", strata=data["stratum"]), wanted["strata"])
    same(own - harrell("other"), wanted["difference"])
    n = len(np.unique(data["cluster"]))
    # R has no factor for few clusters.
    error = own.standard_error(data["cluster"]) * np.sqrt((n - 1) / n)
    same(own, wanted["cluster"], error)


def test_uno_where_the_weights_are_taken_as_known(wanted: dict[str, Any]) -> None:
    y, risk = outcome(wanted), wanted["data"]["risk"]
    same(scores_with_influence("uno", y, risk, y_train=y)["uno"], wanted["uno"])


def test_auc_and_brier(wanted: dict[str, Any]) -> None:
    y, p, times = outcome(wanted), np.array(wanted["predicted"]), wanted["times"]
    factor = np.sqrt(len(p) / (len(p) - 1))  # of riskRegression's standard deviations
    auc = scores_with_influence("auc", y, p, times=times)
    auc.pop("mean")
    assert_allclose([score.value for score in auc.values()], wanted["auc"]["AUC"], rtol=1e-12)
    errors = [score.standard_error() * factor for score in auc.values()]
    # riskRegression takes what a row moves the weights by at slightly other places among ties; ours
    # are the derivatives, which tests/metrics/test_intervals.py holds.
    assert_allclose(errors, wanted["auc"]["se"], rtol=2e-5)
    mine = np.array(wanted["brier"]["model"]) == "m"
    brier = scores_with_influence("brier", y, 1 - p, times=times).values()
    theirs = {name: np.array(column)[mine] for name, column in wanted["brier"].items()}
    assert_allclose([score.value for score in brier], theirs["Brier"], rtol=1e-12)
    errors = [score.standard_error() * factor for score in brier]
    assert_allclose(errors, theirs["se"], rtol=5e-3)
    scaled = scores_with_influence("scaled_brier", y, 1 - p, times=times).values()
    assert_allclose([score.value for score in scaled], theirs["IPA"], rtol=1e-10)


C = json.loads((Path(__file__).parent / "fixtures" / "calibration.json").read_text())


@pytest.mark.parametrize("name", sorted(C))
def test_calibration(name: str) -> None:
    theirs = C[name]
    data = {column: np.array(values) for column, values in theirs["data"].items()}
    found = survival_calibration((data["time"], data["event"]), data["survival"], theirs["at"])
    slope, intercept = found.scores["slope"], found.scores["intercept"]
    assert_allclose(slope.value, theirs["slope"], rtol=1e-10)
    assert_allclose(slope.standard_error(), theirs["slope_se"], rtol=1e-10)
    n = len(np.unique(data["cluster"]))
    clustered = slope.standard_error(data["cluster"]) * np.sqrt((n - 1) / n)
    assert_allclose(clustered, theirs["slope_clustered"], rtol=1e-10)
    assert_allclose(np.exp(intercept.value), theirs["hazard"], rtol=1e-10)
    risk = 1 - data["survival"]
    observed = found.scores["O/E"].value * risk.mean()
    assert_allclose(observed, theirs["observed"], rtol=1e-12)
    indices = found.table.loc[["ICI", "E50", "E90"], "score"]
    assert_allclose(indices, [theirs["ici"], theirs["e50"], theirs["e90"]], rtol=1e-10)
    order = np.argsort(risk)
    curve = np.interp(risk, found.curve["predicted"], found.curve["observed"])
    assert_allclose(curve[order], np.array(theirs["curve"])[order], atol=0.02)  # of 101 points
