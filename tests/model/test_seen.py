"""A fitted model knows its training rows again, and keeps none of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from mmfusion import Genes, Image, surv
from mmfusion.estimators import FusionClassifier, FusionCox, FusionDiscreteTime, FusionRegressor
from mmfusion.inputs.hashes import mixed
from mmfusion.model import Plan, Seen
from mmfusion.model.seen import KEPT, Alike, largest_chance, refuse_seen, sums_of
from mmfusion.model.study import encode
from tests.helpers import make_cohort


def known(model, frame, y) -> np.ndarray:
    return alike(model, frame, y).rows


def alike(model, frame, y) -> Alike:
    target = encode(model.model_.head.encode, Plan.of(model), frame, y, None)
    return model.seen_.alike(frame, target, model.model_.columns)


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
    assert model.seen_.chance > model.seen_.usual > 0.05
    assert not known(model, frame[60:], y[60:]).any()


def small_cohort(rng: np.random.Generator, n: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Age, sex, stage and whole months: two patients are alike once in 28,000 pairs."""
    age, sex, stage = rng.integers(50, 80, n), rng.choice(list("fm"), n), rng.choice(4, n)
    y = surv(rng.integers(1, 61, n), rng.random(n) < 0.6)
    return pd.DataFrame({"age": age, "sex": sex, "stage": stage}), y


def test_a_small_table_is_not_refused_for_a_row_that_is_alike_by_chance() -> None:
    rng, met = np.random.default_rng(0), 0
    for _ in range(25):
        frame, y = small_cohort(rng, 150)
        model = FusionCox(modalities={}, structured="age + sex + C(stage)")
        model.fit(frame[:100], y[:100])
        found = alike(model, frame[100:], y[100:])
        met += found.rows.any()
        assert not found.sure
    assert met >= 2
    # Chance has no part in a third of the rows.
    assert alike(model, frame[80:140], y[80:140]).sure
    with pytest.warns(UserWarning, match=r"1 of 21 rows look like a training row.*: 99\. "):
        refuse_seen(alike(model, frame[99:120], y[99:120]), frame[99:120], "A report")


def test_chance_falls_with_what_columns_and_outcome_tell() -> None:
    """None of 100 rows is like another, by the rule of three standard errors at most 6.6 pairs."""
    limit = 6.608
    assert largest_chance(0, 4950, 4950, 100) == pytest.approx(2 * limit / 100, rel=1e-3)
    assert largest_chance(0, 0, 0, 100) == pytest.approx(100 * 10 * (limit / 4950) ** 2, rel=1e-3)
    assert largest_chance(0, 0, 0, 2) == 1
    # Many pairs: Good's estimate and three standard errors.
    assert largest_chance(400, 1e9, 1e9, 10_000) == pytest.approx(0.08 + 0.012, rel=0.01)


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
        refuse_seen(model.seen_.alike(frame, target, ["age"]), frame, "A report")


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
    assert again.alike(frame, target, ["x", "z"]).rows.all()
    assert again.levels == model.seen_.levels
    hashes = mixed(sum(sums_of(frame, target, ["z", "x"])))
    assert torch.is_tensor(target.time)
    assert len(np.unique(hashes)) == 50
