"""The tables among the modalities as one matrix of numbers, for models that take no more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from mmfusion.modalities import Genes
from mmfusion.modalities.base import Modality, TableData

__all__ = ["TableFeatures"]


class TableFeatures(TransformerMixin, BaseEstimator):
    """Transformer: the tables of a dict of modalities side by side, imputed, scaled, one-hot coded.

    For scikit-learn's models beside the networks, fitted on the same training rows:
    ``make_pipeline(TableFeatures(modalities), RandomForestClassifier())``.

    Parameters
    ----------
    modalities : dict of str to Modality
        As the fusion estimators take it. Images have no columns and are left out.
    n_components : int, default=20
        A `Genes` of more columns that names no ``n_components`` of its own enters as this many
        principal components.

    Attributes
    ----------
    modalities_ : dict of str to Modality
        The fitted tables.
    feature_labels_ : list of str
        Names of the columns, each led by the name of its modality where there are several tables.

    Notes
    -----
    A modality that some training row lacks gets a column 0/1 of its presence; its numbers are 0 in
    the rows that lack it.

    Examples
    --------
    >>> import pandas as pd
    >>> from mmfusion import Genes, Tabular
    >>> from mmfusion.evaluation import TableFeatures
    >>> patients = pd.DataFrame({"sex": ["f", "m", "f"], "g1": [1.0, 2.0, None]})
    >>> features = TableFeatures({"clinic": Tabular(["sex"]), "rna": Genes(["g1"], clip=None)})
    >>> features.fit_transform(patients).round(1)
    array([[ 1.,  0., -1.,  1.],
           [ 0.,  1.,  1.,  1.],
           [ 1.,  0.,  0.,  0.]])
    >>> features.feature_labels_
    ['clinic: sex=f', 'clinic: sex=m', 'rna: g1', 'rna: present']
    """

    def __init__(self, modalities: Mapping[str, Modality], *, n_components: int = 20) -> None:
        self.modalities = modalities
        self.n_components = n_components

    def fit(self, X: pd.DataFrame, y: Any = None) -> Self:
        """Fit each table's preprocessing.

        Parameters
        ----------
        X : DataFrame, shape (n, p)
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If no modality is a table.
        """
        tables = {name: m for name, m in self.modalities.items() if m.kind == "table"}
        if not tables:
            raise ValueError(
                "The modalities parameter of TableFeatures must hold a table (Tabular or Genes). "
                f"Got {list(self.modalities)}."
            )
        self.modalities_ = {name: self._fit_table(table, X) for name, table in tables.items()}
        self._lacking = {}
        self.feature_labels_: list[str] = []
        for name, table in self.modalities_.items():
            self._lacking[name] = not table.present(X).all()
            labels = [*table.feature_labels_, *(["present"] if self._lacking[name] else [])]
            lead = f"{name}: " if len(tables) > 1 else ""
            self.feature_labels_ += [lead + label for label in labels]
        return self

    def _fit_table(self, table: Modality, X: pd.DataFrame) -> Any:
        table = clone(table)
        if "encoding" in table.get_params():
            table.set_params(encoding="onehot")
        fitted: Any = table.fit(X)
        few = self.n_components
        if (
            isinstance(fitted, Genes)
            and fitted.n_components in (None, "auto")
            and fitted.n_numeric_ > few
        ):
            most = min(few, int(fitted.present(X).sum()))
            fitted = fitted.set_params(n_components=most).fit(X)
        return fitted

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns, for ``set_output``.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str
        """
        check_is_fitted(self)
        return np.asarray(self.feature_labels_, dtype=object)

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """Return the numbers of each row.

        Parameters
        ----------
        X : DataFrame, shape (n, p)

        Returns
        -------
        ndarray of float64, shape (n, n_features)
        """
        check_is_fitted(self, "modalities_")
        parts = []
        for name, table in self.modalities_.items():
            data = table.transform(X)
            assert isinstance(data, TableData)
            present = data.present.numpy()
            numbers = data.numeric.double().numpy()
            if self._lacking[name]:
                numbers = np.column_stack([np.where(present[:, None], numbers, 0.0), present])
            parts.append(numbers)
        return np.concatenate(parts, axis=1)
