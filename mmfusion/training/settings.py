"""What the training loop can be told, checked in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmfusion.training.callbacks import Callback

__all__ = ["TrainingSettings"]


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of `mmfusion.training.train`.

    Attributes
    ----------
    epochs : int
        Most passes over the training rows.
    batch_size : int or None
        Rows of one step: the statistical batch (the risk set of a Cox model). None is all rows.
    micro_batch_size : int or None
        Rows that fit in memory at once. A larger batch is then trained by two passes, with its
        exact gradient. None is the whole batch in one pass.
    learning_rate, weight_decay : float
        Of AdamW. Weight decay spares biases and normalisation layers.
    warmup : float
        Share of all steps over which the learning rate rises linearly, before its cosine decay.
    clip_norm : float or None
        Largest norm of the gradient.
    patience : int or None
        Epochs without a better validation loss before training stops. None never stops early.
    ema : float or None
        Decay of an exponential moving average of the weights, which is what is kept then; in the
        first steps at most that of `mmfusion.training.averaging.largest_decay`.
    modality_dropout : float or mapping of str to float
        Chance that a present modality of a row is hidden in a step, the same for all or a
        modality's own (0 where it has none); one is always left.
    device : str
        "auto", "cpu", "cuda", "cuda:1", "mps".
    precision : {"32-true", "bf16-mixed"}
        Of the network; likelihoods are computed in float64 whatever it is.
    callbacks : sequence of Callback
    verbose : int
        0 silent, 1 a progress bar, 2 a line an epoch.
    """

    epochs: int = 100
    batch_size: int | None = 256
    micro_batch_size: int | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup: float = 0.1
    clip_norm: float | None = 1.0
    patience: int | None = 10
    ema: float | None = None
    modality_dropout: float | Mapping[str, float] = 0.0
    device: str = "auto"
    precision: str = "32-true"
    callbacks: Sequence[Callback] = ()
    verbose: int = 0
