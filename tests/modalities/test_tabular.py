from __future__ import annotations

import datetime
import decimal
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skops import io as skops_io

from mmfusion.modalities import Tabular


@pytest.fixture
def patients() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": [61.0, 70.0, np.nan, 52.0, 47.0],
            "treated": [True, False, False, True, True],
            "sex": ["f", "m", "m", None, "f"],
            "stage": pd.Categorical(
                ["II", "I", None, "III", "I"], categories=["I", "II", "III", "IV"]
            ),
        },
        index=["p1", "p2", "p3", "p4", "p5"],
    )


def quiet_fit(modality: Tabular, frame: pd.DataFrame) -> Tabular:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return modality.fit(frame)


# What is made of the columns


def test_kinds_of_columns_and_fitted_attributes(patients):
    table = Tabular().fit(patients)
    assert table.numeric_columns_ == ["age", "treated"]
    assert table.categorical_columns_ == ["sex", "stage"]
    assert table.columns_ == ["age", "treated", "sex", "stage"]
    assert table.indicator_columns_ == ["age"]
    assert table.feature_labels_ == ["age", "treated", "age missing"]
    assert table.n_numeric_ == 3
    # "IV" is in the dtype but in no training row: it has no code of its own.
    assert table.categories_ == [["f", "m"], ["I", "II", "III"]]
    assert table.cardinalities_ == [3, 4]
    data = table.transform(patients)
    assert data.numeric.dtype == torch.float32
    assert data.categories.dtype == torch.int64
    assert data.categories.tolist() == [[1, 2], [2, 1], [2, 0], [0, 3], [1, 1]]
    assert data.numeric[:, 2].tolist() == [0, 0, 1, 0, 0]
    assert data.present.all()


def test_onehot_equals_scikit_learn(patients):
    table = Tabular(["sex", "stage", "age"], encoding="onehot").fit(patients)
    data = table.transform(patients)
    assert data.categories.shape == (5, 0)
    assert table.cardinalities_ == []
    assert table.feature_labels_ == [
        "age", "age missing", "sex=f", "sex=m", "stage=I", "stage=II", "stage=III"
    ]  # fmt: skip
    assert table.n_numeric_ == data.numeric.shape[1] == 7
    encoder = OneHotEncoder(
        categories=[["f", "m"], ["I", "II", "III"]], handle_unknown="ignore", sparse_output=False
    )
    text = patients[["sex", "stage"]].astype(object).where(lambda f: f.notna(), None)
    np.testing.assert_array_equal(data.numeric[:, 2:].numpy(), encoder.fit_transform(text))


columns_of_numbers = arrays(
    np.float64,
    st.tuples(st.integers(2, 12), st.integers(1, 4)),
    elements=st.one_of(st.just(np.nan), st.integers(-50, 50).map(lambda k: k / 4 + 1000)),
)


@settings(max_examples=60)
@given(columns_of_numbers)
def test_numbers_equal_scikit_learn(values):
    kept = values[~np.isnan(values).all(axis=1)]
    used = ~np.isnan(kept).all(axis=0)
    if not used.any():
        return
    frame = pd.DataFrame(values)
    table = quiet_fit(Tabular(indicators=False), frame)
    data = table.transform(frame)
    assert table.columns_ == list(np.flatnonzero(used))
    kept = kept[:, used]
    reference = make_pipeline(SimpleImputer(strategy="median"), StandardScaler()).fit(kept)
    present = data.present.numpy()
    np.testing.assert_array_equal(present, ~np.isnan(values).all(axis=1))
    np.testing.assert_allclose(
        data.numeric.numpy()[present], reference.transform(kept), rtol=2e-6, atol=2e-6
    )


@settings(max_examples=40)
@given(columns_of_numbers, st.integers(1, 5))
def test_absent_rows_never_matter(values, n_absent):
    if np.isnan(values).all():
        return
    frame = pd.DataFrame(values)
    absent = pd.DataFrame(np.full((n_absent, values.shape[1]), np.nan))
    alone = quiet_fit(Tabular(), frame)
    beside = quiet_fit(Tabular(), pd.concat([frame, absent], ignore_index=True))
    assert alone.feature_labels_ == beside.feature_labels_
    data = beside.transform(pd.concat([frame, absent], ignore_index=True))
    assert not data.present[len(frame) :].any()
    there = data.present[: len(frame)]
    torch.testing.assert_close(
        data.numeric[: len(frame)][there], alone.transform(frame).numeric[there]
    )


def test_large_offsets_keep_their_digits():
    # 32 bits hold 1e9 + 1 only to 64.
    frame = pd.DataFrame({"time": 1e9 + np.arange(5)})
    numeric = Tabular().fit(frame).transform(frame).numeric[:, 0]
    np.testing.assert_allclose(numeric, np.arange(-2, 3) / np.sqrt(2), rtol=1e-6)


