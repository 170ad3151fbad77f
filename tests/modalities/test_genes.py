from __future__ import annotations

import pickle
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import mstats
from sklearn.base import clone
from sklearn.compose import make_column_selector
from sklearn.preprocessing import StandardScaler
from skops import io as skops_io

from mmfusion.modalities import Genes
from mmfusion.modalities._moments import column_moments


@pytest.fixture
def expression() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    values = rng.gamma(2.0, np.linspace(1, 4, 6), size=(40, 6))
    frame = pd.DataFrame(values, columns=[f"ENSG{i}" for i in range(6)])
    frame["age"] = 60.0
    frame["note"] = "text"
    return frame


def numeric(genes: Genes, frame: pd.DataFrame) -> np.ndarray:
    return genes.transform(frame).numeric.numpy()


# Moments


number = st.integers(-40, 40).map(lambda k: k / 8)
table = arrays(
    np.float64,
    st.tuples(st.integers(1, 30), st.integers(1, 5)),
    elements=st.one_of(st.just(np.nan), number),
)


@settings(max_examples=100)
@given(table, st.sampled_from([0.0, 0.01, 0.1]))
def test_moments_equal_one_column_at_a_time(values, tail):
    moments = column_moments(values, tail)
    for j, column in enumerate(values.T):
        seen = column[~np.isnan(column)]
        if not len(seen):
            assert np.isnan([moments.median[j], moments.mean[j], moments.sd[j]]).all()
            assert moments.constant[j]
            continue
        cut = int(np.ceil(tail * (len(seen) - 1)))
        inner = seen
        if 2 * cut < len(seen):
            share = cut / len(seen)
            winsorised = mstats.winsorize(np.sort(seen), limits=(share + 1e-9, share + 1e-9)).data
            inner = winsorised if np.ptp(winsorised) > 0 else seen
        np.testing.assert_allclose(moments.median[j], np.median(seen), rtol=1e-12)
        np.testing.assert_allclose(moments.mean[j], inner.mean(), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(moments.sd[j], inner.std(), rtol=1e-12, atol=1e-12)
        assert moments.constant[j] == (np.ptp(seen) == 0)


def test_moments_of_constant_columns_are_exact_and_offsets_do_no_harm():
    values = np.full((7, 2), 0.1)
    values[:, 1] = 1e12 + np.arange(7)
    moments = column_moments(values)
    assert moments.sd[0] == 0
    assert moments.mean[0] == 0.1
    np.testing.assert_allclose(moments.sd[1], 2.0, rtol=1e-12)


# Order of the steps


def test_plain_scaling_equals_scikit_learn(expression):
    genes = Genes("ENSG*", clip=None).fit(expression)
    reference = StandardScaler().fit_transform(expression.iloc[:, :6])
    np.testing.assert_allclose(numeric(genes, expression), reference, rtol=1e-5, atol=1e-5)
    assert genes.transform(expression).numeric.dtype == torch.float32
    assert genes.n_numeric_ == 6
    assert genes.feature_labels_ == genes.columns_ == [f"ENSG{i}" for i in range(6)]
    assert genes.cardinalities_ == []


def test_logarithm(expression):
    genes = Genes("ENSG*", log=True, clip=None).fit(expression)
    reference = StandardScaler().fit_transform(np.log1p(expression.iloc[:, :6]))
    np.testing.assert_allclose(numeric(genes, expression), reference, rtol=1e-5, atol=1e-5)


def test_negative_value_under_logarithm_names_column_and_row(expression):
    expression.loc[17, "ENSG3"] = -0.5
    with pytest.raises(ValueError, match=r"Got -0.5 in column 'ENSG3', row 17"):
        Genes("ENSG*", log=True).fit(expression)
    Genes("ENSG*").fit(expression)


def test_one_extreme_value_does_not_shrink_the_others():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(100, 1))
    clean = Genes([0]).fit(pd.DataFrame(values))
    values[0] = 3515.0
    frame = pd.DataFrame(values)
    robust = numeric(Genes([0]).fit(frame), frame)[:, 0]
    assert robust[0] == 5.0
    assert 0.8 < robust[1:].std() < 1.2
    np.testing.assert_allclose(robust[1:], numeric(clean, frame)[1:, 0], atol=0.1)
    # The plain standard deviation is what it guards against.
    assert numeric(Genes([0], clip=None).fit(frame), frame)[1:].std() < 0.01


