"""A fitted model knows its training rows again, and keeps none of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from mmfusion import Genes, Image
from mmfusion.estimators import FusionClassifier, FusionCox, FusionDiscreteTime, FusionRegressor
from mmfusion.model import Plan, Seen
from mmfusion.model.seen import KEPT, hashes_of, refuse_seen
from mmfusion.model.study import encode
from tests.helpers import make_cohort


def columns_of(model) -> list:
    read = [c for m in model.modalities_.values() for c in m.columns_]
    return [*read, *model.model_.structured.columns]


def known(model, frame, y) -> np.ndarray:
    target = encode(model.model_.head.encode, Plan.of(model), frame, y, None)
    return model.seen_.known(frame, target, columns_of(model))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", [FusionCox, FusionDiscreteTime, FusionRegressor, FusionClassifier])
def test_training_rows_are_known_again_and_new_ones_are_not(kind, tmp_path) -> None:
    frame, y = make_cohort(120, random_state=2)
    if kind is FusionRegressor:
        y = np.log(y["time"])
    elif kind is FusionClassifier:
        y = np.where(y["time"] > np.median(y["time"]), "late", "early")
    modalities = {"ct": Image("image", size=8, channels="L"), "rna": Genes("gene_*")}
    formula = None if kind is FusionDiscreteTime else "age + C(stage)"
    model = kind(modalities, structured=formula, epochs=1, n_members=1, random_state=0)
    model.fit(frame[:80], y[:80])
    mixed = np.r_[100:120, 40, 41, 90]
    np.testing.assert_array_equal(known(model, frame.iloc[mixed], y[mixed]), mixed < 80)
    model.save(tmp_path / "model")
    loaded = kind.load(tmp_path / "model")
    np.testing.assert_array_equal(known(loaded, frame.iloc[mixed], y[mixed]), mixed < 80)
    assert loaded.seen_.levels == model.seen_.levels
    # The outcome counts: another one is another row.
    other = np.roll(y, 1)
    twins = np.mean(other[:80] == y[:80])
    assert known(model, frame[:80], other[:80]).mean() == twins < 0.7


def cox(n: int) -> tuple[FusionCox, pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(n)
    frame = pd.DataFrame({"x": rng.normal(size=n), "z": rng.choice(["a", "b"], n)})
    y = np.rec.fromarrays([rng.random(n) < 0.7, rng.exponential(size=n)], names="event,time")
    return FusionCox(modalities={}, structured="x + z").fit(frame, y), frame, np.asarray(y)


def test_of_many_rows_a_random_part_is_known() -> None:
    model, frame, y = cox(6000)
    found = known(model, frame, y)
    assert found.sum() == KEPT
    assert found[:3000].sum() == pytest.approx(KEPT / 2, abs=5 * np.sqrt(KEPT) / 2)
    other, fresh, outcome = cox(5999)
    assert not known(model, fresh, outcome).any()
    assert model.seen_.hashes.nbytes == other.seen_.hashes.nbytes == 8 * KEPT


def test_rows_that_many_share_by_chance_are_no_training_rows() -> None:
    """Of two columns of few values many new rows look like one training row."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.integers(0, 4, 400), "b": rng.integers(0, 12, 400)})
    y = rng.integers(0, 2, 400)
    model = FusionClassifier(modalities={}, structured="a + b").fit(frame[:60], y[:60])
    assert model.seen_.chance > 0.05
    assert not known(model, frame[60:], y[60:]).any()


def test_rows_of_an_eval_set_count_as_seen() -> None:
    frame, y = make_cohort(120, random_state=2)
    model = FusionCox({"rna": Genes("gene_*")}, n_members=1, epochs=1, random_state=0)
    model.fit(frame[:80], y[:80], eval_set=(frame[80:100], y[80:100]))
    assert known(model, frame[75:], y[75:]).tolist() == [True] * 25 + [False] * 20
    assert (model.seen_.n_rows, model.seen_.n_judging) == (80, 20)


def test_the_error_names_the_rows() -> None:
    frame, y = make_cohort(60)
    model = FusionCox(modalities={}, structured="age").fit(frame[:40], y[:40])
    target = encode(model.model_.head.encode, Plan.of(model), frame, y, None)
    with pytest.raises(ValueError, match=r"report.*40 of 60 rows.*patient_0"):
        refuse_seen(model.seen_.known(frame, target, ["age"]), frame, "A report")


def test_counts_of_levels_and_of_presence() -> None:
    frame, y = make_cohort(150, missing=0.3)
    frame = frame.assign(treated=(frame["gene_3"] > 0).astype(int))
    model = FusionCox(
        {"ct": Image("image", size=8, channels="L")},
        structured="treated + sex + C(stage, ref='II') + s(age)",
        epochs=1,
        random_state=0,
    ).fit(frame, y)
    seen = model.seen_
    assert (seen.n_rows, seen.n_events) == (150, y["event"].sum())
    assert seen.presence == {"ct": frame["image"].notna().sum()}
    assert set(seen.levels) == {"treated", "sex", "C(stage, ref='II')"}
    for level, coefficient, n, events in seen.levels["C(stage, ref='II')"]:
        mine = (frame["stage"] == level).to_numpy()
        assert (n, events) == (mine.sum(), y["event"][mine].sum())
        assert (coefficient is None) == (level == "II")
        assert coefficient is None or coefficient in model.effects_.index
    assert [level[0] for level in seen.levels["treated"]] == ["0", "1"]
    assert seen.levels["treated"][1][1] == "treated"


def test_state_is_plain_and_comes_back() -> None:
    model, frame, y = cox(50)
    again = Seen.from_state(model.seen_.state())
    target = encode(model.model_.head.encode, Plan.of(model), frame, y, None)
    assert again.known(frame, target, ["x", "z"]).all()
    assert again.levels == model.seen_.levels
    hashes = hashes_of(frame, target, ["z", "x"])
    assert torch.is_tensor(target.time)
    assert len(np.unique(hashes)) == 50
