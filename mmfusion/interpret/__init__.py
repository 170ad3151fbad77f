"""What a fitted model says, shown: attributions, figures, tables of a paper, a report."""

from __future__ import annotations

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
from mmfusion.interpret.report import META, Report, write_report
from mmfusion.interpret.tables import PaperTable, effects_table

__all__ = [
    "META",
    "Attribution",
    "AttributionOverTime",
    "AttributionWarning",
    "ModalityShapley",
    "ModalityValue",
    "PaperTable",
    "Report",
    "attribute",
    "attribute_over_time",
    "effects_table",
    "embed",
    "modality_importance",
    "modality_shapley",
    "modality_value",
    "variance_shares",
    "write_report",
]
