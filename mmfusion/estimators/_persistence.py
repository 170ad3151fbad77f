"""Saving and loading: JSON, safetensors and skops in one folder; no pickle."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from sklearn.base import clone

import mmfusion
from mmfusion import modalities, objectives
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.inputs.parameters import check_choice
from mmfusion.modalities import Modality
from mmfusion.objectives import Objective
from mmfusion.training import Training

from ._plain import at_fault, plain

__all__ = ["FORMAT", "load_estimator", "load_one_of", "save_estimator"]

#: Raised by one when a folder written by this code cannot be read by the code before it.
FORMAT = 5
MANIFEST, STATE, WEIGHTS = "model.json", "state.skops", "weights.safetensors"
FILES = {MANIFEST, STATE, WEIGHTS}
#: Of several estimators together, beside a numbered folder each.
TOGETHER = "ensemble.json"
#: What systems, file servers and notebooks leave in folders: nobody's work.
STRAY = {
    *(".DS_Store", ".directory", ".ipynb_checkpoints", "__MACOSX", "@eaDir"),
    *("Thumbs.db", "desktop.ini"),
}
#: Types of ours that a state file may hold; skops itself knows those of scikit-learn and NumPy.
#: Named one by one: what a module of ours imports (a thread pool, a path) is not ours.
TRUSTED = {
    f"{kind.__module__}.{kind.__qualname__}"
    for kind in (
        *(EarlyFusion, JointFusion, LateFusion, Training),
        *vars(modalities).values(),
        *vars(objectives).values(),
    )
    if isinstance(kind, type)
    and issubclass(kind, EarlyFusion | JointFusion | LateFusion | Modality | Objective | Training)
}
#: Levels of a formula's factor that is made by pandas.cut.
TRUSTED.add(f"{pd.Interval.__module__}.{pd.Interval.__qualname__}")


def save_estimator(estimator: Any, folder: Path) -> None:
    """Write a fitted estimator; see `FusionEstimator.save`."""
    folder = target_of(folder)
    params = estimator.get_params(deep=False)
    if params["training"] is not None:  # callbacks are code, not state
        params["training"] = copy.copy(params["training"]).set_params(callbacks=None)
    if params.get("pretrained") is not None:
        params["pretrained"] = None  # a model of its own, with a `save` of its own
        if params["modalities"] is None:  # they were its own
            params["modalities"] = {n: clone(m) for n, m in estimator.modalities_.items()}
    networks = estimator._networks()
    state = {
        "params": plain(
            {**params, "modalities": _plain(params["modalities"], estimator.modalities_)}
        ),
        "models": {
            name: _plain(network.modalities, network.modalities)
            for name, network in networks.items()
        },
        **estimator._state(),
        "fitted": {
            name: getattr(estimator, name)
            for name in ("n_features_in_", "feature_names_in_", "best_epoch_", "interrupted_")
            if hasattr(estimator, name)
        },
    }
    manifest = {
        "format": FORMAT,
        "class": type(estimator).__name__,
        "models": list(networks),
        "history": _written(estimator.history_),
        "written_by": {
            "mmfusion": mmfusion.__version__,
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
        },
    }
    weights = {
        f"{number}/{key}": value.detach().cpu().contiguous()
        for number, network in enumerate(networks.values())
        for key, value in network.weights().items()
    }
    _check_finite(weights)
    with _said_of(folder):
        _write(folder, manifest, state, weights)


def target_of(folder: Path) -> Path:
    """Return the folder that is written, behind links; refuse one that is no saved model's.

    One estimator may take the place of several, and several that of one.
    """
    folder = folder.resolve()
    if folder.is_dir():
        found = {path.name for path in folder.iterdir() if not _stray(path)}
    else:
        found = {folder.name} if folder.exists() else set()
    several = TOGETHER in found and all(name.isdecimal() for name in found - {TOGETHER})
    if found and found != FILES and not several:
        raise ValueError(
            f"{folder} exists and is no saved estimator (it holds {sorted(found)[:5]}); "
            "it is left as it is."
        )
    if Path.cwd().is_relative_to(folder):
        raise ValueError(
            f"{folder} cannot be replaced: it is, or holds, the working directory. Name a folder "
            "in it, such as 'model'."
        )
    return folder


def _stray(path: Path) -> bool:
    return path.name in STRAY or path.name.startswith(("._", ".nfs"))


@contextmanager
def _said_of(folder: Path) -> Iterator[None]:
    """Name the folder in errors of the disk: it is full, may not be written, is gone."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        what = f"{error.strerror} (the estimator was not saved; what was there is as it was)"
        raise OSError(error.errno, what, os.fspath(folder)) from error


