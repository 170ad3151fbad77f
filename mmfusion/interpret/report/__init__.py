"""A report of a fitted model: one page to hand over."""

from __future__ import annotations

from mmfusion.interpret.report.report import Report, write_report
from mmfusion.interpret.report.tripod import META

__all__ = ["META", "Report", "write_report"]
