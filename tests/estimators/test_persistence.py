"""Saved models: JSON, safetensors and skops; whole or not at all; nothing executable."""

from __future__ import annotations

import enum
import errno
import hashlib
import json
import os
import pickle
import shutil
import stat
from collections import deque
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from PIL import Image as PILImage
from safetensors.torch import load_file, save_file
from sklearn.base import clone
from sklearn.compose import make_column_selector
from torch import nn

from mmfusion.estimators import (
    FusionClassifier,
    FusionCox,
    FusionDiscreteTime,
    FusionRegressor,
    _persistence,
)
from mmfusion.modalities import Genes, Image, Tabular
from mmfusion.training import Callback, Training
from tests.estimators.common import ESTIMATORS, cohort_for, make_model, modalities, predictions


def rich(freeze: str | None) -> dict[str, Any]:
    """Return modalities with all that has to be kept: categories, components, frozen features."""
    return {
        "scan": Image("image", size=8, channels="L", freeze=freeze),
        "rna": Genes("gene_*", n_components=3, hidden=(4,)),
        "clinic": Tabular(["age", "sex", "stage"], hidden=(4,)),
        "onehot": Tabular(["stage"], encoding="onehot", encoder="raw"),
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[FusionCox, Path, pd.DataFrame]:
    frame, y = cohort_for("cox")
    model = make_model("cox", epochs=1).fit(frame, y)
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save(folder)
    return model, folder, frame


def copy_of(folder: Path, to: Path) -> Path:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def sign(folder: Path) -> None:
    """Write the checksums of the files as they are now: what follows looks behind them."""
    manifest = json.loads((folder / "model.json").read_text())
    for name in manifest["sha256"]:
        manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "model.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("fusion", ["gated", "early", "late"])
@pytest.mark.parametrize("freeze", [None, "all"])
def test_a_loaded_model_predicts_the_same(
    kind: str, fusion: str, freeze: str | None, tmp_path: Path
) -> None:
    frame, y = cohort_for(kind, missing=0.2)
    frame["age"] = frame["age"].where(np.arange(len(frame)) % 7 > 0)
    y = np.arange(len(y)) % 3 if kind == "classifier" else y
    y = np.nan_to_num(y) if kind == "regressor" else y
    params = {"strata": "sex"} if kind == "cox" else {}
    model = make_model(kind, fusion, modalities=rich(freeze), epochs=2, **params).fit(frame, y)
    model.save(tmp_path / "deep" / "model")
    again = ESTIMATORS[kind].load(tmp_path / "deep" / "model")
    np.testing.assert_array_equal(predictions(again, frame), predictions(model, frame))
    assert again.score(frame, y) == model.score(frame, y)
    pd.testing.assert_frame_equal(again.history_, model.history_)
    for name in ("n_features_in_", "best_epoch_", "interrupted_"):
        assert getattr(again, name) == getattr(model, name)
    np.testing.assert_array_equal(again.feature_names_in_, model.feature_names_in_)
    assert repr(clone(again)) == repr(clone(model))
    if kind == "cox":
        np.testing.assert_array_equal(again.predict_median(frame), model.predict_median(frame))
        np.testing.assert_array_equal(again.event_times_, model.event_times_)
    if kind == "classifier":
        np.testing.assert_array_equal(again.classes_, model.classes_)
    if kind == "regressor":
        assert again.scale_ == model.scale_
    # What was loaded is an estimator like any other: pickled, saved, fitted again.
    np.testing.assert_array_equal(
        predictions(pickle.loads(pickle.dumps(again)), frame), predictions(model, frame)
    )
    again.save(tmp_path / "again")
    np.testing.assert_allclose(
        predictions(again.fit(frame, y), frame), predictions(model, frame), rtol=1e-6
    )


def test_a_model_of_a_bare_array(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 3)), rng.normal(size=30)
    model = FusionRegressor(epochs=2, random_state=0, device="cpu").fit(X, y)
    model.save(tmp_path / "model")
    again = FusionRegressor.load(str(tmp_path / "model"))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert not hasattr(again, "feature_names_in_")


