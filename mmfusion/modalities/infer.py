"""Modalities read off a table when the user names none."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image as PILImage

from mmfusion.inputs.messages import shorten
from mmfusion.inputs.table import require_frame
from mmfusion.modalities.base import Modality
from mmfusion.modalities.embedding import Embedding
from mmfusion.modalities.genes import Genes
from mmfusion.modalities.image import Image
from mmfusion.modalities.points import Points
from mmfusion.modalities.tabular import Tabular

__all__ = ["infer_modalities"]

_SUFFIXES = (
    ".bmp",
    ".gif",
    ".jp2",
    ".jpeg",
    ".jpg",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)
#: Files of arrays.
_VECTORS = (".npy", ".npz", ".pt", ".pth", ".h5", ".hdf5")
_GENE = re.compile(
    r"(ENS[A-Z]*G\d+|cg\d{6,}|hsa-|genes?[_.]).*|.+_(rnaseq|rna|mrna|mirna|cnv|cna|mut|meth|rppa)",
    re.IGNORECASE,
)
#: So many gene-like columns make a modality, and more numeric ones than this whatever their names.
_MIN_GENES = 20
_WIDE = 200
#: Names of columns that stand beside a block of measurements.
_CLINICAL = re.compile(
    r"(.*[_. ])?(age|sex|gender|bmi|weight|height|stage|grade|dose|treatment|arm|smok\w*|nodes?|"
    r"sbp|dbp|pulse|creatinine|albumin|ha?emoglobin|ldh|crp|psa|ecog|karnofsky|diabetes)([_. ].*)?",
    re.IGNORECASE,
)
#: So many distinct numbers are levels of a category.
_FEW = 10
#: Cells looked at to see whether a column holds images; so many distinct texts make an identifier.
_PEEK = 100
_MIN_IDS = 10


def infer_modalities(frame: pd.DataFrame) -> dict[str, Modality]:
    """Return the modalities that the columns of a table look like.

    In this order:

    1. A column whose cells (the first 100 that are not missing) are all arrays or tensors of one
       dimension, or paths of ``.npy``, ``.npz``, ``.pt`` or ``.h5`` files, is one `Embedding`,
       named like the column. Of the others, one whose cells are all arrays or tensors of
       floats of shape (k, 3) that cannot be images, since some number lies outside [0, 1], is one
       `Points`, named like the column. Of the others, one whose cells are mostly PIL images, arrays
       or tensors of at least two dimensions, paths that end like an image file's, or lists of
       these, is one `Image`, named like the column.
    2. At least 20 numeric columns named like molecular measurements (``ENSG00000141510``,
       ``cg00000029``, ``hsa-mir-21``, ``gene_TP53``, ``TP53_rnaseq``, ``_rna``, ``_mrna``,
       ``_mirna``, ``_cnv``, ``_cna``, ``_mut``, ``_meth``, ``_rppa``) are one `Genes`, "genes".
    3. More than 200 other numeric columns are one `Genes`, named "wide", but for those that look
       clinical: they are called age, sex, stage and the like; or unlike the others, where most
       share one pattern (``f0``, ``f1``, ...); or hold whole numbers or at most 10 distinct ones,
       where most do not. A warning says what became of which.
    4. A text column of at least 10 values, all different, is an identifier: left out with a
       warning.
    5. All other columns are one `Tabular`, named "table".

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)

    Returns
    -------
    dict of str to Modality
        Not fitted; "table" first, then "genes", "wide" and the images and point clouds in the order
        of their columns, as far as there are any.

    Raises
    ------
    ValueError
        If no column is left for any modality.

    Examples
    --------
    >>> import pandas as pd
    >>> from mmfusion.modalities import infer_modalities
    >>> patients = pd.DataFrame({"age": [61, 70], "sex": ["f", "m"], "ct": ["a.png", None]})
    >>> infer_modalities(patients)
    {'table': Tabular(columns=['age', 'sex']), 'ct': Image(column='ct')}
    """
    require_frame(frame, "A modality")
    others: dict[Hashable, tuple[str, Modality]] = {}
    genes: list[Hashable] = []
    numbers: list[Hashable] = []
    identifiers: list[Hashable] = []
    table: list[Hashable] = []
    for position, (label, dtype) in enumerate(zip(frame.columns, frame.dtypes, strict=True)):
        if pd.api.types.is_numeric_dtype(dtype):
            (genes if _GENE.fullmatch(str(label)) else numbers).append(label)
            continue
        column = frame.iloc[:, position]
        if _holds_vectors(column):
            others[label] = "embedding", Embedding(label)
        elif _holds_points(column):
            others[label] = "points", Points(label)
        elif _holds_images(column):
            others[label] = "image", Image(label)
        elif _identifies(column):
            identifiers.append(label)
        else:
            table.append(label)
    if len(genes) < _MIN_GENES:
        numbers, genes = numbers + genes, []
    wide: list[Hashable] = []
    if len(numbers) > _WIDE:
        clinical = _clinical(frame, numbers)
        wide = [label for label in numbers if label not in clinical]
        numbers = [label for label in numbers if label in clinical]
    in_table = {*table, *numbers}
    if identifiers:
        warnings.warn(
            "Columns of text that differs in every row look like identifiers and are left out: "
            f"{shorten(identifiers)}. Name them in a modality to use them.",
            stacklevel=2,
        )
    if wide:
        rest = f"{shorten(numbers)} stay in the table" if numbers else "none stays in the table"
        warnings.warn(
            f"The table has more than {_WIDE} numeric columns: {len(wide)} ({shorten(wide, 3)}) "
            f"are taken for a Genes modality, 'wide'; {rest}. Name them in modalities= to choose.",
            stacklevel=2,
        )
    modalities: dict[str, Modality] = {}
    if in_table:
        modalities["table"] = Tabular([label for label in frame.columns if label in in_table])
    if genes:
        modalities["genes"] = Genes(genes)
    if wide:
        modalities["wide"] = Genes(wide)
    for own, (kind, modality) in others.items():
        name = str(own)
        modalities[f"{name} {kind}" if name in modalities else name] = modality
    if not modalities:
        raise ValueError(
            "No column of the table can be a modality: it has "
            f"{shorten(frame.columns) or 'no columns'}. Name them with modalities=."
        )
    return modalities


def _holds_vectors(column: pd.Series) -> bool:
    cells = list(column.dropna().iloc[:_PEEK])
    return bool(cells) and all(map(_is_vector, cells))


def _is_vector(cell: Any) -> bool:
    if isinstance(cell, str | os.PathLike):
        return Path(cell).suffix.lower() in _VECTORS
    if isinstance(cell, torch.Tensor):
        return cell.ndim == 1 and cell.numel() > 1
    return isinstance(cell, np.ndarray) and cell.ndim == 1 and cell.dtype.kind in "fiu"


def _clinical(frame: pd.DataFrame, numbers: list[Hashable]) -> set[Hashable]:
    """Return the numeric columns among many that are none of a block of measurements."""
    found = {label for label in numbers if _CLINICAL.fullmatch(str(label))}
    patterns = [re.sub(r"\d+", "0", str(label)) for label in numbers]
    pattern, count = Counter(patterns).most_common(1)[0]
    if count > len(numbers) / 2:
        marked = [own != pattern for own in patterns]
    else:
        values = np.sort(frame[numbers].to_numpy(dtype=np.float64, na_value=np.nan), axis=0)
        few = (np.diff(values, axis=0) > 0).sum(axis=0) < _FEW
        with np.errstate(invalid="ignore"):  # of infinite cells
            whole = np.nansum(values % 1, axis=0) == 0
        kinds = [kind for kind in (few, whole) if kind.mean() < 0.5]
        marked = np.any([np.zeros(len(numbers), dtype=bool), *kinds], axis=0).tolist()
    own = {label for label, is_marked in zip(numbers, marked, strict=True) if is_marked}
    most = min(_WIDE, len(numbers) // 2)
    return set().union(*(some for some in (found, own) if len(some) <= most))


def _holds_points(column: pd.Series) -> bool:
    cells = list(column.dropna().iloc[:_PEEK])
    return all(map(_is_cloud, cells)) and any(
        bool(((cell < 0) | (cell > 1)).any()) for cell in cells
    )


def _is_cloud(cell: Any) -> bool:
    if isinstance(cell, torch.Tensor):
        floats = cell.is_floating_point()
    else:
        floats = isinstance(cell, np.ndarray) and cell.dtype.kind == "f"
    return floats and cell.ndim == 2 and cell.shape[1] == 3


def _holds_images(column: pd.Series) -> bool:
    cells = [cell for cell in column.dropna().iloc[:_PEEK] if not _is_empty_bag(cell)]
    return sum(map(_is_image, cells)) > len(cells) / 2


def _is_empty_bag(cell: Any) -> bool:
    return isinstance(cell, list | tuple) and not cell


def _is_image(cell: Any) -> bool:
    if isinstance(cell, str | os.PathLike):
        return Path(cell).suffix.lower() in _SUFFIXES
    if isinstance(cell, list | tuple) or (isinstance(cell, np.ndarray) and cell.dtype.kind in "OU"):
        return len(cell) > 0 and all(map(_is_image, cell))
    if isinstance(cell, np.ndarray | torch.Tensor):
        return cell.ndim >= 2
    return isinstance(cell, PILImage.Image)


def _identifies(column: pd.Series) -> bool:
    if pd.api.types.infer_dtype(column, skipna=True) != "string":
        return False
    cells = column.dropna()
    return len(cells) >= _MIN_IDS and bool(cells.is_unique)