def _write(
    folder: Path, manifest: dict[str, Any], state: dict[str, Any], weights: dict[str, torch.Tensor]
) -> None:
    """Write the three files beside `folder`, then put them in its place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    private = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    part = private / "new"
    try:
        part.mkdir()  # as the umask says, which a folder of tempfile's own never is
        _dump_state(state, part / STATE)
        _dump_weights(weights, part / WEIGHTS)
        manifest = {**manifest, "sha256": {name: _sha256(part / name) for name in (STATE, WEIGHTS)}}
        (part / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        if folder.exists():
            shutil.copymode(folder, part)
        _replace(folder, part)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _written(history: pd.DataFrame) -> dict[str, Any]:
    """Return a history for JSON, to the last bit; JSON knows no NaN and no infinity."""
    written = {}
    for name, column in history.items():
        values = column.tolist()
        if column.dtype.kind == "f":
            values = [value if np.isfinite(value) else str(value) for value in values]
        written[str(name)] = {"dtype": str(column.dtype), "values": values}
    return written


def _read_history(written: Mapping[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            name: pd.Series(column["values"], dtype=object).astype(column["dtype"])
            for name, column in written.items()
        }
    )


def _plain(modalities: Any, fitted: Mapping[str, Modality]) -> Any:
    """Return modalities whose parameters any system reads, see `plain`.

    A function that chose the columns is code: the columns of the `fitted` modality take its place.
    """
    if modalities is None:
        return None
    written = {}
    for name, modality in modalities.items():
        if callable(getattr(modality, "columns", None)) and name in fitted:
            modality = copy.copy(modality).set_params(columns=list(fitted[name].columns_))
        written[name] = plain(modality)
    return written


def _dump_state(state: dict[str, Any], path: Path) -> None:
    import skops.io  # slow to import, and only saving needs it

    unknown: list[str] = []
    try:
        skops.io.dump(state, path)
        unknown = _untrusted(path)
        error = None
    except OSError:  # the disk's, not the parameters'
        raise
    except Exception as raised:  # skops' own, of each kind of value
        error = raised
    if error is None and not unknown:
        return
    found = at_fault(state["params"], _is_code)
    if found is not None:
        name, value = found
        raise ValueError(
            f"The estimator cannot be saved without executable code: its parameter {name} is "
            f"{_short(value)}, a {type(value).__module__}.{type(value).__qualname__}. Give text, "
            "numbers, or lists of them. An encoder given as a Module or a function is code; pickle "
            "the estimator instead, and load the pickle only where you trust its writer."
        ) from error
    raise ValueError(
        "The estimator cannot be saved without executable code: its fitted values, or the levels "
        f"of its formula, hold {error or unknown}. Levels must be text, numbers or intervals of "
        "numbers: turn them into text with .astype(str)."
    ) from error


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def _is_code(value: Any) -> bool:
    """Whether a parameter alone cannot be saved."""
    import skops.io  # slow to import, and only saving needs it

    try:
        types = skops.io.get_untrusted_types(data=skops.io.dumps(value))
    except Exception:  # skops' own, of each kind of value
        return True
    return any(name not in TRUSTED for name in types)


def _dump_weights(weights: dict[str, torch.Tensor], path: Path) -> None:
    """Write with Python's own errors; safetensors' of a full disk are no OSError."""
    path.write_bytes(to_bytes(weights))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _untrusted(path: Path) -> list[str]:
    import skops.io  # slow to import, and only saving needs it

    return [name for name in skops.io.get_untrusted_types(file=path) if name not in TRUSTED]


def _replace(folder: Path, part: Path) -> None:
    """Put `part` in the place of `folder`; whatever fails, one of the two is there."""
    if not folder.exists():
        os.replace(part, folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    try:
        os.replace(folder, old / "saved")
        try:
            os.replace(part, folder)
        except BaseException:
            os.replace(old / "saved", folder)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def load_one_of(base: type, folder: Path) -> Any:
    """Read what an estimator of a kind wrote, whichever it is; the package imports them all."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise FileNotFoundError(f"{folder} holds no saved estimator ({MANIFEST} is missing).")
    try:
        name = json.loads(manifest.read_text(encoding="utf-8"))["class"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{manifest} is damaged: {error!r}") from error
    kinds = {kind.__name__: kind for kind in _below(base)}
    check_choice("class", name, kinds)
    return kinds[name].load(folder)


def _below(kind: Any) -> list[Any]:
    """Return the classes that are a kind of estimator."""
    return [one for child in kind.__subclasses__() for one in (child, *_below(child))]


def load_estimator(cls: type, folder: Path) -> Any:
    """Read what `save_estimator` wrote; see `FusionEstimator.load`."""
    manifest = _read(folder / MANIFEST, _manifest)
    if manifest["class"] != cls.__name__:
        raise ValueError(
            f"{folder} holds a {manifest['class']}, not a {cls.__name__}; "
            f"use {manifest['class']}.load."
        )
    if manifest["format"] != FORMAT:
        newer = manifest["format"] > FORMAT
        advice = "Update mmfusion" if newer else "Fit the estimator again, and save it"
        raise ValueError(
            f"{folder} was written in format {manifest['format']}; this mmfusion "
            f"{mmfusion.__version__} reads format {FORMAT}. {advice}."
        )
    for name in (STATE, WEIGHTS):
        if _read(folder / name, _sha256) != manifest["sha256"].get(name):
            raise ValueError(
                f"{folder / name} is damaged: it is not the file that {MANIFEST} was saved with "
                "(another SHA-256). Copy the whole folder of the model again."
            )
    unknown = _read(folder / STATE, _untrusted)
    if unknown:
        raise ValueError(f"{folder / STATE} holds types that are not trusted: {unknown}.")
    state = _read(folder / STATE, _state)
    weights = _read(folder / WEIGHTS, _weights)
    try:
        estimator = cls(**state["params"])
        estimator._restore(state, _by_model(weights, list(state["models"]), manifest["models"]))
        estimator.history_ = _read_history(manifest["history"])
    except ImportError:  # a backbone's library is missing here, and nothing in the folder
        raise
    except Exception as error:  # what does not fit together fails in ways of its own
        raise ValueError(f"{folder} is damaged: {type(error).__name__}: {error}") from error
    return estimator


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"{path.parent} holds no saved estimator ({path.name} is missing)."
        ) from None
    except OSError:  # of the disk, or of who may read: no damage
        raise
    except Exception as error:  # each format has errors of its own
        raise ValueError(f"{path} is damaged: {error}") from error


