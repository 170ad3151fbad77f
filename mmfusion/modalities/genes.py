"""Genes: a wide block of measurements of one kind."""

from __future__ import annotations

import fnmatch
import re
import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from mmfusion.inputs.columns import (
    column_positions,
    list_labels,
    numeric_matrix,
    refuse_overflow,
)
from mmfusion.inputs.messages import shorten
from mmfusion.inputs.parameters import is_number
from mmfusion.inputs.table import require_frame
from mmfusion.modalities._moments import column_moments
from mmfusion.modalities.base import Modality, TableData

__all__ = ["Genes"]

#: Share of values at each end that do not count in full for centre and spread where values are
#: clipped: z-scores of public gene tables reach several thousand.
_TAIL = 0.01


@dataclass(eq=False, repr=False)
class Genes(Modality):
    """A wide block of measurements of one kind: gene expression, copy numbers, radiomics.

    In this order, all learnt from the training rows that have genes: ``log``; missing genes take
    the median; centre and spread of each gene; the ``top_variance`` genes; ``scale``; clipping at
    ``clip`` spreads from the centre; ``n_components``.

    Parameters
    ----------
    columns : label, glob pattern, list of those, or callable
        The columns to read: a list of names, a pattern such as ``"ENSG*"``, a list of both, or a
        function from the table to the names (such as scikit-learn's ``make_column_selector``).
    log : bool, default=False
        Take log(1 + x) first: for counts and concentrations.
    scale : bool, default=True
        Subtract the centre and divide by the spread.
    clip : float, default=5.0
        Values further than this many spreads from the centre are moved to that distance. Centre
        and spread are then the mean and standard deviation winsorised at the outermost 1 % of the
        training values at each end (Tukey, 1962), so that single extreme values do not shrink all
        others; for a gene with one value in all but those ends (a rare mutation) the plain ones.
        ``None``: no clipping, plain mean and standard deviation.
    top_variance : int or float, optional
        Keep the genes of largest spread: that many, or that share in (0, 1].
    n_components : int, float, "auto" or None, default="auto"
        Principal components instead of genes: that many, or as many as explain that share in
        (0, 1) of the variance. The largest loading of each is positive; all are divided by the
        standard deviation of the first, so their relative size is kept (not whitened). "auto":
        the linear part sees all genes, networks beside it the leading components where the rows
        cannot carry more (a tenth of the events, 8 to 64). None: all genes, everywhere.
    encoder : {"mlp", "snn", "raw", "tokens"} or callable, default="snn"
        The network that reads it; "tokens" makes a token of each column, for attention. This and
        the two parameters below are only kept here.
    hidden : tuple of int, default=(64,)
        Widths of the encoder's layers.
    dropout : float, default=0.25
        The encoder's dropout.

    Attributes
    ----------
    columns_ : list
        The genes read after selection.
    median_, mean_, scale_ : ndarray of float64, shape (n_genes,)
        Of each gene read, after the logarithm.
    pca_ : sklearn.decomposition.PCA or None
    component_scale_ : float
        Standard deviation of the first component; 1 without components.
    n_numeric_ : int
        Width of the tensor.
    cardinalities_ : list
        Empty: genes have no categories.
    feature_labels_ : list of str
        Names of the tensor's columns.

    Notes
    -----
    A row is present unless all genes in ``columns_`` are missing. Genes with one value or none in
    the training rows are left out with a warning.

    Examples
    --------
    >>> import pandas as pd
    >>> from mmfusion.modalities import Genes
    >>> patients = pd.DataFrame(
    ...     {"ENSG1": [0, 1, 3, 7], "ENSG2": [3, 3, 0, 0], "age": [50, 60, 70, 80]}
    ... )
    >>> genes = Genes("ENSG*", log=True, clip=None).fit(patients)
    >>> genes.columns_
    ['ENSG1', 'ENSG2']
    >>> genes.transform(patients).numeric
    tensor([[-1.3416,  1.0000],
            [-0.4472,  1.0000],
            [ 0.4472, -1.0000],
            [ 1.3416, -1.0000]])
    """

    kind: ClassVar[str] = "table"

    columns: Hashable | Sequence[Hashable] | Callable[[pd.DataFrame], Iterable[Hashable]]
    _: KW_ONLY
    log: bool = False
    scale: bool = True
    clip: float | None = 5.0
    top_variance: int | float | None = None
    n_components: int | float | str | None = "auto"
    encoder: Any = "snn"
    hidden: Sequence[int] = (64,)
    dropout: float = 0.25

    def fit(self, frame: pd.DataFrame) -> Self:
        """Learn centre, spread, selection and components from the training rows.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)

        Returns
        -------
        Genes

        Raises
        ------
        ValueError
            If a column or pattern is not in the table, a cell is infinite or (with ``log``)
            negative, no gene varies, or a parameter is out of range.
        """
        require_frame(frame, "A modality")
        self._check_parameters()
        labels = self._resolve(frame)
        values = self._read(frame, labels)
        moments = column_moments(values, tail=0.0 if self.clip is None else _TAIL)
        # A spread that float32 does not hold divides nothing.
        constant = moments.constant | (moments.sd < np.finfo(np.float32).tiny)
        varies = np.flatnonzero(~constant)
        if not len(varies):
            raise ValueError(
                "Genes needs a column with two values in the training rows. "
                f"Got one value or none in each of {shorten(labels)} ({len(frame)} rows)."
            )
        if len(varies) < len(labels):
            flat = [labels[i] for i in np.flatnonzero(constant)]
            warnings.warn(
                f"Genes leaves out {len(flat)} of {len(labels)} columns with one value or none in "
                f"the training rows: {shorten(flat)}.",
                stacklevel=2,
            )
        keep = self._select(moments.sd, varies)
        self.columns_ = [labels[i] for i in keep]
        self.median_, self.mean_, self.scale_ = (
            statistic[keep] for statistic in (moments.median, moments.mean, moments.sd)
        )
        self.cardinalities_: list[int] = []
        self.pca_: Any = None
        self.component_scale_ = 1.0
        self.feature_labels_ = [str(label) for label in self.columns_]
        if self.n_components not in (None, "auto"):
            if len(keep) < len(labels):
                values = values[:, keep]
            present = self._standardise(values, frame.index)
            self._fit_components(values if present.all() else values[present])
        self.n_numeric_ = len(self.feature_labels_)
        return self

    def transform(self, frame: pd.DataFrame) -> TableData:
        """Return the genes or components and the presence mask of the rows.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)
            With the genes in ``columns_``, in any order; other columns are not read.

        Returns
        -------
        TableData

        Raises
        ------
        ValueError
            If a gene is missing from the table or not numeric, or a cell is infinite or (with
            ``log``) negative.
        """
        values, present = self.standardised(frame)
        if self.pca_ is not None:
            # PCA.transform refuses a table without rows.
            centred = values - self.pca_.mean_.astype(np.float32)
            loadings = self.pca_.components_ / self.component_scale_
            with np.errstate(over="ignore", invalid="ignore"):  # found and named below
                values = centred @ loadings.T.astype(np.float32)
            refuse_overflow(values, self.feature_labels_, frame.index, "Genes: ")
        return TableData(
            torch.from_numpy(values),
            torch.zeros((len(frame), 0), dtype=torch.int64),
            torch.from_numpy(present),
        )

    def standardised(self, frame: pd.DataFrame) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the genes before components are taken, (n_rows, n_genes), and who has any."""
        check_is_fitted(self, "columns_")
        require_frame(frame, "A modality")
        values = self._read(frame, self.columns_)
        return values, self._standardise(values, frame.index)

    def _check_parameters(self) -> None:
        _check_positive("clip", self.clip, whole=False)
        _check_positive("top_variance", self.top_variance, whole=True)
        if not (isinstance(self.n_components, str) and self.n_components == "auto"):
            _check_positive("n_components", self.n_components, whole=True, below=1)

    def _resolve(self, frame: pd.DataFrame) -> list[Hashable]:
        """Return the columns that the parameter means in this table."""
        if callable(self.columns):
            chosen = self.columns(frame)
            if isinstance(chosen, str | bool) or not isinstance(chosen, Iterable):
                raise ValueError(
                    "The columns parameter of Genes, as a function, must take the table and return "
                    f"the names of columns. Got {chosen!r}."
                )
            labels = list_labels(chosen, "Genes")
        else:
            labels = []
            known = set(frame.columns)
            for entry in list_labels(self.columns, "Genes"):
                if isinstance(entry, str) and entry not in known and re.search(r"[*?\[]", entry):
                    labels += _matching(frame, entry)
                else:
                    labels.append(entry)
            labels = list(dict.fromkeys(labels))  # two patterns may meet
        column_positions(frame, labels)
        return labels

    def _read(self, frame: pd.DataFrame, labels: Sequence[Hashable]) -> NDArray[np.float32]:
        values = numeric_matrix(frame, labels, np.float32)
        if self.log:
            if values.size and np.fmin.reduce(values, axis=None) < 0:
                row, place = np.argwhere(values < 0)[0]
                raise ValueError(
                    f"Genes(log=True) needs values of at least 0. Got {values[row, place]:g} in "
                    f"column {labels[place]!r}, row {shorten(frame.index[[row]])}."
                )
            np.log1p(values, out=values)
        return values

    def _select(self, sd: NDArray[np.float64], varies: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the positions of the genes to keep, in their order."""
        if self.top_variance is None:
            return varies
        number = self.top_variance
        if not isinstance(number, Integral):
            number = max(1, round(number * len(varies)))
        largest = np.argsort(-sd[varies], kind="stable")[: int(number)]
        return np.sort(varies[largest])

    def _standardise(self, values: NDArray[np.float32], index: pd.Index) -> NDArray[np.bool_]:
        """Impute, clip and scale in place; return which rows have a gene."""
        missing = np.isnan(values)
        present = np.asarray(~missing.all(axis=1))
        np.copyto(values, self.median_.astype(np.float32), where=missing)
        del missing
        if self.scale:
            with np.errstate(over="ignore"):  # found and named below
                values -= self.mean_.astype(np.float32)
                values /= self.scale_.astype(np.float32)
            refuse_overflow(values, self.columns_, index, "Genes: scaled, ")
        if self.clip is not None:
            middle = 0.0 if self.scale else self.mean_
            reach = self.clip * (np.ones_like(self.scale_) if self.scale else self.scale_)
            low, high = middle - reach, middle + reach
            np.clip(values, low.astype(np.float32), high.astype(np.float32), out=values)
        return present

    def _fit_components(self, values: NDArray[np.float32]) -> None:
        from sklearn.decomposition import PCA  # slow to import, and few need it

        n_components, most = self.n_components, min(values.shape)
        if isinstance(n_components, Integral) and n_components > most:
            raise ValueError(
                f"The n_components parameter of Genes must be at most {most}, the smaller of the "
                f"training rows with genes ({values.shape[0]}) and the genes read "
                f"({values.shape[1]}). Got {n_components}."
            )
        exact = most <= 1000 or not isinstance(n_components, Integral)
        pca = PCA(n_components, svd_solver="full" if exact else "randomized", random_state=0)
        # PCA makes the largest loading of each component positive.
        self.pca_ = pca.fit(values)
        self.component_scale_ = float(np.sqrt(pca.explained_variance_[0]))
        self.feature_labels_ = [f"component {i + 1}" for i in range(pca.n_components_)]


def _check_positive(parameter: str, value: Any, *, whole: bool, below: float = np.inf) -> None:
    """Raise ValueError unless a parameter is None, positive, and of its kind.

    With `whole` it is a number of columns or a share of them, at most 1 and under `below`.
    """
    if value is None:
        return
    good = is_number(value) and float(value) > 0
    if good and whole and not isinstance(value, Integral):
        good = float(value) <= 1 and float(value) < below
    if not good:
        share = "(0, 1)" if below <= 1 else "(0, 1]"
        allowed = (
            f"an integer of at least 1 or a share in {share}" if whole else "a positive number"
        )
        raise ValueError(
            f"The {parameter} parameter of Genes must be {allowed} or None. Got {value!r}."
        )


def _matching(frame: pd.DataFrame, pattern: str) -> list[Hashable]:
    match = re.compile(fnmatch.translate(pattern)).match
    labels: list[Hashable] = [c for c in frame.columns if isinstance(c, str) and match(c)]
    if not labels:
        raise ValueError(
            f"The columns parameter of Genes: pattern {pattern!r} matches no column. "
            f"The table has {shorten(frame.columns)}."
        )
    return labels
