from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mmfusion.structured.collinear import (
    collinear_combinations,
    find_collinear,
    unpenalised_design,
)
from mmfusion.structured.formula import Formula

RNG = np.random.default_rng(1)
AGE, DOSE, SIZE = RNG.normal(60, 10, 50), RNG.normal(size=50), RNG.gamma(2.0, size=50)


def test_independent_columns_are_not_collinear() -> None:
    X = np.column_stack([AGE, DOSE, SIZE])
    assert find_collinear(X, ["age", "dose", "size"]) == []
    assert find_collinear(X, ["age", "dose", "size"], intercept=True) == []


@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
def test_a_combination_is_named_with_its_parts_in_any_unit(unit: float) -> None:
    X = np.column_stack([AGE, DOSE, SIZE, unit * (2 * AGE - SIZE)])
    names = ["age", "dose", "size", "score"]
    assert collinear_combinations(X, names) == {"score": ("age", "size")}
    # The later column is named, and the design without it has full rank.
    assert find_collinear(X[:, ::-1], names[::-1]) == ["age"]


def test_a_nearly_collinear_column_is_left_alone() -> None:
    X = np.column_stack([AGE, AGE + 1e-4 * DOSE])
    assert find_collinear(X, ["a", "b"]) == []


def test_a_constant_is_collinear_with_a_constant_only() -> None:
    X = np.column_stack([AGE, np.full(50, 3.0)])
    assert find_collinear(X, ["age", "three"]) == []
    assert collinear_combinations(X, ["age", "three"], intercept=True) == {"three": ()}
    with_ones = np.column_stack([np.ones(50), X])
    assert collinear_combinations(with_ones, ["Intercept", "age", "three"]) == {
        "three": ("Intercept",)
    }


def test_zero_columns_and_no_columns() -> None:
    assert find_collinear(np.zeros((5, 1)), ["zero"]) == ["zero"]
    assert find_collinear(np.empty((5, 0)), []) == []


def test_more_columns_than_rows() -> None:
    X = RNG.normal(size=(3, 5))
    assert find_collinear(X, list("abcde")) == ["d", "e"]


def test_every_dummy_of_a_factor_beside_an_intercept() -> None:
    dummies = np.eye(3)[np.arange(30) % 3]
    X = np.column_stack([np.ones(30), dummies])
    found = collinear_combinations(X, ["Intercept", "I", "II", "III"])
    assert found == {"III": ("Intercept", "I", "II")}


def test_a_line_beside_its_own_smooth_is_found_in_the_part_without_penalty() -> None:
    frame = pd.DataFrame({"age": AGE, "dose": DOSE})
    for text, wanted in [
        ("age + s(age)", ["s(age) (unpenalised part)"]),
        ("age + s(dose)", []),
        ("dose + s(age, by=dose)", ["s(age):dose (unpenalised part)"]),
        ("s(age) + s(age, by=dose)", []),
    ]:
        formula = Formula(text).fit(frame)
        X = formula.transform(frame)
        part, names = unpenalised_design(X, formula.names_, formula.terms_)
        assert part.shape == (50, len(names))
        assert find_collinear(part, names) == wanted


def test_a_smooth_without_penalty_counts_in_full() -> None:
    frame = pd.DataFrame({"age": AGE})
    formula = Formula("s(age, k=6, sp=0)").fit(frame, intercept=False)
    X = formula.transform(frame)
    part, names = unpenalised_design(X, formula.names_, formula.terms_)
    np.testing.assert_array_equal(part, X)
    assert names == list(formula.names_)
