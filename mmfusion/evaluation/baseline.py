"""The classical model to compare with: a ridge Cox regression on a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from mmfusion.evaluation.features import TableFeatures
from mmfusion.inputs.labels import check_order
from mmfusion.inputs.rounding import is_constant
from mmfusion.inputs.times import as_times
from mmfusion.modalities import Tabular
from mmfusion.modalities.base import Modality, TableData
from mmfusion.survival import check_survival
from mmfusion.survival.outcome import snap

__all__ = ["CoxRidge"]


class CoxRidge(BaseEstimator):
    """Ridge Cox regression on a table, fitted by lifelines: no network, no early stopping.

    The yardstick of the multimodal models: imputation, scaling and one-hot coding are those of
    `Tabular` or `Genes`, the estimate is Newton's on Efron's partial likelihood with a ridge
    penalty.

    Parameters
    ----------
    modality : Tabular, Genes or dict of them by name, optional
        Which columns to read and how; by default every column, ``Tabular(encoding="onehot")``.
        Several are put side by side by `TableFeatures`.
    penalizer : float, default=0.01
        Of lifelines: ``penalizer / 2 * sum(beta ** 2)`` is added to the negative log partial
        likelihood a row, with columns of unit standard deviation.

    Attributes
    ----------
    modality_ : Tabular, Genes or TableFeatures
        Fitted.
    coef_ : Series
        Log hazard ratio of each column that varies in the training rows: of a standard deviation
        where the modality scales numbers, of a category against none where it codes them.

    Notes
    -----
    Delayed entry is taken into account in the coefficients, but not in lifelines' baseline hazard:
    `predict_survival_function` refuses it.

    Examples
    --------
    >>> from mmfusion import Tabular
    >>> from mmfusion.datasets import load_metabric
    >>> from mmfusion.evaluation import CoxRidge
    >>> metabric = load_metabric()
    >>> model = CoxRidge(Tabular(["age", "chemotherapy"])).fit(metabric.frame, metabric.target)
    >>> model.coef_.round(2)
    age             0.58
    chemotherapy    0.32
    dtype: float64
    """

    def __init__(
        self,
        modality: Modality | Mapping[str, Modality] | None = None,
        *,
        penalizer: float = 0.01,
    ) -> None:
        self.modality = modality
        self.penalizer = penalizer

    def fit(self, X: pd.DataFrame, y: Any) -> Self:
        """Fit preprocessing and coefficients.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        y : outcome, n rows

        Returns
        -------
        self

        Raises
        ------
        ValueError
            As `Tabular.fit` and `check_survival`; no column varies; the modality keeps category
            codes (``encoding="embedding"``).
        """
        from lifelines import CoxPHFitter  # slow to import

        check_order(X=X, y=y)
        outcome = check_survival(y, index=X.index, n_rows=len(X))
        modality: Any = self.modality
        if isinstance(modality, Mapping):
            modality = TableFeatures(modality)
        elif modality is None:
            modality = Tabular(encoding="onehot")
        self.modality_ = clone(modality).fit(X)
        numbers = self._numbers(X)
        # A column that is constant in one training fold makes Newton's matrix singular.
        self._varying = np.flatnonzero(~is_constant(numbers, np.float32))
        if not len(self._varying):
            raise ValueError("CoxRidge needs a column that varies in the training rows. Got none.")
        frame = self._frame(numbers).assign(time=outcome.time, event=outcome.event)
        self._delayed = outcome.delayed
        if self._delayed:
            # Before the first exit nobody is lost: any earlier entry says the same.
            frame["entry"] = np.maximum(outcome.entry, min(0.0, outcome.time.min() - 1.0))
        self._fitter = CoxPHFitter(penalizer=self.penalizer).fit(
            frame, "time", "event", entry_col="entry" if self._delayed else None
        )
        labels = getattr(self.modality_, "feature_labels_", None)
        names = [labels[i] for i in self._varying] if labels else self._varying
        self.coef_ = pd.Series(self._fitter.params_.to_numpy(), index=pd.Index(names))
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Return the log hazard ratio of each row, centred at the training mean.

        Parameters
        ----------
        X : DataFrame, shape (n, p)

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        check_is_fitted(self, "coef_")
        return self._fitter.predict_log_partial_hazard(self._frame(self._numbers(X))).to_numpy()

    def predict_survival_function(
        self, X: pd.DataFrame, times: Sequence[float] | np.ndarray | None = None
    ) -> pd.DataFrame:
        """Return the survival probability of each row at each time (Breslow's baseline).

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        times : array-like, shape (m,), optional
            By default the distinct times of the training rows.

        Returns
        -------
        DataFrame, shape (n, m)

        Raises
        ------
        ValueError
            If the model was fitted with delayed entry.
        """
        check_is_fitted(self, "coef_")
        if self._delayed:
            raise ValueError(
                "CoxRidge has no survival curves after a fit with delayed entry: lifelines leaves "
                "the entry out of the baseline hazard. Use FusionCox."
            )
        baseline = self._fitter.baseline_cumulative_hazard_.iloc[:, 0]
        times = baseline.index if times is None else times
        grid, known = as_times("times", times), baseline.index.to_numpy()
        steps = np.concatenate([[0.0], baseline.to_numpy()])
        hazard = steps[np.searchsorted(known, snap(grid, known), side="right")]
        curves = np.exp(-np.exp(self.predict(X))[:, None] * hazard)
        return pd.DataFrame(curves, index=X.index, columns=pd.Index(grid, name="time"))

    def _numbers(self, X: pd.DataFrame) -> np.ndarray:
        data = self.modality_.transform(X)
        if isinstance(data, np.ndarray):
            return data
        if not isinstance(data, TableData) or data.categories.shape[1]:
            raise ValueError(
                "The modality parameter of CoxRidge must yield numbers only: a Genes, or a Tabular "
                f"with encoding='onehot' where there are categories. Got {self.modality!r}."
            )
        return data.numeric.double().numpy()

    def _frame(self, numbers: np.ndarray) -> pd.DataFrame:
        columns = [f"x{i}" for i in self._varying]
        return pd.DataFrame(numbers[:, self._varying], columns=columns)