def test_paths_among_the_parameters(tmp_path: Path) -> None:
    frame, y = cohort_for("cox")
    for i, image in enumerate(frame["image"]):
        if image is not None:
            PILImage.fromarray(image).save(tmp_path / f"{i}.png")
    frame["image"] = [None if x is None else f"{i}.png" for i, x in enumerate(frame["image"])]
    model = make_model("cox", modalities=modalities(root=tmp_path), epochs=1).fit(frame, y)
    model.save(tmp_path / "model")
    assert model.modalities["scan"].root is tmp_path  # the user's own is as it was
    again = FusionCox.load(tmp_path / "model")
    assert again.modalities_["scan"].root == str(tmp_path)
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))


def test_classes_of_text_and_of_bools(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(30, 3))
    for y in (np.repeat(["no", "yes"], 15), np.arange(30) % 2 == 0, np.arange(30) % 3):
        model = FusionClassifier(epochs=1, random_state=0, device="cpu").fit(X, y)
        model.save(tmp_path / "model")
        again = FusionClassifier.load(tmp_path / "model")
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        assert again.classes_.dtype == model.classes_.dtype


def test_the_folder_holds_no_pickle(saved: tuple[FusionCox, Path, pd.DataFrame]) -> None:
    _, folder, _ = saved
    names = {file.name for file in folder.iterdir()}
    assert names == {"model.json", "state.skops", "weights.safetensors"}
    manifest = json.loads((folder / "model.json").read_text())
    assert manifest["format"] == _persistence.FORMAT
    assert manifest["class"] == "FusionCox"
    assert set(manifest["written_by"]) == {"mmfusion", "torch", "scikit-learn", "numpy"}


def test_saving_again_replaces(tmp_path: Path) -> None:
    frame, y = cohort_for("regressor")
    first = make_model("regressor", epochs=1).fit(frame, y)
    second = make_model("regressor", epochs=3, random_state=1).fit(frame, y)
    first.save(tmp_path / "model")
    second.save(tmp_path / "model")
    again = FusionRegressor.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(frame), second.predict(frame))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_empty_folder_is_filled(
    saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path
) -> None:
    model, _, frame = saved
    (tmp_path / "model").mkdir()
    model.save(tmp_path / "model")
    assert FusionCox.load(tmp_path / "model").predict(frame).shape == (40,)


@pytest.mark.parametrize("what", ["_dump_weights", "_dump_state", "_replace"])
@pytest.mark.parametrize("existing", [True, False])
def test_a_save_that_fails_leaves_what_was_there(
    saved: tuple[FusionCox, Path, pd.DataFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    existing: bool,
) -> None:
    model, _, frame = saved
    if existing:
        model.save(tmp_path / "model")

    def fail(*args: Any) -> None:
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_persistence, what, fail)
        with pytest.raises(OSError, match=r"No space left"):
            model.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == (["model"] if existing else [])
    if existing:
        again = FusionCox.load(tmp_path / "model")
        np.testing.assert_array_equal(again.predict(frame), model.predict(frame))