def test_clip_bounds_new_rows_in_training_spreads(expression):
    genes = Genes("ENSG*", clip=2.0).fit(expression)
    later = expression.iloc[:2].copy()
    later.iloc[0, :6], later.iloc[1, :6] = 1e6, -1e6
    assert np.allclose(numeric(genes, later), [[2.0] * 6, [-2.0] * 6])


def test_without_scale_values_are_only_clipped():
    frame = pd.DataFrame({"g": [*range(1, 100), 1000.0]})
    genes = Genes("g", scale=False).fit(frame)
    out = numeric(genes, frame)[:, 0]
    np.testing.assert_array_equal(out[:-1], np.arange(1, 100))
    np.testing.assert_allclose(out[-1], genes.mean_[0] + 5 * genes.scale_[0], rtol=1e-6)


def test_rare_mutation_is_kept():
    frame = pd.DataFrame({"TP53_mut": [0] * 199 + [1], "other": np.arange(200)})
    genes = Genes(["TP53_mut", "other"], clip=None).fit(frame)
    clipped = Genes(["TP53_mut", "other"]).fit(frame)
    assert clipped.columns_ == ["TP53_mut", "other"]
    np.testing.assert_allclose(genes.scale_[0], clipped.scale_[0])
    assert numeric(clipped, frame)[-1, 0] == 5.0


# Selection


def test_top_variance_is_number_or_share_in_the_columns_order(expression):
    assert Genes("ENSG*", clip=None, top_variance=2).fit(expression).columns_ == ["ENSG4", "ENSG5"]
    assert len(Genes("ENSG*", top_variance=0.5).fit(expression).columns_) == 3
    assert len(Genes("ENSG*", top_variance=1.0).fit(expression).columns_) == 6
    assert len(Genes("ENSG*", top_variance=1).fit(expression).columns_) == 1
    assert len(Genes("ENSG*", top_variance=100).fit(expression).columns_) == 6


def test_variance_is_measured_after_the_logarithm_on_training_rows():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"high": rng.normal(1000, 30, 50), "low": rng.uniform(0, 10, 50)})
    frame = frame.clip(lower=0)
    assert Genes(["high", "low"], top_variance=1).fit(frame).columns_ == ["high"]
    assert Genes(["high", "low"], log=True, top_variance=1).fit(frame).columns_ == ["low"]


def test_components_equal_an_svd(expression):
    genes = Genes("ENSG*", clip=None, n_components=3).fit(expression)
    z = StandardScaler().fit_transform(expression.iloc[:, :6])
    _, _, loadings = np.linalg.svd(z - z.mean(0), full_matrices=False)
    loadings = loadings[:3]
    largest = np.abs(loadings).argmax(axis=1)
    loadings = loadings * np.sign(loadings[np.arange(3), largest])[:, None]
    scores = z @ loadings.T
    np.testing.assert_allclose(
        numeric(genes, expression), scores / scores[:, 0].std(ddof=1), rtol=1e-4, atol=1e-4
    )
    picked = genes.pca_.components_[np.arange(3), np.abs(genes.pca_.components_).argmax(axis=1)]
    assert (picked > 0).all()
    assert genes.feature_labels_ == ["component 1", "component 2", "component 3"]
    assert genes.n_numeric_ == 3


def test_components_by_explained_share(expression):
    genes = Genes("ENSG*", n_components=0.7).fit(expression)
    explained = np.cumsum(genes.pca_.explained_variance_ratio_)
    assert explained[-1] >= 0.7
    assert explained[-2] < 0.7


