"""The published systems, by name: each function returns a configured estimator, not fitted.

Every docstring names the paper and each deviation from it. What a system leaves to its user is left
here too: which columns belong to which modality, and their preprocessing. Keyword arguments beyond
those named go to the estimator and win over the recipe's.
"""

from mmfusion.recipes.autoencoders import concat_ae, cross_ae
from mmfusion.recipes.pancancer import cheerla_gevaert, multi_surv
from mmfusion.recipes.regression import jean_transfer, law_two_stage
from mmfusion.recipes.survival import cph, deep_conv_surv, deep_corr_surv, deep_surv
from mmfusion.recipes.transfer import ImageFeatures
from mmfusion.recipes.wide import poelsterl_wide_deep, wide_and_deep

__all__ = [
    "ImageFeatures",
    "cheerla_gevaert",
    "concat_ae",
    "cph",
    "cross_ae",
    "deep_conv_surv",
    "deep_corr_surv",
    "deep_surv",
    "jean_transfer",
    "law_two_stage",
    "multi_surv",
    "poelsterl_wide_deep",
    "wide_and_deep",
]
