"""Saving and loading: JSON, safetensors and skops in one folder; no pickle."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sklearn
import skops.io
import torch
from safetensors.torch import load_file, save_file

import mmfusion

__all__ = ["FORMAT", "load_estimator", "save_estimator"]

#: Raised by one when a folder written by this code cannot be read by the code before it.
FORMAT = 1
MANIFEST, STATE, WEIGHTS = "model.json", "state.skops", "weights.safetensors"
#: Types of ours that a state file may hold; skops itself knows those of scikit-learn and NumPy.
TRUSTED_PREFIXES = ("mmfusion.modalities.", "mmfusion.fusion.strategy.")


def save_estimator(estimator: Any, folder: Path) -> None:
    """Write a fitted estimator; see `FusionEstimator.save`."""
    if folder.exists() and not (folder / MANIFEST).exists():
        if not folder.is_dir() or any(folder.iterdir()):
            raise ValueError(f"{folder} exists and holds no saved estimator; it is left as it is.")
    params = estimator.get_params(deep=False)
    params["callbacks"] = None  # code, not state
    state = {
        "params": params,
        "models": {name: model.modalities for name, model in estimator._models.items()},
        "head": estimator._head.state(),
        "fitted": {
            name: getattr(estimator, name)
            for name in ("n_features_in_", "feature_names_in_", "best_epoch_", "interrupted_")
            if hasattr(estimator, name)
        },
    }
    manifest = {
        "format": FORMAT,
        "class": type(estimator).__name__,
        "models": list(estimator._models),
        "history": json.loads(estimator.history_.to_json(orient="columns")),
        "written_by": {
            "mmfusion": mmfusion.__version__,
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
        },
    }
    weights = {
        f"{name}/{key}": value.detach().cpu().contiguous()
        for name, model in estimator._models.items()
        for key, value in model.network.state_dict().items()
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _dump_state(state, part / STATE)
        save_file(weights, part / WEIGHTS)
        (part / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        _replace(folder, part)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _dump_state(state: dict[str, Any], path: Path) -> None:
    try:
        skops.io.dump(state, path)
        unknown = _untrusted(path)
    except Exception as error:
        raise ValueError(f"The estimator cannot be saved without executable code: {error}") from error
    if unknown:
        raise ValueError(
            "The estimator cannot be saved without executable code: its parameters hold "
            f"{unknown}. An encoder given as a Module or a function is code; pickle the "
            "estimator instead, and load the pickle only where you trust its writer."
        )


def _untrusted(path: Path) -> list[str]:
    return [
        name
        for name in skops.io.get_untrusted_types(file=path)
        if not name.startswith(TRUSTED_PREFIXES)
    ]


def _replace(folder: Path, part: Path) -> None:
    """Put `part` in the place of `folder`; whatever fails, one of the two is there."""
    if not folder.exists():
        os.replace(part, folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    os.replace(folder, old / "saved")
    try:
        os.replace(part, folder)
    except BaseException:
        os.replace(old / "saved", folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def load_estimator(cls: type, folder: Path) -> Any:
    """Read what `save_estimator` wrote; see `FusionEstimator.load`."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} holds no saved estimator ({MANIFEST} is missing).") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{folder / MANIFEST} is damaged: {error}") from error
    if manifest["class"] != cls.__name__:
        raise ValueError(
            f"{folder} holds a {manifest['class']}, not a {cls.__name__}; "
            f"use {manifest['class']}.load."
        )
    if manifest["format"] > FORMAT:
        raise ValueError(
            f"{folder} was written in format {manifest['format']}; this mmfusion "
            f"{mmfusion.__version__} reads up to {FORMAT}. Update mmfusion."
        )
    unknown = _untrusted(folder / STATE)
    if unknown:
        raise ValueError(f"{folder / STATE} holds types that are not trusted: {unknown}.")
    state = skops.io.load(
        folder / STATE, trusted=skops.io.get_untrusted_types(file=folder / STATE)
    )
    weights = load_file(folder / WEIGHTS)
    estimator = cls(**state["params"])
    estimator._restore(state, _by_model(weights, manifest["models"]))
    estimator.history_ = pd.DataFrame(manifest["history"]).reset_index(drop=True)
    return estimator


def _by_model(
    weights: dict[str, torch.Tensor], names: list[str]
) -> dict[str, dict[str, torch.Tensor]]:
    return {
        name: {
            key[len(name) + 1 :]: value
            for key, value in weights.items()
            if key.startswith(f"{name}/")
        }
        for name in names
    }
