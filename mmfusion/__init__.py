"""Survival analysis and tabular fusion with several modalities, behind a scikit-learn API."""

from mmfusion.modalities import Genes, Image, Points, Tabular
from mmfusion.survival import surv

__version__ = "0.1.0"
__all__ = ["Genes", "Image", "Points", "Tabular", "__version__", "surv"]
