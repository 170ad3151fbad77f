from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from mmfusion import Genes, Tabular
from mmfusion.estimators import (
    FusionClassifier,
    FusionCox,
    FusionDiscreteTime,
    FusionPAMM,
    FusionRegressor,
)
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion, check_fusion
from mmfusion.modalities import Image, clear_image_cache
from mmfusion.modalities import _decoding as decoding
from mmfusion.training import Training
from mmfusion.tuning import FusionSearchCV
from mmfusion.tuning.default_space import PARTS, default_space
from tests.tuning.common import cohort, cox

TWO = {"clinical": Tabular(["age"]), "genes": Genes("gene_*")}

ESTIMATORS = {
    "cox": FusionCox(TWO),
    "one modality": FusionCox({"clinical": Tabular(["age"])}),
    "inferred": FusionCox(),
    "gated": FusionCox(TWO, "gated", learning_rate=0.1, epochs=7, modality_dropout=0.7),
    "tensor": FusionCox(TWO, JointFusion("tensor", dim=5, hidden=(10, 5))),
    "hidden": FusionCox(TWO, JointFusion(at="hidden")),
    "early": FusionCox(TWO, EarlyFusion(hidden=(64, 32), dropout=0.6)),
    "linear early": FusionCox(TWO, EarlyFusion("pca", hidden=None)),
    "late": FusionCox(TWO, LateFusion("stack")),
    "curves": FusionCox(TWO, LateFusion(combine="survival")),
    "formula": FusionPAMM(TWO, structured="age", n_members=1, n_intervals=7),
    "intervals": FusionDiscreteTime(TWO, linear=False, cuts=[0.5, 1.0]),
    "training": FusionRegressor(TWO, training=Training(weight_decay=0.0, ema=None), patience=None),
    "classes": FusionClassifier(TWO, n_members=0),
    "own rates": FusionCox(TWO, modality_dropout={"genes": 0.2}),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_first_trial_is_the_estimator_as_it_is(name: str) -> None:
    model = ESTIMATORS[name]
    X, _ = cohort()
    space = default_space(model, X)
    changed = clone(model).set_params(**space(optuna.trial.FixedTrial(space.starts[0])))
    before, after = model.get_params(), changed.get_params()
    for params in (before, after):
        # The same, written out.
        params["fusion"] = check_fusion(params["fusion"])
        params["training"] = params["training"] or Training()
    for key, value in before.items():
        assert repr(after[key]) == repr(value), key


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_trial_is_an_estimator_that_is_allowed(name: str) -> None:
    model = ESTIMATORS[name]
    X, _ = cohort()
    space = default_space(model, X)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen: list[dict[str, Any]] = []
    for start in space.starts:
        study.enqueue_trial(start)
    for _ in range(40):
        trial = study.ask()
        clone(model).set_params(**space(trial))._validate_params()
        seen.append(trial.params)
    assert set(seen[0]) <= {
        *("parts", "learning_rate", "weight_decay", "dropout", "width", "modality_dropout"),
        *("fusion", "epochs", "n_intervals", "pieces"),
    }
    frame = pd.DataFrame(seen)
    for start, tried in zip(space.starts, seen, strict=False):
        assert {key: start[key] for key in tried} == tried
    if name == "cox":
        assert set(frame["fusion"].dropna()) == {"concat", "gated", "attention", "late"}
        assert [start["parts"] for start in space.starts[1:4]] == list(PARTS)[:3]
        assert [start["pieces"] for start in space.starts] == [None, *[8] * 6]
        assert frame.loc[frame["parts"] == "linear part alone", "width"].isna().all()
        assert frame["parts"].nunique() == 3
    if name == "one modality":
        assert not {"fusion", "modality_dropout"} & set(frame)
    if name == "gated":
        assert frame["learning_rate"].max() <= 0.1
        assert set(frame["epochs"].dropna()) == {7, 100, 300}
    if name == "training":
        assert not {"weight_decay", "epochs"} & set(frame)
    if name == "curves":
        assert "parts" not in frame
    if name == "formula":
        assert set(frame["n_intervals"]) == {3, 7, 14}
    if name == "own rates":
        assert "modality_dropout" not in frame


def test_numbers_are_cut_in_every_table_or_in_none() -> None:
    X, _ = cohort()
    for model in (ESTIMATORS["cox"], ESTIMATORS["inferred"]):
        space = default_space(model, X)
        cut = clone(model).set_params(**space(optuna.trial.FixedTrial(space.starts[1])))
        assert [m.pieces for m in cut.modalities.values() if isinstance(m, Tabular)] == [8]
        assert set(cut.modalities) == set(space.modalities)
    unlike = {"a": Tabular(["age"], pieces=4), "b": Tabular(["sex"])}
    assert "pieces" not in default_space(FusionCox(unlike), X).own
    alike = {"a": Tabular(["age"], pieces=4), "b": Tabular(["sex"], pieces=4)}
    space = default_space(FusionCox(alike), X)
    assert space.choices["pieces"] == (None, 8, 16, 4)
    assert {start["pieces"] for start in space.starts} == {4}
    assert TWO["clinical"].pieces is None


def test_a_pipeline_has_the_space_of_its_last_step() -> None:
    X, y = cohort()
    pipe = make_pipeline("passthrough", cox(linear=False))
    search = FusionSearchCV(pipe, n_trials=1, cv=2, random_state=0).fit(X, y)
    first = search.cv_results_["params"][0]
    assert all(name.startswith("fusioncox__") for name in first)
    plain = clone(pipe).set_params(fusioncox__random_state=0)
    from sklearn.model_selection import cross_val_score

    from mmfusion.evaluation import survival_stratified_folds

    folds = survival_stratified_folds(y, 2, random_state=0)
    expected = cross_val_score(plain, X, y, cv=folds)
    found = [search.cv_results_[f"split{i}_test_score"][0] for i in range(2)]
    np.testing.assert_array_equal(found, expected)


def test_the_starts_come_in_their_order_when_a_search_goes_on(tmp_path: Path) -> None:
    X, y = cohort(60)
    model = FusionCox(TWO, n_members=1, epochs=1, linear=False, random_state=0)
    settings = {"cv": 2, "random_state": 0, "refit": False, "storage": tmp_path / "study"}
    FusionSearchCV(model, n_trials=2, **settings).fit(X, y)
    search = FusionSearchCV(model, n_trials=4, **settings).fit(X, y)
    starts = default_space(model, X).starts[:4]
    assert len({repr(start) for start in starts}) == 4
    for trial, start in zip(search.study_.trials, starts, strict=True):
        assert trial.params == {key: start[key] for key in trial.params}
        assert trial.state.name == "COMPLETE"


def test_a_formula_alone_has_nothing_to_tune() -> None:
    X, y = cohort()
    with pytest.raises(ValueError, match="estimator with modalities"):
        FusionSearchCV(FusionCox({}, structured="age")).fit(X, y)


def test_images_are_decoded_once_for_all_trials(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image as Pictures

    X, y = cohort(n=60)
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(len(X))]
    for path in paths:
        Pictures.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(path)
    X["scan"] = [str(path) for path in paths]
    decoded: list[str] = []
    original = decoding.decode

    def counting(path: Any, *args: Any) -> Any:
        if isinstance(path, Path):
            decoded.append(str(path))
        return original(path, *args)

    monkeypatch.setattr(decoding, "decode", counting)
    clear_image_cache()
    modalities = {"scan": Image("scan", size=8, channels="L"), "clinical": Tabular(["age"])}
    model = FusionCox(modalities, n_members=1, epochs=1, patience=None)
    FusionSearchCV(model, {"learning_rate": [1e-3, 1e-2]}, n_trials=3, cv=2).fit(X, y)
    assert sorted(decoded) == sorted(set(decoded)) == sorted(X["scan"])
