"""Embedding: vectors that another model computed before."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from mmfusion.inputs.columns import column_positions
from mmfusion.inputs.table import require_frame
from mmfusion.modalities._vectors import read_vectors
from mmfusion.modalities.base import Modality, TableData
from mmfusion.modalities.genes import Genes

__all__ = ["Embedding"]


@dataclass(eq=False, repr=False)
class Embedding(Modality):
    """Vectors that another model computed: of a foundation model for slides, scans, notes, genes.

    A vector a patient stands in one column, as an array in each cell or as the path of a file; or
    number by number in a block of columns. A bag of vectors (the tiles of a slide) is averaged.
    Missing cells (None, NaN, an empty text or an empty bag) are rows without the modality.

    Parameters
    ----------
    column : label, glob pattern, list of those, or callable
        One column of cells, or a block of columns of numbers, as `Genes` takes them.
    root : path, optional
        The folder that relative paths start from; the working directory by default.
    key : str, optional
        The dataset of an ``.h5`` file or the array of an ``.npz`` or ``.pt`` file; by default the
        only one there is.
    scale : bool, default=True
        Subtract the training rows' centre and divide by their spread, number by number.
    clip : float, default=5.0
        Values further than this many spreads from the centre are moved to that distance.
    n_components : int, float, "auto" or None, default="auto"
        See `Genes`.
    encoder : {"mlp", "snn", "raw", "tokens"} or callable, default="mlp"
        The network that reads it. This and the two parameters below are only kept here.
    hidden : tuple of int, default=(64,)
        Widths of the encoder's layers.
    dropout : float, default=0.25
        The encoder's dropout.

    Attributes
    ----------
    columns_ : list
        The columns read.
    width_ : int
        Numbers of a vector.
    block_ : Genes
        Fitted: scaling, clipping and components of the numbers.
    n_numeric_, cardinalities_, feature_labels_
        As of `Genes`.

    Notes
    -----
    Files: ``.npy`` and ``.npz`` without pickles, ``.pt`` and ``.pth`` with ``weights_only=True``,
    ``.h5`` and ``.hdf5`` where h5py is installed; arrays of one dimension are a vector, of two a
    bag with a vector a row.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from mmfusion.modalities import Embedding
    >>> bag = np.array([[3.0, 0.0], [1.0, 0.0]])
    >>> slides = pd.DataFrame({"uni": [np.array([1.0, 2.0]), bag, None]})
    >>> data = Embedding("uni", clip=None).fit(slides).transform(slides)
    >>> data.numeric[:2], data.present
    (tensor([[-1.,  1.],
            [ 1., -1.]]), tensor([ True,  True, False]))
    """

    kind: ClassVar[str] = "table"

    column: Hashable | Sequence[Hashable] | Callable[[pd.DataFrame], Iterable[Hashable]]
    _: KW_ONLY
    root: str | os.PathLike[str] | None = None
    key: str | None = None
    scale: bool = True
    clip: float | None = 5.0
    n_components: int | float | str | None = "auto"
    encoder: Any = "mlp"
    hidden: Sequence[int] = (64,)
    dropout: float = 0.25

    def fit(self, frame: pd.DataFrame) -> Self:
        """Learn centre, spread and components from the training rows.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)

        Returns
        -------
        Embedding

        Raises
        ------
        ValueError
            If a column is not in the table, a cell or file cannot be read or holds another number
            of values than the others (column and row named), or no row has a vector.
        """
        require_frame(frame, "A modality")
        self.in_cells_ = self._is_cells(frame)
        if self.in_cells_:
            self.columns_ = [self.column]
            self.width_ = 0
            vectors = self._read(frame)
            if not vectors.shape[1]:
                raise ValueError(
                    f"Embedding needs a training row with a vector: column {self.column!r} is "
                    f"missing in all of the {len(frame)} rows."
                )
            self.width_ = vectors.shape[1]
        else:
            vectors = frame
        names: Any = list(vectors) if self.in_cells_ else self.column
        self.block_ = Genes(
            names, scale=self.scale, clip=self.clip, n_components=self.n_components
        ).fit(vectors)
        if not self.in_cells_:
            self.columns_ = self.block_.columns_
            self.width_ = len(self.columns_)
        self.n_numeric_ = self.block_.n_numeric_
        self.cardinalities_: list[int] = []
        self.feature_labels_ = self.block_.feature_labels_
        return self

    def transform(self, frame: pd.DataFrame) -> TableData:
        """Return the vectors and the presence mask of the rows.

        Parameters
        ----------
        frame : DataFrame of shape (n_rows, n_columns)

        Returns
        -------
        TableData

        Raises
        ------
        ValueError
            As `fit`; and if vectors are not of the width that `fit` met.
        """
        check_is_fitted(self, "columns_")
        require_frame(frame, "A modality")
        return self.block_.transform(self._read(frame) if self.in_cells_ else frame)

    def standardised(self, frame: pd.DataFrame) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the vectors before components are taken, (n_rows, width), and who has one."""
        check_is_fitted(self, "columns_")
        return self.block_.standardised(self._read(frame) if self.in_cells_ else frame)

    def _is_cells(self, frame: pd.DataFrame) -> bool:
        """Return whether one column holds arrays or paths, and not a number a cell."""
        if not isinstance(self.column, Hashable) or self.column not in frame.columns:
            return False
        position = int(column_positions(frame, [self.column])[0])
        return not pd.api.types.is_numeric_dtype(frame.dtypes.iloc[position])

    def _read(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the vectors of a column of cells as a table of numbers, NaN where missing."""
        position = int(column_positions(frame, self.columns_)[0])
        root = Path() if self.root is None else Path(self.root)
        found = read_vectors(frame.iloc[:, position], root, self.key, self.width_)
        names = [f"{self.column}_{number}" for number in range(found.shape[1])]
        return pd.DataFrame(found, index=frame.index, columns=names)
