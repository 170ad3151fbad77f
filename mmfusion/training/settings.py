"""What the training loop can be told: the part that a user writes, and all of it, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sklearn.base import BaseEstimator

from mmfusion.training.callbacks import Callback

__all__ = ["Training", "TrainingSettings"]


@dataclass(kw_only=True, eq=False, repr=False)
class Training(BaseEstimator):
    """Rarely used settings of the optimiser: what an estimator takes as ``training=``.

    Parameters
    ----------
    micro_batch_size : int, optional
        Rows that fit in memory at once. Larger batches are trained with their exact gradient in
        two passes. None is the whole batch in one pass.
    weight_decay : float, default=1e-2
        Of AdamW; biases and normalisation layers are spared.
    warmup : float, default=0.1
        Share of the steps over which the learning rate rises linearly, before its cosine decay.
    clip_norm : float or None, default=1.0
        Largest norm of a step's gradient.
    ema : float or None, default=0.98
        Decay a step of an exponential moving average of the weights, which is what is judged and
        kept; less in the first steps, to forget the untrained weights
        (`mmfusion.training.averaging.largest_decay`). None keeps the weights themselves, as a
        `FusionPretrainer` always does: its objectives are judged with them.
    precision : {"32-true", "bf16-mixed"}, default="32-true"
        Of the network. Likelihoods are computed in float64 whatever it is.
    callbacks : sequence of Callback, optional
        See `mmfusion.training.Callback`. They are not saved with a model.

    Examples
    --------
    >>> from mmfusion.estimators import FusionCox
    >>> model = FusionCox(epochs=20, training=Training(weight_decay=0.1))
    >>> model.set_params(training__ema=None).training
    Training(ema=None, weight_decay=0.1)
    """

    micro_batch_size: int | None = None
    weight_decay: float = 1e-2
    warmup: float = 0.1
    clip_norm: float | None = 1.0
    ema: float | None = 0.98
    precision: str = "32-true"
    callbacks: Sequence[Callback] | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """All settings of `mmfusion.training.train`, checked: those of `Training`, and an estimator's.

    Attributes
    ----------
    epochs : int
        Most passes over the training rows.
    batch_size : int or None
        Rows of one step: the statistical batch (the risk set of a Cox model). None is all rows.
    learning_rate : float
        Of AdamW.
    patience : int or None
        Epochs without a better validation loss before training stops. None never stops early.
    modality_dropout : float or mapping of str to float
        Chance that a present modality of a row is hidden in a step, the same for all or a
        modality's own (0 where it has none); one is always left.
    device : str
        "auto", "cpu", "cuda", "cuda:1", "mps".
    verbose : int
        0 silent, 1 a progress bar, 2 a line an epoch.
    refit : bool
        Whether the networks of folds only say how long one network is trained on all rows.
    """

    epochs: int
    batch_size: int | None
    learning_rate: float
    patience: int | None
    modality_dropout: float | Mapping[str, float]
    device: str
    verbose: int
    micro_batch_size: int | None
    weight_decay: float
    warmup: float
    clip_norm: float | None
    ema: float | None
    precision: str
    callbacks: Sequence[Callback]
    refit: bool = False
