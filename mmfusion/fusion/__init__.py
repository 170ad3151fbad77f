"""Fusion: embeddings and who has them in, one representation and predictors out."""

from mmfusion.fusion.base import OPERATORS, FusionOperator, register
from mmfusion.fusion.dropout import drop_modalities
from mmfusion.fusion.network import FusionNetwork
from mmfusion.fusion.operators import Concat, Gated, Sum
from mmfusion.fusion.split import build_network
from mmfusion.fusion.strategy import (
    EarlyFusion,
    JointFusion,
    LateFusion,
    build_operator,
    check_fusion,
    operator_options,
)

__all__ = [
    "OPERATORS",
    "Concat",
    "EarlyFusion",
    "FusionNetwork",
    "FusionOperator",
    "Gated",
    "JointFusion",
    "LateFusion",
    "Sum",
    "build_network",
    "build_operator",
    "check_fusion",
    "drop_modalities",
    "operator_options",
    "register",
]
