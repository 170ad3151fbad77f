"""Search of parameters with Optuna, and what a search is worth: nested cross-validation."""

from __future__ import annotations

from mmfusion.tuning.nested import Nested, nested_cross_validate
from mmfusion.tuning.search import FusionSearchCV

__all__ = ["FusionSearchCV", "Nested", "nested_cross_validate"]
