"""How modalities are fused: what a user writes as ``fusion=``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.base import BaseEstimator

from mmfusion.fusion.base import OPERATORS, FusionOperator
from mmfusion.fusion.operators import Concat
from mmfusion.inputs.messages import did_you_mean
from mmfusion.inputs.parameters import (
    check_choice,
    check_dropout,
    check_hidden,
    is_count,
    is_number,
)
from mmfusion.modalities.base import Modality

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
#: Choices of former versions, and what to say instead.
GONE = {
    "vote": "the vote is gone. Use how='mean'.",
    "hazard": "means of cumulative hazards are gone. Use combine='survival'.",
}


@dataclass(eq=False, repr=False)
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

    operator: str = "concat"
    dim: int = 32
    hidden: Sequence[int] = (32,)
    dropout: float = 0.1
    at: str = "embedding"
    options: Mapping[str, Any] | None = None

    #: Whether there is no network, but a linear predictor that is fitted exactly.
    linear = False
    #: Whether its predictor can be added to another model's.
    takes_offset = True
    #: Whether what networks see is chosen by the outcome.
    learns_inputs = False
    #: Whether each modality is reduced to some features, which are learned first.
    reduces = False
    #: Whether modalities have embeddings that an auxiliary loss can compare.
    embeds = True
    #: How the networks' predictions are pooled; there is one.
    pool = "single"
    #: Folds whose networks a pool learns from.
    pool_folds = 0

    @property
    def level(self) -> str:
        """Where the modalities are joined."""
        return self.at

    @property
    def width(self) -> int | None:
        """Width of each embedding; None where inputs stay as they are."""
        return self.dim

    @property
    def joins_design(self) -> bool:
        """Whether hidden layers follow the fusion, which other columns can enter."""
        return bool(self.hidden) and self.at != "hidden"

    def networks(
        self, modalities: Mapping[str, Modality]
    ) -> dict[str, tuple[Mapping[str, Modality], JointFusion | EarlyFusion]]:
        """Return the networks to train, by name: their modalities and their fusion."""
        return {"model": (modalities, self)} if modalities else {}

    def alike(self) -> JointFusion:
        """Return it as it is: there is one network, and nothing to weigh."""
        return self

    def most_together(self, n_modalities: int) -> int:
        """Return how many modalities one network sees."""
        return n_modalities


@dataclass(eq=False, repr=False)
class EarlyFusion(BaseEstimator):
    """Inputs side by side in one model: numbers, categories, features or pixels.

    A frozen image encoder gives its features (with ``n_components`` their components); an image
    whose encoder is not frozen gives its pixels. Encoders of tables are not used. An absent
    modality is zeros, and a bit that says so.

    Parameters
    ----------
    reduce : {"pca", "features"} or None, default=None
        What is made of each modality before the model, learned from the training rows that have
        it. "pca": principal components of its standardised features, the largest loading of each
        positive, all divided by the standard deviation of the first (not whitened). "features":
        its features that say most of the outcome one by one, by the score test (`Head.relevance`).
        None: all features, or components of what is too wide; categories are embedded and trained.
    n_components : int or float, default=32
        With `reduce`: that many a modality, or all it has where they are fewer. In (0, 1): as many
        components as explain that share of its variance, or that share of its features.
    hidden : tuple of int or None, default=(64,)
        Widths of the network's layers; ``()`` for none: a linear model, trained as networks are.
        None, with `reduce`, is no network at all: a linear predictor with a ridge penalty a
        modality, fitted by Newton's method, the penalties chosen by restricted maximum likelihood.
    dropout : float, default=0.1
        After each of the layers.

    Examples
    --------
    >>> EarlyFusion("pca", n_components=10, hidden=None)
    EarlyFusion(hidden=None, n_components=10, reduce='pca')
    """

    reduce: str | None = None
    n_components: int | float = 32
    hidden: Sequence[int] | None = (64,)
    dropout: float = 0.1

    embeds = False
    pool = "single"
    pool_folds = 0
    level = "embedding"
    width = None

    @property
    def takes_offset(self) -> bool:
        """Whether its predictor can be added to another model's."""
        return not self.linear

    @property
    def learns_inputs(self) -> bool:
        """Whether what networks see is chosen by the outcome."""
        return self.reduce == "features"

    @property
    def linear(self) -> bool:
        """Whether there is no network, but a linear predictor that is fitted exactly."""
        return self.hidden is None

    @property
    def reduces(self) -> bool:
        """Whether each modality is reduced to some features, which are learned first."""
        return self.reduce is not None

    @property
    def joins_design(self) -> bool:
        """Whether hidden layers follow the fusion, which other columns can enter."""
        return bool(self.hidden)

    def networks(
        self, modalities: Mapping[str, Modality]
    ) -> dict[str, tuple[Mapping[str, Modality], JointFusion | EarlyFusion]]:
        """Return the networks to train, by name: their modalities and their fusion."""
        return {"model": (modalities, self)} if modalities else {}

    def alike(self) -> EarlyFusion:
        """Return it as it is: there is one network, and nothing to weigh."""
        return self

    def most_together(self, n_modalities: int) -> int:
        """Return how many modalities one network sees."""
        return n_modalities


