from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter

from benchmarks import missing_modalities
from mmfusion.datasets import simulate_missing_modalities
from mmfusion.metrics import concordance_index


def test_the_law_is_as_described() -> None:
    cohort = simulate_missing_modalities(4000, random_state=0)
    frame, truth = cohort.frame, cohort.truth
    assert frame.shape == (4000, 35)
    present = truth.present
    assert (~present).any(axis=1).sum() == 2000
    assert present.any(axis=1).all()
    counts = present[~present.all(axis=1)].value_counts()
    assert len(counts) == 6
    assert counts.min() > 270  # of 333 expected
    for name in present:
        mine = frame.filter(like=name)
        np.testing.assert_array_equal(mine.notna().all(axis=1), present[name])
        np.testing.assert_array_equal(mine.isna().all(axis=1), ~present[name])
    assert truth.log_hazard.var() == pytest.approx(1.0 + 3 * 0.4**2, rel=0.1)
    assert cohort.target["event"].mean() == pytest.approx(0.7, abs=0.03)
    cumulative = truth.event_time * np.exp(truth.log_hazard)  # exponential with mean 1
    assert cumulative.mean() == pytest.approx(1.0, abs=0.06)
    assert concordance_index(cohort.target, truth.log_hazard) > 0.74
    table = pd.DataFrame(
        {"x": truth.log_hazard, **{k: cohort.target[k] for k in ("time", "event")}}
    )
    fit = CoxPHFitter().fit(table, "time", "event")  # censoring knows nothing of the event
    assert abs(fit.params_["x"] - 1) < 3 * fit.standard_errors_["x"]


def test_a_draw_is_repeatable_and_values_do_not_depend_on_what_is_missing() -> None:
    first = simulate_missing_modalities(50, random_state=3)
    again = simulate_missing_modalities(50, random_state=3)
    np.testing.assert_array_equal(first.frame, again.frame)
    whole = simulate_missing_modalities(50, missing=0.0, random_state=3).frame
    there = first.frame.notna()
    np.testing.assert_array_equal(first.frame.where(there, 0), whole.where(there, 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n parameter must be an int of at least 1. Got 0"),
        ({"missing": 1.5}, "missing parameter must be between 0 and 1. Got 1.5"),
        ({"censoring": 1.0}, "censoring parameter must be at least 0, below 1. Got 1.0"),
    ],
)
def test_bad_parameters(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_missing_modalities(**options)  # type: ignore[arg-type]


@pytest.mark.slow
def test_modality_dropout_helps_incomplete_rows() -> None:
    """Of 40 epochs on all rows; the whole study is `benchmarks/missing_modalities.py`."""
    names = tuple(f"concat, 40 epochs, dropout {rate:g}" for rate in (0.0, 0.3))
    gains = []
    for seed in range(3):
        c = {
            record["model"]: record["c"]
            for record in missing_modalities.trial(300, seed, names)
            if record["rows"] == "incomplete"
        }
        gains.append(c[names[1]] - c[names[0]])
    assert np.mean(gains) > 0.004
