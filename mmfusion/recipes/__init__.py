"""The published systems, by name: each function returns a configured estimator, not fitted.

Every docstring names the paper and each deviation from it. What a system leaves to its user is left
here too: which columns belong to which modality, and their preprocessing. Keyword arguments beyond
those named go to the estimator and win over the recipe's.

Common to all that are trained, and a deviation from each paper: AdamW with clipped gradients, a
linear warm-up and a cosine (one schedule over both steps of a system of two); a moving average of
the weights; early stopping on a sixth or so of the rows, which are then not trained on; SiLU for
other activations. Beside a formula only that share of the network is kept that validation rows
support. Where embeddings are averaged, or their largest taken, each has a linear layer first if a
table's encoder has a width of its own (``"raw"``, a function). The loss of a system with auxiliary
losses is a sum of means, over subjects or pairs.
"""

from mmfusion.recipes.autoencoders import concat_ae, cross_ae
from mmfusion.recipes.distribution import aft, sadr, ssddr
from mmfusion.recipes.pamm import deep_pamm
from mmfusion.recipes.pancancer import cheerla_gevaert, multi_surv
from mmfusion.recipes.regression import jean_transfer, law_two_stage
from mmfusion.recipes.survival import cph, deep_conv_surv, deep_corr_surv, deep_surv
from mmfusion.recipes.transfer import ImageFeatures
from mmfusion.recipes.wide import poelsterl_wide_deep, wide_and_deep

__all__ = [
    "ImageFeatures",
    "aft",
    "cheerla_gevaert",
    "concat_ae",
    "cph",
    "cross_ae",
    "deep_conv_surv",
    "deep_corr_surv",
    "deep_pamm",
    "deep_surv",
    "jean_transfer",
    "law_two_stage",
    "multi_surv",
    "poelsterl_wide_deep",
    "sadr",
    "ssddr",
    "wide_and_deep",
]