def test_a_failing_swap_puts_the_old_folder_back(
    saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _, frame = saved
    model.save(tmp_path / "model")
    replace = _persistence.os.replace

    def fail_on_the_new_one(source: Any, target: Any) -> None:
        if Path(target).name == "model" and Path(source).name != "saved":
            raise PermissionError("denied")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(_persistence.os, "replace", fail_on_the_new_one)
        with pytest.raises(PermissionError):
            model.save(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert FusionCox.load(tmp_path / "model").predict(frame).shape == (40,)


def test_something_else_is_not_overwritten(
    saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path
) -> None:
    model, _, _ = saved
    with_notes = copy_of(saved[1], tmp_path / "notes")
    (with_notes / "notes.txt").write_text("what I found")
    with pytest.raises(ValueError, match=r"is no saved estimator .*'notes.txt'"):
        model.save(with_notes)
    assert (with_notes / "notes.txt").read_text() == "what I found"
    folder, file = tmp_path / "thesis", tmp_path / "file"
    folder.mkdir()
    (folder / "chapter1.tex").write_text("years of work")
    file.write_text("a file")
    for place in (folder, file):
        with pytest.raises(ValueError, match=r"exists and is no saved estimator"):
            model.save(place)
    assert (folder / "chapter1.tex").read_text() == "years of work"
    assert file.read_text() == "a file"


class Untrusted:
    """Any class that is neither ours nor scikit-learn's."""


def test_types_that_are_not_trusted_are_refused(
    saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path
) -> None:
    folder = copy_of(saved[1], tmp_path / "model")
    skops.io.dump({"params": {"modalities": Untrusted()}}, folder / "state.skops")
    sign(folder)
    with pytest.raises(ValueError, match=r"not trusted: \[.*Untrusted"):
        FusionCox.load(folder)


@pytest.mark.parametrize(
    "name",
    [
        "builtins.eval",
        "os.system",
        "subprocess.Popen",
        "mmfusion.modalities.image.ThreadPoolExecutor",
    ],
)
def test_a_state_that_names_code_is_refused(
    saved: tuple[FusionCox, Path, pd.DataFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    folder = copy_of(saved[1], tmp_path / "model")
    monkeypatch.setattr(skops.io, "get_untrusted_types", lambda **_: [name])
    with pytest.raises(ValueError, match=r"not trusted"):
        FusionCox.load(folder)


def test_the_wrong_class(saved: tuple[FusionCox, Path, pd.DataFrame]) -> None:
    with pytest.raises(ValueError, match=r"a FusionCox, not a FusionRegressor; use FusionCox.load"):
        FusionRegressor.load(saved[1])


@pytest.mark.parametrize("older", range(1, _persistence.FORMAT))
def test_an_older_format(
    saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path, older: int
) -> None:
    folder = copy_of(saved[1], tmp_path / "model")
    manifest = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**manifest, "format": older}))
    with pytest.raises(ValueError, match=rf"written in format {older}; .* Fit the estimator again"):
        FusionCox.load(folder)


def test_a_newer_format(saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path) -> None:
    folder = copy_of(saved[1], tmp_path / "model")
    manifest = json.loads((folder / "model.json").read_text())
    manifest["format"] = _persistence.FORMAT + 1
    (folder / "model.json").write_text(json.dumps(manifest))
    with pytest.raises(
        ValueError, match=rf"written in format {_persistence.FORMAT + 1}; .* Update mmfusion"
    ):
        FusionCox.load(folder)


def test_what_is_missing_or_damaged(
    saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no saved estimator"):
        FusionCox.load(tmp_path / "nowhere")
    for name in ("model.json", "state.skops", "weights.safetensors"):
        folder = copy_of(saved[1], tmp_path / f"without-{name}")
        (folder / name).unlink()
        with pytest.raises(FileNotFoundError, match=name.replace(".", r"\.")):
            FusionCox.load(folder)
        folder = copy_of(saved[1], tmp_path / f"half-{name}")
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=f"{name.replace('.', chr(92) + '.')} is damaged"):
            FusionCox.load(folder)


def drop_a_weight(weights: dict[str, Any]) -> None:
    weights.pop(next(iter(weights)))


def reshape_a_weight(weights: dict[str, Any]) -> None:
    weights.update({name: value[None].clone() for name, value in list(weights.items())[:1]})


def add_a_weight(weights: dict[str, Any]) -> None:
    weights["1/head.weight"] = torch.zeros(1)


def spoil_a_weight(weights: dict[str, Any]) -> None:
    name = next(name for name, value in weights.items() if value.is_floating_point())
    weights[name].view(-1)[0] = torch.inf


@pytest.mark.parametrize(
    "change", [drop_a_weight, reshape_a_weight, add_a_weight, spoil_a_weight, dict.clear]
)
def test_weights_that_do_not_fit(
    saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path, change: Any
) -> None:
    folder = copy_of(saved[1], tmp_path / "model")
    weights = load_file(folder / "weights.safetensors")
    change(weights)
    save_file(weights, folder / "weights.safetensors")
    sign(folder)
    with pytest.raises(ValueError, match=rf"{folder}\S* is damaged: "):
        FusionCox.load(folder)


def test_the_weights_of_another_model(
    saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path
) -> None:
    folder = copy_of(saved[1], tmp_path / "model")
    make_model("cox", "late", epochs=1).fit(*cohort_for("cox")).save(tmp_path / "late")
    shutil.copy(tmp_path / "late" / "weights.safetensors", folder)
    sign(folder)
    with pytest.raises(ValueError, match=rf"{folder} is damaged: .*of no model"):
        FusionCox.load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("models", ["zz"]),
        ("models", []),
        ("models", 3),
        ("format", "x"),
        ("format", None),
        ("class", []),
        ("history", 3),
        ("history", {"loss": [1.0]}),
        ("sha256", None),
        ("sha256", {}),
    ],
)
def test_a_manifest_that_makes_no_sense(
    saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path, key: str, value: Any
) -> None:
    folder = copy_of(saved[1], tmp_path / "model")
    manifest = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**manifest, key: value}))
    with pytest.raises(ValueError, match=rf"{folder}\S* is damaged: "):
        FusionCox.load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((None, value) for value in (3, [], {})),
        *(("fitted", value) for value in ("gone", 3, [])),
        *(
            (key, value)
            for key in ("params", "models", "head", "structured")
            for value in ("gone", 3, [], {})
        ),
    ],
)
def test_a_state_that_makes_no_sense(
    saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path, key: str | None, value: Any
) -> None:
    folder = copy_of(saved[1], tmp_path / "model")
    state = skops.io.load(folder / "state.skops", trusted=sorted(_persistence.TRUSTED))
    if key is None:
        state = value
    elif value == "gone":
        del state[key]
    else:
        state[key] = value
    skops.io.dump(state, folder / "state.skops")
    sign(folder)
    with pytest.raises(ValueError, match=rf"{folder}\S* is damaged: "):
        FusionCox.load(folder)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    frame, y = cohort_for("regressor")
    model = make_model("regressor", epochs=1).fit(frame, y)
    with torch.no_grad():
        next(model.network_.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match=r"weight \S+ is NaN or infinite"):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_model_of_a_gpu_predicts_on_the_cpu_with_a_warning(
    saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _, frame = saved
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    there = pickle.loads(pickle.dumps(model)).set_params(device="cuda")
    there.save(tmp_path / "model")
    again = FusionCox.load(tmp_path / "model")
    assert again.device == "cuda"
    with pytest.warns(UserWarning, match=r"device='cuda' was asked for, .* using the CPU"):
        risk = again.predict(frame)
    np.testing.assert_array_equal(risk, model.predict(frame))
    with pytest.raises(ValueError, match=r"use device='cpu' or device='auto'"):
        again.fit(*cohort_for("cox"))


@pytest.mark.parametrize("name", ["state.skops", "weights.safetensors"])
def test_a_file_of_another_model_is_refused_by_name(
    saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path, name: str
) -> None:
    """The other is one of the same make: nothing but the checksum tells them apart."""
    folder = copy_of(saved[1], tmp_path / "model")
    make_model("cox", epochs=2, random_state=7).fit(*cohort_for("cox")).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / name, folder)
    with pytest.raises(ValueError, match=rf"model/{name} is damaged: .*model\.json.*SHA-256"):
        FusionCox.load(folder)
    shutil.copy(saved[1] / name, folder)
    shutil.copy(tmp_path / "other" / "model.json", folder)
    with pytest.raises(ValueError, match=r"is damaged: .*SHA-256"):
        FusionCox.load(folder)