def test_without_scale_numbers_are_only_imputed(patients):
    data = Tabular(["age", "treated"], scale=False).fit(patients).transform(patients)
    assert data.numeric[:, 0].tolist() == [61.0, 70.0, 56.5, 52.0, 47.0]
    assert data.numeric[:, 1].tolist() == [1.0, 0.0, 0.0, 1.0, 1.0]


def test_numbers_of_every_dtype():
    frame = pd.DataFrame(
        {
            "int": [1, 2, 3],
            "int8": np.array([1, 2, 3], dtype=np.int8),
            "nullable": pd.array([1, None, 3], dtype="Int64"),
            "boolean": pd.array([True, None, False], dtype="boolean"),
            "sparse": pd.arrays.SparseArray([0.0, 0.0, 1.0]),
            "object": [1, None, 2.5],
            "objects of bool": [True, None, False],
            "decimal": [decimal.Decimal("1.5"), decimal.Decimal("2"), None],
        }
    )
    table = Tabular(scale=False, indicators=False).fit(frame)
    assert table.numeric_columns_ == list(frame.columns)
    assert table.transform(frame).numeric.tolist() == [
        [1, 1, 1, 1, 0, 1, 1, 1.5],
        [2, 2, 2, 0.5, 0, 1.75, 0.5, 2],
        [3, 3, 3, 0, 1, 2.5, 0, 1.75],
    ]


def test_integer_labels_and_other_columns_and_order():
    frame = pd.DataFrame(np.arange(12.0).reshape(4, 3))
    table = Tabular([0, 2]).fit(frame)
    assert table.feature_labels_ == ["0", "2"]
    moved = frame[[2, 1, 0]].assign(new="text")
    torch.testing.assert_close(table.transform(moved).numeric, table.transform(frame).numeric)


def test_one_column_may_be_given_bare():
    frame = pd.DataFrame({"age": [1.0, 2.0], "sex": ["f", "m"]})
    assert Tabular("age").fit(frame).columns_ == ["age"]


def test_categorical_list_codes_numbers():
    frame = pd.DataFrame({"grade": [2, 1, 3, 1], "age": [1.0, 2.0, 3.0, 4.0]})
    table = Tabular(categorical=["grade"]).fit(frame)
    assert table.categories_ == [[1, 2, 3]]
    with_gap = frame.assign(grade=[2.0, np.nan, 3.0, 1.0])  # a missing cell makes them float
    assert table.transform(with_gap).categories[:, 0].tolist() == [2, 0, 3, 1]


def test_categorical_list_takes_numbers_and_text():
    frame = pd.DataFrame({"grade": [2, "1b", None, 2]})
    table = Tabular(categorical=["grade"]).fit(frame)
    assert table.transform(frame).categories[:, 0].tolist() == [2, 1, 0, 2]


# What a training fold or a later table may lack


def test_constant_column_is_zero_with_a_warning():
    train = pd.DataFrame({"age": [50.0, 60.0, 70.0], "rare": [0.1, 0.1, 0.1]})
    table = Tabular()
    with pytest.warns(UserWarning, match=r"one value in the training rows to 0: 'rare'"):
        table.fit(train)
    later = pd.DataFrame({"age": [50.0, 60.0], "rare": [0.1, 1e6]})
    assert table.transform(train).numeric[:, 1].tolist() == [0, 0, 0]
    assert table.transform(later).numeric[:, 1].tolist() == [0, 0]


def test_constant_column_with_gaps_keeps_its_indicator():
    train = pd.DataFrame({"age": [50.0, 60.0, 70.0], "tested": [1.0, np.nan, 1.0]})
    table = quiet_fit(Tabular(), train)
    assert table.transform(train).numeric[:, 1:].tolist() == [[0, 0], [0, 1], [0, 0]]


def test_one_training_row_is_finite():
    frame = pd.DataFrame({"a": [3.0], "b": [4.0]})
    assert quiet_fit(Tabular(), frame).transform(frame).numeric.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("empty", [np.nan, None, pd.NaT])
def test_all_missing_column_is_left_out_with_a_warning(empty):
    train = pd.DataFrame({"age": [50.0, 60.0], "ldh": [empty, empty]})
    table = Tabular()
    with pytest.warns(UserWarning, match=r"without a value in the training rows: 'ldh'"):
        table.fit(train)
    assert table.columns_ == ["age"]
    later = table.transform(pd.DataFrame({"age": [50.0, np.nan], "ldh": ["now", "text"]}))
    assert later.numeric.shape == (2, 1)
    assert later.present.tolist() == [True, False]


