"""What each column and each pixel adds to a prediction."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from mmfusion.inputs.messages import did_you_mean
from mmfusion.inputs.parameters import check_choice
from mmfusion.interpret._baseline import FORMULA, Baseline, names_of
from mmfusion.interpret._explained import Explained
from mmfusion.interpret._gradients import METHODS, ends_of, pieces
from mmfusion.interpret._maps import MAPS, original_size, resized
from mmfusion.training.precision import single_precision

__all__ = [
    "Attribution",
    "AttributionWarning",
    "attribute",
    "check_names",
    "check_options",
    "starts_of",
]

#: Rows whose attributions miss the change of the prediction by more than this are warned of.
TOLERANCE = 0.01
#: The methods that say nothing of a target.
WITHOUT_TARGET = ("attention", "attention_rollout")
#: The methods whose attributions add up to the change of the prediction.
COMPLETE = ("integrated_gradients", "deep_lift", "shapley_sampling")


class AttributionWarning(UserWarning):
    """Attributions do not add up to what they explain."""


@dataclass(eq=False)
class Attribution:
    """What `attribute` found.

    Attributes
    ----------
    tables : dict of str to DataFrame
        Of each table, block of genes or vectors, and of the columns of the formula ("(formula)"): a
        row a row of `X`, a column a column of `X`.
    images : dict of str to ndarray
        Of each image: (n, height, width) at the size of the originals, where all have one, else at
        the size that the network sees; summed over colours. Where rows have several images, of
        shape (k, height, width), an image each.
    owners : dict of str to ndarray of int
        Of each image, the position in `X` of the row that each map of `images` belongs to.
    weights : dict of str to Series
        Of the method "attention": each image's weight among those of its row, by the index of `X`
        and the image's position; the maps of `images` are the same, spread over the pixels.
    points : dict of str to ndarray, shape (n, p)
        Of each modality of point clouds, a number a point; 0 behind a cloud's points.
    gap : Series
        Of each row, by how much the attributions miss the change of the prediction, as a share of
        it (of the mean change of the rows, where that is larger). NaN of maps, which do not add up.
    value, baseline_value : Series
        The prediction of each row, and that of its baseline.
    method : str
    """

    tables: dict[str, pd.DataFrame]
    images: dict[str, np.ndarray]
    owners: dict[str, np.ndarray]
    weights: dict[str, pd.Series]
    points: dict[str, np.ndarray]
    gap: pd.Series
    value: pd.Series
    baseline_value: pd.Series
    method: str
    _totals: pd.DataFrame = field(repr=False)

    def by_modality(self) -> pd.DataFrame:
        """Return the sum over each modality's columns or pixels, a row a row of `X`."""
        return self._totals.copy()


