"""The design as an operator: each product against the matrix written out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from mmfusion.structured import Block, Dense, Design, Given, Indicator
from mmfusion.structured import blocks as blocks_module

TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def written_out(design: Design) -> np.ndarray:
    """Return the matrix (n, K, p) entry by entry, from what a block is defined as."""
    matrix = np.zeros((design.n_rows, design.n_predictors, design.n_columns))
    for block in design.blocks:
        f, r = block.columns.shape
        for b, a in np.ndindex(f, r):
            column = block.columns[b, a]
            if column < 0:
                continue
            if isinstance(block, Given):
                matrix[:, :, column] += block.values[:, :, a]
            elif isinstance(block.rows, Dense):
                matrix[:, :, column] += np.outer(block.rows.values[:, a], block.basis[:, b])
            else:
                has = (block.rows.codes == a).astype(float)
                matrix[:, :, column] += np.outer(has, block.basis[:, b])
    return matrix


@st.composite
def designs(draw: Callable, apart: bool = False) -> tuple[Design, np.ndarray, int]:
    """Draw a design, a curvature (diagonal or full) and a seed."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    n, k = draw(st.integers(1, 12)), draw(st.integers(1, 4))
    kinds = draw(st.lists(st.sampled_from("dgi"), min_size=1, max_size=4))
    if apart:
        kinds = ["i", *kinds]
    made: list[Block | Given] = []
    p = 0
    for kind in kinds:
        r = draw(st.integers(1, 4))
        basis = draw(st.sampled_from(["identity", "ones", "unit", "random"]))
        matrix = {
            "identity": np.eye(k),
            "ones": np.ones((k, 1)),
            "unit": np.eye(k)[:, :1],
            "random": rng.normal(size=(k, 2)),
        }[basis]
        f = 1 if kind == "g" else matrix.shape[1]
        columns = p + rng.permutation(f * r).reshape(f, r)
        p += f * r
        if kind == "g":
            made.append(Given(rng.normal(size=(n, k, r)), columns))
        elif kind == "d":
            made.append(Block(Dense(rng.normal(size=(n, r))), matrix, columns))
        else:
            made.append(Block(Indicator(rng.integers(-1, r, n), r), matrix, columns))
    root = rng.normal(size=(n, k, k))
    curvature = root @ root.transpose(0, 2, 1)
    if draw(st.booleans()):
        curvature = curvature[:, :, 0]
    return Design(n, k, p, tuple(made), 0 if apart else None), curvature, draw(st.integers(0, 99))


def crossed(matrix: np.ndarray, curvature: np.ndarray) -> np.ndarray:
    if curvature.ndim == 2:
        curvature = curvature[:, :, None] * np.eye(curvature.shape[1])
    return np.einsum("nkp,nkl,nlq->pq", matrix, curvature, matrix)


def check_products(design: Design, matrix: np.ndarray, curvature: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    coef = rng.normal(size=design.n_columns)
    values = rng.normal(size=matrix.shape[:2])
    assert_allclose(design.dense().reshape(matrix.shape), matrix, **TIGHT)
    assert_allclose(design.predict(coef), matrix @ coef, **TIGHT)
    assert_allclose(design.pull(values), np.einsum("nkp,nk->p", matrix, values), **TIGHT)
    assert_allclose(design.scores(values), np.einsum("nkp,nk->np", matrix, values), **TIGHT)
    assert_allclose(design.cross(curvature), crossed(matrix, curvature), rtol=1e-12, atol=1e-11)
    assert (design.nonzero() == (matrix != 0).any((0, 1))).all()


@given(designs())
def test_products_are_those_of_the_matrix(drawn: tuple) -> None:
    design, curvature, seed = drawn
    check_products(design, written_out(design), curvature, seed)


@given(designs(apart=True))
def test_a_block_apart_changes_no_product(drawn: tuple) -> None:
    design, curvature, seed = drawn
    assert design.cross(curvature).layout.split
    check_products(design, written_out(design), curvature, seed)


@given(designs())
def test_products_in_pieces_of_rows_are_the_same(drawn: tuple) -> None:
    design, curvature, seed = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks_module, "PIECE", 8)
        check_products(design, written_out(design), curvature, seed)


@given(designs())
def test_some_rows_and_some_coefficients_are_parts_of_the_matrix(drawn: tuple) -> None:
    design, curvature, seed = drawn
    matrix = written_out(design)
    rng = np.random.default_rng(seed)
    kept = np.flatnonzero(rng.random(design.n_columns) < 0.6)
    check_products(design.keep(kept), matrix[:, :, kept], curvature, seed)
    rows = rng.integers(0, design.n_rows, 5)
    check_products(design.take(rows), matrix[rows], curvature[rows], seed)
    first = slice(0, (design.n_rows + 1) // 2)
    check_products(design.take(first), matrix[first], curvature[first], seed)


@pytest.mark.parametrize("k", [1, 3])
def test_a_matrix_is_a_design(k: int) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(6 * k, 4))
    design = Design.dense_of(matrix, k)
    curvature = np.exp(rng.normal(size=(6, k)))
    check_products(design, matrix.reshape(6, k, 4), curvature, 0)
    assert Design.dense_of(matrix[:, :0], k).cross(curvature).shape == (0, 0)
    if k == 1:
        assert design.dense() is matrix  # no copy
