"""Small cohorts and searches that take milliseconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from optuna.distributions import FloatDistribution
from sklearn.linear_model import Ridge

from mmfusion import Genes, Tabular
from mmfusion.estimators import FusionCox
from mmfusion.survival import surv
from mmfusion.tuning import FusionSearchCV

SPACE = {"alpha": FloatDistribution(1e-3, 1e3, log=True), "fit_intercept": [True, False]}


def numbers(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return a table and an outcome for which a ridge penalty near 10 is best."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 20))
    return X, X[:, :3].sum(1) + 3 * rng.normal(size=n)


def cohort(n: int = 120, *, noise: bool = False) -> tuple[pd.DataFrame, np.ndarray]:
    """Return patients with a clinical table and genes, and their survival."""
    rng = np.random.default_rng(1)
    table = {"age": rng.normal(size=n), "site": rng.integers(0, 4, n).astype(str)}
    X = pd.DataFrame(table | {f"gene_{i}": rng.normal(size=n) for i in range(8)})
    eta = 0.0 if noise else X["age"] + X["gene_0"]
    time = rng.exponential(np.exp(-eta), size=n)
    censored = rng.exponential(2.0, size=n)
    return X, surv(np.minimum(time, censored), time <= censored)


def cox(**params: Any) -> FusionCox:
    """Return a small network that is trained in an instant."""
    modalities = {"clinical": Tabular(["age"]), "genes": Genes("gene_*")}
    return FusionCox(modalities, **{"n_members": 1, "epochs": 3, **params})


def ridge_search(**params: Any) -> FusionSearchCV:
    """Return a search over a ridge regression."""
    settings = {"n_trials": 12, "cv": 3, "random_state": 0, **params}
    return FusionSearchCV(Ridge(), settings.pop("space", SPACE), **settings)