def _manifest(path: Path) -> dict[str, Any]:
    manifest = json.loads(path.read_text(encoding="utf-8"))
    kinds = {"format": int, "class": str}
    if manifest["format"] == FORMAT:  # of another the loader says only which it is
        kinds |= {"models": list, "history": dict, "sha256": dict}
    for key, kind in kinds.items():
        if not isinstance(manifest[key], kind):
            raise ValueError(f"its {key} is {manifest[key]!r}.")
    return {key: manifest[key] for key in kinds}


def _state(path: Path) -> dict[str, Any]:
    import skops.io  # slow to import, and only loading needs it

    state = skops.io.load(path, trusted=sorted(TRUSTED))
    for key in ("params", "models", "fitted"):
        if not isinstance(state.get(key), dict):
            raise ValueError(f"its {key} is {state.get(key)!r}.")
    return state


def _weights(path: Path) -> dict[str, torch.Tensor]:
    weights = load_file(path)
    _check_finite(weights)
    return weights


def _check_finite(weights: dict[str, torch.Tensor]) -> None:
    for name, value in weights.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"The weight {name} is NaN or infinite.")


def _by_model(
    weights: dict[str, torch.Tensor], names: list[str], written: list[str]
) -> dict[str, dict[str, torch.Tensor]]:
    """Return the weights of each model by its own names."""
    if names != written:
        raise ValueError(f"{STATE} holds the models {names}, {MANIFEST} {written}.")
    numbers = {str(number) for number in range(len(names))}
    strange = [key for key in weights if key.partition("/")[0] not in numbers]
    if strange:
        raise ValueError(f"{WEIGHTS} holds {strange[0]} of no model.")
    return {
        name: {
            key.removeprefix(f"{number}/"): value
            for key, value in weights.items()
            if key.startswith(f"{number}/")
        }
        for number, name in enumerate(names)
    }