def test_all_missing_category_is_left_out():
    train = pd.DataFrame(
        {"age": [50.0, 60.0], "stage": pd.Categorical([None, None], categories=["I"])}
    )
    with pytest.warns(UserWarning, match=r"'stage'"):
        assert Tabular().fit(train).cardinalities_ == []


def test_nothing_present_is_an_error():
    frame = pd.DataFrame({"a": [np.nan, np.nan], "b": [None, None]})
    with pytest.raises(ValueError, match=r"columns 'a', 'b' are missing in all of the 2 rows"):
        Tabular().fit(frame)


def test_unseen_category_is_unknown_with_one_warning(patients):
    table = Tabular(["sex"]).fit(patients)
    later = pd.DataFrame({"sex": ["f", "x", "y", "x", None]})
    with pytest.warns(UserWarning, match=r"'sex' holds categories that were not .*'x', 'y'") as log:
        data = table.transform(later)
    assert len(log) == 1
    assert data.categories[:, 0].tolist() == [1, 0, 0, 0, 0]
    assert data.present.tolist() == [True, True, True, True, False]
    with pytest.warns(UserWarning, match=r"not in the training rows"):
        onehot = Tabular(["sex"], encoding="onehot").fit(patients).transform(later)
    assert onehot.numeric[1:].abs().sum() == 0


def test_number_missing_only_later_takes_the_median(patients):
    table = Tabular(["treated", "age"]).fit(patients.fillna({"age": 60.0}))
    assert table.indicator_columns_ == []
    data = table.transform(pd.DataFrame({"age": [np.nan, 60.0], "treated": [1, 1]}))
    assert data.numeric[0].tolist() == data.numeric[1].tolist()


def test_present_unless_all_cells_are_missing(patients):
    table = Tabular(["age", "sex"]).fit(patients)
    rows = pd.DataFrame({"age": [np.nan, 1.0, np.nan], "sex": [None, None, "f"]})
    assert table.transform(rows).present.tolist() == [False, True, True]


def test_no_rows():
    frame = pd.DataFrame({"age": [1.0, 2.0], "sex": ["f", "m"]})
    data = Tabular().fit(frame).transform(frame.iloc[:0])
    assert data.numeric.shape == (0, 1)
    assert data.categories.shape == (0, 1)
    with pytest.raises(ValueError, match=r"all of the 0 rows"):
        Tabular().fit(frame.iloc[:0])


# Errors


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e39])
def test_infinite_value_names_column_and_row(patients, value):
    patients.loc["p2", "age"] = value
    message = rf"Column 'age' must hold finite numbers.* Got {re.escape(str(value))} in row 'p2'"
    with pytest.raises(ValueError, match=message):
        Tabular().fit(patients)
    with pytest.raises(ValueError, match=message):
        Tabular().fit(patients.fillna({"age": 1.0}).drop(index="p2")).transform(patients)


def test_unknown_column_suggests_near_names(patients):
    with pytest.raises(ValueError, match=r"Column 'agee' not found .* Nearest to 'agee': 'age'"):
        Tabular(["agee"]).fit(patients)
    table = Tabular(["age", "sex"]).fit(patients)
    with pytest.raises(ValueError, match=r"Columns 'age', 'sex' not found .* It has 1: 'treated'"):
        table.transform(patients[["treated"]])


def test_text_where_numbers_were(patients):
    table = Tabular(["age"]).fit(patients)
    later = patients.astype({"age": object})
    later.loc["p3", "age"] = "about 60"
    with pytest.raises(ValueError, match=r"'age' mixes numbers and text: 61.0 in row 'p1', 'about"):
        table.transform(later)
    later["age"] = "60"
    with pytest.raises(ValueError, match=r"'age' must hold numbers. Got '60' in row 'p1'"):
        table.transform(later)


def test_text_not_listed_as_categorical(patients):
    with pytest.raises(ValueError, match=r"Column 'stage' must hold numbers. Got 'II' in row 'p1'"):
        Tabular(["age", "sex", "stage"], categorical=["sex"]).fit(patients)


@pytest.mark.parametrize(
    "dates",
    [
        pd.to_datetime(["2020-01-01", None]),
        pd.to_timedelta([1, 2], unit="D"),
        pd.period_range("2020", periods=2),
        [datetime.date(2020, 1, 1), None],
    ],
    ids=["datetime", "timedelta", "period", "date objects"],
)
def test_dates_say_what_to_do(dates):
    frame = pd.DataFrame({"age": [1.0, 2.0], "born": dates})
    with pytest.raises(ValueError, match=r"'born' holds dates or durations .*\.dt\.days"):
        Tabular().fit(frame)


def test_mixed_numbers_and_text_name_both_rows():
    frame = pd.DataFrame({"stage": [None, 2, 3, "3a"]})
    with pytest.raises(ValueError, match=r"mixes numbers and text: 2 in row 1, '3a' in row 3"):
        Tabular().fit(frame)


