"""Where attributions start, and what they are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from mmfusion.interpret._inputs import Inputs, Tensors

__all__ = ["FORMULA", "Baseline", "check_model", "names_of"]

#: What the columns of a formula are called among the modalities.
FORMULA = "(formula)"


def check_model(estimator: Any) -> None:
    """Raise where there is no single fitted model to look into."""
    check_is_fitted(estimator)
    if not hasattr(estimator, "model_"):
        members = ": look at each of its estimators_" if hasattr(estimator, "estimators_") else ""
        raise TypeError(
            "The model parameter must be a fitted estimator of mmfusion.estimators that is one "
            f"model. Got {type(estimator).__name__}{members}."
        )


def names_of(estimator: Any) -> list[str]:
    """Return the modalities of a fitted estimator, and `FORMULA` where a formula reads columns."""
    check_model(estimator)
    formula = [FORMULA] if len(estimator.model_.structured.columns) else []
    return [*estimator.modalities_, *formula]


@dataclass(eq=False)
class Baseline:
    """Where attributions start.

    Attributes
    ----------
    kind : {"blur", "mean", "zero"}
    inputs : mapping of str to Inputs, or None
        Of the rows that were given as baselines.
    table : DataFrame or None
        These rows.
    number : int
        Which of them it is.
    """

    kind: str = "blur"
    inputs: Mapping[str, Inputs] | None = None
    table: pd.DataFrame | None = None
    number: int = 0

    def of(self, name: str, inputs: Inputs, rows: Tensor) -> Tensors:
        """Return the baseline of some rows of a modality."""
        if self.inputs is not None and self.inputs[name].present[self.number]:
            return inputs.like(rows, self.inputs[name], self.number)
        return inputs.start(rows, self.kind)

    def cells(self, structured: Any) -> dict[str, Any]:
        """Return a cell for each column of the formula."""
        if self.table is not None:
            return {name: self.table[name].iloc[self.number] for name in structured.columns}
        typical = getattr(structured, "typical", {})
        missing = [name for name in structured.columns if name not in typical]
        if missing:
            raise ValueError(
                f"The model was saved without the training means of the columns {missing} of its "
                "formula: give baseline= a table of rows."
            )
        cells = {name: typical[name] for name in structured.columns}
        if self.kind == "zero":
            cells = {k: 0.0 if isinstance(v, float) else v for k, v in cells.items()}
        return cells