@pytest.mark.parametrize("name", ["state.skops", "weights.safetensors"])
def test_one_flipped_bit_is_damage(
    saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path, name: str
) -> None:
    folder = copy_of(saved[1], tmp_path / "model")
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1  # of the last weight: it stays finite
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} is damaged: .*SHA-256"):
        FusionCox.load(folder)


@pytest.mark.parametrize("fusion", ["gated", "late"])
def test_the_history_comes_back_to_the_last_bit(fusion: str, tmp_path: Path) -> None:
    frame, y = cohort_for("regressor")
    model = make_model("regressor", fusion, epochs=2, learning_rate=1e-11).fit(frame, y)
    model.history_["odd"] = np.resize([1 / 3, 5e-324, -0.0, np.nan, -np.inf], len(model.history_))
    model.history_["single"] = model.history_["odd"].astype(np.float32)
    model.history_["even"] = np.arange(len(model.history_)) % 2 == 0
    model.save(tmp_path / "model")
    again = FusionRegressor.load(tmp_path / "model")
    pd.testing.assert_frame_equal(again.history_, model.history_, check_exact=True)
    assert again.history_["odd"].to_numpy().tobytes() == model.history_["odd"].to_numpy().tobytes()
    refuse = pytest.fail  # what is written is JSON for every reader
    json.loads((tmp_path / "model" / "model.json").read_text(), parse_constant=refuse)