@pytest.mark.parametrize("yes", [True, np.True_])
def test_numbers_of_several_types_name_a_row_of_each(yes):
    frame = pd.DataFrame({"treated": pd.Series([1, 0, yes, None], dtype=object)})
    wanted = r"'treated' mixes values of the types bool, int: True in row 2, 1 in row 0.*float"
    with pytest.raises(ValueError, match=wanted):
        Tabular().fit(frame)
    Tabular().fit(frame.astype(float))


def test_a_dictionary_of_pyarrow_says_what_to_do():
    kind = pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))
    frame = pd.DataFrame({"sex": pd.Series(["f", "m", None, "f"], dtype=kind)})
    with pytest.raises(ValueError, match=r"'sex' is stored as dictionary<.*astype\(object\)"):
        Tabular().fit(frame)
    assert Tabular().fit(frame.astype(object)).categorical_columns_ == ["sex"]


@pytest.mark.parametrize("cell", [np.zeros((4, 4)), {"a": 1}, b"text", 1j])
def test_other_objects_name_the_row(cell):
    frame = pd.DataFrame({"ct": pd.Series([None, cell], index=["p", "q"], dtype=object)})
    with pytest.raises(
        ValueError, match=rf"'ct' must hold .* Got {type(cell).__name__} in row 'q'"
    ):
        Tabular().fit(frame)


def test_unhashable_category_names_the_row(patients):
    table = Tabular(["sex"]).fit(patients)
    with pytest.raises(ValueError, match=r"'sex' must hold categories .* Got list in row 1"):
        table.transform(pd.DataFrame({"sex": ["f", ["m"]]}))


def test_bad_parameters(patients):
    with pytest.raises(ValueError, match=r"encoding parameter of Tabular must be one of .*'dummy'"):
        Tabular(encoding="dummy").fit(patients)
    with pytest.raises(ValueError, match=r"categorical parameter .* Got 'none'"):
        Tabular(categorical="none").fit(patients)
    with pytest.raises(ValueError, match=r"categorical parameter .* Got 'sex', not among 'age'"):
        Tabular(["age"], categorical=["sex"]).fit(patients)
    with pytest.raises(ValueError, match=r"each column once. Got 'age'"):
        Tabular(["age", "age"]).fit(patients)
    with pytest.raises(ValueError, match=r"must name a column"):
        Tabular([]).fit(patients)
    with pytest.raises(TypeError, match=r"DataFrame.*Got ndarray"):
        Tabular().fit(np.zeros((2, 2)))


def test_doubled_column():
    frame = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["a", "a", "b"])
    with pytest.raises(ValueError, match=r"more than one column named 'a'"):
        Tabular(["a"]).fit(frame)
    assert quiet_fit(Tabular(["b"]), frame).columns_ == ["b"]


def test_transform_before_fit(patients):
    with pytest.raises(ValueError, match=r"not fitted"):
        Tabular().transform(patients)


# scikit-learn's promises


@pytest.mark.parametrize("encoding", ["embedding", "onehot"])
def test_clone_pickle_and_no_change_to_the_table(patients, encoding):
    before = patients.copy(deep=True)
    table = Tabular(encoding=encoding).fit(patients)
    data = table.transform(patients)
    pd.testing.assert_frame_equal(patients, before)
    assert not hasattr(clone(table), "columns_")
    again = pickle.loads(pickle.dumps(table)).transform(patients)
    assert torch.equal(again.numeric, data.numeric)
    assert torch.equal(again.categories, data.categories)


def test_fitted_state_is_plain(patients):
    state = {k: v for k, v in vars(Tabular().fit(patients)).items() if k.endswith("_")}
    stored = skops_io.dumps(state)
    assert skops_io.get_untrusted_types(data=stored) == []
    assert skops_io.loads(stored)["categories_"] == state["categories_"]


def test_intervals_and_dates_are_categories_with_plain_state():
    days = pd.to_datetime(["2020-01-02", "2020-01-01", None, "2020-01-02"])
    frame = pd.DataFrame(
        {"band": pd.cut([5.0, 105.0, 15.0, np.nan], [0, 10, 20, 110]), "day": pd.Categorical(days)}
    )
    table = Tabular().fit(frame)
    assert table.categories_ == [
        ["(0, 10]", "(10, 20]", "(20, 110]"],
        ["2020-01-01 00:00:00", "2020-01-02 00:00:00"],
    ]
    codes = [[1, 2], [3, 1], [2, 0], [0, 2]]
    assert table.transform(frame).categories.tolist() == codes
    assert table.transform(frame.astype(object)).categories.tolist() == codes
    stored = skops_io.dumps({k: v for k, v in vars(table).items() if k.endswith("_")})
    assert skops_io.get_untrusted_types(data=stored) == []
