"""Parameters that the estimators of an outcome share, written once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.modalities import Modality
from mmfusion.objectives import Objective

__all__ = ["ModelParameters"]


@dataclass(eq=False, repr=False)
class ModelParameters:
    """What the model is made of; `mmfusion.estimators._docs` says what each field means."""

    modalities: Mapping[str, Modality] | None = None
    fusion: str | JointFusion | EarlyFusion | LateFusion = "concat"
    _: KW_ONLY
    structured: str | Mapping[str, str] | None = None
    linear: bool = True
    n_members: int | str = "auto"
    head: str = "additive"
    orthogonalization: str | None = "post_hoc"
    inference: str = "model"
    id: Any = None
    cluster: Any = None
    auxiliary: Sequence[Objective] | None = None
    pretrained: Any = None
    pretrained_lr_scale: float = 0.1
