"""How modalities are fused: what a user writes as ``fusion=``."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import torch
from sklearn.base import BaseEstimator

from mmfusion.fusion.base import OPERATORS, FusionOperator
from mmfusion.fusion.operators import Concat

__all__ = [
    "EarlyFusion",
    "JointFusion",
    "LateFusion",
    "build_operator",
    "check_fusion",
    "operator_options",
]

#: Where joint fusion takes place.
LEVELS = ("embedding", "tokens", "hidden")


class JointFusion(BaseEstimator):
    """Each modality is encoded, the embeddings are fused, all is trained together.

    Parameters
    ----------
    operator : str, default="concat"
        What is made of the embeddings. Element by element: "sum", "mean", "max", "product". Side by
        side: "concat", "modulation". Gates: "gated", "lstm_gate". Agreement: "similarity".
        Products of features: "bilinear", "gated_bilinear", "low_rank_bilinear", "compact_bilinear",
        "tensor", "low_rank_tensor". Attention: "attention", "feature_attention",
        "cross_attention", "co_attention", "transformer", "perceiver". The classes, with formulas
        and sources, are in `mmfusion.fusion.OPERATORS`.
    dim : int, default=32
        Width of each embedding (an encoder ``"raw"`` has its own), and of what most operators make
        of them.
    hidden : tuple of int, default=(32,)
        Widths of the layers after fusion; ``()`` for none: the predictors are then linear in what
        the operator returns.
    dropout : float, default=0.1
        After each of these layers.
    at : {"embedding", "tokens", "hidden"}, default="embedding"
        How deep modalities are joined. At their embeddings; or at their tokens, by the attention
        operators only, where an encoder has tokens: an image's places (a trained encoder with
        feature maps or patches), a table's columns (``encoder="tokens"``), any other modality's
        embedding as its one token; or, last, after hidden layers of each modality's own, which
        are then those of `hidden`, the predictors being linear in what the operator returns.
    options : dict, optional
        What the operator's class takes beside widths and `dim`, such as ``{"rank": 4}``.

    Examples
    --------
    >>> JointFusion("gated", dim=16)
    JointFusion(dim=16, operator='gated')
    >>> JointFusion("transformer", at="tokens", options={"n_layers": 1})
    JointFusion(at='tokens', operator='transformer', options={'n_layers': 1})
    """

    def __init__(
        self,
        operator: str = "concat",
        dim: int = 32,
        hidden: Sequence[int] = (32,),
        dropout: float = 0.1,
        at: str = "embedding",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.operator = operator
        self.dim = dim
        self.hidden = hidden
        self.dropout = dropout
        self.at = at
        self.options = options


class EarlyFusion(BaseEstimator):
    """Inputs side by side in one network: numbers, embedded categories, features or pixels.

    A frozen image encoder gives its features (with ``n_components`` their components); an image
    whose encoder is not frozen gives its pixels. Encoders of tables are not used.

    Parameters
    ----------
    hidden : tuple of int, default=(64,)
        Widths of the network's layers.
    dropout : float, default=0.1
        After each of them.
    """

    def __init__(self, hidden: Sequence[int] = (64,), dropout: float = 0.1) -> None:
        self.hidden = hidden
        self.dropout = dropout


class LateFusion(BaseEstimator):
    """One network a modality, each trained by itself; their predictions are averaged.

    A row's prediction is made of the modalities it has. What is averaged is the head's choice.

    Parameters
    ----------
    dim : int, default=32
        Width of each network's embedding.
    hidden : tuple of int, default=(32,)
        Widths of the layers after it.
    dropout : float, default=0.1
        After each of these layers.
    """

    def __init__(self, dim: int = 32, hidden: Sequence[int] = (32,), dropout: float = 0.1) -> None:
        self.dim = dim
        self.hidden = hidden
        self.dropout = dropout

    def member(self) -> JointFusion:
        """Return the fusion of one member: that of a single modality."""
        return JointFusion("concat", self.dim, self.hidden, self.dropout)


def check_fusion(fusion: Any) -> JointFusion | EarlyFusion | LateFusion:
    """Return the strategy that a ``fusion=`` parameter means.

    Parameters
    ----------
    fusion : str, JointFusion, EarlyFusion or LateFusion
        A name is that of a joint operator.

    Raises
    ------
    TypeError
        If it is something else.
    ValueError
        If an operator is unknown (the nearest name is given) or a parameter of the strategy is not
        as it must be.

    Examples
    --------
    >>> check_fusion("gated")
    JointFusion(operator='gated')
    """
    if isinstance(fusion, str):
        fusion = JointFusion(fusion)
    if not isinstance(fusion, JointFusion | EarlyFusion | LateFusion):
        raise TypeError(
            f"The fusion parameter must be one of {sorted(OPERATORS)}, a JointFusion, an "
            f"EarlyFusion or a LateFusion. Got {fusion!r}."
        )
    kind = type(fusion).__name__
    if isinstance(fusion, JointFusion) and fusion.operator not in OPERATORS:
        known = sorted(OPERATORS)
        near = difflib.get_close_matches(str(fusion.operator), known, n=1, cutoff=0.3)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(
            f"The fusion parameter, or the operator of JointFusion, must be one of {known} "
            f"(EarlyFusion() and LateFusion() are objects). Got {fusion.operator!r}.{hint}"
        )
    if not isinstance(fusion, EarlyFusion) and not _is_width(fusion.dim):
        raise ValueError(
            f"The dim parameter of {kind} must be a positive integer. Got {fusion.dim!r}."
        )
    hidden = fusion.hidden
    if not isinstance(hidden, Sequence) or not all(map(_is_width, hidden)):
        raise ValueError(
            f"The hidden parameter of {kind} must be a tuple of positive integers. Got {hidden!r}."
        )
    dropout = fusion.dropout
    if not isinstance(dropout, Real) or isinstance(dropout, bool) or not 0 <= float(dropout) < 1:
        raise ValueError(
            f"The dropout parameter of {kind} must be a number in [0, 1). Got {dropout!r}."
        )
    if isinstance(fusion, JointFusion):
        _check_operator(fusion)
    return fusion


def _check_operator(fusion: JointFusion) -> None:
    operator, options = OPERATORS[fusion.operator], fusion.options
    if fusion.at not in LEVELS:
        raise ValueError(
            f"The at parameter of JointFusion must be one of {LEVELS}. Got {fusion.at!r}."
        )
    if fusion.at == "tokens" and not operator.takes_tokens:
        able = sorted(name for name, kind in OPERATORS.items() if kind.takes_tokens)
        raise ValueError(
            "The at parameter of JointFusion can be 'tokens' with the operators that take tokens, "
            f"{able}. Got at='tokens' with operator {fusion.operator!r}."
        )
    if options is None:
        return
    if not isinstance(options, Mapping):
        raise ValueError(
            f"The options parameter of JointFusion must be a dict or None. Got {options!r}."
        )
    known = operator_options(fusion.operator)
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.3)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            allowed = f"may hold {sorted(known)}" if known else "must be None or empty"
            raise ValueError(
                f"The options parameter of JointFusion {allowed} with operator "
                f"{fusion.operator!r}. Got {name!r}.{hint}"
            )
    with torch.device("meta"):  # nothing is allocated or drawn; a bad value raises
        operator((1, 1), fusion.dim, **options)


def operator_options(name: str) -> dict[str, Any]:
    """Return the options that an operator takes, with their defaults.

    Parameters
    ----------
    name : str
        In `OPERATORS`.

    Returns
    -------
    dict

    Examples
    --------
    >>> operator_options("perceiver")
    {'n_latents': 8, 'n_heads': None, 'n_layers': 1}
    """
    parameters = inspect.signature(OPERATORS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def build_operator(strategy: JointFusion | EarlyFusion, widths: Sequence[int]) -> FusionOperator:
    """Return the operator of a checked strategy for embeddings of these widths.

    Raises
    ------
    ValueError
        If the operator cannot join embeddings of these widths.
    """
    if isinstance(strategy, EarlyFusion):
        return Concat(widths)
    if strategy.at == "hidden" and strategy.hidden:
        widths = [strategy.hidden[-1]] * len(widths)
    return OPERATORS[strategy.operator](widths, strategy.dim, **(strategy.options or {}))


def _is_width(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
