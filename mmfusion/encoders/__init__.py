"""Encoders: one modality's tensors in, an embedding out."""

from mmfusion.encoders.base import Encoder, TokenEncoder
from mmfusion.encoders.build import (
    TABLE_ENCODERS,
    build_encoder,
    build_reduced_encoder,
    check_layers,
    has_own_width,
    tames,
)
from mmfusion.encoders.cnn import SmallCNN
from mmfusion.encoders.components import ComponentsEncoder
from mmfusion.encoders.mlp import MLPEncoder, ModuleTableEncoder, SNNEncoder, TableEncoder
from mmfusion.encoders.pointnet import PointNet
from mmfusion.encoders.points import PointsEncoder
from mmfusion.encoders.reduced import ReducedEncoder
from mmfusion.encoders.table_tokens import TableTokenEncoder
from mmfusion.encoders.vision import VisionEncoder
from mmfusion.encoders.vision_tokens import VisionTokenEncoder

__all__ = [
    "TABLE_ENCODERS",
    "ComponentsEncoder",
    "Encoder",
    "MLPEncoder",
    "ModuleTableEncoder",
    "PointNet",
    "PointsEncoder",
    "ReducedEncoder",
    "SNNEncoder",
    "SmallCNN",
    "TableEncoder",
    "TableTokenEncoder",
    "TokenEncoder",
    "VisionEncoder",
    "VisionTokenEncoder",
    "build_encoder",
    "build_reduced_encoder",
    "check_layers",
    "has_own_width",
    "tames",
]
