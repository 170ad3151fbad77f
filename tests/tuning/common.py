"""Small cohorts and searches that take milliseconds."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
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


class Fatal(Ridge):
    """A ridge regression that takes its time, and sends its process a signal at some fits.

    Parameters
    ----------
    log : str
        A file that gets a line a fit.
    dies_at : tuple of int
        The numbers of lines at which it does.
    sent : int
        The signal.
    seconds : float
    """

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        fit_intercept: bool = True,
        log: str = "",
        dies_at: Sequence[int] = (),
        sent: int = signal.SIGKILL,
        seconds: float = 0.0,
    ) -> None:
        super().__init__(alpha=alpha, fit_intercept=fit_intercept)
        self.log = log
        self.dies_at = dies_at
        self.sent = sent
        self.seconds = seconds

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: Any = None) -> Fatal:
        time.sleep(self.seconds)
        with open(self.log, "a+") as file:
            file.write(f"{os.getpid()}\n")
            file.flush()
            file.seek(0)
            number = len(file.readlines())
        if number in self.dies_at:
            if self.sent == signal.SIGINT:  # whatever handler other tests left in this process
                raise KeyboardInterrupt
            os.kill(os.getpid(), self.sent)
        return super().fit(X, y, sample_weight)


def fatal_search(folder: Path, **params: Any) -> FusionSearchCV:
    """Return a search that is kept in a folder, over an estimator that may kill its process."""
    own = {name: params.pop(name) for name in ("dies_at", "seconds", "sent") if name in params}
    settings = {"n_trials": 12, "cv": 3, "random_state": 0, "storage": folder / "study", **params}
    return FusionSearchCV(Fatal(log=str(folder / "fits"), **own), SPACE, **settings)


def run(folder: Path, **params: Any) -> None:
    """Be a process that searches."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    fatal_search(folder, **params).fit(*numbers())
