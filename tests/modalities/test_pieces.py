from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skops import io as skops_io

from mmfusion.estimators import FusionCox
from mmfusion.metrics import concordance_index
from mmfusion.modalities import Tabular
from mmfusion.survival import surv


@given(seed=st.integers(0, 1000), pieces=st.integers(2, 12), many=st.booleans())
@settings(max_examples=30, deadline=None)
def test_what_is_linear_in_the_pieces_is_interpolated_between_their_ends(
    seed: int, pieces: int, many: bool
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_cauchy(60)
    frame = pd.DataFrame({"x": values if many else values.round()})
    table = Tabular(pieces=pieces, scale=False).fit(frame)
    edges = table.edges_[0]
    assert 3 <= len(edges) <= pieces + 1
    slopes = rng.normal(size=len(edges) - 1)
    new = np.concatenate([values, rng.normal(size=40), [-1e6, 1e6]])
    numeric = table.transform(pd.DataFrame({"x": new})).numeric.numpy()
    heights = np.concatenate([[0.0], np.cumsum(slopes)])  # of the curve, at the ends
    np.testing.assert_allclose(numeric @ slopes, np.interp(new, edges, heights), atol=1e-4)


def test_what_is_cut_and_what_stays() -> None:
    rows = np.arange(20)
    frame = pd.DataFrame(
        {
            "age": np.where(rows == 3, np.nan, 40.0 + rows),
            "grade": rows % 3,
            "treated": rows < 8,
            "rare": (rows == 19) * 5.0,
            "site": np.where(rows < 9, "a", "b"),
        }
    )
    table = Tabular(pieces=2, encoding="onehot", scale=False).fit(frame)
    assert table.feature_labels_ == [
        *("age 40 to 50", "age 50 to 59", "grade 0 to 1", "grade 1 to 2", "treated", "rare"),
        *("age missing", "site=a", "site=b"),
    ]
    assert table.n_numeric_ == 9
    numeric = table.transform(frame).numeric.numpy()
    assert numeric[3, [0, 1, 6]].tolist() == [1.0, 0.0, 1.0]  # the median, 50, and a mark
    np.testing.assert_allclose(numeric[[10, 19], :2], [[1, 0], [1, 1]])
    assert table.source_columns_ == ["age", "age", "grade", "grade", "treated", "rare"]
    scaled = Tabular(pieces=2, encoding="onehot").fit(frame).transform(frame).numeric.numpy()
    own = numeric[:, :6]
    np.testing.assert_allclose(scaled[:, :6], (own - own.mean(0)) / own.std(0), atol=1e-5)
    uncut = Tabular(encoding="onehot", scale=False).fit(frame)
    assert [len(edges) for edges in uncut.edges_] == [0, 0, 0, 0]
    same = uncut.transform(frame).numeric.numpy()
    np.testing.assert_array_equal(numeric[:, 4:], same[:, 2:])
    stored = skops_io.dumps({k: v for k, v in vars(table).items() if k.endswith("_")})
    assert skops_io.get_untrusted_types(data=stored) == []


@pytest.mark.parametrize("pieces", [1, 2.0, "many"])
def test_a_number_of_pieces_that_is_none(pieces: object) -> None:
    with pytest.raises((ValueError, TypeError), match="pieces parameter must be an integer"):
        Tabular(pieces=pieces).fit(pd.DataFrame({"x": [1.0, 2.0, 3.0]}))  # type: ignore[arg-type]


def test_a_hazard_that_is_lowest_in_the_middle_is_seen_and_kept(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=400), "noise": rng.normal(size=400)})
    y = surv(rng.exponential(np.exp(-1.5 * frame["x"].abs())), rng.random(400) < 0.8)
    found = {}
    for pieces in (None, 6):
        model = FusionCox({"table": Tabular(pieces=pieces)}, n_members=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(frame[:300], y[:300])
        found[pieces] = concordance_index(y[300:], model.predict(frame[300:]))
    assert found[None] < 0.6
    assert found[6] > 0.65
    effects = model.linear_effects_
    assert effects["coef"].iloc[0] < -0.2 < 0.2 < effects["coef"].iloc[5]
    model.save(tmp_path / "model")
    other = FusionCox.load(tmp_path / "model")
    np.testing.assert_array_equal(other.predict(frame), model.predict(frame))
