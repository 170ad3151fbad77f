"""The structured part: formulas, exact penalised fits, effects and their inference."""

from __future__ import annotations

from mmfusion.structured._parse import columns_read, without_columns
from mmfusion.structured.bands import BANDS, Bands, band, critical_value, root_of
from mmfusion.structured.blocks import Block, Given
from mmfusion.structured.columns import TermColumns
from mmfusion.structured.components import kernels_of
from mmfusion.structured.contrasts import contrast_table, effects_test
from mmfusion.structured.covariance import robust_covariance
from mmfusion.structured.design import Design, as_design
from mmfusion.structured.double_ml import PartialEffect, partially_linear, partially_logistic
from mmfusion.structured.effects import effects_table, smooth_effect
from mmfusion.structured.errors import CollinearityError, SeparationWarning
from mmfusion.structured.fit import fit_structured
from mmfusion.structured.formula import Formula
from mmfusion.structured.held import fit_identified
from mmfusion.structured.layout import Cells, Layout
from mmfusion.structured.likelihood import Likelihood
from mmfusion.structured.projection import project
from mmfusion.structured.result import StructuredFit
from mmfusion.structured.ridge import RidgeFit, fit_ridge
from mmfusion.structured.rows import Dense, Indicator
from mmfusion.structured.sandwich import FewClusters, small_sample_sandwich
from mmfusion.structured.smoothing_error import smoothing_root
from mmfusion.structured.symmetric import Symmetric

__all__ = [
    "BANDS",
    "Bands",
    "Block",
    "Cells",
    "CollinearityError",
    "Dense",
    "Design",
    "FewClusters",
    "Formula",
    "Given",
    "Indicator",
    "Layout",
    "Likelihood",
    "PartialEffect",
    "RidgeFit",
    "SeparationWarning",
    "StructuredFit",
    "Symmetric",
    "TermColumns",
    "as_design",
    "band",
    "columns_read",
    "contrast_table",
    "critical_value",
    "effects_table",
    "effects_test",
    "fit_identified",
    "fit_ridge",
    "fit_structured",
    "kernels_of",
    "partially_linear",
    "partially_logistic",
    "project",
    "robust_covariance",
    "root_of",
    "small_sample_sandwich",
    "smooth_effect",
    "smoothing_root",
    "without_columns",
]