def test_a_model_without_a_network_has_an_empty_history(tmp_path: Path) -> None:
    frame, y = cohort_for("cox")
    model = make_model(modalities={}, structured="~ age").fit(frame, y)
    model.save(tmp_path / "model")
    pd.testing.assert_frame_equal(FusionCox.load(tmp_path / "model").history_, model.history_)


STRAY = [".DS_Store", "._model.json", "Thumbs.db", "desktop.ini", ".directory", ".nfs0000001"]


@pytest.mark.parametrize("name", STRAY)
def test_stray_files_do_no_harm(
    saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path, name: str
) -> None:
    model, _, frame = saved
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / name).write_bytes(b"x")  # a folder that someone looked into is empty still
    model.save(folder)
    (folder / name).write_bytes(b"x")
    np.testing.assert_array_equal(FusionCox.load(folder).predict(frame), model.predict(frame))
    model.save(folder)
    np.testing.assert_array_equal(FusionCox.load(folder).predict(frame), model.predict(frame))


@pytest.mark.parametrize("existing", [True, False])
def test_a_link_stays_and_what_it_points_to_is_replaced(
    saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path, existing: bool
) -> None:
    model, folder, frame = saved
    real, link = tmp_path / "disk" / "model-7", tmp_path / "latest"
    real.parent.mkdir()
    if existing:
        copy_of(folder, real)
        (real / "model.json").write_text("{}")
    link.symlink_to(real)
    model.save(link)
    assert link.is_symlink()
    assert not real.is_symlink()
    for place in (link, real):
        np.testing.assert_array_equal(FusionCox.load(place).predict(frame), model.predict(frame))


