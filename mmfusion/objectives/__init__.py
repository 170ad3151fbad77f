"""Auxiliary losses of the modalities' embeddings, beside a likelihood or without an outcome."""

from mmfusion.objectives.base import Objective, ObjectiveModule, Source, check_objectives
from mmfusion.objectives.contrastive import Contrastive
from mmfusion.objectives.correlation import Correlation
from mmfusion.objectives.latent import LatentPrediction
from mmfusion.objectives.reconstruction import Reconstruction
from mmfusion.objectives.similarity import Similarity
from mmfusion.objectives.weighted import WeightedObjectives

__all__ = [
    "Contrastive",
    "Correlation",
    "LatentPrediction",
    "Objective",
    "ObjectiveModule",
    "Reconstruction",
    "Similarity",
    "Source",
    "WeightedObjectives",
    "check_objectives",
]
