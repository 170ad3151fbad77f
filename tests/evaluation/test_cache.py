"""Scores kept on disk: what is computed again, what is not, what a damaged file does."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline

from mmfusion import Genes, Image, Tabular
from mmfusion.estimators import FusionCox, FusionPretrainer
from mmfusion.evaluation import compare, compare_fusion, survival_stratified_folds
from mmfusion.evaluation.cache import FoldCache
from mmfusion.evaluation.fingerprint import fingerprint, roots_in
from mmfusion.evaluation.scoring import METRICS
from mmfusion.fusion import JointFusion
from tests.helpers import make_cohort

FRAME, Y = make_cohort(80)
FOLDS = survival_stratified_folds(Y, 4, random_state=1)


#: What the functions of these tests find outside.
chosen = ["gene_0"]
limit = 2


def helper(column, depth=0):
    return depth > limit or helper(column, depth + 1)


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
        with (
            pytest.raises(
                ValueError, match="Every model failed in repeat 0, fold 0; the last, 'bad'"
            ),
            pytest.warns(UserWarning, match="not today"),
        ):
            compare({"bad": Fails()}, FRAME, Y, FOLDS, cache=tmp_path)
        assert Counting.fits >= 1
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

    def stopped(self, model, inference):
        keep(self, model, inference)
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


def test_the_weights_of_a_pretrainer_count() -> None:
    two = {"clinic": Tabular(["age"]), "genes": Genes("gene_*")}

    def key(rows: int) -> str:
        pretrained = FusionPretrainer(two, epochs=1, device="cpu", random_state=0).fit(FRAME[:rows])
        known = fingerprint(FusionCox(two, pretrained=pretrained))
        assert fingerprint(FusionCox(two, pretrained=copy.deepcopy(pretrained))) == known
        with torch.no_grad():
            next(pretrained.network_.parameters()).add_(1e-3)
        assert fingerprint(FusionCox(two, pretrained=pretrained)) != known
        return known

    keys = key(40), key(40), key(80)
    assert keys[0] == keys[1] != keys[2]


def test_what_a_fitted_model_of_ours_learned_counts() -> None:
    models = [FusionCox({}, structured="s(age)").fit(FRAME[:n], Y[:n]) for n in (60, 60, 80)]
    keys = [fingerprint(FrozenEstimator(model)) for model in models]
    assert keys[0] == keys[1] != keys[2]


CELLS = {
    "object": lambda path: pd.Series([path, None]),
    "Path": lambda path: pd.Series([Path(path), None]),
    "string": lambda path: pd.Series([path, None], dtype="string"),
    "category": lambda path: pd.Series([path, None], dtype="category"),
    "list": lambda path: pd.Series([[path], None]),
    "array": lambda path: pd.Series([np.array([path, path]), None]),
    "array of objects": lambda path: pd.Series([np.array([path, None], dtype=object), None]),
}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", ["scan.png", "scan"])
@pytest.mark.parametrize("place", ["absolute", "root", "working directory"])
def test_a_changed_file_is_another_one(tmp_path, monkeypatch, cell, name, place) -> None:
    (tmp_path / name).write_bytes(b"12")
    monkeypatch.chdir(tmp_path if place == "working directory" else "/")
    root = str(tmp_path) if place == "root" else None
    frame = CELLS[cell](str(tmp_path / name) if place == "absolute" else name).to_frame("ct")
    model = GridSearchCV(Pipeline([("image", Image("ct", root=root))]), {"image__size": [8]})
    assert roots_in(model, [Image("ct")]) == ([] if root is None else [root])
    keys = [fingerprint(frame, roots=roots_in(model))]
    assert fingerprint(frame.copy(), roots=roots_in(model)) == keys[0]
    (tmp_path / name).write_bytes(b"123")
    keys.append(fingerprint(frame, roots=roots_in(model)))
    os.utime(tmp_path / name, (1, 1))
    keys.append(fingerprint(frame, roots=roots_in(model)))
    assert len(set(keys)) == 3


def test_compare_fits_again_where_a_file_below_a_root_changed(tmp_path) -> None:
    class Looks(Counting):
        def __init__(self, image=None) -> None:
            super().__init__()
            self.image = image

    (tmp_path / "scan").write_bytes(b"12")
    frame = FRAME.assign(ct="scan")
    models = {"looks": Looks(Image("ct", root=tmp_path))}
    compare(models, frame, Y, FOLDS, cache=tmp_path / "kept")
    compare(models, frame, Y, FOLDS, cache=tmp_path / "kept")
    assert Counting.fits == 4
    (tmp_path / "scan").write_bytes(b"123")
    compare(models, frame, Y, FOLDS, cache=tmp_path / "kept")
    assert Counting.fits == 8


def test_what_a_function_finds_outside_counts(monkeypatch) -> None:
    def key() -> str:
        return fingerprint(Genes(lambda d: [c for c in d if c in chosen and helper(c)]))

    known = [key()]
    assert key() == known[0]
    for value in (
        ["gene_0", "gene_1"],
        {"gene_0"},
        {"gene_0": 1},
        np.array([1.0]),
        np.array([2.0]),
        pd.Series([1.0]),
        {"of": helper},
        None,
    ):
        monkeypatch.setitem(globals(), "chosen", value)
        known.append(key())
    monkeypatch.setitem(globals(), "limit", 3)
    known.append(key())
    assert len(set(known)) == len(known)
    # What cannot be read is left out, and does not end the comparison.
    monkeypatch.setitem(globals(), "chosen", [helper, (item for item in "ab")])
    monkeypatch.setitem(globals(), "limit", 4)
    last = key()
    monkeypatch.setitem(globals(), "limit", 5)
    assert key() != last


def test_functions_that_call_themselves_or_each_other() -> None:
    def first(n):
        return second(n - 1) if n else 0

    def second(n):
        return first(n - 1) if n else 1

    assert fingerprint(first) == fingerprint(first) != fingerprint(second)
    assert fingerprint(helper) == fingerprint(helper)


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