@pytest.mark.parametrize("place", [".", "", "..", "../empty"])
def test_the_working_directory_is_not_replaced(
    saved: tuple[FusionCox, Path, pd.DataFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    model, folder, _ = saved
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"holds, the working dir|is no saved estimator"):
        model.save(place)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
    copy_of(folder, tmp_path / "model")
    monkeypatch.chdir(tmp_path / "model")
    assert FusionCox.load(".").predict(saved[2]).shape == (40,)


def test_a_full_disk_is_called_that(
    saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the disk is full: in the folder, in each of the files, in the swap."""
    model, _, frame = saved
    folder = tmp_path / "model"
    model.save(folder)

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    places = (
        (skops.io, "dump"),
        (Path, "write_bytes"),
        (Path, "write_text"),
        (_persistence.tempfile, "mkdtemp"),
        (_persistence.os, "replace"),
    )
    for where, name in places:
        with monkeypatch.context() as patch:
            patch.setattr(where, name, full)
            with pytest.raises(OSError, match=r"No space left .*not saved.*model'") as caught:
                model.save(folder)
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == str(folder)
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
        np.testing.assert_array_equal(FusionCox.load(folder).predict(frame), model.predict(frame))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
@pytest.mark.parametrize("name", ["state.skops", "weights.safetensors"])
def test_a_device_that_is_full(
    saved: tuple[FusionCox, Path, pd.DataFrame],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """What the libraries that write raise is theirs: here they do write."""
    mkdir = Path.mkdir

    def with_a_full_file(self: Path, *args: Any, **kwargs: Any) -> None:
        mkdir(self, *args, **kwargs)
        if self.name == "new":
            (self / name).symlink_to("/dev/full")

    monkeypatch.setattr(Path, "mkdir", with_a_full_file)
    with pytest.raises(OSError, match=r"No space left") as caught:
        saved[0].save(tmp_path / "model")
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_what_may_not_be_read_is_not_called_damaged(
    saved: tuple[FusionCox, Path, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(_persistence, "_sha256", denied)
    with pytest.raises(PermissionError, match=r"Permission denied: .*state\.skops"):
        FusionCox.load(saved[1])
    with pytest.raises(FileNotFoundError, match=r"model\.json holds no saved estimator"):
        FusionCox.load(saved[1] / "model.json")


def make_net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))


@pytest.mark.parametrize("encoder", [make_net(), make_net])
def test_an_encoder_that_is_code_is_refused_but_pickles(encoder: Any, tmp_path: Path) -> None:
    frame, y = cohort_for("cox", missing=0.0)
    model = make_model(modalities=modalities(encoder=encoder), epochs=1).fit(frame, y)
    with pytest.raises(ValueError, match=r"cannot be saved without executable code"):
        model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))


class Rate(float, enum.Enum):
    SLOW = 1e-3


class Pair(NamedTuple):
    """A tuple whose class is code."""

    low: float
    high: float


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({"cuts": range(1, 4)}, [1, 2, 3]),
        ({"cuts": pd.Series([0.2, 0.5], index=[3, 4])}, [0.2, 0.5]),
        ({"cuts": pd.Index([0.2, 0.5])}, [0.2, 0.5]),
        ({"cuts": pd.array([0.25, 0.5], dtype="Float64")}, [0.25, 0.5]),
        ({"cuts": np.array([0.1, 0.7])}, [0.1, 0.7]),
        ({"cuts": torch.tensor([0.25, 0.5])}, [0.25, 0.5]),
        ({"cuts": Pair(0.2, 0.5)}, (0.2, 0.5)),
        ({"cuts": deque([0.2, 0.5])}, [0.2, 0.5]),
        ({"device": torch.device("cpu")}, "cpu"),
        ({"learning_rate": Fraction(1, 1000)}, 1e-3),
        ({"learning_rate": Rate.SLOW}, 1e-3),
        ({"modality_dropout": MappingProxyType({"t": 0.0})}, {"t": 0.0}),
        ({"training": Training(weight_decay=Rate.SLOW)}, 1e-3),
    ],
)
def test_what_fits_is_saved_as_what_it_means(
    params: dict[str, Any], kept: Any, tmp_path: Path
) -> None:
    frame, y = cohort_for("discrete")
    given = {"n_intervals": 3, "modalities": {"t": Tabular(["age"], hidden=(4,))}, **params}
    model = make_model("discrete", epochs=1, **given).fit(frame, y)
    model.save(tmp_path / "model")
    again = FusionDiscreteTime.load(tmp_path / "model")
    (name, value), found = next(iter(params.items())), getattr(again, next(iter(params)))
    assert getattr(model, name) is value  # the user's own is as it was
    found = found.weight_decay if isinstance(found, Training) else found
    assert found == kept
    assert type(found) is type(kept)
    np.testing.assert_array_equal(predictions(again, frame), predictions(model, frame))
    refitted = clone(again).fit(frame, y)
    np.testing.assert_array_equal(predictions(refitted, frame), predictions(model, frame))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"cuts": [1.0, Untrusted()]},
            r"its parameter cuts\[1\] is <.*Untrusted.*, a \S*Untrusted",
        ),
        ({"device": Untrusted}, r"its parameter device is .*Untrusted"),
        ({"modality_dropout": {"t": Untrusted()}}, r"its parameter modality_dropout\['t'\] is"),
        ({"training": Training(ema=Untrusted())}, r"its parameter training\.ema is"),
        (
            {"modalities": {"scan": Image("image", encoder=len)}},
            r"its parameter modalities\['scan'\]\.encoder is .*len.*pickle",
        ),
    ],
)
def test_what_cannot_be_saved_is_named(
    params: dict[str, Any], message: str, tmp_path: Path
) -> None:
    frame, y = cohort_for("discrete")
    model = make_model("discrete", modalities={"t": Tabular(["age"])}, epochs=1).fit(frame, y)
    with pytest.raises(ValueError, match=message):
        model.set_params(**params).save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def with_bands_and_days() -> tuple[pd.DataFrame, Any]:
    frame, y = cohort_for("cox", n=60, missing=0.0)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(60) % 3, unit="D")
    band = pd.cut(frame["age"], [0, 55, 65, 120])
    return frame.assign(band=band, day=pd.Categorical(days)), y


@pytest.mark.parametrize("structured", [None, "~ C(band)"])
def test_categories_that_are_intervals_or_dates(structured: str | None, tmp_path: Path) -> None:
    frame, y = with_bands_and_days()
    table = Tabular(["age", "day"] if structured else ["age", "band", "day"], hidden=(4,))
    model = make_model(modalities={"table": table}, structured=structured, epochs=1).fit(frame, y)
    model.save(tmp_path / "model")
    again = FusionCox.load(tmp_path / "model")
    assert again.modalities_["table"].categories_ == model.modalities_["table"].categories_
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))


def test_dates_as_levels_of_a_formula_are_said_to_be_at_fault(tmp_path: Path) -> None:
    frame, y = with_bands_and_days()
    model = make_model(modalities={}, structured="~ C(day)").fit(frame, y)
    with pytest.raises(ValueError, match=r"levels of its formula, hold .*Timestamp.*astype\(str"):
        model.save(tmp_path / "model")


class Stop(Callback):
    pass


def kinds_of_labels(names: list[str]) -> dict[str, Any]:
    return {
        "Index": pd.Index(names),
        "Series": pd.Series(names, index=[7] * len(names)),
        "array": np.array(names),
        "extension": pd.array(names, dtype="string"),
        "numpy strings": list(np.array(names)),
        "tuple": tuple(names),
    }


@pytest.mark.parametrize("kind", kinds_of_labels(["a"]))
def test_columns_in_any_form_are_saved_as_a_list(kind: str, tmp_path: Path) -> None:
    frame, y = cohort_for("cox")
    genes = [name for name in frame if name.startswith("gene_")]
    given = {
        "rna": Genes(kinds_of_labels(genes)[kind], hidden=(4,)),
        "clinic": Tabular(
            kinds_of_labels(["age", "stage"])[kind],
            categorical=kinds_of_labels(["stage"])[kind],
            hidden=(4,),
        ),
    }
    model = clone(make_model(modalities=given, epochs=1)).fit(frame, y)
    model.save(tmp_path / "model")
    again = FusionCox.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))
    for kept in (again.modalities, again.modalities_):
        assert list(kept["rna"].columns) == genes
        assert list(kept["clinic"].categorical) == ["stage"]
        if kind not in ("tuple", "numpy strings"):
            assert type(kept["rna"].columns) is list
            assert {type(name) for name in kept["rna"].columns} == {str}
    np.testing.assert_array_equal(again.fit(frame, y).predict(frame), model.predict(frame))


def test_a_function_of_columns_is_saved_as_those_it_chose(tmp_path: Path) -> None:
    frame, y = cohort_for("cox")
    chosen = make_column_selector("gene_")
    table = Tabular(["age", "stage"], hidden=(4,))
    model = make_model(modalities={"rna": Genes(chosen), "table": table}, epochs=1).fit(frame, y)
    model.save(tmp_path / "model")
    assert model.modalities["rna"].columns is chosen  # the user's own is as it was
    again = FusionCox.load(tmp_path / "model")
    assert again.modalities["rna"].columns == model.modalities_["rna"].columns_
    assert again.modalities_["rna"].columns == model.modalities_["rna"].columns_
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))
    np.testing.assert_array_equal(again.fit(frame, y).predict(frame), model.predict(frame))


def test_columns_that_cannot_be_copied_are_refused_by_name() -> None:
    frame, y = cohort_for("cox")
    for columns in ({"age": 1, "stage": 2}.keys(), (name for name in ("age", "stage"))):
        with pytest.raises(TypeError, match=r"columns parameter of modality 'table' must be a lis"):
            make_model(modalities={"table": Tabular(columns)}).fit(frame, y)


def test_callbacks_are_code_and_are_left_out(tmp_path: Path) -> None:
    frame, y = cohort_for("cox")
    training = Training(callbacks=[Stop()], ema=0.5)
    model = make_model(epochs=1, training=training).fit(frame, y)
    model.save(tmp_path / "model")
    again = FusionCox.load(tmp_path / "model").training
    assert again.get_params() == {**training.get_params(), "callbacks": None}
    assert model.training.callbacks is not None


def test_a_generator_as_random_state(tmp_path: Path) -> None:
    frame, y = cohort_for("cox")
    model = make_model(epochs=1, random_state=np.random.RandomState(0)).fit(frame, y)
    model.save(tmp_path / "model")
    again = FusionCox.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_the_umask_says_who_may_read(
    saved: tuple[FusionCox, Path, pd.DataFrame], tmp_path: Path, umask: int
) -> None:
    model, folder = saved[0], tmp_path / "model"

    def modes() -> tuple[int, set[int]]:
        files = {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
        return stat.S_IMODE(folder.stat().st_mode), files

    before = os.umask(umask)
    try:
        model.save(folder)
        assert modes() == (0o777 & ~umask, {0o666 & ~umask})
        folder.chmod(0o750)
        model.save(folder)  # a folder that is replaced keeps its mode
        assert modes() == (0o750, {0o666 & ~umask})
    finally:
        os.umask(before)
