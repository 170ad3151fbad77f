"""The scikit-learn face: estimators that compose modalities, encoders, fusion and heads."""

from mmfusion.estimators.classifier import FusionClassifier
from mmfusion.estimators.cox import FusionCox
from mmfusion.estimators.discrete import FusionDiscreteTime
from mmfusion.estimators.distribution import FusionDistribution
from mmfusion.estimators.ensemble import FusionEnsemble, load
from mmfusion.estimators.pamm import FusionPAMM
from mmfusion.estimators.pretrainer import FusionPretrainer
from mmfusion.estimators.regressor import FusionRegressor
from mmfusion.training import Training

__all__ = [
    "FusionClassifier",
    "FusionCox",
    "FusionDiscreteTime",
    "FusionDistribution",
    "FusionEnsemble",
    "FusionPAMM",
    "FusionPretrainer",
    "FusionRegressor",
    "Training",
    "load",
]
