"""Matrices with a block diagonal apart, and their inverses, against the same written out."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from mmfusion.structured.linalg import Factor
from mmfusion.structured.symmetric import Apart, Symmetric

TIGHT = {"rtol": 1e-10, "atol": 1e-12}


def arrow(r: int, f: int, a: int = 3, seed: int = 0) -> Symmetric:
    """Return a positive definite matrix, r levels of f coefficients apart."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(a + r * f)
    layout = Apart(a + r * f, order[: r * f].reshape(r, f))
    side = rng.normal(size=(r, f, a))
    root = rng.normal(size=(r, f, f))
    last = root @ root.transpose(0, 2, 1) + np.eye(f)
    first = 20.0 * (r + 1) * f * np.eye(a) + rng.normal(size=(a, a))
    return Symmetric(layout, first + first.T, side, last)


shapes = pytest.mark.parametrize(("r", "f"), [(0, 1), (6, 1), (5, 3)])


@shapes
def test_it_is_the_matrix_written_out(r: int, f: int) -> None:
    m = arrow(r, f)
    full, p = m.dense(), len(m)
    assert_allclose(full, full.T)
    first, apart = m.layout.first, m.layout.apart
    assert_allclose(full[np.ix_(first, first)], m.first)
    for i, levels in enumerate(apart):
        assert_allclose(full[np.ix_(levels, first)], m.side[i])
        assert_allclose(full[np.ix_(levels, levels)], m.last[i])
        for others in apart[:i]:
            assert not full[np.ix_(levels, others)].any()
    other = arrow(r, f, seed=0) * 2.0 - m
    assert_allclose(other, full, **TIGHT)
    assert_allclose(m + m, 2 * full)
    x = np.random.default_rng(1).normal(size=(p, 2))
    assert_allclose(m @ x, full @ x, **TIGHT)
    assert_allclose(x[:, 0] @ m, x[:, 0] @ full, **TIGHT)
    assert_allclose(m.diagonal(), np.diag(full))
    assert_allclose(m[1:3, :], full[1:3])
    assert m[2, 1] == pytest.approx(full[2, 1])
    some = np.ix_([0, 2], [1, 2])
    assert_allclose(m[some], full[some])


@shapes
def test_its_factor_solves_and_inverts(r: int, f: int) -> None:
    m = arrow(r, f)
    full, p = m.dense(), len(m)
    wanted = np.linalg.inv(full)
    factor = Factor(m)
    x = np.random.default_rng(1).normal(size=(p, 2))
    assert factor.log_det == pytest.approx(np.linalg.slogdet(full)[1], rel=1e-12)
    assert_allclose(factor.solve(x[:, 0]), wanted @ x[:, 0], **TIGHT)
    inverse = factor.inverse()
    for found, by in ((inverse, 1.0), (inverse * 3.0, 3.0)):
        assert_allclose(found, by * wanted, **TIGHT)
        assert_allclose(found @ x, by * wanted @ x, **TIGHT)
        assert_allclose(x[:, 1] @ found, by * x[:, 1] @ wanted, **TIGHT)
        assert_allclose(found.diagonal(), by * np.diag(wanted), **TIGHT)
        assert_allclose(found[:, 2], by * wanted[:, 2], **TIGHT)
        assert_allclose(found.product_diagonal(m), np.full(p, by), **TIGHT)


@shapes
def test_maps_and_padding(r: int, f: int) -> None:
    m = arrow(r, f)
    first, p = m.layout.first, len(m)
    right = np.eye(3) + np.random.default_rng(2).normal(size=(3, 3)) / 5
    whole = np.eye(p)
    whole[np.ix_(first, first)] = right
    full, inverse = m.dense(), Factor(m).inverse()
    assert_allclose(m.mapped(right, np.linalg.inv(right)), whole.T @ full @ whole, **TIGHT)
    mapped = inverse.mapped(right, np.linalg.inv(right))
    assert_allclose(mapped, whole.T @ np.linalg.inv(full) @ whole, **TIGHT)
    kept = np.delete(np.arange(p + 2), [1, 4])
    for matrix in (m, inverse):
        padded = matrix.padded(kept, p + 2).dense()
        assert_allclose(padded[np.ix_(kept, kept)], matrix.dense(), **TIGHT)
        assert not padded[[1, 4]].any()


def test_what_is_not_positive_definite_is_replaced_by_its_size() -> None:
    m = arrow(4, 1)
    m.last[1] = -2.0
    size = m + Symmetric.zeros(m.layout)
    size.last[1] = 2.0
    x = np.zeros(len(m))
    x[m.layout.apart[1, 0]] = 1.0
    lonely = Symmetric(m.layout, m.first, 0 * m.side, m.last)
    assert_allclose(Factor(lonely).solve(x), x / 2)
