"""What a fitted model says, shown: attributions, figures, tables of a paper, a report."""

from mmfusion.interpret.attribution import Attribution, AttributionWarning, attribute

__all__ = ["Attribution", "AttributionWarning", "attribute"]
