"""Modalities: what they are in a table, and how they become tensors with a presence mask."""

from mmfusion.modalities._decoding import clear_image_cache, set_image_cache_limit
from mmfusion.modalities.base import ImageData, Modality, ModalityData, MultimodalData, TableData
from mmfusion.modalities.embedding import Embedding
from mmfusion.modalities.genes import Genes
from mmfusion.modalities.image import Image
from mmfusion.modalities.infer import infer_modalities
from mmfusion.modalities.points import Points, PointsData
from mmfusion.modalities.tabular import Tabular

__all__ = [
    "Embedding",
    "Genes",
    "Image",
    "ImageData",
    "Modality",
    "ModalityData",
    "MultimodalData",
    "Points",
    "PointsData",
    "TableData",
    "Tabular",
    "clear_image_cache",
    "infer_modalities",
    "set_image_cache_limit",
]
