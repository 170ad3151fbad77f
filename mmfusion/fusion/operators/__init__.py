"""Joint fusion operators, a family a file; importing them registers their names."""

from mmfusion.fusion.operators.bilinear import Bilinear, GatedBilinear
from mmfusion.fusion.operators.compact import CompactBilinear
from mmfusion.fusion.operators.concat import Concat
from mmfusion.fusion.operators.cross import CoAttention, CrossAttention
from mmfusion.fusion.operators.elementwise import Max, Mean, Product, Sum
from mmfusion.fusion.operators.gates import Gated, LSTMGate
from mmfusion.fusion.operators.low_rank import LowRankBilinear, LowRankTensor
from mmfusion.fusion.operators.similarity import Similarity
from mmfusion.fusion.operators.tensor import TensorProduct
from mmfusion.fusion.operators.transformer import Perceiver, Transformer
from mmfusion.fusion.operators.weighted import Attention, FeatureAttention, Modulation

__all__ = [
    "Attention",
    "Bilinear",
    "CoAttention",
    "CompactBilinear",
    "Concat",
    "CrossAttention",
    "FeatureAttention",
    "Gated",
    "GatedBilinear",
    "LSTMGate",
    "LowRankBilinear",
    "LowRankTensor",
    "Max",
    "Mean",
    "Modulation",
    "Perceiver",
    "Product",
    "Similarity",
    "Sum",
    "TensorProduct",
    "Transformer",
]
