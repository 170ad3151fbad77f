"""What a fitted model says, shown: attributions, figures, tables of a paper, a report."""

from __future__ import annotations

from mmfusion.interpret.attribution import Attribution, AttributionWarning, attribute
from mmfusion.interpret.tables import PaperTable, effects_table

__all__ = ["Attribution", "AttributionWarning", "PaperTable", "attribute", "effects_table"]
