"""What a fitted model says, shown: attributions, figures, tables of a paper, a report."""

from __future__ import annotations

from mmfusion.interpret.attribution import Attribution, AttributionWarning, attribute
from mmfusion.interpret.report import META, Report, write_report
from mmfusion.interpret.tables import PaperTable, effects_table

__all__ = [
    "META",
    "Attribution",
    "AttributionWarning",
    "PaperTable",
    "Report",
    "attribute",
    "effects_table",
    "write_report",
]