def test_components_ignore_absent_rows(expression):
    absent = pd.DataFrame(np.nan, index=range(5), columns=expression.columns)
    both = pd.concat([expression, absent], ignore_index=True)
    alone = Genes("ENSG*", n_components=2).fit(expression)
    beside = Genes("ENSG*", n_components=2).fit(both)
    np.testing.assert_allclose(numeric(alone, expression), numeric(beside, expression), atol=1e-5)
    assert beside.transform(both).present.tolist() == [True] * 40 + [False] * 5


def test_wide_table_has_reproducible_components():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(1100, 1200)))
    genes = Genes(list(range(1200)), n_components=3)
    first = genes.fit(frame).transform(frame).numeric
    torch.testing.assert_close(clone(genes).fit(frame).transform(frame).numeric, first)


# Columns


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("ENSG[01]", ["ENSG0", "ENSG1"]),
        ("ENSG2", ["ENSG2"]),
        (["ENSG5", "ENSG0"], ["ENSG5", "ENSG0"]),
        (["ENSG4", "ENSG?"], ["ENSG4", "ENSG0", "ENSG1", "ENSG2", "ENSG3", "ENSG5"]),
        (lambda frame: frame.columns[2:4], ["ENSG2", "ENSG3"]),
        (make_column_selector("ENSG[45]"), ["ENSG4", "ENSG5"]),
        (make_column_selector("ENSG0", dtype_include="number"), ["ENSG0"]),
    ],
)
def test_columns_by_name_glob_and_function(expression, columns, expected):
    assert Genes(columns).fit(expression).columns_ == expected


def test_a_column_may_have_a_glob_s_name():
    frame = pd.DataFrame({"a[1]": [1.0, 2.0], "a1": [1.0, 2.0]})
    assert Genes("a[1]").fit(frame).columns_ == ["a[1]"]


def test_glob_without_match_shows_pattern_and_columns(expression):
    with pytest.raises(ValueError, match=r"'RNA\*' matches no column. The table has 'ENSG0', 'EN"):
        Genes(["ENSG0", "RNA*"]).fit(expression)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("ENSGO1", "Column 'ENSGO1' not found .* Nearest to 'ENSGO1': 'ENSG1'"),
        (["ENSG1", "note"], "Column 'note' must hold numbers. Got 'text' in row 0"),
        (lambda frame: True, "as a function, must take the table and return .* Got True"),
        (lambda frame: [], "must name a column. Got none"),
    ],
)
def test_wrong_columns(expression, columns, message):
    with pytest.raises(ValueError, match=message):
        Genes(columns).fit(expression)


def test_gene_missing_at_prediction(expression):
    genes = Genes("ENSG*").fit(expression)
    with pytest.raises(ValueError, match=r"Column 'ENSG3' not found"):
        genes.transform(expression.drop(columns="ENSG3"))


# Missing, constant, infinite


def test_missing_genes_take_the_median_and_rows_without_genes_are_absent(expression):
    expression.iloc[0, :6] = np.nan
    expression.iloc[1, 2] = np.nan
    genes = Genes("ENSG*").fit(expression)
    data = genes.transform(expression)
    assert data.present.tolist() == [False] + [True] * 39
    filled = expression.fillna(expression[["ENSG2"]].median()).iloc[[1]]
    np.testing.assert_allclose(data.numeric[1].numpy(), numeric(genes, filled)[0], rtol=1e-6)
    assert torch.isfinite(data.numeric).all()


def test_flat_genes_are_left_out_with_one_warning(expression):
    expression["ENSG7"] = 1.0
    expression["ENSG8"] = np.nan
    genes = Genes("ENSG*")
    with pytest.warns(UserWarning, match=r"leaves out 2 of 8 columns .*: 'ENSG7', 'ENSG8'") as log:
        genes.fit(expression)
    assert len(log) == 1
    assert genes.columns_ == [f"ENSG{i}" for i in range(6)]
    only = expression[["ENSG7", "ENSG8"]]
    with pytest.raises(ValueError, match=r"two values in the training rows.*'ENSG7', 'ENSG8'"):
        Genes("ENSG*").fit(only)


