"""From a fitted modality to the encoder it asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sklearn.utils.validation import check_is_fitted
from torch import nn

from mmfusion.encoders.backbones import make_backbone
from mmfusion.encoders.base import Encoder
from mmfusion.encoders.components import ComponentsEncoder
from mmfusion.encoders.mlp import MLPEncoder, ModuleTableEncoder, SNNEncoder, TableEncoder
from mmfusion.encoders.own import check_module
from mmfusion.encoders.pointnet import PointNet
from mmfusion.encoders.points import PointsEncoder
from mmfusion.encoders.reduced import OneHotEncoder, ReducedEncoder
from mmfusion.encoders.table_tokens import TableTokenEncoder
from mmfusion.encoders.vision import VisionEncoder
from mmfusion.encoders.vision_tokens import VisionTokenEncoder, token_shape
from mmfusion.inputs.messages import did_you_mean
from mmfusion.inputs.parameters import check_dropout, check_hidden, is_number

__all__ = [
    "TABLE_ENCODERS",
    "build_encoder",
    "build_reduced_encoder",
    "check_layers",
    "has_own_width",
    "tames",
]

#: Encoders of tables by name, called with n_numeric, cardinalities, width, hidden and dropout.
TABLE_ENCODERS: dict[str, Callable[..., Encoder]] = {
    "mlp": MLPEncoder,
    "raw": lambda n_numeric, cardinalities, **_: TableEncoder(n_numeric, cardinalities),
    "snn": SNNEncoder,
    "tokens": lambda n_numeric, cardinalities, width, **_: TableTokenEncoder(
        n_numeric, cardinalities, width
    ),
}

#: What a pretrained backbone learns at, beside random layers: it has less to learn.
_PRETRAINED_LR_SCALE = 0.1


def has_own_width(modality: Any) -> bool:
    """Return whether a modality's embedding has a width of its own, known with the data only."""
    return modality.kind == "table" and (
        not isinstance(modality.encoder, str) or modality.encoder == "raw"
    )


def build_encoder(modality: Any, width: int | None, *, tokens: bool = False) -> Encoder:
    """Return the encoder of a modality, untrained.

    Parameters
    ----------
    modality : Modality
        Fitted.
    width : int or None
        Width of the embedding. An encoder ``"raw"`` of a table, or one of the user's own, has its
        own width. None: no projection, for early fusion; then a table is its numbers and embedded
        categories, an image its frozen features, or its pixels where the encoder is not frozen, a
        point cloud the features of its network.
    tokens : bool, default=False
        Whether tokens are asked for: an image's encoder that is trained and has feature maps or
        patches is then made to give these. A frozen one gives its pooled features; a table's
        gives tokens if it is ``"tokens"``, whatever is asked for.

    Returns
    -------
    Encoder

    Raises
    ------
    NotFittedError
        If the modality is not fitted.
    TypeError, ValueError
        If a parameter of the modality is not as it must be; for an unknown name the nearest ones
        are named.
    OSError, ImportError
        If pretrained weights are not at hand.

    Examples
    --------
    >>> import pandas as pd
    >>> from mmfusion.modalities import Tabular
    >>> table = Tabular(encoder="mlp").fit(pd.DataFrame({"age": [61.0, 70.0], "sex": ["f", "m"]}))
    >>> encoder = build_encoder(table, 16)
    >>> encoder.feature_width, encoder.width  # one number, and an embedding of width 3
    (4, 16)
    """
    check_is_fitted(modality, "columns_")
    check_layers(modality)
    if modality.kind == "table":
        return _table_encoder(modality, width)
    if modality.kind == "points":
        return _points_encoder(modality, width)
    return _image_encoder(modality, width, tokens)


def build_reduced_encoder(modality: Any, reduce: str, n_components: int | float) -> ReducedEncoder:
    """Return the encoder that makes one reduced vector of a modality, for early fusion.

    Parameters
    ----------
    modality : Modality
        Fitted. A table is its numbers and a column for each category, an image its frozen
        features, or its pixels where the encoder is not frozen.
    reduce, n_components
        See `mmfusion.encoders.reduced.ReducedEncoder`.

    Raises
    ------
    ValueError
        If what reads the modality has to be trained: there is nothing fixed to reduce.
    """
    if modality.kind == "table":
        check_is_fitted(modality, "columns_")
        table = OneHotEncoder(modality.n_numeric_, modality.cardinalities_)
        return ReducedEncoder(table, reduce, n_components)
    source = build_encoder(modality, None)
    if not source.frozen:
        raise ValueError(
            f"EarlyFusion(reduce={reduce!r}) needs features that are not trained. "
            f"Got {modality!r}, whose encoder is."
        )
    return ReducedEncoder(source, reduce, n_components)