def attribute(
    model: Any,
    X: Any,
    modality: str | Collection[str] | None = None,
    method: str = "integrated_gradients",
    target: Any = None,
    baseline: Any = None,
    **options: Any,
) -> Attribution:
    """Say what each column and pixel adds to the predictions of a fitted estimator.

    What is explained is the whole prediction: formula, linear part, the mean of all networks, and
    what the head makes of them. Each input goes to the column it was made of: an indicator of a
    missing number to the number, the codes of a category to the category, components to the genes.

    Parameters
    ----------
    model : FusionCox, FusionDiscreteTime, FusionPAMM, FusionClassifier, FusionRegressor
        Fitted, or loaded.
    X : DataFrame, shape (n, p)
        Rows may lack modalities: what a row lacks gets exactly 0.
    modality : str or list of str, optional
        What to look at, the rest staying as it is: names of modalities, "(formula)" for the columns
        of the formula. All by default; of methods that make maps, the images that have any.
    method : str, default="integrated_gradients"
        ``"integrated_gradients"`` (Sundararajan, Taly & Yan 2017): along the straight line from
        the baseline, with as many steps as it takes. ``"input_x_gradient"``; ``"gradient_shap"``
        (Lundberg & Lee 2017), at random points of the line; ``"occlusion"``: what is lost as a
        column or a window of an image is at its baseline; ``"shapley_sampling"``: the mean of that
        over random orders. ``"deep_lift"`` is refused where it does not add up, which it does for
        few networks. Of one image modality: ``"grad_cam"`` (Selvaraju et al. 2017),
        ``"guided_backprop"`` (networks of ReLU alone), ``"attention_rollout"`` (Abnar & Zuidema
        2020; transformers, says nothing of a sign or a target). ``"attention"``: the weights of the
        images of a row, of ``Image(pool="attention")``.
    target : tuple, optional
        ``("survival", time)``, ``("cumulative_incidence", cause, time)``, ``("quantile", share)``,
        ``("parameter", name)`` (a predictor, by its name in the head's grid), ``("class", label)``.
        By default what ``predict`` returns (of two classes ``decision_function``).
    baseline : {"blur", "mean", "zero"} or DataFrame, optional
        Where attributions start. "blur", the default: images blurred, numbers at their training
        mean, categories at their shares in the training rows, points all in the centre; of the
        formula's columns the training mean or commonest level. What of an image is left when it is
        blurred, its brightness, gets nothing. "mean": the same, but images of the colour that
        the encoder is centred on, where networks with group normalisation jump, so that no number
        of steps may do. "zero": 0 in units of `X`, the unknown category, black. A table of rows,
        such as a sample of the training rows: attributions are averaged over them.
    **options
        ``batch_size`` (rows and steps at once), ``n_steps``, ``max_steps``, ``tolerance``
        ("integrated_gradients", which doubles the steps from the first to the second of these until
        the gap is below the third); ``n_samples``, ``random_state`` ("gradient_shap",
        "shapley_sampling"); ``window``, the side of a window ("occlusion", "shapley_sampling").

    Returns
    -------
    Attribution

    Raises
    ------
    ValueError, TypeError
        For an unknown modality, method, target or option; for rows without any modality where
        there is no formula; where a method does not hold for the networks, which it says.

    Warns
    -----
    AttributionWarning
        Where the attributions of a method that is complete miss the change of the prediction by
        more than 1 % in some row.

    Examples
    --------
    >>> from mmfusion import Genes, Tabular
    >>> from mmfusion.datasets import load_digits_cohort
    >>> from mmfusion.estimators import FusionCox
    >>> from mmfusion.interpret import attribute
    >>> cohort = load_digits_cohort(n=120, random_state=0)
    >>> modalities = {"rna": Genes("gene_*"), "clinic": Tabular(["age", "stage"])}
    >>> model = FusionCox(modalities, epochs=5, random_state=0).fit(cohort.frame, cohort.target)
    >>> found = attribute(model, cohort.frame[:3])
    >>> found.tables["clinic"].shape
    (3, 2)
    >>> bool((found.gap < 0.01).all())
    True
    """
    check_choice("method", method, (*METHODS, *MAPS))
    run = METHODS.get(method) or MAPS[method]
    check_options(method, run, options)
    with single_precision():
        names = check_names(model, modality, method)
        if target is None and method in WITHOUT_TARGET:  # any will do, where there are several
            target = ("parameter", model.model_.head.grid.names[0])
        explained = Explained(model, X, target, names)
        starts = starts_of(explained, baseline)
        with explained.running():
            found = [run(explained, start, **options) for start in starts]
            size = options.get("batch_size")
            ends = [_ends(explained, start, size) for start in starts]
    arrays = [np.mean(each, axis=0) for each in zip(*found, strict=True)]
    value = ends[0][0]
    baseline_value = np.mean([start for _, start in ends], axis=0)
    return _result(explained, arrays, value, baseline_value, method)