def test_infinite_value_names_column_and_row(expression):
    expression.index = [f"p{i}" for i in range(40)]
    expression.loc["p3", "ENSG1"] = np.inf
    with pytest.raises(ValueError, match=r"Column 'ENSG1' .* Got inf in row 'p3'"):
        Genes("ENSG*").fit(expression)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"clip": 0}, "clip parameter of Genes must be a positive number or None. Got 0"),
        ({"clip": "5"}, "clip parameter .* Got '5'"),
        ({"top_variance": 0}, "top_variance parameter .* at least 1 or a share .* Got 0"),
        ({"top_variance": 1.5}, "top_variance parameter .* Got 1.5"),
        ({"n_components": -1}, "n_components parameter .* Got -1"),
        ({"n_components": 1.0}, r"n_components parameter .* a share in \(0, 1\) .* Got 1.0"),
        ({"n_components": True}, "n_components parameter .* Got True"),
        ({"n_components": 7}, r"must be at most 6, .* \(40\) and the genes read \(6\). Got 7"),
    ],
)
def test_bad_parameters(expression, parameters, message):
    with pytest.raises(ValueError, match=message):
        Genes("ENSG*", **parameters).fit(expression)


@pytest.mark.parametrize("n_components", [None, 2])
def test_no_rows(expression, n_components):
    genes = Genes("ENSG*", n_components=n_components).fit(expression)
    assert genes.transform(expression.iloc[:0]).numeric.shape == (0, genes.n_numeric_)


# scikit-learn's promises


def test_clone_pickle_and_no_change_to_the_table(expression):
    expression.iloc[0, 0] = np.nan
    before = expression.copy(deep=True)
    genes = Genes(["ENSG*"], log=True, top_variance=4, n_components=2).fit(expression)
    out = numeric(genes, expression)
    pd.testing.assert_frame_equal(expression, before)
    assert not hasattr(clone(genes), "columns_")
    np.testing.assert_array_equal(numeric(pickle.loads(pickle.dumps(genes)), expression), out)


def test_values_of_the_table_are_not_overwritten_in_place():
    values = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    frame = pd.DataFrame(values, copy=False)  # float32 already: nothing forces a copy
    before = values.copy()
    genes = Genes([0, 1, 2], n_components=2).fit(frame)
    genes.transform(frame)
    np.testing.assert_array_equal(values, before)


def test_fitted_state_is_plain_even_where_columns_is_a_function(expression):
    genes = Genes(lambda frame: frame.columns[:4], n_components=2).fit(expression)
    state = {k: v for k, v in vars(genes).items() if k.endswith("_")}
    stored = skops_io.dumps(state)
    assert skops_io.get_untrusted_types(data=stored) == []


@pytest.mark.slow
def test_wide_tables_are_read_without_a_loop_over_genes():
    n, p = 200, 60_000
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        rng.normal(size=(n, p)).astype(np.float32), columns=[f"ENSG{i}" for i in range(p)]
    )
    start = time.perf_counter()
    genes = Genes("ENSG*", top_variance=0.1).fit(frame)
    genes.transform(frame)
    # It takes 0.8 s on one thread; half a millisecond of Python a gene would take 30 s.
    assert time.perf_counter() - start < 10


def test_real_expression_has_its_outliers_tamed(data_dir):
    pytest.importorskip("pyarrow")
    frame = pd.read_parquet(data_dir / "tcga_gbmlgg" / "genes.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        genes = Genes(["*_rnaseq", "*_cnv", "*_mut"]).fit(frame)
    out = numeric(genes, frame)
    assert frame.filter(like="_rnaseq").to_numpy().max() > 3000
    assert np.abs(out).max() <= 5.0
    assert np.isfinite(out).all()
    assert 0.9 < np.median(out.std(axis=0)) < 1.3
