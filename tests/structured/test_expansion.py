"""One formula for several predictors: designs, names and terms of all of them."""

from __future__ import annotations

import numpy as np
import pytest

from mmfusion.structured import Expansion, TermColumns

TERM = TermColumns("s(x)", slice(1, 3), "smooth", penalties=(np.eye(2),))


def test_one_predictor_is_left_as_it_is() -> None:
    design = np.arange(6.0).reshape(2, 3)
    expansion = Expansion(("mean",), np.eye(1))
    assert expansion.design(design) is design
    assert expansion.names(["a", "b", "c"]) == ["a", "b", "c"]
    assert expansion.terms([TERM], 3)[0].columns == slice(1, 3)
    assert expansion.index(["a"], ["a"]).tolist() == ["a"]


@pytest.mark.parametrize("reference", [True, False])
def test_predictors_are_the_contrasts_of_the_coefficient_vectors(reference: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 2))
    contrasts = np.eye(3)[:, 1:] if reference else np.eye(3)
    names = ("B", "C") if reference else ("A", "B", "C")
    expansion = Expansion(names, contrasts)
    beta = rng.normal(size=(len(names), 2))
    eta = (expansion.design(x) @ beta.ravel()).reshape(5, 3)
    np.testing.assert_allclose(eta, x @ beta.T @ contrasts.T)
    assert expansion.names(["u", "v"])[:2] == [f"u [{names[0]}]", f"v [{names[0]}]"]
    moved = expansion.terms([TERM], 3)
    assert [term.columns for term in moved][:2] == [slice(1, 3), slice(4, 6)]
    assert moved[1].label == f"s(x) [{names[1]}]"


def test_a_baseline_has_a_constant_a_predictor_beside_shared_effects() -> None:
    x = np.array([[2.0], [3.0]])
    expansion = Expansion(("",), np.ones((3, 1)), ("first", "second", "third"))
    eta = (expansion.design(x) @ np.array([10.0, 20.0, 30.0, 1.0])).reshape(2, 3)
    np.testing.assert_allclose(eta, [[12.0, 22.0, 32.0], [13.0, 23.0, 33.0]])
    assert expansion.names(["x"]) == ["first", "second", "third", "x"]
    assert expansion.terms([TERM], 3)[0].columns == slice(4, 6)
