"""Influences of rows on scores: against derivatives of the weighted definitions, in O(n^2)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from sklearn.metrics import accuracy_score, log_loss, r2_score, roc_auc_score

from mmfusion.metrics import (
    Score,
    brier_score,
    concordance_index,
    concordance_index_uno,
    cumulative_dynamic_auc,
    integrated_brier_score,
    score_interval,
    scores_with_influence,
)
from mmfusion.survival import censoring_distribution, kaplan_meier, surv

quick = settings(max_examples=20, deadline=None)
TIMES = np.array([1.0, 2.0, 4.0, 5.5])
OTHERS = surv([1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 0, 1, 1, 0, 1, 0, 1, 0])


def cohort(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A tied cohort whose last rows are observed beyond all times: time, event, risk, curves."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(8, 25))
    time = rng.integers(1, 7, n).astype(float)
    event = rng.random(n) < rng.uniform(0.3, 0.95)
    time[:4], event[:4] = [1, 7, 7, 8], [True, True, False, False]
    return time, event, rng.integers(0, 5, n).astype(float), rng.uniform(0, 1, (n, len(TIMES)))


def derivative(score: Callable[[np.ndarray], float], n: int) -> np.ndarray:
    step = 1e-5
    moved = np.eye(n) * step
    return np.array([(score(1 + d) - score(1 - d)) / (2 * step) for d in moved])


def pairs(time: np.ndarray, event: np.ndarray) -> np.ndarray:
    later = (time[:, None] < time) | ((time[:, None] == time) & ~event)
    return event[:, None] & later & ~np.eye(len(time), dtype=bool)


def concordance(
    w: np.ndarray, pair: np.ndarray, risk: np.ndarray, event_weight: np.ndarray
) -> float:
    won = (risk[:, None] > risk) + 0.5 * (risk[:, None] == risk)
    weight = pair * np.outer(w * event_weight, w)
    return float((weight * won).sum() / weight.sum())


def check(score: Score, value: float, by_weight: Callable[[np.ndarray], float], n: int) -> None:
    assert score.value == pytest.approx(value, abs=1e-12)
    assert by_weight(np.ones(n)) == pytest.approx(value, abs=1e-12)
    np.testing.assert_allclose(score.rows, derivative(by_weight, n), atol=2e-8)


@quick
@given(st.integers(0, 2**32 - 1))
def test_harrell(seed: int) -> None:
    time, event, risk, _ = cohort(seed)
    rng = np.random.default_rng(seed)
    n = len(time)
    strata, entry = rng.integers(0, 2, n), time - rng.integers(1, 5, n)
    for y, label in (
        (surv(time, event), None),
        (surv(time, event), strata),
        (surv(time, event, entry), strata),
    ):
        pair = pairs(time, event)
        if label is not None:
            pair &= label[:, None] == label
        if "entry" in y.dtype.names:
            pair &= entry < time[:, None]
        if not pair.any():
            continue
        check(
            scores_with_influence("harrell", y, risk, strata=label)["harrell"],
            concordance_index(y, risk, strata=label),
            lambda w, pair=pair: concordance(w, pair, risk, np.ones(n)),
            n,
        )


@quick
@given(st.integers(0, 2**32 - 1))
def test_uno(seed: int) -> None:
    time, event, risk, _ = cohort(seed)
    n, y = len(time), surv(time, event)

    def by_weight(w: np.ndarray, known: bool) -> float:
        counted = event & (time < 6)
        curve = censoring_distribution(time, event, weight=None if known else w)
        weight = np.where(counted, 1 / np.maximum(curve.left(time), 1e-9) ** 2, 0.0)
        return concordance(w, pairs(time, event), risk, weight)

    for known in (False, True):
        train = {"y_train": y} if known else {}
        check(
            scores_with_influence("uno", y, risk, tau=6, **train)["uno"],
            concordance_index_uno(y, y, risk, tau=6),
            lambda w, known=known: by_weight(w, known),
            n,
        )


@quick
@given(st.integers(0, 2**32 - 1))
def test_auc_and_its_mean(seed: int) -> None:
    time, event, risk, _ = cohort(seed)
    n, y = len(time), surv(time, event)

    def at(w: np.ndarray, t: float) -> float:
        curve = censoring_distribution(time, event, weight=w)
        case = event & (time <= t)
        weight = w * np.where(case, 1 / np.maximum(curve.left(time), 1e-9), 0.0)
        won = (risk[:, None] > risk) + 0.5 * (risk[:, None] == risk)
        both = np.outer(weight, w * (time > t))
        return float((both * won).sum() / both.sum())

    def mean(w: np.ndarray) -> float:
        drops = -np.diff(kaplan_meier(time, event, weight=w)(TIMES), prepend=1.0)
        return float(np.dot([at(w, t) for t in TIMES], drops) / drops.sum())

    expected = cumulative_dynamic_auc(y, y, risk, TIMES)
    found = scores_with_influence("auc", y, risk, times=TIMES)
    for k, t in enumerate(TIMES):
        check(found[t], expected.auc[k], lambda w, t=t: at(w, t), n)
    check(found["mean"], expected.mean, mean, n)


@quick
@given(st.integers(0, 2**32 - 1))
def test_brier(seed: int) -> None:
    time, event, _, curves = cohort(seed)
    n, y = len(time), surv(time, event)
    alive = time[:, None] > TIMES

    def at(w: np.ndarray, predicted: np.ndarray, train: np.ndarray) -> np.ndarray:
        curve = censoring_distribution(time, event, weight=train)
        gone = np.where(event & (time <= 6), 1 / np.maximum(curve.left(time), 1e-9), 0.0)
        weight = np.where(alive, 1 / curve(TIMES), gone[:, None])
        return w @ (weight * (predicted - alive) ** 2) / w.sum()

    def mean(values: np.ndarray) -> float:
        return float(integrate.trapezoid(values, x=TIMES) / (TIMES[-1] - TIMES[0]))

    expected = brier_score(y, y, curves, TIMES)
    found = scores_with_influence("brier", y, curves, times=TIMES)
    known = scores_with_influence("brier", y, curves, times=TIMES, y_train=y)
    scaled = scores_with_influence("scaled_brier", y, curves, times=TIMES)
    constant = brier_score(y, y, np.tile(kaplan_meier(time, event)(TIMES), (n, 1)), TIMES)

    def explained(w: np.ndarray) -> np.ndarray:  # the reference is estimated too
        reference = np.tile(kaplan_meier(time, event, weight=w)(TIMES), (n, 1))
        return 1 - at(w, curves, w) / at(w, reference, w)

    for k, t in enumerate(TIMES):
        check(found[t], expected[k], lambda w, k=k: at(w, curves, w)[k], n)
        check(known[t], expected[k], lambda w, k=k: at(w, curves, np.ones(n))[k], n)
        if constant[k] > 1e-9:
            value = 1 - expected[k] / constant[k]
            check(scaled[t], value, lambda w, k=k: explained(w)[k], n)
    ibs = scores_with_influence("ibs", y, curves, times=TIMES)["ibs"]
    value = integrated_brier_score(y, y, curves, TIMES)
    check(ibs, value, lambda w: mean(at(w, curves, w)), n)
    whole = scores_with_influence("scaled_ibs", y, curves, times=TIMES)["scaled_ibs"]
    assert whole.value == pytest.approx(1 - mean(expected) / mean(constant))


def test_classes_and_numbers() -> None:
    rng = np.random.default_rng(0)
    n = 30
    y, p = rng.integers(0, 2, n), rng.uniform(0.05, 0.95, n).round(1)
    number, predicted = rng.normal(size=n), rng.normal(size=n)
    definitions: dict[str, tuple[np.ndarray, np.ndarray, Callable[..., float]]] = {
        "accuracy": (y, p > 0.5, accuracy_score),
        "log_loss": (y, p, log_loss),
        "roc_auc": (y, p, roc_auc_score),
        "r2": (number, predicted, r2_score),
        "rmse": (number, predicted, lambda a, b, sample_weight: _rmse(a, b, sample_weight)),
    }
    for name, (outcome, given_, definition) in definitions.items():
        check(
            scores_with_influence(name, outcome, given_)[name],
            definition(outcome, given_, sample_weight=np.ones(n)),
            lambda w, o=outcome, g=given_, d=definition: d(o, g, sample_weight=w),
            n,
        )
    both = np.column_stack([1 - p, p])
    assert scores_with_influence("log_loss", y, both)["log_loss"].value == pytest.approx(
        log_loss(y, p)
    )
    three = pd.DataFrame({"c": 0.2, "b": 0.8 * p, "a": 0.8 * (1 - p)})  # no row is of class "c"
    named = scores_with_influence("log_loss", np.where(y, "b", "a"), three)["log_loss"]
    assert named.value == pytest.approx(log_loss(y, p) - np.log(0.8))


def _rmse(y: np.ndarray, predicted: np.ndarray, sample_weight: np.ndarray) -> float:
    return float(np.sqrt(np.average((y - predicted) ** 2, weights=sample_weight)))


def test_the_interval_of_each_scale() -> None:
    rows = np.full(400, 0.05 / 20) * np.where(np.arange(400) % 2, 1, -1)
    z = stats.t.ppf(0.975, 399)  # all rows weigh alike

    def interval(value: float, scale: str) -> tuple[float, ...]:
        return Score(value, rows, scale).interval()

    np.testing.assert_allclose(
        interval(0.3, "identity"), (0.3, 0.05, 0.3 - z * 0.05, 0.3 + z * 0.05)
    )
    logit = np.log(0.8 / 0.2) + np.array([-z, z]) * 0.05 / 0.16
    np.testing.assert_allclose(interval(0.8, "logit")[2:], 1 / (1 + np.exp(-logit)))
    np.testing.assert_allclose(
        interval(0.2, "log")[2:], 0.2 * np.exp(np.array([-z, z]) * 0.05 / 0.2)
    )
    np.testing.assert_allclose(
        interval(0.2, "log complement")[2:], 1 - 0.8 * np.exp(np.array([z, -z]) * 0.05 / 0.8)
    )
    for value, scale in ((1.0, "logit"), (0.0, "log"), (1.0, "log complement")):
        assert np.isnan(interval(value, scale)[2:]).all()
    assert np.isnan(Score(0.5, np.zeros(3)).interval()[2:]).all()
    assert np.isnan(Score(0.5, np.zeros(3)).p_value())


def test_clusters_are_summed_and_get_t() -> None:
    time, event, risk, _ = cohort(3)
    y = surv(np.repeat(time, 2), np.repeat(event, 2))
    labels = np.repeat(np.arange(len(time)), 2)
    score = scores_with_influence("harrell", y, np.repeat(risk, 2))["harrell"]
    one = scores_with_influence("harrell", surv(time, event), risk)["harrell"]
    n = len(time)
    # Each row twice tells no more than once.
    sums = score.rows.reshape(-1, 2).sum(1)
    assert score.standard_error(labels) == pytest.approx(np.sqrt(sums @ sums * n / (n - 1)))
    assert score.standard_error(labels) > 1.2 * score.standard_error()
    difference = Score(score.value - 0.5, score.rows)
    low, high = difference.interval(cluster=labels)[2:]
    square = sums @ sums
    df = min(n - 1, 2 * square**2 / (np.sum(sums**4) - square**2 / n))
    reach = stats.t.ppf(0.975, df) * score.standard_error(labels)
    assert (high - low) / 2 == pytest.approx(reach)
    assert difference.p_value(labels) == pytest.approx(
        2 * stats.t.sf(abs(difference.value) / score.standard_error(labels), df)
    )
    assert one.value != 0.5


def test_few_rows_that_decide_leave_few_degrees_of_freedom() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=10_000)
    wide = Score(0.0, rows - rows.mean()).interval()
    # The variance of normal influences has as many degrees of freedom as rows.
    assert wide.upper / wide.standard_error == pytest.approx(stats.norm.ppf(0.975), rel=1e-3)
    rows = np.where(np.arange(1000) < 10, rng.normal(size=1000), 0.0)
    few = Score(0.0, rows).interval()
    assert few.upper / few.standard_error > stats.t.ppf(0.975, 12)


def test_table_differences_and_subgroups() -> None:
    rng = np.random.default_rng(1)
    n = 120
    x = rng.normal(size=n)
    time = rng.exponential(np.exp(-x))
    y = surv(time.clip(max=2), time < 2)
    other = x + rng.normal(size=n)
    sex = np.where(rng.random(n) < 0.5, "f", "m")
    table = score_interval("harrell", y, x)
    assert list(table.columns) == ["score", "se", "lower", "upper"]
    assert table.index.tolist() == ["harrell"]
    assert table.loc["harrell", "score"] == pytest.approx(concordance_index(y, x))
    difference = score_interval("harrell", y, x, reference=other, level=0.9)
    back = score_interval("harrell", y, other, reference=x, level=0.9)
    assert difference.loc["harrell", "score"] == pytest.approx(-back.loc["harrell", "score"])
    assert difference.loc["harrell", "lower"] == pytest.approx(-back.loc["harrell", "upper"])
    assert difference.loc["harrell", "p"] < 0.01
    same = score_interval("harrell", y, x, reference=x)
    assert same.loc["harrell", "score"] == 0
    assert np.isnan(same.loc["harrell", "p"])
    curves = pd.DataFrame(np.exp(-np.exp(x)[:, None] * [0.5, 1.0]), columns=[0.5, 1.0])
    by_sex = score_interval("brier", y, curves, groups=sex, cluster=np.arange(n) // 2)
    assert by_sex.index.tolist() == [("f", 0.5), ("f", 1.0), ("m", 0.5), ("m", 1.0)]
    men = sex == "m"
    np.testing.assert_allclose(
        by_sex.loc["m", "score"], brier_score(y[men], y[men], curves[men].to_numpy(), [0.5, 1.0])
    )


def test_weights_from_other_rows_are_known() -> None:
    time, event, risk, curves = cohort(5)
    y = surv(time, event)
    found = scores_with_influence("uno", y, risk, tau=6, y_train=OTHERS)["uno"]
    assert found.value == pytest.approx(concordance_index_uno(OTHERS, y, risk, tau=6))
    assert found.rows.sum() == pytest.approx(0, abs=1e-12)
    brier = scores_with_influence("brier", y, curves, times=TIMES, y_train=OTHERS)
    np.testing.assert_allclose(
        [score.value for score in brier.values()], brier_score(OTHERS, y, curves, TIMES)
    )


Y = surv([1, 2, 3, 4], [1, 0, 1, 1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: score_interval("c", Y, [1, 2, 3, 4]), "metric parameter must be one of"),
        (lambda: score_interval("harrell", Y, [1, 2]), r"a row for each of the 4 rows.*\(2,\)"),
        (lambda: score_interval("harrell", Y, [1, 2, 3, 4], times=[1]), "says nothing of 'harr"),
        (lambda: score_interval("brier", Y, np.ones((4, 1)), times=[1], strata=Y), "nothing of"),
        (lambda: score_interval("harrell", Y, [1, 2, 3, 4], cluster=[1] * 4), "two labels"),
        (lambda: score_interval("harrell", Y, [1, 2, 3, 4], level=1), "between 0 and 1"),
        (lambda: score_interval("roc_auc", [0, 1, 2], [1, 2, 3]), "two classes"),
        (lambda: score_interval("r2", [1.0, 1.0], [1.0, 2.0]), "must vary"),
        (lambda: score_interval("rmse", [1.0, 2.0], [1.0, np.nan]), r"finite.*rows \[1\]"),
        (lambda: score_interval("log_loss", [0, 1, 2], [0.1, 0.2, 0.3]), r"\(3, 3\). Got \(3,\)"),
        (lambda: score_interval("ibs", Y, np.ones((4, 1)), times=[1]), "at least two times"),
        (lambda: Score(1.0, np.ones(2)) - Score(1.0, np.ones(3)), "2 and 3 rows"),
        (lambda: score_interval("accuracy", [0, 1], [[0], [1]]), "one value a row"),
    ],
)
def test_errors(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
