"""What a fitted model says, shown: figures, tables of a paper, a report to hand over."""

from __future__ import annotations

from mmfusion.interpret.report import META, Report, write_report
from mmfusion.interpret.tables import PaperTable, effects_table

__all__ = ["META", "PaperTable", "Report", "effects_table", "write_report"]
