"""Scores kept on disk: what is computed again, what is not, what a damaged file does."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline

from mmfusion import Genes, Image, Tabular
from mmfusion.estimators import FusionCox
from mmfusion.evaluation import compare, compare_fusion, survival_stratified_folds
from mmfusion.evaluation.cache import FoldCache
from mmfusion.evaluation.fingerprint import fingerprint
from mmfusion.evaluation.scoring import METRICS
from mmfusion.fusion import JointFusion
from tests.helpers import make_cohort

FRAME, Y = make_cohort(80)
FOLDS = survival_stratified_folds(Y, 4, random_state=1)


class Counting(BaseEstimator):
    """A risk from one column; it counts its fits, and may be interrupted in one of them."""

    fits = 0
    stop_at = -1

    def __init__(self, column: str = "age", power: int = 1, verbose: int = 0) -> None:
        self.column = column
        self.power = power
        self.verbose = verbose

    def fit(self, X, y):
        if Counting.fits == Counting.stop_at:
            raise KeyboardInterrupt
        Counting.fits += 1
        return self

    def predict(self, X):
        return X[self.column].to_numpy() ** self.power


@pytest.fixture(autouse=True)
def _reset() -> None:
    Counting.fits, Counting.stop_at = 0, -1


MODELS = {"age": Counting(), "gene": Counting("gene_0")}


def scores(result) -> pd.DataFrame:
    return result.scores.drop(columns="seconds")


def test_an_interrupted_run_goes_on_and_ends_as_one_in_one_go(tmp_path) -> None:
    whole = compare(MODELS, FRAME, Y, FOLDS)
    Counting.fits, Counting.stop_at = 0, 5
    with pytest.raises(KeyboardInterrupt):
        compare(MODELS, FRAME, Y, FOLDS, cache=tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 5
    Counting.fits, Counting.stop_at = 0, -1
    resumed = compare(MODELS, FRAME, Y, FOLDS, cache=tmp_path)
    assert Counting.fits == 3
    pd.testing.assert_frame_equal(scores(resumed), scores(whole))
    pd.testing.assert_frame_equal(resumed.risks, whole.risks)
    again = compare(MODELS, FRAME, Y, FOLDS, cache=tmp_path)
    assert Counting.fits == 3
    pd.testing.assert_frame_equal(again.scores, resumed.scores)  # seconds of the first time too
    assert not list(tmp_path.glob("*.part"))


def test_what_changes_is_computed_again_and_nothing_else(tmp_path) -> None:
    def fits(models=MODELS, frame=FRAME, y=Y, folds=FOLDS, **settings) -> int:
        Counting.fits = 0
        compare(models, frame, y, folds, cache=tmp_path, **settings)
        return Counting.fits

    assert fits() == 8
    assert fits() == 0
    assert fits({"renamed": Counting(), "gene": Counting("gene_0", verbose=3)}) == 0
    assert fits(frame=FRAME.copy(), y=Y.copy()) == 0
    assert fits({"age": Counting(power=3), "gene": Counting("gene_0")}) == 4
    assert fits(folds=[FOLDS[0], *survival_stratified_folds(Y, 4, random_state=2)]) == 8
    changed = FRAME.copy()
    changed.iloc[7, 0] += 1e-9
    assert fits(frame=changed) == 8
    outcome = Y.copy()
    outcome["time"][3] *= 1.01
    assert fits(y=outcome) == 8
    assert fits(metrics={"most": lambda fold: fold.risk.max()}) == 8
    assert fits(strata="sex") == 8


@pytest.mark.parametrize("damage", ["", "{", '{"entry": {}}', None])
def test_a_damaged_entry_is_computed_again_with_a_warning(tmp_path, damage) -> None:
    first = compare(MODELS, FRAME, Y, FOLDS, cache=tmp_path)
    broken = sorted(tmp_path.glob("*.json"))[2]
    if damage is None:  # a number that someone has changed
        kept = json.loads(broken.read_text())
        kept["entry"]["scores"]["c"] += 0.1
        damage = json.dumps(kept)
    broken.write_text(damage)
    Counting.fits = 0
    with pytest.warns(UserWarning, match=f"{broken.name} .* is damaged"):
        second = compare(MODELS, FRAME, Y, FOLDS, cache=tmp_path)
    assert Counting.fits == 1
    pd.testing.assert_frame_equal(scores(first), scores(second))


def test_another_version_of_the_package_is_computed_again(tmp_path, monkeypatch) -> None:
    compare(MODELS, FRAME, Y, FOLDS, cache=tmp_path)
    monkeypatch.setattr("mmfusion.evaluation.paired.version", lambda name: "99.0")
    Counting.fits = 0
    compare(MODELS, FRAME, Y, FOLDS, cache=tmp_path)
    assert Counting.fits == 8


class Fails(Counting):
    def fit(self, X, y):
        super().fit(X, y)
        raise RuntimeError("not today")


def test_a_failure_is_not_kept(tmp_path) -> None:
    for _ in range(2):
        Counting.fits = 0
        with pytest.warns(UserWarning, match="not today"):
            compare({"bad": Fails()}, FRAME, Y, FOLDS, cache=tmp_path, error_score=np.nan)
        assert Counting.fits == 4
    assert not list(tmp_path.iterdir())


def test_a_network_stopped_by_ctrl_c_is_no_result(tmp_path, monkeypatch) -> None:
    from mmfusion.estimators import base

    model = FusionCox(
        {"clinic": Tabular(["age"]), "genes": Genes("gene_*")},
        JointFusion(dim=4, hidden=()),
        epochs=2,
        patience=None,
        random_state=0,
    )
    asked = {"cv": FOLDS[:2], "classical": False, "verbose": 0, "cache": tmp_path}
    keep = base.FusionEstimator._keep

    def stopped(self, results):
        keep(self, results)
        self.interrupted_ = True

    monkeypatch.setattr(base.FusionEstimator, "_keep", stopped)
    with pytest.raises(KeyboardInterrupt):
        compare_fusion(model, FRAME, Y, **asked)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    first = compare_fusion(model, FRAME, Y, **asked)
    assert len(list(tmp_path.iterdir())) == 6
    again = compare_fusion(model, FRAME, Y, **asked)
    pd.testing.assert_frame_equal(first.scores, again.scores)


def test_the_folder(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="The cache parameter must be a folder"):
        FoldCache(tmp_path / "file")
    assert FoldCache(tmp_path / "new" / "one").read("nothing") is None


def test_fingerprints_tell_apart_what_differs(tmp_path) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(b"12")
    cells = pd.DataFrame({"ct": [str(path), None]})
    before = fingerprint(cells)
    path.write_bytes(b"123")
    layer = torch.nn.Linear(2, 1)
    other = torch.nn.Linear(2, 1)
    things = [
        before,
        *map(
            fingerprint,
            [
                cells,
                None,
                0,
                False,
                0.0,
                "0",
                [0],
                [[0]],
                {},
                {"a": 1},
                np.zeros(2),
                np.zeros((1, 2)),
                np.zeros(2, np.float32),
                FRAME,
                FRAME[::-1],
                FRAME["stage"],
                FRAME["stage"].astype(str),
                Tabular(["age"]),
                Tabular(["sex"]),
                Genes("age"),
                FusionCox({"a": Tabular(["age"]), "b": Image("ct")}),
                FusionCox({"b": Image("ct"), "a": Tabular(["age"])}),
                Pipeline([("table", Tabular(["age"]))]),
                Pipeline([("table", Tabular(["age"]).fit(FRAME))]),
                Pipeline([("table", Tabular(["age"]).fit(FRAME[1:]))]),
                GridSearchCV(Counting(), {"power": [1]}, cv=KFold(2)),
                GridSearchCV(Counting(), {"power": [1]}, cv=KFold(3)),
                layer,
                other,
                np.random.default_rng(0),
                np.random.RandomState(0),
                lambda x: x + 1,
                lambda x: x + 2,
                partial(max, 1),
                partial(max, 2),
                Counting,
                {1, 2},
            ],
        ),
    ]
    assert len(set(things)) == len(things)
    # At the top it is cloned before it is fitted: what it learned before does not count.
    assert fingerprint(Tabular(["age"]).fit(FRAME)) == fingerprint(Tabular(["age"]))
    holds = [1]
    holds.append(holds)
    with pytest.raises(ValueError, match="holds itself"):
        fingerprint(holds)


@pytest.mark.slow
def test_fingerprints_are_the_same_in_another_process() -> None:
    code = (
        "from mmfusion import Image, Tabular\n"
        "from mmfusion.estimators import FusionCox\n"
        "from mmfusion.evaluation.fingerprint import fingerprint\n"
        "from mmfusion.evaluation.scoring import METRICS\n"
        "from tests.helpers import make_cohort\n"
        "model = FusionCox({'a': Tabular(['age']), 'b': Image('image')}, 'gated', epochs=3)\n"
        "print(fingerprint(model, make_cohort(20), METRICS, {'x', 'y', 'z'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    model = FusionCox({"a": Tabular(["age"]), "b": Image("image")}, "gated", epochs=3)
    known = fingerprint(model, make_cohort(20), METRICS, {"x", "y", "z"})
    assert done.stdout.strip() == known