@dataclass(eq=False, repr=False)
class LateFusion(BaseEstimator):
    """One network a modality, each trained by itself; their predictions are combined.

    A row's prediction is made of the modalities it has: weights are renormalised over them.

    Parameters
    ----------
    how : {"mean", "weighted", "stack"}, default="mean"
        "mean": all alike. "weighted": weights, not negative and of sum 1, that minimise the loss of
        out-of-fold predictions. "stack": a regression of the outcome on the members' out-of-fold
        predictors with a small ridge penalty, one for each set of modalities a row may have; in
        discrete time one coefficient a member, for all intervals.
    combine : {"risk", "survival"}, default="risk"
        Of a survival outcome, what is combined: log-hazards (a proportional hazards model again) or
        survival curves (their mixture; with "mean" and "weighted"). Of classes it is probabilities
        (in a stack logits), of numbers means, in discrete time the laws (in a stack the predictors
        of intervals); these know "risk" alone.
    dim : int, default=32
        Width of each network's embedding.
    hidden : tuple of int, default=(32,)
        Widths of the layers after it.
    dropout : float, default=0.1
        After each of these layers.
    folds : int, default=5
        Parts of the rows for out-of-fold predictions: "weighted" and "stack" train each network
        once on all rows and once without each part, ``folds + 1`` times what "mean" takes.

    Notes
    -----
    Cox log-hazards have an arbitrary zero. "mean" centres each member's over the training rows
    that have it and gives the mean a slope for each set of modalities that are there, which
    minimises the training loss: what independent members say adds up, so that a mean of M of them
    is too flat, and a mean of one is not. "weighted" and "stack"
    standardise each member's and learn weights, slopes and the baseline from out-of-fold
    predictions; the slope of "weighted" is that of the set of modalities that a row has.

    Beside a formula members are networks that add to its predictor: what they add is combined as
    above, as if it stood alone (of classes the probabilities that it gives by itself), and added to
    the formula's predictor then; weights and stacks are learned with the formula in the loss.

    Stacking is Wolpert's (1992); of what is out of fold, van der Laan, Polley & Hubbard (2007). A
    regression a set of modalities is the pattern submodel of Fletcher Mercaldo & Blume (2020),
    fitted on all rows that have the set.

    Examples
    --------
    >>> LateFusion("stack", dim=16, folds=3)
    LateFusion(dim=16, folds=3, how='stack')
    """

    how: str = "mean"
    combine: str = "risk"
    dim: int = 32
    hidden: Sequence[int] = (32,)
    dropout: float = 0.1
    folds: int = 5

    linear = False
    learns_inputs = False
    reduces = False
    embeds = True

    @property
    def takes_offset(self) -> bool:
        """Whether its predictor can be added to another model's: a mixture of curves cannot."""
        return self.pool != "curves"

    @property
    def pool(self) -> str:
        """How the networks' predictions are pooled."""
        return self.how if self.combine == "risk" else "curves"

    @property
    def pool_folds(self) -> int:
        """Folds whose networks a pool learns from: none where all networks count alike."""
        return 0 if self.how == "mean" else self.folds

    @property
    def width(self) -> int:
        """Width of each embedding."""
        return self.dim

    @property
    def joins_design(self) -> bool:
        """Whether hidden layers follow the fusion, which other columns can enter."""
        return bool(self.hidden)

    def alike(self) -> LateFusion:
        """Return late fusion of the same networks in which all count alike."""
        return LateFusion("mean", "risk", self.dim, self.hidden, self.dropout, self.folds)

    def member(self) -> JointFusion:
        """Return the fusion of one member: that of a single modality."""
        return JointFusion("concat", self.dim, self.hidden, self.dropout)

    def networks(
        self, modalities: Mapping[str, Modality]
    ) -> dict[str, tuple[Mapping[str, Modality], JointFusion | EarlyFusion]]:
        """Return the networks to train, by name: one a modality."""
        inner = self.member()
        return {name: ({name: modality}, inner) for name, modality in modalities.items()}

    def most_together(self, n_modalities: int) -> int:
        """Return how many modalities one network sees."""
        return min(1, n_modalities)


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
        raise ValueError(
            f"The fusion parameter, or the operator of JointFusion, must be one of {known} "
            f"(EarlyFusion() and LateFusion() are objects). Got {fusion.operator!r}."
            f"{did_you_mean(fusion.operator, known)}"
        )
    if not isinstance(fusion, EarlyFusion) and not is_count(fusion.dim):
        raise ValueError(
            f"The dim parameter of {kind} must be a positive integer. Got {fusion.dim!r}."
        )
    if isinstance(fusion, LateFusion):
        _check_late(fusion)
    hidden = fusion.hidden
    if isinstance(fusion, EarlyFusion):
        _check_early(fusion)
        hidden = () if hidden is None else hidden
    check_hidden(kind, hidden)
    check_dropout(kind, fusion.dropout)
    if isinstance(fusion, JointFusion):
        _check_operator(fusion)
    return fusion