def check_layers(modality: Any) -> None:
    """Raise ValueError unless `hidden` and `dropout`, where a modality has them, are as they must.

    Parameters
    ----------
    modality : Modality
        Fitted or not.
    """
    kind = type(modality).__name__
    check_hidden(kind, getattr(modality, "hidden", ()))
    check_dropout(kind, getattr(modality, "dropout", 0.0))


def _table_encoder(modality: Any, width: int | None) -> Encoder:
    shape = (modality.n_numeric_, modality.cardinalities_)
    encoder, kind = modality.encoder, type(modality).__name__
    few = getattr(modality, "n_seen_", None)
    seen = shape if few is None else (few, modality.cardinalities_)
    if width is None:
        whole = TableEncoder(*seen)
        return whole if few is None else ComponentsEncoder(whole, modality.n_numeric_, few)
    if not isinstance(encoder, str) and not isinstance(encoder, nn.Module) and callable(encoder):
        return ModuleTableEncoder(*shape, make=encoder)
    if not isinstance(encoder, str) or encoder not in TABLE_ENCODERS:
        known = sorted(TABLE_ENCODERS)
        raise ValueError(
            f"The encoder parameter of {kind} must be one of {known} or a function from the number "
            f"of inputs to a torch.nn.Module. Got {encoder!r}.{did_you_mean(encoder, known)}"
        )
    made = TABLE_ENCODERS[encoder](
        *seen, width=width, hidden=tuple(modality.hidden), dropout=modality.dropout
    )
    return made if few is None else ComponentsEncoder(made, modality.n_numeric_, few)


def _image_encoder(modality: Any, width: int | None, tokens: bool) -> Encoder:
    n_channels, size = modality.n_channels_, modality.size_
    attention = modality.pool == "attention"
    if attention and width is None:
        raise ValueError(
            "Image(pool='attention') learns its weights, and early fusion reads what is not "
            "learned. Use pool='mean', or joint or late fusion."
        )
    as_pixels = width is None and modality.freeze != "all"
    backbone = (
        make_backbone("raw", n_channels, size)
        if as_pixels
        else make_backbone(modality.encoder, n_channels, size, modality.pretrained)
    )
    options: dict[str, Any] = {
        "mean": backbone.mean,
        "std": backbone.std,
        "freeze": None if as_pixels else modality.freeze,
        "n_components": _components(modality),
        "dropout": modality.dropout,
        "lr_scale": _lr_scale(modality),
        "attention": attention,
    }
    encoder = VisionEncoder(backbone.module, n_channels, size, width, **options)
    if not tokens or width is None or encoder.frozen or attention:
        return encoder
    if token_shape(backbone.module, (n_channels, *size)) is None:
        return encoder
    return VisionTokenEncoder(backbone.module, n_channels, size, width, **options)


def _points_encoder(modality: Any, width: int | None) -> Encoder:
    n_channels, encoder = modality.n_channels_, modality.encoder
    if isinstance(encoder, str) and encoder == "pointnet":
        backbone: nn.Module = PointNet(n_channels, modality.hidden, modality.input_transform)
    elif not isinstance(encoder, nn.Module) and callable(encoder):
        backbone = check_module(encoder(n_channels))
    else:
        raise ValueError(
            "The encoder parameter of Points must be 'pointnet' or a function from the number of "
            f"columns to a torch.nn.Module. Got {encoder!r}."
        )
    return PointsEncoder(
        backbone,
        n_channels,
        width,
        rotate=modality.rotate,
        jitter=modality.jitter,
        dropout=modality.dropout,
    )


def _components(modality: Any) -> Any:
    given = modality.n_components
    return getattr(modality, "n_seen_", None) if given == "auto" else given


def tames(modality: Any, encoder: Encoder) -> int:
    """Return how many inputs a network would see of a modality, 0 where it must see all.

    That is where the user says so (``n_components``), where a table's encoder reads columns as they
    are, and where an image's is trained.
    """
    if getattr(modality, "n_components", "auto") != "auto":
        return 0
    if modality.kind == "table":
        return modality.n_numeric_ if modality.encoder in ("mlp", "snn") else 0
    return encoder.feature_width if encoder.frozen and modality.kind == "image" else 0


def _lr_scale(modality: Any) -> float:
    scale = modality.learning_rate_scale
    if scale is None:
        return 1.0 if modality.pretrained is False else _PRETRAINED_LR_SCALE
    if not is_number(scale) or not float(scale) > 0:
        raise ValueError(
            "The learning_rate_scale parameter of Image must be a positive number or None. "
            f"Got {scale!r}."
        )
    return float(scale)