def check_options(method: str, run: Callable[..., Any], options: dict[str, Any]) -> None:
    """Raise where a method does not have an option, or not such a value of it."""
    known = [
        name
        for name, one in inspect.signature(run).parameters.items()
        if one.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    for name, value in options.items():
        if name not in known:
            raise TypeError(
                f"The method {method!r} has the options {known}. Got {name!r}."
                f"{did_you_mean(name, known)}"
            )
        whole = name in ("batch_size", "n_steps", "max_steps", "n_samples", "window")
        if whole and value is not None and not (isinstance(value, int) and value > 0):
            raise ValueError(f"The {name} option must be a positive integer. Got {value!r}.")


def check_names(model: Any, modality: Any, method: str) -> list[str]:
    """Return the modalities that are asked for, checked."""
    known = names_of(model)
    if not known:
        raise ValueError("The model has no column to attribute a prediction to.")
    if modality is None:
        if method in METHODS:
            return known
        images = [n for n in known if n != FORMULA and model.modalities_[n].kind == "image"]
        if not images:
            raise ValueError(f"The method {method!r} is of images, and the model has none.")
        return images
    asked = [modality] if isinstance(modality, str) else list(modality)
    strange = [name for name in asked if name not in known]
    if strange or not asked:
        raise ValueError(f"The modality parameter must name some of {known}. Got {modality!r}.")
    return asked


def starts_of(explained: Explained, baseline: Any) -> list[Baseline]:
    """Return the baselines that are meant: one, or one a row of a table."""
    if baseline is None:
        return [Baseline()]
    if isinstance(baseline, str):
        if baseline == "absent":
            raise ValueError(
                "No straight line leads from a modality that is absent to one that is there: "
                "modality_shapley says what each adds to none. The baseline parameter of attribute "
                "must be 'blur', 'mean', 'zero' or a table of rows."
            )
        check_choice("baseline", baseline, ("blur", "mean", "zero"))
        return [Baseline(baseline)]
    if not isinstance(baseline, pd.DataFrame) or not len(baseline):
        raise TypeError(
            "The baseline parameter must be 'blur', 'mean', 'zero' or a DataFrame of rows. "
            f"Got {type(baseline).__name__}."
        )
    table = explained.estimator._frame(baseline)
    inputs = explained.inputs_in(table)
    return [Baseline("blur", inputs, table, number) for number in range(len(table))]


def _ends(
    explained: Explained, baseline: Baseline, batch_size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the predictions of all rows, and of their baseline."""
    found = [
        ends_of(explained, rows, baseline)
        for rows in pieces(explained, np.arange(len(explained.table)), batch_size)
    ]
    values, starts = (torch.cat(column).cpu().numpy() for column in zip(*found, strict=True))
    for numbers, what in ((values, "prediction"), (starts, "prediction of the baseline")):
        bad = ~np.isfinite(numbers)
        if bad.any():
            raise ValueError(
                f"The {what} of row {explained.table.index[bad][0]!r} is {numbers[bad][0]}: only "
                "finite predictions can be attributed."
            )
    return values, starts


def _result(
    explained: Explained,
    arrays: list[np.ndarray],
    value: np.ndarray,
    baseline_value: np.ndarray,
    method: str,
) -> Attribution:
    """Return what was found by the user's columns and images."""
    index = explained.table.index
    result = Attribution(
        {},
        {},
        {},
        {},
        {},
        pd.Series(np.nan, index, name="gap"),
        pd.Series(value, index, name="value"),
        pd.Series(baseline_value, index, name="baseline_value"),
        method,
        pd.DataFrame(index=index),
    )
    total = np.zeros(len(index))
    for name, own in explained.split(arrays).items():
        if name == FORMULA:
            moves = explained.summed(arrays, name)
            table = pd.DataFrame(moves, index, explained.formula_columns)
            result.tables[name], sums = table, moves.sum(1)
        else:
            found = explained.summed(arrays, name) if method in METHODS else own[0]
            sums = found.reshape(len(found), -1).sum(1)
            _put(explained, result, name, found)
        result._totals[name] = sums
        total += sums
    if method in METHODS:
        change = value - baseline_value
        scale = np.maximum(np.abs(change), np.abs(change).mean())
        gap = np.abs(total - change) / np.where(scale > 0, scale, 1.0)
        result.gap[:] = gap
        large = gap > TOLERANCE
        if method in COMPLETE and large.any():
            warnings.warn(
                f"The attributions of {int(large.sum())} of {len(gap)} rows miss the change of the "
                f"prediction by more than {TOLERANCE:.0%} (up to {gap.max():.0%}): raise "
                "max_steps, take another baseline (of images 'blur', or rows), or a target that "
                "is smooth in the predictors.",
                AttributionWarning,
                stacklevel=3,
            )
    return result


def _put(explained: Explained, result: Attribution, name: str, found: np.ndarray) -> None:
    """Put a modality's attributions where they belong."""
    modality, part = explained.estimator.modalities_[name], explained.inputs[name]
    if modality.kind == "table":
        result.tables[name] = pd.DataFrame(found, explained.table.index, part.columns)  # type: ignore[attr-defined]
        return
    if modality.kind == "points":
        result.points[name] = found
        return
    counts = part.counts[explained.owner].numpy()  # type: ignore[attr-defined]
    if counts.max(initial=0) <= 1:
        maps, owners = found[:, 0], np.arange(len(found))
    else:
        there = np.arange(found.shape[1]) < counts[:, None]
        maps, owners = found[there], np.repeat(np.arange(len(found)), counts)
    size = original_size(modality, explained.subjects.table(explained.table))
    result.images[name] = resized(maps, size or maps.shape[1:])
    result.owners[name] = owners
    if result.method == "attention":
        place = np.concatenate([np.arange(count) for count in np.bincount(owners)])
        index = pd.MultiIndex.from_arrays(
            [explained.table.index[owners], place], names=[explained.table.index.name, "image"]
        )
        result.weights[name] = pd.Series(maps.sum(axis=(1, 2)), index, name="weight")
