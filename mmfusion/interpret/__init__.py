"""What a fitted model says, shown: attributions, figures, tables of a paper, a report."""

from mmfusion.interpret.attribution import Attribution, AttributionWarning, attribute
from mmfusion.interpret.embedding import embed
from mmfusion.interpret.modalities import (
    ModalityShapley,
    ModalityValue,
    modality_importance,
    modality_shapley,
    modality_value,
    variance_shares,
)
from mmfusion.interpret.over_time import AttributionOverTime, attribute_over_time

__all__ = [
    "Attribution",
    "AttributionOverTime",
    "AttributionWarning",
    "ModalityShapley",
    "ModalityValue",
    "attribute",
    "attribute_over_time",
    "embed",
    "modality_importance",
    "modality_shapley",
    "modality_value",
    "variance_shares",
]
