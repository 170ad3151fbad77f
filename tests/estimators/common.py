"""Small models and outcomes for the tests of all estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mmfusion.estimators import (
    FusionClassifier,
    FusionCox,
    FusionDiscreteTime,
    FusionPAMM,
    FusionRegressor,
)
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.modalities import Genes, Image, Modality, Tabular
from tests.helpers import make_cohort

__all__ = ["ESTIMATORS", "FUSIONS", "cohort_for", "make_model", "modalities", "predictions"]

ESTIMATORS = {
    "cox": FusionCox,
    "discrete": FusionDiscreteTime,
    "pamm": FusionPAMM,
    "classifier": FusionClassifier,
    "regressor": FusionRegressor,
}

FUSIONS = {
    "concat": JointFusion("concat", dim=6, hidden=(4,)),
    "sum": JointFusion("sum", dim=6, hidden=(4,)),
    "gated": JointFusion("gated", dim=6, hidden=(4,)),
    "early": EarlyFusion(hidden=(6,)),
    "late": LateFusion(dim=6, hidden=(4,)),
}


def modalities(**scan: Any) -> dict[str, Modality]:
    """Return an image, genes and a table with categories; `scan` are parameters of the image."""
    return {
        "scan": Image("image", **{"size": 8, "channels": "L", **scan}),
        "rna": Genes("gene_*", hidden=(6,)),
        "clinic": Tabular(["age", "sex", "stage"], hidden=(6,)),
    }


def make_model(kind: str = "cox", fusion: Any = "concat", **params: Any) -> Any:
    """Return an unfitted estimator that trains for three epochs."""
    given = {
        "modalities": modalities(),
        "fusion": FUSIONS.get(fusion, fusion) if isinstance(fusion, str) else fusion,
        "epochs": 3,
        "batch_size": 16,
        "patience": None,
        "device": "cpu",
        "random_state": 0,
        **params,
    }
    return ESTIMATORS[kind](**given)


def cohort_for(kind: str = "cox", n: int = 40, **options: Any) -> tuple[pd.DataFrame, Any]:
    """Return a cohort with the outcome of an estimator: survival, a class, a number."""
    frame, y = make_cohort(n, image_size=8, **options)
    if kind in ("cox", "discrete", "pamm"):
        return frame, y
    age = frame["age"].to_numpy()
    return frame, np.where(age > 60, "old", "young") if kind == "classifier" else age


def predictions(model: Any, frame: pd.DataFrame, **asked: Any) -> np.ndarray:
    """Return everything the model predicts of the rows, a row a subject; `asked` is passed on."""
    if isinstance(model, FusionCox | FusionDiscreteTime | FusionPAMM):
        curves = model.predict_survival_function(frame, times=[0.2, 0.5, 1.0], **asked)
        return np.column_stack([model.predict(frame, **asked), curves.to_numpy()])
    if isinstance(model, FusionClassifier):
        return np.asarray(model.predict_proba(frame, **asked))
    return np.asarray(model.predict(frame, **asked))[:, None]
