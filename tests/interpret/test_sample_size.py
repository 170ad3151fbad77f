"""The criteria of Riley et al. against the numbers of their papers' examples."""

from __future__ import annotations

import math

import pytest

from mmfusion.interpret.report.sample_size import (
    sample_size_classes,
    sample_size_numbers,
    sample_size_survival,
)


def test_recurrent_venous_thromboembolism() -> None:
    """Part II, a Cox model of 30 parameters: 5,143 rows, at least 23 events a parameter."""
    needed = sample_size_survival(30, 0.051, rate=0.065, mean_follow_up=2.07, time=2.0)
    assert needed.rows["shrinkage"] == needed.n == 5143
    assert needed.rows["optimism"] == pytest.approx(1039, abs=1)
    assert needed.events / 30 == pytest.approx(23.07, abs=0.01)
    # The interval of the risk by two years that 5,143 rows give: 0.113 to 0.130.
    assert needed.rows["overall risk"] < 5143


def test_chagas_disease() -> None:
    """Part II, a logistic model of 24 parameters: 662 rows, 4.8 events a parameter."""
    needed = sample_size_classes(24, 0.288, prevalence=0.174)
    assert needed.rows == {"shrinkage": 623, "optimism": 662, "overall risk": 221}
    assert needed.events / 24 == pytest.approx(4.8, abs=0.05)


def test_lung_function() -> None:
    """Part I, a linear model of 25 parameters: 918 rows."""
    needed = sample_size_numbers(25, 0.2, mean=1.9, sd=0.6)
    assert (needed.rows["shrinkage"], needed.rows["optimism"]) == (918, 401)
    assert needed.rows["residual spread"] == 259
    assert needed.n == 918
    assert needed.events is None


def test_the_risk_is_as_precise_as_was_asked() -> None:
    n = sample_size_survival(1, 0.3, rate=0.1, mean_follow_up=3.0, time=5.0).rows["overall risk"]

    def widest(rows: int) -> float:
        half = 1.959964 * math.sqrt(0.1 / (rows * 3.0))
        risk = [1 - math.exp(-(0.1 + side * half) * 5) for side in (-1, 0, 1)]
        return max(risk[1] - risk[0], risk[2] - risk[1])

    assert widest(n) <= 0.05 < widest(n - 1)


@pytest.mark.parametrize("r2", [0.0, 1e-9])
def test_a_model_that_explains_nothing_needs_more_rows_than_there_are(r2: float) -> None:
    assert sample_size_classes(5, r2, 0.3).n >= 10**6


def test_more_explained_needs_fewer() -> None:
    sizes = [sample_size_survival(10, r2, 0.1, 3.0, 5.0).n for r2 in (0.05, 0.2, 0.5)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[1]
