"""The checks that all rooms share: messages, weights, labels, columns, parameters."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmfusion.inputs.columns import take_column, warn_of_text
from mmfusion.inputs.labels import check_labels
from mmfusion.inputs.messages import did_you_mean, name_rows, nearest, shorten
from mmfusion.inputs.parameters import (
    check_choice,
    check_dropout,
    check_hidden,
    check_names,
    check_number,
)
from mmfusion.inputs.table import require_frame
from mmfusion.inputs.weights import check_weights

FRAME = pd.DataFrame({"age": [61, 70], "site": ["a", "b"]}, index=["p0", "p1"])


def test_only_the_first_labels_are_shown_without_numpy_types() -> None:
    assert shorten(np.arange(3)) == "0, 1, 2"
    assert shorten(np.array(["a", "b", "c"]), limit=2) == "'a', 'b' and 1 more"
    assert shorten([]) == ""


@pytest.mark.parametrize("rows", [np.array([False, True]), np.array([1]), [1]])
def test_rows_are_named_by_the_labels_of_the_table(rows: Any) -> None:
    assert name_rows(FRAME, rows) == name_rows(FRAME["age"], rows) == "'p1'"
    assert name_rows(FRAME.index, rows) == name_rows(["p0", "p1"], rows) == "'p1'"
    assert name_rows(None, rows) == "1"
    assert name_rows(None, rows, values=np.array([0.0, np.nan])) == "1 (nan)"


def test_several_levels_of_an_index_name_a_row() -> None:
    index = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])
    assert name_rows(index, np.array([False, True])) == "('b', 2)"


@pytest.mark.parametrize(
    ("value", "known", "hint"),
    [
        ("gatd", ["sum", "gated"], " Did you mean 'gated'?"),
        ("GATED", ["sum", "gated"], " Did you mean 'gated'?"),
        ("age", ["Age", 3], " Did you mean 'Age'?"),
        ("xyz", ["sum", "gated"], ""),
        (None, ["sum", "gated"], ""),
        ("gated", [], ""),
    ],
)
def test_the_nearest_name_is_asked_for(value: Any, known: list[Any], hint: str) -> None:
    assert did_you_mean(value, known) == hint


def test_several_near_names_stand_the_nearest_first() -> None:
    known = ["resnet50", "resnet18", "vit"]
    assert nearest("resnet19", known, 3) == ["resnet18", "resnet50"]
    assert did_you_mean("resnet19", known, 3) == " Did you mean 'resnet18' or 'resnet50'?"


def test_weights() -> None:
    given = np.array([1, 0, 2])
    weights = check_weights(given, 3)
    assert weights.dtype == np.float64
    assert not np.shares_memory(weights, given)
    np.testing.assert_array_equal(weights, given)
    np.testing.assert_array_equal(check_weights(2, 3), [2, 2, 2])
    np.testing.assert_array_equal(check_weights(None, 2), [1, 1])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, 2], r"w parameter must have one value for each of the 3 .* \(2,\), expected \(3,\)"),
        ([[1, 2, 3]], r"\(1, 3\), expected \(3,\)"),
        ([1, -2, 1], "w parameter must hold finite numbers, none negative. Got -2.0 at position 1"),
        ([1, 2, np.inf], "Got inf at position 2"),
        (0, "must hold a number above zero. All are 0"),
    ],
)
def test_weights_that_are_none(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_weights(weights, 3, "w")


def test_labels() -> None:
    assert check_labels(FRAME["site"], 2, "cluster").tolist() == ["a", "b"]
    with pytest.raises(ValueError, match=r"cluster .* one label for each of the 3 rows. .*\(2,\)"):
        check_labels(FRAME["site"], 3, "cluster")
    lacking = pd.Series(["a", None], index=FRAME.index)
    with pytest.raises(ValueError, match=r"cluster parameter must have no missing .* rows 'p1'"):
        check_labels(lacking, 2, "cluster")
    with pytest.raises(ValueError, match="rows 1"):
        check_labels(lacking.to_numpy(), 2, "cluster")
    with pytest.raises(ValueError, match="rows 'second'"):
        check_labels(lacking, 2, "cluster", ["first", "second"])


@pytest.mark.parametrize("label", ["sites", ["site"], 0])
def test_a_column_that_is_none_of_the_table(label: Any) -> None:
    with pytest.raises(ValueError, match=r"cluster parameter must name a column of X. Got"):
        take_column(FRAME, label, "cluster")
    with pytest.raises(ValueError, match="must name a column of X"):
        take_column(FRAME.to_numpy(), label, "cluster")


def test_a_column_with_its_index() -> None:
    pd.testing.assert_series_equal(take_column(FRAME, "site", "cluster"), FRAME["site"])
    with pytest.raises(ValueError, match=r"X has 'age', 'site'. Did you mean 'site'\?"):
        take_column(FRAME, "sites", "cluster")


def test_a_table_is_a_frame() -> None:
    require_frame(FRAME, "A formula")
    with pytest.raises(TypeError, match=r"A formula reads a pandas DataFrame.* Got ndarray"):
        require_frame(FRAME.to_numpy(), "A formula")


@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        ("1", {}, "a parameter must be a number. Got '1'"),
        (True, {}, "must be a number. Got True"),
        (1.5, {"integer": True}, "must be an integer. Got 1.5"),
        (None, {}, "must be a number. Got None"),
        (-1, {}, r"must be a number in \[0, inf\]. Got -1"),
        (0, {"open_ends": "low"}, r"in \(0, inf\]. Got 0"),
        (1, {"high": 1, "open_ends": "low and high"}, r"in \(0, 1\). Got 1"),
        (np.nan, {"allow_none": True}, r"a number or None in \[0, inf\]. Got nan"),
    ],
)
def test_numbers_that_are_refused(value: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        check_number("a", value, 0, **options)


def test_numbers_that_are_taken() -> None:
    check_number("a", None, 0, allow_none=True)
    check_number("a", np.int64(3), 3, 3, integer=True)
    check_number("a", np.float32(0.5), 0, 1, open_ends="low and high")


def test_choices() -> None:
    check_choice("how", None, ("mean", None))
    check_choice("how", "mean", ("mean", None))
    with pytest.raises(ValueError, match=r"how parameter of A must be .* 'mean', None. Got 3\."):
        check_choice("how", 3, ("mean", None), "A")
    with pytest.raises(ValueError, match=r"how parameter must .* Got 'men'. Did you mean 'mean'\?"):
        check_choice("how", "men", ("mean", None))


def test_names_of_modalities() -> None:
    check_names("drop", ["ct"], ["ct", "rna"])
    with pytest.raises(ValueError, match=r"drop .* are \['ct', 'rna'\]. Got 'cta'. Did you .*'ct'"):
        check_names("drop", ["rna", "cta"], ["ct", "rna"])


@pytest.mark.parametrize("hidden", [32, "ab", (8, 0), (8, 2.5), (True,), None])
def test_layers_that_are_refused(hidden: Any) -> None:
    with pytest.raises(ValueError, match="hidden parameter of A must be a tuple of positive int"):
        check_hidden("A", hidden)


def test_layers() -> None:
    check_hidden("A", ())
    check_hidden("A", [8, np.int64(4)], least=1)
    with pytest.raises(ValueError, match="a tuple of one positive integer or more"):
        check_hidden("A", (), least=1)
    check_dropout("A", 0)
    for share in (1, -0.1, True, "0.1", np.nan):
        with pytest.raises(ValueError, match=r"dropout parameter of A must be .* \[0, 1\)"):
            check_dropout("A", share)


def test_text_that_is_mostly_numbers_is_told_of() -> None:
    """One word in a file makes categories of all ages."""
    ages = pd.Series([str(age) for age in range(40, 70)], name="age")
    with pytest.warns(UserWarning, match=r"'age' holds text, 29 different numbers but .*'unknown'"):
        warn_of_text(ages.where(ages != "50", "unknown"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_text(ages.astype("category"))
        warn_of_text(pd.Series(["1", "2", "3a", "X"] * 10))
        warn_of_text(pd.Series([f"site {k}" for k in range(40)]))