def _check_operator(fusion: JointFusion) -> None:
    operator, options = OPERATORS[fusion.operator], fusion.options
    check_choice("at", fusion.at, LEVELS, "JointFusion")
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
            allowed = f"may hold {sorted(known)}" if known else "must be None or empty"
            raise ValueError(
                f"The options parameter of JointFusion {allowed} with operator "
                f"{fusion.operator!r}. Got {name!r}.{did_you_mean(name, known)}"
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


def _check_late(fusion: LateFusion) -> None:
    for name, choices in (
        ("how", ("mean", "weighted", "stack")),
        ("combine", ("risk", "survival")),
    ):
        value = getattr(fusion, name)
        if value in GONE:
            raise ValueError(f"The {name} parameter of LateFusion: {GONE[value]}")
        check_choice(name, value, choices, "LateFusion")
    if fusion.combine != "risk" and fusion.how not in ("mean", "weighted"):
        raise ValueError(
            "The combine parameter of LateFusion may be 'survival' with how='mean' or "
            f"how='weighted'. Got how={fusion.how!r} with combine={fusion.combine!r}."
        )
    if not is_count(fusion.folds, least=2):
        raise ValueError(
            "The folds parameter of LateFusion must be an integer of 2 or more. "
            f"Got {fusion.folds!r}."
        )


def _check_early(fusion: EarlyFusion) -> None:
    if fusion.reduce not in ("pca", "features", None):
        raise ValueError(
            "The reduce parameter of EarlyFusion must be 'pca', 'features' or None. "
            f"Got {fusion.reduce!r}."
        )
    n = fusion.n_components
    share = is_number(n) and 0 < float(n) < 1
    if not is_count(n) and not share:
        raise ValueError(
            "The n_components parameter of EarlyFusion must be a positive integer or a share in "
            f"(0, 1). Got {n!r}."
        )
    if fusion.hidden is None and fusion.reduce is None:
        raise ValueError(
            "The hidden parameter of EarlyFusion may be None (no network) only with "
            "reduce='pca' or reduce='features'."
        )


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
